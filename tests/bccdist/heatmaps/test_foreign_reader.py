"""TensorStore, which shares no code with zarr-python, opens a heatmap as it is; its metadata are OME-NGFF 0.5."""

import json
import math
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile

import numpy as np
import pytest
import tensorstore
from numpy.typing import NDArray

from bccdist.configuration import Psi, outputs_of, pixel_px
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, writing_heatmap

OUTPUTS = outputs_of("resnet34_ds")
SIZE_PX = (2900, 1333)
MPP = 0.92
TIMEOUT_S = 60
SPACE_UNITS = {"micrometer"}
"""Of those that OME-NGFF names, the one for slides."""


@pytest.fixture(scope="module")
def heatmap(tmp_path_factory: pytest.TempPathFactory) -> Heatmap:
    """A heatmap with random pixels, chunks that are 0 all over, and cells that were not read."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6 * 256, 12 * 256), dtype=np.uint8)
    pixels[:600, 1000:2300] = 0
    coverage = rng.integers(0, 5, (6, 12), dtype=np.uint8)
    attributes = HeatmapAttributes(
        slide_id="a",
        setting="resnet34_ds",
        epoch=3,
        outputs=OUTPUTS,
        mpp=MPP,
        downsample=2.0,
        size_level0_px=(5800, 2666),
        size_target_px=SIZE_PX,
        weights_digest="w",
        config_digest="c",
        slide_fingerprint="f",
        phantom=True,
    )
    path = tmp_path_factory.mktemp("heatmap") / "a.ozx"
    with writing_heatmap(path, outputs=OUTPUTS, size_target_px=SIZE_PX, mpp=MPP) as writer:
        writer.append({psi: pixels[:: pixel_px(psi), :: pixel_px(psi)] for psi in OUTPUTS})
        writer.finish(attributes, coverage=coverage, tissue_cells=coverage > 0)
    return Heatmap(path)


def opened(path: Path, name: str) -> tensorstore.TensorStore:
    """An array in the file."""
    file = {"driver": "zip", "path": f"{name}/", "base": {"driver": "file", "path": str(path)}}
    return tensorstore.open({"driver": "zarr3", "kvstore": file}, read=True).result(timeout=TIMEOUT_S)


def pixels_of(array: tensorstore.TensorStore) -> NDArray[np.uint8]:
    pixels = array.read().result(timeout=TIMEOUT_S)
    assert pixels.dtype == np.uint8
    return cast("NDArray[np.uint8]", pixels)


def attributes_of(path: Path, group: str) -> dict[str, Any]:
    """The attributes of a group; the root is ""."""
    store = tensorstore.KvStore.open({"driver": "zip", "base": {"driver": "file", "path": str(path)}}).result()
    node = json.loads(store[f"{group}zarr.json"])
    assert (node["zarr_format"], node["node_type"]) == (3, "group")
    return cast("dict[str, Any]", node["attributes"])


@pytest.mark.parametrize("psi", OUTPUTS)
def test_every_level_of_every_output_is_the_same(heatmap: Heatmap, psi: Psi) -> None:
    for level in range(len(heatmap.levels(psi))):
        expected = heatmap.read_rows(psi, level, slice(None))
        np.testing.assert_array_equal(pixels_of(opened(heatmap.path, f"{psi}/{level}")), expected)


def test_coverage_and_tissue_are_the_same(heatmap: Heatmap) -> None:
    np.testing.assert_array_equal(pixels_of(opened(heatmap.path, "coverage")), heatmap.coverage)
    np.testing.assert_array_equal(pixels_of(opened(heatmap.path, "tissue_cells")), heatmap.tissue_cells)


def test_a_part_is_read_by_its_chunks(heatmap: Heatmap, tmp_path: Path) -> None:
    """Of the unpacked file: TensorStore 0.1.86 hangs on ranges in large entries of any zip, zarr-python's own too."""
    with ZipFile(heatmap.path) as archive:
        archive.extractall(tmp_path)
    folder = {"driver": "file", "path": f"{tmp_path}/psi_4/0/"}
    array = tensorstore.open({"driver": "zarr3", "kvstore": folder}, read=True).result(timeout=TIMEOUT_S)
    assert array.chunk_layout.read_chunk.shape == (512, 512)
    rows, cols = slice(700, 1200), slice(500, 2600)
    np.testing.assert_array_equal(pixels_of(array[rows, cols]), heatmap.read_rows("psi_4", 0, rows)[:, cols])


def test_attributes_say_how_it_was_made(heatmap: Heatmap) -> None:
    ours = attributes_of(heatmap.path, "")["bccdist"]
    assert HeatmapAttributes.from_json(ours) == heatmap.attributes


@pytest.mark.parametrize("group", ["", *(f"{psi}/" for psi in OUTPUTS)])
def test_metadata_keep_every_rule_of_ome_ngff(heatmap: Heatmap, group: str) -> None:
    """What the specification says must be (0.5, "axes", "coordinateTransformations", "multiscales"), for images."""
    ome = attributes_of(heatmap.path, group)["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert isinstance(image["name"], str)
    assert isinstance(image["type"], str)
    axes = image["axes"]
    assert [axis["name"] for axis in axes] == ["y", "x"]
    assert all(axis["type"] == "space" and axis["unit"] in SPACE_UNITS for axis in axes)
    num_pixels = []
    for dataset in image["datasets"]:
        assert set(dataset) == {"path", "coordinateTransformations"}
        store = opened(heatmap.path, f"{group}{dataset['path']}")
        assert store.domain.labels == tuple(axis["name"] for axis in axes)
        assert_scale_then_translation(dataset["coordinateTransformations"], rank=store.rank)
        num_pixels.append(math.prod(store.shape))
    assert num_pixels == sorted(num_pixels, reverse=True)


def assert_scale_then_translation(transformations: list[dict[str, Any]], *, rank: int) -> None:
    assert [transformation["type"] for transformation in transformations] == ["scale", "translation"]
    for transformation in transformations:
        values = transformation[transformation["type"]]
        assert set(transformation) == {"type", transformation["type"]}
        assert len(values) == rank
        assert all(isinstance(value, float) and math.isfinite(value) for value in values)
    assert all(value > 0 for value in transformations[0]["scale"])


def test_outputs_lie_on_one_another(heatmap: Heatmap) -> None:
    """The upper left corner of the slide is at one place in every level of every output."""
    corners = set()
    for psi in OUTPUTS:
        (image,) = attributes_of(heatmap.path, f"{psi}/")["ome"]["multiscales"]
        for dataset in image["datasets"]:
            scale, translation = (entry[entry["type"]] for entry in dataset["coordinateTransformations"])
            corners.add(tuple(round(offset - step / 2, 9) for offset, step in zip(translation, scale, strict=True)))
    assert corners == {(-MPP / 2, -MPP / 2)}
