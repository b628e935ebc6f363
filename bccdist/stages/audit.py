"""The comparison of Training's annotations with the networks of the folds: the job's entry point, without torch."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bccdist.configuration import Setting
from bccdist.parquet import write_table
from bccdist.paths import StudyPaths
from bccdist.slide_runner import SlideWork, run_stage
from bccdist.stages.stage import failures_name


def audit_slides(
    manifest_path: Path, slide_ids: Sequence[str], study_root: Path, setting: Setting, *, num_workers: int = 1
) -> None:
    """Compare some slides; once all slides of all folds are there, their rows are ranked in one table.

    Args:
        manifest_path: the study's slides.csv.
        slide_ids: which slides.
        study_root: the study's folder.
        setting: whose networks.
        num_workers: 1, or 0 for this process itself.

    Raises:
        BccdistError: folds, shard set or trainings do not fit; see `open_audit`. Then nothing is done.
        StageFailedError: some slides failed; the others are done.
    """
    from bccdist.audit.table import gather
    from bccdist.shard_set.folds import read_folds

    study = StudyPaths(study_root)
    setup = partial(open_worker, manifest_path, slide_ids, study_root, setting)
    run_stage(
        failures_name("audit", setting), setup, slide_ids, study, slides_csv=manifest_path, num_workers=num_workers
    )
    paths = study.audit(setting)
    everywhere = [slide_id for fold in read_folds(paths.folds).slides.values() for slide_id in fold]
    if all(paths.rows(slide_id).exists() for slide_id in everywhere):
        write_table(paths.table, gather(paths, everywhere))


def open_worker(*arguments: Any) -> SlideWork:
    """What a worker imports before its first slide."""
    from bccdist.audit.scoring import open_audit

    return open_audit(*arguments)
