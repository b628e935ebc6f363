"""Ledger files hold the schema and nothing else, are read by plain parquet, and merge without doubles."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from study_folders import ledger_row

from bccdist.errors import LedgerError
from bccdist.heatmaps.ledger import KEY, SCHEMA, merge, read_rows, write_rows


def test_rows_come_back_and_metadata_stays(tmp_path: Path) -> None:
    rows = [ledger_row(), ledger_row(section_id="b", label=None)]
    write_rows(tmp_path / "a.parquet", rows, metadata={"made_by": "a test"})
    assert read_rows(tmp_path / "a.parquet").to_pylist() == pa.Table.from_pylist(rows, schema=SCHEMA).to_pylist()
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.equals(SCHEMA)
    assert schema.metadata[b"made_by"] == b"a test"
    assert schema.metadata[b"bccdist.schema_version"] == b"1"


def test_a_slide_without_sections_has_a_file_without_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", [])
    assert read_rows(tmp_path).num_rows == 0


def test_rows_that_differ_from_the_schema_are_refused(tmp_path: Path) -> None:
    row = ledger_row()
    with pytest.raises(LedgerError, match="colour"):
        write_rows(tmp_path / "a.parquet", [{**row, "colour": "red"}])
    del row["psi"]
    with pytest.raises(LedgerError, match="psi"):
        write_rows(tmp_path / "a.parquet", [row])
    with pytest.raises(LedgerError, match="does not fit"):
        write_rows(tmp_path / "a.parquet", [ledger_row(epoch="first")])
    assert not list(tmp_path.iterdir())


def test_merge_sorts_by_key(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows" / "b.parquet", [ledger_row(slide_id="b", epoch=2), ledger_row(slide_id="b")])
    write_rows(tmp_path / "rows" / "a.parquet", [ledger_row(slide_id="a")])
    merge(tmp_path / "rows", tmp_path / "all.parquet")
    keys = [tuple(row[name] for name in KEY) for row in read_rows(tmp_path / "all.parquet").to_pylist()]
    assert [key[0] for key in keys] == ["a", "b", "b"]
    assert keys == sorted(keys)


def test_a_section_that_stands_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_rows(tmp_path / "rows" / f"{name}.parquet", [ledger_row()])
    with pytest.raises(LedgerError, match="twice"):
        merge(tmp_path / "rows", tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()


def test_a_missing_or_foreign_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no section ledger"):
        read_rows(tmp_path / "none")
    pq.write_table(pa.table({"slide_id": ["a"]}), tmp_path / "foreign.parquet")
    with pytest.raises(LedgerError, match="schema version"):
        read_rows(tmp_path)
