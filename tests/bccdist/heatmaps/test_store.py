"""A heatmap on disk is whole or absent, is read by plain zarr, and says how it lies on the slide."""

import errno
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
import zarr
from damage import assert_never_used
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.storage import LocalStore, ZipStore

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


def _write(path: Path) -> None:
    with writing_heatmap(path, outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=0.92) as writer:
        _append_rows(writer, 6)
        writer.finish(_ATTRIBUTES, coverage=_COVERAGE, tissue_cells=_TISSUE)


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The node's own disk, on which no test may leave anything."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert not list(folder.iterdir())


@pytest.fixture(scope="module")
def heatmap_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heatmaps") / "deep" / "a.ozx"
    _write(path)
    return path


@pytest.fixture
def unzipped(heatmap_path: Path, tmp_path: Path) -> Path:
    with ZipFile(heatmap_path) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def test_plain_zarr_reads_it_zipped_and_unzipped(heatmap_path: Path, unzipped: Path) -> None:
    with ZipStore(heatmap_path, mode="r") as zipped:
        _assert_is_whole(zarr.open_group(zipped, mode="r"))
    _assert_is_whole(zarr.open_group(unzipped, mode="r"))


def _assert_is_whole(group: zarr.Group) -> None:
    for psi, pixels in _maps().items():
        height, width = lattice_shape(_SIZE_PX, psi)
        array = group[f"{psi}/0"]
        assert isinstance(array, zarr.Array)
        assert array.shape == (height, width)
        assert (np.asarray(array[:]) == pixels[:height, :width]).all()
    assert (np.asarray(group["coverage"][:]) == _COVERAGE).all()  # type: ignore[index]
    assert (np.asarray(group["tissue_cells"][:]) == _TISSUE).all()  # type: ignore[index]
    assert group.attrs["bccdist"] == json.loads(json.dumps(asdict(_ATTRIBUTES)))


def test_each_level_halves_the_one_before(unzipped: Path) -> None:
    group = zarr.open_group(unzipped / "merged", mode="r")
    levels = [np.asarray(group[str(level)][:]) for level in range(3)]  # type: ignore[index]
    assert [level.shape for level in levels] == [(1333, 2900), (667, 1450), (334, 725)]
    for fine, coarse in pairwise(levels):
        means = cv2.blur(fine, (2, 2), anchor=(0, 0))[: fine.shape[0] // 2 * 2 : 2, : fine.shape[1] // 2 * 2 : 2]
        inner = coarse[: means.shape[0], : means.shape[1]]
        assert np.abs(inner.astype(int) - means).max() <= 1


@pytest.mark.parametrize("folder", ["", *_OUTPUTS])
def test_ngff_metadata_is_complete(unzipped: Path, folder: str) -> None:
    metadata = json.loads((unzipped / folder / "zarr.json").read_text(encoding="utf-8"))
    assert (metadata["zarr_format"], metadata["node_type"]) == (3, "group")
    ome = metadata["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    assert multiscale["axes"] == [
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    for level, dataset in enumerate(multiscale["datasets"]):
        array = json.loads((unzipped / folder / dataset["path"] / "zarr.json").read_text(encoding="utf-8"))
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
    path = tmp_path / "a.ozx"
    with writing_heatmap(path, outputs=("psi_0",), size_target_px=(100, 50), mpp=0.92) as writer:
        writer.append({"psi_0": np.zeros((16, 16), np.uint8)})
        attributes = replace(_ATTRIBUTES, outputs=("psi_0",), size_target_px=(100, 50))
        writer.finish(attributes, coverage=_COVERAGE[:1, :1], tissue_cells=_TISSUE[:1, :1])
    with pytest.raises(HeatmapError, match="holds psi_0, but merged"):
        Heatmap(path).read("merged", Box(0, 0, 9, 9))


def test_one_file(heatmap_path: Path) -> None:
    assert list(heatmap_path.parent.rglob("*")) == [heatmap_path]
    assert heatmap_path.is_file()


def test_equal_heatmaps_are_equal_files(heatmap_path: Path, tmp_path: Path) -> None:
    _write(tmp_path / "b.ozx")
    assert (tmp_path / "b.ozx").read_bytes() == heatmap_path.read_bytes()


def test_readers_do_not_disturb_one_another(heatmap_path: Path) -> None:
    heatmap, pixels = Heatmap(heatmap_path), _maps()["psi_4"]
    boxes = [Box(50 * step, 20 * step, 1000, 700) for step in range(24)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda box: heatmap.read("psi_4", box), boxes))
    for box, values in zip(boxes, read, strict=True):
        assert (values == pixels[:1333, :2900][box.y : box.y_end, box.x : box.x_end]).all()


def test_rows_of_shards_do_not_change_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 512)
    path = tmp_path / "a.ozx"
    _write(path)
    heatmap = Heatmap(path)
    assert (heatmap.read("psi_4", heatmap.box_target_px) == _maps()["psi_4"][:1333, :2900]).all()
    assert (heatmap.overview("psi_4") == halve(halve(_maps()["psi_4"][:1333, :2900]))).all()
    with ZipFile(path) as archive:
        assert sum(name.startswith("psi_4/0/c/") for name in archive.namelist()) == 3


def _write_and_die(path: Path, scratch: Path) -> None:
    with writing_heatmap(path, outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=0.92) as writer:
        _append_rows(writer, 3)
        assert not path.exists()
        assert list(scratch.iterdir())
        raise KeyboardInterrupt


def test_a_writer_that_dies_leaves_nothing(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "a.ozx"
    with pytest.raises(KeyboardInterrupt):
        _write_and_die(path, scratch)
    assert not list(tmp_path.iterdir())


async def _full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_scratch_is_named_and_what_to_set(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 512)
    with writing_heatmap(tmp_path / "a.ozx", outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=0.92) as writer:
        monkeypatch.setattr(LocalStore, "set", _full_disk)
        with pytest.raises(HeatmapError, match=rf"{scratch}.*a\.ozx.*No space left.*`scratch`.*TMPDIR") as caught:
            _append_rows(writer, 6)
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_a_scratch_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(HeatmapError, match=r"missing: TMPDIR names it.*`scratch`"):
        _write(tmp_path / "a.ozx")


def test_a_full_study_disk_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_packed(folder: Path, path: Path, *, ngff_version: str) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, f"No space left for {folder.name}, {ngff_version}")

    monkeypatch.setattr(store, "pack_folder", half_packed)
    with pytest.raises(HeatmapError, match=rf"{tmp_path}/a\.ozx: cannot be put in place.*No space left"):
        _write(tmp_path / "a.ozx")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_leaves_is_no_heatmap(tmp_path: Path) -> None:
    path, other = tmp_path / "a.ozx", tmp_path / "ab.ozx.partial-x"
    (tmp_path / "a.ozx.partial-x").write_bytes(b"half")
    other.write_bytes(b"half")
    with pytest.raises(HeatmapError, match="no heatmap there"):
        Heatmap(path)
    remove_leftovers(path)
    assert list(tmp_path.iterdir()) == [other]


def test_missing_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ozx"
    with writing_heatmap(path, outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=0.92) as writer:
        _append_rows(writer, 5)
        with pytest.raises(HeatmapError, match="not all rows"):
            writer.finish(_ATTRIBUTES, coverage=_COVERAGE, tissue_cells=_TISSUE)
    assert not list(tmp_path.iterdir())


def test_a_heatmap_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.ozx"
    for epoch in (1, 2):
        with writing_heatmap(path, outputs=("psi_0",), size_target_px=(100, 50), mpp=0.92) as writer:
            writer.append({"psi_0": np.zeros((16, 16), np.uint8)})
            attributes = replace(_ATTRIBUTES, epoch=epoch, outputs=("psi_0",), size_target_px=(100, 50))
            if epoch == 1:
                writer.finish(attributes, coverage=_COVERAGE[:1, :1], tissue_cells=_TISSUE[:1, :1])
            else:
                with pytest.raises(HeatmapError, match=r"a\.ozx: cannot be put in place: .*another job"):
                    writer.finish(attributes, coverage=_COVERAGE[:1, :1], tissue_cells=_TISSUE[:1, :1])
    assert Heatmap(path).attributes.epoch == 1
    assert [child.name for child in tmp_path.iterdir()] == ["a.ozx"]


def test_a_foreign_or_damaged_file_is_refused(heatmap_path: Path, tmp_path: Path) -> None:
    with ZipStore(tmp_path / "foreign.ozx", mode="w") as foreign:
        zarr.open_group(foreign, mode="w", zarr_format=3)
    zarr.open_group(tmp_path / "folder.ozx", mode="w", zarr_format=3)
    (tmp_path / "cut.ozx").write_bytes(heatmap_path.read_bytes()[:-1000])
    for name, reason in (("foreign", "bccdist"), ("folder", "IsADirectory"), ("cut", "BadZipFile")):
        with pytest.raises(HeatmapError, match=reason):
            Heatmap(tmp_path / f"{name}.ozx")


def test_damaged_pixels_are_refused(heatmap_path: Path, tmp_path: Path) -> None:
    with ZipFile(heatmap_path) as archive:
        offset = archive.getinfo("psi_4/0/c/0/0").header_offset
    damaged = bytearray(heatmap_path.read_bytes())
    damaged[offset + 200 : offset + 300] = bytes(100)
    (tmp_path / "a.ozx").write_bytes(damaged)
    for box in (Box(0, 0, 9, 9), Box(0, 0, *_SIZE_PX)):
        with pytest.raises(HeatmapError, match="cannot read psi_4/0"):
            Heatmap(tmp_path / "a.ozx").read("psi_4", box)


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


def _content(path: Path) -> dict[str, Any]:
    """All that a heatmap holds."""
    heatmap = Heatmap(path)
    pixels = {
        f"{psi}/{level}": heatmap.read_rows(psi, level, slice(None)).tolist()
        for psi in heatmap.outputs
        for level in range(len(heatmap.levels(psi)))
    }
    cells = {"coverage": heatmap.coverage.tolist(), "tissue": heatmap.tissue_cells.tolist()}
    return {**pixels, **cells, "attributes": asdict(heatmap.attributes)}


def _write_small(path: Path, outputs: tuple[Psi, ...] = ("psi_0", "psi_4")) -> None:
    size_px = (700, 500)
    with writing_heatmap(path, outputs=outputs, size_target_px=size_px, mpp=0.92) as writer:
        rng = np.random.default_rng(0)
        for _ in range(2):
            writer.append(
                {psi: rng.integers(0, 9, (256 // pixel_px(psi), 768 // pixel_px(psi)), np.uint8) for psi in outputs}
            )
        attributes = replace(_ATTRIBUTES, outputs=outputs, size_target_px=size_px)
        writer.finish(attributes, coverage=np.full((2, 3), 4, np.uint8), tissue_cells=np.ones((2, 3), bool))


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_heatmap_is_named_and_never_used(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "slide-a.ozx"
    _write_small(path)
    assert assert_never_used(path, lambda: _content(path), seed=seed, num=100) > 60


def test_an_entry_that_is_lost_or_renamed_is_damage_and_not_zeros(tmp_path: Path) -> None:
    path = tmp_path / "slide-a.ozx"
    _write_small(path)
    data = path.read_bytes()
    place = data.rindex(b"psi_4/0/c/0/0")
    path.write_bytes(data[: place + 12] + b"7" + data[place + 13 :])
    with pytest.raises(HeatmapError, match=r"slide-a\.ozx: damaged .*; remove it and run the inference again"):
        Heatmap(path)


@pytest.mark.parametrize("seed", range(2))
def test_a_heatmap_of_before_is_read_whole_to_check_its_sums(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"slide-{seed}.ozx"
    monkeypatch.setattr("bccdist.heatmaps.zipped.SEAL_KEY", "no")
    monkeypatch.setattr("bccdist.heatmaps.zipped.BLANK_SEAL", "seal")
    monkeypatch.setattr("bccdist.heatmaps.zipped._seal_directory", lambda _: None)
    _write_small(path)
    assert assert_never_used(path, lambda: _content(path), seed=seed, num=60) > 30
    assert "holds no SHA-256" in caplog.text


def test_what_does_not_reach_across_the_slide_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ozx"
    size_px: tuple[int, int] = (700, 500)
    with writing_heatmap(path, outputs=("psi_4",), size_target_px=size_px, mpp=0.92) as writer:
        with pytest.raises(HeatmapError, match=r"a\.ozx: a row of psi_4 is 1 px wide, expected 700"):
            writer.append({"psi_4": np.zeros((256, 1), np.uint8)})
        writer.append({"psi_4": np.zeros((500, 700), np.uint8)})
        attributes = replace(_ATTRIBUTES, outputs=("psi_4",), size_target_px=size_px)
        with pytest.raises(HeatmapError, match=r"coverage is of \(2, 1\) cells, expected \(2, 3\)"):
            writer.finish(attributes, coverage=np.zeros((2, 1), np.uint8), tissue_cells=np.zeros((2, 3), bool))
    assert not path.exists()
