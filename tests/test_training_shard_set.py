"""Training reads a finished set whole, and refuses one that is unfinished, stale or of another version."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bccdist.errors import ShardError
from bccdist.files import sha256_of_file, write_json
from bccdist.paths import ShardSetPaths
from bccdist.training.shard_set import FORMAT_VERSION, SCHEMA, read_set

_VALUES = {pa.string(): "a", pa.int64(): 7, pa.float64(): 0.5, pa.bool_(): True}


@pytest.fixture
def paths(tmp_path: Path) -> ShardSetPaths:
    paths = ShardSetPaths(tmp_path)
    rows = [{field.name: _VALUES[field.type] for field in SCHEMA}] * 3
    _write(paths, pa.Table.from_pylist(rows, schema=SCHEMA))
    return paths


def _write(paths: ShardSetPaths, table: pa.Table, *, version: str = FORMAT_VERSION) -> None:
    pq.write_table(table, paths.index)
    manifest = {
        "format_version": version,
        "phantom": True,
        "config": {"target_mpp": 0.92},
        "index": {"sha256": sha256_of_file(paths.index)},
    }
    write_json(paths.manifest, manifest)


def test_a_finished_set_is_read(paths: ShardSetPaths) -> None:
    shard_set = read_set(paths.root)
    assert list(shard_set.index.columns) == SCHEMA.names
    assert len(shard_set.index) == 3
    assert shard_set.is_phantom
    assert shard_set.target_mpp == 0.92
    assert shard_set.digest == sha256_of_file(paths.index)[:12]


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
    with pytest.raises(ShardError, match="format version is '0', expected '1'"):
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
