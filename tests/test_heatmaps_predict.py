"""Networks with known answers give heatmaps with known values, whatever the batch."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from heatmap_slides import ALL_PSIS, MPP, BrightnessNetwork, ConstantNetwork, damage_tile, grey_picture, write_slide
from numpy.typing import NDArray
from torch import nn

from bccdist.configuration import Psi, pixel_px
from bccdist.heatmaps.predict import Network, PredictionTally, predict_rows
from bccdist.slides.geometry import covering_patches
from bccdist.slides.slide import Slide

_CPU = torch.device("cpu")
_SIZE_PX = (1100, 600)


def _predicted(
    path: Path,
    cells: NDArray[np.bool_],
    networks: Sequence[Network],
    *,
    batch: int = 4,
    outputs: tuple[Psi, ...] = ALL_PSIS,
) -> tuple[list[dict[Psi, NDArray[np.uint8]]], NDArray[np.uint8], PredictionTally]:
    """Whole heatmaps per network, the coverage, and the tally."""
    tally = PredictionTally(network_s=[0.0] * len(networks))
    with Slide(path, target_mpp=MPP) as slide:
        rows = list(predict_rows(slide, cells, networks, outputs=outputs, batch=batch, device=_CPU, tally=tally))
    maps = [
        {psi: np.concatenate([row.maps[index][psi] for row in rows]) for psi in outputs}
        for index in range(len(networks))
    ]
    return maps, np.stack([row.coverage for row in rows]), tally


@pytest.fixture
def slide_path(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "a.tif", grey_picture(*_SIZE_PX))


@pytest.fixture
def cells() -> NDArray[np.bool_]:
    return np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], dtype=bool)


def test_a_constant_network_gives_a_constant(slide_path: Path, cells: NDArray[np.bool_]) -> None:
    maps, coverage, tally = _predicted(slide_path, cells, [ConstantNetwork(0.4)])
    assert coverage.tolist() == [[4, 2, 0, 0, 0], [2, 1, 0, 1, 2], [0, 0, 0, 2, 4]]
    assert tally.num_patches == 8
    for psi, heatmap in maps[0].items():
        pixels = 256 // pixel_px(psi)
        covered = (coverage > 0).repeat(pixels, axis=0).repeat(pixels, axis=1)
        assert (heatmap == np.where(covered, round(0.4 * 255), 0)).all()


def test_brightness_gives_the_slide_back(slide_path: Path) -> None:
    width, height = _SIZE_PX
    maps, coverage, _ = _predicted(slide_path, np.ones((3, 5), dtype=bool), [BrightnessNetwork()])
    assert (coverage == 4).all()
    white = np.full((768, 1280), 255, dtype=np.uint8)
    white[:height, :width] = grey_picture(width, height)
    for psi, heatmap in maps[0].items():
        scale = 1 / pixel_px(psi)
        expected = cv2.resize(white, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        assert np.abs(heatmap.astype(int) - expected).max() <= 1


def test_the_batch_does_not_change_the_heatmap(slide_path: Path) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 2, kernel_size=32, stride=16, padding=8)
    everywhere = np.ones((3, 5), dtype=bool)
    heatmaps = []
    for batch in (1, 4, 7):
        maps, _, tally = _predicted(
            slide_path, everywhere, [lambda x: {"psi_0": convolution(x)}], batch=batch, outputs=("psi_0",)
        )
        heatmaps.append(maps[0]["psi_0"].astype(int))
        assert tally.num_patches == 24
    assert np.ptp(heatmaps[0]) > 10
    assert all(np.abs(heatmap - heatmaps[0]).max() <= 1 for heatmap in heatmaps[1:])


def test_networks_side_by_side_do_not_mix(slide_path: Path, cells: NDArray[np.bool_]) -> None:
    networks = [ConstantNetwork(0.2), BrightnessNetwork()]
    outputs: tuple[Psi, ...] = ("psi_0", "psi_2")
    together, _, tally = _predicted(slide_path, cells, networks, outputs=outputs)
    for network, maps in zip(networks, together, strict=True):
        alone, _, _ = _predicted(slide_path, cells, [network], outputs=outputs)
        assert all((maps[psi] == alone[0][psi]).all() for psi in outputs)
    assert all(seconds > 0 for seconds in tally.network_s)


def test_only_the_outputs_asked_for_are_kept(slide_path: Path, cells: NDArray[np.bool_]) -> None:
    maps, _, _ = _predicted(slide_path, cells, [ConstantNetwork(0.5)], outputs=("psi_0",))
    assert maps[0]["psi_0"].shape == (3 * 16, 5 * 16)


def test_no_tissue_needs_no_network(slide_path: Path) -> None:
    network = ConstantNetwork(0.9)
    maps, coverage, tally = _predicted(slide_path, np.zeros((3, 5), dtype=bool), [network])
    assert (network.num_calls, tally.num_patches) == (0, 0)
    assert not coverage.any()
    assert not any(heatmap.any() for heatmap in maps[0].values())


def test_patches_around_damage_are_left_out(slide_path: Path) -> None:
    damage_tile(slide_path, 0)
    everywhere = np.ones((3, 5), dtype=bool)
    maps, coverage, tally = _predicted(slide_path, everywhere, [ConstantNetwork(0.4)])
    assert coverage.tolist() == [[0, 2, 4, 4, 4], [2, 3, 4, 4, 4], [4, 4, 4, 4, 4]]
    assert tally.num_patches == covering_patches(everywhere).sum() - 4
    assert tally.reading.num_unread_cells == 1
    assert not maps[0]["psi_4"][:256, :256].any()
    assert (maps[0]["psi_4"][:256, 256:] == round(0.4 * 255)).all()
