"""A stage is one entry of a table: launching, status and what is missing follow from it, also for a new one."""

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bccdist.errors import StageFailedError
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.stages.progress import progress_by_slide
from bccdist.stages.stage import Stage, find_stage
from bccdist.stages.table import (
    AUDIT,
    AUDIT_TRAINING,
    FINISH_SHARDS,
    METHOD,
    SELECTION,
    SHARDS,
    SPEEDUPS,
    TABLE,
    TABLES,
    TEST_HEATMAPS,
    TRAINING,
    VALIDATION_HEATMAPS,
    in_order,
    stages_of,
)
from bccdist.study import claim_study
from bccdist.usage import read_starts
from jobs.slurm.sites import ClusterConfig
from jobs.slurm.submission import Launch
from jobs.stages import launch_entries
from jobs.status import status_of

# A worked example: what a new stage needs. Its entry of the table ...
NOTES = Stage(
    kind="notes",
    parts=(Part.TEST,),
    entry="note_stage:write_notes",
    read_progress=progress_by_slide(lambda paths, slide_id: paths.root / "notes" / f"{slide_id}.txt"),
    after=(SELECTION,),
    is_for_each_slide=True,
)
# ... and the function that its jobs call, in a module of its own.
NOTE_STAGE = """
from bccdist.errors import StageFailedError
from bccdist.failures import write_failure
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import read_manifest


def write_notes(manifest_path, slide_ids, study_root):
    manifest, paths = read_manifest(manifest_path), StudyPaths(study_root)
    (study_root / "notes").mkdir(exist_ok=True)
    for slide_id in slide_ids:
        slide = manifest.slide(slide_id).path
        if not slide.stat().st_size:
            failure = paths.failure("notes", slide_id)
            write_failure(failure, stage="notes", slide_id=slide_id, reason="no bytes", error="SlideError")
            raise StageFailedError(f"{slide_id}: no bytes")
        (study_root / "notes" / f"{slide_id}.txt").write_text(f"{slide.stat().st_size} bytes")
"""
TABLE_WITH_NOTES = (*TABLE, NOTES)


def test_a_new_stage_is_launched_watched_and_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "note_stage.py").write_text(NOTE_STAGE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    for slide_id, content in (("a", "xyz"), ("b", "")):
        (tmp_path / f"{slide_id}.tif").write_text(content)
    (tmp_path / "slides.csv").write_text("slide_id,part,path\na,Test,a.tif\nb,Test,b.tif\n")
    paths = StudyPaths(tmp_path / "study: 10:30, new")  # no PYTHONPATH can hold a colon
    manifest = claim_study(paths.root, tmp_path / "slides.csv")
    launch = Launch(study=paths.root, cluster=ClusterConfig(cluster="local", max_parallel=2))

    with pytest.raises(StageFailedError, match=r"notes: 1 of 2 job\(s\) failed"):
        launch_entries(launch, manifest, {NOTES: None})
    assert (paths.root / "notes" / "a.txt").read_text() == "3 bytes"
    status = status_of(paths.root, TABLE_WITH_NOTES)[0][-1]
    assert (status.stage, status.state, status.progress.num_done) == (NOTES, "failed", 1)
    assert status.progress.failures == {"b": "no bytes"}

    (tmp_path / "b.tif").write_text("wxyz")
    written = (paths.root / "notes" / "a.txt").stat().st_mtime_ns
    launch_entries(replace(launch, only_missing=True), manifest, {NOTES: None})
    assert (paths.root / "notes" / "b.txt").read_text() == "4 bytes"
    assert (paths.root / "notes" / "a.txt").stat().st_mtime_ns == written, "what is done is not given to a job"
    assert status_of(paths.root, TABLE_WITH_NOTES)[0][-1].state == "done"
    starts = [start.usage for start in read_starts(paths)]
    assert [(usage.stage, usage.num_slides) for usage in starts] == [(NOTES.fields, 1)] * 3

    launch_entries(replace(launch, only_missing=True), manifest, {NOTES: None})
    assert len(read_starts(paths)) == 3, "nothing is missing, so nothing is submitted"


def names(stages: Sequence[Stage]) -> list[str]:
    return [stage.name for stage in stages]


def test_a_study_has_the_stages_of_the_table_for_all_its_settings() -> None:
    stages = stages_of(dict.fromkeys(METHOD), ["unet", "resnet34_ds"])
    assert names(stages) == [
        "shards",
        "finish-shards",
        "train-unet",
        "train-resnet34_ds",
        "infer-unet-val1-val2",
        "infer-resnet34_ds-val1-val2",
        "select",
        "speedups-unet",
        "speedups-resnet34_ds",
        "infer-unet-test",
        "infer-resnet34_ds-test",
        "tables",
    ]
    assert in_order(stages[::-1]) == stages


def test_a_stage_waits_for_those_of_its_own_setting_and_for_those_of_all() -> None:
    stages = stages_of(dict.fromkeys(TABLE), ["unet", "resnet34_ds"])
    before = {stage.name: names([each for each in stages if stage.waits_for(each)]) for stage in stages}
    assert before["train-unet"] == ["finish-shards"]
    assert before["infer-unet-val1-val2"] == ["train-unet"]
    assert before["select"] == ["infer-unet-val1-val2", "infer-resnet34_ds-val1-val2"]
    assert before["infer-unet-test"] == ["select", "speedups-unet"]
    assert before["tables"] == ["infer-unet-test", "infer-resnet34_ds-test"]


def test_an_audit_trains_each_fold_in_a_folder_of_its_own_and_then_compares(tmp_path: Path) -> None:
    paths = StudyPaths(tmp_path)
    entries = {replace(AUDIT_TRAINING, fold=fold): None for fold in (1, 2)}
    stages = stages_of({**entries, AUDIT: None}, ["unet"])
    assert names(stages) == ["audit-train-unet-fold-1", "audit-train-unet-fold-2", "audit-unet"]
    assert in_order(stages[::-1]) == stages
    assert [names([each for each in stages if stage.waits_for(each)]) for stage in stages] == [
        [],
        [],
        names(stages)[:2],
    ]
    assert [stage.run(paths).root.name for stage in stages] == ["fold-1", "fold-2", "unet"]
    assert stages[0].run(paths).root.parent == paths.audit("unet").root


@pytest.mark.parametrize(
    "stage",
    [
        SHARDS,
        replace(TEST_HEATMAPS, setting="unet"),
        replace(VALIDATION_HEATMAPS, setting="unet", parts=(Part.TEST,)),
        replace(AUDIT_TRAINING, setting="unet", fold=2),
    ],
    ids=lambda stage: stage.name,
)
def test_what_names_a_stage_on_disk_finds_it_again(stage: Stage) -> None:
    found = find_stage(stage.fields, TABLE)
    assert found == stage
    assert found is not None
    assert found.after == stage.after
    assert find_stage(NOTES.fields, TABLE) is None


def test_no_two_stages_have_one_name() -> None:
    heatmaps = [
        replace(stage, setting="unet", parts=parts)
        for stage in (VALIDATION_HEATMAPS, TEST_HEATMAPS)
        for parts in ((Part.TEST,), (Part.VALIDATION_1,), (Part.VALIDATION_1, Part.VALIDATION_2), tuple(Part))
    ]
    others = [
        SHARDS,
        FINISH_SHARDS,
        SELECTION,
        TABLES,
        replace(TRAINING, setting="unet"),
        replace(SPEEDUPS, setting="unet"),
        replace(AUDIT, setting="unet"),
        *(replace(AUDIT_TRAINING, setting="unet", fold=fold) for fold in (1, 2)),
    ]
    stages = [*heatmaps, *others]
    assert len(set(names(stages))) == len(set(stages)) == len(stages)


@pytest.mark.parametrize("stage", TABLE, ids=lambda stage: stage.name)
def test_every_entry_point_can_be_called_with_what_a_stage_knows(stage: Stage) -> None:
    module, name = stage.entry.split(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    needed = {each.name for each in parameters if each.default is inspect.Parameter.empty}
    known = {"manifest_path", "study_root"}
    known |= {"slide_ids"} if stage.is_for_each_slide else set()
    known |= {"setting"} if stage.is_for_each_setting else set()
    known |= {"epochs"} if stage.epochs else set()
    assert needed <= known | {"config"}
    assert ("slide_ids" in needed, "setting" in needed) == (stage.is_for_each_slide, stage.is_for_each_setting)
