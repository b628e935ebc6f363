"""Annotations in another unit, at another scale or from another corner are refused, with what would fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from annotated_slides import blank_slide, feature, polygon, scanned, square
from numpy.typing import NDArray

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations import Annotation, OffTissueError, read_annotations
from bccdist.slides.annotations.placement import LEAST_SHARE_ON_TISSUE
from bccdist.slides.annotations.samples import Samples
from bccdist.slides.frames import Frame
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import DEFAULT_KINDS, Kinds
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP

MPP = 0.5
WIDTH, HEIGHT = 8000, 6000
"""Of the slide in level-0 px."""
SECTION = Box(4000, 3200, 2400, 1600)
"""Its only tissue."""
NESTS = (Box(4600, 3600, 400, 300), Box(5400, 4000, 240, 400))
BOUNDS = scanned(Box(1500, 1200, 6000, 4500))
Position = Callable[[float, float], tuple[float, float]]


def slide_of(properties: dict[str, str] | None = None) -> Slide:
    return blank_slide(width_px=4000, height_px=3000, downsample=2.0, mpp_level0=MPP, properties=properties)


def tissue_of(box: Box = SECTION) -> NDArray[np.bool_]:
    factor = MPP / TISSUE_MPP
    tissue = np.zeros((round(HEIGHT * factor), round(WIDTH * factor)), dtype=bool)
    tissue[box.scaled(factor).slices()] = True
    return tissue


def ring(box: Box, position: Position) -> list[list[float]]:
    corners = [(box.x, box.y), (box.x_end, box.y), (box.x_end, box.y_end), (box.x, box.y_end), (box.x, box.y)]
    return [list(position(*corner)) for corner in corners]


def write(path: Path, *boxes: Box, position: Position = lambda x, y: (x, y), name: str = "Tumornest") -> Path:
    features = [feature(polygon(ring(box, position)), name) for box in boxes]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def read(path: Path, slide: Slide | None = None, kinds: Kinds = DEFAULT_KINDS) -> Annotation:
    return read_annotations([path], slide or slide_of(), kinds, tissue=tissue_of())


class Misplaced(NamedTuple):
    """How positions were written, and what the refusal offers."""

    position: Position
    advice: str


MISPLACED = {
    "fractions": Misplaced(lambda x, y: (x / WIDTH, y / HEIGHT), "as fractions of the slide's width and height"),
    "fractions of the width": Misplaced(lambda x, y: (x / WIDTH, y / WIDTH), "as fractions of the slide's width"),
    "per cent": Misplaced(lambda x, y: (100 * x / WIDTH, 100 * y / HEIGHT), "as per cent of the slide's width"),
    "millimetres": Misplaced(lambda x, y: (x * MPP / 1000, y * MPP / 1000), "as millimetres"),
    "micrometres": Misplaced(lambda x, y: (x * MPP, y * MPP), "as micrometres or if multiplied by 2"),
    "nanometres": Misplaced(lambda x, y: (x * MPP * 1000, y * MPP * 1000), "as nanometres"),
    "a level of downsample 4": Misplaced(lambda x, y: (x / 4, y / 4), "if multiplied by 4"),
    "a level of downsample 16": Misplaced(lambda x, y: (x / 16, y / 16), "if multiplied by 16"),
    "a finer scan": Misplaced(lambda x, y: (2 * x, 2 * y), "if multiplied by 0.5"),
    "upside down": Misplaced(lambda x, y: (x, HEIGHT - y), "turned upside down"),
    "another slide's": Misplaced(lambda x, y: (x - 3000, y), "level-0 px"),
}


@pytest.mark.parametrize("case", MISPLACED.values(), ids=MISPLACED.keys())
def test_positions_that_are_no_level_0_px_are_refused_with_what_would_fit(tmp_path: Path, case: Misplaced) -> None:
    path = write(tmp_path / "a.geojson", *NESTS, position=case.position)
    with pytest.raises(AnnotationError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert case.advice in str(error.value)


@pytest.mark.parametrize("name", ["Tumornest", "Stroma"])
@pytest.mark.parametrize("scale", [1 / WIDTH, 1e-3, 1e-4])
def test_a_file_that_marks_no_pixel_is_refused_without_a_tissue_mask_too(
    tmp_path: Path, name: str, scale: float
) -> None:
    path = write(tmp_path / "a.geojson", *NESTS, position=lambda x, y: (x * scale, y * scale), name=name)
    with pytest.raises(AnnotationError, match=rf"2 polygon\(s\) over .* level-0 px of {name} mark no pixel of 1 um"):
        read_annotations([path], slide_of(), DEFAULT_KINDS)


def test_a_kind_without_a_pixel_is_refused_beside_one_that_has_some(tmp_path: Path) -> None:
    features = [
        feature(polygon(ring(NESTS[0], lambda x, y: (x, y))), "Stroma"),
        feature(polygon(square(4600, 3600, 0.5))),
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(features))
    with pytest.raises(AnnotationError, match="of Tumornest mark no pixel"):
        read(path)


def test_a_speck_beside_a_nest_is_counted_and_no_error(tmp_path: Path) -> None:
    annotation = read(write(tmp_path / "a.geojson", NESTS[0], Box(5400, 4000, 0, 0)._replace(width=1, height=1)))
    assert annotation.num_polygons[Kind.TUMORNEST] == 2
    assert annotation.num_unmarked_polygons in (0, 1)
    features = [feature(polygon(square(4600, 3600, 300))), feature(polygon(square(5400.1, 4000.1, 0.8)))]
    path = tmp_path / "b.geojson"
    path.write_text(json.dumps(features))
    assert read(path).num_unmarked_polygons == 1


def test_a_tiny_nest_on_tissue_is_read(tmp_path: Path) -> None:
    annotation = read(write(tmp_path / "a.geojson", Box(5000, 4000, 6, 4)))
    assert annotation.masks(Box(2490, 1990, 20, 20))[Kind.TUMORNEST].sum() == 6


@pytest.mark.parametrize(
    "content", [{"type": "FeatureCollection", "features": []}, [feature(polygon(square(1, 1, 9)), "Stroma")]]
)
def test_a_file_that_draws_nothing_of_a_kind_is_no_error(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(content))
    names = {"Stroma": None}
    assert not any(read(path, kinds=Kinds(names=names, mask_values={})).num_polygons.values())


@pytest.mark.parametrize(("x", "is_refused"), [(3900, False), (3700, False), (3560, True), (1000, True)])
def test_what_lies_on_glass_for_more_than_the_stated_share_is_refused(
    tmp_path: Path, x: int, is_refused: bool
) -> None:
    path = write(tmp_path / "a.geojson", Box(x, 3600, 800, 400), name="Normal")
    share = max(0, x + 800 - SECTION.x) / 800
    assert (share < LEAST_SHARE_ON_TISSUE) == is_refused
    if not is_refused:
        annotation = read(path)
        assert Samples.of(annotation, slide_of()).share_on(tissue_of(), slide_of()) == pytest.approx(share, abs=0.03)
        return
    with pytest.raises(OffTissueError, match="% of the annotated area lies on tissue, expected at least 50%") as error:
        read(path)
    assert error.value.share == pytest.approx(share, abs=0.03)


def test_tumornest_on_glass_is_refused_however_much_stroma_lies_on_tissue(tmp_path: Path) -> None:
    features = [
        feature(polygon(ring(SECTION, lambda x, y: (x, y))), "Stroma"),
        feature(polygon(square(100, 100, 300))),
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(features))
    with pytest.raises(OffTissueError, match="only 0% of Tumornest lies on tissue"):
        read(path)


def test_a_small_file_on_glass_is_not_hidden_by_a_large_one_on_tissue(tmp_path: Path) -> None:
    good = write(tmp_path / "good.geojson", SECTION, name="Stroma")
    bad = write(tmp_path / "bad.geojson", Box(100, 100, 50, 50), name="Normal")
    with pytest.raises(OffTissueError, match=r"bad\.geojson: only 0%"):
        read_annotations([good, bad], slide_of(), DEFAULT_KINDS, tissue=tissue_of())


def test_a_mask_image_on_glass_is_refused(tmp_path: Path) -> None:
    values = np.zeros((HEIGHT // 4, WIDTH // 4), dtype=np.uint8)
    values[:100, :100] = 1
    cv2.imwrite(str(tmp_path / "a.png"), values)
    with pytest.raises(OffTissueError, match="only 0% of the annotated area"):
        read(tmp_path / "a.png")


def test_a_thin_line_across_the_slide_is_held_against_the_tissue(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps([feature(polygon([[0, 0], [WIDTH, 0.7], [WIDTH, 1.4], [0, 0]]), "Normal")]))
    with pytest.raises(OffTissueError, match="only 0%"):
        read(path)


def test_a_speck_in_a_mask_image_is_held_against_the_tissue_too(tmp_path: Path) -> None:
    for x, is_on_tissue in ((2600, True), (200, False)):
        values = np.zeros((HEIGHT // 2, WIDTH // 2), dtype=np.uint8)
        values[2000:2002, x : x + 2] = 1
        cv2.imwrite(str(tmp_path / "a.png"), values)
        if is_on_tissue:
            assert read(tmp_path / "a.png").masks(Box(x - 5, 1995, 20, 20))[Kind.TUMORNEST].sum() == 4
        else:
            with pytest.raises(OffTissueError, match="only 0%"):
                read(tmp_path / "a.png")


def from_corner(x: float, y: float) -> tuple[float, float]:
    return x - 1500, y - 1200


def test_a_drawing_that_fits_tissue_from_the_other_corner_alone_has_to_say_its_frame(tmp_path: Path) -> None:
    slide = slide_of(BOUNDS)
    right = write(tmp_path / "right.geojson", *NESTS, position=from_corner)
    assert len(read(right, slide).notes) == 1
    wrong = write(tmp_path / "wrong.geojson", *NESTS)
    with pytest.raises(
        AnnotationError, match=r"100% would if it were moved by \(-1500, -1200\).*geojson = 'qupath' or"
    ):
        read(wrong, slide)
    said = Kinds(names=DEFAULT_KINDS.names, mask_values={}, frames={"geojson": Frame.LEVEL0})
    assert not read(wrong, slide, said).notes
    with pytest.raises(OffTissueError, match=r"it would fit if \(1500, 1200\) were added"):
        read(right, slide, said)


def test_a_mask_of_the_scanned_area_that_has_the_canvas_shape_is_found_by_the_tissue(tmp_path: Path) -> None:
    slide, nest = slide_of(BOUNDS), Box(4050, 3250, 300, 200)
    canvas = np.zeros((HEIGHT // 2, WIDTH // 2), dtype=np.uint8)
    canvas[nest.scaled(0.5).slices()] = 1
    cv2.imwrite(str(tmp_path / "canvas.png"), canvas)
    (note,) = read(tmp_path / "canvas.png", slide).notes
    assert note == "canvas.png is taken to cover the whole of level 0, and not the scanned area alone"
    cv2.imwrite(str(tmp_path / "area.png"), canvas[600:2850, 750:3750])
    with pytest.raises(AnnotationError, match=r"100% if it covers the scanned area \(1500, 1200, 6000, 4500\) alone"):
        read(tmp_path / "area.png", slide)
    assert not read(tmp_path / "canvas.png").notes


PIECES = (
    Box(300, 400, 2600, 1800),
    Box(3400, 300, 3600, 1500),
    Box(900, 2700, 4200, 1700),
    Box(5600, 2300, 1900, 3400),
)
"""Tissue that looks otherwise from each side, on so much of the slide that half of any drawing lies on some."""
NESTS_OF_PIECES = tuple(
    Box(piece.x + x, piece.y + y, 240, 200)
    for piece in PIECES
    for x, y in ((60, 80), (piece.width - 330, 90), (piece.width // 2, piece.height // 2), (90, piece.height - 280))
)
SIDES: dict[str, Position] = {
    "mirrored left to right": lambda x, y: (WIDTH - x, y),
    "turned upside down": lambda x, y: (x, HEIGHT - y),
    "turned by 180 degrees": lambda x, y: (WIDTH - x, HEIGHT - y),
    "with x and y swapped": lambda x, y: (y, x),
    "turned to the right": lambda x, y: (y, WIDTH - x),
}
"""Positions as something else wrote them, by what brings them back."""


def tissue_of_pieces() -> NDArray[np.bool_]:
    return np.logical_or.reduce([tissue_of(piece) for piece in PIECES])


@pytest.mark.parametrize("name", ["Tumornest", "Stroma"])
@pytest.mark.parametrize(("side", "position"), SIDES.items(), ids=SIDES)
def test_a_drawing_that_lies_clearly_better_from_another_side_is_refused(
    tmp_path: Path, side: str, position: Position, name: str
) -> None:
    slide, tissue = slide_of(), tissue_of_pieces()
    nests = [nest for nest in NESTS_OF_PIECES if 240 <= position(nest.x, nest.y)[1] <= HEIGHT - 240]
    right = read_annotations([write(tmp_path / "a.geojson", *nests)], slide, DEFAULT_KINDS, tissue=tissue)
    assert Samples.of(right, slide).share_on(tissue, slide) == pytest.approx(1, abs=0.01)
    wrong = write(tmp_path / "b.geojson", *nests, position=position, name=name)
    with pytest.raises(OffTissueError, match=side):
        read_annotations([wrong], slide, DEFAULT_KINDS, tissue=tissue)


@pytest.mark.parametrize(
    ("side", "turn"),
    {
        "mirrored left to right": lambda values: values[:, ::-1],
        "turned upside down": lambda values: values[::-1],
        "turned by 180 degrees": lambda values: values[::-1, ::-1],
    }.items(),
)
def test_a_mirrored_or_turned_mask_image_is_refused_though_most_of_it_lies_on_tissue(
    tmp_path: Path, side: str, turn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> None:
    slide, tissue = slide_of(), tissue_of_pieces()
    values = np.zeros((HEIGHT // 8, WIDTH // 8), dtype=np.uint8)
    for value, boxes in ((2, PIECES), (1, NESTS_OF_PIECES)):
        for box in boxes:
            values[box.scaled(1 / 8).slices()] = value
    cv2.imwrite(str(tmp_path / "right.png"), values)
    assert not read_annotations([tmp_path / "right.png"], slide, DEFAULT_KINDS, tissue=tissue).notes
    cv2.imwrite(str(tmp_path / "wrong.png"), np.ascontiguousarray(turn(values)))
    with pytest.raises(OffTissueError, match=rf"% of .* lies on tissue.* {side}") as error:
        read_annotations([tmp_path / "wrong.png"], slide, DEFAULT_KINDS, tissue=tissue)
    assert error.value.share > 0.4


@pytest.mark.parametrize("over_px", [0, 40, 160])
def test_generous_outlines_are_no_mirrored_ones(tmp_path: Path, over_px: int) -> None:
    """Their parts on glass would lie on tissue elsewhere, as a small drawing does in many places."""
    slide, tissue = slide_of(), tissue_of_pieces()
    for number, piece in enumerate(PIECES):
        nests = [Box(piece.x - over_px, piece.y + 300, 400, 300), Box(piece.x + 500, piece.y_end - 200, 300, 200)]
        path = write(tmp_path / f"{number}.geojson", *nests, Box(piece.x - over_px, piece.y + 900, 400, 300))
        assert read_annotations([path], slide, DEFAULT_KINDS, tissue=tissue).num_polygons[Kind.TUMORNEST] == 3
