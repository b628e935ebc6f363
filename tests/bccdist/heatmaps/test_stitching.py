"""Stitching averages what lies over a pixel, in memory that does not grow with the slide's height."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.configuration import Blending, Psi, pixel_px
from bccdist.heatmaps.layout import PAPER, Layout, dense_layouts
from bccdist.heatmaps.stitching import PatchCounts, RowStitcher, blending_weights, to_steps

_CPU = torch.device("cpu")
_PIXELS = 16
"""Along a cell, in psi_0."""
_BLENDINGS = st.sampled_from(["mean", "hann", "centre"])
_PATCHES = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=5))


def _stitched(
    patches: NDArray[np.bool_], probability: NDArray[np.float32], blending: Blending
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Heatmap and coverage of patches of the paper's tiling; patch (i, j) begins at cell (i - 1, j - 1)."""
    num_rows, num_cols = patches.shape[0] - 1, patches.shape[1] - 1
    stitcher = RowStitcher("psi_0", PAPER, blending, num_rows=2, num_cols=num_cols, device=_CPU)
    counts = PatchCounts(PAPER, num_rows=2, num_cols=num_cols)
    rows, coverage = [], []
    for row in range(num_rows + 1):
        cols = np.flatnonzero(patches[row])
        stitcher.add([(0, int(col) - 1) for col in cols], torch.from_numpy(probability[row, cols]))
        for col in cols:
            counts.add(0, int(col) - 1)
        flags = counts.flags[:1].copy()
        rows.append(stitcher.take(flags).numpy())
        coverage.append(flags.sum(axis=(1, 2)))
        counts.drop(1)
    return np.concatenate(rows[1:]), np.concatenate(coverage[1:])


def _by_pixel(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask.repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)


@given(_PATCHES, st.floats(0, 1, width=32), _BLENDINGS)
def test_a_constant_gives_that_constant(patches: NDArray[np.bool_], value: float, blending: Blending) -> None:
    constant = np.full((*patches.shape, 32, 32), value, np.float32)
    heatmap, coverage = _stitched(patches, constant, blending)
    expected = int(to_steps(torch.tensor(value)))
    whole = _by_pixel(coverage == 4)
    # Weights that are no powers of two add up to 1 but for the last bit.
    assert np.abs(heatmap[whole].astype(int) - expected).max(initial=0) <= (blending == "hann")
    assert not heatmap[_by_pixel(coverage == 0)].any()
    if blending == "mean":
        # A third of three equal values may be the number beside it, which shows between two steps alone.
        is_between = abs(value * 255 % 1 - 0.5) < 1e-3
        assert np.abs(heatmap[_by_pixel(coverage > 0)].astype(int) - expected).max(initial=0) <= is_between


@given(_PATCHES, st.integers(0, 2**32 - 1), _BLENDINGS)
def test_a_pixel_is_the_weighted_mean_of_its_patches(
    patches: NDArray[np.bool_], seed: int, blending: Blending
) -> None:
    probability = np.random.default_rng(seed).random((*patches.shape, 32, 32)).astype(np.float32)
    heatmap, _ = _stitched(patches, probability, blending)
    weights = np.outer(*[blending_weights(blending, 32).double().numpy()] * 2)
    size = ((patches.shape[0] + 1) * _PIXELS, (patches.shape[1] + 1) * _PIXELS)
    sums, divisors = np.zeros(size), np.zeros(size)
    for row, col in np.argwhere(patches):
        view = (slice(row * _PIXELS, (row + 2) * _PIXELS), slice(col * _PIXELS, (col + 2) * _PIXELS))
        sums[view] += weights * probability[row, col]
        divisors[view] += weights
    means = np.divide(sums, divisors, out=np.zeros(size), where=divisors > 0)[_PIXELS:-_PIXELS, _PIXELS:-_PIXELS]
    assert np.abs(heatmap - 255 * means).max(initial=0) < 0.51


@pytest.mark.parametrize("blending", ["hann", "centre"])
@pytest.mark.parametrize("num_pixels", [32, 512])
def test_weights_of_overlapping_halves_add_up_to_one(blending: Blending, num_pixels: int) -> None:
    weights = blending_weights(blending, num_pixels)
    assert torch.allclose(weights[: num_pixels // 2] + weights[num_pixels // 2 :], torch.ones(num_pixels // 2))
    assert torch.equal(weights, weights.flip(0))


@pytest.mark.parametrize("psi", ["psi_0", "psi_2", "psi_4"])
def test_dense_patches_keep_their_centre(psi: Psi) -> None:
    layout: Layout = dense_layouts(64)[1]
    pixels, halo = 256 // pixel_px(psi), 64 // pixel_px(psi)
    stitcher = RowStitcher(psi, layout, "mean", num_rows=4, num_cols=5, device=_CPU)
    counts = PatchCounts(layout, num_rows=4, num_cols=5)
    patch = torch.rand((1, layout.patch_px // pixel_px(psi), layout.patch_px // pixel_px(psi)))
    stitcher.add([(0, 1)], patch)
    counts.add(0, 1)
    heatmap = stitcher.take(counts.flags[:3].copy())
    assert heatmap.shape == (3 * pixels, 5 * pixels)
    assert not heatmap[:, :pixels].any()
    centre = patch[0, halo:-halo, halo:-halo]
    assert torch.equal(heatmap[:, pixels:], (centre[: 3 * pixels] * 255).round().to(torch.uint8))
    counts.drop(3)
    rest = stitcher.take(counts.flags[:1].copy())
    assert torch.equal(rest[:, pixels:], (centre[3 * pixels :] * 255).round().to(torch.uint8))
    assert not stitcher.take(np.zeros((4, 4, 4, 5), dtype=bool)).any()


def test_memory_is_the_rows_that_are_held() -> None:
    stitcher = RowStitcher("psi_0", PAPER, "mean", num_rows=2, num_cols=10, device=_CPU)
    for _ in range(5):
        stitcher.add([(0, -1), (0, 9)], torch.ones((2, 32, 32)))
        stitcher.take(np.ones((1, 2, 2, 10), dtype=bool))
    tensors = [value for value in vars(stitcher).values() if isinstance(value, torch.Tensor)]
    assert [tuple(tensor.shape) for tensor in tensors] == [(32, 12 * 16)]
