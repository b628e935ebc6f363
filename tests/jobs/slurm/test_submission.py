"""What is queued is not queued again, whoever queued it and whatever else has its number; stand-ins play Slurm."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from counting_slurm import CountingSlurm
from journal_entry import ENTRY

from bccdist.errors import ClusterError
from bccdist.paths import StudyPaths
from bccdist.stages.table import SHARDS
from jobs.slurm import journal
from jobs.slurm.answers import SEPARATOR
from jobs.slurm.marks import new_mark, submitted_s
from jobs.slurm.sites import ClusterConfig
from jobs.slurm.submission import Launch, Work, submitting
from jobs.slurm.task import StageTask

MARK = new_mark("0123456789ab", SHARDS)
ALICES = replace(ENTRY, mark=MARK, user="alice", folder="/users/alice")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingSlurm:
    """A Slurm that takes jobs; what squeue says is the test's."""
    slurm = CountingSlurm.at(tmp_path / "bin")
    monkeypatch.setenv("PATH", slurm.variables["PATH"])
    return slurm


def squeue_says(slurm: CountingSlurm, text: str) -> None:
    (slurm.folder / "squeue").write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")


def squeue_line(*, user: str, comment: str, name: str = "shards@study") -> str:
    submitted = datetime.fromtimestamp(submitted_s(ALICES)).isoformat()  # noqa: DTZ006 - as squeue writes it
    return SEPARATOR.join(("7", "N/A", "RUNNING", user, submitted, "/users/alice", "None", name, comment))


def submit(study: StudyPaths) -> Sequence[str]:
    """Submit the shards; the jobs that there are then."""
    study.root.mkdir(exist_ok=True)
    launch = Launch(study=study.root, cluster=ClusterConfig(cluster="slurm"))
    task = StageTask(name=SHARDS.name, stage=SHARDS.fields, function="a:b", values={"study_root": study.root})
    with submitting(launch, [SHARDS]) as submitter:
        return [each.job_id for each in submitter.submit(Work(stage=SHARDS, tasks=(task,)), after=[])]


def num_submitted(slurm: CountingSlurm) -> int:
    return sum(call.command == "sbatch" for call in slurm.calls())


def test_the_job_of_a_colleague_is_told_and_not_queued_twice(
    slurm: CountingSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = StudyPaths(tmp_path / "study")
    journal.append(study.journal, ALICES)
    squeue_says(slurm, squeue_line(user="alice", comment=MARK))
    assert submit(study) == ["7"]
    assert num_submitted(slurm) == 0
    assert "queued by an earlier launch of alice" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        squeue_line(user="bob", comment="(null)", name="sleep"),
        squeue_line(user="alice", comment=new_mark("ffffffffffff", SHARDS)),
    ],
)
def test_another_job_with_the_same_number_keeps_nothing_from_being_submitted(
    line: str, slurm: CountingSlurm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = StudyPaths(tmp_path / "study")
    journal.append(study.journal, ALICES)
    squeue_says(slurm, line)
    assert submit(study) == ["101"]
    assert "it only has its number" in caplog.text
    [call] = [call for call in slurm.calls() if call.command == "sbatch"]
    entry = journal.read(study.journal)[-1]
    assert call.options is not None
    assert entry.mark == call.options["comment"] != MARK
    assert entry.mark.startswith(f"bccdist:{journal.study_id(study.journal)}:shards:")


def test_what_squeue_says_of_a_job_of_ours_and_nobody_understands_lets_nothing_be_submitted(
    slurm: CountingSlurm, tmp_path: Path
) -> None:
    study = StudyPaths(tmp_path / "study")
    journal.append(study.journal, ALICES)
    squeue_says(slurm, "JOBID NAME\n7 shards")
    with pytest.raises(ClusterError, match="squeue says something of job 7"):
        submit(study)
    assert num_submitted(slurm) == 0


def test_a_colleagues_job_that_nobody_may_see_lets_nothing_be_submitted(slurm: CountingSlurm, tmp_path: Path) -> None:
    study = StudyPaths(tmp_path / "study")
    journal.append(study.journal, ALICES)
    squeue_says(slurm, "")
    (slurm.folder / "sacct").write_text("#!/bin/sh\n")
    (slurm.folder / "scontrol").write_text("#!/bin/sh\necho 'PrivateData = jobs'\n")
    with pytest.raises(ClusterError, match="is of alice, and this site shows nobody the jobs of others"):
        submit(study)
    (slurm.folder / "sacct").write_text("#!/bin/sh\necho '7|FAILED|1:0|5|alice|Unknown|shards@study'\n")
    assert submit(study) == ["101"]


def test_a_launch_says_what_it_is_going_to_submit_before_its_first_job(slurm: CountingSlurm, tmp_path: Path) -> None:
    study = StudyPaths(tmp_path / "study")
    (slurm.folder / "sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2; exit 1\n")
    with pytest.raises(ClusterError, match="invalid partition"):
        submit(study)
    assert journal.plans(study.journal)[SHARDS].stages == (SHARDS,)
