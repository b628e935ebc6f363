"""A table comes back as it was written or not at all, and plain parquet reads it."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import assert_never_used

from bccdist.errors import LedgerError
from bccdist.parquet import open_table, read_frame, read_table, write_table

_TABLE = pa.table(
    {"name": [f"section-{row}" for row in range(300)], "area": [row / 7 for row in range(300)]}
).replace_schema_metadata({"kind": "test"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_table(tmp_path / "folder" / "a.parquet", _TABLE)
    return tmp_path / "folder" / "a.parquet"


def _read(path: Path) -> pa.Table:
    return read_table(path, error=LedgerError, advice="make it again")


def test_a_table_comes_back_with_its_metadata(path: Path) -> None:
    assert _read(path).equals(_TABLE, check_metadata=True)
    opened = open_table(path, error=LedgerError, advice="")
    assert opened.schema.equals(_TABLE.schema, check_metadata=True)
    columns = ["name"]
    assert read_table(path, columns=columns, error=LedgerError, advice="").equals(_TABLE.select(columns))
    assert read_frame(path, error=LedgerError, advice="")["name"].tolist() == _TABLE["name"].to_pylist()


def test_others_read_it(path: Path) -> None:
    assert pq.read_table(path).equals(_TABLE, check_metadata=True)
    assert duckdb.read_parquet(str(path)).fetchall() == [tuple(row.values()) for row in _TABLE.to_pylist()]


def test_equal_tables_give_equal_bytes(path: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "b.parquet", _TABLE)
    assert path.read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_table_is_never_used(path: Path, seed: int) -> None:
    assert assert_never_used(path, lambda: _read(path), seed=seed) > 50


def test_no_parquet_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(LedgerError, match=r"a\.parquet: damaged, or no parquet file: .*; make it again"):
        _read(tmp_path / "a.parquet")
