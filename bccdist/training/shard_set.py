"""A finished shard set: its manifest and its index, one row a patch (shards/FORMAT.md).

`SCHEMA` is the contract of the index; its version stands in the file's metadata. The tars hold the samples, and
the index says where each sample lies, how much of it is annotated, and which pools of Table 2 it belongs to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bccdist.errors import ShardError
from bccdist.files import read_json, sha256_of_file
from bccdist.paths import ShardSetPaths
from bccdist.training.pools import POOLS

FORMAT_VERSION = "1"
_POOL_TEXTS = {
    "tumor_free": "Tumornest under 0.05 % of the patch",
    "tumor": "Tumornest at least 0.05 % of the patch",
    "tumor_dense": "Tumornest at least 10 % of the patch",
    "stroma": "Stroma at least 0.05 % of the patch",
    "normal": "annotated Normal (look-alikes) at least 0.05 % of the patch",
}
_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("key", pa.string(), "name of the sample in its tar: slide_id and origin"),
    ("slide_id", pa.string(), "the slide, as in slides.csv"),
    ("section_id", pa.string(), "the section whose box shares most area with the patch; empty if none does"),
    ("part", pa.string(), "Training or Validation I"),
    ("x_level0_px", pa.int64(), "left edge of the patch"),
    ("y_level0_px", pa.int64(), "top edge of the patch"),
    ("mpp", pa.float64(), "um per pixel of the patch, as it was read"),
    ("tumornest_fraction", pa.float64(), "share of the patch's 512 x 512 px in Tumornest, 0 to 1"),
    ("stroma_fraction", pa.float64(), "share of the patch's 512 x 512 px in Stroma, 0 to 1"),
    ("normal_fraction", pa.float64(), "share of the patch's 512 x 512 px in annotated Normal, 0 to 1"),
    ("tissue_fraction", pa.float64(), "share of the patch's 512 x 512 px that is tissue, 0 to 1"),
    *((f"pool_{name}", pa.bool_(), f"Table 2: {_POOL_TEXTS[name]}") for name in POOLS),
    ("tar", pa.string(), "the tar, relative to the set's folder"),
    ("image_offset", pa.int64(), "first byte of the JPEG in the tar"),
    ("image_bytes", pa.int64(), "length of the JPEG"),
    ("image_sha256", pa.string(), "SHA-256 of the JPEG"),
    ("mask_offset", pa.int64(), "first byte of the mask PNG in the tar"),
    ("mask_bytes", pa.int64(), "length of the mask PNG"),
    ("mask_sha256", pa.string(), "SHA-256 of the mask PNG"),
)
SCHEMA = pa.schema(
    [pa.field(name, kind, nullable=False, metadata={"description": text}) for name, kind, text in _COLUMNS],
    metadata={"bccdist.schema": "shard index", "bccdist.schema_version": FORMAT_VERSION},
)


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """A finished shard set."""

    root: Path
    manifest: Mapping[str, Any]
    """The content of manifest.json."""
    index: pd.DataFrame
    """All patches, by slide_id, then from top to bottom, then from left to right; columns as in `SCHEMA`."""

    @property
    def digest(self) -> str:
        """Names the content of the set: the index holds the SHA-256 of every image and mask."""
        return str(self.manifest["index"]["sha256"])[:12]

    @property
    def target_mpp(self) -> float:
        """Um per pixel that the patches were meant to have."""
        return float(self.manifest["config"]["target_mpp"])

    @property
    def is_phantom(self) -> bool:
        """Whether any of its slides is drawn instead of scanned."""
        return bool(self.manifest["phantom"])


def read_set(root: Path) -> ShardSet:
    """The finished shard set in the folder `root`.

    Raises:
        ShardError: the set is unfinished, of another format version, or its index is not the one it was finished with.
    """
    paths = ShardSetPaths(root)
    manifest = read_set_manifest(paths)
    if not paths.index.exists():
        raise ShardError(f"{paths.index} is not there, but manifest.json names it; run the shards stage again")
    sha256 = sha256_of_file(paths.index)
    if sha256 != manifest["index"]["sha256"]:
        raise ShardError(
            f"{paths.index}: its SHA-256 is {sha256[:12]}..., expected {manifest['index']['sha256'][:12]}... by "
            "manifest.json: the index is stale or damaged; run the shards stage again"
        )
    return ShardSet(root=root, manifest=manifest, index=read_index(paths.index).to_pandas())


def read_set_manifest(paths: ShardSetPaths) -> dict[str, Any]:
    """The content of a set's manifest.json.

    Raises:
        ShardError: it is not there, is no JSON, or has another format version.
    """
    if not paths.manifest.exists():
        raise ShardError(f"{paths.root} is unfinished: {paths.manifest.name} is not there; run the shards stage again")
    try:
        manifest: dict[str, Any] = read_json(paths.manifest)
    except ValueError as error:
        raise ShardError(f"{paths.manifest}: not valid JSON: {error}; run the shards stage again") from error
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ShardError(
            f"{paths.manifest}: format version is {manifest.get('format_version')!r}, expected {FORMAT_VERSION!r}; "
            "build the set again in an empty folder"
        )
    return manifest


def read_index(path: Path) -> pa.Table:
    """The rows in an index, or in the rows file of one slide.

    Raises:
        ShardError: the file is no parquet file, or has another schema.
    """
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ShardError(f"{path}: not a readable parquet file: {error}; delete it and build again") from error
    version = (table.schema.metadata or {}).get(b"bccdist.schema_version", b"none").decode()
    if version != FORMAT_VERSION or not table.schema.equals(SCHEMA):
        raise ShardError(
            f"{path}: schema version {version} with {len(table.column_names)} columns, expected {FORMAT_VERSION} with "
            f"{len(SCHEMA.names)}; build the set again in an empty folder"
        )
    return table
