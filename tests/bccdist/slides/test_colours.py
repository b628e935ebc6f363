"""Colours that were mixed up are noticed, and those of real stains are not."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic_slides import GLASS, write_slide

from bccdist.parts import Part
from bccdist.slides.checkup import Code, Severity, check_slide
from bccdist.slides.colours import colour_doubt, colour_log
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import DEFAULT_KINDS, SlideRecord
from bccdist.slides.slide import PixelsThere, Slide
from bccdist.slides.stain import find_glass, smoothed, stained_on
from bccdist.slides.tissue import tissue_mask

MPP = 2.0
HAEMATOXYLIN, EOSIN, BROWN = (0.9, 0.95, 0.4), (0.04, 0.45, 0.18), (0.3, 0.65, 0.75)
_Picture = NDArray[np.uint8]


def stained_picture(*, strength: float = 1.0, nuclei: tuple[float, float, float] = HAEMATOXYLIN) -> _Picture:
    """Two pieces of eosin with nuclei on grey glass: uint8 RGB [h, w, 3]."""
    random = np.random.default_rng(0)
    density = np.zeros((640, 1200, 3))
    for y, x, height, width in ((80, 80, 300, 400), (200, 640, 320, 440)):
        here = density[y : y + height, x : x + width]
        here[:] = np.array(EOSIN) * random.normal(1, 0.1, (height, width, 1))
        is_nucleus = (random.random((height // 4, width // 4, 1)) < 0.3).repeat(4, axis=0).repeat(4, axis=1)
        here += is_nucleus * np.array(nuclei)
    shown = GLASS * np.exp(-strength * density) + random.normal(0, 2, density.shape)
    return shown.clip(0, 255).astype(np.uint8)


class MixUp(NamedTuple):
    """What is done to a slide's colours."""

    name: str
    change: Callable[[_Picture], _Picture]
    says: str


MIX_UPS = [
    MixUp("red and blue swapped", lambda picture: picture[..., ::-1], "red and blue are swapped"),
    MixUp("inverted", lambda picture: 255 - picture, "inverted"),
    MixUp("green first", lambda picture: picture[..., [1, 0, 2]], "channels are in another order"),
    MixUp("green last", lambda picture: picture[..., [0, 2, 1]], "channels are in another order"),
    MixUp("turned once", lambda picture: picture[..., [1, 2, 0]], "channels are in another order"),
    MixUp("turned twice", lambda picture: picture[..., [2, 0, 1]], "channels are in another order"),
]


def doubt_about(path: Path, picture: _Picture) -> str:
    with Slide(write_slide(path, np.ascontiguousarray(picture), mpp=MPP), target_mpp=MPP) as slide:
        smooth = smoothed(slide.thumbnail(8.0))
        return colour_doubt(slide, stained_on(find_glass(smooth), smooth, mpp=8.0))


@pytest.mark.parametrize("strength", [0.7, 1.0, 1.6])
def test_a_stain_with_haematoxylin_and_eosin_is_right_however_strong(tmp_path: Path, strength: float) -> None:
    assert not doubt_about(tmp_path / "a.tif", stained_picture(strength=strength))


@pytest.mark.parametrize("mix_up", MIX_UPS, ids=lambda mix_up: mix_up.name)
def test_colours_that_were_mixed_up_are_noticed(tmp_path: Path, mix_up: MixUp) -> None:
    assert mix_up.says in doubt_about(tmp_path / "a.tif", mix_up.change(stained_picture()))


@pytest.mark.parametrize("strength", [0.25, 4.0])
def test_a_density_that_no_stain_has_is_noticed(tmp_path: Path, strength: float) -> None:
    assert "gamma curve" in doubt_about(tmp_path / "a.tif", stained_picture(strength=strength))


def test_another_stain_is_noticed(tmp_path: Path) -> None:
    assert "another stain" in doubt_about(tmp_path / "a.tif", stained_picture(nuclei=BROWN))


def test_the_doctor_warns_and_the_log_says_it(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", np.ascontiguousarray(stained_picture()[..., ::-1]), mpp=MPP)
    record = SlideRecord(slide_id="a", part=Part.TEST, path=path)
    checkup = check_slide(record, [], DEFAULT_KINDS, target_mpp=MPP, mpp_tolerance=0.1)
    (finding,) = [finding for finding in checkup.findings if finding.code is Code.UNLIKELY_COLOURS]
    assert finding.severity is Severity.WARNING
    with Slide(path, target_mpp=MPP) as slide:
        assert colour_log(slide, tissue_mask(slide)).startswith(", UNLIKELY COLOURS: red varies less than blue")


class Recoloured(Slide):
    """A slide whose pixels are changed as they are read."""

    change: Callable[[_Picture], _Picture]

    def overview(self, mpp: float) -> PixelsThere:
        pixels, is_absent = super().overview(mpp)
        return PixelsThere(np.ascontiguousarray(self.change(pixels)), is_absent)

    def read_into(self, image: _Picture, box_px: Box) -> NDArray[np.bool_] | None:
        found = super().read_into(image, box_px)
        image[:] = self.change(image.copy())
        return found


@pytest.mark.shared_data
@pytest.mark.parametrize("number", range(0, 41, 5))
def test_real_slides_are_right_and_with_red_and_blue_swapped_they_are_not(shared_data: Path, number: int) -> None:
    path = sorted((shared_data / "ebhi-slides").glob("*.tif"))[number]
    with Slide(path, target_mpp=0.92) as slide:
        assert not colour_doubt(slide, tissue_mask(slide))
    with Recoloured(path, target_mpp=0.92) as slide:
        slide.change = lambda picture: picture[..., ::-1]
        smooth = smoothed(slide.overview(8.0).pixels)
        assert "swapped" in colour_doubt(slide, stained_on(find_glass(smooth), smooth, mpp=8.0))
