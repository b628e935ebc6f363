"""Training reads a finished set whole, and refuses one that is unfinished, stale or of another version."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import assert_never_used
from small_study import SmallStudy

from bccdist.errors import ShardError
from bccdist.files import sha256_of_file, write_json
from bccdist.parts import Part
from bccdist.paths import ShardSetPaths
from bccdist.shard_set.index import FORMAT_VERSION, SCHEMA, ShardSet, read_set
from bccdist.shard_set.pools import POOLS

_VALUES = {pa.string(): "a", pa.int64(): 7, pa.float64(): 0.5, pa.bool_(): True}


@pytest.fixture
def paths(tmp_path: Path) -> ShardSetPaths:
    paths = ShardSetPaths(tmp_path)
    rows = [{field.name: _VALUES[field.type] for field in SCHEMA}] * 3
    _write(paths, pa.Table.from_pylist(rows, schema=SCHEMA))
    return paths


def _write(paths: ShardSetPaths, table: pa.Table, *, version: str = FORMAT_VERSION, row_group_size: int = 100) -> None:
    pq.write_table(table, paths.index, row_group_size=row_group_size)
    manifest = {
        "format_version": version,
        "phantom": True,
        "config": {"target_mpp": 0.92},
        "index": {"sha256": sha256_of_file(paths.index)},
    }
    write_json(paths.manifest, manifest)


def test_a_finished_set_is_read(paths: ShardSetPaths) -> None:
    shard_set = read_set(paths.root)
    assert shard_set.is_phantom
    assert shard_set.target_mpp == 0.92
    assert shard_set.digest == sha256_of_file(paths.index)[:12]
    assert shard_set.column("image_offset").tolist() == [7, 7, 7]
    assert shard_set.column("pool_tumor").tolist() == [True, True, True]
    assert shard_set.key(2) == "a"


ROWS = [
    {"key": "a_0", "part": "Training", "tar": "tars/a.tar", "tumornest_fraction": 0.5, "pool_stroma": True},
    {"key": "b_0", "part": "Validation I", "tar": "tars/b.tar", "tumornest_fraction": 0.1, "pool_stroma": True},
    {"key": "c_0", "part": "Training", "tar": "tars/c.tar", "tumornest_fraction": 0.2, "pool_stroma": False},
    {"key": "c_1", "part": "Training", "tar": "tars/c.tar", "tumornest_fraction": 0.0, "pool_stroma": False},
]
SHA256 = [hashlib.sha256(row["key"].encode()).hexdigest() for row in ROWS]  # type: ignore[attr-defined]


@pytest.fixture(params=[1, 3, 100_000], ids="row groups of {}".format)
def small_set(paths: ShardSetPaths, request: pytest.FixtureRequest) -> ShardSet:
    """Of `ROWS`; how the index is cut into row groups does not show."""
    default = {field.name: _VALUES[field.type] for field in SCHEMA}
    rows = [{**default, **row, "mask_sha256": sha256} for row, sha256 in zip(ROWS, SHA256, strict=True)]
    _write(paths, pa.Table.from_pylist(rows, schema=SCHEMA), row_group_size=request.param)
    return read_set(paths.root)


def test_texts_that_repeat_are_read_as_codes(small_set: ShardSet) -> None:
    codes, tars = small_set.coded_column("tar")
    assert codes.dtype == np.int32
    assert [tars[code] for code in codes] == [row["tar"] for row in ROWS]
    assert len(tars) == 3


def test_digests_are_read_as_their_first_eight_bytes(small_set: ShardSet) -> None:
    digests = small_set.digest_column("mask_sha256")
    assert digests.dtype == np.uint64
    assert [f"{digest:016x}" for digest in digests.tolist()] == [sha256[:16] for sha256 in SHA256]


def test_a_part_has_the_rows_pools_and_tumor_of_its_patches(small_set: ShardSet) -> None:
    training = small_set.part(Part.TRAINING)
    assert training.rows.tolist() == [0, 2, 3]
    assert training.tumornest_fraction.tolist() == [0.5, 0.2, 0.0]
    assert set(training.members) == set(POOLS)
    assert training.members["stroma"].tolist() == [True, False, False]
    assert training.totals.num_patches["stroma"] == 1
    assert training.totals.tumornest_sum["tumor"] == pytest.approx(0.7)
    assert small_set.part(Part.VALIDATION_1).rows.tolist() == [1]


def test_a_part_without_patches_is_refused(small_set: ShardSet) -> None:
    with pytest.raises(ShardError, match=r"no patches of Test, expected some to train with; give slides.csv slides"):
        small_set.part(Part.TEST)


def test_an_unfinished_set_is_refused(paths: ShardSetPaths) -> None:
    paths.manifest.unlink()
    with pytest.raises(ShardError, match=r"is unfinished: manifest.json is not there; run the shards stage again"):
        read_set(paths.root)


def test_a_set_without_its_index_is_refused(paths: ShardSetPaths) -> None:
    paths.index.unlink()
    with pytest.raises(ShardError, match=r"index.parquet is not there"):
        read_set(paths.root)


def test_a_stale_index_is_refused(paths: ShardSetPaths) -> None:
    pq.write_table(pq.read_table(paths.index).slice(1), paths.index)
    with pytest.raises(ShardError, match="stale or damaged"):
        read_set(paths.root)


def test_another_format_version_is_refused(paths: ShardSetPaths) -> None:
    _write(paths, pq.read_table(paths.index), version="0")
    with pytest.raises(ShardError, match="format version is '0', expected '2'"):
        read_set(paths.root)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"key": ["a"]}),
        pa.Table.from_pylist([], schema=SCHEMA.with_metadata({"bccdist.schema_version": "0"})),
        pa.Table.from_pylist([], schema=SCHEMA.remove(0)),
    ],
    ids=["foreign table", "other version", "column missing"],
)
def test_an_index_of_another_schema_is_refused(paths: ShardSetPaths, table: pa.Table) -> None:
    _write(paths, table)
    with pytest.raises(ShardError, match="schema version"):
        read_set(paths.root)


def _content(shard_set: ShardSet) -> list[object]:
    """All that training asks of an index and a manifest."""
    columns = [name for name in SCHEMA.names if name.endswith(("offset", "bytes", "fraction")) or "pool" in name]
    texts = [shard_set.coded_column(name)[1] for name in ("part", "tar", "slide_id")]
    about = [shard_set.digest, shard_set.target_mpp, shard_set.is_phantom]
    return [*about, *texts, *(shard_set.column(name).tolist() for name in columns)]


@pytest.mark.parametrize("name", ["index", "manifest"])
def test_a_damaged_index_or_manifest_is_never_used(study: SmallStudy, tmp_path: Path, name: str) -> None:
    paths = study.copied_to(tmp_path).shards
    assert assert_never_used(getattr(paths, name), lambda: _content(read_set(paths.root)), seed=1, num=100) > 80
