"""A heatmap on disk is whole or absent, is read by plain zarr, and says how it lies on the slide."""

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.configuration import Psi, outputs_of, pixel_px
from bccdist.errors import HeatmapError
from bccdist.heatmaps import store
from bccdist.heatmaps.store import (
    COARSEST_PIXELS,
    Heatmap,
    HeatmapAttributes,
    HeatmapWriter,
    halve,
    lattice_shape,
    pyramid_shapes,
    remove_leftovers,
    writing_heatmap,
)
from bccdist.slides.geometry import Box

_OUTPUTS = outputs_of("resnet34_linear")
_SIZE_PX = (2900, 1333)
_ATTRIBUTES = HeatmapAttributes(
    slide_id="a",
    setting="resnet34_linear",
    epoch=3,
    outputs=_OUTPUTS,
    mpp=0.92,
    downsample=2.0,
    size_level0_px=(5800, 2666),
    size_target_px=_SIZE_PX,
    weights_digest="w",
    config_digest="c",
    slide_fingerprint="f",
    phantom=True,
    read_s=1.5,
)
_COVERAGE = np.arange(72, dtype=np.uint8).reshape(6, 12) % 5
_TISSUE = np.arange(72).reshape(6, 12) % 2 == 0


def _maps() -> dict[Psi, NDArray[np.uint8]]:
    """Random heatmaps over whole cells: 6 x 12 of them."""
    rng = np.random.default_rng(0)
    return {
        psi: rng.integers(0, 256, (6 * 256 // pixel_px(psi), 12 * 256 // pixel_px(psi)), np.uint8) for psi in _OUTPUTS
    }


def _append_rows(writer: HeatmapWriter, num_rows: int) -> None:
    for row in range(num_rows):
        writer.append({psi: np.split(pixels, 6)[row] for psi, pixels in _maps().items()})


@pytest.fixture(scope="module")
def heatmap_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heatmaps") / "deep" / "a.ome.zarr"
    with writing_heatmap(path, outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=0.92) as writer:
        _append_rows(writer, 6)
        writer.finish(_ATTRIBUTES, coverage=_COVERAGE, tissue_cells=_TISSUE)
    return path


def test_plain_zarr_reads_it(heatmap_path: Path) -> None:
    group = zarr.open_group(heatmap_path, mode="r")
    for psi, pixels in _maps().items():
        height, width = lattice_shape(_SIZE_PX, psi)
        array = group[f"{psi}/0"]
        assert isinstance(array, zarr.Array)
        assert array.shape == (height, width)
        assert (np.asarray(array[:]) == pixels[:height, :width]).all()
    assert (np.asarray(group["coverage"][:]) == _COVERAGE).all()  # type: ignore[index]
    assert (np.asarray(group["tissue_cells"][:]) == _TISSUE).all()  # type: ignore[index]
    assert group.attrs["bccdist"] == json.loads(json.dumps(asdict(_ATTRIBUTES)))


def test_each_level_halves_the_one_before(heatmap_path: Path) -> None:
    group = zarr.open_group(heatmap_path / "merged", mode="r")
    levels = [np.asarray(group[str(level)][:]) for level in range(3)]  # type: ignore[index]
    assert [level.shape for level in levels] == [(1333, 2900), (667, 1450), (334, 725)]
    for fine, coarse in pairwise(levels):
        means = cv2.blur(fine, (2, 2), anchor=(0, 0))[: fine.shape[0] // 2 * 2 : 2, : fine.shape[1] // 2 * 2 : 2]
        inner = coarse[: means.shape[0], : means.shape[1]]
        assert np.abs(inner.astype(int) - means).max() <= 1


@pytest.mark.parametrize("folder", ["", *_OUTPUTS])
def test_ngff_metadata_is_complete(heatmap_path: Path, folder: str) -> None:
    metadata = json.loads((heatmap_path / folder / "zarr.json").read_text(encoding="utf-8"))
    assert (metadata["zarr_format"], metadata["node_type"]) == (3, "group")
    ome = metadata["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    assert multiscale["axes"] == [
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    for level, dataset in enumerate(multiscale["datasets"]):
        array = json.loads((heatmap_path / folder / dataset["path"] / "zarr.json").read_text(encoding="utf-8"))
        assert (array["node_type"], array["data_type"], array["dimension_names"]) == ("array", "uint8", ["y", "x"])
        scale, translation = dataset["coordinateTransformations"]
        um_per_px = 0.92 * pixel_px(folder or "merged") * 2**level
        assert scale == {"type": "scale", "scale": [um_per_px] * 2}
        assert translation["type"] == "translation"
        # The first pixel's left edge is that of the slide, half a target pixel before the zero.
        assert translation["translation"][0] - um_per_px / 2 == pytest.approx(-0.92 / 2)
    assert max(array["shape"]) <= COARSEST_PIXELS


def test_a_box_is_read_in_its_own_lattice(heatmap_path: Path) -> None:
    heatmap = Heatmap(heatmap_path)
    assert heatmap.attributes == _ATTRIBUTES
    assert heatmap.outputs == _OUTPUTS
    assert (heatmap.coverage == _COVERAGE).all()
    assert (heatmap.tissue_cells == _TISSUE).all()
    maps = _maps()
    assert (heatmap.read("psi_4", Box(10, 20, 30, 40)) == maps["psi_4"][20:60, 10:40]).all()
    assert (heatmap.read("psi_0", Box(10, 20, 30, 40)) == maps["psi_0"][1:4, 0:3]).all()
    assert (heatmap.read("psi_3", Box(2890, 1300, 500, 500)) == maps["psi_3"][650:667, 1445:1450]).all()
    assert heatmap.read("psi_4", Box(3000, 0, 10, 10)).size == 0
    assert heatmap.overview("merged").shape == (334, 725)
    assert heatmap.overview("merged", longest=3000).shape == (1333, 2900)


def test_an_output_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with writing_heatmap(path, outputs=("psi_0",), size_target_px=(100, 50), mpp=0.92) as writer:
        writer.append({"psi_0": np.zeros((16, 16), np.uint8)})
        attributes = replace(_ATTRIBUTES, outputs=("psi_0",), size_target_px=(100, 50))
        writer.finish(attributes, coverage=_COVERAGE, tissue_cells=_TISSUE)
    with pytest.raises(HeatmapError, match="holds psi_0, but merged"):
        Heatmap(path).read("merged", Box(0, 0, 9, 9))


def test_few_files(heatmap_path: Path) -> None:
    assert sum(path.is_file() for path in heatmap_path.rglob("*")) < 50
    assert [path.name for path in heatmap_path.parent.iterdir()] == ["a.ome.zarr"]


def test_rows_of_shards_do_not_change_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 512)
    path = tmp_path / "a.ome.zarr"
    with writing_heatmap(path, outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=0.92) as writer:
        _append_rows(writer, 6)
        writer.finish(_ATTRIBUTES, coverage=_COVERAGE, tissue_cells=_TISSUE)
    heatmap = Heatmap(path)
    assert (heatmap.read("psi_4", heatmap.box_target_px) == _maps()["psi_4"][:1333, :2900]).all()
    assert (heatmap.overview("psi_4") == halve(halve(_maps()["psi_4"][:1333, :2900]))).all()
    assert len(list((path / "psi_4" / "0" / "c").iterdir())) == 3


def _write_and_die(path: Path) -> None:
    with writing_heatmap(path, outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=0.92) as writer:
        _append_rows(writer, 3)
        assert not path.exists()
        assert list(path.parent.iterdir())
        raise KeyboardInterrupt


def test_a_writer_that_dies_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with pytest.raises(KeyboardInterrupt):
        _write_and_die(path)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_leaves_is_no_heatmap(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    killed = HeatmapWriter(
        tmp_path / "a.ome.zarr.partial-x", path, outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=0.92
    )
    _append_rows(killed, 6)
    assert not path.exists()
    with pytest.raises(HeatmapError, match="no heatmap there"):
        Heatmap(path)
    remove_leftovers(path)
    assert not list(tmp_path.iterdir())


def test_missing_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with writing_heatmap(path, outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=0.92) as writer:
        _append_rows(writer, 5)
        with pytest.raises(HeatmapError, match="not all rows"):
            writer.finish(_ATTRIBUTES, coverage=_COVERAGE, tissue_cells=_TISSUE)
    assert not list(tmp_path.iterdir())


def test_a_heatmap_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    for epoch in (1, 2):
        with writing_heatmap(path, outputs=("psi_0",), size_target_px=(100, 50), mpp=0.92) as writer:
            writer.append({"psi_0": np.zeros((16, 16), np.uint8)})
            attributes = replace(_ATTRIBUTES, epoch=epoch, outputs=("psi_0",), size_target_px=(100, 50))
            if epoch == 1:
                writer.finish(attributes, coverage=_COVERAGE, tissue_cells=_TISSUE)
            else:
                with pytest.raises(HeatmapError, match="another job"):
                    writer.finish(attributes, coverage=_COVERAGE, tissue_cells=_TISSUE)
    assert Heatmap(path).attributes.epoch == 1
    assert [child.name for child in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_a_foreign_or_damaged_store_is_refused(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "foreign", mode="w", zarr_format=3)
    with pytest.raises(HeatmapError, match="bccdist"):
        Heatmap(tmp_path / "foreign")


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_pyramids_end_small_and_cover_all(height: int, width: int) -> None:
    shapes = pyramid_shapes((height, width))
    assert max(shapes[-1]) <= COARSEST_PIXELS
    assert all(max(shape) > COARSEST_PIXELS for shape in shapes[:-1])
    for fine, coarse in pairwise(shapes):
        assert all(2 * small - large in (0, 1) for small, large in zip(coarse, fine, strict=True))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 255))
def test_halving_a_constant_keeps_it(height: int, width: int, value: int) -> None:
    halved = halve(np.full((height, width), value, np.uint8))
    assert halved.shape == (-(-height // 2), -(-width // 2))
    assert (halved == value).all()
