"""What nobody would read is said of a slide without any model, and a flat picture has measures, too."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from heatmap_slides import MPP, write_slide
from numpy.typing import NDArray
from tissue_pictures import textured_tissue

from bccdist.slides import slide as slide_module
from bccdist.slides.quality import QualityMeter, cell_measures
from bccdist.slides.quality_doubts import quality_doubts
from bccdist.slides.slide import Slide
from bccdist.slides.stain import Glass, density_table, find_glass
from bccdist.slides.tissue import tissue_mask

Picture = NDArray[np.uint8]


def grainy(picture: Picture) -> Picture:
    """With texture down to single pixels, as sharp tissue has it."""
    noise = np.random.default_rng(0).normal(0, 12, picture.shape[:2])[..., None] * (picture[..., 1:2] < 230)
    return np.asarray((picture + noise).clip(0, 255), dtype=np.uint8)


@pytest.mark.parametrize(
    ("degrade", "says"),
    [
        (lambda picture: picture, []),
        (lambda picture: cv2.GaussianBlur(picture, (0, 0), 2.5), ["its tissue is out of focus: -"]),
        (
            lambda picture: cv2.line(picture.copy(), (150, 330), (450, 330), (25, 110, 60), 90),
            ["% of its tissue is under ink"],
        ),
    ],
    ids=["clean", "blurred", "inked"],
)
def test_what_nobody_would_read_is_said(
    tmp_path: Path, degrade: Callable[[Picture], Picture], says: list[str]
) -> None:
    picture = degrade(grainy(textured_tissue(0, width_px=1100, height_px=700)))
    with Slide(write_slide(tmp_path / "a.tif", picture), target_mpp=MPP) as slide:
        found = list(quality_doubts(slide, tissue_mask(slide)))
    assert len(found) == len(says)
    assert all(text in doubt for text, doubt in zip(says, found, strict=True))


def test_the_glass_is_found_once_for_the_tissue_and_for_what_lies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Glass] = []

    def counted(smooth: Picture) -> Glass:
        found.append(find_glass(smooth))
        return found[-1]

    monkeypatch.setattr(slide_module, "find_glass", counted)
    picture = grainy(textured_tissue(0, width_px=1100, height_px=700))
    with Slide(write_slide(tmp_path / "a.tif", picture), target_mpp=MPP) as slide:
        tissue = tissue_mask(slide)
        list(quality_doubts(slide, tissue))
        QualityMeter(slide, tissue, (3, 5))
    assert len(found) == 1


def test_a_picture_that_is_flat_all_over_has_finite_measures() -> None:
    pixels = np.empty((256, 256, 3), dtype=np.uint8)
    pixels[:] = (200, 120, 170)
    glass = Glass(light=np.log(np.full(3, 253.0)).astype(np.float32), is_certain=True)
    found = cell_measures(pixels, np.ones((32, 32), dtype=bool), density_table(glass), is_as_stored=True)
    assert np.isfinite(found).all()
    assert found[:2] == (0.0, 0.0)
