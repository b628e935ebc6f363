"""The painted sections: nests and follicles share their colours and differ in structure."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from bccdist.errors import ConfigurationError
from bccdist.parts import Label
from bccdist.phantom.islands import IslandKind
from bccdist.phantom.painting import OTHER_TISSUE, PaintedSection, paint_section
from bccdist.phantom.stains import draw_staining

WIDTH_PX, HEIGHT_PX = 560, 460
NUM_SECTIONS = 16


@dataclass(frozen=True, kw_only=True)
class Pictured:
    """A section and how it looks, [h, w, 3] in 0 to 255."""

    section: PaintedSection
    rgb: NDArray[np.float32]


@pytest.fixture(scope="module")
def pictures() -> list[Pictured]:
    return [_picture(seed) for seed in range(NUM_SECTIONS)]


def _picture(seed: int) -> Pictured:
    rng = np.random.default_rng(seed)
    section = paint_section(rng, Label.TUMOR, width_px=WIDTH_PX, height_px=HEIGHT_PX)
    light = draw_staining(rng).transmittance(section.hematoxylin, section.eosin)
    return Pictured(section=section, rgb=255 * light)


def _auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def _lda_auc(nest: NDArray[np.float64], follicle: NDArray[np.float64]) -> float:
    """AUC of the best linear direction, measured on the pixels that it was fitted to: an optimistic number."""
    direction = np.linalg.solve(np.cov(nest.T) + np.cov(follicle.T), nest.mean(0) - follicle.mean(0))
    return _auc(nest @ direction, follicle @ direction)


def _pixels(
    pictures: list[Pictured], values: list[NDArray[np.float32]], kind: IslandKind, *, inset_px: int = 0
) -> NDArray[np.float64]:
    """The values at all pixels of islands of that kind, at least `inset_px` inside them."""
    picked = [
        value[cv2.distanceTransform((picture.section.truth == kind).astype(np.uint8), cv2.DIST_L2, 5) > inset_px]
        for picture, value in zip(pictures, values, strict=True)
    ]
    return np.concatenate(picked).astype(np.float64)


def _with_squares(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = (rgb - 160) / 60
    products = [scaled[:, i] * scaled[:, j] for i in range(3) for j in range(i, 3)]
    return np.column_stack([scaled, *products])


def test_colour_alone_does_not_separate_nests_from_follicles(pictures: list[Pictured]) -> None:
    """Smoothed colour, linear and quadratic, gets an AUC below 0.7 even on the pixels it was fitted to."""
    smoothed = [cv2.GaussianBlur(picture.rgb, (0, 0), 8) for picture in pictures]
    nest, follicle = (_pixels(pictures, smoothed, kind) for kind in (IslandKind.NEST, IslandKind.FOLLICLE))
    assert _lda_auc(nest, follicle) < 0.7
    assert _lda_auc(_with_squares(nest), _with_squares(follicle)) < 0.7


def test_sharp_colour_does_not_separate_either(pictures: list[Pictured]) -> None:
    """The nuclei, the cytoplasm and the pale places have the same colours in both."""
    sharp = [picture.rgb for picture in pictures]
    nest, follicle = (_pixels(pictures, sharp, kind) for kind in (IslandKind.NEST, IslandKind.FOLLICLE))
    assert _lda_auc(nest, follicle) < 0.65


def _coherence(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much the edges within about 8 px agree in direction, 0 to 1 (structure tensor)."""
    grey = cv2.GaussianBlur(rgb.mean(axis=2), (0, 0), 1.5)
    x, y = cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1)
    xx, yy, xy = (cv2.GaussianBlur(product, (0, 0), 8) for product in (x * x, y * y, x * y))
    return np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + 1e-3)


def test_structure_separates_them(pictures: list[Pictured]) -> None:
    """Rings have one direction within 8 px, crowded round nuclei have none; borders (10 px) have one in both."""
    coherence = [_coherence(picture.rgb) for picture in pictures]
    follicle, nest = (
        _pixels(pictures, coherence, kind, inset_px=10) for kind in (IslandKind.FOLLICLE, IslandKind.NEST)
    )
    assert _auc(follicle, nest) > 0.85


def test_sizes_overlap(pictures: list[Pictured]) -> None:
    """Some follicles are larger than some nests, and the other way round."""
    islands = [island for picture in pictures for island in picture.section.islands]
    nests = [island.outline.mean_radius_px for island in islands if island.kind is IslandKind.NEST]
    follicles = [island.outline.mean_radius_px for island in islands if island.kind is IslandKind.FOLLICLE]
    assert np.median(nests) < max(follicles)
    assert np.median(follicles) < max(nests)


def test_truth_follows_the_outlines(pictures: list[Pictured]) -> None:
    """Each island's pixels in the truth are those that its outline holds."""
    for picture in pictures[:4]:
        section = picture.section
        for kind in IslandKind:
            area_px = sum(_area_px2(island.outline.points_px()) for island in section.islands if island.kind is kind)
            assert (section.truth == kind).sum() == pytest.approx(area_px, rel=0.01)


def _area_px2(points: NDArray[np.float64]) -> float:
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


@pytest.mark.parametrize("label", list(Label))
def test_nests_are_in_tumor_sections_only_and_follicles_in_all(label: Label) -> None:
    """Two to six nests where the label is Tumor, none elsewhere; one to four follicles everywhere."""
    section = paint_section(np.random.default_rng(5), label, width_px=WIDTH_PX, height_px=HEIGHT_PX)
    kinds = [island.kind for island in section.islands]
    assert kinds.count(IslandKind.NEST) in (range(2, 7) if label is Label.TUMOR else [0])
    assert kinds.count(IslandKind.FOLLICLE) in range(1, 5)
    assert set(np.unique(section.truth)) == {0, OTHER_TISSUE, *kinds}


def test_the_same_numbers_paint_the_same_section() -> None:
    """A section follows from its generator alone."""
    first, again, other = (_picture(seed).rgb for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_too_small_a_section_is_an_error_that_names_its_size() -> None:
    with pytest.raises(ConfigurationError, match="90 x 80 px at 10x has no room"):
        paint_section(np.random.default_rng(0), Label.TUMOR, width_px=90, height_px=80)
