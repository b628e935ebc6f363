"""What tells models apart, and how their probabilities rank sections, computed anew."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np

from analysis.evidence_pack.check.figures import (
    adjusted,
    are_alike,
    confusion,
    draws_of,
    f_beta_at,
    figures_of,
    interval,
    p_of_difference,
    resampled,
    slides_in,
    trials,
    with_ends,
)
from analysis.evidence_pack.check.findings import COUNTS, FIGURES, TEST, Floats, Ints, Row
from analysis.evidence_pack.check.raw_rows import Pack, marks


def comparisons(pack: Pack) -> list[Row]:
    """Each pair of settings, and each output against its setting's own, on the sections that both judge."""
    of_test = pack.of_part(TEST, final_only=False)
    final = {choice["setting"]: mine for choice, mine in pack.by_setting(TEST)}
    pairs = [((one, final[one]), (other, final[other])) for one, other in combinations(final, 2)]
    for setting, own in final.items():
        others = [row for row in of_test if row["setting"] == setting and not row["is_final"]]
        pairs += [
            ((f"{setting} {psi}", [row for row in others if row["psi"] == psi]), (setting, own))
            for psi in sorted({row["psi"] for row in others})
        ]
    rows = [row for one, other in pairs for row in _compared(one, other, pack.choices[0]["beta"])]
    return adjusted(adjusted(rows, "p"), "mcnemar_p")


def _compared(one: tuple[str, list[Row]], other: tuple[str, list[Row]], beta: float) -> Iterator[Row]:
    judged = [
        {(row["slide_id"], row["section_id"]): row for row in rows if row["correct"] is not None}
        for _, rows in (one, other)
    ]
    both = [key for key in judged[0] if key in judged[1]]
    if not both:
        return
    first, second = ([each[key] for key in both] for each in judged)
    slides = slides_in(first)
    counts = [confusion(rows, slides) for rows in (first, second)]
    alone = sum(a["correct"] and not b["correct"] for a, b in zip(first, second, strict=True))
    other_alone = sum(b["correct"] and not a["correct"] for a, b in zip(first, second, strict=True))
    num = alone + other_alone
    tail = sum(math.comb(num, count) for count in range(min(alone, other_alone) + 1))
    found = _differences(counts, beta)
    yield {
        "one": one[0],
        "other": other[0],
        "num_sections": len(both),
        "num_slides": len(slides),
        "num_only_one_right": alone,
        "num_only_other_right": other_alone,
        # Where both are swapped at random on each slide, one of all ways to swap gives the most extreme outcome.
        "p": p_of_difference(counts, beta, smallest=min(1.0, 2.0 ** (1 - len(slides)))),
        "mcnemar_p": min(1.0, 2 * tail / 2**num),
        **{key: value for name, each in found.items() for key, value in with_ends(f"{name}_difference", each).items()},
        "is_resolved": found["accuracy"][1] > 0 or found["accuracy"][2] < 0,
        **marks((*first, *second)),
    }


def _differences(counts: Sequence[Ints], beta: float) -> dict[str, tuple[float, float, float]]:
    """The figures of the first less those of the second over the same resampled slides."""
    values = [figures_of(each.sum(1), beta) for each in counts]
    samples = [figures_of(resampled(each), beta) for each in counts]
    num = trials(counts[0])
    result = {}
    for name in FIGURES:
        drawn = samples[0][name] - samples[1][name]
        result[name] = interval(float(values[0][name] - values[1][name]), drawn, num[name], is_difference=True)
    if result["f_beta"][0] == 0 and are_alike(samples[0]["f_beta"] - samples[1]["f_beta"]):
        lower = [max(0.0, float(values[0][name]) - result[name][2]) for name in ("sensitivity", "specificity")]
        lost = float(values[0]["f_beta"]) - f_beta_at(counts[0].sum(1), lower[0], lower[1], beta)
        result["f_beta"] = (0.0, -lost, lost)
    return result


def scored(pack: Pack) -> Iterator[tuple[Row, list[Row]]]:
    """The labelled sections of Test that were read whole, of each setting that has both kinds of them."""
    for choice, mine in pack.by_setting(TEST):
        whole = [
            row for row in mine if row["label"] is not None and row["coverage"] >= 1 and not row.get("not_assessable")
        ]
        if len({row["label"] for row in whole}) > 1:
            yield choice, whole


def roc(pack: Pack) -> list[Row]:
    """Areas under ROC and precision-recall over all t_p at the chosen t_A."""
    rows = []
    for choice, mine in scored(pack):
        slides = slides_in(mine)
        tumor, normal = (at_steps(mine, label, slides) for label in ("Tumor", "Normal"))
        num = min(int(each.any(axis=1).sum()) for each in (tumor, normal))
        found = {}
        for name, area in (("roc_auc", _roc_areas), ("average_precision", _precisions)):
            value = float(area(tumor, normal, np.ones((1, len(slides)), dtype=np.int64))[0])
            found[name] = interval(value, area(tumor, normal, draws_of(len(slides))), num)
        rows.append(
            {
                "setting": choice["setting"],
                "t_a_um2": choice["t_a_um2"],
                **{key: value for name, each in found.items() for key, value in with_ends(name, each).items()},
                "num_tumor": int(tumor.sum()),
                "num_normal": int(normal.sum()),
                "num_slides": len(slides),
                **marks(mine),
            }
        )
    return rows


def at_steps(rows: Iterable[Row], label: str, slides: Sequence[str]) -> Ints:
    """Sections of a label by slide and by the highest stored value at which they are Tumor: int [slides, 256]."""
    counts = np.zeros((len(slides), 256), dtype=np.int64)
    for row in rows:
        if row["label"] == label:
            counts[slides.index(row["slide_id"]), row["until_step"]] += 1
    return counts


def _roc_areas(tumor: Ints, normal: Ints, draws: Ints) -> Floats:
    """How often a Tumor section has the higher value, by pairs of slides: of each row of draws."""
    below = np.cumsum(normal, axis=1) - normal
    wins = tumor @ (below + normal / 2).T
    pairs = (draws @ tumor.sum(1)) * (draws @ normal.sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(((draws @ wins) * draws).sum(1) / pairs)


def _precisions(tumor: Ints, normal: Ints, draws: Ints) -> Floats:
    """The mean precision over Tumor sections, each at its own value as t_p: of each row of draws."""
    found = np.zeros(len(draws))
    for start in range(0, len(draws), 1000):
        of_tumor, of_normal = (draws[start : start + 1000] @ each for each in (tumor, normal))
        tp, fp = (each[:, ::-1].cumsum(1)[:, ::-1] for each in (of_tumor, of_normal))
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(tp + fp > 0, tp / (tp + fp), 0.0)
            found[start : start + 1000] = (of_tumor * precision).sum(1) / of_tumor.sum(1)
    return found


def roc_curves(pack: Pack) -> list[Row]:
    """The confusion at each of the 256 values as t_p."""
    rows = []
    for choice, mine in scored(pack):
        for value in range(256):
            called = [{**row, "verdict": "Tumor" if row["until_step"] >= value else "Normal"} for row in mine]
            sums = confusion(called, slides_in(called)).sum(1)
            found = figures_of(sums, choice["beta"])
            right = int(sums[0] + sums[2])
            rows.append(
                {
                    "setting": choice["setting"],
                    "t_p": value / 255,
                    "t_a_um2": choice["t_a_um2"],
                    **dict(zip(COUNTS, map(int, sums), strict=True)),
                    **{name: float(found[name]) for name in ("sensitivity", "specificity")},
                    "precision": int(sums[0]) / right if right else math.nan,
                    **marks(mine),
                }
            )
    return rows
