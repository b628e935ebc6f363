"""The labelled sections of a site, and how far they are a random sample of it.

A work list names sections that were drawn at random and sections that were taken for what their labels tell (near the
decision, unlike the rest). The second kind is a stratum of its own: each stands for itself, and the random ones for
all others. So figures of both together are weighted, and what is promised rests on the random ones alone. Where all
sections are labelled nothing was drawn, and none is weighted.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.site_transfer.sections import MeasuredSections
from bccdist.errors import LedgerError

Drawn = Literal["all", "random", "active", "both", "not known"]
FEWEST_OF_A_KIND = 5
"""Labelled sections of either kind."""
FEWEST_SLIDES = 5
"""Slides with labelled sections."""


@dataclass(frozen=True, kw_only=True)
class SiteLabels:
    """Labelled sections, n of them.

    Attributes:
        sections: that have a label.
        drawn: how each was drawn: "all" where every section is labelled: str [n].
        weights: for how many sections of the cohort each stands: float [n].
        num_cohort: all wholly read and assessable sections of the cohort.
        num_cohort_slides: slides that these are of.
        num_not_assessable: labelled sections that are left out, as they are not assessable and so never Normal.
        digest: names the labels.
    """

    sections: MeasuredSections
    drawn: NDArray[np.str_]
    weights: NDArray[np.float64]
    num_cohort: int
    num_cohort_slides: int
    num_not_assessable: int = 0
    digest: str = ""

    @property
    def is_random(self) -> NDArray[np.bool_]:
        """Which may bear a promise: bool [n]."""
        return np.isin(self.drawn, ["all", "random", "both"])

    @property
    def random(self) -> "SiteLabels":
        """Those alone, each of weight 1."""
        mine = self.is_random
        return replace(
            self, sections=self.sections.where(mine), drawn=self.drawn[mine], weights=np.ones(int(mine.sum()))
        )

    @property
    def more_slides(self) -> str:
        """What to do where of so few slides no number of labels counts; empty where there are enough."""
        missing = FEWEST_SLIDES - self.num_cohort_slides
        if missing <= 0:
            return ""
        return (
            f"apply the model to at least {missing} more slide(s) of this site, into the same cohort: thresholds and "
            f"figures take labels of at least {FEWEST_OF_A_KIND} Tumor and {FEWEST_OF_A_KIND} Normal sections of at "
            f"least {FEWEST_SLIDES} slides with assessable sections, and of {self.num_cohort_slides} no number of "
            "labels is enough"
        )

    @property
    def left_out(self) -> str:
        """How many labels are left out, to go on behind `lack`; empty where none is."""
        num = self.num_not_assessable
        return f"; {num} more with a label are left out, as they are not assessable" if num else ""

    @property
    def lack(self) -> str:
        """Why there are too few to say anything; empty where there are enough."""
        tumor, normal = int(self.sections.is_tumor.sum()), int(self.sections.is_normal.sum())
        if min(tumor, normal) >= FEWEST_OF_A_KIND and self.sections.num_slides >= FEWEST_SLIDES:
            return ""
        what = "one kind alone" if min(tumor, normal) == 0 and tumor + normal else "too few"
        return (
            f"{what}: {tumor} Tumor and {normal} Normal sections of {self.sections.num_slides} slide(s) have a label; "
            f"expected at least {FEWEST_OF_A_KIND} of each, of at least {FEWEST_SLIDES} slides"
        )


def site_labels(
    cohort: MeasuredSections, drawn: pd.Series, *, are: Drawn | None = None, digest: str = ""
) -> SiteLabels:
    """The labelled sections of a cohort with their weights.

    Args:
        cohort: all of its sections.
        drawn: "random", "active" or "both" by (slide_id, section_id), from work lists.
        are: how all of them were drawn, where somebody says so.
        digest: names the labels.
    """
    mine = cohort.is_labelled & cohort.is_assessable
    keys = pd.MultiIndex.from_frame(cohort.frame[["slide_id", "section_id"]])
    how = drawn.reindex(keys).fillna("not known").to_numpy(dtype=str)
    if (cohort.is_labelled | ~cohort.is_assessable).all() and cohort.is_labelled.any():
        how = np.full(cohort.num, "all")
    elif are is not None:
        how = np.full(cohort.num, are)
    return SiteLabels(
        sections=cohort.where(mine),
        drawn=how[mine],
        weights=_weights(how, mine, cohort.is_assessable)[mine],
        num_cohort=int(cohort.is_assessable.sum()),
        num_cohort_slides=cohort.num_assessable_slides,
        num_not_assessable=int((cohort.is_labelled & ~cohort.is_assessable).sum()),
        digest=digest,
    )


def _weights(
    how: NDArray[np.str_], is_labelled: NDArray[np.bool_], is_assessable: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """For how many sections each labelled one stands; those of unknown origin stand for themselves."""
    weights = np.ones(len(how))
    num_random = int(((how == "random") & is_labelled).sum())
    is_taken = np.isin(how, ["active", "both", "not known"]) & is_labelled
    if num_random:
        weights[how == "random"] = (int(is_assessable.sum()) - int(is_taken.sum())) / num_random
    return weights


def require_enough(labels: SiteLabels, where: str) -> None:
    """Refuse labels that were given and say nothing.

    Raises:
        LedgerError: there are too few, or of one kind alone.
    """
    if labels.lack:
        next_step = labels.more_slides or "label more: without --labels the command says which sections come next"
        raise LedgerError(f"{where}: {labels.lack}{labels.left_out}; {next_step}")
