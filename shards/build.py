"""Builds the tars of some slides: annotated slides become patches (paper, sections 2.1 and 2.3).

The order of writing says what is done: the slide's tar, then its rows file, and when all slides are there the index
and the set's manifest.json (shards/finish.py).
"""

import os
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import pyarrow.compute as pc

from bccdist.configuration import ShardConfig, claim_config
from bccdist.errors import BccdistError, StageFailedError
from bccdist.failures import write_failure
from bccdist.files import atomic_path
from bccdist.paths import ShardSetPaths, StudyPaths
from bccdist.processes import Casualty, run_each
from bccdist.slides.manifest import Manifest, SlideRecord, read_manifest
from shards.coding import member_extensions
from shards.patches import open_slide, read_samples, survey_slide
from shards.rows import SlideRows, TarRecord, done_rows, identity_of, tabulate, write_rows
from shards.tars import write_tar

STAGE = "shards"


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One slide, for the process that builds it."""

    manifest: Manifest
    """Of this slide alone."""
    paths: ShardSetPaths
    config: ShardConfig
    num_threads: int


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What came of a slide."""

    text: str
    """What was done, or why it failed."""
    error: str | None = None
    """The kind of error, where it failed."""


def build_slides(
    manifest_path: Path,
    slide_ids: Sequence[str],
    study_root: Path,
    config: ShardConfig,
    *,
    num_workers: int | None = None,
) -> None:
    """Build the tars and rows of some slides; those that are done are left alone.

    A slide that fails leaves a failure file, and the others go on; so they do if a slide kills the process that works
    on it.

    Args:
        manifest_path: the study's slides.csv.
        slide_ids: which slides.
        study_root: the study's folder.
        config: how.
        num_workers: processes that work on a slide each; None is one for each core, 0 is this process. The tars do
            not depend on it.

    Raises:
        ManifestError: the manifest has faults, or a slide is not in it.
        ConfigurationError: the set was begun with another configuration.
        StageFailedError: some slides failed; it names them and says why.
    """
    # A slide that has gone since the launch fails alone, when it is opened.
    manifest = read_manifest(manifest_path, files_must_exist=False)
    study = StudyPaths(study_root)
    claim_config(study.shards.config, config)
    num_cores = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    num_workers = min(num_cores if num_workers is None else num_workers, len(slide_ids))
    num_threads = max(1, num_cores // max(1, num_workers))
    tasks = [
        _Task(manifest=manifest.only(slide_id), paths=study.shards, config=config, num_threads=num_threads)
        for slide_id in slide_ids
    ]
    reasons: dict[str, str] = {}
    for number, (index, outcome) in enumerate(_outcomes(tasks, num_workers), start=1):
        slide_id = slide_ids[index]
        _keep_failure(study.failure(STAGE, slide_id), slide_id, outcome)
        if outcome.error is not None:
            reasons[slide_id] = outcome.text
        failed = "failed: " if outcome.error else ""
        print(f"slide {number}/{len(slide_ids)} {slide_id}: {failed}{outcome.text}", flush=True)
    if reasons:
        listed = "\n".join(f"  - {slide_id}: {reasons[slide_id]}" for slide_id in slide_ids if slide_id in reasons)
        raise StageFailedError(f"shards: {len(reasons)} of {len(slide_ids)} slide(s) failed:\n{listed}")


def _outcomes(tasks: Sequence[_Task], num_workers: int) -> Iterator[tuple[int, _Outcome]]:
    """What came of each task, with its index, in the order in which they finish."""
    if num_workers == 0:
        yield from enumerate(map(_try_slide, tasks))
        return
    for index, outcome in run_each(_try_slide, tasks, num_workers=num_workers, timeout_s=float("inf")):
        if isinstance(outcome, Casualty):
            yield index, _Outcome(text=outcome.reason, error=type(outcome).__name__)
        else:
            yield index, outcome


def _try_slide(task: _Task) -> _Outcome:
    """Build one slide, whatever it is poisoned with."""
    cv2.setNumThreads(task.num_threads)
    (record,) = task.manifest.slides
    try:
        return _Outcome(text=build_slide(record, task.manifest, task.paths, task.config, num_threads=task.num_threads))
    except (BccdistError, OSError) as error:
        return _Outcome(text=str(error), error=type(error).__name__)
    except Exception as error:  # noqa: BLE001 - nobody foresaw it, and the other slides go on
        traceback.print_exception(error)
        return _Outcome(text=f"{type(error).__name__}: {error}", error=type(error).__name__)


def _keep_failure(path: Path, slide_id: str, outcome: _Outcome) -> None:
    """Write why a slide failed, or remove what an earlier failure left; on a full disk it stands in the log alone."""
    try:
        if outcome.error is None:
            path.unlink(missing_ok=True)
        else:
            write_failure(path, stage=STAGE, slide_id=slide_id, reason=outcome.text, error=outcome.error)
    except OSError as full:
        print(f"slide {slide_id}: the reason of its failure could not be written to {path}: {full}", flush=True)


def build_slide(
    record: SlideRecord, manifest: Manifest, paths: ShardSetPaths, config: ShardConfig, *, num_threads: int = 1
) -> str:
    """Build the tar and the rows of one slide, unless it is done.

    Returns:
        What was done, in a few words.

    Raises:
        ShardError, SlideError, AnnotationError: the slide cannot become patches; the message says why.
    """
    started_s = time.perf_counter()
    identity = identity_of(record, manifest, config)
    done = done_rows(paths, record.slide_id, identity)
    if done is not None:
        return f"{done.tar.num_patches} patches, done before"
    paths.manifest.unlink(missing_ok=True)
    paths.rows(record.slide_id).unlink(missing_ok=True)
    tar = paths.tar(record.slide_id)
    with _threads(num_threads) as pool, open_slide(record, config, pool) as slide, atomic_path(tar) as partial:
        survey = survey_slide(slide, record, manifest, config)
        with closing(read_samples(slide, survey, config, pool)) as samples:
            rows, sha256 = write_tar(partial, samples, member_extensions(config.image_coding))
    tar_record = TarRecord(
        path=tar.relative_to(paths.root).as_posix(), bytes=tar.stat().st_size, sha256=sha256, num_patches=len(rows)
    )
    table = tabulate(rows, tar=tar_record.path)
    write_rows(paths.rows(record.slide_id), SlideRows(identity=identity, tar=tar_record, table=table))
    num_tumor = pc.sum(table["pool_tumor"]).as_py()
    return f"{len(rows)} patches, {num_tumor} with tumor, {time.perf_counter() - started_s:.1f} s"


@contextmanager
def _threads(num: int) -> Iterator[Executor]:
    """The threads that decode and encode; after an error none goes on."""
    pool = ThreadPoolExecutor(num, thread_name_prefix="patches")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
