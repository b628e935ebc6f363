"""Builds the tars of some slides: annotated slides become patches (paper, sections 2.1 and 2.3).

The order of writing says what is done: the slide's tar, then its rows file, and when all slides are there the index
and the set's manifest.json (shards/finish.py).
"""

import os
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow.compute as pc

from bccdist.configuration import ShardConfig, claim_config
from bccdist.errors import BccdistError, StageFailedError
from bccdist.failures import write_failure
from bccdist.files import atomic_path
from bccdist.paths import ShardSetPaths, StudyPaths
from bccdist.slides.manifest import Manifest, SlideRecord, read_manifest
from shards.coding import member_extensions
from shards.patches import open_slide, read_samples, survey_slide
from shards.rows import SlideRows, TarRecord, done_rows, identity_of, tabulate, write_rows
from shards.tars import write_tar

STAGE = "shards"


def build_slides(manifest_path: Path, slide_ids: Sequence[str], study_root: Path, config: ShardConfig) -> None:
    """Build the tars and rows of some slides; those that are done are left alone.

    A slide that fails leaves a failure file, and the others go on.

    Raises:
        ManifestError: the manifest has faults.
        ConfigurationError: the set was begun with another configuration.
        StageFailedError: some slides failed; it names them and says why.
    """
    # A slide that has gone since the launch fails alone, when it is opened.
    manifest = read_manifest(manifest_path, files_must_exist=False)
    study = StudyPaths(study_root)
    claim_config(study.shards.config, config)
    reasons: dict[str, str] = {}
    for number, slide_id in enumerate(slide_ids, start=1):
        failure = study.failure(STAGE, slide_id)
        try:
            outcome = build_slide(manifest.slide(slide_id), manifest, study.shards, config)
            failure.unlink(missing_ok=True)
        except Exception as error:  # noqa: BLE001 - whatever a slide is poisoned with, the others go on
            reasons[slide_id] = _reason(error)
            outcome = f"failed: {reasons[slide_id]}"
            _keep_failure(failure, slide_id, error)
        print(f"slide {number}/{len(slide_ids)} {slide_id}: {outcome}", flush=True)
    if reasons:
        listed = "\n".join(f"  - {slide_id}: {reason}" for slide_id, reason in reasons.items())
        raise StageFailedError(f"shards: {len(reasons)} of {len(slide_ids)} slide(s) failed:\n{listed}")


def _reason(error: Exception) -> str:
    """What the user reads of an error; one that nobody foresaw is printed with its traceback, too."""
    if isinstance(error, BccdistError | OSError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


def _keep_failure(path: Path, slide_id: str, error: Exception) -> None:
    """Write why a slide failed; on a full disk it stands in the log alone."""
    try:
        write_failure(path, stage=STAGE, slide_id=slide_id, error=error)
    except OSError as full:
        print(f"slide {slide_id}: the reason of its failure could not be written to {path}: {full}", flush=True)


def build_slide(record: SlideRecord, manifest: Manifest, paths: ShardSetPaths, config: ShardConfig) -> str:
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
    with _threads() as pool, open_slide(record, config, pool) as slide, atomic_path(tar) as partial:
        survey = survey_slide(slide, record, manifest, config)
        rows, sha256 = write_tar(
            partial, read_samples(slide, survey, config, pool), member_extensions(config.image_coding)
        )
    tar_record = TarRecord(
        path=tar.relative_to(paths.root).as_posix(), bytes=tar.stat().st_size, sha256=sha256, num_patches=len(rows)
    )
    table = tabulate(rows, tar=tar_record.path)
    write_rows(paths.rows(record.slide_id), SlideRows(identity=identity, tar=tar_record, table=table))
    num_tumor = pc.sum(table["pool_tumor"]).as_py()
    return f"{len(rows)} patches, {num_tumor} with tumor, {time.perf_counter() - started_s:.1f} s"


@contextmanager
def _threads() -> Iterator[Executor]:
    """The threads that decode and encode, one for each core of this process; after an error none goes on."""
    num_threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="patches")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
