"""The stages of the method, in their order: what launching, status, retry and plan go through.

A new stage is one entry here, and, where a study's launch shall have it, one line in jobs/launch_study.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bccdist.configuration import SETTINGS, Setting, StageConfig
from bccdist.parts import Part
from bccdist.stages.copy_out import copying_progress
from bccdist.stages.progress import (
    audit_progress,
    inference_progress,
    progress_by_file,
    progress_by_slide,
    selection_progress,
    speedups_progress,
    tables_progress,
    training_progress,
)
from bccdist.stages.stage import Stage

SHARDS = Stage(
    kind="shards",
    parts=(Part.TRAINING, Part.VALIDATION_1),
    entry="shards.build:build_slides",
    read_progress=progress_by_slide(lambda paths, slide_id: paths.shards.rows(slide_id)),
    folders_of=lambda _stage, paths: [paths.shards.root],
    is_for_each_slide=True,
)
"""Patches of the annotated slides."""
FINISH_SHARDS = Stage(
    kind="finish-shards",
    parts=SHARDS.parts,
    entry="shards.finish:finish_set",
    read_progress=progress_by_file(lambda paths: paths.shards.manifest, missing="the set is not finished"),
    after=(SHARDS,),
    # It refuses a set with slides missing, and says which.
    needs_success=False,
)
"""Index and manifest of the shard set."""
TRAINING = Stage(
    kind="train",
    parts=SHARDS.parts,
    entry="bccdist.training.loop:train",
    read_progress=training_progress,
    folders_of=lambda stage, paths: [stage.run(paths).root],
    after=(FINISH_SHARDS,),
    is_for_each_setting=True,
    needs="ranks",
)
"""One run, over all ranks."""
VALIDATION_HEATMAPS = Stage(
    kind="infer",
    parts=(Part.VALIDATION_1, Part.VALIDATION_2),
    epochs="best",
    entry="bccdist.stages.epochs:infer_slides",
    read_progress=inference_progress,
    folders_of=lambda stage, paths: [paths.heatmaps(stage.its_setting), paths.ledger / stage.its_setting],
    after=(TRAINING,),
    is_for_each_setting=True,
    is_for_each_slide=True,
    needs="gpu",
)
"""Heatmaps and ledger rows of the epochs that the selection chooses from."""
SELECTION = Stage(
    kind="select",
    parts=VALIDATION_HEATMAPS.parts,
    entry="analysis.tables.selection:select_thresholds",
    read_progress=selection_progress,
    after=(VALIDATION_HEATMAPS,),
    # It works on the slides that are there, and refuses if that is not enough.
    needs_success=False,
)
"""Epoch and thresholds of every setting that has validation rows in the ledger."""
SPEEDUPS = Stage(
    kind="speedups",
    parts=(Part.VALIDATION_1,),
    entry="bccdist.stages.speedups:measure_chosen",
    read_progress=speedups_progress,
    after=(SELECTION,),
    is_for_each_setting=True,
    needs="gpu",
)
"""What faster ways of inference change on Validation I and II; only where the Test heatmaps are made in such a way.

Its part is the one that it cannot do without: all ways are timed and compared on Validation I alone, so that what it
takes grows with that, and plan goes by it. Slides of Validation II come after, to calibrate the fastest ways alone.
"""
TEST_HEATMAPS = replace(VALIDATION_HEATMAPS, parts=(Part.TEST,), epochs="chosen", after=(SELECTION, SPEEDUPS))
"""Heatmaps and ledger rows of the epoch that was chosen."""
TABLES = Stage(
    kind="tables",
    parts=(*VALIDATION_HEATMAPS.parts, *TEST_HEATMAPS.parts),
    entry="analysis.page.stage:write_tables",
    read_progress=tables_progress,
    folders_of=lambda _stage, paths: [paths.tables, paths.sections, paths.overlays],
    after=(TEST_HEATMAPS,),
    # Slides whose heatmap failed do not keep the others from their tables.
    needs_success=False,
)
"""All tables, pictures and the report."""
AUDIT_TRAINING = replace(TRAINING, kind="audit-train", after=())
"""One run of the setting without the slides of one fold of Training; its launcher gives it the fold."""
AUDIT = Stage(
    kind="audit",
    parts=(Part.TRAINING,),
    entry="bccdist.stages.audit:audit_slides",
    read_progress=audit_progress,
    folders_of=lambda stage, paths: [paths.audit(stage.its_setting).root],
    after=(AUDIT_TRAINING,),
    is_for_each_setting=True,
    is_for_each_slide=True,
    needs="gpu",
)
"""What the annotation of each Training slide says against the network that did not see its patient."""
COPY_OUT = Stage(
    kind="copy-out",
    entry="bccdist.stages.copy_out:copy_out",
    read_progress=copying_progress,
    after=(TABLES,),
)
"""Results at the address of a store, each read back."""
METHOD = (
    SHARDS,
    FINISH_SHARDS,
    TRAINING,
    VALIDATION_HEATMAPS,
    SELECTION,
    SPEEDUPS,
    TEST_HEATMAPS,
    TABLES,
)
"""What the launch of a study goes through."""
TABLE = (*METHOD, AUDIT_TRAINING, AUDIT, COPY_OUT)
"""All stages that can be launched."""


def stages_of(entries: Mapping[Stage, StageConfig | None], settings: Sequence[Setting]) -> list[Stage]:
    """The stages of a study in their order: entries of the table, each with its configuration, for all settings."""
    return [
        replace(entry, setting=setting, config=config)
        for entry, config in entries.items()
        for setting in (settings if entry.is_for_each_setting else [None])
    ]


def in_order(stages: Iterable[Stage], table: Sequence[Stage] = TABLE) -> list[Stage]:
    """Stages in the order of the table; settings in that of the paper; then by fold."""

    def place(stage: Stage) -> tuple[int, int, int]:
        row = next(number for number, entry in enumerate(table) if entry.is_like(stage))
        return row, SETTINGS.index(stage.setting) if stage.setting else -1, stage.fold or 0

    return sorted(stages, key=place)
