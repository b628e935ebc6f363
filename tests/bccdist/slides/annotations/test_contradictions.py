"""One area under two kinds is named: the same polygon twice is refused, one kind within another is measured."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated_slides import HEIGHT_PX, KINDS, WIDTH_PX, blank_slide, feature, polygon, square

from bccdist.errors import AnnotationError
from bccdist.slides.annotations import read_annotations
from bccdist.slides.annotations.contradictions import contradiction

SLIDE = blank_slide()
NEST = square(10, 10, 50)


def write(path: Path, *drawn: tuple[list[list[float]], str]) -> Path:
    path.write_text(json.dumps([feature(polygon(ring), name) for ring, name in drawn]))
    return path


@pytest.mark.parametrize("other", ["Normal", "Stroma"])
@pytest.mark.parametrize("again", [NEST, NEST[::-1], square(11, 10, 50)], ids=["equal", "backwards", "nearly equal"])
@pytest.mark.parametrize("num_files", [1, 2])
def test_the_same_polygon_under_two_kinds_is_refused(
    tmp_path: Path, other: str, again: list[list[float]], num_files: int
) -> None:
    pairs = [(NEST, "Tumornest"), (again, other), (square(70, 30, 40), "Normal")]
    paths = [write(tmp_path / f"{number}.geojson", *pairs[number::num_files]) for number in range(num_files)]
    with pytest.raises(
        AnnotationError, match=rf"1 polygon\(s\) are drawn as Tumornest and again as {other}, the first"
    ):
        read_annotations(paths, SLIDE, KINDS)


@pytest.mark.parametrize(
    ("ring", "num_polygons", "share"),
    [
        (square(20, 20, 20), 1, 1.0),
        ([*square(10, 10, 80)[:2], [90, 80], [10, 80], [10, 10]], 1, 0.45),
        (square(50, 10, 40), 0, 0.25),
        (square(58, 10, 40), 0, 0.05),
        (square(60, 10, 40), 0, 0.0),
    ],
    ids=["within", "around", "across", "over the border", "beside"],
)
def test_normal_that_is_tumor_too_is_measured(
    tmp_path: Path, ring: list[list[float]], num_polygons: int, share: float
) -> None:
    path = write(tmp_path / "a.geojson", (NEST, "Tumornest"), (ring, "Normal"))
    found = contradiction(read_annotations([path], SLIDE, KINDS), SLIDE)
    assert found.num_polygons == num_polygons
    assert found.share == pytest.approx(share, abs=0.03)
    assert found.is_large == (share > 0.1)


def test_normal_in_a_mask_image_is_held_against_tumor_that_is_drawn_and_painted(tmp_path: Path) -> None:
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    values[5:30, 5:30] = 3
    drawn, painted, nest = write(tmp_path / "a.geojson", (NEST, "Tumornest")), tmp_path / "n.png", tmp_path / "t.png"
    cv2.imwrite(str(painted), values)
    cv2.imwrite(str(nest), values // 3)
    for other in (drawn, nest):
        found = contradiction(read_annotations([other, painted], SLIDE, KINDS), SLIDE)
        assert found.share == pytest.approx(1.0)
        assert found.is_large


def test_stroma_around_a_nest_and_kinds_apart_are_no_contradiction(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.geojson", (NEST, "Tumornest"), (square(2, 2, 70), "Stroma"), (square(80, 20, 30), "Normal")
    )
    assert not contradiction(read_annotations([path], SLIDE, KINDS), SLIDE).is_large
