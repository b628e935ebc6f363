"""The report's first part: what was judged and how, what is missing, and with labels the headline's figures."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.page.blocks import Number, Section, taken_from
from analysis.page.content import PageContent
from analysis.study_evidence.provenance import failures
from analysis.study_evidence.resampling import FIGURES
from analysis.study_evidence.slide_states import SlideState
from analysis.study_evidence.table import Table
from analysis.study_evidence.verdict_table import FAST_NUMBERS
from analysis.tables.comparisons import NOT_RESOLVED, has_no_discordant, no_discordant_text
from analysis.tables.intervals import interval_from, interval_text
from bccdist.errors import first_of
from bccdist.parts import Label, Part
from bccdist.sections.choices import Choice

_MOST_FAILURES = 10
FEW_SECTIONS = 20
"""Of either kind; with fewer, one section more or less is 5 % of a figure that chooses."""


def overview_section(study: PageContent) -> Section:
    """What was judged and how; with labels the chosen model in four numbers, and whether others are told apart."""
    choice = study.headline
    intervals = study.tables["intervals"]
    origin = f"best F_{choice.beta:g} on Validation I + II" + (" of the model's study" * study.evidence.is_cohort)
    return Section(
        lines=[
            (
                f"{choice.setting}, epoch {choice.epoch}, t_p {choice.t_p:.2f}, t_A {choice.t_a_um2:.0f} um2 "
                f"({choice.area_unit}): {origin}, judged on Test."
            ),
            *_reached_lines(study),
            *_label_lines(study),
            *_resolution_lines(study),
        ],
        warnings=[*_choice_warnings(study), *_missing_warnings(study)],
        numbers=[
            *_count_numbers(study.counts()),
            *(_numbers(intervals.frame, choice) if isinstance(intervals, Table) else []),
        ],
    )


def _count_numbers(counts: Mapping[Hashable, Any] | None) -> Iterator[Number]:
    """How many slides and sections of Test, and how many have each verdict."""
    if counts is None:
        return
    without = [
        f"{counts[name]} {text}"
        for name, text in (
            ("num_failed", "failed"),
            ("num_not_there", "not there"),
            ("num_without_section", "without a section"),
        )
        if counts[name]
    ]
    where = {"part": counts["part"], "setting": counts["setting"]}
    yield Number(
        name="slides of Test",
        value=f"{counts['num_slides']:,}",
        range=", ".join(without),
        source=taken_from("verdict_counts", "num_slides", **where),
    )
    yield Number(
        name="sections",
        value=f"{counts['num_sections']:,}",
        range=f"{counts['num_unread']:,} not read whole" if counts["num_unread"] else "all read whole",
        source=taken_from("verdict_counts", "num_sections", **where),
    )
    for name, verdict in (("num_tumor", "called Tumor"), ("num_normal", "called Normal"), ("num_review", "review")):
        share = f"{counts[name] / counts['num_sections']:.0%} of the sections" if counts["num_sections"] else ""
        source = taken_from("verdict_counts", name, **where)
        yield Number(name=verdict, value=f"{counts[name]:,}", range=share, source=source)


def _reached_lines(study: PageContent) -> Iterator[str]:
    """How many verdicts a fast way reached, where some did."""
    reached = study.tables["reached"]
    if not isinstance(reached, Table):
        return
    frame = reached.frame
    mine = frame[(frame["part"] == Part.TEST.value) & (frame["setting"] == study.headline.setting)]
    certified, fast, total = (int(mine[name].sum()) for name in ("num_certified", "num_fast", "num_sections"))
    if certified:
        yield (
            f"{certified} of {total} verdicts are certified: a fast way reached them, and the exact one follows "
            f"(confidence {mine['confidence'].max():g} per slide). Their {FAST_NUMBERS}"
        )
    if fast:
        yield f"{fast} of {total} verdicts come from a fast way, and nobody claims that they are the exact ones."


def _label_lines(study: PageContent) -> Iterator[str]:
    """What labels say, or that there are none."""
    counts, table4 = study.counts(), study.tables["table4"]
    if counts is None:
        return
    total, labelled = counts["num_sections"], counts["num_labelled"]
    if not labelled:
        yield (
            f"No section of Test has a label (0 of {total}): what follows counts verdicts. With labels, now or later, "
            "the same commands add figures and intervals: `python analysis/make.py relabel STUDY sections.csv`."
        )
    elif isinstance(table4, Table):
        (row,) = table4.frame[table4.frame["setting"] == study.headline.setting].to_dict("records")
        which = "All" if labelled == total else f"{labelled} of {total}"
        yield (
            f"{which} sections of Test have a label: {row['tp']} TP, {row['fn']} FN, {row['fp']} FP, {row['tn']} TN, "
            f"{row['num_review']} for review."
        )


def _choice_warnings(study: PageContent) -> Iterator[str]:
    """Why the choice of thresholds may mean little."""
    if study.evidence.is_cohort:
        return
    selection = study.evidence.selection
    (chosen,) = selection[selection["setting"] == study.headline.setting].to_dict("records")
    if "specificity" not in chosen:
        yield "How the thresholds were chosen is not known here: they came from elsewhere."
        return
    for figure, kind in (("sensitivity", Label.TUMOR), ("specificity", Label.NORMAL)):
        if chosen[figure] == 0:
            yield f"The choice says nothing: its {figure} on Validation I + II is 0, no {kind.value} section is right."
    for kind, num in ((Label.TUMOR, chosen["tp"] + chosen["fn"]), (Label.NORMAL, chosen["fp"] + chosen["tn"])):
        if num < FEW_SECTIONS:
            yield f"The choice rests on {num} {kind.value} sections of Validation I + II, so that chance decides much."
    stability = study.tables["stability"]
    if isinstance(stability, Table):
        (row,) = stability.frame[stability.frame["setting"] == study.headline.setting].to_dict("records")
        if row["edges"]:
            yield (
                f"What is as good as the choice reaches the edge of the grid ({row['edges']}): beyond it nothing was "
                "tried."
            )


def _missing_warnings(study: PageContent) -> Iterator[str]:
    """The slides that are in no result, by name, and why."""
    if gone := study.evidence.lost_corrections:
        named = first_of([f"{each.slide_id}/{each.section_id}" for each in gone], _MOST_FAILURES)
        yield f"{len(gone)} correction(s) in labels.csv are of no section any more, and count nowhere: {named}."
    failed = failures(study.evidence)
    if len(failed):
        yield f"Failed and not in the results: {len(failed)} (see Provenance)."
    if left_out := study.evidence.no_longer_named:
        yield (
            f"{len(left_out)} slide(s) are not named in slides.csv any more and left out: "
            f"{first_of(left_out, _MOST_FAILURES)}."
        )
    slides = study.slides()
    for state, text in (
        (SlideState.NOT_THERE, "not in the results, as nothing was made of them"),
        (SlideState.NO_SECTION, "without a section, so that they have no verdict"),
    ):
        names = slides[slides["state"] == state.value]["slide_id"].tolist()
        if names:
            yield f"{len(names)} slide(s) of Test {text}: {first_of(names, _MOST_FAILURES)}."
    failed_here = slides[slides["state"] == SlideState.FAILED.value]
    for slide in failed_here.head(_MOST_FAILURES).to_dict("records"):
        yield f"{slide['slide_id']} failed: {slide['reason']}"
    if len(failed_here) > _MOST_FAILURES:
        yield f"{len(failed_here) - _MOST_FAILURES} more slides of Test failed: see Slides."


def _numbers(intervals: pd.DataFrame, choice: Choice) -> Iterator[Number]:
    mine = (
        intervals[
            (intervals["part"] == Part.TEST.value) & intervals["is_final"] & (intervals["setting"] == choice.setting)
        ]
        .set_index("figure")
        .to_dict("index")
    )
    titles = ("accuracy", "sensitivity", "specificity", f"F_{choice.beta:g}")
    for name, title in zip(FIGURES, titles, strict=True):
        if name in mine:
            value, _, rest = interval_text(interval_from(mine[name])).partition(" ")
            where = {"part": Part.TEST.value, "setting": choice.setting, "is_final": True, "figure": name}
            source = taken_from("intervals", "value", "low", "high", **where)
            yield Number(name=title, value=value, range=rest.strip("()"), source=source)


def _resolution_lines(study: PageContent) -> Iterator[str]:
    """Which other settings Test tells apart from the headline's."""
    table = study.tables["comparisons"]
    if not isinstance(table, Table):
        return
    settings = {choice.setting for choice in study.evidence.choices}
    for row in table.frame.to_dict("records"):
        pair = {row["one"], row["other"]}
        if study.headline.setting in pair and pair <= settings:
            (other,) = pair - {study.headline.setting}
            sign = 1 if row["one"] == study.headline.setting else -1
            difference = (
                no_discordant_text(row)
                if has_no_discordant(row)
                else f"{sign * row['accuracy_difference']:+.3f} of accuracy"
            )
            yield f"Against {other}: {difference}, {'resolved' if row['is_resolved'] else NOT_RESOLVED}."
