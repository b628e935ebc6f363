"""Builds the tars of some slides: annotated slides become patches (paper, sections 2.1 and 2.3).

The order of writing says what is done: the slide's tar, then its rows file, and when all slides are there the index
and the set's manifest.json (shards/finish.py).
"""

import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc

from bccdist.configuration import ShardConfig, claim_config
from bccdist.errors import BccdistError, StageFailedError
from bccdist.failures import write_failure
from bccdist.files import atomic_path, sha256_of_file
from bccdist.paths import ShardSetPaths, StudyPaths
from bccdist.slides.manifest import Manifest, SlideRecord, read_manifest
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
    manifest = read_manifest(manifest_path)
    study = StudyPaths(study_root)
    claim_config(study.shards.config, config)
    reasons: dict[str, str] = {}
    for number, slide_id in enumerate(slide_ids, start=1):
        failure = study.failure(STAGE, slide_id)
        try:
            outcome = build_slide(manifest.slide(slide_id), manifest, study.shards, config)
            failure.unlink(missing_ok=True)
        except (BccdistError, OSError) as error:
            write_failure(failure, stage=STAGE, slide_id=slide_id, error=error)
            reasons[slide_id] = str(error)
            outcome = f"failed: {error}"
        print(f"slide {number}/{len(slide_ids)} {slide_id}: {outcome}", flush=True)
    if reasons:
        listed = "\n".join(f"  - {slide_id}: {reason}" for slide_id, reason in reasons.items())
        raise StageFailedError(f"shards: {len(reasons)} of {len(slide_ids)} slide(s) failed:\n{listed}")


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
    with open_slide(record, config) as slide, atomic_path(tar) as partial:
        survey = survey_slide(slide, record, manifest, config)
        rows = write_tar(partial, read_samples(slide, survey, jpeg_quality=config.jpeg_quality))
    tar_record = _record_tar(tar, root=paths.root, num_patches=len(rows))
    table = tabulate(rows, tar=tar_record.path)
    write_rows(paths.rows(record.slide_id), SlideRows(identity=identity, tar=tar_record, table=table))
    num_tumor = pc.sum(table["pool_tumor"]).as_py()
    return f"{len(rows)} patches, {num_tumor} with tumor, {time.perf_counter() - started_s:.1f} s"


def _record_tar(path: Path, *, root: Path, num_patches: int) -> TarRecord:
    return TarRecord(
        path=path.relative_to(root).as_posix(),
        bytes=path.stat().st_size,
        sha256=sha256_of_file(path),
        num_patches=num_patches,
    )
