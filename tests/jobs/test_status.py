"""The status tells the truth: what the folder holds, what the queue and the accounting say, what nobody knows."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import pytest
from journal_entry import ENTRY
from small_study import SLIDE_IDS, SmallStudy, write_finished_study

from bccdist.errors import ClusterError, ConfigurationError
from bccdist.failures import write_begun, write_failure
from bccdist.paths import StudyPaths
from bccdist.stages.table import FINISH_SHARDS, SHARDS
from bccdist.study import claim_study
from jobs.slurm import journal, queue
from jobs.slurm.queue import EndedJob, QueuedJob
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
    monkeypatch.setattr(queue, "queued_jobs", lambda **_: list(in_queue))
    monkeypatch.setattr(queue, "ended_jobs", lambda _: accounting)


@pytest.mark.parametrize(
    "case",
    [
        Case([queued("RUNNING")], [ended("COMPLETED", 1)], "running", "7 1 RUNNING, 1 COMPLETED"),
        Case([queued("PENDING", "Resources"), queued("PENDING", "Resources", 1)], [], "queued", "7 2 PENDING"),
        Case([queued("PENDING", "Dependency")], [], "waiting", "7 1 PENDING"),
        Case([queued("PENDING", "launch failed requeued held")], [], "held", "7 1 PENDING"),
        Case([queued("COMPLETING")], [], "running", "7 1 COMPLETING"),
        Case([], [ended("FAILED"), ended("COMPLETED", 1)], "incomplete", "7 1 FAILED, 1 COMPLETED"),
        Case([], [ended("CANCELLED"), ended("COMPLETED", 1)], "incomplete", "7 1 CANCELLED, 1 COMPLETED"),
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
    def away(**_: float) -> list[QueuedJob]:
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
