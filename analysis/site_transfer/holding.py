"""The verdict on a model at a site: it holds, it does not hold, or that cannot be told yet; and why."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from analysis.site_transfer.labels import SiteLabels
from analysis.site_transfer.sections import FEATURES, MEASURES, MeasuredSections
from analysis.site_transfer.shift import ALPHA, Shift
from analysis.site_transfer.thresholds import Bound, Goal, Judged, SiteThresholds

State = Literal["holds", "does not hold", "cannot be told"]
CLOSED_SHARE = 0.25
"""From this share of sections that are not assessable on a model does not hold, whatever the others say."""
_MENDS: Mapping[str, str] = {
    "out of focus": "rescan",
    "strongly compressed": "export without strong compression",
    "faintly stained": "check the staining",
    "strongly stained": "check the staining",
    "stained redder": "check the staining",
    "stained bluer": "check the staining",
    "under ink": "clean and rescan",
    "folded": "cut or mount anew",
    "under air or the edge of a coverslip": "mount anew and rescan",
}
"""What to do with a section that is not assessable, by the reason; of others nothing is known but to look."""
_NAMES = {**MEASURES, FEATURES: "the network's features"}


@dataclass(frozen=True, kw_only=True)
class Holding:
    """The verdict."""

    state: State
    sentence: str
    """One that stands alone."""
    why: tuple[str, ...]
    is_mended: bool = False
    """Whether the site's own thresholds reach the goal, on slides that did not choose them."""
    others_hold: bool = False
    """Whether it is not assessable sections alone that do not let the model hold."""


def holding(
    here: MeasuredSections,
    shift: Shift,
    by_label: dict[str, Shift],
    labels: SiteLabels,
    measured: SiteThresholds | None,
    *,
    power: float,
) -> Holding:
    """Judge a model at a site.

    Args:
        here: the cohort's sections.
        shift: between reference and cohort.
        by_label: the same among Tumor and among Normal sections, where both have labels.
        labels: the cohort's labelled sections.
        measured: what they say about thresholds; None where they are too few.
        power: how often a site of so many slides without a shift would be called alike.
    """
    closed = closed_line(here)
    why = (
        *([f"{closed}."] if closed else []),
        *_shift_lines(shift, by_label, here, power),
        *(_label_lines(labels, measured) if here.num_slides > 1 else []),
    )
    found = _of_assessable(here, shift, labels, measured, why)
    num_closed = here.num - int(here.is_assessable.sum())
    if num_closed < CLOSED_SHARE * here.num:
        return found
    others = f" Beside that: {found.sentence}" if num_closed < here.num else ""
    return replace(
        found,
        state="does not hold",
        sentence=f"Does not hold where nothing can be said: {closed}.{others}",
        is_mended=found.is_mended and found.state == "does not hold",
        others_hold=found.state == "holds",
    )


def closed_line(here: MeasuredSections) -> str:
    """How many sections are not assessable, why, and what to do with them; empty where all are."""
    num = here.num - int(here.is_assessable.sum())
    if not num:
        return ""
    reasons = here.reasons
    told = f" ({', '.join(reasons)})" if reasons else ""
    mends = dict.fromkeys(_MENDS.get(reason, "look at them") for reason in reasons) or ["look at them"]
    return f"{num} of {here.num} sections {'is' if num == 1 else 'are'} not assessable{told}: {', '.join(mends)}"


def _of_assessable(
    here: MeasuredSections,
    shift: Shift,
    labels: SiteLabels,
    measured: SiteThresholds | None,
    why: tuple[str, ...],
) -> Holding:
    """The verdict by shift and labels, whatever is not assessable."""
    if measured is not None and not labels.random.lack:
        return _by_labels(shift, labels, measured, why)
    if here.num_slides == 1:
        return Holding(
            state="cannot be told", sentence=f"Cannot be told with {here.num} section(s) of one slide.", why=why
        )
    size = f"{here.num} sections of {here.num_slides} slides"
    if shift.is_found:
        return Holding(
            state="does not hold",
            sentence=f"Does not hold unseen: these slides differ from those that the model was chosen on in "
            f"{named(shift.found)}, so that what it promises says nothing here until labels show it.",
            why=why,
        )
    if shift.is_refuted:
        return Holding(
            state="holds",
            sentence=f"Holds as far as can be told without labels: {size} lie within the stated tolerance of those "
            "that the model was chosen on in every measure; how many verdicts are right was not measured.",
            why=why,
        )
    return Holding(
        state="cannot be told",
        sentence=f"Cannot be told with {size}: no difference was found, which refutes none.",
        why=why,
    )


def named(measures: list[str]) -> str:
    """Measures in words, the first of many."""
    words = [_NAMES[name] for name in measures]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def reaches(judged: Judged, goal: Goal) -> bool:
    """Whether both figures are at least the goal's, by their lower bounds."""
    return all(judged.bounds[name].low >= getattr(goal, name) for name in ("sensitivity", "specificity"))


def misses(judged: Judged, goal: Goal) -> bool:
    """Whether one of them is below the goal's, by its upper bound."""
    return any(judged.bounds[name].high < getattr(goal, name) for name in ("sensitivity", "specificity"))


def looks_swapped(measured: SiteThresholds) -> bool:
    """Whether labels and verdicts agree less than by chance: at their best, sensitivity and specificity add to < 1."""
    return sum(measured.before.figures[name].high for name in ("sensitivity", "specificity")) < 1


def _by_labels(shift: Shift, labels: SiteLabels, measured: SiteThresholds, why: tuple[str, ...]) -> Holding:
    goal, num = measured.goal, labels.random.sections.num
    wanted = f"sensitivity {goal.sensitivity:g} and specificity {goal.specificity:g}"
    is_mended = reaches(measured.after, goal) and not measured.is_same
    mended = (
        f"with thresholds of this site, {measured.site}, it does: on slides that did not choose them "
        f"{figures_text(measured.after)}"
    )
    if reaches(measured.before, goal):
        return Holding(
            state="holds",
            sentence=f"Holds: on {num} labelled sections, drawn at random, {figures_text(measured.before)}.",
            why=why,
            is_mended=is_mended,
        )
    if misses(measured.before, goal):
        if measured.is_beyond_mending:
            rest = (
                f"and no threshold mends it: at a specificity of {goal.specificity:g} the best of the grid finds "
                f"{measured.best_sensitivity.value:.0%} of the Tumor sections, at most "
                f"{measured.best_sensitivity.high:.0%}"
            )
        else:
            rest = mended if is_mended else "and whether other thresholds mend it cannot be told with so few labels"
            if measured.is_same:
                rest = "and these labels choose the model's own thresholds again, so that thresholds change nothing"
        return Holding(
            state="does not hold",
            sentence=f"Does not hold as it is: {figures_text(measured.before)} of {num} labelled sections, below "
            f"{wanted}; {rest}.",
            why=why,
            is_mended=is_mended,
        )
    if shift.is_found:
        rest = mended if is_mended else f"and {num} labelled sections are too few to show {wanted}"
        return Holding(
            state="does not hold",
            sentence=f"Does not hold unseen: these slides differ in {named(shift.found)}; {rest}.",
            why=why,
            is_mended=is_mended,
        )
    return Holding(
        state="cannot be told",
        sentence=f"Cannot be told with {num} labelled sections of {labels.random.sections.num_slides} slides: "
        f"{figures_text(measured.before)}, and {wanted} are neither shown nor missed.",
        why=why,
        is_mended=is_mended,
    )


def figures_text(judged: Judged) -> str:
    """Sensitivity and specificity with the bounds that a promise rests on."""
    return " and ".join(f"{name} {_bound_text(judged.bounds[name])}" for name in ("sensitivity", "specificity"))


def _bound_text(bound: Bound) -> str:
    return f"{bound.value:.3f} (at least {bound.low:.3f})"


def _shift_lines(shift: Shift, by_label: dict[str, Shift], here: MeasuredSections, power: float) -> tuple[str, ...]:
    num_slides = here.num_slides
    if num_slides == 1:
        return ("One slide cannot be compared: a group needs two slides or more.",)
    lines = []
    if shift.is_found:
        kinds = dict(zip(shift.frame["measure"], shift.frame["kind"], strict=True))
        pictures = [name for name in shift.found if kinds[name] == "picture"]
        lines.append(
            f"Found by dealing out whole slides anew, at {ALPHA:.0%} over all measures (Westfall and Young): "
            f"{named(shift.found)}."
        )
        if pictures:
            lines.append(f"The pictures themselves differ, in {named(pictures)}: staining, scanning or preparation.")
        elif not by_label and "picture" in kinds.values() and here.is_assessable.all():
            lines.append("No measure of the pictures differs: another share of Tumor looks like this; labels tell.")
    elif shift.frame.empty:
        lines.append("Nothing could be compared: each group needs two slides or more.")
    else:
        could = "" if shift.could_find else " Of so few slides no difference would be found, however large."
        lines.append(f"No measure differs at {ALPHA:.0%} over all measures, which refutes no shift.{could}")
    if by_label:
        found = {name: each.found for name, each in by_label.items() if each.is_found}
        if found:
            told = "; ".join(f"among {name} sections {named(each)}" for name, each in found.items())
            lines.append(f"With the label held fast, what differs is: {told}.")
        elif shift.is_found:
            lines.append(
                f"Among {' and among '.join(by_label)} sections nothing differs: it fits another share of Tumor, to "
                "which the thresholds owe little."
            )
    return (*lines, *_tolerance_lines(shift, num_slides, power))


def _tolerance_lines(shift: Shift, num_slides: int, power: float) -> list[str]:
    """How far a shift is refuted, and what keeps it from being so."""
    refuted = (
        "All measures lie within it, so a larger shift is refuted"
        if shift.is_refuted
        else "Not all measures lie within it, so a shift is not refuted"
    )
    seldom = ": so few slides can hardly show that nothing differs, even where nothing does" if power < 0.5 else ""
    lines = [
        (
            f"Tolerance: of a pair of slides, one of each group, the one from here has the larger value in "
            f"{0.5 - shift.tolerance:.0%} to {0.5 + shift.tolerance:.0%}. {refuted}; a site of {num_slides} slides "
            f"without any shift would be called alike in {power:.0%} of cases{seldom}."
        )
    ]
    if shift.too_few:
        lines.append(f"Measured on one slide alone, so that it cannot be compared: {named(list(shift.too_few))}.")
    if shift.not_measured:
        lines.append(
            f"Not measured, here or in the model file: {named(list(shift.not_measured))}. While that is so no shift "
            "is refuted."
        )
    return lines


def _label_lines(labels: SiteLabels, measured: SiteThresholds | None) -> tuple[str, ...]:
    if not labels.sections.num and not labels.num_not_assessable:
        return ("No section has a label: how many verdicts are right was not measured.",)
    if measured is None:
        return (f"Labels: {labels.lack}{labels.left_out}.",)
    unknown = int((labels.drawn == "not known").sum())
    active = int((labels.drawn == "active").sum())
    lines = []
    if looks_swapped(measured):
        shares = " and ".join(
            f"{measured.before.figures[name].value:.0%} of the {kind} sections are called {kind}"
            for name, kind in (("sensitivity", "Tumor"), ("specificity", "Normal"))
        )
        lines.append(
            f"Labels and verdicts agree less than by chance: {shares}. Tumor and Normal may be swapped in the labels, "
            "or they may be of other sections."
        )
    if unknown:
        lines.append(
            f"How {unknown} labelled sections were drawn is not known: they may be the easy ones or the hard ones, so "
            "they bear no promise; --drawn random says that they were drawn at random."
        )
    if active:
        lines.append(
            f"{active} labelled sections were taken for what they tell: they choose thresholds and stand for "
            "themselves in the weighted figures; the bounds rest on the random ones."
        )
    if labels.num_not_assessable:
        lines.append(
            f"{labels.num_not_assessable} labelled sections are not assessable and left out: they are never Normal."
        )
    if why := labels.random.lack:
        lines.append(f"Sections drawn at random: {why}.")
    return tuple(lines)
