"""What a study's folder says of each stage is true: half-written, failed, begun and outdated work is not done."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from speedup_records import RECORD
from study_folders import ledger_row, write_claimed, write_study

from bccdist.failures import write_begun, write_failure
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Thresholds
from bccdist.sections.ledger import merge
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord
from bccdist.speedups.record import write_speedups
from bccdist.stages import outdated, progress
from bccdist.stages.progress import eta_of
from bccdist.stages.stage import Stage, StageProgress
from bccdist.stages.table import (
    FINISH_SHARDS,
    SELECTION,
    SHARDS,
    SPEEDUPS,
    TABLES,
    TEST_HEATMAPS,
    TRAINING,
    VALIDATION_HEATMAPS,
)

SETTING = "resnet34_ds"
VALIDATION = replace(VALIDATION_HEATMAPS, setting=SETTING)
TEST = replace(TEST_HEATMAPS, setting=SETTING)


def manifest_of(slides: dict[str, Part]) -> Manifest:
    records = [
        SlideRecord(slide_id=slide_id, part=part, path=Path(f"{slide_id}.tif")) for slide_id, part in slides.items()
    ]
    return Manifest(path=Path("slides.csv"), slides=tuple(records), sections=())


MANIFEST = manifest_of(
    {
        "train-0": Part.TRAINING,
        "train-1": Part.TRAINING,
        "val1-0": Part.VALIDATION_1,
        "val2-0": Part.VALIDATION_2,
        "test-0": Part.TEST,
    }
)


def progress_of(
    stage: Stage, paths: StudyPaths, manifest: Manifest = MANIFEST, *, since_s: float | None = None
) -> StageProgress:
    return stage.progress(paths, manifest, since_s=since_s)


def touch(path: Path, *, time_s: float | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    if time_s is not None:
        os.utime(path, (time_s, time_s))


def fail(path: Path) -> None:
    write_failure(path, stage="any", slide_id=path.stem, reason=f"{path.stem} is broken", error="SlideError")


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path / "study")


def test_of_a_study_that_has_not_begun_everything_is_missing(paths: StudyPaths) -> None:
    shards = progress_of(SHARDS, paths, MANIFEST)
    assert shards.missing == ("train-0", "train-1", "val1-0")
    assert (shards.num_done, shards.num_total, shards.eta_s) == (0, 3, None)
    assert not progress_of(FINISH_SHARDS, paths).is_whole
    assert progress_of(replace(TRAINING, setting=SETTING), paths).num_total is None
    assert progress_of(SELECTION, paths).num_total is None
    assert not progress_of(TABLES, paths).is_whole
    assert not paths.root.exists(), "reading makes no folder"


def test_a_slide_is_cut_once_its_rows_are_there_and_not_while_they_are_written(paths: StudyPaths) -> None:
    touch(paths.shards.rows("train-0"))
    touch(paths.shards.tar("train-1"))
    touch(paths.shards.rows("train-1").with_name("train-1.parquet.partial-0123"))
    touch(paths.shards.tar("val1-0").with_name("val1-0.tar.partial-4567"))
    touch(paths.shards.rows("of-another-manifest"))
    found = progress_of(SHARDS, paths, MANIFEST)
    assert found.missing == ("train-1", "val1-0")
    assert found.num_done == 1


def test_the_set_is_finished_once_its_manifest_is_there(paths: StudyPaths) -> None:
    touch(paths.shards.manifest.with_name("manifest.json.partial-0"))
    assert not progress_of(FINISH_SHARDS, paths).is_whole
    touch(paths.shards.manifest)
    assert progress_of(FINISH_SHARDS, paths).is_whole


def test_failures_are_told_apart_from_slides_at_work_and_from_those_done_since(paths: StudyPaths) -> None:
    for slide_id in ("train-0", "train-1"):
        fail(paths.failure("shards", slide_id))
    write_begun(paths.failure("shards", "val1-0"), stage="shards", slide_id="val1-0")
    touch(paths.shards.rows("train-0"))
    found = progress_of(SHARDS, paths, MANIFEST)
    assert found.failures == {"train-1": "train-1 is broken"}
    assert found.at_work == ("val1-0",)
    assert found.missing == ("train-1", "val1-0")


def study_with_ledger(paths: StudyPaths, slides: dict[str, list[int]]) -> None:
    """Heatmaps and ledger rows of slides for some epochs, and a run whose best two of three epochs are 3 and 1."""
    for slide_id, epochs in slides.items():
        for epoch in epochs:
            touch(paths.heatmap(SETTING, epoch, slide_id))
    rows = [
        ledger_row(slide_id=slide_id, epoch=epoch, part=MANIFEST.slide(slide_id).part.value)
        for slide_id, epochs in slides.items()
        for epoch in epochs
    ]
    write_study(paths.root, rows, iou={1: 0.5, 2: 0.4, 3: 0.6})
    write_claimed(paths.run(SETTING).config, {"keep_best": 2, "epochs": 3, "global_batch": 64})


def choose(paths: StudyPaths, epoch: int, **changes: Any) -> None:
    choice = {"setting": SETTING, "epoch": epoch, "psi": "psi_4", "t_p": 0.5, "t_a_um2": 1280.0, "beta": 1.5}
    choice |= {"area_unit": "physical", "weights_digest": "abcdefabcdef", "phantom_weights": True, **changes}
    paths.selection.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([choice]).to_parquet(paths.selection)


def test_heatmaps_are_done_once_every_wanted_epoch_has_rows(paths: StudyPaths) -> None:
    study_with_ledger(paths, {"val1-0": [1, 3], "val2-0": [1, 2]})
    fail(paths.failure(f"infer-{SETTING}", "val2-0"))
    fail(paths.failure("infer-unet", "val1-0"))
    found = progress_of(VALIDATION, paths)
    assert VALIDATION.name == "infer-resnet34_ds-val1-val2"
    assert found.missing == ("val2-0",)
    assert found.failures == {"val2-0": "val2-0 is broken"}, "of this setting alone"
    assert found.detail == "epochs 3, 1 so far: training has not ended"


def test_a_slide_whose_heatmap_was_removed_is_missing_again(paths: StudyPaths) -> None:
    study_with_ledger(paths, {"val1-0": [1, 3], "val2-0": [1, 3]})
    assert progress_of(VALIDATION, paths).missing == ()
    paths.heatmap(SETTING, 3, "val2-0").unlink()
    assert progress_of(VALIDATION, paths).missing == ("val2-0",)


def test_heatmaps_whose_rows_are_of_an_older_schema_are_out_of_date(paths: StudyPaths) -> None:
    study_with_ledger(paths, {"val1-0": [1, 3], "val2-0": [1, 3]})
    assert progress_of(VALIDATION, paths).is_whole
    for epoch in (1, 3):
        rows = paths.ledger_rows(SETTING, epoch, "val1-0")
        table = pq.read_table(rows)
        older = {**table.schema.metadata, b"bccdist.schema_version": b"4"}
        pq.write_table(table.replace_schema_metadata(older), rows)
    found = progress_of(VALIDATION, paths)
    assert found.is_out_of_date
    assert not found.is_whole
    assert "ledger schema version is '4'" in found.detail
    assert set(found.missing) == {"val1-0", "val2-0"}


def test_heatmaps_of_sections_that_moved_are_out_of_date_by_name(paths: StudyPaths) -> None:
    study_with_ledger(paths, {"val1-0": [1, 3], "val2-0": [1, 3]})
    merge(paths.ledger, paths.sections)
    box = Box(0, 0, 100, 100)
    section = SectionRecord(slide_id="val1-0", section_id="section-0", label=None, box_level0_px=box)
    assert progress_of(VALIDATION, paths, replace(MANIFEST, sections=(section,))).is_whole
    elsewhere = replace(section, box_level0_px=Box(0, 0, 100, 90))
    found = progress_of(VALIDATION, paths, replace(MANIFEST, sections=(elsewhere,)))
    assert found.is_out_of_date
    assert "val1-0/section-0" in found.detail
    # Rows that came after the ledger was gathered may be those that were made anew.
    later(paths.ledger_rows(SETTING, 3, "val1-0").parent, 10)
    later(paths.ledger_rows(SETTING, 1, "val1-0").parent, 10)
    assert progress_of(VALIDATION, paths, replace(MANIFEST, sections=(elsewhere,))).is_whole


def test_heatmaps_of_the_chosen_epoch_wait_for_the_choice(paths: StudyPaths) -> None:
    study_with_ledger(paths, {"test-0": [1]})
    before = progress_of(TEST, paths)
    assert (before.num_done, before.num_total) == (0, 1)
    assert before.detail == "epochs not known yet: no epoch is chosen"
    choose(paths, 1)
    after = progress_of(TEST, paths)
    assert after.is_whole
    assert TEST.name == "infer-resnet34_ds-test"
    choose(paths, 3)
    assert progress_of(TEST, paths).missing == ("test-0",)


def write_certified(paths: StudyPaths, *slide_ids: str, t_p: float = 0.5, t_a_um2: float = 1280.0) -> None:
    """A certified, a recomputed and a checked section for each slide, in epoch 1."""
    certificate = {"certificate_t_p": t_p, "certificate_t_a_um2": t_a_um2, "certificate_area_unit": "physical"}
    for slide_id in slide_ids:
        touch(paths.heatmap(SETTING, 1, slide_id))
    write_study(
        paths.root,
        [
            ledger_row(slide_id=slide_id, section_id=reached, part="Test", reached_by=reached, **certificate)
            for slide_id in slide_ids
            for reached in ("certified", "recomputed", "checked")
        ],
    )


TWO = manifest_of({"test-0": Part.TEST, "test-1": Part.TEST})


def test_how_verdicts_were_reached_is_counted_where_they_are_not_all_exact(paths: StudyPaths) -> None:
    write_certified(paths, "test-0")
    touch(paths.heatmap(SETTING, 1, "test-1"))
    write_study(paths.root, [ledger_row(slide_id="test-1", part="Test")])
    choose(paths, 1)
    found = progress_of(TEST, paths, TWO)
    assert found.is_whole
    assert found.detail == "epoch 1; 4 sections: 1 exact, 1 certified, 1 recomputed, 1 checked"
    (paths.ledger_rows(SETTING, 1, "test-0")).unlink()
    assert progress_of(TEST, paths, TWO).detail == "epoch 1"


@pytest.mark.parametrize("changes", [{"t_p": 0.6}, {"t_a_um2": 2560.0}, {"area_unit": "nominal"}])
def test_certified_slides_are_out_of_date_after_another_choice_and_exact_ones_are_not(
    paths: StudyPaths, changes: dict[str, Any]
) -> None:
    write_certified(paths, "test-0")
    touch(paths.heatmap(SETTING, 1, "test-1"))
    write_study(paths.root, [ledger_row(slide_id="test-1", part="Test")])
    choose(paths, 1)
    assert progress_of(TEST, paths, TWO).is_whole
    choose(paths, 1, **changes)
    found = progress_of(TEST, paths, TWO)
    assert (found.missing, found.is_out_of_date) == (("test-0",), True)
    assert (
        "1 slide(s) certified at other thresholds: was made for t_p 0.5, t_A 1280 um2 (physical), but" in found.detail
    )
    assert "launch_calibrate.py` again, and launch this again" in found.detail


def test_of_many_certified_slides_a_sample_tells_for_all(paths: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outdated, "MOST_READ", 1)
    write_certified(paths, "test-0", "test-1")
    choose(paths, 1)
    assert (
        "3 sections: 1 certified, 1 recomputed, 1 checked on 1 slides, drawn from 2"
        in progress_of(TEST, paths, TWO).detail
    )
    choose(paths, 1, t_p=0.6)
    assert progress_of(TEST, paths, TWO).missing == ("test-0", "test-1")


@pytest.mark.parametrize("changes", [{"t_p": 0.6}, {"t_a_um2": 2560.0}, {"weights_digest": "bcdefabcdefa"}])
def test_speedups_are_out_of_date_after_another_choice(paths: StudyPaths, changes: dict[str, Any]) -> None:
    speedups = replace(SPEEDUPS, setting=SETTING)
    choose(paths, 1)
    assert progress_of(speedups, paths).detail == "epoch 1 not measured"
    record = replace(RECORD, epoch=1, weights_digest="abcdefabcdef", thresholds=Thresholds(t_p=0.5, t_a_um2=1280.0))
    write_speedups(paths.run(SETTING).speedups(1, "cpu-0"), record)
    found = progress_of(speedups, paths)
    assert (found.is_whole, found.detail) == (True, "epoch 1 on cpu-0")
    choose(paths, 1, **changes)
    outdated = progress_of(speedups, paths)
    assert (outdated.is_whole, outdated.is_out_of_date) == (False, True)
    assert "launch_calibrate.py` again" in outdated.detail
    # One machine's record for the new choice is enough.
    thresholds = {"t_p": 0.5, "t_a_um2": 1280.0}
    other = {name: value for name, value in changes.items() if name not in thresholds}
    fresh = replace(record, thresholds=Thresholds(**{**thresholds, **changes} if not other else thresholds), **other)
    write_speedups(paths.run(SETTING).speedups(1, "cpu-1"), fresh)
    assert progress_of(speedups, paths).detail == "epoch 1 on cpu-1"


def test_the_stage_of_the_failures_is_that_of_the_inference(paths: StudyPaths) -> None:
    from bccdist.stages.stage import failures_name

    fail(paths.failure(failures_name("infer", SETTING), "test-0"))
    study_with_ledger(paths, {"val1-0": [1]})
    choose(paths, 1)
    assert "test-0" in progress_of(TEST, paths).failures


def later(path: Path, seconds: float) -> None:
    time_s = time.time() + seconds
    os.utime(path, (time_s, time_s))


def test_a_choice_is_out_of_date_once_validation_rows_came_after_it(paths: StudyPaths) -> None:
    study_with_ledger(paths, {"val1-0": [1, 3]})
    assert progress_of(SELECTION, paths).detail == "resnet34_ds not chosen"
    choose(paths, 3)
    later(paths.selection, 10)
    assert progress_of(SELECTION, paths).is_whole
    later(paths.ledger_rows(SETTING, 3, "test-0").parent, 20)
    assert progress_of(SELECTION, paths).is_whole, "in the chosen epoch they may be of Test"
    later(paths.ledger_rows(SETTING, 1, "val2-0").parent, 20)
    found = progress_of(SELECTION, paths)
    assert not found.is_whole
    assert found.detail == f"resnet34_ds epoch 3, out of date: {outdated.BY_TIMES}"


def test_tables_are_done_when_they_are_the_newest_and_all_slides_are_drawn(paths: StudyPaths) -> None:
    study_with_ledger(paths, {"val1-0": [1, 3], "test-0": [3], "train-0": [3]})
    choose(paths, 3)
    touch(paths.tables / "table3.parquet")
    later(paths.tables / "table3.parquet", 10)
    touch(paths.overlay(SETTING, "val1-0"))
    touch(paths.overlay(SETTING, "test-0").with_name("test-0.png.partial-0"))
    assert progress_of(TABLES, paths).detail == "tables 3; 1 overlay pictures, not all; no report"
    assert not progress_of(TABLES, paths).is_whole
    touch(paths.overlay(SETTING, "test-0"))
    assert not progress_of(TABLES, paths).is_whole, "somebody removed the report"
    touch(paths.report)
    assert progress_of(TABLES, paths).is_whole
    later(paths.ledger_rows(SETTING, 3, "test-0").parent, 20)
    assert not progress_of(TABLES, paths).is_whole
    assert f"tables 3 out of date: {outdated.BY_TIMES}" in progress_of(TABLES, paths).detail


def test_the_pace_is_that_of_the_slides_done_since(paths: StudyPaths) -> None:
    now_s = time.time() - 1000
    touch(paths.shards.rows("train-0"), time_s=now_s)
    touch(paths.shards.rows("train-1"), time_s=now_s + 100)
    assert progress_of(SHARDS, paths, MANIFEST).eta_s == pytest.approx(100, rel=1e-3), (
        "one slide in 100 s, one is left"
    )
    assert progress_of(SHARDS, paths, MANIFEST, since_s=now_s + 60).eta_s == pytest.approx(40, rel=1e-3)
    assert progress_of(SHARDS, paths, MANIFEST, since_s=now_s + 500).eta_s is None


def test_a_failed_slide_is_not_waited_for(paths: StudyPaths) -> None:
    for slide_id in ("train-0", "train-1"):
        touch(paths.shards.rows(slide_id))
    fail(paths.failure("shards", "val1-0"))
    assert progress_of(SHARDS, paths, MANIFEST).eta_s == 0.0


def test_the_pace_of_many_slides_comes_from_a_sample() -> None:
    times_s = [float(number) for number in range(0, 10_000, 10)]
    whole = eta_of([float(number) for number in range(10_000)], num_done=10_000, num_left=500, since_s=None)
    assert whole == pytest.approx(500, rel=0.01)
    assert eta_of(times_s, num_done=10_000, num_left=500, since_s=None) == pytest.approx(500, rel=0.01)
    assert eta_of(times_s, num_done=10_000, num_left=500, since_s=8999.5) == pytest.approx(500, rel=0.02)


@pytest.fixture
def counted_stats(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    asked: list[Path] = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: (asked.append(path), stat(path, **how))[1])
    return asked


def test_files_are_not_looked_at_one_by_one(
    paths: StudyPaths, counted_stats: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_MOST_TIMES", 10)
    manifest = manifest_of({f"slide-{number}": Part.TRAINING for number in range(300)})
    for slide in manifest.slides[:200]:
        touch(paths.shards.rows(slide.slide_id))
    counted_stats.clear()
    assert progress_of(SHARDS, paths, manifest).num_done == 200
    assert len(counted_stats) <= 12


def test_importing_it_brings_neither_torch_nor_what_tables_need() -> None:
    code = "import sys, bccdist.stages.progress; print(*{'torch', 'pandas', 'cv2', 'pyarrow'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == ""
