"""Patches are stained otherwise and normalised in optical density; what is told of them is IoU and AUC by pixel."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bccdist.training.augmentation import RGB_OF_STAINS
from benchmarks.stain_transfer import auc, iou
from benchmarks.staining import StainStatistics, normalised, restained, stain_statistics


def _tissue(seed: int = 0, *, haematoxylin: float = 1.0, eosin: float = 1.0) -> NDArray[np.uint8]:
    """A patch whose left half is stained at random and whose right half is white, RGB [64, 64, 3]."""
    random = np.random.default_rng(seed)
    amounts = np.zeros((64, 64, 3))
    amounts[:, :32, :2] = random.uniform(0.2, 0.8, (64, 32, 2)) * (haematoxylin, eosin)
    return np.clip(256 * np.exp(-amounts @ RGB_OF_STAINS) - 1, 0, 255).round().astype(np.uint8)


def test_factors_of_one_leave_every_value_as_it_is() -> None:
    """All 256 greys and random colours come back."""
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    colours = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for image in (greys, colours):
        assert np.array_equal(restained(image, haematoxylin=1.0, eosin=1.0), image)


@pytest.mark.parametrize("factors", [(0.7, 1.3), (0.45, 0.6), (1.2, 1.0)])
def test_restained_tissue_has_the_densities_that_its_stains_would_have_had(factors: tuple[float, float]) -> None:
    """A picture painted with more or less of a stain is the restained one, but for rounding."""
    haematoxylin, eosin = factors
    painted = _tissue(haematoxylin=haematoxylin, eosin=eosin).astype(int)
    found = restained(_tissue(), haematoxylin=haematoxylin, eosin=eosin).astype(int)
    assert np.abs(found - painted).max() <= 2


@pytest.mark.parametrize("factors", [(0.45, 0.6), (1.4, 0.8)])
def test_normalised_slides_have_the_wanted_statistics(factors: tuple[float, float]) -> None:
    """Whatever the slide was stained like, mean and spread of its tissue are those of another one afterwards."""
    wanted = stain_statistics([_tissue(2), _tissue(3)])
    image = restained(_tissue(4), haematoxylin=factors[0], eosin=factors[1])
    there = stain_statistics([normalised(image, here=stain_statistics([image]), wanted=wanted)])
    assert there.mean == pytest.approx(wanted.mean, abs=0.02)
    assert there.spread == pytest.approx(wanted.spread, abs=0.02)


def test_glass_does_not_count_as_tissue_however_faint_the_stain_is() -> None:
    """A slide of half glass has the statistics of its tissue alone."""
    faint = _tissue(5, haematoxylin=0.3, eosin=0.3)
    alone = stain_statistics([faint[:, :32]])
    for mine, its in zip(stain_statistics([faint]), alone, strict=True):
        assert mine == pytest.approx(its, abs=1e-6)


def test_a_flat_patch_is_normalised_to_the_wanted_mean() -> None:
    """No spread is no division by nothing."""
    flat = np.full((8, 8, 3), 100, dtype=np.uint8)
    wanted = StainStatistics(np.array([0.5, 0.9, 0.4]), np.array([0.2, 0.3, 0.1]))
    found = normalised(flat, here=stain_statistics([flat]), wanted=wanted)
    assert np.abs(found - (256 * np.exp(-wanted.mean) - 1)).max() <= 1


def test_iou_and_auc_of_counts_are_those_of_the_pixels() -> None:
    """Held against pairs of pixels, one by one, and against the sets that IoU compares."""
    random = np.random.default_rng(6)
    normal, tumor = random.integers(0, 200, 300), random.integers(90, 256, 80)
    counts = np.stack([np.bincount(steps, minlength=256) for steps in (normal, tumor)])
    pairs = (tumor[:, None] > normal) + 0.5 * (tumor[:, None] == normal)
    assert auc(counts) == pytest.approx(pairs.mean())
    assert iou(counts) == pytest.approx((tumor >= 128).sum() / (80 + (normal >= 128).sum()))
