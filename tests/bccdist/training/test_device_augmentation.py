"""A batch changed where the network is looks as its patches changed one by one on the CPU."""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from bccdist.configuration import AugmentConfig
from bccdist.training.augmentation import Augmentation, augment, draw_augmentation
from bccdist.training.device_augmentation import Changes, augment_batch

STILL = AugmentConfig(rotation_deg=0, scale=(1, 1), blur_sigma_px=0, stain=0, brightness=0, elastic_px=0)
"""Draws the identity."""
NUM = 8
MAX_BLUR_SIGMA_PX = AugmentConfig().blur_sigma_px


class Size(NamedTuple):
    height_px: int
    width_px: int


class Patch(NamedTuple):
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


SIZES = (Size(256, 256), Size(128, 320), Size(301, 97))


def draws(config: AugmentConfig, *, num: int = NUM, first: int = 0) -> list[Augmentation]:
    return [draw_augmentation(config, seed=0, epoch=1, position=first + number) for number in range(num)]


def tissue(size: Size, *, seed: int) -> Patch:
    """Coloured clouds with the grain of tissue, and a mask of three values."""
    random = np.random.default_rng(seed)
    clouds = random.uniform(40, 240, (size.height_px // 8, size.width_px // 8, 3)).astype(np.float32)
    smooth = cv2.resize(clouds, (size.width_px, size.height_px), interpolation=cv2.INTER_CUBIC)
    grain = random.normal(0, 8, smooth.shape)
    mask = np.digitize(smooth[..., 0], [100, 170]).astype(np.uint8)
    return Patch(np.clip(smooth + grain, 0, 255).astype(np.uint8), mask)


def on_device(
    patches: list[Patch], changes: list[Augmentation], *, max_blur_sigma_px: float = MAX_BLUR_SIGMA_PX
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, masks = augment_batch(*batch_of(patches), Changes.stack(changes), max_blur_sigma_px=max_blur_sigma_px)
    assert images.dtype == masks.dtype == torch.uint8
    assert images.is_contiguous()
    assert masks.is_contiguous()
    return images.numpy(), masks.numpy()


def batch_of(patches: list[Patch]) -> tuple[Tensor, Tensor]:
    return tuple(torch.from_numpy(np.stack(arrays)) for arrays in zip(*patches, strict=True))  # type: ignore[return-value]


def one_by_one(patches: list[Patch], changes: list[Augmentation]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    results = [augment(*patch, change) for patch, change in zip(patches, changes, strict=True)]
    images, masks = zip(*results, strict=True)
    return np.stack(images), np.stack(masks)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("first", [0, 1000])
def test_images_and_masks_are_those_of_the_cpu_but_for_rounding(size: Size, first: int) -> None:
    patches = [tissue(size, seed=number) for number in range(NUM)]
    changes = draws(AugmentConfig(), first=first)
    images, masks = on_device(patches, changes)
    expected_images, expected_masks = one_by_one(patches, changes)
    difference = images.astype(int) - expected_images
    assert images.shape == expected_images.shape
    assert np.abs(difference).mean() < 0.3
    assert np.percentile(np.abs(difference), 99.9) <= 2
    assert abs(difference.mean()) < 0.02
    assert (masks != expected_masks).mean() < 1e-4


@pytest.mark.parametrize(
    "config",
    [
        replace(STILL, rotation_deg=360),
        replace(STILL, scale=(0.5, 2)),
        replace(STILL, elastic_px=8.0),
        replace(STILL, elastic_px=8.0, elastic_grid=1),
        replace(STILL, stain=0.3),
        replace(STILL, brightness=0.2),
        replace(STILL, blur_sigma_px=4.0),
    ],
    ids=["rotation", "scale", "elastic", "elastic of one node", "stain", "brightness", "blur"],
)
def test_each_change_alone_is_that_of_the_cpu(config: AugmentConfig) -> None:
    patches = [tissue(Size(160, 128), seed=number) for number in range(NUM)]
    changes = draws(config)
    images, masks = on_device(patches, changes, max_blur_sigma_px=config.blur_sigma_px)
    expected_images, expected_masks = one_by_one(patches, changes)
    assert np.abs(images.astype(int) - expected_images).mean() < 0.3
    assert np.abs(images.astype(int) - np.stack([patch.image for patch in patches])).mean() > 1
    assert (masks != expected_masks).mean() < 2e-4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("max_blur_sigma_px", [0.0, 1.5])
def test_no_change_leaves_every_pixel_as_it_is(size: Size, max_blur_sigma_px: float) -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    patch = Patch(image, random.integers(0, 256, size, dtype=np.uint8))
    images, masks = on_device([patch], draws(STILL, num=1), max_blur_sigma_px=max_blur_sigma_px)
    assert np.array_equal(images[0], patch.image)
    assert np.array_equal(masks[0], patch.mask)


@settings(deadline=None, max_examples=25)
@given(
    angle_rad=st.floats(0, 2 * np.pi),
    scale=st.floats(0.8, 1.25),
    distance_px=st.floats(0, 40),
    direction_rad=st.floats(0, 2 * np.pi),
)
def test_a_dot_goes_where_the_cpu_and_the_formula_say(
    angle_rad: float, scale: float, distance_px: float, direction_rad: float
) -> None:
    size = Size(128, 160)
    centre = np.array([size.width_px - 1, size.height_px - 1]) / 2
    x, y = np.round(centre + distance_px * np.array([np.cos(direction_rad), np.sin(direction_rad)])).astype(int)
    patch = dot(size, x=int(x), y=int(y))
    change = replace(draws(STILL, num=1)[0], angle_rad=angle_rad, scale=scale)
    turn = np.array([[np.cos(angle_rad), -np.sin(angle_rad)], [np.sin(angle_rad), np.cos(angle_rad)]])
    expected_xy = centre + scale * turn @ (np.array([x, y]) - centre)
    for images, masks in (on_device([patch], [change]), one_by_one([patch], [change])):
        assert centroid_xy(images[0, ..., 1], near_xy=expected_xy) == pytest.approx(expected_xy, abs=0.05)
        assert centroid_xy(masks[0], near_xy=expected_xy) == pytest.approx(expected_xy, abs=0.5)


def dot(size: Size, *, x: int, y: int) -> Patch:
    """A soft white dot on black, and a hard one in the mask."""
    rows, columns = np.mgrid[: size.height_px, : size.width_px]
    soft = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 2.0**2))
    image = (soft[..., None].repeat(3, axis=2) * 255).round().astype(np.uint8)
    return Patch(image, np.asarray(soft > 0.1, dtype=np.uint8))


def centroid_xy(image: NDArray[np.uint8], *, near_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of what is within 12 px of a place: a shrunk patch shows mirror images of the dot, too."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    is_near = np.hypot(x - near_xy[0], y - near_xy[1]) < 12
    weights = np.where(is_near, image.astype(np.float64), 0)
    return np.array([(x * weights).sum(), (y * weights).sum()]) / max(weights.sum(), 1e-9)


@settings(deadline=None, max_examples=10)
@given(position=st.integers(0, 10_000), values=st.sets(st.integers(0, 255), min_size=2, max_size=4))
def test_masks_stay_hard(position: int, values: set[int]) -> None:
    mask = np.random.default_rng(position).choice(sorted(values), (96, 128)).astype(np.uint8)
    _, masks = on_device(
        [Patch(np.zeros((96, 128, 3), np.uint8), mask)], draws(AugmentConfig(), num=1, first=position)
    )
    assert set(np.unique(masks).tolist()) <= values


def test_a_batch_is_its_patches_bit_for_bit() -> None:
    patches = [tissue(Size(192, 256), seed=number) for number in range(NUM)]
    changes = draws(AugmentConfig())
    images, masks = on_device(patches, changes)
    for number in range(NUM):
        image, mask = on_device([patches[number]], [changes[number]])
        assert np.array_equal(images[number], image[0])
        assert np.array_equal(masks[number], mask[0])


def test_the_widest_blur_of_the_batch_does_not_show_in_the_others() -> None:
    patches = [tissue(Size(96, 96), seed=number) for number in range(2)]
    changes = [
        replace(change, blur_sigma_px=sigma) for change, sigma in zip(draws(STILL, num=2), (0.5, 6), strict=True)
    ]
    narrow, _ = on_device(patches[:1], changes[:1], max_blur_sigma_px=0.5)
    both, _ = on_device(patches, changes, max_blur_sigma_px=6.0)
    assert np.abs(narrow[0].astype(int) - both[0]).max() <= 1
    assert patches[1].image.std() > 1.1 * both[1].std()


def test_outside_the_patch_its_mirror_image_is_seen() -> None:
    patch = Patch(np.zeros((128, 128, 3), np.uint8), np.zeros((128, 128), np.uint8))
    patch.mask[:, :16] = 1
    _, masks = on_device([patch], [replace(draws(STILL, num=1)[0], scale=0.8)])
    # 16 columns and their mirror image of 15, at 0.8 of their size, about the old edge at column 12.8.
    assert np.flatnonzero(masks[0, 64]).tolist() == list(range(1, 26))


def test_only_deterministic_kernels_are_used_and_nothing_is_drawn() -> None:
    patches = [tissue(Size(96, 64), seed=number) for number in range(2)]
    state = torch.get_rng_state()
    torch.set_deterministic_debug_mode("error")
    try:
        first, again = (on_device(patches, draws(AugmentConfig(), num=2)) for _ in range(2))
    finally:
        torch.set_deterministic_debug_mode("default")
    assert np.array_equal(first[0], again[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_changes_are_stacked_in_their_order_as_float32() -> None:
    changes = draws(AugmentConfig(elastic_grid=5), num=3)
    stacked = Changes.stack(changes).to(torch.device("cpu"), non_blocking=True)
    assert [tuple(tensor.shape) for tensor in stacked] == [(3,), (3,), (3, 5, 5, 2), (3, 3, 4), (3,)]
    assert {tensor.dtype for tensor in stacked} == {torch.float32}
    for number, change in enumerate(changes):
        for name in Changes._fields:
            assert np.array_equal(getattr(stacked, name)[number].numpy(), np.float32(getattr(change, name)))
