"""The journal gives back what was submitted, and the newest job of each stage."""

from dataclasses import replace
from pathlib import Path

from journal_entry import ENTRY

from jobs.slurm import journal


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    entries = [ENTRY, replace(ENTRY, stage="finish-shards", job_id="8"), replace(ENTRY, job_id="9")]
    for entry in entries:
        journal.append(path, entry)
    assert journal.read(path) == entries
    assert {stage: entry.job_id for stage, entry in journal.newest(entries).items()} == {
        "finish-shards": "8",
        "shards": "9",
    }


def test_without_a_journal_nothing_was_submitted(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "jobs.jsonl") == []


def test_a_line_that_a_full_disk_cut_off_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    journal.append(path, ENTRY)
    with path.open("a") as file:
        file.write('{"event": "submi')
    journal.append(path, replace(ENTRY, job_id="8"))
    assert [entry.job_id for entry in journal.read(path)] == ["7", "8"]
