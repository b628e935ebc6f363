"""What lies over a slide: where it lies, what it says, and that blind sections are not in it."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from annotated_slides import feature
from numpy.typing import NDArray
from picture_study import FALSE_REGION, HEIGHT_PX, WIDTH_PX, probability, write_heatmap
from review_study import SETTING, original
from small_study import DOWNSAMPLE, write_slide

from analysis.review.corrections import geometry_of
from analysis.review.layers import annotation_features, heatmap_piece
from bccdist.configuration import Setting, outputs_of
from bccdist.errors import ConfigurationError, HeatmapError
from bccdist.heatmaps.store import Heatmap
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import DEFAULT_KINDS
from bccdist.slides.tissue import TISSUE_MPP

SEEN: Setting = "resnet34_ds"
FALSE_REGION_EDGES = (FALSE_REGION.x, FALSE_REGION.y, FALSE_REGION.x_end, FALSE_REGION.y_end)
WHOLE = Box(0, 0, DOWNSAMPLE * WIDTH_PX, DOWNSAMPLE * HEIGHT_PX)


@pytest.fixture(scope="module")
def heatmap() -> Heatmap:
    return Heatmap(original().paths.heatmap(SETTING, 2, "test-1"))


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def test_a_whole_slide_is_its_heatmap(heatmap: Heatmap) -> None:
    piece = heatmap_piece(heatmap, "psi_4", WHOLE, max_px=4096)
    np.testing.assert_array_equal(pixels(piece.png), probability("test-1", SEEN))
    assert piece.box_level0_px == tuple(WHOLE)


@pytest.mark.parametrize("psi", outputs_of("resnet34_ds"))
def test_a_piece_covers_the_box_that_it_names(heatmap: Heatmap, psi: str) -> None:
    asked = Box(1391, 403, 261, 187)
    piece = heatmap_piece(heatmap, psi, asked, max_px=1024)  # type: ignore[arg-type]
    x, y, width, height = map(round, piece.box_level0_px)
    assert x <= asked.x
    assert y <= asked.y
    assert x + width >= asked.x_end
    assert y + height >= asked.y_end
    edge = width // pixels(piece.png).shape[1]
    truth = probability("test-1", SEEN)[:: edge // DOWNSAMPLE, :: edge // DOWNSAMPLE]
    inside = Box(x // edge, y // edge, width // edge, height // edge)
    np.testing.assert_array_equal(pixels(piece.png), truth[inside.slices()])


def test_a_small_picture_is_made_of_means(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (1100, 2600), dtype=np.uint8)
    store = write_heatmap(tmp_path / "a.ozx", values, outputs=("psi_4",), weights_digest="0" * 12)
    assert len(store.levels("psi_4")) > 2
    piece = heatmap_piece(store, "psi_4", Box(0, 0, 5200, 2200), max_px=1300)
    assert pixels(piece.png).shape == (550, 1300)
    means = values.reshape(550, 2, 1300, 2).mean(axis=(1, 3))
    assert np.abs(pixels(piece.png) - means).max() <= 1
    tiny = heatmap_piece(store, "psi_4", Box(0, 0, 5200, 2200), max_px=100)
    assert max(pixels(tiny.png).shape) == 100
    assert tiny.box_level0_px[2:] == pytest.approx((5200, 2200), abs=16)


@pytest.mark.parametrize("max_px", [4096, 700, 60])
def test_nothing_is_seen_of_what_is_hidden_and_it_lies_where_it_would(heatmap: Heatmap, max_px: int) -> None:
    hidden = heatmap_piece(heatmap, "psi_4", WHOLE, max_px=max_px, is_hidden=True)
    shown = heatmap_piece(heatmap, "psi_4", WHOLE, max_px=max_px)
    assert (hidden.box_level0_px, pixels(hidden.png).shape) == (shown.box_level0_px, pixels(shown.png).shape)
    assert not pixels(hidden.png).any()
    assert pixels(shown.png).max() >= 230


def test_what_was_not_read_is_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.full((512, 768), 200, dtype=np.uint8)
    store = write_heatmap(tmp_path / "a.ozx", values, outputs=("psi_2",), weights_digest="0" * 12)
    monkeypatch.setattr(Heatmap, "coverage", np.array([[4, 3, 4], [4, 4, 4]], dtype=np.uint8))
    monkeypatch.setattr(Heatmap, "tissue_cells", np.array([[1, 1, 1], [0, 1, 1]], dtype=bool))
    image = pixels(heatmap_piece(store, "psi_2", Box(0, 0, 1536, 1024), max_px=1000).png)
    cells = image.reshape(2, 64, 3, 64).mean(axis=(1, 3))
    np.testing.assert_array_equal(cells, [[200, 0, 200], [0, 200, 200]])


@pytest.mark.parametrize("max_px", [4096, 300])
def test_heat_lies_within_the_tissue_as_the_verdict_counts_it(heatmap: Heatmap, max_px: int) -> None:
    """Tissue that ends in the middle of a cell of 256 px: whole cells would count beyond it."""
    tissue = np.zeros((round(HEIGHT_PX * 0.92 / TISSUE_MPP), round(WIDTH_PX * 0.92 / TISSUE_MPP)), dtype=bool)
    tissue[:, :23] = True
    image = pixels(heatmap_piece(heatmap, "psi_4", WHOLE, max_px=max_px, tissue=tissue).png)
    edge = 23 * TISSUE_MPP / (WIDTH_PX * 0.92) * image.shape[1]
    assert image[:, : int(edge) - 1].max() == 230
    assert not image[:, int(edge) + 2 :].any()


def test_what_is_not_there_is_refused(heatmap: Heatmap) -> None:
    with pytest.raises(ConfigurationError, match="lies outside of the slide"):
        heatmap_piece(heatmap, "psi_4", Box(9000, 0, 10, 10), max_px=10)
    with pytest.raises(HeatmapError, match="but merged is asked for"):
        heatmap_piece(heatmap, "merged", WHOLE, max_px=10)


def test_annotations_are_outlined_where_they_were_drawn() -> None:
    found = annotation_features(original().manifest.slide("test-0"), DEFAULT_KINDS, 0.46)
    boxes = {each["properties"]["kind"]: geometry_of(each).bounds for each in found}
    assert boxes == {
        "Tumornest": (120.0, 200.0, 700.0, 600.0),
        "Stroma": (120.0, 600.0, 700.0, 840.0),
        "Normal": (1400.0, 1000.0, 1800.0, 1280.0),
    }


def test_the_outline_of_a_mask_is_smooth_and_near_where_a_slide_is_large(tmp_path: Path) -> None:
    """A disc drawn on a slide of 10,000 px, where one pixel of the outline is 3.3 level-0 px."""
    ring = shapely.Point(4000, 3000).buffer(2000)
    path, drawing = tmp_path / "a.tif", tmp_path / "a.geojson"
    write_slide(path, np.full((3000, 5000, 3), 200, dtype=np.uint8))
    drawing.write_text(json.dumps([feature(json.loads(shapely.to_geojson(ring)))]))
    record = original().manifest.slide("test-0")
    (found,) = annotation_features(replace(record, path=path, annotations=(drawing,)), DEFAULT_KINDS, 0.46)
    outline = geometry_of(found)
    assert outline.symmetric_difference(ring).area < 0.01 * ring.area
    assert shapely.get_num_coordinates(outline) < 400
