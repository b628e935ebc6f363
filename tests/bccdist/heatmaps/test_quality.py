"""A slide's quality is measured in the pass that makes its heatmap, kept with it, and entered by section."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from heatmap_slides import MPP, ConstantNetwork, PlainPredictor, write_slide
from numpy.typing import NDArray
from tissue_pictures import textured_tissue

from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predictors import make_predictor
from bccdist.heatmaps.quality_pass import FEWEST_CELLS, sampled_cells
from bccdist.heatmaps.store import Heatmap
from bccdist.heatmaps.writing import HeatmapOrder
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.parts import Part
from bccdist.sections.marking import mark_slide
from bccdist.slides.manifest import SlideRecord
from bccdist.slides.quality_measures import MEASURES

Picture = NDArray[np.uint8]
_PICTURE = textured_tissue(0, width_px=1100, height_px=700)
_PICTURE[:, 500:700] = 255  # so far apart are two sections
_CPU = torch.device("cpu")


def rows_of(folder: Path, picture: Picture, *, with_network: bool = False) -> list[dict[str, Any]]:
    """The ledger rows of a picture as a slide."""
    slide = write_slide(folder / "a.tif", picture)
    predictor: Any = PlainPredictor(ConstantNetwork(0.4, ["psi_4"]))
    method = Method(engine="eager")
    if with_network:
        torch.manual_seed(0)
        network = DeeplySupervisedUNet("unet", width=4).eval()
        predictor = make_predictor(network, method, device=_CPU, int8_file=lambda name: folder / name)
    order = HeatmapOrder(path=folder / "a.ozx", setting="unet", epoch=1, predictor=predictor, method=method)
    record = SlideRecord(slide_id="a", part=Part.TEST, path=slide)
    marked = mark_slide(record, [], [order], target_mpp=MPP, mpp_tolerance=0.1, batch=2, device=_CPU)
    return list(marked.rows(Heatmap(folder / "a.ozx"), phantom_weights=False))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return rows_of(tmp_path_factory.mktemp("clean"), _PICTURE, with_network=True)


def recompressed(picture: Picture) -> Picture:
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 10])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)[..., ::-1])


def crossed(colour: tuple[int, int, int]) -> Callable[[Picture], Picture]:
    """A pen line over each piece of tissue."""

    def drawn(picture: Picture) -> Picture:
        made = picture.copy()
        for start, end in ((150, 450), (750, 980)):
            cv2.line(made, (start, 330), (end, 330), colour, 90)
        return made

    return drawn


@pytest.mark.parametrize(
    ("degrade", "measure", "side"),
    [
        (lambda picture: cv2.GaussianBlur(picture, (0, 0), 1.5), "focus", -1),
        (recompressed, "compression", 1),
        (lambda picture: (245 - 0.6 * (245.0 - np.minimum(picture, 245))).astype(np.uint8), "stain_density", -1),
        (crossed((30, 50, 150)), "ink_share", 1),
        (crossed((25, 110, 60)), "ink_share", 1),
        (crossed((15, 15, 20)), "ink_share", 1),
        (crossed((120, 120, 120)), "air_share", 1),
    ],
    ids=["blur", "jpeg", "faint", "blue ink", "green ink", "black ink", "grey edge"],
)
def test_what_was_done_to_a_slide_moves_its_measure_in_each_section(
    clean: list[dict[str, Any]], tmp_path: Path, degrade: Callable[[Picture], Picture], measure: str, side: int
) -> None:
    found = [row[measure] for row in rows_of(tmp_path, np.asarray(degrade(_PICTURE), dtype=np.uint8))]
    assert len(found) >= 2
    before = [row[measure] for row in clean]
    assert min(side * each for each in found) > max(side * each for each in before) + 0.03


def test_every_section_has_all_measures_and_features_of_one_length(clean: list[dict[str, Any]]) -> None:
    assert len(clean) == 2
    assert all(row[name] is not None for row in clean for name in MEASURES)
    assert {len(row["features"]) for row in clean} == {64}, "sixteen times the width"
    assert clean[0]["features"] != clean[1]["features"]
    assert all(row["not_assessable"] is None for row in clean), "nothing was there to judge by"


def test_the_same_slide_gives_the_same_bits(clean: list[dict[str, Any]], tmp_path: Path) -> None:
    again = rows_of(tmp_path, _PICTURE, with_network=True)
    assert [[row[name] for name in (*MEASURES, "features")] for row in again] == [
        [row[name] for name in (*MEASURES, "features")] for row in clean
    ]


def test_a_heatmap_of_before_opens_and_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bccdist.heatmaps.store.QUALITY_VERSION", 0)
    rows_of(tmp_path, _PICTURE)
    monkeypatch.undo()
    heatmap = Heatmap(tmp_path / "a.ozx")
    assert heatmap.quality is None
    assert heatmap.coverage.any()


def test_each_piece_of_tissue_has_sampled_cells() -> None:
    tissue = np.zeros((320, 640), dtype=bool)
    tissue[20:300, 20:300] = tissue[40:110, 400:470] = True
    cells = np.zeros((10, 20), dtype=bool)
    cells[:10, :10] = cells[1:4, 12:15] = True
    sampled = sampled_cells(tissue, cells)
    assert not (sampled & ~cells).any()
    assert sampled[:, :10].sum() >= FEWEST_CELLS
    assert sampled[:, 10:].sum() >= FEWEST_CELLS
