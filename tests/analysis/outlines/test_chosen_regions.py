"""A region is there once, for the section whose tissue it lies on: the pixels that the ledger counted, no others."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from picture_study import MPP, choice_of, write_heatmap
from small_study import DOWNSAMPLE, MPP_LEVEL0, write_slide

from analysis.pictures.crops import read_section
from bccdist.configuration import Psi, pixel_px
from bccdist.heatmaps.probability import step_of
from bccdist.heatmaps.store import Heatmap
from bccdist.parts import Part
from bccdist.sections.chosen_output import ChosenOutput, SlideTissue
from bccdist.sections.margins import edge_distances_um
from bccdist.sections.rows import section_rows
from bccdist.sections.verdicts import Verdict
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SlideRecord
from bccdist.slides.sections import Section, found_boxes
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask

SIZE_PX = (1100, 900)
OUTPUTS: tuple[Psi, ...] = ("psi_0", "psi_4")
CHOICE = choice_of("resnet34_ds")


class Strips(NamedTuple):
    """A slide with two slanting strips, of whose boxes each holds a part of the other strip."""

    record: SlideRecord
    tissue: NDArray[np.bool_]
    boxes: dict[str, Box]
    heatmap: Heatmap
    is_strip: NDArray[np.int64]
    """1 and 2 in the target frame, 0 for glass: [h, w]."""


@pytest.fixture(scope="module")
def strips(tmp_path_factory: pytest.TempPathFactory) -> Strips:
    """A nest lies on the second strip, in the first one's box, and another on both strips and the glass between."""
    folder = tmp_path_factory.mktemp("strips")
    x, y = np.meshgrid(np.arange(SIZE_PX[0]), np.arange(SIZE_PX[1]))
    inside = (y >= 60) & (y < 840)
    is_strip = np.where(inside & (abs(x - y * 0.7 - 120) < 90), 1, 0) + np.where(
        inside & (abs(x - y * 0.7 - 460) < 90), 2, 0
    )
    noise = np.random.default_rng(0).normal(0, 4, (SIZE_PX[1], SIZE_PX[0], 3))
    picture = np.where(is_strip[..., None] > 0, (200, 110, 165), (238, 238, 238)) + noise
    write_slide(folder / "slide.tif", picture.clip(0, 255).astype(np.uint8))
    record = SlideRecord(slide_id="slide-0", part=Part.TEST, path=folder / "slide.tif")
    with Slide(record.path, target_mpp=MPP) as slide:
        tissue = tissue_mask(slide, for_sections=True)
        boxes = dict(zip(("first", "second"), found_boxes(slide, tissue), strict=True))
    values = np.zeros(SIZE_PX[::-1], dtype=np.uint8)
    values[100:220, 480:600] = 240
    values[500:560, 300:900] = 200
    heatmap = write_heatmap(folder / "a.ozx", values, outputs=OUTPUTS, weights_digest=CHOICE.weights_digest)
    return Strips(record, tissue, boxes, heatmap, is_strip)


def output_of(strips: Strips, psi: Psi) -> ChosenOutput:
    slide = SlideTissue(
        properties={},
        size_level0_px=strips.heatmap.attributes.size_level0_px,
        tissue=strips.tissue,
        distances_um=edge_distances_um(strips.tissue),
    )
    return ChosenOutput(heatmap=strips.heatmap, psi=psi, choice=CHOICE, slide=slide, boxes_level0_px=strips.boxes)


@pytest.mark.parametrize("psi", OUTPUTS)
def test_regions_are_those_that_the_ledger_counted(strips: Strips, psi: Psi) -> None:
    sections = [Section(section_id=name, box_level0_px=box) for name, box in strips.boxes.items()]
    rows = section_rows(strips.heatmap, sections, strips.tissue, part=Part.TEST, phantom_weights=False)
    output = output_of(strips, psi)
    found = {}
    for row in rows:
        if row["psi"] == psi:
            largest_px = row["largest_region_px"][step_of(CHOICE.t_p)]
            verdict = {**row, "area_um2": largest_px * output.pixel_um2, "verdict": Verdict.TUMOR}
            found[row["section_id"]] = output.regions_in(verdict)
            assert max(region.num_pixels for region in found[row["section_id"]]) == largest_px
    assert {name: len(regions) for name, regions in found.items()} == {"first": 1, "second": 2}
    outlines = [region.outline for regions in found.values() for region in regions]
    assert not any(one.intersection(other).area for number, one in enumerate(outlines) for other in outlines[:number])
    # What lies across both strips is cut between them, and none of it is lost within the boxes.
    all_regions = [region for regions in found.values() for region in regions]
    lower = [region for region in all_regions if region.outline.bounds[1] > 400 / pixel_px(psi)]
    crossing_px = sum(region.num_pixels for region in lower)
    assert crossing_px * pixel_px(psi) ** 2 == pytest.approx(60 * 600, rel=0.25)


def test_a_sections_picture_shows_the_heatmap_of_its_own_tissue_alone(strips: Strips) -> None:
    for number, name in enumerate(strips.boxes, start=1):
        box = strips.boxes[name]
        sides = dict(zip(("x", "y", "width", "height"), box, strict=True))
        verdict = {"section_id": name, "psi": "psi_4", "t_p": CHOICE.t_p, "tissue_um2": 0.0}
        verdict |= {f"{side}_level0_px": length for side, length in sides.items()}
        size = {"width_px": 2 * SIZE_PX[0], "height_px": 2 * SIZE_PX[1]}
        crop, heat, _ = read_section(strips.record, output_of(strips, "psi_4"), verdict, **size)
        assert crop.downsample == pytest.approx(1)
        shown = np.kron(strips.is_strip, np.ones((DOWNSAMPLE, DOWNSAMPLE), dtype=int))[box.slices()]
        assert heat.probability[shown == number].max() > 0.7
        # The mask's pixels are 8 um wide, and a strip's edge need not lie on theirs.
        other = heat.probability[shown == 3 - number]
        assert other.size
        assert (other > 0).mean() < 2 * MPP_LEVEL0 / 8
