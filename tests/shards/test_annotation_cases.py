"""Annotations on small slides that once were misplaced or lost: what shards are cut from lies where it was drawn."""

import math
from pathlib import Path

import numpy as np
import pytest

from bccdist.configuration import ShardConfig
from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.checkup import Code, Severity, SlideCheckup, check_slide
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import read_manifest
from shards.patches import open_slide, survey_slide

pytestmark = pytest.mark.shared_data
CONFIG = ShardConfig()


def tumornest(folder: Path, slide_id: str) -> tuple[int, tuple[int, int, int, int]]:
    """How many pixels of the target frame are Tumornest, and their box (x, y, x_end, y_end)."""
    manifest = read_manifest(folder / "slides.csv")
    record = manifest.slide(slide_id)
    with open_slide(record, CONFIG) as slide:
        annotation = survey_slide(slide, record, manifest, CONFIG).annotation
        rows, cols = np.nonzero(annotation.masks(Box(0, 0, slide.width_px, slide.height_px))[Kind.TUMORNEST])
    return len(rows), (int(cols.min()), int(rows.min()), int(cols.max()) + 1, int(rows.max()) + 1)


def checkup(folder: Path, slide_id: str) -> SlideCheckup:
    manifest = read_manifest(folder / "slides.csv")
    record, sections = manifest.slide(slide_id), manifest.sections_of(slide_id)
    tolerance = CONFIG.mpp_tolerance
    return check_slide(record, sections, manifest.kinds, target_mpp=CONFIG.target_mpp, mpp_tolerance=tolerance)


@pytest.mark.parametrize(("slide_id", "box"), [("a", (2224, 1218, 2524, 1418)), ("b", (1280, 510, 1580, 710))])
def test_qupaths_drawing_counts_from_the_corner_of_the_scanned_area(
    shared_data: Path, slide_id: str, box: tuple[int, int, int, int]
) -> None:
    folder = shared_data / "cases" / "bounds-offset"
    assert tumornest(folder, slide_id)[1] == box
    notes = [note for note in checkup(folder, slide_id).notes if note.startswith("qupath.geojson")]
    assert len(notes) == 1
    assert "is taken to count from level-0 px" in notes[0]


def test_pixels_of_imagescope_are_read_beside_a_corrected_scale(shared_data: Path) -> None:
    """The XML repeats the scanner's 46 um/px; its outline has 24 corners on an ellipse of 400 x 300 px."""
    num_pixels, box = tumornest(shared_data / "cases" / "imagescope-wrong-mpp", "w")
    assert box == (550, 350, 950, 650)
    assert num_pixels == pytest.approx(12 * math.sin(math.pi / 12) * 400 * 300 / 4, rel=1e-3)


def test_fractions_of_the_slide_are_an_error_and_not_a_slide_without_tumor(shared_data: Path) -> None:
    folder = shared_data / "cases" / "relative-coordinates"
    with pytest.raises(AnnotationError, match=r"mark no pixel .* as fractions of the slide's width and height"):
        tumornest(folder, "relative")
    (finding,) = checkup(folder, "relative").findings
    assert (finding.code, finding.severity) == (Code.BAD_ANNOTATION, Severity.ERROR)
