"""Ledger files hold the schema and nothing else, are read by plain parquet, and merge without doubles."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import assert_never_used
from study_folders import flat_margins, ledger_row

from bccdist.errors import LedgerError
from bccdist.sections import ledger
from bccdist.sections.ledger import KEY, SCHEMA, merge, read_rows, write_rows
from bccdist.slides.versions import SECTION_METHOD


def test_rows_come_back_and_metadata_stays(tmp_path: Path) -> None:
    margins_um = flat_margins(top_step=255, margin_um=8.0)  # without NaN, which equals nothing
    rows = [ledger_row(margin_um=margins_um), ledger_row(section_id="b", label=None, margin_um=margins_um)]
    write_rows(tmp_path / "a.parquet", rows, metadata={"made_by": "a test"})
    assert read_rows(tmp_path / "a.parquet").to_pylist() == pa.Table.from_pylist(rows, schema=SCHEMA).to_pylist()
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.equals(SCHEMA)
    assert schema.metadata[b"made_by"] == b"a test"
    assert schema.metadata[b"bccdist.schema_version"] == b"6"
    assert schema.metadata[b"bccdist.section_method"] == SECTION_METHOD.encode()


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


def test_merge_takes_what_it_gathered_from_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, target = tmp_path / "rows", tmp_path / "all.parquet"
    write_rows(rows / "a.parquet", [ledger_row(slide_id="a")])
    first = merge(rows, target)
    read = []
    whole = ledger._read_file
    monkeypatch.setattr(ledger, "_read_file", lambda file: read.append(file) or whole(file))
    assert merge(rows, target).to_pylist()[0]["label"] == first.to_pylist()[0]["label"] == "Tumor"
    assert read == [target]
    write_rows(rows / "b.parquet", [ledger_row(slide_id="b")])
    assert merge(rows, target)["slide_id"].to_pylist() == ["a", "b"]
    write_rows(rows / "b.parquet", [ledger_row(slide_id="b", label="Normal")])
    assert merge(rows, target)["label"].to_pylist() == ["Tumor", "Normal"]
    (rows / "a.parquet").unlink()
    assert merge(rows, target)["slide_id"].to_pylist() == ["b"]


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
    with pytest.raises(LedgerError, match="schema version is none"):
        read_rows(tmp_path)


def test_a_ledger_of_before_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_rows(tmp_path / "new.parquet", [ledger_row()])
    table = pq.read_table(tmp_path / "new.parquet").drop_columns(["margin_um"])
    pq.write_table(table.replace_schema_metadata({"bccdist.schema_version": "1"}), tmp_path / "old.parquet")
    with pytest.raises(LedgerError, match=r"old.parquet: .* is '1', expected '6'; run the inference stage again"):
        read_rows(tmp_path)


def test_a_ledger_by_another_section_method_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """The same columns, but they count something else."""
    write_rows(tmp_path / "a.parquet", [ledger_row()])
    table = pq.read_table(tmp_path / "a.parquet")
    metadata = {**SCHEMA.metadata, b"bccdist.section_method": b"tissue 1, sections 1"}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    expected = rf"section method is 'tissue 1, sections 1', expected '{SECTION_METHOD}'; run the inference stage again"
    with pytest.raises(LedgerError, match=expected):
        read_rows(tmp_path)


def test_steps_that_no_pixel_reaches_have_nan_and_not_null(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", [ledger_row()])
    column = read_rows(tmp_path / "a.parquet")["margin_um"].combine_chunks()
    values = column.flatten()
    assert (values.null_count, column.null_count) == (0, 0)
    assert np.isnan(values.to_numpy()).sum() == 5


@pytest.mark.parametrize("seed", range(3))
def test_damaged_rows_are_never_used(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "slide-0.parquet"
    write_rows(path, [ledger_row(section_id=f"section-{number}") for number in range(4)])
    assert assert_never_used(path, lambda: str(read_rows(path).to_pylist()), seed=seed) > 50


def test_what_was_gathered_is_gathered_anew_where_it_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, target = tmp_path / "rows", tmp_path / "all.parquet"
    write_rows(rows / "a.parquet", [ledger_row(slide_id="a")])
    merge(rows, target)
    whole = target.read_bytes()
    target.write_bytes(whole[:500] + b"?" + whole[501:])
    assert merge(rows, target)["slide_id"].to_pylist() == ["a"]
    assert target.read_bytes() == whole
    assert f"{target}: damaged" in caplog.text


def test_rows_from_before_quality_was_measured_are_read_as_not_measured(tmp_path: Path) -> None:
    rows = [ledger_row(margin_um=flat_margins(top_step=255, margin_um=8.0))]
    write_rows(tmp_path / "now.parquet", rows)
    quality = ("focus", "compression", "stain_density", "stain_hue", "ink_share", "fold_share", "air_share")
    lacking = (*quality, "features", "not_assessable")
    table = read_rows(tmp_path / "now.parquet")
    before = {**SCHEMA.metadata, b"bccdist.schema_version": b"5"}
    pq.write_table(table.drop_columns(list(lacking)).replace_schema_metadata(before), tmp_path / "before.parquet")
    found = read_rows(tmp_path / "before.parquet")
    assert found.schema.equals(SCHEMA)
    assert found.to_pylist() == [{**table.to_pylist()[0], **dict.fromkeys(lacking)}]
    assert pa.concat_tables([found, table]).num_rows == 2
