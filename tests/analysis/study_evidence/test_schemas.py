"""Every parquet file of the analysis says in itself what its columns mean, and docs/parquet.md says the same."""

from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from study_folders import sections, write_study

from analysis.page.summary import make_tables
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.schemas import SCHEMAS, document, with_descriptions
from analysis.study_evidence.table import Table
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import LedgerError
from bccdist.paths import StudyPaths

DOCUMENT = Path(__file__).parents[3] / "docs" / "parquet.md"
FROM_A_LEDGER_ALONE = {
    *("table3", "stability", "table4", "intervals", "comparisons", "figure5", "roc", "predictive_values", "reached"),
    *("reliability", "error_groups", "flip_shifts", "nearest_verdicts", "triage", "table5", "decision_curve"),
    *("sample_size", "margin_bounds"),
}
"""What `make_tables` can make without a manifest, shards or a linear merge."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    rows = [
        {**row, "setting": setting, "prefilled": "Tumor"}
        for setting in ("unet", "resnet34_ds")
        for row in [*sections(tp=20, fn=1, fp=2, tn=20), *sections(tp=20, fn=3, fp=2, tn=20, part="Test")]
    ]
    paths = write_study(tmp_path_factory.mktemp("schemas"), rows)
    select_thresholds(paths.root, SelectConfig())
    made = {name for name, outcome in make_tables(Evidence(paths.root)).items() if isinstance(outcome, Table)}
    assert made == FROM_A_LEDGER_ALONE
    return paths


def parquets(paths: StudyPaths) -> list[Path]:
    found = sorted([*paths.tables.glob("*.parquet"), *paths.figures.glob("*.parquet")])
    assert len(found) > len(FROM_A_LEDGER_ALONE)
    return found


def test_the_document_is_the_one_that_the_code_makes() -> None:
    assert DOCUMENT.read_text() == document(), "run `python analysis/make.py schemas`"


def test_each_file_names_its_schema_version_and_columns(study: StudyPaths) -> None:
    for path in parquets(study):
        schema = pq.read_schema(path)
        described = SCHEMAS[path.stem]
        assert schema.metadata[b"bccdist.schema"] == path.stem.encode()
        assert schema.metadata[b"bccdist.schema_version"] == str(described.version).encode()
        assert {each.name: each.metadata[b"description"].decode() for each in schema} == {
            name: described.columns[name] for name in schema.names
        }


def test_every_described_column_is_written(study: StudyPaths) -> None:
    for path in parquets(study):
        assert set(pq.read_schema(path).names) == set(SCHEMAS[path.stem].columns), path.name


def test_duckdb_reads_what_pandas_reads(study: StudyPaths) -> None:
    for path in [study.sections, *parquets(study)]:
        ((num_rows,),) = duckdb.read_parquet(str(path)).aggregate("count(*)").fetchall()
        assert num_rows == len(pd.read_parquet(path)) > 0


def test_duckdb_makes_table_4_of_the_verdicts(study: StudyPaths) -> None:
    verdicts = duckdb.read_parquet(str(study.tables / "section_verdicts.parquet"))
    missed = verdicts.filter("is_final AND label = 'Tumor' AND verdict = 'Normal'").aggregate(
        "setting, count(*) AS num", "setting"
    )
    table4 = duckdb.read_parquet(str(study.tables / "table4.parquet")).select("setting, fn")
    assert sorted(missed.fetchall()) == sorted(table4.fetchall()) == [("resnet34_ds", 3), ("unet", 3)]


def test_a_ledger_row_decides_for_every_threshold_in_duckdb(study: StudyPaths) -> None:
    ledger = duckdb.read_parquet(str(study.sections)).filter("part = 'Test' AND setting = 'unet'")
    # t_p 0.6 is level 153 (lists count from 1 in SQL), t_A 5120 um2.
    called_tumor = ledger.filter("largest_region_px[153 + 1] * (mpp * pixel_px) ** 2 >= 5120")
    assert len(called_tumor.fetchall()) == 22


@pytest.mark.parametrize("name", ["table3", "no_such_file"])
def test_a_column_that_is_not_described_is_refused(name: str) -> None:
    with pytest.raises(LedgerError, match=rf"{name}.parquet: not described .*'surprise'"):
        with_descriptions(pd.DataFrame({"surprise": [1]}), name)
