"""The headline in ten seconds: how much was judged, how right it is, what is left out, and who says what is right."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.page.blocks import Number, taken_from
from analysis.page.content import PageContent
from analysis.study_evidence.resampling import FIGURES, Interval
from analysis.study_evidence.table import Table
from analysis.tables.intervals import interval_from, interval_text
from analysis.tables.reference_standard import NOBODY
from bccdist.parts import Part
from bccdist.sections.choices import Choice

Counts = Mapping[Hashable, Any]
"""A row of a table."""
_CONFUSION = {
    "tp": "Tumor called Tumor",
    "fn": "Tumor called Normal: missed",
    "fp": "Normal called Tumor: false alarm",
    "tn": "Normal called Normal",
}


def headline_numbers(study: PageContent) -> Iterator[Number]:
    """The large numbers in their order, each with where it comes from."""
    counts = study.counts()
    if counts is None:
        return
    groups: list[Iterable[Number]] = [_size_numbers(counts)]
    if row := headline_row(study, "table4"):
        intervals = study.tables["intervals"]
        groups += [_figure_numbers(intervals.frame, study.headline)] if isinstance(intervals, Table) else []
        groups += [[*_confusion_numbers(row), _left_out_number(counts, row)]]
    groups += [[*_verdict_numbers(counts), *_reader_numbers(study)]]
    for place, numbers in enumerate(groups):
        yield from (replace(number, row=place) for number in numbers)


def headline_row(study: PageContent, name: str) -> Counts | None:
    """The row of the headline's setting in a table that has one for each; None where there is none."""
    table = study.tables[name]
    if not isinstance(table, Table):
        return None
    mine = table.frame[table.frame["setting"] == study.headline.setting].to_dict("records")
    return mine[0] if mine else None


def _size_numbers(counts: Counts) -> Iterator[Number]:
    where = {"part": counts["part"], "setting": counts["setting"]}
    without = [
        f"{counts[name]} {text}"
        for name, text in (
            ("num_failed", "failed"),
            ("num_not_there", "not there"),
            ("num_without_section", "without a section"),
        )
        if counts[name]
    ]
    yield Number(
        name="sections",
        value=f"{counts['num_sections']:,}",
        range=f"{counts['num_unread']:,} not read whole" if counts["num_unread"] else "all read whole",
        source=taken_from("verdict_counts", "num_sections", **where),
    )
    yield Number(
        name="slides of Test",
        value=f"{counts['num_slides']:,}",
        range=", ".join(without),
        source=taken_from("verdict_counts", "num_slides", **where),
    )
    num, nameless = counts["num_patients"], counts["num_slides_without_patient"]
    is_known = not pd.isna(num)
    yield Number(
        name="patients named",
        value=f"{int(num):,}" if is_known else "not known",
        range=f"{nameless} slide(s) name none" if is_known and nameless else "" if is_known else "no slide names one",
        source=taken_from("verdict_counts", "num_patients", **where) if is_known else "",
    )


def _figure_numbers(intervals: pd.DataFrame, choice: Choice) -> Iterator[Number]:
    of_test = (intervals["part"] == Part.TEST.value) & intervals["is_final"]
    mine = intervals[of_test & (intervals["setting"] == choice.setting)].set_index("figure").to_dict("index")
    titles = ("accuracy", "sensitivity", "specificity", f"F_{choice.beta:g}")
    for name, title in zip(FIGURES, titles, strict=True):
        if name in mine:
            value, _, rest = interval_text(interval_from(mine[name])).partition(" ")
            where = {"part": Part.TEST.value, "setting": choice.setting, "is_final": True, "figure": name}
            source = taken_from("intervals", "value", "low", "high", **where)
            yield Number(name=title, value=value, range=rest.strip("()"), source=source)


def _confusion_numbers(row: Counts) -> Iterator[Number]:
    for name, text in _CONFUSION.items():
        source = taken_from("table4", name, setting=row["setting"])
        yield Number(name=name.upper(), value=f"{row[name]:,}", range=text, source=source)


def why_left_out(counts: Counts, row: Counts) -> dict[str, int]:
    """How many sections of Test are in none of the four counts, by the reason.

    Args:
        counts: of the table of verdicts.
        row: of Table 4.
    """
    nameless = counts["num_sections"] - counts["num_labelled"] - counts["num_unsure"] - counts["num_conflict"]
    return {
        "without a label": nameless,
        "unsure": counts["num_unsure"],
        "in conflict": counts["num_conflict"],
        "labelled, but for review": row["num_review"],
    }


def _left_out_number(counts: Counts, row: Counts) -> Number:
    reasons = why_left_out(counts, row)
    said = ", ".join(f"{num:,} {reason}" for reason, num in reasons.items() if num)
    return Number(name="sections left out", value=f"{sum(reasons.values()):,}", range=said or "every section counts")


def _verdict_numbers(counts: Counts) -> Iterator[Number]:
    where = {"part": counts["part"], "setting": counts["setting"]}
    for name, verdict in (("num_tumor", "called Tumor"), ("num_normal", "called Normal"), ("num_review", "review")):
        share = f"{counts[name] / counts['num_sections']:.0%} of the sections" if counts["num_sections"] else ""
        source = taken_from("verdict_counts", name, **where)
        yield Number(name=verdict, value=f"{counts[name]:,}", range=share, source=source)


def _reader_numbers(study: PageContent) -> Iterator[Number]:
    """Kappa of each two readers on Test; the least first."""
    table = study.tables["agreement"]
    if not isinstance(table, Table):
        return
    pairs = table.frame[table.frame["part"] == Part.TEST.value].sort_values("kappa", kind="stable").to_dict("records")
    for row in pairs[:1]:
        value, _, rest = interval_text(Interval.from_columns(row, "kappa")).partition(" ")
        others = f"; the least of {len(pairs)} pairs" if len(pairs) > 1 else ""
        yield Number(
            name=f"kappa of {row['one']} and {row['other']}",
            value=value,
            range=f"{rest.strip('()') or 'not defined'}, {row['num_sections']} sections{others}",
            source=taken_from(
                "agreement",
                *("kappa", "kappa_low", "kappa_high"),
                **{key: row[key] for key in ("part", "one", "other")},
            ),
        )


def reader_lines(study: PageContent) -> Iterator[str]:
    """Who labelled Test, and whether it is known how far readers agree."""
    table = study.tables["reference_standard"]
    if not isinstance(table, Table):
        return
    mine = table.frame[(table.frame["part"] == Part.TEST.value) & (table.frame["labelled_by"] != NOBODY)]
    if mine.empty:
        return
    readers = sorted({reader for names in mine["labelled_by"] for reader in names.split("; ")})
    agreement = study.tables["agreement"]
    has_pair = isinstance(agreement, Table) and (agreement.frame["part"] == Part.TEST.value).any()
    known = "" if has_pair else "; how far readers agree is not known, as no two answered the same section"
    yield f"Labels of Test are of {len(readers)} reader(s): {', '.join(readers)}{known} (see Reference standard)."


def choice_lines(study: PageContent) -> Iterator[str]:
    """The decision in words, and where its thresholds come from, as far as that is known."""
    choice = study.headline
    unit = "um2" if choice.area_unit == "physical" else "um2 as if 1 um per pixel"
    yield (
        f"A section is called Tumor where {choice.setting} (epoch {choice.epoch}) sees a connected region of at least "
        f"{choice.t_a_um2:,.0f} {unit} (t_A) with a tumor probability of at least {choice.t_p:.2f} (t_p) everywhere "
        "in it. Else it is Normal, or for review where its tissue was not read whole or not assessable."
    )
    if study.evidence.is_cohort:
        what = (
            "The epoch came with the model; t_p and t_A are this site's"
            if choice.site_choice
            else ("Epoch, t_p and t_A came with the model")
        )
        whose = "the model's own pair" if choice.site_choice else "they"
        yield f"{what}: in its own study {whose} had the best F_{choice.beta:g} on Validation I + II."
    elif "specificity" in study.evidence.selection:
        yield (
            f"Epoch, t_p and t_A had the best F_{choice.beta:g} on Validation I + II; Test, of which all figures here "
            "are, took no part in the choice."
        )
