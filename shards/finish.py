"""Finishes a shard set: merges the rows of all slides into the index, and writes manifest.json last."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bccdist.configuration import ShardConfig, claim_config, config_digest
from bccdist.errors import ShardError
from bccdist.failures import read_reason
from bccdist.files import atomic_path, sha256_of_file, write_json
from bccdist.parts import Part
from bccdist.paths import ShardSetPaths, StudyPaths
from bccdist.slides.manifest import Manifest, read_manifest
from bccdist.training.pools import POOLS
from bccdist.training.shard_set import FORMAT_VERSION, SCHEMA
from shards.build import STAGE
from shards.rows import TILED_PARTS, SlideRows, done_rows, identity_of


def finish_set(manifest_path: Path, study_root: Path, config: ShardConfig) -> None:
    """Write index.parquet and manifest.json of a set whose slides are all done.

    Raises:
        ManifestError: the manifest has faults.
        ConfigurationError: the set was begun with another configuration.
        ShardError: slides are missing, failed or changed since, or Training has no patch with tumor.
    """
    manifest = read_manifest(manifest_path)
    study = StudyPaths(study_root)
    claim_config(study.shards.config, config)
    slides = _gather(manifest, study, config)
    index = pa.concat_tables([slide.table.replace_schema_metadata(SCHEMA.metadata) for slide in slides])
    _refuse_tumor_free(index, manifest)
    with atomic_path(study.shards.index) as partial:
        pq.write_table(index.combine_chunks(), partial, compression="zstd")
    content = {
        "format": "bccdist shard set",
        "format_version": FORMAT_VERSION,
        "config": {**asdict(config), "digest": config_digest(config)},
        "manifest_digest": manifest.digest,
        "phantom": manifest.is_phantom,
        "index": _describe_index(study.shards, index),
        "tars": [asdict(slide.tar) for slide in slides],
        "parts": {part.value: _describe_part(index, part) for part in TILED_PARTS},
        "training_unbalance": unbalance(_rows_of(index, Part.TRAINING)),
    }
    write_json(study.shards.manifest, content)


def _gather(manifest: Manifest, study: StudyPaths, config: ShardConfig) -> list[SlideRows]:
    """The rows of every slide, by slide_id, so that neither workers nor the manifest's order show in the index."""
    done: list[SlideRows] = []
    faults: list[str] = []
    for record in sorted(manifest.slides_of(TILED_PARTS), key=lambda record: record.slide_id):
        try:
            rows = done_rows(study.shards, record.slide_id, identity_of(record, manifest, config))
        except OSError as error:
            faults.append(f"{record.slide_id}: {error}")
            continue
        if rows is None:
            reason = read_reason(study.failure(STAGE, record.slide_id))
            faults.append(f"{record.slide_id}: {reason or 'not built, or changed since it was built'}")
        else:
            done.append(rows)
    _refuse_faults(study.shards, faults)
    return done


def _refuse_faults(paths: ShardSetPaths, faults: Sequence[str]) -> None:
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ShardError(
            f"{paths.root}: {len(faults)} slide(s) are not done, so the set cannot be finished; mend or leave out "
            f"these and run the shards stage again:\n{listed}"
        )


def _refuse_tumor_free(index: pa.Table, manifest: Manifest) -> None:
    training = _rows_of(index, Part.TRAINING)
    if not _count(training, "pool_tumor"):
        raise ShardError(
            f"{manifest.path}: none of the {training.num_rows} training patches has 0.05 % or more of its pixels in "
            "Tumornest, so nothing can be learned; check the annotations of the Training slides, and in kinds.toml "
            "which of their names or values mean Tumornest"
        )


def _rows_of(index: pa.Table, part: Part) -> pa.Table:
    return index.filter(pc.equal(index["part"], part.value))


def _count(rows: pa.Table, column: str) -> int:
    return int(pc.sum(rows[column], min_count=0).as_py())


def _describe_index(paths: ShardSetPaths, index: pa.Table) -> dict[str, Any]:
    return {
        "path": paths.index.name,
        "bytes": paths.index.stat().st_size,
        "sha256": sha256_of_file(paths.index),
        "num_patches": index.num_rows,
    }


def _describe_part(index: pa.Table, part: Part) -> dict[str, Any]:
    rows = _rows_of(index, part)
    return {"num_patches": rows.num_rows, "pools": {name: _count(rows, f"pool_{name}") for name in POOLS}}


def unbalance(rows: pa.Table) -> float:
    """Tumor-free pixels per tumor pixel of the patches (Table 2); pixels of overlaps count as often as they occur."""
    tumor_patches = float(pc.sum(rows["tumornest_fraction"]).as_py())
    return (float(rows.num_rows) - tumor_patches) / tumor_patches
