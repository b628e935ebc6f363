"""Every value of the tables against the one that is computed anew."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from analysis.evidence_pack.check.checklist_texts import check_checklists
from analysis.evidence_pack.check.data_tables import check_grid, selection, table1, table2
from analysis.evidence_pack.check.doubt_tables import sensitivity_analysis
from analysis.evidence_pack.check.findings import Findings, Row, same_value
from analysis.evidence_pack.check.label_tables import agreement, reference_standard
from analysis.evidence_pack.check.margin_tables import check_margins, margin_bounds, section_margins
from analysis.evidence_pack.check.model_tables import comparisons, roc, roc_curves
from analysis.evidence_pack.check.probability_tables import decision_curve, reliability, reliability_bins
from analysis.evidence_pack.check.quality_table import quality
from analysis.evidence_pack.check.raw_rows import Pack
from analysis.evidence_pack.check.risk_tables import error_groups, roc_bands, stability, triage
from analysis.evidence_pack.check.size_tables import learning_curves, sample_size
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
    "reference_standard": (reference_standard, ("part", "labelled_by")),
    "agreement": (agreement, ("part", "one", "other")),
    "sensitivity_analysis": (sensitivity_analysis, ("setting", "kind", "case")),
    "sample_size": (sample_size, ("setting", "figure")),
    "learning_curves": (learning_curves, ("epoch",)),
    "margin_bounds": (margin_bounds, ("setting", "slide_id", "section_id")),
    "quality": (quality, ("setting", "measure")),
    "section_margins": (section_margins, ("setting", "slide_id", "section_id")),
}
"""What is computed anew: how, and the columns that name a row."""
CHECKED: dict[str, Callable[[Pack, Findings], None]] = {"grid": check_grid, "margins": check_margins}
"""Tables that are held against the ledger row by row in ways of their own."""
_CLOSENESS = {"quality": 1e-6}
"""Of tables whose values are of single precision, as the ledger's are."""
_WORDS = "checklists"
_NOT_COMPUTED = {
    "merge_weights": "the spread of the blocks' scores is in the speed-up record, which is not in the pack",
    "beside_paper": "the paper's printed figures are in no file of the pack; the study's are those of intervals",
}
"""Why tables are not computed anew."""
_OF_ANOTHER = "made for another part, promise or threshold than the report's, or none of its tables"
_WHY_NOT = {
    "patch_s": "measured; the speed-up record is not in the pack",
    **dict.fromkeys(
        ("reference_low", "reference_high", "limit_low", "limit_high", "num_beyond", "num_reference_slides"),
        "of the model's reference, which is in its file",
    ),
    **dict.fromkeys(("q05", "median", "q95", "num_measured"), "distances to features in the model's file"),
    "phantom": "of the shard set, which is not in the pack",
    **dict.fromkeys(("num_regions", "margin_um"), "held against tables/margins.parquet, which rests on the slides"),
}
"""Why columns are not computed anew."""
_UNKNOWN = "this check does not know it"
_ITEM_NUMBERS = "which items of guidelines ask for it, no figures of the study"
SOME_ROWS = {"nearest_verdicts", "section_margins"}
"""Tables that show some of the rows alone."""


def compute(pack: Pack, found: Findings) -> dict[str, list[Row]]:
    """All tables of the pack computed anew and compared; those that are not are named, with the reason."""
    computed: dict[str, list[Row]] = {}
    for path in sorted((pack.folder / "tables").glob("*.parquet")):
        name = path.stem
        if name in TABLES or name in CHECKED:
            rows = found.guarded(path.name, lambda name=name: _computed(name, pack, found))  # type: ignore[misc]
            computed[name] = rows or []
        elif name != _WORDS:
            num = found.guarded(path.name, lambda name=name: _num_numbers(pack.table(name)))  # type: ignore[misc]
            found.leave("tables", f"{name} ({num} numbers): {_NOT_COMPUTED.get(name, _OF_ANOTHER)}")
    if (pack.folder / "tables" / f"{_WORDS}.parquet").exists():
        # Last, as its answers quote the others.
        found.guarded(_WORDS, lambda: check_checklists(pack, computed, found))
        computed[_WORDS] = pack.table(_WORDS)
        found.leave("columns of tables", f"{_WORDS}: stard_ai, claim, tripod_ai: {_ITEM_NUMBERS}")
    return computed


def _computed(name: str, pack: Pack, found: Findings) -> list[Row]:
    """The rows of one table, which are compared with the written ones."""
    if name in CHECKED:
        CHECKED[name](pack, found)
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
                found.leave("columns of tables", f"{name}.{column}: {_WHY_NOT.get(column, _UNKNOWN)}")
                continue
            num += 1
            if not same_value(value, mine[key][column], closeness=_CLOSENESS.get(name, 1e-9)):
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
