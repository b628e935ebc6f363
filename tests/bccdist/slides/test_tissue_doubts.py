"""A slide whose tissue cannot be told from its glass, or whose levels show different pictures, is not read."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from synthetic_slides import GLASS, islands_picture, write_slide

from bccdist.parts import Part
from bccdist.slides.cell_rows import ReadingTally, readable_rows
from bccdist.slides.checkup import Code, Severity, check_slide
from bccdist.slides.geometry import Box, tissue_cells
from bccdist.slides.manifest import DEFAULT_KINDS, SectionRecord, SlideRecord
from bccdist.slides.sections import find_sections
from bccdist.slides.slide import Slide
from bccdist.slides.stain import find_glass, smoothed
from bccdist.slides.tissue import TissueError, tissue_mask

MPP = 0.92
ISLANDS = ((200, 150, 700, 500), (1300, 800, 900, 600))


def tinted_slide(path: Path, *glass: int, islands: tuple[tuple[int, int, int, int], ...] = ISLANDS) -> Path:
    """Pink islands under light of a colour."""
    picture = islands_picture(2400, 1600, *islands, noise=2) * (np.array(glass) / GLASS)
    return write_slide(path, picture.clip(0, 255).astype(np.uint8), mpp=MPP, downsamples=(1, 2, 4, 8))


def full_slide(path: Path) -> Path:
    """Pale pink all over, with the texture of tissue."""
    random = np.random.default_rng(0)
    coarse = random.normal(0, 12, (200, 300, 1)).repeat(8, axis=0).repeat(8, axis=1)
    picture = np.array((225, 190, 212)) + coarse * np.array((0.5, 1, 0.7))
    return write_slide(path, picture.clip(0, 250).astype(np.uint8), mpp=MPP)


@pytest.mark.parametrize("glass", [(236, 236, 236), (232, 221, 229), (240, 215, 230), (225, 220, 240)])
def test_sections_are_found_on_tinted_glass(tmp_path: Path, glass: tuple[int, int, int]) -> None:
    with Slide(tinted_slide(tmp_path / "a.tif", *glass), target_mpp=MPP) as slide:
        found = find_sections(tissue_mask(slide, for_sections=True))
    assert len(found) == len(ISLANDS)
    for box, island in zip(found, ISLANDS, strict=True):
        assert np.abs(np.array(box) * 8.0 / MPP - island).max() <= 2 * 8.0 / MPP


def test_a_slide_that_shows_no_glass_has_no_sections_of_its_own_but_takes_those_of_the_manifest(
    tmp_path: Path,
) -> None:
    path = full_slide(tmp_path / "a.tif")
    with Slide(path, target_mpp=MPP) as slide:
        assert tissue_mask(slide).mean() > 0.9
        with pytest.raises(TissueError, match="no glass was found"):
            tissue_mask(slide, for_sections=True)
    record = SlideRecord(slide_id="a", part=Part.TEST, path=path)
    boxed = SectionRecord(slide_id="a", section_id="a-0", label=None, box_level0_px=Box(100, 100, 900, 900))
    for sections, severity in (([], Severity.ERROR), ([boxed], Severity.WARNING)):
        checkup = check_slide(record, sections, DEFAULT_KINDS, target_mpp=MPP, mpp_tolerance=0.1)
        (finding,) = [finding for finding in checkup.findings if finding.code is Code.UNCERTAIN_TISSUE]
        assert finding.severity is severity


@pytest.mark.parametrize("glass", [(255, 128, 128), (240, 121, 240)])
def test_colours_that_were_decoded_wrongly_are_an_error_also_with_boxes(
    tmp_path: Path, glass: tuple[int, int, int]
) -> None:
    path = tinted_slide(tmp_path / "a.tif", *glass)
    with Slide(path, target_mpp=MPP) as slide, pytest.raises(TissueError, match="its glass has the colour"):
        tissue_mask(slide)
    record = SlideRecord(slide_id="a", part=Part.TEST, path=path)
    boxed = SectionRecord(slide_id="a", section_id="a-0", label=None, box_level0_px=Box(100, 100, 900, 900))
    checkup = check_slide(record, [boxed], DEFAULT_KINDS, target_mpp=MPP, mpp_tolerance=0.1)
    assert [(each.code, each.severity) for each in checkup.findings] == [(Code.UNCERTAIN_TISSUE, Severity.ERROR)]


SPACES = {
    "YCbCr as RGB": lambda picture: cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]],
    "YCrCb as RGB": lambda picture: cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb),
    "RGB as YCbCr": lambda picture: cv2.cvtColor(picture[..., [0, 2, 1]], cv2.COLOR_YCrCb2RGB),
    "RGB as YCrCb": lambda picture: cv2.cvtColor(picture, cv2.COLOR_YCrCb2RGB),
    "Lab as RGB": lambda picture: cv2.cvtColor(picture, cv2.COLOR_RGB2LAB),
    "HSV as RGB": lambda picture: cv2.cvtColor(picture, cv2.COLOR_RGB2HSV),
    "HLS as RGB": lambda picture: cv2.cvtColor(picture, cv2.COLOR_RGB2HLS),
}
"""In some of them tissue is brighter in green than glass."""


@pytest.mark.parametrize("space", SPACES)
def test_a_wrong_colour_space_is_the_cause_that_is_named(tmp_path: Path, space: str) -> None:
    picture = islands_picture(2400, 1600, *ISLANDS, noise=2)
    shown = np.ascontiguousarray(SPACES[space](picture), dtype=np.uint8)
    path = write_slide(tmp_path / "a.tif", shown, mpp=MPP, downsamples=(1, 2, 4, 8))
    with Slide(path, target_mpp=MPP) as slide, pytest.raises(TissueError, match="its colour space was not understood"):
        tissue_mask(slide)


@pytest.mark.shared_data
@pytest.mark.parametrize("space", SPACES)
def test_a_wrong_colour_space_is_named_on_real_tissue(shared_data: Path, space: str) -> None:
    for name in ("train-000", "train-004", "test-005"):
        with Slide(shared_data / f"ebhi-slides/{name}.tif", target_mpp=MPP) as slide:
            smooth = smoothed(slide.thumbnail(8.0))
        shown = np.ascontiguousarray(SPACES[space](smooth), dtype=np.uint8)
        assert find_glass(shown).is_strange
        assert not find_glass(smooth).is_strange


@pytest.mark.shared_data
@pytest.mark.parametrize("blur_px", [0, 3, 6, 12])
def test_a_slide_full_of_real_tissue_in_focus_or_not_has_no_strange_glass(shared_data: Path, blur_px: int) -> None:
    for path in sorted((shared_data / "ebhi-slides").glob("train-*.tif")):
        with Slide(path, target_mpp=MPP) as slide:
            picture = slide.thumbnail(8.0)
        is_dyed = (np.ptp(picture, axis=-1) > 4).astype(np.uint8)
        distance = cv2.distanceTransform(np.pad(is_dyed, 1), cv2.DIST_C, cv2.DIST_MASK_3)[1:-1, 1:-1]
        row, col = np.unravel_index(int(distance.argmax()), distance.shape)
        reach = int(distance.max()) - 1
        if reach < 4:
            continue
        full = np.tile(picture[row - reach : row + reach, col - reach : col + reach], (20, 20, 1))[:400, :600]
        seen = cv2.GaussianBlur(full, (0, 0), blur_px) if blur_px else full
        assert not find_glass(smoothed(np.ascontiguousarray(seen))).is_strange


def write_levels(path: Path, *levels: NDArray[np.uint8]) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                level,
                tile=(256, 256),
                compression="deflate",
                photometric="rgb",
                subfiletype=int(number > 0),
                resolution=(1e4 / MPP, 1e4 / MPP),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


@pytest.mark.parametrize("odd", [0, 1, 2])
def test_a_level_of_another_picture_is_refused_though_its_size_fits(tmp_path: Path, odd: int) -> None:
    first = islands_picture(2400, 1600, *ISLANDS, noise=2)
    other = islands_picture(2400, 1600, (1300, 100, 700, 500), (200, 900, 900, 600), noise=2)
    levels = [(other if level == odd else first)[:: 2**power, :: 2**power] for level, power in enumerate((0, 1, 3))]
    with (
        Slide(write_levels(tmp_path / "a.tif", *levels), target_mpp=2 * MPP) as slide,
        pytest.raises(TissueError, match="show different pictures"),
    ):
        tissue_mask(slide)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.85, 1.0])
@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "blanked"])
def test_a_level_that_lacks_tissue_is_no_other_picture_and_its_tissue_is_unread(
    tmp_path: Path, share: float, is_lost: bool
) -> None:
    picture = islands_picture(2400, 1600, *ISLANDS, noise=2)
    levels = [picture, picture[::2, ::2].copy(), picture[::8, ::8]]
    num_cols = round(5 * share)
    if not is_lost:
        levels[1][:, : 256 * num_cols] = 255
    path = write_levels(tmp_path / "a.tif", *levels)
    if is_lost:
        with tifffile.TiffFile(path, mode="r+") as tiff:
            counts = list(tiff.pages[1].databytecounts)
            kept = [count if place % 5 >= num_cols else 0 for place, count in enumerate(counts)]
            tiff.pages[1].tags["TileByteCounts"].overwrite(kept)
    with Slide(path, target_mpp=2 * MPP) as slide:
        tissue = tissue_mask(slide, for_sections=True)
        assert len(find_sections(tissue)) == len(ISLANDS)
        needed = tissue_cells(tissue, shape=(4, 5), pixels_per_cell=256 * 2 * MPP / 8.0)
        unread = [row.unread for row in readable_rows(slide, needed, ReadingTally(), tissue)]
    lacks = needed & (np.arange(5) < num_cols)
    assert np.array_equal(np.array(unread), lacks)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "boxes", "within_px"),
    [
        ("pink-glass/pinker_glass.tif", ((700, 650, 1600, 1100), (3500, 2150, 1800, 1300)), 100),
        ("padded-levels/padded.tif", ((300, 250, 600, 500), (3950, 2350, 700, 500)), 60),
    ],
    ids=["pink glass", "padded levels"],
)
def test_a_case_has_its_two_sections(
    shared_data: Path, name: str, boxes: tuple[tuple[int, int, int, int], ...], within_px: int
) -> None:
    with Slide(shared_data / "cases" / name, target_mpp=0.92) as slide:
        found = [
            box.scaled(8.0 / slide.resolution.mpp_level0)
            for box in find_sections(tissue_mask(slide, for_sections=True))
        ]
    for box, expected in zip(found, boxes, strict=True):
        assert np.abs(np.array(box) - expected).max() <= within_px


def test_a_pens_closed_line_of_the_colour_of_stain_is_said(tmp_path: Path) -> None:
    picture = islands_picture(2400, 1600, *ISLANDS, noise=2)
    cv2.rectangle(picture, (60, 40), (2300, 1540), (150, 80, 170), 30)
    path = write_slide(tmp_path / "a.tif", picture, mpp=MPP)
    with Slide(path, target_mpp=MPP) as slide, pytest.raises(TissueError, match="thin closed line"):
        tissue_mask(slide, for_sections=True)
