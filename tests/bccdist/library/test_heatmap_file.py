"""A heatmap's arrays say where they lie on the slide, and a region is read without the rest."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from picture_study import write_heatmap

import bccdist
from bccdist.errors import HeatmapError
from bccdist.library.heatmap_file import HeatmapFile

SIZE_PX = (1300, 900)


@pytest.fixture(scope="module")
def values() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, SIZE_PX[::-1]).astype(np.uint8)


@pytest.fixture(scope="module")
def heatmap(values: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> HeatmapFile:
    path = tmp_path_factory.mktemp("heatmap") / "slide-0.ozx"
    write_heatmap(path, values, outputs=("psi_0", "psi_4"), weights_digest="0" * 12)
    return bccdist.open_heatmap(path)


def test_a_whole_output_begins_at_the_slides_corner(heatmap: HeatmapFile, values: NDArray[np.uint8]) -> None:
    whole = heatmap.read("psi_4")
    assert np.array_equal(whole, values)
    assert (whole.dtype, whole.shape) == (np.uint8, SIZE_PX[::-1])
    assert (whole.origin_level0_px, whole.mpp, whole.psi) == ((0, 0), heatmap.mpp, "psi_4")
    assert whole.downsample == pytest.approx(heatmap.size_level0_px[0] / SIZE_PX[0])
    assert np.array_equal(heatmap.read(), whole), "the final output is the one that is meant"
    assert whole.probability.max() == 1.0
    assert heatmap.read("psi_0").mpp == 16 * heatmap.mpp


@pytest.mark.parametrize(
    ("box_target_px", "rows", "cols"),
    [
        ((100, 200, 300, 400), slice(200, 600), slice(100, 400)),
        ((0.5, 0.5, 1, 1), slice(0, 2), slice(0, 2)),
        ((-50, -60, 100, 100), slice(0, 40), slice(0, 50)),
        ((1250, 850, 1000, 1000), slice(850, 900), slice(1250, 1300)),
    ],
)
def test_a_region_is_the_part_of_the_whole_that_touches_the_box(
    heatmap: HeatmapFile, values: NDArray[np.uint8], box_target_px: Any, rows: slice, cols: slice
) -> None:
    region = heatmap.read("psi_4", box_target_px=box_target_px)
    assert np.array_equal(region.values, values[rows, cols])
    assert region.origin_level0_px == (cols.start * region.downsample, rows.start * region.downsample)
    factor = heatmap.size_level0_px[0] / SIZE_PX[0]
    same = heatmap.read("psi_4", box_level0_px=[factor * side for side in box_target_px])
    assert np.array_equal(same.values, region.values)
    coarse = heatmap.read("psi_0", box_target_px=box_target_px)
    assert coarse.origin_level0_px == (cols.start // 16 * 16 * factor, rows.start // 16 * 16 * factor)


def test_a_region_reads_no_other_chunks(heatmap: HeatmapFile, monkeypatch: pytest.MonkeyPatch) -> None:
    from bccdist.heatmaps.zipped import ZippedStore

    num_bytes = []
    real = ZippedStore._read_range

    def counted(self: Any, key: str, byte_range: Any) -> bytes:
        data = real(self, key, byte_range)
        num_bytes.append(len(data))
        return data

    monkeypatch.setattr(ZippedStore, "_read_range", counted)
    heatmap.read("psi_4", box_target_px=(10, 10, 50, 50))
    assert 0 < sum(num_bytes) < heatmap.path.stat().st_size / 3


def test_what_was_read_is_used_like_an_array(heatmap: HeatmapFile) -> None:
    heat = heatmap.read("psi_4")
    for found, expected in (
        (heat > 128, heat.values > 128),
        (heat == 0, heat.values == 0),
        (255 - heat, 255 - heat.values),
        (heat & 1, heat.values & 1),
        (heat[10:20, 5], heat.values[10:20, 5]),
        (np.where(heat >= 7, heat, 0), np.where(heat.values >= 7, heat.values, 0)),
        (heat.T, heat.values.T),
        (~(heat > 3), heat.values <= 3),
    ):
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, expected)
    assert (heat.max(), heat.ndim, heat.size, len(heat)) == (heat.values.max(), 2, heat.values.size, len(heat.values))
    assert heat.mean() == heat.values.mean()
    with pytest.raises(ValueError, match="ambiguous"):
        bool(heat)
    with pytest.raises(AttributeError, match="no_such"):
        _ = heat.no_such
    assert pickle.loads(pickle.dumps(heat)).psi == "psi_4"  # noqa: S301 - our own bytes


def test_coverage_is_an_array_of_cells(heatmap: HeatmapFile) -> None:
    coverage = heatmap.coverage
    assert coverage.shape == (4, 6)
    assert coverage.mpp == 256 * heatmap.mpp
    assert set(np.unique(coverage)) <= set(range(heatmap.full_coverage + 1))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"psi": "psi_3"}, "holds psi_0, psi_4, but psi_3 is asked for"),
        ({"psi": "heat"}, "but heat is asked for"),
        ({"box_target_px": (1300, 0, 10, 10)}, "lies outside of the slide's 1300 x 900 target px"),
        ({"box_level0_px": (-10, 0, 10, 10)}, r"outside of the slide's \d+ x \d+ level-0 px"),
        ({"box_level0_px": (0, 0, 0, 10)}, "expected x, y, and a width and height above 0"),
        ({"box_level0_px": (0, 0, 10)}, "expected x, y"),
        ({"box_level0_px": (0, 0, float("nan"), 10)}, "expected x, y"),
        ({"box_level0_px": (0, 0, 1, 1), "box_target_px": (0, 0, 1, 1)}, "give one of them"),
    ],
)
def test_what_is_not_there_is_an_error_and_no_empty_array(
    heatmap: HeatmapFile, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(HeatmapError, match=message):
        heatmap.read(**asked)


def test_a_file_that_is_no_heatmap_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HeatmapError, match="no heatmap there"):
        bccdist.open_heatmap(tmp_path / "none.ozx")
    (tmp_path / "text.ozx").write_text("no heatmap", encoding="utf-8")
    with pytest.raises(HeatmapError, match="no heatmap there, or a damaged one"):
        bccdist.open_heatmap(tmp_path / "text.ozx")
