"""A job is ours by its mark; by its number alone it never is, and nobody's job is queued twice."""

from dataclasses import replace
from pathlib import Path

import pytest
from journal_entry import ENTRY

from jobs.slurm.answers import QueuedJob
from jobs.slurm.marks import is_of_a_copy, likeness, new_mark, notes_on, submitted_s

MARK = new_mark("0123456789ab", ENTRY.stage)
OURS = replace(ENTRY, mark=MARK, user="alice", folder="/users/alice")
AT_S = submitted_s(OURS)
JOB = QueuedJob(
    job_id="7",
    element=None,
    state="RUNNING",
    reason="None",
    user="alice",
    name="shards@study",
    comment=MARK,
    folder="/users/alice",
    submitted_s=AT_S + 2,
)


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (JOB, "mark"),
        (replace(JOB, comment=f"project 12; {MARK}", name="renamed", submitted_s=None), "mark"),
        (replace(JOB, user="bob", folder="/elsewhere"), "mark"),
        (replace(JOB, comment=new_mark("0123456789ab", ENTRY.stage)), "other"),
        (replace(JOB, comment=new_mark("ffffffffffff", ENTRY.stage)), "other"),
        (replace(JOB, comment=""), "likeness"),
        (replace(JOB, comment="energy: 12 kWh"), "likeness"),
        (replace(JOB, comment="", submitted_s=AT_S + 86_400), "likeness"),  # queued again
        (replace(JOB, comment="", name="other@study"), "other"),
        (replace(JOB, comment="", submitted_s=AT_S - 86_400), "other"),
        (replace(JOB, comment="", folder="/users/bob"), "other"),
        (replace(JOB, comment="", user="bob"), "other"),
        (replace(JOB, comment="", job_id="8"), "other"),
        (QueuedJob(job_id="7", element=None, state="UNKNOWN", reason=""), "likeness"),
    ],
)
def test_what_is_told_of_a_job_says_whether_it_is_ours(job: QueuedJob, expected: str) -> None:
    assert likeness(job, OURS) == expected


def test_a_site_that_takes_comments_away_and_a_number_given_again_are_told() -> None:
    [taken] = notes_on([replace(JOB, comment="")], [OURS])
    assert "job 7 does not carry the mark" in taken
    [again] = notes_on([replace(JOB, comment="", user="bob", name="sleep")], [OURS])
    assert again.startswith("job 7 of bob (sleep) in the queue is not the one that was submitted for shards")
    assert notes_on([JOB], [OURS]) == []


def test_the_jobs_of_a_study_are_not_those_of_its_copy(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    entry = replace(OURS, study=str(there))
    assert not is_of_a_copy(entry, here)  # it was moved
    there.mkdir()
    assert is_of_a_copy(entry, here)
    assert not is_of_a_copy(entry, there)
    assert not is_of_a_copy(ENTRY, here)
