"""Every value of the tables against the one that is computed anew."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from analysis.evidence_pack.check.data_tables import check_grid, selection, table1, table2
from analysis.evidence_pack.check.findings import Findings, Row, same_value
from analysis.evidence_pack.check.model_tables import (
    comparisons,
    decision_curve,
    reliability,
    reliability_bins,
    roc,
    roc_curves,
)
from analysis.evidence_pack.check.raw_rows import Pack
from analysis.evidence_pack.check.risk_tables import error_groups, roc_bands, stability, triage
from analysis.evidence_pack.check.slide_tables import flip_shifts, flow, reached, slides, verdict_counts
from analysis.evidence_pack.check.verdict_tables import (
    intervals,
    predictive_values,
    section_verdicts,
    subgroups,
    table4,
    table5,
    units,
)

TABLES: dict[str, tuple[Callable[[Pack], list[Row]], tuple[str, ...]]] = {
    "table1": (table1, ("part",)),
    "table2": (table2, ("pool",)),
    "selection": (selection, ("setting",)),
    "table3": (selection, ("setting",)),
    "table4": (table4, ("setting",)),
    "table5": (table5, ("psi",)),
    "section_verdicts": (section_verdicts, ("setting", "psi", "slide_id", "section_id")),
    "nearest_verdicts": (section_verdicts, ("setting", "slide_id", "section_id")),
    "intervals": (intervals, ("part", "setting", "psi", "figure")),
    "units": (units, ("setting", "unit")),
    "predictive_values": (predictive_values, ("setting", "is_own", "prevalence")),
    "subgroups": (subgroups, ("setting", "column", "group")),
    "comparisons": (comparisons, ("one", "other")),
    "roc": (roc, ("setting",)),
    "roc_curves": (roc_curves, ("setting", "t_p")),
    "reliability": (reliability, ("setting",)),
    "reliability_bins": (reliability_bins, ("setting", "probability_low")),
    "decision_curve": (decision_curve, ("setting", "threshold")),
    "flip_shifts": (flip_shifts, ("setting", "verdict")),
    "verdict_counts": (verdict_counts, ("part", "setting")),
    "slides": (slides, ("setting", "slide_id")),
    "flow": (flow, ("setting", "step")),
    "error_groups": (error_groups, ("setting", "kind", "group")),
    "stability": (stability, ("setting",)),
    "triage": (triage, ("setting", "miss_rate", "false_alarm_rate")),
    "roc_bands": (roc_bands, ("setting", "curve", "x")),
    "reached": (reached, ("part", "setting", "levels", "confidence")),
}
"""What is computed anew: how, and the columns that name a row."""
SOME_ROWS = {"nearest_verdicts"}
"""Tables that show some of the rows alone."""


def compute(pack: Pack, found: Findings) -> dict[str, list[Row]]:
    """All tables of the pack computed anew and compared; those that are not are named."""
    computed: dict[str, list[Row]] = {}
    for path in sorted((pack.folder / "tables").glob("*.parquet")):
        name = path.stem
        if name in TABLES or name == "grid":
            rows = found.guarded(path.name, lambda name=name: _computed(name, pack, found))  # type: ignore[misc]
            computed[name] = rows or []
        else:
            num = found.guarded(path.name, lambda name=name: _num_numbers(pack.table(name)))  # type: ignore[misc]
            found.leave("tables", f"{name} ({num} numbers)")
    return computed


def _computed(name: str, pack: Pack, found: Findings) -> list[Row]:
    """The rows of one table, which are compared with the written ones."""
    if name == "grid":
        check_grid(pack, found)
        return []
    function, keys = TABLES[name]
    rows = function(pack)
    _compare(name, rows, pack.table(name), keys, found)
    return rows


def _num_numbers(rows: Sequence[Row]) -> int:
    return sum(isinstance(each, int | float) and not isinstance(each, bool) for row in rows for each in row.values())


def _compare(name: str, computed: Sequence[Row], written: Sequence[Row], keys: Sequence[str], found: Findings) -> None:
    if not computed and name in {"selection", "table3"}:
        found.leave("selection", f"{name}: the choice came with a model, whose study is elsewhere")
        return
    if not computed and name == "table2":
        found.leave("tables", "table2: there are no patches in the pack")
        return
    mine = {_key(row, keys): row for row in computed if name not in SOME_ROWS or row["is_final"]}
    told, num, there = [], 0, set()
    for row in written:
        key = _key(row, keys)
        there.add(key)
        spoken = ", ".join(map(str, key))
        if key not in mine:
            told.append(f"tables/{name}.parquet: the row {spoken} does not follow from the ledger")
            continue
        for column, value in row.items():
            if column not in mine[key]:
                found.leave("columns of tables", f"{name}.{column}")
                continue
            num += 1
            if not same_value(value, mine[key][column]):
                told.append(
                    f"tables/{name}.parquet: row {spoken}, column {column}: got {value}, expected "
                    f"{mine[key][column]} by the ledger"
                )
    if name not in SOME_ROWS:
        told += [f"tables/{name}.parquet: the row {', '.join(map(str, key))} is gone" for key in mine.keys() - there]
    found.fault(f"tables/{name}.parquet", told)
    found.done.append(f"{name}: {num} values")


def _key(row: Row, keys: Sequence[str]) -> tuple[Any, ...]:
    values = (row[name] for name in keys)
    return tuple(
        None if each is None or (isinstance(each, float) and math.isnan(each))
        else round(each, 9) if isinstance(each, float) else each
        for each in values
    )  # fmt: skip
