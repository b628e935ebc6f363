"""Counts, the paper's figures, and their intervals."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from analysis.evidence_pack.check.findings import COUNTS, FIGURES, LEVEL, NUM_RESAMPLES, SEED, Floats, Ints, Row
from analysis.evidence_pack.check.raw_rows import marks


def confusion(rows: Iterable[Row], clusters: Sequence[str], key: str = "slide_id") -> Ints:
    """TP, FN, FP and TN of each cluster: int [4, clusters]; without a label or for review a row counts nowhere."""
    place = {name: number for number, name in enumerate(clusters)}
    kinds = {("Tumor", "Tumor"): 0, ("Tumor", "Normal"): 1, ("Normal", "Tumor"): 2, ("Normal", "Normal"): 3}
    counts = np.zeros((4, len(clusters)), dtype=np.int64)
    for row in rows:
        if (kind := kinds.get((row["label"], row["verdict"]))) is not None:
            counts[kind, place[row[key]]] += 1
    return counts


def figures_of(counts: Ints, beta: float) -> dict[str, Floats]:
    """Accuracy, sensitivity, specificity and F_beta of counts [4, ...]; NaN where nothing is divided by."""
    tp, fn, fp, tn = (np.asarray(each, dtype=np.float64) for each in counts)
    weight = beta**2
    pairs = {
        "accuracy": (tp + tn, tp + fn + fp + tn),
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "f_beta": ((1 + weight) * tp, (1 + weight) * tp + weight * fn + fp),
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: np.asarray(top / bottom) for name, (top, bottom) in pairs.items()}


@lru_cache(maxsize=4)
def draws_of(num_clusters: int) -> Ints:
    """How often each cluster is drawn in each resample: int [NUM_RESAMPLES, clusters]."""
    random = np.random.default_rng(SEED)
    drawn: Ints = random.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=NUM_RESAMPLES)
    return drawn


def resampled(counts: Ints) -> Ints:
    """The counts of each resample: int [4, NUM_RESAMPLES]."""
    return np.stack([draws_of(counts.shape[1]) @ each for each in counts])


def upper_bound(count: int, num: int, tail: float) -> float:
    """The share at which at most `count` of `num` come with a probability of `tail` (Clopper and Pearson 1934)."""
    if count >= num:
        return 1.0

    def at_most(share: float) -> float:
        logs = (
            math.lgamma(num + 1) - math.lgamma(k + 1) - math.lgamma(num - k + 1)
            + k * math.log(share) + (num - k) * math.log1p(-share)
            for k in range(count + 1)
        )  # fmt: skip
        return math.fsum(map(math.exp, logs))

    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if at_most(middle) > tail else (low, middle)
    return high


def exact_bounds(share: float, num: int) -> tuple[float, float]:
    """Two-sided bounds of a share of `num` trials; of a part of a trial the wider ones."""
    tail, count = (1 - LEVEL) / 2, share * num
    least, most = math.floor(count + 1e-9), math.ceil(count - 1e-9)
    return (1 - upper_bound(num - least, num, tail) if least else 0.0), upper_bound(most, num, tail)


def are_alike(samples: Floats) -> bool:
    """Whether the middle 95 % of what resampling found is one value alone."""
    known = samples[~np.isnan(samples)]
    return bool(known.size) and float(np.ptp(np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))) < 1e-9


def interval(value: float, samples: Floats, num: int, *, is_difference: bool = False) -> tuple[float, float, float]:
    """Value and ends: the middle 95 % of the samples, or the exact bounds of `num` trials where they are alike."""
    known = samples[~np.isnan(samples)]
    if not known.size:
        return value, math.nan, math.nan
    if not are_alike(samples):
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return value, float(low), float(high)
    low, high = exact_bounds(abs(value), num)
    if is_difference and value <= 0:
        low, high = -high, (-low if value else high)
    return value, low, high


def trials(counts: Ints) -> dict[str, int]:
    """Clusters that each figure rests on."""
    tp, fn, fp, tn = counts
    rests = {"accuracy": tp + fn + fp + tn, "sensitivity": tp + fn, "specificity": fp + tn, "f_beta": tp + fn + fp}
    return {name: int(np.count_nonzero(each)) for name, each in rests.items()}


def f_beta_at(sums: Ints, sensitivity: float, specificity: float, beta: float) -> float:
    """F_beta with other shares of right verdicts among as many Tumor and Normal sections."""
    tumor, normal, weight = float(sums[0] + sums[1]), float(sums[2] + sums[3]), beta**2
    hits = (1 + weight) * tumor * sensitivity
    bottom = hits + weight * tumor * (1 - sensitivity) + (normal * (1 - specificity) if normal else 0.0)
    return hits / bottom if bottom else math.nan


def intervals_of(counts: Ints, beta: float) -> dict[str, tuple[float, float, float]]:
    """The four figures of counts [4, clusters] with their ends."""
    sums, num = counts.sum(1), trials(counts)
    value, samples = figures_of(sums, beta), figures_of(resampled(counts), beta)
    result = {name: interval(float(value[name]), samples[name], num[name]) for name in FIGURES}
    if not math.isnan(float(value["f_beta"])) and are_alike(samples["f_beta"]):
        low, high = (f_beta_at(sums, result["sensitivity"][end], result["specificity"][end], beta) for end in (1, 2))
        result["f_beta"] = (float(value["f_beta"]), low, high)
    return result


def with_ends(name: str, found: Sequence[float]) -> Row:
    """An interval as three columns of a table."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


def slides_in(rows: Iterable[Row], key: str = "slide_id") -> list[str]:
    """The slides of some rows, sorted."""
    return sorted({row[key] for row in rows})


def summary(rows: Sequence[Row], beta: float) -> Row:
    """Counts and figures of verdicts."""
    slides, labelled = slides_in(rows), [row for row in rows if row["label"] is not None]
    sums = confusion(rows, slides).sum(1)
    return {
        **dict(zip(COUNTS, map(int, sums), strict=True)),
        **{name: float(value) for name, value in figures_of(sums, beta).items()},
        "num_review": sum(row["verdict"] == "review" for row in labelled),
        "num_sections": len(labelled),
        "num_unlabelled": len(rows) - len(labelled),
        "num_slides": len(slides),
        "beta": beta,
        **marks(rows),
    }


def p_of_difference(counts: Sequence[Ints], beta: float, *, smallest: float) -> float:
    """Two-sided p that two accuracies are alike, by their resampled difference, and at least `smallest`."""
    one, other = (figures_of(resampled(each), beta)["accuracy"] for each in counts)
    drawn = (one - other)[~np.isnan(one - other)]
    if not drawn.size:
        return math.nan
    tail = 1 + min(int((drawn <= 1e-9).sum()), int((drawn >= -1e-9).sum()))
    return min(1.0, max(smallest, 2 * tail / (len(drawn) + 1)))


def adjusted(rows: Iterable[Row], name: str) -> list[Row]:
    """Rows with the p of one column adjusted for the number of those that are known (Holm 1979)."""
    kept = list(rows)
    known = sorted((row for row in kept if not math.isnan(row[name])), key=lambda row: row[name])
    greatest = 0.0
    for number, row in enumerate(known):
        greatest = max(greatest, row[name] * (len(known) - number))
        row[f"{name}_adjusted"] = min(1.0, greatest)
    return [{f"{name}_adjusted": math.nan, **row} for row in kept]
