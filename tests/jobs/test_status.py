"""The status tells the truth: what the folder holds, what the queue and the accounting say, what nobody knows."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import pytest
from journal_entry import ENTRY
from mini_cluster import wait_for
from small_study import SLIDE_IDS, SmallStudy, write_finished_study
from usage_records import USAGE, write_start

from bccdist.errors import ClusterError, ConfigurationError
from bccdist.failures import write_begun, write_failure
from bccdist.paths import StudyPaths
from bccdist.stages.table import FINISH_SHARDS, SELECTION, SHARDS, TRAINING
from bccdist.study import claim_study
from jobs.slurm import journal, local_processes, queue
from jobs.slurm.answers import SEPARATOR, Accounting, EndedJob, Queue, QueuedJob
from jobs.slurm.marks import new_mark, submitted_s
from jobs.status import StatusArguments, main, retry, status_of, table_of


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Three slides in finished shards."""
    study = write_finished_study(tmp_path_factory.mktemp("built"), width_px=800, height_px=560)
    claim_study(study.root, study.manifest)
    return study


@pytest.fixture
def study(built: SmallStudy, tmp_path: Path) -> StudyPaths:
    """One of them is missing; an array of two elements was submitted."""
    copied = built.copied_to(tmp_path)
    paths = StudyPaths(copied.root)
    paths.study.unlink()
    claim_study(copied.root, copied.manifest)
    paths.shards.rows(SLIDE_IDS[0]).unlink()
    paths.shards.manifest.unlink()
    journal.append(paths.journal, replace(ENTRY, num_elements=2))
    return paths


class Case(NamedTuple):
    """What Slurm says of the array, and what the state of its stage is then."""

    queue: Sequence[QueuedJob]
    accounting: Sequence[EndedJob]
    state: str
    jobs: str


def queued(state: str, reason: str = "None", element: int = 0) -> QueuedJob:
    return QueuedJob(job_id="7", element=element, state=state, reason=reason)


def ended(state: str, element: int = 0) -> EndedJob:
    return EndedJob(job_id="7", element=element, state=state, exit_code="0:0", elapsed_s=1)


def answer(
    monkeypatch: pytest.MonkeyPatch, in_queue: Sequence[QueuedJob], accounting: Sequence[EndedJob] | None
) -> None:
    monkeypatch.setattr(queue, "queued_jobs", lambda *_, **__: Queue(tuple(in_queue)))
    told = None if accounting is None else Accounting(tuple(accounting))
    monkeypatch.setattr(queue, "ended_jobs", lambda _: told)


@pytest.mark.parametrize(
    "case",
    [
        Case([queued("RUNNING")], [ended("COMPLETED", 1)], "running", "7 1 RUNNING, 1 COMPLETED"),
        Case([queued("PENDING", "Resources"), queued("PENDING", "Resources", 1)], [], "queued", "7 2 PENDING"),
        Case([queued("PENDING", "Dependency")], [], "waiting", "7 1 PENDING"),
        Case([queued("PENDING", "launch failed requeued held")], [], "held", "7 1 PENDING"),
        Case([queued("COMPLETING")], [], "running", "7 1 COMPLETING"),
        Case([], [ended("FAILED"), ended("COMPLETED", 1)], "failed", "7 1 FAILED, 1 COMPLETED"),
        Case([], [ended("CANCELLED"), ended("COMPLETED", 1)], "stopped", "7 1 CANCELLED, 1 COMPLETED"),
        Case([queued("RUNNING")], [ended("NODE_FAIL")], "running", "7 1 RUNNING"),
    ],
    ids=lambda case: f"{case.state}: {case.jobs}",
)
def test_the_state_of_a_stage_follows_from_queue_accounting_and_folder(
    case: Case, study: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, case.queue, case.accounting)
    stages, notes = status_of(study.root)
    shards = stages[0]
    assert (shards.stage.name, shards.state, shards.progress.num_done) == ("shards", case.state, 2)
    assert case.jobs in table_of(stages)[1]
    assert notes == []


def test_a_controller_that_is_away_leaves_the_state_unknown(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: float) -> Queue:
        raise ClusterError("Unable to contact slurm controller")

    answer(monkeypatch, [], None)
    monkeypatch.setattr(queue, "queued_jobs", away)
    stages, notes = status_of(study.root)
    assert stages[0].state == "unknown"
    assert "the queue is not known: Unable to contact slurm controller" in notes
    assert any("accounting is not known" in note for note in notes)


def test_failures_are_named_and_slides_that_killed_a_process_are_no_failures(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, [], [ended("FAILED")])
    failure = study.failure("shards", SLIDE_IDS[0])
    write_failure(failure, stage="shards", slide_id=SLIDE_IDS[0], reason="tile 7 is damaged", error="SlideError")
    assert main(StatusArguments(study=study.root)) == 1
    said = capsys.readouterr().out
    assert f"  shards, {SLIDE_IDS[0]}: tile 7 is damaged" in said
    assert "--retry-failed` launches again what is missing" in said
    write_begun(failure, stage="shards", slide_id=SLIDE_IDS[0])
    assert main(StatusArguments(study=study.root)) == 1
    assert f"left in the middle: {SLIDE_IDS[0]}" in capsys.readouterr().out


def test_a_stage_that_is_whole_is_done_whatever_became_of_its_job(
    built: SmallStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, [], [])
    stages, _ = status_of(built.root)
    assert {stage.stage.name: stage.state for stage in stages} == {"shards": "done", "finish-shards": "done"}


def test_a_retry_lets_held_jobs_go_and_launches_nothing_that_is_queued(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, [queued("PENDING", "JobHeldAdmin")], [])
    released: list[str] = []
    monkeypatch.setattr(queue, "release", released.extend)
    stages, _ = status_of(study.root)
    retry([stage for stage in stages if stage.stage == SHARDS], study.root)
    assert released == ["7"]
    assert "nothing is launched" in capsys.readouterr().out


def test_where_a_retry_would_refuse_the_status_does_not_advise_it(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.append(study.journal, replace(ENTRY, job_id="8", command=()))
    answer(monkeypatch, [], [])
    assert main(StatusArguments(study=study.root)) == 1
    said = capsys.readouterr().out
    by_hand = "not launched from a command line, so launch again as before: shards"
    assert by_hand in said
    assert "--retry-failed" not in said
    with pytest.raises(ConfigurationError, match=by_hand):
        retry(status_of(study.root)[0], study.root)


def test_what_a_retry_cannot_launch_keeps_it_from_nothing_else(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.append(study.journal, replace(ENTRY, stage=FINISH_SHARDS, job_id="8", command=()))
    answer(monkeypatch, [], [])
    assert main(StatusArguments(study=study.root)) == 1
    assert "--retry-failed` launches again what is missing" in capsys.readouterr().out
    launched: list[Sequence[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda words, **_: launched.append(words[1:]) or CompletedProcess(words, 0))
    retry(status_of(study.root)[0], study.root)
    assert launched == [["jobs/launch_shards.py", "--study", str(study.root), "--only-missing"]]
    assert "launch again as before: finish-shards" in capsys.readouterr().out


def test_a_retry_acts_on_the_study_where_it_lies_now(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    moved = study.root.rename(tmp_path / "moved")
    answer(monkeypatch, [], [])
    launched: list[Sequence[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda words, **_: launched.append(words) or CompletedProcess(words, 0))
    retry(status_of(moved)[0], moved)
    assert launched
    assert all(words[words.index("--study") + 1] == str(moved) for words in launched)
    assert not study.root.exists()


def stand_in(folder: Path, name: str, script: str) -> None:
    """A command of Slurm that does what the test says."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {name} >>{folder}/calls\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins for Slurm's commands; of what is not there nobody answers."""
    folder = tmp_path / "bin"
    for name in ("squeue", "sacct", "scontrol"):
        stand_in(folder, name, "exit 1")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


MARK = new_mark("0123456789ab", SHARDS)
MARKED = replace(ENTRY, mark=MARK, user="alice", folder="/users/alice")


def squeue_line(*, user: str = "alice", comment: str = MARK, state: str = "RUNNING", name: str = "shards@s") -> str:
    submitted = datetime.fromtimestamp(submitted_s(MARKED)).isoformat()  # noqa: DTZ006 - as squeue writes it
    return SEPARATOR.join(("7", "0", state, user, submitted, "/users/alice", "None", name, comment))


class Seen(NamedTuple):
    """What squeue says of job 7, and what the status makes of it."""

    line: str
    state: str
    note: str


@pytest.mark.parametrize(
    "seen",
    [
        Seen(squeue_line(), "running", ""),
        Seen(f"Welcome, and mind the quota!\n{squeue_line()}", "running", "1 line(s) are not understood and left out"),
        Seen(squeue_line(comment="(null)"), "running", "does not carry the mark"),
        Seen(
            squeue_line(comment="(null)", user="bob", name="sleep"), "failed", "7 of bob (sleep) in the queue is not"
        ),
        Seen(squeue_line(comment=new_mark("0123456789ab", SHARDS)), "failed", "it only has its number"),
        Seen(squeue_line(state=""), "unknown", ""),
        Seen("7 shards R alice 0:10", "unknown", "such as '7 shards R alice 0:10'"),
    ],
    ids=lambda seen: f"{seen.state}, {seen.note[:20]}",
)
def test_jobs_in_the_queue_are_known_by_their_mark(seen: Seen, study: StudyPaths, commands: Path) -> None:
    journal.append(study.journal, MARKED)
    StudyPaths(study.root).shards.rows(SLIDE_IDS[1]).unlink()
    for slide_id in SLIDE_IDS[2:]:
        study.shards.rows(slide_id).unlink()
    stand_in(commands, "squeue", f"cat <<'END'\n{seen.line}\nEND")
    stand_in(commands, "sacct", "true")
    stages, notes = status_of(study.root)
    assert stages[0].state == seen.state, notes
    assert any(seen.note in note for note in notes) or not (seen.note or notes)
    assert "7" in table_of(stages)[1]
    assert "of alice" in table_of(stages)[1]
    assert (commands / "calls").read_text().count("squeue") <= 2


@pytest.mark.parametrize("hangs", ["sleep 60", "sleep 60 & wait", "trap '' TERM INT; sleep 60; sleep 60"])
def test_commands_that_hang_cost_a_note_and_no_time(
    hangs: str, study: StudyPaths, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LIMIT_S", 0.3)
    monkeypatch.setattr(queue, "_SHORT_LIMIT_S", 0.1)
    for name in ("squeue", "sacct", "scontrol"):
        stand_in(commands, name, hangs)
    begin_s = time.monotonic()
    stages, notes = status_of(study.root)
    assert time.monotonic() - begin_s < 10
    assert stages[0].state == "unknown"
    assert "squeue did not answer in 0.3 s: states below are from the files" in "\n".join(notes)
    assert any("sacct does not answer" in note for note in notes)


def test_all_limits_together_leave_time_for_the_folder() -> None:
    # scontrol for the version, squeue, squeue in the other form, sacct, scontrol for what is hidden.
    asked_at_most_s = 3 * queue._SHORT_LIMIT_S + 2 * queue.LIMIT_S
    assert asked_at_most_s <= 26


def test_where_nobody_sees_jobs_of_others_theirs_are_unknown_and_not_failed(study: StudyPaths, commands: Path) -> None:
    journal.append(study.journal, MARKED)
    stand_in(commands, "squeue", "true")
    stand_in(commands, "sacct", "true")
    assert status_of(study.root)[0][0].state != "unknown"
    stand_in(commands, "scontrol", "echo 'PrivateData             = accounts,jobs,usage'")
    stages, notes = status_of(study.root)
    assert stages[0].state == "unknown"
    assert any("nothing is known of 7 of alice" in note for note in notes)


def test_what_a_launch_meant_to_submit_has_a_row_and_is_launched_by_a_retry(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, [], [])
    plan = journal.Plan(
        stages=(SHARDS, FINISH_SHARDS, replace(TRAINING, setting="unet"), SELECTION),
        command=("jobs/launch_study.py",),
        folder="here",
        planned_at=journal.now(),
    )
    journal.append_plan(study.journal, plan)
    stages, _ = status_of(study.root)
    rows = {stage.stage.name: (stage.state, stage.is_stuck) for stage in stages}
    assert rows["train-unet"] == rows["select"] == ("not begun", True)
    launched: list[Sequence[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda words, **_: launched.append(words[1:]) or CompletedProcess(words, 0))
    retry(stages, study.root)
    assert ["jobs/launch_study.py", "--study", str(study.root), "--only-missing"] in launched


def local_entry(*processes: subprocess.Popen[bytes]) -> journal.JournalEntry:
    return replace(
        ENTRY,
        job_id=str(processes[0].pid),
        cluster="local",
        host=socket.gethostname(),
        processes=tuple(local_processes.identity(process.pid) for process in processes),
    )


def test_local_jobs_whose_launcher_was_killed_are_named_until_they_end(study: StudyPaths) -> None:
    job = subprocess.Popen(["sh", "-c", "sleep 100 & wait"], process_group=0)
    try:
        journal.append(study.journal, local_entry(job))
        stages, notes = status_of(study.root)
        assert stages[0].state == "running"
        assert any(f"shards goes on though its launcher is gone: process(es) {job.pid}, " in note for note in notes)
        job.kill()
        job.wait()
        # What it started is still at work, in its group.
        assert status_of(study.root)[0][0].state == "running"
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    wait_for(lambda: status_of(study.root)[0][0].state == "stopped", within_s=10, what="stopped")


def test_a_number_that_was_given_again_is_no_local_job(study: StudyPaths) -> None:
    other = subprocess.Popen(["sleep", "100"], process_group=0)
    try:
        entry = local_entry(other)
        start = entry.processes[0].replace("-", "-1")
        journal.append(study.journal, replace(entry, processes=(start,)))
        assert status_of(study.root)[0][0].state == "stopped"
        journal.append(study.journal, replace(entry, host="another-machine"))
        assert status_of(study.root)[0][0].state == "unknown"
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("ending", ["failed", "stopped"])
def test_how_a_local_job_ended_is_said(ending: journal.Ending, study: StudyPaths) -> None:
    entry = replace(ENTRY, job_id="1234567", cluster="local", host=socket.gethostname(), processes=("1234567@x-1",))
    journal.append(study.journal, entry)
    journal.append_ending(study.journal, entry.job_id, ending)
    assert status_of(study.root)[0][0].state == ending


def test_what_stages_took_is_shown_and_energy_of_earlier_jobs_is_asked_for_too(
    study: StudyPaths, commands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.append(study.journal, replace(MARKED, job_id="8"))
    hour = replace(USAGE, seconds=3600.0, num_cpus=8)
    write_start(study, replace(hour, job_id="7_0"))
    write_start(study, replace(hour, job_id="8_1"))
    measured = "7_0|FAILED|1:0|5|alice|Unknown|shards@s|3600000\n8_1|FAILED|1:0|5|alice|Unknown|shards@s|7200000"
    stand_in(commands, "sacct", f"cat <<'END'\n{measured}\nEND")
    main(StatusArguments(study=study.root))
    assert re.search(r"^shards +2 +- +16 +0 +3 kWh$", capsys.readouterr().out, re.MULTILINE)
    assert (commands / "calls").read_text().count("sacct") == 1
    stand_in(commands, "sacct", "exit 1")
    main(StatusArguments(study=study.root, json=True))
    [took] = [each["took"] for each in json.loads(capsys.readouterr().out)["stages"] if each["stage"] == "shards"]
    assert (took["core_hours"], took["energy_kwh"], took["energy_from"]) == (16, None, "not known")


def test_records_that_cannot_be_read_cost_what_was_taken_and_not_the_status(
    study: StudyPaths, commands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.exists()
    study.usage.mkdir(exist_ok=True)
    (study.usage / "7.jsonl").write_text("no record\n")
    main(StatusArguments(study=study.root))
    printed = capsys.readouterr().out
    assert "what the stages took is not known: " in printed
    assert re.search("^shards ", printed, re.MULTILINE)
