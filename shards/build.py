"""Builds the tars of some slides: annotated slides become patches (paper, sections 2.1 and 2.3).

The order of writing says what is done: the slide's tar, then its rows file, and when all slides are there the index
and the set's manifest.json (shards/finish.py).
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pyarrow.compute as pc

from bccdist.configuration import ShardConfig, claim_config
from bccdist.files import atomic_path
from bccdist.paths import ShardSetPaths, StudyPaths
from bccdist.processes import num_cores
from bccdist.slide_runner import SlideDone, SlideWork, run_stage
from bccdist.slides.colours import colour_log
from bccdist.slides.manifest import Manifest, SlideRecord, read_manifest
from shards.coding import member_extensions
from shards.patches import code_patches, open_slide, survey_slide
from shards.rows import SlideRows, TarRecord, done_rows, identity_of, tabulate, write_rows
from shards.tars import write_tar

STAGE = "shards"


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
    manifest = read_manifest(manifest_path, files_must_exist=False).only(slide_ids)
    study = StudyPaths(study_root)
    claim_config(study.shards.config, config)
    setup = partial(open_builder, manifest, study.shards, config)
    run_stage(STAGE, setup, slide_ids, study, slides_csv=manifest_path, num_workers=num_workers)


def open_builder(manifest: Manifest, paths: ShardSetPaths, config: ShardConfig) -> SlideWork:
    """The work of one process: it builds a slide of the manifest with as many threads as it has cores."""

    def build(slide_id: str) -> str | SlideDone:
        return build_slide(manifest.slide(slide_id), manifest, paths, config, num_threads=num_cores())

    return build


def build_slide(
    record: SlideRecord, manifest: Manifest, paths: ShardSetPaths, config: ShardConfig, *, num_threads: int = 1
) -> str | SlideDone:
    """Build the tar and the rows of one slide, unless it is done.

    Returns:
        What was done, in a few words.

    Raises:
        ShardError, SlideError, AnnotationError: the slide cannot become patches; the message says why.
    """
    started_s = time.perf_counter()
    done = done_rows(paths, record, manifest, config)
    if done is not None:
        return f"{done.tar.num_patches} patches, done before"
    identity = identity_of(record, manifest, config)
    paths.manifest.unlink(missing_ok=True)
    paths.rows(record.slide_id).unlink(missing_ok=True)
    tar = paths.tar(record.slide_id)
    with _threads(num_threads) as pool, open_slide(record, config, pool) as slide, atomic_path(tar) as partial:
        survey = survey_slide(slide, record, manifest, config)
        log_of_colours = colour_log(slide, survey.section_map.tissue)
        with closing(code_patches(slide, survey, config, pool)) as samples:
            rows, sha256 = write_tar(partial, samples, member_extensions(config.image_coding))
    tar_record = TarRecord(
        path=tar.relative_to(paths.root).as_posix(), bytes=tar.stat().st_size, sha256=sha256, num_patches=len(rows)
    )
    table = tabulate(rows, tar=tar_record.path)
    write_rows(paths.rows(record.slide_id), SlideRows(identity=identity, tar=tar_record, table=table))
    num_tumor = pc.sum(table["pool_tumor"]).as_py()
    seconds = time.perf_counter() - started_s
    told = f"{len(rows)} patches, {num_tumor} with tumor, {seconds:.1f} s"
    return SlideDone(told + survey.log_of_labels + log_of_colours + slide.log_of_reader)


@contextmanager
def _threads(num: int) -> Iterator[Executor]:
    """The threads that decode and encode; after an error none goes on."""
    pool = ThreadPoolExecutor(num, thread_name_prefix="patches")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
