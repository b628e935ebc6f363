"""A slide is marked in one way, whoever asks: heatmaps where they are missing, rows from what is there."""

from pathlib import Path

import pytest
import torch
from heatmap_slides import MPP, ConstantNetwork, PlainPredictor, pink_picture, write_slide

from bccdist.errors import ConfigurationError
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.store import Heatmap
from bccdist.heatmaps.writing import HeatmapOrder
from bccdist.parts import Part
from bccdist.sections.marking import MarkedSlide, mark_slide
from bccdist.slides.manifest import SlideRecord

ISLANDS = [(100, 100, 300, 330), (800, 60, 290, 400)]


def mark(slide: Path, path: Path | None, shares: list[float] | None = None) -> MarkedSlide:
    """Mark a slide with a network that is sure of 0.4 everywhere; without a path for its heatmap none is made."""
    record = SlideRecord(slide_id="a", part=Part.TEST, path=slide)
    predictor = PlainPredictor(ConstantNetwork(0.4, ["psi_4"]))
    method = Method(engine="eager")
    orders = (
        [] if path is None else [HeatmapOrder(path=path, setting="unet", epoch=1, predictor=predictor, method=method)]
    )
    told = None if shares is None else shares.append
    cpu = torch.device("cpu")
    return mark_slide(record, [], orders, target_mpp=MPP, mpp_tolerance=0.1, batch=2, device=cpu, told=told)


def test_rows_come_from_a_heatmap_that_was_made_now_or_before(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "a.tif", pink_picture(1200, 520, islands=ISLANDS))
    marked = mark(slide, tmp_path / "a.ozx")
    rows = list(marked.rows(Heatmap(tmp_path / "a.ozx"), phantom_weights=False))
    again = mark(slide, None)
    assert (marked.tally.num_patches, again.tally.num_patches) == (18, 0)
    assert repr(list(again.rows(Heatmap(tmp_path / "a.ozx"), phantom_weights=False))) == repr(rows)
    assert [section.section_id for section in marked.sections] == ["a-s0", "a-s1"]


def test_the_share_that_is_told_grows_to_all_of_the_tissue(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "a.tif", pink_picture(700, 2600, islands=[(100, 100, 400, 2300)]))
    shares: list[float] = []
    mark(slide, tmp_path / "a.ozx", shares)
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_heatmap_in_another_frame_gives_no_rows(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "a.tif", pink_picture(1200, 520, islands=ISLANDS))
    mark(slide, tmp_path / "a.ozx")
    other = write_slide(tmp_path / "b.tif", pink_picture(1200, 520, islands=ISLANDS))
    record = SlideRecord(slide_id="b", part=Part.TEST, path=other, mpp=MPP / 2)
    marked = mark_slide(record, [], [], target_mpp=MPP, mpp_tolerance=0.1, batch=2, device=torch.device("cpu"))
    with pytest.raises(ConfigurationError, match="level-0 px per pixel, but the slide is read with 2"):
        marked.rows(Heatmap(tmp_path / "a.ozx"), phantom_weights=False)
