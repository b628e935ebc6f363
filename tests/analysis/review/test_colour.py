"""The colour profile of a slide: applied to what is shown, switchable, and never in the way of a slide."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import ImageCms
from places import shared_data_folder

from analysis.review.colour import ColourProfile, read_profile
from analysis.review.tiles import TileReader
from bccdist.parts import Part
from bccdist.slides.manifest import SlideRecord

REDDISH = (200, 60, 90)
FIXTURES = shared_data_folder() / "fixtures"


def swapping_profile() -> bytes:
    """A scanner whose red is the screen's blue: sRGB with two of its three colours changed over."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    place = {}
    for number in range(int.from_bytes(content[128:132], "big")):
        at = 132 + 12 * number
        place[bytes(content[at : at + 4])] = at
    red, blue = place[b"rXYZ"], place[b"bXYZ"]
    content[red : red + 4], content[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(content)


def slide_with(path: Path, profile: bytes | None, colour: tuple[int, int, int] = REDDISH) -> Path:
    image = np.full((512, 768, 3), colour, dtype=np.uint8)
    resolution = (20000, 20000)
    tifffile.imwrite(
        path,
        image,
        photometric="rgb",
        tile=(256, 256),
        resolution=resolution,
        resolutionunit="CENTIMETER",
        iccprofile=profile,
    )
    return path


def middle(path: Path, *, in_profile: bool) -> list[int]:
    reader = TileReader({"a": SlideRecord(slide_id="a", part=Part.TEST, path=path)})
    content = reader.tile("a", reader.facts("a").max_level, 0, 0, in_profile=in_profile)
    assert content is not None
    return [int(value) for value in simplejpeg.decode_jpeg(content, "RGB")[100, 100]]


def test_tiles_are_shown_in_the_colours_of_the_profile_and_as_they_are_without(tmp_path: Path) -> None:
    path = slide_with(tmp_path / "a.tif", swapping_profile())
    assert middle(path, in_profile=True) == pytest.approx(REDDISH[::-1], abs=6)
    assert middle(path, in_profile=False) == pytest.approx(REDDISH, abs=6)


def test_a_slide_without_a_profile_is_the_same_either_way(tmp_path: Path) -> None:
    path = slide_with(tmp_path / "a.tif", None)
    assert read_profile(path) is None
    assert middle(path, in_profile=True) == middle(path, in_profile=False)


def test_a_profile_that_is_of_no_use_is_named_and_the_slide_is_shown_as_it_is(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    path = slide_with(tmp_path / "a.tif", lab)
    reader = TileReader({"a": SlideRecord(slide_id="a", part=Part.TEST, path=path)})
    facts = reader.facts("a")
    assert facts.error is None
    assert facts.profile is None
    assert "cannot be used" in str(facts.profile_fault)
    assert middle(path, in_profile=True) == pytest.approx(REDDISH, abs=6)


@pytest.mark.skipif(not FIXTURES.exists(), reason="the real slides are not here")
def test_a_dicom_slide_says_which_profile_it_carries() -> None:
    path = next((FIXTURES / "dicom_cmu1").glob("*.dcm"))
    profile = read_profile(path)
    assert isinstance(profile, ColourProfile)
    assert profile.name == "sRGB built-in"
