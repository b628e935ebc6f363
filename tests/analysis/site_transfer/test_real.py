"""Two sites of real pixels: slides as they are do not differ from others of their laboratory, restained ones do."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.site_transfer.sections import MEASURES, QUALITY, MeasuredSections
from analysis.site_transfer.shift import find_shift
from benchmarks.quality import Picture, measure, of_slide, read_picture
from benchmarks.sites import CHOICE
from benchmarks.staining import restained

pytestmark = [pytest.mark.shared_data, pytest.mark.slow]
NUM_CELLS = 6


def sections_of(pictures: list[Picture]) -> MeasuredSections:
    """Each picture as a slide of one section, measured without a network."""
    rows = [of_slide(*measure(picture, num_cells=NUM_CELLS)) for picture in pictures]
    names = [f"slide-{number}" for number in range(len(rows))]
    frame = pd.DataFrame(rows, columns=list(MEASURES)).assign(slide_id=names, section_id=names, label=None)
    num = len(rows)
    return MeasuredSections(
        frame=frame,
        features=None,
        curves=np.zeros((num, 256), dtype=np.uint32),
        steps=np.zeros(num, dtype=np.int64),
        choice=CHOICE,
        is_assessable=np.ones(num, dtype=bool),
    )


def pictures_of(folder: Path, names: str) -> list[Picture]:
    return [read_picture(path, target_mpp=1.0) for path in sorted(folder.glob(names))]


def test_slides_of_the_same_laboratory_are_not_found_to_differ_and_the_same_stained_fainter_are(
    shared_data: Path,
) -> None:
    folder = shared_data / "ebhi-slides"
    reference, slides = sections_of(pictures_of(folder, "val*.tif")), pictures_of(folder, "test-*.tif")
    same = find_shift(reference, sections_of(slides))
    assert set(same.frame["measure"]) <= set(QUALITY)
    assert same.could_find
    assert not same.is_found
    fainter = [restained(each, haematoxylin=0.45, eosin=0.6) for each in slides]
    assert "stain_density" in find_shift(reference, sections_of(fainter)).found
