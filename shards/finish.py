"""Finishes a shard set: streams the rows of all slides into the index, and writes manifest.json last."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bccdist.configuration import BalanceConfig, ShardConfig, claim_config, config_digest
from bccdist.errors import ShardError
from bccdist.failures import read_reason
from bccdist.files import atomic_path, sha256_of_file
from bccdist.log import LOG
from bccdist.parts import Part
from bccdist.paths import ShardSetPaths, StudyPaths
from bccdist.seals import write_sealed_json
from bccdist.shard_set.epoch_plan import draws_of_pools, empty_pools, expected_unbalance, unbalance_before
from bccdist.shard_set.index import FORMAT_VERSION, SCHEMA, read_set
from bccdist.shard_set.pools import NO_PATCHES, POOLS, PoolTotals, pool_totals
from bccdist.slides.fingerprints import fingerprints_of, kept_beside
from bccdist.slides.leakage import likeness_leaks, pixel_leaks
from bccdist.slides.manifest import Manifest, read_manifest
from shards.build import STAGE
from shards.rows import TILED_PARTS, SlideRows, TarRecord, done_rows

LONGEST_FINGERPRINT_S = 600.0
"""A slide that takes longer to compare is left out of the comparison, which is told."""
_ROWS_PER_GROUP = 100_000
"""A row group of the index has about so many rows, whatever the number of slides."""
_FEW_VALUES = ["slide_id", "section_id", "part", "tar", "mpp_read"]
"""Columns whose values repeat, so that a dictionary makes them small."""


@dataclass(kw_only=True)
class _Found:
    """What is known of the slides that were seen so far."""

    tars: list[TarRecord] = field(default_factory=list)
    totals: dict[str, PoolTotals] = field(default_factory=lambda: dict.fromkeys(TILED_PARTS, NO_PATCHES))
    """The pools' totals of each part."""
    faults: list[str] = field(default_factory=list)


def finish_set(manifest_path: Path, study_root: Path, config: ShardConfig, *, num_workers: int | None = None) -> None:
    """Write index.parquet and manifest.json of a set whose slides are all done; remove what broken-off writers left.

    Args:
        manifest_path: the study's slides.csv.
        study_root: the study's folder.
        config: how the slides were built.
        num_workers: processes that read the slides which nobody has a fingerprint of; see `run_each`.

    Raises:
        ManifestError: the manifest has faults.
        ConfigurationError: the set was begun with another configuration.
        ShardError: slides are missing, failed or changed since, the same pixels are in two parts, or Training has no
            patch with tumor.
    """
    # A slide that has gone since it was built is one of the faults that are listed.
    manifest = read_manifest(manifest_path, files_must_exist=False)
    study = StudyPaths(study_root)
    claim_config(study.shards.config, config)
    _refuse_leaks(manifest, study, num_workers=num_workers)
    if _is_finished(manifest, study, config):
        with suppress(OSError):  # where nothing can be written, nobody writes beside it either
            _remove_leftovers(study.shards)
        LOG.info(f"{study.shards.root}: finished before, from the same slides; nothing to do")
        return
    found = _Found()
    with atomic_path(study.shards.index) as partial:
        _write_index(partial, _done_tables(manifest, study, config, found))
        _refuse_faults(study.shards, found.faults)
        _refuse_tumor_free(found.totals[Part.TRAINING], manifest)
    _remove_leftovers(study.shards)
    content = {
        "format": "bccdist shard set",
        "format_version": FORMAT_VERSION,
        "config": {**asdict(config), "digest": config_digest(config)},
        "manifest_digest": manifest.digest,
        "phantom": manifest.is_phantom,
        "index": _describe_index(study.shards, found),
        "tars": [asdict(tar) for tar in found.tars],
        "parts": {part.value: _describe_part(found.totals[part]) for part in TILED_PARTS},
        "training_epoch": _describe_epoch(found.totals[Part.TRAINING]),
    }
    write_sealed_json(study.shards.manifest, content)


def _is_finished(manifest: Manifest, study: StudyPaths, config: ShardConfig) -> bool:
    """Whether the set is whole and was made of the rows that are there; then it stays as it is."""
    if not study.shards.manifest.exists():
        return False
    try:
        content = read_set(study.shards.root).manifest
    except ShardError as error:
        LOG.warning(f"{error}: it is finished again")
        return False
    found = _Found()
    for _ in _done_tables(manifest, study, config, found):
        pass
    said = [content.get(name) for name in ("tars", "manifest_digest", "phantom")]
    is_same = said == [[asdict(tar) for tar in found.tars], manifest.digest, manifest.is_phantom]
    return is_same and not found.faults and content["config"].get("digest") == config_digest(config)


def _done_tables(manifest: Manifest, study: StudyPaths, config: ShardConfig, found: _Found) -> Iterator[pa.Table]:
    """The rows of every slide, one after the other; what was found is noted on the way.

    They come by slide_id, so that neither workers nor the manifest's order show in the index.
    """
    for record in sorted(manifest.slides_of(TILED_PARTS), key=lambda record: record.slide_id):
        try:
            rows = done_rows(study.shards, record, manifest, config)
        except OSError as error:
            found.faults.append(f"{record.slide_id}: {error}")
            continue
        if rows is None:
            reason = read_reason(study.failure(STAGE, record.slide_id))
            found.faults.append(f"{record.slide_id}: {reason or 'not built, or changed since it was built'}")
            continue
        found.tars.append(rows.tar)
        found.totals[record.part] += _totals_of(rows)
        yield rows.table


def _totals_of(rows: SlideRows) -> PoolTotals:
    members = {pool: rows.table[f"pool_{pool}"].to_numpy() for pool in POOLS}
    return pool_totals(members, rows.table["tumornest_fraction"].to_numpy())


def _write_index(path: Path, tables: Iterable[pa.Table]) -> None:
    """All tables in one file; no more than one row group of them is held at a time."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=_FEW_VALUES) as writer:
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(table.replace_schema_metadata(SCHEMA.metadata))
            if sum(each.num_rows for each in waiting) >= _ROWS_PER_GROUP:
                _write_group(writer, waiting)
                waiting.clear()
        _write_group(writer, waiting)


def _write_group(writer: pq.ParquetWriter, tables: Sequence[pa.Table]) -> None:
    if tables:
        table = pa.concat_tables(tables).combine_chunks()
        writer.write_table(table, row_group_size=max(1, table.num_rows))


def _refuse_faults(paths: ShardSetPaths, faults: Sequence[str]) -> None:
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ShardError(
            f"{paths.root}: {len(faults)} slide(s) are not done, so the set cannot be finished; mend or leave out "
            f"these and run the shards stage again:\n{listed}"
        )


def _refuse_leaks(manifest: Manifest, study: StudyPaths, *, num_workers: int | None) -> None:
    """Refuse pixels that are in two parts, before anything is learned from them; tell what else may be there twice.

    All slides of the manifest are compared, those without shards too.
    """
    fingerprints, reasons = fingerprints_of(
        manifest.slides,
        keep_in=study.fingerprints,
        also_in=[kept_beside(manifest.path)],
        num_workers=num_workers,
        timeout_s=LONGEST_FINGERPRINT_S,
    )
    for slide_id, reason in reasons.items():
        LOG.warning(f"slide {slide_id} was not compared with the others, and may be there twice: {reason}")
    leaks = pixel_leaks(manifest, {slide_id: found.content for slide_id, found in fingerprints.items()})
    refused = [f"  - slide {leak.slide_id}: {leak.text}" for leak in leaks if leak.is_across_parts]
    within = [leak for leak in leaks if not leak.is_across_parts]
    for leak in (*within, *likeness_leaks(manifest, fingerprints)):
        LOG.warning(f"slide {leak.slide_id}: {leak.text}")
    if refused:
        listed = "\n".join(refused)
        raise ShardError(f"{manifest.path}: the same pixels are in two parts, so the set is not finished:\n{listed}")


def _refuse_tumor_free(training: PoolTotals, manifest: Manifest) -> None:
    if not training.num_patches["tumor"]:
        raise ShardError(
            f"{manifest.path}: none of the {training.num_distinct} training patches has 0.05 % or more of its pixels "
            "in Tumornest, so nothing can be learned; check the annotations of the Training slides, and in kinds.toml "
            "which of their names or values mean Tumornest"
        )


def _remove_leftovers(paths: ShardSetPaths) -> None:
    """Every slide is done and no writer has business here: partial files were left by writers that were broken off."""
    for path in sorted(paths.root.rglob("*.partial-*")):
        LOG.warning(f"{path}: left by a writer that was broken off; removed")
        path.unlink(missing_ok=True)


def _describe_index(paths: ShardSetPaths, found: _Found) -> dict[str, Any]:
    return {
        "path": paths.index.name,
        "bytes": paths.index.stat().st_size,
        "sha256": sha256_of_file(paths.index),
        "num_patches": sum(totals.num_distinct for totals in found.totals.values()),
    }


def _describe_part(totals: PoolTotals) -> dict[str, Any]:
    return {"num_patches": totals.num_distinct, "pools": dict(totals.num_patches)}


def _describe_epoch(training: PoolTotals) -> dict[str, Any]:
    """What an epoch of the default balance draws from the set, and the pixel unbalances of Table 2's last row."""
    balance = BalanceConfig()
    draws = draws_of_pools(training.num_patches, balance)
    for pool in empty_pools(training.num_patches, balance):
        LOG.warning(f"pool {pool} of Table 2 holds no training patch, so nothing would be drawn from it")
    return {
        "draws": draws,
        "num_draws": sum(draws.values()),
        "unbalance_before": unbalance_before(training),
        "unbalance_after": expected_unbalance(training, draws),
    }
