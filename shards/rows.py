"""The rows file of one slide: its part of the index, and what it was made from.

It is written after the slide's tar, so its presence means that the slide is done. A slide whose file, annotation,
sections, kinds or configuration has changed since is not done any more.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bccdist.configuration import ShardConfig, config_digest
from bccdist.errors import ShardError
from bccdist.files import digest_of
from bccdist.parquet import IDENTITY_KEY, identity_in, write_table
from bccdist.parts import Part
from bccdist.paths import ShardSetPaths
from bccdist.remote.files import fingerprint_of, sha256_of
from bccdist.shard_set.index import FORMAT_VERSION, SCHEMA, read_index
from bccdist.shard_set.pools import POOLS, pool_members
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.slides.versions import SECTION_METHOD

TILED_PARTS = (Part.TRAINING, Part.VALIDATION_1)
"""The parts that are stored as patches; slides of the others are read directly."""
_TAR_KEY = b"bccdist.tar"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a slide's patches are made from; while it is the same, they need not be made again."""

    format_version: str
    config_digest: str
    slide_fingerprint: str
    annotation_digest: str
    manifest_digest: str
    """Names what the manifest says of this slide, as far as it reaches the patches (labels, for one, do not), and the
    method by which tissue becomes sections."""


@dataclass(frozen=True, kw_only=True)
class TarRecord:
    """The tar of one slide, as it was written."""

    path: str
    """Path from the set's folder."""
    bytes: int
    sha256: str
    num_patches: int


@dataclass(frozen=True, kw_only=True)
class SlideRows:
    """The content of a rows file."""

    identity: Identity
    tar: TarRecord
    table: pa.Table


def identity_of(
    record: SlideRecord, manifest: Manifest, config: ShardConfig, *, before: Identity | None = None
) -> Identity:
    """What the patches of a slide would be made from now.

    Args:
        record: the slide.
        manifest: its sections and kinds.
        config: how.
        before: what they were made from; it stands for a slide or an annotation that has gone since.

    Raises:
        OSError: the slide or its annotation cannot be read, or has gone and nothing was made from it.
    """
    sections = [(s.section_id, s.box_level0_px) for s in manifest.sections_of(record.slide_id)]
    about = [record.slide_id, record.part, record.mpp, sections, _described_kinds(manifest), SECTION_METHOD]
    return Identity(
        format_version=FORMAT_VERSION,
        config_digest=config_digest(config),
        slide_fingerprint=_unless_gone(
            lambda: fingerprint_of(record.path), None if before is None else before.slide_fingerprint
        ),
        annotation_digest=_unless_gone(
            lambda: digest_of([sha256_of(path) for path in record.annotations]),
            None if before is None else before.annotation_digest,
        ),
        manifest_digest=digest_of(about),
    )


def _unless_gone(read: Callable[[], str], before: str | None) -> str:
    try:
        return read()
    except FileNotFoundError:
        if before is None:
            raise
        return before


def _described_kinds(manifest: Manifest) -> list[Any]:
    tables: tuple[Mapping[Any, Any], ...] = (manifest.kinds.names, manifest.kinds.mask_values)
    return [sorted((str(word), str(kind)) for word, kind in table.items()) for table in tables]


def tabulate(rows: Iterable[Mapping[str, Any]], *, tar: str) -> pa.Table:
    """The rows of one slide as a table of the index, with the pools of Table 2."""
    rows = list(rows)
    shares = {name: np.array([row[f"{name}_fraction"] for row in rows]) for name in ("tumornest", "stroma", "normal")}
    pools = pool_members(**shares)
    complete = [
        {**row, "tar": tar, **{f"pool_{name}": bool(pools[name][number]) for name in POOLS}}
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(complete, schema=SCHEMA)


def write_rows(path: Path, rows: SlideRows) -> None:
    """Write a rows file atomically."""
    metadata = {
        **(SCHEMA.metadata or {}),
        IDENTITY_KEY: json.dumps(asdict(rows.identity), sort_keys=True),
        _TAR_KEY: json.dumps(asdict(rows.tar), sort_keys=True),
    }
    write_table(path, rows.table.replace_schema_metadata(metadata))


def read_rows(path: Path) -> SlideRows:
    """The content of a rows file.

    Raises:
        ShardError: it cannot be read, or does not say what it was made from.
    """
    table = read_index(path)
    metadata = table.schema.metadata or {}
    try:
        identity = Identity(**identity_in(metadata))
        tar = TarRecord(**json.loads(metadata[_TAR_KEY]))
    except (KeyError, TypeError, ValueError) as error:
        raise ShardError(
            f"{path}: does not say what it was made from ({error!r}); delete it and build again"
        ) from error
    return SlideRows(identity=identity, tar=tar, table=table)


def done_rows(paths: ShardSetPaths, record: SlideRecord, manifest: Manifest, config: ShardConfig) -> SlideRows | None:
    """The rows of a slide that is done, made from what it would be made from now, and whose tar is there; else None.

    Raises:
        ShardError: its rows file cannot be read.
        OSError: the slide or its annotation cannot be read.
    """
    path = paths.rows(record.slide_id)
    rows = read_rows(path) if path.exists() else None
    identity = identity_of(record, manifest, config, before=None if rows is None else rows.identity)
    if rows is None or rows.identity != identity:
        return None
    tar = paths.root / rows.tar.path
    return rows if tar.exists() and tar.stat().st_size == rows.tar.bytes else None
