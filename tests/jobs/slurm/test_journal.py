"""The journal gives back what was submitted, and the newest job of each stage."""

from dataclasses import replace
from pathlib import Path

import pytest
from journal_entry import ENTRY

from bccdist.errors import EventLogError
from bccdist.events import append_event
from bccdist.parts import Part
from bccdist.stages.stage import Stage
from bccdist.stages.table import FINISH_SHARDS, SHARDS, TABLE, VALIDATION_HEATMAPS
from jobs.slurm import journal


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    entries = [ENTRY, replace(ENTRY, stage=FINISH_SHARDS, job_id="8"), replace(ENTRY, job_id="9")]
    for entry in entries:
        journal.append(path, entry)
    assert journal.read(path) == entries
    assert {stage: entry.job_id for stage, entry in journal.newest(entries).items()} == {
        FINISH_SHARDS: "8",
        SHARDS: "9",
    }


def test_a_stage_comes_back_with_its_setting_and_parts_and_all_that_its_entry_knows(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    stage = replace(VALIDATION_HEATMAPS, setting="unet", parts=(Part.TEST,))
    journal.append(path, replace(ENTRY, stage=stage))
    (found,) = [entry.stage for entry in journal.read(path)]
    assert found == stage
    assert found.entry == VALIDATION_HEATMAPS.entry
    assert found.name == "infer-unet-test-best"


@pytest.mark.parametrize("table", [TABLE[1:], ()])
def test_a_stage_that_no_table_knows_is_no_silent_gap(table: tuple[Stage, ...], tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    journal.append(path, ENTRY)
    with pytest.raises(EventLogError, match=r"'kind': 'shards'.*which this version does not know"):
        journal.read(path, table)


def test_a_line_of_another_form_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    append_event(path, "submitted", stage={})
    with pytest.raises(EventLogError, match=r"jobs\.jsonl: a job of the stage \{\}, which this version does not know"):
        journal.read(path)


def test_without_a_journal_nothing_was_submitted(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "jobs.jsonl") == []


def test_a_line_that_a_full_disk_cut_off_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    journal.append(path, ENTRY)
    with path.open("a") as file:
        file.write('{"event": "submi')
    journal.append(path, replace(ENTRY, job_id="8"))
    assert [entry.job_id for entry in journal.read(path)] == ["7", "8"]
