"""The certificate's promise on hard heatmaps: fields near the thresholds, errors in clusters, slides that differ."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.sections.certificate import (
    CheckVerdict,
    bound_levels,
    check_outcome,
    is_certified,
    levels_apart,
)
from bccdist.sections.curve import largest_region_curve
from bccdist.sections.verdicts import has_tumor

STEP, SIDE_PX, NUM_SLIDES, SECTIONS, NUM_CALIBRATED, CONFIDENCE = 128, 48, 80, 2, 19, 0.9


@dataclass(frozen=True)
class Drawn:
    """Slides of sections, exact and fast."""

    exact_px: NDArray[np.float64]
    """The largest region at `STEP`: [slides, sections]."""
    fast_px: NDArray[np.float64]
    """The fast way's at every step: [slides, sections, 256]."""

    @property
    def hard_area(self) -> float:
        """An area threshold that lies in the middle of the sections' areas."""
        return float(np.median(self.exact_px))

    def levels(self) -> NDArray[np.int64]:
        """Each section's distance: [slides, sections]."""
        return levels_apart(self.exact_px.ravel(), self.fast_px.reshape(-1, NUM_STEPS + 1), STEP).reshape(
            self.exact_px.shape
        )

    def certified(self, levels: int) -> NDArray[np.bool_]:
        """Which sections are certified: [slides, sections]."""
        flat = self.fast_px.reshape(-1, NUM_STEPS + 1)
        return is_certified(flat, STEP, levels, self.hard_area).reshape(self.exact_px.shape)

    def is_wrong(self) -> NDArray[np.bool_]:
        """Whether the fast verdict is another one: [slides, sections]."""
        fast = has_tumor(self.fast_px[:, :, STEP], self.hard_area)
        return np.asarray(fast != has_tumor(self.exact_px, self.hard_area))


def _smooth(generator: np.random.Generator, sigma_px: float) -> NDArray[np.float64]:
    """A smooth field of mean 0 and spread 1: [h, w]."""
    field = cv2.GaussianBlur(generator.normal(size=(SIDE_PX, SIDE_PX)), (0, 0), sigma_px)
    return np.asarray((field - field.mean()) / field.std())


@pytest.fixture(scope="module", params=["one kind of slides", "slides that differ"])
def drawn(request: pytest.FixtureRequest) -> Drawn:
    """Heatmaps whose fast ones err by some levels where a second field is high, more on some slides than on others."""
    generator = np.random.default_rng(7)
    exact_px, fast_px = [], []
    for _ in range(NUM_SLIDES):
        strength = 6.0 if request.param == "one kind of slides" else float(generator.gamma(1.0, 6.0))
        bias = generator.normal(0, strength / 3)
        for _ in range(SECTIONS):
            exact = STEP + 25 * _smooth(generator, 4)
            clusters = np.clip(_smooth(generator, 3), 0, None) * generator.choice((-1, 1))
            fast = exact + bias + strength * clusters + generator.normal(0, 1, exact.shape)
            curves = [largest_region_curve(each.clip(0, 255).round().astype(np.uint8)) for each in (exact, fast)]
            exact_px.append(float(curves[0][STEP]))
            fast_px.append(curves[1].astype(float))
    shape = (NUM_SLIDES, SECTIONS)
    return Drawn(np.reshape(exact_px, shape), np.reshape(fast_px, (*shape, NUM_STEPS + 1)))


def test_wrong_certified_verdicts_are_rarer_than_promised(drawn: Drawn) -> None:
    generator = np.random.default_rng(8)
    levels, is_wrong = drawn.levels(), drawn.is_wrong()
    assert is_wrong.mean() > 0.02, "the heatmaps are not hard"
    outside, with_wrong, shares, wrong_shares = [], [], [], []
    for _ in range(400):
        order = generator.permutation(NUM_SLIDES)
        calibrated, further = order[:NUM_CALIBRATED], order[NUM_CALIBRATED:]
        bound = bound_levels(levels[calibrated].max(axis=1).tolist(), CONFIDENCE)
        assert bound is not None
        certified = drawn.certified(bound)[further]
        outside.append((levels[further].max(axis=1) > bound).mean())
        with_wrong.append((certified & is_wrong[further]).any(axis=1).mean())
        wrong_shares.append((certified & is_wrong[further]).sum() / max(1, certified.sum()))
        shares.append(certified.mean())
    # The mean over calibrations is what is promised; two standard errors are allowed for 400 of them.
    spread = 2 * np.std(outside) / np.sqrt(len(outside))
    assert np.mean(outside) <= 1 - CONFIDENCE + spread
    assert np.mean(with_wrong) <= np.mean(outside)
    assert np.mean(wrong_shares) <= 1 - CONFIDENCE
    assert np.mean(shares) > 0.1, "nothing is certified, so that nothing is shown"


def test_a_bound_that_is_too_small_is_caught_by_the_running_check(drawn: Drawn) -> None:
    generator = np.random.default_rng(9)
    levels = drawn.levels()
    right = bound_levels(levels.max(axis=1).tolist(), CONFIDENCE)
    assert right is not None
    outcomes = {}
    for bound in (right, right // 4):
        # Half of the certified sections are computed exactly, too, as 80 slides are few.
        checked = drawn.certified(bound) & (generator.random(levels.shape) < 0.5)
        outside = checked & (levels > bound)
        outcomes[bound] = check_outcome(
            int(checked.any(axis=1).sum()), int(outside.any(axis=1).sum()), CONFIDENCE
        ).verdict
    assert outcomes[right] == CheckVerdict.HOLDS
    assert outcomes[right // 4] == CheckVerdict.BROKEN
