"""Counts of right and wrong section verdicts, and the paper's four figures from them (sections 2.5 and 3).

Tumor is the positive class. A ratio without anything to divide by is NaN, never 0: it says "not known".
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

Count = int | NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """True and false verdicts; every field is one count, or an array of counts of one shape.

    The figures are float64, of the shape of the counts.
    """

    tp: Count
    """Tumor sections called Tumor."""
    fn: Count
    """Tumor sections called Normal."""
    fp: Count
    """Normal sections called Tumor."""
    tn: Count
    """Normal sections called Normal."""

    @property
    def total(self) -> Count:
        """All sections that were counted."""
        return self.tp + self.fn + self.fp + self.tn

    @property
    def counts(self) -> dict[str, int]:
        """The four counts, each one number, under the names of the tables' columns."""
        return {each.name: int(getattr(self, each.name)) for each in fields(self)}

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of right verdicts."""
        return _ratio(self.tp + self.tn, self.total)

    @property
    def sensitivity(self) -> NDArray[np.float64]:
        """Share of Tumor sections that were found; also called recall."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> NDArray[np.float64]:
        """Share of Normal sections that were called so."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of Tumor verdicts that were right."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of the Tumor class."""
        return _ratio(self.tp, self.tp + self.fn + self.fp)

    def f_beta(self, beta: float) -> NDArray[np.float64]:
        """F_beta (eq. 3) from the counts: 3.25 TP / (3.25 TP + 2.25 FN + FP) for beta 1.5."""
        hits = (1 + beta**2) * self.tp
        return _ratio(hits, hits + beta**2 * self.fn + self.fp)

    def figures(self, beta: float) -> dict[str, Count | NDArray[np.float64]]:
        """The four counts and the paper's four figures, under the names of the tables' columns."""
        return {
            "tp": self.tp,
            "fn": self.fn,
            "fp": self.fp,
            "tn": self.tn,
            "accuracy": self.accuracy,
            "sensitivity": self.sensitivity,
            "specificity": self.specificity,
            "f_beta": self.f_beta(beta),
        }


def count_verdicts(
    *, is_tumor: NDArray[np.bool_], called_tumor: NDArray[np.bool_], called_normal: NDArray[np.bool_]
) -> Confusion:
    """Count verdicts over the first axis; a section that is called neither is left out.

    Args:
        is_tumor: bool [n], the labels.
        called_tumor: bool [n, ...], for instance one column per pair of thresholds.
        called_normal: bool of the same shape.

    Returns:
        Counts of shape [...].
    """
    return Confusion(
        tp=called_tumor[is_tumor].sum(axis=0),
        fn=called_normal[is_tumor].sum(axis=0),
        fp=called_tumor[~is_tumor].sum(axis=0),
        tn=called_normal[~is_tumor].sum(axis=0),
    )


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.asarray(np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom != 0))
