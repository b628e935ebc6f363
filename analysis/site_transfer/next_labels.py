"""Which sections to label next: a work list of random ones, and of ones whose labels tell the most.

The random ones bear what is promised, so they come first and are drawn over all sections: each has a fixed place in
one random order of the cohort, and the lists go on along it. What that order passes over, as it has a label already,
belongs to the sample, too (`reading.drawn_by_lists`). The others are near the decision (a small flip shift at the
model's thresholds) or unlike the slides that the model was chosen on, at most so many a slide that no slide takes them
all. Both kinds alternate, so that whoever stops early has some of each.
"""

import math
from itertools import chain, zip_longest

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.site_transfer.sections import MeasuredSections
from bccdist.files import digest_of
from bccdist.heatmaps.probability import step_of
from bccdist.sections.assessable import NearestSections
from bccdist.sections.verdicts import flip_shift

RANDOM_SHARE = 0.5
_NOVEL_SHARE = 0.25
"""Of the sections that are taken for what they tell: so many for their features, the others for their margin."""
COLUMNS = ("slide_id", "section_id", "drawn", "why", "seed")


def next_labels(
    reference: MeasuredSections,
    here: MeasuredSections,
    num: int,
    *,
    random_share: float = RANDOM_SHARE,
    seed: int = 0,
) -> pd.DataFrame:
    """The work list: `COLUMNS`, at most `num` rows, the first to be labelled first.

    Args:
        reference: what the model was chosen on.
        here: the cohort's sections; those with a label are left out, and those that are not assessable, whose labels
            would count for nothing.
        num: how many.
        random_share: share of them that is drawn at random, 0 to 1.
        seed: of the draw; a section keeps its place in it, whatever is added.

    `drawn` is "random", "active", or "both": drawn at random, and taken for what it tells had it not been.
    """
    keys = list(zip(here.frame["slide_id"], here.frame["section_id"], strict=True))
    is_open = ~here.is_labelled & here.is_assessable
    num = min(num, int(is_open.sum()))
    num_random = round(num * random_share)
    order = sorted(map(int, np.flatnonzero(is_open)), key=lambda place: place_in_draw(seed, *keys[place]))
    drawn = set(order[:num_random])
    active = dict(_active(reference, here, is_open, num - num_random))
    # What tells the most is chosen whatever was drawn, so that it is a stratum of its own; the list is filled up.
    for more in range(num - num_random + 1, num + 1):
        if len(drawn | set(active)) >= num:
            break
        active = dict(_active(reference, here, is_open, more))
    random = [
        (place, f"drawn at random; {active[place]}" if place in active else "drawn at random")
        for place in order[:num_random]
    ]
    told = [(place, why) for place, why in active.items() if place not in drawn]
    rows = [
        {
            "slide_id": keys[place][0],
            "section_id": keys[place][1],
            "drawn": "both" if how == "random" and place in active else how,
            "why": why,
            "seed": seed,
        }
        for how, (place, why) in _alternating(random, told)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def place_in_draw(seed: int, slide_id: str, section_id: str) -> str:
    """Where a section lies in the random order of all sections: hex digits, the lowest is drawn first."""
    return digest_of(["transfer", seed, slide_id, section_id])


def _alternating(random: list[tuple[int, str]], active: list[tuple[int, str]]) -> list[tuple[str, tuple[int, str]]]:
    pairs = zip_longest((("random", each) for each in random), (("active", each) for each in active))
    return [each for each in chain.from_iterable(pairs) if each is not None]


def _active(
    reference: MeasuredSections, here: MeasuredSections, is_open: NDArray[np.bool_], num: int
) -> list[tuple[int, str]]:
    """Places of sections that tell the most, each with why."""
    margins = flip_shift(here.steps, step_of(here.choice.t_p))
    # What no shift changes is 1 away from the decision as far as an order goes.
    margins = np.where(np.isfinite(margins), margins, 1.0)
    novelty = section_novelty(reference, here)
    orders = [(np.argsort(margins, kind="stable"), "near the decision")]
    num_novel = 0
    if novelty is not None:
        num_novel = round(num * _NOVEL_SHARE)
        orders.append((np.argsort(-novelty, kind="stable"), "unlike the slides of the model"))
    slides = here.frame["slide_id"].to_numpy()
    quota = max(1, math.ceil(2 * num / max(1, here.num_slides)))
    taken: dict[int, str] = {}
    used: dict[str, int] = {}
    for (order, why), wanted in zip(orders, (num - num_novel, num), strict=False):
        for place in order:
            if len(taken) >= wanted:
                break
            if is_open[place] and place not in taken and used.get(slides[place], 0) < quota:
                taken[int(place)] = f"{why} (flip shift {margins[place]:.2f})" if why.startswith("near") else why
                used[slides[place]] = used.get(slides[place], 0) + 1
    return list(taken.items())


def section_novelty(reference: MeasuredSections, here: MeasuredSections) -> NDArray[np.float64] | None:
    """How far each section's features lie from the nearest of the reference's, as the limits of quality ask: [n]."""
    if reference.features is None or here.features is None or reference.features.shape[1] != here.features.shape[1]:
        return None
    has = np.isfinite(reference.features).all(axis=1)
    nearest = NearestSections.of(reference.features[has], reference.frame["slide_id"].to_numpy()[has])
    return None if nearest is None else nearest.distance(here.features)
