"""What Slurm's commands say, and what is made of it; stand-ins say it here, tests on a real Slurm are elsewhere."""

from pathlib import Path
from typing import NamedTuple

import pytest

from bccdist.errors import ClusterError
from jobs.slurm import queue
from jobs.slurm.answers import SEPARATOR, Accounting, EndedJob


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which commands are found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(queue, "_PAUSE_S", 0.01)
    return folder


def stand_in(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def line(job_id: str, element: str = "N/A", state: str = "RUNNING", *, reason: str = "None", comment: str = "") -> str:
    """A line of squeue."""
    facts = (job_id, element, state, "alice", "2026-01-01T00:00:00", "/users/alice", reason, "shards@study", comment)
    return SEPARATOR.join(facts)


def saying(*lines: str) -> str:
    """Shell words that print lines."""
    return "printf '%s\\n' " + " ".join(f"'{each}'" for each in lines)


def test_the_queue_is_read_element_by_element(commands: Path) -> None:
    stand_in(commands, "squeue", saying(line("7"), line("9", "3", "PENDING", reason="launch failed requeued held")))
    found = queue.queued_jobs().jobs
    assert [(job.job_id, job.element, job.state, job.reason) for job in found] == [
        ("7", None, "RUNNING", "None"),
        ("9", 3, "PENDING", "launch failed requeued held"),
    ]
    assert [job.is_held for job in found] == [False, True]


def test_the_accounting_is_read_without_what_waits_or_runs(commands: Path) -> None:
    lines = ["7|COMPLETED|0:0|61", "9_3|CANCELLED by 0|0:15|4", "9_[4-8%2]|PENDING|0:0|0", "10|RUNNING|0:0|5"]
    stand_in(commands, "sacct", "\n".join(f"echo '{line}'" for line in lines))
    assert queue.ended_jobs(["7", "9", "10"]) == Accounting(
        (
            EndedJob(job_id="7", element=None, state="COMPLETED", exit_code="0:0", elapsed_s=61),
            EndedJob(job_id="9", element=3, state="CANCELLED", exit_code="0:15", elapsed_s=4),
        )
    )


def test_without_accounting_nothing_is_said_of_ended_jobs(commands: Path) -> None:
    stand_in(commands, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert queue.ended_jobs(["7"]) is None


def test_a_controller_that_is_away_is_asked_again(commands: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    answer = f"[ -e {commands}/asked ] && {saying(line('7'))} && exit"
    stand_in(commands, "squeue", f'{answer}; touch {commands}/asked; echo "{away}" >&2; exit 1')
    assert [job.job_id for job in queue.queued_jobs().jobs] == ["7"]
    assert "Slurm does not answer" in caplog.text


def test_a_controller_that_stays_away_is_an_error_that_says_what_was_asked(commands: Path) -> None:
    stand_in(commands, "squeue", "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1")
    with pytest.raises(ClusterError, match=r"`squeue .*` failed: Unable to contact"):
        queue.queued_jobs(patience_s=0.0)


def test_a_machine_without_slurm_is_told_so(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(commands))
    with pytest.raises(ClusterError, match="squeue is not found"):
        queue.queued_jobs()


class Said(NamedTuple):
    """What a command of Slurm may say, and whether it passes."""

    text: str
    passes: bool


@pytest.mark.parametrize(
    "said",
    [
        Said("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", True),
        Said("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True),
        Said("slurm_load_jobs error: Connection refused", True),
        Said("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),
        Said("sbatch: error: Batch job submission failed: Invalid account or account/partition combination", False),
        Said("sbatch: error: invalid partition specified: gpuu", False),
        Said("sbatch: error: Batch job submission failed: Requested node configuration is not available", False),
    ],
    ids=lambda said: said.text[-40:],
)
def test_only_what_passes_is_tried_again(said: Said) -> None:
    assert queue.is_transient(said.text) == said.passes


def test_the_largest_array_is_the_sites(commands: Path) -> None:
    stand_in(commands, "scontrol", "echo 'MaxArraySize            = 501'")
    assert queue.max_array_size() == 501


def test_jobs_are_found_again_by_their_comment(commands: Path) -> None:
    said = saying(
        *(line(job_id, comment=comment) for job_id, comment in (("7", "x:abc"), ("9", "x:xyz"), ("9", "x:xyz")))
    )
    stand_in(commands, "squeue", said)
    assert queue.jobs_with_comment("x:xyz") == ["9"]


def test_the_rest_of_an_array_is_let_go_though_elements_of_it_have_ended(commands: Path) -> None:
    stand_in(commands, "scontrol", "printf '17_0: No error\\n17_1: Job has already finished\\n' >&2; exit 1")
    queue.release(["17"])
    stand_in(commands, "scontrol", "printf '17_0: No error\\n17_1: Access denied\\n' >&2; exit 1")
    with pytest.raises(ClusterError, match="Access denied"):
        queue.release(["17"])


JSON = '{"jobs": [{"job_id": 7, "job_state": ["RUNNING"], "array_job_id": {"set": true, "number": 0}}]}'
BY_JSON = f"""case "$*" in *--json*) echo '{JSON}';; *) echo 'no columns here'; exit 0;; esac"""
BY_LINES = """case "$*" in *--json*) echo "squeue: unrecognized option '--json'" >&2; exit 1;; *) %s;; esac"""


@pytest.mark.parametrize("version", ["slurm 25.05.1", "slurm 23.02.6", "slurm-wlm 22.05.8", "exit 1"])
@pytest.mark.parametrize("answer", [BY_JSON, BY_LINES % saying(line("7"))], ids=["json", "lines"])
def test_the_form_that_a_version_does_not_offer_costs_one_more_call(version: str, answer: str, commands: Path) -> None:
    stand_in(commands, "scontrol", version if version == "exit 1" else f"echo {version}")
    stand_in(commands, "squeue", f'echo "$*" >>{commands}/calls\n{answer}')
    assert [(job.job_id, job.state) for job in queue.queued_jobs(["7"]).jobs] == [("7", "RUNNING")]
    calls = (commands / "calls").read_text().splitlines()
    begins_with_json = version.startswith(("slurm 25", "slurm 23"))
    assert ("--json" in calls[0]) == begins_with_json
    assert len(calls) == 1 + (begins_with_json != (answer == BY_JSON))


def test_jobs_that_slurm_has_forgotten_are_in_no_queue(commands: Path) -> None:
    stand_in(commands, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert queue.queued_jobs(["7"]).jobs == ()


def test_a_job_that_is_asked_for_with_a_greeting_alone_is_not_taken_for_gone(commands: Path) -> None:
    stand_in(commands, "squeue", "echo 'Job 7: controller is busy'")
    assert queue.queued_jobs(["7"]).unread == ("Job 7: controller is busy",)
