"""One phantom section: a blob of dermis under a band of epidermis, with tumor nests and follicles in it.

Everything is painted at downsample 2 ("10x", 0.92 um/px) as densities of haematoxylin and eosin.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.errors import ConfigurationError
from bccdist.parts import Label
from bccdist.phantom.islands import Canvas, Island, IslandKind, draw_island, paint_island
from bccdist.phantom.outlines import Float, Window, draw_section_outline
from bccdist.phantom.textures import Nuclei, draw_nuclei, fibres, joined, scatter, smooth_noise, stamp

OTHER_TISSUE = 3
ISLAND_RADIUS_PX = (26.0, 92.0)
MAX_RADIUS_SHARE = 0.13
MIN_ISLAND_RADIUS_PX = 20.0
NUM_NESTS = (2, 6)
NUM_FOLLICLES = (1, 4)
STROMA_RING_PX = (14.0, 26.0)
CLEARANCE_PX = 32.0
EPIDERMIS_PX = (38.0, 60.0)
CORNEUM_SHARE = 0.22
STROMA_CELL_SPACING_PX = 26.0


@dataclass(frozen=True, kw_only=True)
class PaintedSection:
    """A finished section, its box starting at (0, 0); lengths in 10x pixels."""

    label: Label
    hematoxylin: Float
    eosin: Float
    truth: NDArray[np.uint8]
    islands: tuple[Island, ...]
    stroma_ring_px: float


def paint_section(rng: np.random.Generator, label: Label, *, width_px: int, height_px: int) -> PaintedSection:
    """Paint a section that fills its box; truth is 0 outside it, else an IslandKind or OTHER_TISSUE.

    Raises:
        ConfigurationError: the box is too small to hold the islands.
    """
    window = Window(left_px=0, top_px=0, width_px=width_px, height_px=height_px)
    outline = draw_section_outline(rng, width_px=width_px, height_px=height_px)
    depth_px = outline.depth_px(window)
    epidermis_px = _epidermis_thickness_px(rng, outline.polar(window)[1])
    ring_px = float(rng.uniform(*STROMA_RING_PX))
    islands = _place_islands(rng, label, depth_px - epidermis_px)
    canvas = _paint_dermis(rng, depth_px, islands, ring_px=ring_px)
    _paint_epidermis(rng, canvas, depth_px, epidermis_px)
    for island in islands:
        paint_island(rng, canvas, island)
    is_tissue = depth_px > 0
    return PaintedSection(
        label=label,
        hematoxylin=_finish(canvas.hematoxylin, is_tissue),
        eosin=_finish(canvas.eosin, is_tissue),
        truth=np.where(is_tissue, canvas.truth, 0).astype(np.uint8),
        islands=tuple(islands),
        stroma_ring_px=ring_px,
    )


def _finish(stain: Float, is_tissue: NDArray[np.bool_]) -> Float:
    """The stain as the microscope shows it: cut to the section, very slightly blurred."""
    cut = np.where(is_tissue, stain.clip(min=0), np.float32(0))
    return cv2.GaussianBlur(cut, (0, 0), 0.6).astype(np.float32)


def _place_islands(rng: np.random.Generator, label: Label, room_px: Float) -> list[Island]:
    """Islands of mixed kinds, each with its clearance to the others and to the dermis's border.

    Where they do not fit, all are drawn again a tenth smaller.
    """
    num_nests = int(rng.integers(*NUM_NESTS, endpoint=True)) if label is Label.TUMOR else 0
    num_follicles = int(rng.integers(*NUM_FOLLICLES, endpoint=True))
    unmixed = [IslandKind.NEST] * num_nests + [IslandKind.FOLLICLE] * num_follicles
    kinds = [unmixed[index] for index in rng.permutation(len(unmixed))]
    room_px = _distance_to_border_px(room_px > 0)
    smallest_px, largest_px = ISLAND_RADIUS_PX
    largest_px = min(largest_px, MAX_RADIUS_SHARE * min(room_px.shape))
    while largest_px > MIN_ISLAND_RADIUS_PX:
        radii_px = rng.uniform(min(smallest_px, largest_px / 2), largest_px, len(kinds))
        drawn = [draw_island(rng, kind, radius_px=radius_px) for kind, radius_px in zip(kinds, radii_px, strict=True)]
        placed = _placed(rng, drawn, room_px)
        if len(placed) == len(drawn):
            return placed
        largest_px *= 0.9
    height_px, width_px = room_px.shape
    raise ConfigurationError(
        f"a section of {width_px} x {height_px} px at 10x has no room for its islands; make the slides larger "
        "or put fewer sections on each"
    )


def _placed(rng: np.random.Generator, islands: list[Island], room_px: Float) -> list[Island]:
    """The islands at random places with room for them, in order; it ends at the first that finds none."""
    placed: list[Island] = []
    for island in islands:
        rows, columns = np.nonzero(room_px > island.outline.reach_px + CLEARANCE_PX)
        if not len(rows):
            return placed
        pick = int(rng.integers(len(rows)))
        outline = island.outline.moved(columns[pick] + 0.5, rows[pick] + 0.5)
        placed.append(Island(kind=island.kind, outline=outline))
        room_px = np.minimum(room_px, -outline.depth_px(_whole(room_px)))
    return placed


def _whole(picture: Float) -> Window:
    return Window(left_px=0, top_px=0, width_px=picture.shape[1], height_px=picture.shape[0])


def _distance_to_border_px(is_inside: NDArray[np.bool_]) -> Float:
    padded = np.pad(is_inside, 1).astype(np.uint8)
    return cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1].astype(np.float32)


def _direction(rng: np.random.Generator, islands: list[Island], window: Window) -> Float:
    """Direction of the fibres (radians, [h, w]): slowly turning, and along the border close to an island."""
    size = {"height_px": window.height_px, "width_px": window.width_px}
    angle = rng.uniform(0, np.pi) + np.float32(0.7) * smooth_noise(rng, scale_px=140, **size)
    double_x, double_y = np.cos(2 * angle), np.sin(2 * angle)
    for island in islands:
        radius_px, ray = island.outline.polar(window)
        near = 6 * np.exp(-(((radius_px - island.outline.radius_at(ray)) / 22).clip(min=0) ** 2))
        double_x -= near * np.cos(2 * ray)
        double_y -= near * np.sin(2 * ray)
    direction: Float = (np.arctan2(double_y, double_x) / 2).astype(np.float32)
    return direction


def _paint_dermis(rng: np.random.Generator, depth_px: Float, islands: list[Island], *, ring_px: float) -> Canvas:
    """Pink fibres with sparse long nuclei along them; around nests the fibres are finer and the nuclei closer."""
    window = _whole(depth_px)
    size = {"height_px": window.height_px, "width_px": window.width_px}
    direction = _direction(rng, islands, window)
    ring = _ring_share(islands, window, ring_px=ring_px)
    texture = fibres(rng, direction) * (1 - np.float32(0.4) * ring)
    slow = smooth_noise(rng, scale_px=60, **size)
    eosin = np.float32(0.46) + np.float32(0.11) * texture + np.float32(0.05) * slow - np.float32(0.02) * ring
    nuclei = stamp(_dermis_nuclei(rng, direction, ring), **size)
    hematoxylin = np.float32(0.05) + np.float32(0.05) * ring + np.float32(0.75) * nuclei
    truth = np.where(depth_px > 0, OTHER_TISSUE, 0).astype(np.uint8)
    return Canvas(hematoxylin=hematoxylin, eosin=eosin.clip(min=0.24), truth=truth)


def _ring_share(islands: list[Island], window: Window, *, ring_px: float) -> Float:
    """1 in the tumor's stroma around nests, 0 elsewhere, [h, w]."""
    share = np.zeros((window.height_px, window.width_px), np.float32)
    for island in islands:
        if island.kind is IslandKind.NEST:
            share = np.maximum(share, (island.outline.depth_px(window) + np.float32(ring_px)).clip(0, 4) / 4)
    return share


def _dermis_nuclei(rng: np.random.Generator, direction: Float, ring: Float) -> Nuclei:
    height_px, width_px = direction.shape
    center_px = scatter(
        rng, width_px=width_px, height_px=height_px, spacing_px=STROMA_CELL_SPACING_PX / 2, jitter_px=5
    )
    row, column = _pixel_of(center_px, direction.shape)
    is_kept = rng.random(len(center_px)) < np.where(ring[row, column] > 0, 0.6, 0.25)
    nuclei = draw_nuclei(rng, center_px, half_axes_px=(4.6, 1.5), angle=direction[row, column].astype(np.float64))
    return nuclei.where(is_kept)


def _pixel_of(center_px: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the pixel under each point, kept inside the picture."""
    column, row = center_px.astype(np.int64).T
    return row.clip(0, shape[0] - 1), column.clip(0, shape[1] - 1)


def _epidermis_thickness_px(rng: np.random.Generator, angle: Float) -> Float:
    """Thickness [h, w] by the angle seen from the section's centre: a band on one side with pegs at its lower edge."""
    middle, half_span = rng.uniform(-np.pi, np.pi), rng.uniform(0.7, 1.1)
    off = np.abs(np.mod(angle - middle + np.pi, 2 * np.pi) - np.pi)
    fade = ((half_span - off) / np.float32(0.25)).clip(0, 1)
    pegs = np.sin(np.float32(rng.integers(28, 40)) * angle) * np.sin(np.float32(rng.integers(5, 9)) * angle)
    thickness: Float = fade * (np.float32(rng.uniform(*EPIDERMIS_PX)) + np.float32(9) * pegs)
    return thickness


def _paint_epidermis(rng: np.random.Generator, canvas: Canvas, depth_px: Float, thickness_px: Float) -> None:
    """Layers from the surface down: flaky pink horn, spaced round nuclei, a dark crowded layer at the bottom."""
    is_epidermis = (thickness_px > 8) & (depth_px < thickness_px)
    level = (depth_px / np.maximum(thickness_px, 1)).clip(0, 1)
    is_horn = level < CORNEUM_SHARE
    flakes = np.float32(0.15) * np.sin(depth_px * np.float32(1.6))
    nuclei = stamp(_epidermis_nuclei(rng, level), height_px=depth_px.shape[0], width_px=depth_px.shape[1])
    nuclei[is_horn] = 0
    hematoxylin = np.where(
        is_horn, np.float32(0.08), np.float32(0.18) + np.float32(0.22) * level + np.float32(0.8) * nuclei
    )
    eosin = np.where(is_horn, np.float32(0.62) + flakes, np.float32(0.34))
    canvas.hematoxylin[is_epidermis] = hematoxylin[is_epidermis]
    canvas.eosin[is_epidermis] = eosin[is_epidermis]


def _epidermis_nuclei(rng: np.random.Generator, level: Float) -> Nuclei:
    """Nuclei everywhere in the picture: closer where `level` is near 1, none of them crowded near the surface."""
    height_px, width_px = level.shape
    groups = []
    for spacing_px, low, high in ((12.0, 0.0, 0.72), (8.0, 0.72, 1.0)):
        center_px = scatter(rng, width_px=width_px, height_px=height_px, spacing_px=spacing_px, jitter_px=0.9)
        row, column = _pixel_of(center_px, level.shape)
        nuclei = draw_nuclei(rng, center_px, half_axes_px=(3.6, 3.0))
        is_kept = (level[row, column] > low) & (level[row, column] < high)
        groups.append(nuclei.where(is_kept))
    return joined(groups)
