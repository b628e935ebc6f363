"""A job that was told to end while it ran is queued again, by its first rank; any other is not, with a reason."""

from pathlib import Path

import pytest

from jobs.slurm.requeue import no_requeue_reason, queue_again


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of Slurm's commands, which are all that is found; scontrol writes down what it was asked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("SLURM_JOB_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $* >>{tmp_path / 'asked'}\n")
    scontrol.chmod(0o755)
    return tmp_path


def squeue_says(commands: Path, state: str) -> None:
    squeue = commands / "squeue"
    squeue.write_text(f"#!/bin/sh\necho {state}\n")
    squeue.chmod(0o755)


@pytest.mark.parametrize(
    ("variables", "state", "reason"),
    [
        ({}, "RUNNING", "this is no job of Slurm"),
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "1"}, "RUNNING", "rank 0 does so for all, and this is rank 1"),
        ({"SLURM_JOB_ID": "7"}, "COMPLETING", "its state is COMPLETING, not RUNNING: somebody ended it"),
        ({"SLURM_JOB_ID": "7"}, "", "its state is unknown, not RUNNING: somebody ended it"),
        (
            {"SLURM_JOB_ID": "7"},
            None,
            "nobody can say whether it was cancelled: squeue is not found: is this machine part of a Slurm site?",
        ),
    ],
)
def test_a_job_that_is_not_queued_again_has_a_reason(
    variables: dict[str, str],
    state: str | None,
    reason: str,
    commands: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if state is not None:
        squeue_says(commands, state)
    assert no_requeue_reason() == reason
    queue_again()
    assert caplog.messages == [f"not queued again: {reason}"]
    assert not (commands / "asked").exists()


def test_a_running_job_is_queued_again_by_its_first_rank(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_PROCID", "0")
    squeue_says(commands, "RUNNING")
    assert no_requeue_reason() == ""
    queue_again()
    assert (commands / "asked").read_text() == "requeue 7\n"
