"""Image and mask change together, within the configured ranges, and from (seed, epoch, position) alone."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.configuration import AugmentConfig
from bccdist.training.augmentation import Augmentation, augment, draw_augmentation

STILL = AugmentConfig(rotation_deg=0, scale=(1, 1), blur_sigma_px=0, stain=0, brightness=0, elastic_px=0)
"""Draws the identity."""
WHITE, PINK = (255, 255, 255), (205, 130, 180)


def _draw(config: AugmentConfig, *, seed: int = 0, epoch: int = 1, position: int = 0) -> Augmentation:
    return draw_augmentation(config, seed=seed, epoch=epoch, position=position)


def _patch(height_px: int = 128, width_px: int = 128) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Smooth colours and a mask of two shapes."""
    noise = np.random.default_rng(0).uniform(20, 250, (height_px // 16, width_px // 16, 3)).astype(np.float32)
    image = cv2.resize(noise, (width_px, height_px), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    mask = np.zeros((height_px, width_px), dtype=np.uint8)
    mask[height_px // 8 : height_px // 2, width_px // 4 : width_px // 2] = 1
    mask[height_px * 5 // 8 :, width_px * 5 // 8 :] = 1
    return image, mask


def _plain(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.full((16, 16, 3), colour, dtype=np.uint8)


def _disc(*, radius_px: int, side_px: int = 256) -> NDArray[np.uint8]:
    y, x = np.mgrid[:side_px, :side_px] - (side_px - 1) / 2
    return np.asarray(x**2 + y**2 < radius_px**2, dtype=np.uint8)


def test_equal_places_in_a_run_give_equal_results() -> None:
    image, mask = _patch()
    results = [augment(image, mask, _draw(AugmentConfig(), seed=3, epoch=2, position=9)) for _ in range(2)]
    assert all(np.array_equal(first, second) for first, second in zip(*results, strict=True))


@pytest.mark.parametrize("changes", [{"seed": 1}, {"epoch": 2}, {"position": 1}])
def test_another_place_in_a_run_is_another_change(changes: dict[str, int]) -> None:
    image, mask = _patch()
    here, there = (augment(image, mask, _draw(AugmentConfig(), **place)) for place in ({}, changes))
    assert np.abs(here[0].astype(int) - there[0]).mean() > 5
    assert (here[1] != there[1]).any()


def test_seed_epoch_and_position_do_not_stand_for_each_other() -> None:
    places = [(seed, epoch, position) for seed in range(4) for epoch in range(4) for position in range(4)]
    angles = {_draw(AugmentConfig(), seed=s, epoch=e, position=p).angle_rad for s, e, p in places}
    assert len(angles) == len(places)


@settings(deadline=None, max_examples=20)
@given(position=st.integers(0, 10_000), values=st.sets(st.integers(0, 255), min_size=2, max_size=4))
def test_mask_values_stay_in_their_set(position: int, values: set[int]) -> None:
    image, _ = _patch()
    mask = np.random.default_rng(position).choice(sorted(values), (128, 128)).astype(np.uint8)
    _, moved = augment(image, mask, _draw(AugmentConfig(), position=position))
    assert moved.dtype == np.uint8
    assert set(np.unique(moved).tolist()) <= values


def test_no_change_leaves_the_patch_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 96, 3), dtype=np.uint8)
    mask = np.random.default_rng(1).integers(0, 2, (128, 96), dtype=np.uint8)
    same_image, same_mask = augment(image, mask, _draw(STILL))
    difference = same_image.astype(int) - image
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.01  # rounded, not cut
    assert np.array_equal(same_mask, mask)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_exact(quarters: int) -> None:
    image, mask = _patch()
    change = replace(_draw(STILL), angle_rad=quarters * np.pi / 2)
    turned_image, turned_mask = augment(image, mask, change)
    turns = [k for k in range(4) if np.array_equal(turned_mask, np.rot90(mask, k))]
    assert turns in ([quarters], [4 - quarters])
    inner = (slice(1, -1), slice(1, -1))
    assert np.abs(turned_image[inner].astype(int) - np.rot90(image, turns[0])[inner]).max() <= 1


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.25])
def test_areas_grow_with_the_square_of_the_scale(scale: float) -> None:
    disc = _disc(radius_px=60)
    _, scaled = augment(np.repeat(disc[..., None], 3, axis=2), disc, replace(_draw(STILL), scale=scale))
    assert scaled.sum() / disc.sum() == pytest.approx(scale**2, rel=0.02)


@settings(deadline=None, max_examples=20)
@given(position=st.integers(0, 10_000))
def test_image_and_mask_move_together(position: int) -> None:
    mask = np.zeros((256, 256), dtype=np.uint8)
    mask[60:200, 30:120] = mask[90:150, 150:230] = 1
    config = AugmentConfig(blur_sigma_px=0, stain=0, brightness=0)
    image, moved = augment(np.repeat(mask[..., None] * 255, 3, axis=2), mask, _draw(config, position=position))
    seen = image[..., 0] > 127
    assert (seen & (moved > 0)).sum() / (seen | (moved > 0)).sum() > 0.97


def test_the_elastic_field_bends() -> None:
    mask = _disc(radius_px=60)
    moved = augment(np.repeat(mask[..., None], 3, axis=2), mask, _draw(replace(STILL, elastic_px=8.0)))[1]
    overlap = (mask & moved).sum() / (mask | moved).sum()
    assert 0.7 < overlap < 0.98
    assert moved.sum() / mask.sum() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("position", range(5))
def test_stain_changes_tissue_and_spares_glass(position: int) -> None:
    change = _draw(replace(STILL, stain=0.15), position=position)
    glass, tissue = (augment(_plain(colour), np.zeros((16, 16), np.uint8), change)[0] for colour in (WHITE, PINK))
    assert np.abs(glass.astype(int) - WHITE).max() <= 1
    assert 2 <= np.abs(tissue.astype(int) - PINK).max() <= 40


@pytest.mark.parametrize(("offset", "expected"), [(0.05, 256 * np.exp(-0.05) - 1), (-0.05, 255)])
def test_brightness_is_added_to_the_optical_density_of_glass_too(offset: float, expected: float) -> None:
    still = _draw(STILL)
    shifted = np.hstack([still.density_matrix[:, :3], np.full((3, 1), offset, np.float32)])
    glass, _ = augment(_plain(WHITE), np.zeros((16, 16), np.uint8), replace(still, density_matrix=shifted))
    assert np.abs(glass - expected).max() <= 1


def test_blur_smooths_the_image_and_not_the_mask() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = np.random.default_rng(1).integers(0, 2, (64, 64), dtype=np.uint8)
    smooth, same = augment(image, mask, replace(_draw(STILL), blur_sigma_px=1.5))
    assert smooth.std() < image.std() / 2
    assert smooth.mean() == pytest.approx(image.mean(), abs=1)
    assert np.array_equal(same, mask)


def test_draws_fill_their_ranges_and_stay_inside() -> None:
    config = AugmentConfig()
    draws = [_draw(config, position=position) for position in range(200)]
    _expect_range([draw.angle_rad for draw in draws], 0, 2 * np.pi)
    _expect_range([np.log(draw.scale) for draw in draws], np.log(0.8), np.log(1.25))
    _expect_range([draw.blur_sigma_px for draw in draws], 0, config.blur_sigma_px)
    _expect_range([float(draw.density_matrix[0, 3]) for draw in draws], -config.brightness, config.brightness)
    factors = np.array([np.linalg.eigvals(draw.density_matrix[:, :3]).real for draw in draws])
    _expect_range(factors.ravel().tolist(), 1 - config.stain, 1 + config.stain)
    nodes = np.stack([draw.elastic_px for draw in draws])
    assert nodes.shape == (200, config.elastic_grid, config.elastic_grid, 2)
    assert nodes.std() == pytest.approx(config.elastic_px, rel=0.05)


def _expect_range(values: list[float], low: float, high: float) -> None:
    width = high - low
    assert low - 1e-5 <= min(values) < low + 0.1 * width
    assert high - 0.1 * width < max(values) <= high + 1e-5
    assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.1 * width)


def test_a_patch_may_be_wider_than_high() -> None:
    image, mask = _patch(64, 192)
    changed_image, changed_mask = augment(image, mask, _draw(AugmentConfig()))
    assert (changed_image.shape, changed_mask.shape) == (image.shape, mask.shape)
    assert changed_image.dtype == changed_mask.dtype == np.uint8
    half_turn = augment(image, mask, replace(_draw(STILL), angle_rad=np.pi))
    assert np.array_equal(half_turn[1], mask[::-1, ::-1])


def test_outside_the_patch_its_mirror_image_is_seen() -> None:
    image, _ = _patch()
    mask = np.zeros((128, 128), dtype=np.uint8)
    mask[:, :16] = 1
    _, shrunk = augment(image, mask, replace(_draw(STILL), scale=0.8))
    # 16 columns and their mirror image of 15, at 0.8 of their size, about the old edge at column 12.8.
    assert np.flatnonzero(shrunk[64]).tolist() == list(range(1, 26))
