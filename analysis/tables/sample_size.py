"""Whether there are sections enough on Test: `python analysis/make.py sample_size STUDY --goal-sensitivity 0.95`.

A goal says how high sensitivity or specificity is to be, and how wide its 95 % interval may be. How many sections
that takes follows from the binomial distribution (Clopper and Pearson's bounds), if sections were independent. They
are not: sections of a slide are alike, so that they tell as much as fewer independent ones, by the design effect. A
goal is kept in the study with the time at which it was stated, and whether there were results of Test by then; one
that takes its place leaves it in the history.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.resampling import (
    EXACT_NOTE,
    LEVEL,
    NUM_RESAMPLES,
    SEED,
    Interval,
    counts_by_slide,
    draw_slides,
    exact_bounds,
    few_slides_notes,
    intervals,
)
from analysis.study_evidence.table import NOT_KNOWN, Table, phantom_marks, rounded
from analysis.study_evidence.verdict_table import needs_labels
from analysis.tables.intervals import interval_text
from bccdist.errors import ConfigurationError, NothingToShowError
from bccdist.files import write_json
from bccdist.parts import Part
from bccdist.sections.choices import Choice

FIGURES = ("sensitivity", "specificity")
WIDTH = 0.1
"""How wide an interval may be where the goal does not say."""
_NARROWEST = 0.01
"""Narrower ones take some hundred thousand sections, and long to compute."""
_HALVINGS = 40
_Z = 1.96
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Goals:
    """What the sample was to be large enough for; None where nothing was stated."""

    sensitivity: float | None = None
    specificity: float | None = None
    width: float = WIDTH
    """How wide the 95 % interval of either may be, from end to end."""
    stated_at: str = ""
    """UTC, ISO 8601."""
    after_results: bool | None = None
    """Whether there were results of Test when it was stated; None where that was not noted."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The goals before this one with their times, the first one first."""

    @property
    def content(self) -> tuple[float | None, float | None, float]:
        """What is stated, without when."""
        return self.sensitivity, self.specificity, self.width

    def __post_init__(self) -> None:
        """Check that they can be reached.

        Raises:
            ConfigurationError: a share is not between 0 and 1, or a width too small.
        """
        for name in FIGURES:
            goal = getattr(self, name)
            if goal is not None and not 0 < goal < 1:
                raise ConfigurationError(f"goal of {name} is {goal:g}, expected a share above 0 and below 1")
        if not _NARROWEST <= self.width < 1:
            raise ConfigurationError(
                f"goal of width is {self.width:g}, expected a share from {_NARROWEST:g} to below 1: how wide the "
                f"{LEVEL:.0%} interval may be from end to end"
            )


@cache
def sections_needed(share: float, width: float) -> int:
    """How many independent sections it takes until the exact interval of a share stays as narrow as asked for.

    The width has steps, as sections are whole: from this number on no number has a wider interval.
    """
    start = max(1, math.floor((2 * _Z / width) ** 2 * share * (1 - share)))
    steps = math.ceil(6 / width + 2 / min(share, 1 - share))
    while True:
        is_wide = widths(share, np.arange(start, start + steps)) > width
        if not is_wide[0] and start > 1:
            start = max(1, start - steps + 1)
        elif is_wide[-1]:
            start += steps - 1
        else:
            return start + int(np.flatnonzero(is_wide).max(initial=-1)) + 1


def widths(share: float, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """How wide the bounds of `exact_bounds` are for each of several numbers of trials: [n], all numbers at once."""
    least, most = np.floor(share * numbers + 1e-9), np.ceil(share * numbers - 1e-9)
    return _upper_limits(most, numbers) - (1 - _upper_limits(numbers - least, numbers))


def _upper_limits(counts: NDArray[np.float64], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Clopper and Pearson's upper limit of each of `counts` of `numbers`, as `bccdist.binomial.greatest_share`."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, numbers.max() + 1)))])
    k = np.arange(int(counts.max()) + 1)
    is_in = k <= counts[:, None]
    rest = np.maximum(numbers[:, None] - k, 0)
    choices = log_factorial[numbers][:, None] - log_factorial[k] - log_factorial[rest]
    low, high = np.zeros(len(numbers)), np.ones(len(numbers))
    for _ in range(_HALVINGS):
        middle = ((low + high) / 2)[:, None]
        chance = np.where(is_in, np.exp(choices + k * np.log(middle) + rest * np.log1p(-middle)), 0.0).sum(1)
        is_above = chance <= (1 - LEVEL) / 2
        low, high = np.where(is_above, low, middle[:, 0]), np.where(is_above, middle[:, 0], high)
    return np.where(counts >= numbers, 1.0, high)


def effective_number(right: NDArray[np.int64], number: NDArray[np.int64]) -> float:
    """As how many independent sections so many that cluster in slides count for a share.

    The variance over slides (linearised, for a ratio) is set beside that of independent sections. Where all slides are
    alike there is none to see, and each slide counts once, as in `exact_bounds`; there are never more than sections.

    Args:
        right: of each slide, the sections that are right.
        number: of each slide, all of its sections of the kind.
    """
    variance = _variance(right, number)
    if variance is None:
        return float(np.count_nonzero(number))
    share = right.sum() / number.sum()
    return float(min(number.sum(), share * (1 - share) / variance))


def _variance(right: NDArray[np.int64], number: NDArray[np.int64]) -> float | None:
    """The variance of a share over slides; None where none is to be seen: all slides are alike, or there is one."""
    there = number > 0
    right, number, num_slides = right[there], number[there], int(there.sum())
    if num_slides < 2:
        return None
    apart = right - right.sum() / number.sum() * number
    variance = float(num_slides / (num_slides - 1) * (apart**2).sum() / number.sum() ** 2)
    return variance if variance >= _LEAST_VARIANCE else None


def build_sample_size(verdicts: pd.DataFrame, choices: list[Choice], goals: Goals) -> Table:
    """One row per setting and figure.

    Args:
        verdicts: from `all_verdicts`, of Test.
        choices: the chosen models.
        goals: what was stated, if anything.

    Raises:
        NothingToShowError: no section has a label.
    """
    labelled = verdicts[verdicts["label"].notna()]
    if labelled.empty:
        raise needs_labels(verdicts, [Part.TEST])
    beta = {choice.setting: choice.beta for choice in choices}
    frame = pd.DataFrame(
        [
            row
            for setting, mine in labelled.groupby("setting", sort=False)
            for row in _rows(mine, beta[str(setting)], goals)
        ]
    )
    return Table(
        name="sample_size",
        title="Sections of Test, and as how many independent ones they count.",
        frame=frame,
        printed=_printed(frame),
        notes=(
            *_goal_notes(goals),
            (
                "Design effect: sections for each independent one, by how far slides differ. Width: of the exact "
                f"{LEVEL:.0%} interval (Clopper and Pearson) for so many independent sections."
            ),
            *_notes_on_spread(frame),
            *few_slides_notes({"Test": int(labelled["slide_id"].nunique())}),
        ),
    )


def _notes_on_spread(frame: pd.DataFrame) -> Iterator[str]:
    """How the intervals came about, which not all rows have in common."""
    there = frame[frame["num_sections"] > 0]
    if there["design_effect"].notna().any():
        yield f"Found: with {LEVEL:.0%} intervals over {NUM_RESAMPLES:,} resamples of whole slides, seed {SEED}."
    if there["design_effect"].isna().any():
        yield EXACT_NOTE
        yield (
            "Where no section is wrong, every slide alike, or there is one slide alone, how far slides differ is not "
            f"to be seen: there is no design effect ({NOT_KNOWN}), and each slide counts as one section."
        )


def _goal_notes(goals: Goals) -> Iterator[str]:
    yield _goal_note(goals)
    if goals.after_results:
        yield "This goal was stated AFTER there were results of Test: what it says of them is no test of them."
    if goals.history:
        earlier = "; ".join(_goal_text(Goals(**before)) for before in goals.history)
        late = " after there were results of Test" if goals.after_results else ""
        yield f"CHANGED{late}: before this goal there was {earlier}."


def _goal_text(goals: Goals) -> str:
    shares = ", ".join(f"{name} {getattr(goals, name):g}" for name in FIGURES if getattr(goals, name) is not None)
    return f"{shares}, width {goals.width:g} (stated on {goals.stated_at[:10] or 'a day that is not known'})"


def _goal_note(goals: Goals) -> str:
    if goals.sensitivity is None and goals.specificity is None:
        return (
            "No goal is stated: `python analysis/make.py sample_size STUDY --goal-sensitivity 0.95 --goal-specificity "
            f"0.9 --goal-width {WIDTH:g}` states one, best before Test is judged."
        )
    return (
        f"Goal, stated on {goals.stated_at[:10]}: an interval no wider than {goals.width:g}, if the share is the "
        "goal's. Needed: so many independent sections; here: with this design effect. Shown, missed or open: whether "
        "the interval lies above the goal, below it, or holds it."
    )


def _rows(verdicts: pd.DataFrame, beta: float, goals: Goals) -> Iterator[dict[str, Any]]:
    slide_ids = pd.Index(sorted(set(verdicts["slide_id"])))
    by_slide = counts_by_slide(verdicts, slide_ids)
    found = intervals(by_slide, draw_slides(len(slide_ids)), beta)
    of_figure = {"sensitivity": (by_slide.tp, by_slide.fn), "specificity": (by_slide.tn, by_slide.fp)}
    for figure, (right, wrong) in of_figure.items():
        number = np.asarray(right + wrong)
        num, effective = int(number.sum()), effective_number(np.asarray(right), number)
        goal = getattr(goals, figure)
        needed = None if goal is None else sections_needed(goal, goals.width)
        effect = math.nan if _variance(np.asarray(right), number) is None else num / effective
        yield {
            "setting": verdicts["setting"].iloc[0],
            "figure": figure,
            "num_sections": num,
            "num_slides": int(np.count_nonzero(number)),
            **found[figure].columns("value"),
            "design_effect": effect,
            "num_effective": effective,
            "width_independent": _width(found[figure].value, num),
            "width_effective": _width(found[figure].value, math.floor(effective)),
            "goal": math.nan if goal is None else goal,
            "goal_width": math.nan if goal is None else goals.width,
            "num_needed": math.nan if needed is None else float(needed),
            "num_needed_here": math.nan if needed is None else np.ceil(needed * effect),
            "is_reached": None if needed is None else effective >= needed,
            "outcome": "" if goal is None else _outcome(found[figure], goal),
            "goal_stated_at": "" if goal is None else goals.stated_at,
            "goal_after_results": None if goal is None else goals.after_results,
            "num_goals_before": len(goals.history),
            **phantom_marks(verdicts),
        }


def _width(share: float, num: int) -> float:
    if not num or math.isnan(share):
        return math.nan
    low, high = exact_bounds(share, num)
    return high - low


def _outcome(found: Interval, goal: float) -> str:
    return "shown" if found.low >= goal else "missed" if found.high < goal else "open"


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame.to_dict("records")
    has_goal = frame["goal"].notna().any()
    goal_columns = {
        "goal": rounded(frame["goal"], 3),
        "needed": rounded(frame["num_needed"], 0),
        "needed here": rounded(frame["num_needed_here"], 0),
        "enough": [{None: NOT_KNOWN, True: "yes", False: "no"}[row["is_reached"]] for row in rows],
        "goal is": [row["outcome"] or NOT_KNOWN for row in rows],
    }
    return pd.DataFrame(
        {
            "setting": frame["setting"],
            "figure": frame["figure"],
            "found": [interval_text(Interval.from_columns(row, "value")) for row in rows],
            "sections": frame["num_sections"].astype(str),
            "slides": frame["num_slides"].astype(str),
            "width": rounded(frame["width_independent"], 3),
            "design effect": rounded(frame["design_effect"], 2),
            "as many as": rounded(frame["num_effective"], 1),
            "width then": rounded(frame["width_effective"], 3),
            **(goal_columns if has_goal else {}),
        }
    )


def stated_goals(study: Evidence) -> Goals:
    """The goals that were stated for a study; none where there is no file of them.

    Raises:
        ConfigurationError: the file holds no goals.
    """
    path = study.paths.goals
    if not path.exists():
        return Goals()
    try:
        goals = Goals(**json.loads(path.read_text(encoding="utf-8")))
        for before in goals.history:
            Goals(**before)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{path}: holds no goals ({error}); put the file back, or remove it, which forgets what was stated "
            "before, and state them again with `python analysis/make.py sample_size STUDY --goal-sensitivity 0.95`"
        ) from error
    return goals


def state_goals(study: Evidence, goals: Goals) -> Goals:
    """Keep goals in the study with the time of now, and those of before in their history; the same ones stay.

    Raises:
        ConfigurationError: all else is made in another folder, so that the study is not to be written.
    """
    before = stated_goals(study)
    if goals.content == before.content:
        return before
    if study.shown_in is not None:
        raise ConfigurationError(
            f"a goal belongs to the study, {study.root}, and nothing is written there with --into: state it without "
            "--into, and make the table elsewhere then"
        )
    earlier = [] if before == Goals() else [{name: each for name, each in asdict(before).items() if name != "history"}]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    dated = replace(goals, stated_at=now, after_results=_has_results(study), history=[*before.history, *earlier])
    write_json(study.paths.goals, asdict(dated))
    return dated


def _has_results(study: Evidence) -> bool:
    """Whether labelled sections of Test have a verdict, which anybody may have seen."""
    try:
        return bool(study.verdicts(Part.TEST)["label"].notna().any())
    except NothingToShowError:
        return False


def write_sample_size(
    study: Evidence,
    goal_sensitivity: float | None = None,
    goal_specificity: float | None = None,
    goal_width: float | None = None,
) -> Table:
    """Write as how many independent sections those of Test count, and whether they reach a stated goal.

    Args:
        study: The study's folder.
        goal_sensitivity: Share of Tumor sections to be found; kept for later tables and reports. Default is what was
            stated before.
        goal_specificity: Share of Normal sections to be called so; kept likewise.
        goal_width: How wide the 95 % interval may be from end to end (0.1); with one of the other two.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or it has no labels.
        ConfigurationError: a goal is no share, a width comes without a goal, or a new goal with --into.
    """
    if goal_sensitivity is None and goal_specificity is None:
        if goal_width is not None:
            raise ConfigurationError(
                "--goal-width says how wide an interval may be around a goal: give --goal-sensitivity or "
                "--goal-specificity, too"
            )
        goals = stated_goals(study)
    else:
        width = WIDTH if goal_width is None else goal_width
        given = Goals(sensitivity=goal_sensitivity, specificity=goal_specificity, width=width)
        goals = state_goals(study, given)
    return study.write(build_sample_size(study.verdicts(Part.TEST), study.choices, goals))
