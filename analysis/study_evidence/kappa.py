"""Cohen's kappa with its interval, over resampled slides as all other intervals are."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.review.agreement import cohens_kappa
from analysis.study_evidence.resampling import Interval, are_alike, draw_slides, exact_bounds, interval_of
from bccdist.parts import Label

_LABELS = [label.value for label in Label]


def kappa_of(answers: pd.DataFrame) -> Interval:
    """Cohen's kappa of two readers.

    Where every resample agrees alike, as where the readers agree on all, kappa's ends are those at the exact bounds of
    the share that they agree on, with each slide as one trial.

    Args:
        answers: columns slide_id, one and other (Tumor or Normal), a row for each section that both decided.

    Returns:
        NaN where kappa is not defined: without sections, and where both gave all of them one label.
    """
    kappa = cohens_kappa(list(zip(answers["one"], answers["other"], strict=True)))
    if kappa is None:
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"))
    by_slide = np.stack(
        [
            ((answers["one"] == first) & (answers["other"] == second)).groupby(answers["slide_id"]).sum().to_numpy()
            for first in _LABELS
            for second in _LABELS
        ],
        axis=1,
    )
    samples = _kappas(draw_slides(len(by_slide)) @ by_slide)
    # A resample in which chance alone agrees always says nothing of kappa.
    if samples[~np.isnan(samples)].size and not are_alike(samples):
        return interval_of(kappa, samples, num_trials=len(by_slide))
    whole = by_slide.sum(axis=0, keepdims=True)
    shares = exact_bounds(float(_agreed(whole)[0]), len(by_slide))
    low, high = ((share - _by_chance(whole)[0]) / (1 - _by_chance(whole)[0]) for share in shares)
    return Interval(value=kappa, low=float(low), high=float(high))


def _agreed(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of sections on which both say the same: counts [n, 4] of pairs of labels."""
    return np.asarray((counts[:, 0] + counts[:, 3]) / counts.sum(axis=1))


def _by_chance(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share on which they would by chance, each with his own share of Tumor."""
    num = counts.sum(axis=1)
    one, other = (counts[:, 0] + counts[:, 1]) / num, (counts[:, 0] + counts[:, 2]) / num
    return np.asarray(one * other + (1 - one) * (1 - other))


def _kappas(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Kappa of each row; NaN where chance alone agrees always."""
    chance = _by_chance(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1, (_agreed(counts) - chance) / (1 - chance), np.nan)
