"""Which settings and outputs are told apart by Test: `python analysis/make.py comparisons STUDY`.

Two models are compared on the sections that both judge. McNemar's exact test looks at the sections on which one is
right and the other wrong, as if sections were independent; they are not, they cluster in slides. So what decides is
the difference of the accuracies over resampled slides: where its interval contains 0, the two are not resolved,
whatever the table of figures ranks first. Both p-values are adjusted for the number of pairs.
"""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.resampling import (
    LEVEL,
    NUM_RESAMPLES,
    Interval,
    counts_by_slide,
    differences,
    draw_slides,
    few_slides_notes,
    figures_of,
    holm,
    holm_note,
    judged_by_both,
    p_of_difference,
    p_texts,
    resampled,
    smallest_p_of_pairs,
)
from analysis.study_evidence.table import NOT_KNOWN, Table, phantom_marks
from analysis.study_evidence.verdict_table import missing_outputs_notes, needs_labels, no_rows
from bccdist.errors import NothingToShowError
from bccdist.parts import Part
from bccdist.sections.choices import Choice
from bccdist.sections.section_rows import SectionRows
from bccdist.sections.section_verdicts import section_verdicts

NOT_RESOLVED = "not resolved"


def mcnemar_p(num_one: int, num_other: int) -> float:
    """The two-sided exact p of so many sections that one model alone has right, against the other's; 1 without any."""
    num = num_one + num_other
    tail = sum(math.comb(num, count) for count in range(min(num_one, num_other) + 1))
    return min(1.0, float(Fraction(2 * tail, 2**num)))


def build_comparisons(rows: SectionRows, choices: list[Choice]) -> Table:
    """The table: every pair of settings, and every block of a setting against the setting's own output.

    Args:
        rows: of every output on Test.
        choices: the chosen models.

    Raises:
        NothingToShowError: no chosen model has rows on Test, or there is nothing to compare.
    """
    verdicts = {choice.setting: section_verdicts(rows, choice) for choice in choices}
    if all(frame.empty for frame in verdicts.values()):
        raise no_rows([Part.TEST], choices)
    compared = list(_rows(verdicts, choices))
    if not compared:
        sections = pd.concat(list(verdicts.values()))
        if not sections["label"].notna().any():
            raise needs_labels(sections, [Part.TEST])
        raise NothingToShowError(
            " ".join(
                [
                    "there is nothing to compare on Test: one output of one setting has labelled sections there.",
                    *missing_outputs_notes(sections),
                ]
            ).removesuffix(".")
        )
    frame = pd.DataFrame(compared)
    for name in ("p", "mcnemar_p"):
        frame[f"{name}_adjusted"] = holm(frame[name])
    return Table(
        name="comparisons",
        title="Pairs of models on Test, and whether it tells them apart.",
        frame=frame,
        printed=_printed(frame),
        notes=(
            f"Differences: first minus second, {LEVEL:.0%} intervals over {NUM_RESAMPLES:,} resampled sets of slides.",
            f"{NOT_RESOLVED.capitalize()}: the interval of the accuracy's difference, of this pair alone, contains 0.",
            (
                "p: whether the accuracies are the same, by their resampled difference. McNemar's p takes sections as "
                f"independent. Each is {holm_note(frame['p'])}"
            ),
            *_exact_notes(frame),
            *missing_outputs_notes(pd.concat(list(verdicts.values()))),
            *few_slides_notes({"Test": int(frame["num_slides"].min())}),
        ),
    )


def _rows(verdicts: dict[str, pd.DataFrame], choices: list[Choice]) -> Iterator[dict[str, Any]]:
    beta = choices[0].beta
    final = {setting: frame[frame["is_final"]] for setting, frame in verdicts.items() if not frame.empty}
    for one, other in combinations(final, 2):
        yield from _compare((one, final[one]), (other, final[other]), beta)
    for setting, frame in verdicts.items():
        for psi, block in frame[~frame["is_final"]].groupby("psi"):
            yield from _compare((f"{setting} {psi}", block), (setting, final[setting]), beta)


def _compare(one: tuple[str, pd.DataFrame], other: tuple[str, pd.DataFrame], beta: float) -> Iterator[dict[str, Any]]:
    """One row; none where no labelled section is judged by both."""
    first, second = judged_by_both(one[1], other[1])
    if first.empty:
        return
    slide_ids = pd.Index(sorted(set(first["slide_id"])))
    draws = draw_slides(len(slide_ids))
    by_slide = [counts_by_slide(each, slide_ids) for each in (first, second)]
    found = differences(by_slide[0], by_slide[1], draws, beta)
    samples = [figures_of(resampled(each, draws), beta)["accuracy"] for each in by_slide]
    right = [np.asarray(each["correct"], dtype=bool) for each in (first, second)]
    num_one, num_other = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    yield {
        "one": one[0],
        "other": other[0],
        "num_sections": len(first),
        "num_slides": len(slide_ids),
        "num_only_one_right": num_one,
        "num_only_other_right": num_other,
        "p": p_of_difference(samples[0] - samples[1], smallest_p_of_pairs(len(slide_ids))),
        "mcnemar_p": mcnemar_p(num_one, num_other),
        **{key: value for name, each in found.items() for key, value in each.columns(f"{name}_difference").items()},
        "is_resolved": found["accuracy"].excludes_zero,
        **phantom_marks(pd.concat([first, second])),
    }


def _exact_notes(frame: pd.DataFrame) -> Iterator[str]:
    if any(map(has_no_discordant, frame.to_dict("records"))):
        yield (
            "No discordant section: both are right and wrong on the same ones. The interval is then by how much they "
            "may differ all the same: Clopper and Pearson's bound for none in so many slides."
        )


def has_no_discordant(row: Mapping[Any, Any]) -> bool:
    """Whether both models of a row of the table are right and wrong on the same sections."""
    return not row["num_only_one_right"] and not row["num_only_other_right"]


def no_discordant_text(row: Mapping[Any, Any]) -> str:
    """What such a row says, with the number of its sections."""
    return f"no discordant section in {row['num_sections']}"


def _accuracy_text(row: Mapping[Any, Any]) -> str:
    found = Interval.from_columns(row, "accuracy_difference")
    if not has_no_discordant(row):
        return difference_text(found)
    return f"{no_discordant_text(row)} ({found.low:+.3f} to {found.high:+.3f})"


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "pair": frame["one"] + " - " + frame["other"],
            "Test": ["resolved" if resolved else NOT_RESOLVED for resolved in frame["is_resolved"]],
            "accuracy difference": list(map(_accuracy_text, frame.to_dict("records"))),
            "F difference": [
                difference_text(Interval.from_columns(row, "f_beta_difference")) for row in frame.to_dict("records")
            ],
            "first alone right": frame["num_only_one_right"].astype(str),
            "second alone": frame["num_only_other_right"].astype(str),
            "p": p_texts(frame["p"]),
            "p, adjusted": p_texts(frame["p_adjusted"]),
            "McNemar p": p_texts(frame["mcnemar_p"]),
            "McNemar p, adjusted": p_texts(frame["mcnemar_p_adjusted"]),
            "sections": frame["num_sections"].astype(str),
        }
    )


def difference_text(found: Interval) -> str:
    """A difference and its interval, with signs."""
    if math.isnan(found.value):
        return NOT_KNOWN
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def write_comparisons(study: Evidence) -> Table:
    """Write which models Test tells apart, and which it does not.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, or there is nothing to compare on Test.
    """
    return study.write(build_comparisons(study.rows(Part.TEST), study.choices))
