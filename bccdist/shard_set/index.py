"""A finished shard set: its manifest and its index, one row a patch (shards/FORMAT.md).

`SCHEMA` is the contract of the index; its version stands in the file's metadata. The tars hold the samples, and
the index says where each sample lies, how much of it is annotated, and which pools of Table 2 it belongs to.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bccdist.errors import ShardError
from bccdist.files import sha256_of_file
from bccdist.parquet import read_table
from bccdist.parts import Part
from bccdist.paths import ShardSetPaths
from bccdist.seals import read_sealed_json
from bccdist.shard_set.pools import POOLS, PoolTotals, pool_totals

FORMAT_VERSION = "2"
DIGEST_BYTES = 8
"""First bytes of each SHA-256 that are kept in memory."""
_POOL_TEXTS = {
    "tumor_free": "Tumornest under 0.05 % of the patch",
    "tumor": "Tumornest at least 0.05 % of the patch",
    "tumor_dense": "Tumornest at least 10 % of the patch",
    "stroma": "Stroma at least 0.05 % of the patch",
    "normal": "annotated Normal (look-alikes) at least 0.05 % of the patch",
}
_MEMBER_TEXTS = {"image": "image", "mask": "mask's PNG", "json": "JSON"}


def _member_columns(kind: str) -> tuple[tuple[str, pa.DataType, str], ...]:
    """Where one member of a sample lies in its tar, and what it holds."""
    text = _MEMBER_TEXTS[kind]
    return (
        (f"{kind}_offset", pa.int64(), f"first byte of the {text} in the tar"),
        (f"{kind}_bytes", pa.int64(), f"length of the {text}"),
        (f"{kind}_sha256", pa.string(), f"SHA-256 of the {text}"),
    )


_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("key", pa.string(), "name of the sample in its tar: slide_id and origin"),
    ("slide_id", pa.string(), "the slide, as in slides.csv"),
    ("section_id", pa.string(), "the section that has most tissue in the patch; empty if none has any"),
    ("part", pa.string(), "Training or Validation I"),
    ("x_level0_px", pa.int64(), "left edge of the patch"),
    ("y_level0_px", pa.int64(), "top edge of the patch"),
    ("mpp_read", pa.float64(), "um per pixel of the patch, as it was read"),
    ("tumornest_fraction", pa.float64(), "share of the patch's 512 x 512 px in Tumornest, 0 to 1"),
    ("stroma_fraction", pa.float64(), "share of the patch's 512 x 512 px in Stroma, 0 to 1"),
    ("normal_fraction", pa.float64(), "share of the patch's 512 x 512 px in annotated Normal, 0 to 1"),
    ("tissue_fraction", pa.float64(), "share of the patch's 512 x 512 px that is tissue, 0 to 1"),
    *((f"pool_{name}", pa.bool_(), f"Table 2: {_POOL_TEXTS[name]}") for name in POOLS),
    ("tar", pa.string(), "the tar, relative to the set's folder"),
    *(column for kind in ("image", "mask", "json") for column in _member_columns(kind)),
)
SCHEMA = pa.schema(
    [pa.field(name, kind, nullable=False, metadata={"description": text}) for name, kind, text in _COLUMNS],
    metadata={"bccdist.schema": "shard index", "bccdist.schema_version": FORMAT_VERSION},
)


@dataclass(frozen=True, kw_only=True)
class PartPatches:
    """What balancing needs of the patches of one part, as arrays [n] in the index's order.

    Attributes:
        rows: their rows in the index.
        members: for each name in `POOLS` which of them belong to it.
        tumornest_fraction: share of each one's pixels in Tumornest, 0 to 1.
    """

    rows: NDArray[np.int64]
    members: Mapping[str, NDArray[np.bool_]]
    tumornest_fraction: NDArray[np.float64]

    @cached_property
    def totals(self) -> PoolTotals:
        """How many patches and how much tumor each pool holds."""
        return pool_totals(self.members, self.tumornest_fraction)


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """A finished shard set; columns of its index are read when they are asked for."""

    root: Path
    manifest: Mapping[str, Any]
    """The content of manifest.json."""

    @property
    def digest(self) -> str:
        """Names the content of the set: the index holds the SHA-256 of every member of every sample."""
        return str(self.manifest["index"]["sha256"])[:12]

    @property
    def target_mpp(self) -> float:
        """Resolution that the patches were meant to have, in um per pixel."""
        return float(self.manifest["config"]["target_mpp"])

    @property
    def is_phantom(self) -> bool:
        """Whether any of its slides is drawn instead of scanned."""
        return bool(self.manifest["phantom"])

    def column(self, name: str) -> NDArray[Any]:
        """One column of numbers or booleans: all patches, by slide_id, then top to bottom, then left to right."""
        return np.concatenate([piece.to_numpy(zero_copy_only=False) for piece in self._pieces(name)])

    def coded_column(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """One column of texts of which few differ: each row's code, and the texts by code."""
        table = pq.read_table(self._index, columns=[name], read_dictionary=[name])
        coded = table[name].unify_dictionaries().combine_chunks()
        return np.asarray(coded.indices.to_numpy(), dtype=np.int32), coded.dictionary.to_pylist()

    def digest_column(self, name: str) -> NDArray[np.uint64]:
        """The first eight bytes of each SHA-256 in a column: enough to notice damage, and an eighth of the texts."""
        heads = (pc.utf8_slice_codeunits(piece, 0, 2 * DIGEST_BYTES).to_pylist() for piece in self._pieces(name))
        digests = [np.frombuffer(bytes.fromhex("".join(head)), dtype=">u8") for head in heads]
        return np.concatenate(digests).astype(np.uint64)

    def key(self, row: int) -> str:
        """The name of one patch's sample; for messages: it reads the whole column."""
        return str(pq.read_table(self._index, columns=["key"], use_threads=False)["key"][row].as_py())

    def part(self, part: Part, *, without: Collection[str] = ()) -> PartPatches:
        """The patches of one part.

        Args:
            part: which.
            without: slides whose patches are left out.

        Raises:
            ShardError: there are none.
        """
        codes, names = self.coded_column("part")
        rows = np.flatnonzero(codes == names.index(part.value)) if part.value in names else np.empty(0, np.int64)
        if without:
            slides, slide_ids = self.coded_column("slide_id")
            is_left = np.array([slide_id not in without for slide_id in slide_ids])
            rows = rows[is_left[slides[rows]]]
        if not len(rows):
            raise ShardError(
                f"{self.root}: no patches of {part}, expected some to train with; give slides.csv slides of "
                "that part and run the shards stage again"
            )
        return PartPatches(
            rows=rows,
            members={pool: self.column(f"pool_{pool}")[rows] for pool in POOLS},
            tumornest_fraction=self.column("tumornest_fraction")[rows],
        )

    @property
    def _index(self) -> Path:
        return ShardSetPaths(self.root).index

    def _pieces(self, name: str) -> Iterator[pa.Array]:
        """A column piece by piece, so that the texts of millions of rows are never there at once."""
        file = pq.ParquetFile(self._index, pre_buffer=False)
        return (batch.column(0) for batch in file.iter_batches(columns=[name]))


def read_set(root: Path) -> ShardSet:
    """The finished shard set in the folder `root`; its index is checked, and not read yet.

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
    _check_schema(paths.index, pq.read_schema(paths.index))
    return ShardSet(root=root, manifest=manifest)


def read_set_manifest(paths: ShardSetPaths) -> dict[str, Any]:
    """The content of a set's manifest.json.

    Raises:
        ShardError: it is not there, is damaged, or has another format version.
    """
    if not paths.manifest.exists():
        raise ShardError(f"{paths.root} is unfinished: {paths.manifest.name} is not there; run the shards stage again")
    manifest = read_sealed_json(paths.manifest, error=ShardError, advice="run the shards stage again")
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
    table = read_table(path, error=ShardError, advice="delete it and build again")
    _check_schema(path, table.schema)
    return table


def _check_schema(path: Path, schema: pa.Schema) -> None:
    version = (schema.metadata or {}).get(b"bccdist.schema_version", b"none").decode()
    if version != FORMAT_VERSION or not schema.equals(SCHEMA):
        raise ShardError(
            f"{path}: schema version {version} with {len(schema.names)} columns, expected {FORMAT_VERSION} with "
            f"{len(SCHEMA.names)}; build the set again in an empty folder"
        )
