"""A finding as a picture: the tissue, and over it what is annotated, predicted and proposed."""

from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.audit.findings import Unit
from bccdist.audit.probability_map import ProbabilityMap
from bccdist.parts import Kind
from bccdist.slides.geometry import Box

LONGEST_PX = 560
"""Longer side of a crop."""
LEAST_UM = 300.0
"""Shortest side of what a crop shows."""
KIND_COLOURS = {Kind.TUMORNEST: (230, 97, 0), Kind.STROMA: (254, 225, 53), Kind.NORMAL: (0, 114, 178)}
"""Told apart by the colour-blind, too; RGB."""
PREDICTED, PROPOSED = (0, 224, 224), (255, 255, 255)


def crop_box(row: Mapping[str, Any], *, mpp_level0: float, size_level0_px: tuple[int, int]) -> Box:
    """What a row's crop shows, in level-0 px: the finding with as much around it, cut to the slide."""
    left, top, width, height = (row[f"{side}_level0_px"] for side in ("x", "y", "width", "height"))
    if row["proposed_geometry"] is not None:
        x, y, x_end, y_end = shapely.from_wkb(row["proposed_geometry"]).bounds
        right, bottom = max(left + width, x_end), max(top + height, y_end)
        left, top = min(left, x), min(top, y)
        width, height = right - left, bottom - top
    side = max(2 * max(width, height), LEAST_UM / mpp_level0)
    x, y = left + width / 2 - side / 2, top + height / 2 - side / 2
    return Box(round(x), round(y), round(side), round(side)).intersection(Box(0, 0, *size_level0_px))


def step_of(box_level0_px: Box) -> int:
    """Level-0 pixels per pixel of a crop."""
    return max(1, -(-max(box_level0_px.width, box_level0_px.height) // LONGEST_PX))


def marked(
    tissue: NDArray[np.uint8],
    box_level0_px: Box,
    step: int,
    *,
    row: Mapping[str, Any],
    others: Iterable[Mapping[str, Any]],
    found: ProbabilityMap,
) -> NDArray[np.uint8]:
    """A crop, RGB [h, w, 3], with outlines in the colours of their kinds, the finding's own thick.

    The prediction's border (p = 0.5) is turquoise, what is proposed white and thin.
    """
    picture = tissue.copy()
    scale = np.array([1 / step, 1 / step])
    corner = np.array([box_level0_px.x, box_level0_px.y])

    def draw(wkb: bytes, colour: tuple[int, int, int], thickness: int) -> None:
        for ring in _rings(shapely.from_wkb(wkb)):
            points = np.rint((ring - corner) * scale).astype(np.int32)
            cv2.polylines(picture, [points], isClosed=True, color=colour, thickness=thickness, lineType=cv2.LINE_AA)

    window = shapely.box(box_level0_px.x, box_level0_px.y, box_level0_px.x_end, box_level0_px.y_end)
    for each in others:
        if each["unit"] == Unit.OUTLINE and shapely.from_wkb(each["geometry"]).intersects(window):
            draw(each["geometry"], KIND_COLOURS[Kind(each["kind"])], 4 if each["id"] == row["id"] else 1)
    # Over the outlines: where both run together, a thick outline would hide what is predicted.
    for contour in _predicted(found, box_level0_px, step):
        cv2.drawContours(picture, [contour], -1, PREDICTED, 2, cv2.LINE_AA)
    if row["proposed_geometry"] is not None and row["proposed_geometry"] != row["geometry"]:
        draw(row["proposed_geometry"], PROPOSED, 1)
    return picture


def _rings(geometry: shapely.Geometry) -> Iterable[NDArray[np.float64]]:
    for polygon in getattr(geometry, "geoms", [geometry]):
        yield from (shapely.get_coordinates(ring) for ring in (polygon.exterior, *polygon.interiors))


def _predicted(found: ProbabilityMap, box_level0_px: Box, step: int) -> list[NDArray[np.int32]]:
    """The borders of predicted tumor, in pixels of the crop."""
    part = box_level0_px.scaled(1 / found.downsample).intersection(Box(0, 0, *found.probability.shape[::-1]))
    if not part.area:
        return []
    width, height = (max(1, round(side * found.downsample / step)) for side in (part.width, part.height))
    fine = cv2.resize(found.probability[part.slices()], (width, height), interpolation=cv2.INTER_LINEAR)
    x = round((part.x * found.downsample - box_level0_px.x) / step)
    y = round((part.y * found.downsample - box_level0_px.y) / step)
    contours, _ = cv2.findContours((fine > 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(x, y))
    return [np.asarray(contour, dtype=np.int32) for contour in contours]


def as_png(picture: NDArray[np.uint8]) -> bytes:
    """An RGB picture as PNG."""
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
