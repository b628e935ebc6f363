"""Networks with known answers give heatmaps with known values, whatever the batch."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from heatmap_slides import (
    ALL_PSIS,
    MPP,
    BrightnessNetwork,
    ConstantNetwork,
    PlainPredictor,
    damage_tile,
    grey_picture,
    write_slide,
)
from numpy.typing import NDArray
from pretended_gpu import GPU, pretended_gpu
from torch import nn

from bccdist.configuration import Psi, pixel_px
from bccdist.heatmaps import predict
from bccdist.heatmaps.layout import PAPER, Layout, dense_layouts
from bccdist.heatmaps.predict import PredictionTally, SlidePass, predict_rows
from bccdist.heatmaps.stitching import RowStitcher
from bccdist.slides.cell_rows import CellRow
from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide

_CPU = torch.device("cpu")
_SIZE_PX = (1100, 600)


_EVERYWHERE = np.ones((3, 5), dtype=bool)
Predicted = tuple[list[dict[Psi, NDArray[np.uint8]]], NDArray[np.uint8], PredictionTally]


def _predicted(
    path: Path,
    cells: NDArray[np.bool_],
    networks: Sequence[nn.Module],
    *,
    batch: int = 4,
    outputs: tuple[Psi, ...] = ALL_PSIS,
    target_mpp: float = MPP,
    **how: Any,
) -> Predicted:
    """Whole heatmaps per network, the coverage, and the tally."""
    predictors = [PlainPredictor(network, outputs) for network in networks]
    slide_pass = SlidePass(predictors=predictors, batch=batch, device=_CPU, **how)
    tally = PredictionTally.of(slide_pass)
    with Slide(path, target_mpp=target_mpp) as slide:
        rows = list(predict_rows(slide, cells, slide_pass, tally))
    maps = [
        {psi: np.concatenate([row.maps[index][psi] for row in rows]) for psi in outputs}
        for index in range(len(networks))
    ]
    return maps, np.concatenate([row.coverage for row in rows]), tally


@pytest.fixture
def slide_path(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "a.tif", grey_picture(*_SIZE_PX))


@pytest.fixture
def cells() -> NDArray[np.bool_]:
    return np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], dtype=bool)


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    """Brightness _EVERYWHERE, as the paper's patches and plain means give it."""
    path = write_slide(tmp_path_factory.mktemp("paper") / "a.tif", grey_picture(*_SIZE_PX))
    return _predicted(path, _EVERYWHERE, [BrightnessNetwork()])


def test_a_constant_network_gives_a_constant(slide_path: Path, cells: NDArray[np.bool_]) -> None:
    maps, coverage, tally = _predicted(slide_path, cells, [ConstantNetwork(0.4)])
    assert coverage.tolist() == [[4, 2, 0, 0, 0], [2, 1, 0, 1, 2], [0, 0, 0, 2, 4]]
    assert tally.num_patches == 8
    for psi, heatmap in maps[0].items():
        pixels = 256 // pixel_px(psi)
        covered = (coverage > 0).repeat(pixels, axis=0).repeat(pixels, axis=1)
        assert (heatmap == np.where(covered, round(0.4 * 255), 0)).all()


def test_brightness_gives_the_slide_back(paper: Predicted) -> None:
    width, height = _SIZE_PX
    maps, coverage, _ = paper
    assert (coverage == 4).all()
    white = np.full((768, 1280), 255, dtype=np.uint8)
    white[:height, :width] = grey_picture(width, height)
    for psi, heatmap in maps[0].items():
        scale = 1 / pixel_px(psi)
        expected = cv2.resize(white, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        assert np.abs(heatmap.astype(int) - expected).max() <= 1


class _Convolution(nn.Module):
    """Random, so that each patch differs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 2, kernel_size=32, stride=16, padding=8)

    def forward(self, x_N3HW: torch.Tensor) -> dict[Psi, torch.Tensor]:
        return {"psi_0": self.convolution(x_N3HW)}


def test_the_batch_does_not_change_the_heatmap(slide_path: Path) -> None:
    heatmaps = []
    for batch in (1, 4, 7, 64):
        maps, _, tally = _predicted(slide_path, _EVERYWHERE, [_Convolution()], batch=batch, outputs=("psi_0",))
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
    maps, coverage, tally = _predicted(slide_path, _EVERYWHERE, [ConstantNetwork(0.4)])
    assert coverage.tolist() == [[0, 2, 4, 4, 4], [2, 3, 4, 4, 4], [4, 4, 4, 4, 4]]
    assert tally.num_patches == 24 - 4
    assert tally.reading.num_unread_cells == 1
    assert not maps[0]["psi_4"][:256, :256].any()
    assert (maps[0]["psi_4"][:256, 256:] == round(0.4 * 255)).all()


@pytest.mark.parametrize("halo_px", [0, 32, 256])
def test_dense_patches_give_the_slide_back_and_compute_less(slide_path: Path, paper: Predicted, halo_px: int) -> None:
    dense, coverage, tally = _predicted(
        slide_path, _EVERYWHERE, [BrightnessNetwork()], layout=dense_layouts(halo_px)[1]
    )
    assert (coverage == 1).all()
    assert tally.num_patches == 2
    for psi, heatmap in paper[0][0].items():
        assert np.abs(heatmap.astype(int) - dense[0][psi]).max() <= 1


def test_dense_patches_near_damage_keep_nothing_within_a_cell_of_it(slide_path: Path) -> None:
    damage_tile(slide_path, 0)
    maps, coverage, tally = _predicted(slide_path, _EVERYWHERE, [ConstantNetwork(0.4)], layout=dense_layouts(64)[1])
    assert coverage.tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert tally.reading.num_unread_cells == 1
    assert not maps[0]["psi_4"][:512, :512].any()
    assert (maps[0]["psi_4"][512:] == round(0.4 * 255)).all()


@pytest.mark.parametrize("blending", ["hann", "centre"])
def test_other_blendings_give_the_slide_back(slide_path: Path, paper: Predicted, blending: str) -> None:
    other, coverage, _ = _predicted(slide_path, _EVERYWHERE, [BrightnessNetwork()], blending=blending)
    assert (coverage == 4).all()
    for psi, heatmap in paper[0][0].items():
        assert np.abs(heatmap.astype(int) - other[0][psi]).max() <= 1


def test_islands_far_apart_are_computed_alone(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "tall.tif", grey_picture(600, 5000))
    cells = np.zeros((20, 3), dtype=bool)
    cells[[1, 18], [0, 2]] = True
    for how in ({}, {"layout": dense_layouts(64)[1]}):
        maps, coverage, _ = _predicted(path, cells, [BrightnessNetwork()], outputs=("psi_4",), batch=1, **how)
        heatmap = maps[0]["psi_4"]
        assert heatmap.shape == (20 * 256, 3 * 256)
        assert coverage[1, 0] == coverage[18, 2] == coverage.max()
        assert not coverage[6:16].any()
        picture = grey_picture(600, 5000).astype(int)
        assert np.abs(heatmap[256:512, :256] - picture[256:512, :256]).max() <= 1
        assert np.abs(heatmap[18 * 256 : 19 * 256, 512:600] - picture[18 * 256 : 19 * 256, 512:]).max() <= 1
        assert not heatmap[6 * 256 : 16 * 256].any()


@pytest.mark.parametrize("layout", [PAPER, *dense_layouts(64)], ids=lambda layout: f"{layout.patch_px} px")
def test_each_pixel_is_read_once(slide_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    times = np.zeros((3 * 256, 5 * 256), dtype=int)
    read_into = Slide.read_into

    def counted(slide: Slide, image: NDArray[np.uint8], box_px: Box) -> None:
        times[box_px.slices()] += 1
        read_into(slide, image, box_px)

    monkeypatch.setattr(Slide, "read_into", counted)
    _predicted(slide_path, _EVERYWHERE, [ConstantNetwork(0.5)], layout=layout)
    assert (times == 1).all()


def test_computing_goes_on_while_rows_are_written(slide_path: Path) -> None:
    network = ConstantNetwork(0.5, ["psi_0"])
    how = SlidePass(predictors=[PlainPredictor(network)], batch=1, device=_CPU)
    with Slide(slide_path, target_mpp=MPP) as slide:
        cells = _EVERYWHERE
        rows = predict_rows(slide, cells, how, PredictionTally.of(how))
        next(rows)
        # Nobody asks for the next rows yet; what computes them does not wait for that.
        patience_s = 30.0
        while network.num_calls < 18 and patience_s > 0:
            time.sleep(0.01)
            patience_s -= 0.01
        assert network.num_calls == 18
        assert len(list(rows)) == 2
    assert network.num_calls == 24


def test_an_error_in_a_network_comes_out_and_leaves_no_thread(slide_path: Path) -> None:
    class Failing(ConstantNetwork):
        def _tumor(self, x_N3HW: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - it fails before it looks
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        _predicted(slide_path, _EVERYWHERE, [Failing(0.5)])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("one-ahead")]


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "lzw"])
def test_a_picture_stored_with_a_pixel_less_at_level_0_gives_the_same_heatmap(
    tmp_path: Path, compression: str
) -> None:
    fine = np.random.default_rng(0).integers(0, 256, (1200, 2200, 3), dtype=np.uint8)
    maps = []
    for cut_px in (0, 1):
        path = tmp_path / f"{cut_px}.tif"
        with tifffile.TiffWriter(path) as tiff:
            for level, picture in enumerate((fine[: 1200 - cut_px, : 2200 - cut_px], fine[::2, ::2])):
                options = {"compression": compression, "photometric": "rgb", "subfiletype": level, "metadata": None}
                mpp = MPP * 2**level
                tiff.write(
                    picture, tile=(256, 256), resolution=(1e4 / mpp,) * 2, resolutionunit="CENTIMETER", **options
                )
        found, _, _ = _predicted(path, _EVERYWHERE, [BrightnessNetwork()], target_mpp=2 * MPP)
        maps.append(found[0])
    for psi in ALL_PSIS:
        assert np.abs(maps[0][psi].astype(int) - maps[1][psi]).max() <= 1


def test_a_gpus_time_is_taken_on_the_gpu_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[object] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: object) -> None:
            recorded.append(stream)

        def synchronize(self) -> None:
            return

        def elapsed_time(self, _: "Event") -> float:
            return 1500.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    stop = predict._stopwatch(torch.device("cuda", 1))
    assert stop()() == 1.5
    assert recorded == ["stream of cuda:1"] * 2


@pytest.mark.parametrize("blending", ["mean", "hann"])
def test_patches_are_cut_and_added_up_without_waiting_for_a_gpu(blending: Any) -> None:
    cells = np.ones((2, 4), dtype=bool)
    rows = [CellRow(np.zeros((256, 1024, 3), dtype=np.uint8), np.zeros(4, dtype=bool)) for _ in cells]
    window = predict._Window(iter(rows), cells.shape, PAPER, num_rows=2, device=GPU)
    stitcher = RowStitcher("psi_2", PAPER, blending, num_rows=2, num_cols=4, device=GPU)
    with pretended_gpu() as waits:
        window.move_to(0)
        patches = window.cut([(0, 0), (0, 1)])
        stitcher.add([(0, 0), (0, 1)], patches[:, ::4, ::4, 0].float())
    assert waits == []
    assert patches.device == GPU
