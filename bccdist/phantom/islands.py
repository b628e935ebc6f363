"""Islands in the dermis: tumor nests, and follicles that look alike in colour and differ in structure.

A nest is densely packed round nuclei in no order, a palisade of nuclei at right angles to its border, pale gaps
anywhere and a cleft around it. A follicle is rings of nuclei along its border round a pale lumen, in a thin membrane.
Both draw their mean stain densities, sizes and pale shares from the same distributions.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from bccdist.phantom.outlines import Float, Outline, Window, draw_island_outline
from bccdist.phantom.textures import Nuclei, draw_nuclei, joined, scatter, smooth_noise, stamp

NUCLEUS_DENSITY = 0.95
NUCLEUS_SPACING_PX = 9.0
RING_NUCLEUS_SPACING_PX = 8.4
PALISADE_DEPTH_PX = 6.0
PALISADE_SPACING_PX = 5.6
FIRST_RING_PX = 4.4
RING_PERIOD_PX = 10.5
CLEFT_PX = 3.0
CLEFT_EOSIN = 0.20
MEMBRANE_PX = 1.8
SURROUND_PX = 9


class IslandKind(IntEnum):
    """What an island is; the value is its grey in the truth mask."""

    FOLLICLE = 1
    NEST = 2


@dataclass(frozen=True, kw_only=True)
class Island:
    """One island: its kind and its border in the section's pixels."""

    kind: IslandKind
    outline: Outline


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """A section in the making: stain densities and truth, all [h, w]; painters change them in place."""

    hematoxylin: Float
    eosin: Float
    truth: NDArray[np.uint8]

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.truth.shape[1], self.truth.shape[0]


def draw_island(rng: np.random.Generator, kind: IslandKind, *, radius_px: float) -> Island:
    """An island of the given mean radius around (0, 0); nests are a little more lobed."""
    roughness = 0.16 if kind is IslandKind.NEST else 0.11
    return Island(kind=kind, outline=draw_island_outline(rng, radius_px=radius_px, roughness=roughness))


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of one colour: the share [h, w] of each pixel that it covers, and its stain densities."""

    share: Float
    hematoxylin: float
    eosin: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What goes where around one island, all [h, w] of its window except the nuclei."""

    depth_px: Float
    cytoplasm: Float
    pale: Float
    surround: tuple[Layer, ...]
    nuclei: Nuclei


def paint_island(rng: np.random.Generator, canvas: Canvas, island: Island) -> None:
    """Paint one island and its thin surround, and mark it in the truth."""
    window = island.outline.window(SURROUND_PX, size_px=canvas.size_px)
    plan_island = _plan_nest if island.kind is IslandKind.NEST else _plan_follicle
    plan = plan_island(rng, island.outline, window, pale_share=rng.uniform(0.05, 0.10))
    for layer in plan.surround:
        _blend(canvas, window, layer)
    _fill(rng, canvas, window, plan)
    canvas.truth[window.slices][plan.depth_px > 0] = island.kind


def _plan_nest(rng: np.random.Generator, outline: Outline, window: Window, *, pale_share: float) -> Plan:
    """Crowded nuclei, a palisade, pale gaps anywhere, a cleft of uneven width."""
    depth_px = outline.depth_px(window)
    cleft_px = _cleft_width_px(rng, outline, window)
    return Plan(
        depth_px=depth_px,
        cytoplasm=np.ones_like(depth_px),
        pale=_gaps(rng, outline, window, pale_share=pale_share),
        surround=(_cleft(depth_px + cleft_px),),
        nuclei=_nest_nuclei(rng, outline),
    )


def _plan_follicle(rng: np.random.Generator, outline: Outline, window: Window, *, pale_share: float) -> Plan:
    """Rings of nuclei with paler lamellae between them, a lumen in the centre, a thin membrane."""
    depth_px = outline.depth_px(window)
    lumen = outline.scaled(float(np.sqrt(pale_share)))
    cleft_px = _cleft_width_px(rng, outline, window)
    ring_phase = 2 * np.pi * (_ring_depth_px(outline, window) - FIRST_RING_PX) / RING_PERIOD_PX
    return Plan(
        depth_px=depth_px,
        cytoplasm=1 + np.float32(0.5) * np.cos(ring_phase).astype(np.float32),
        pale=_soft(lumen.depth_px(window)),
        surround=(
            _cleft(depth_px + (MEMBRANE_PX + cleft_px)),
            Layer(share=_soft(depth_px + MEMBRANE_PX), hematoxylin=0.08, eosin=0.52),
        ),
        nuclei=_ring_nuclei(rng, outline, lumen_radius_px=lumen.mean_radius_px),
    )


def _cleft_width_px(rng: np.random.Generator, outline: Outline, window: Window) -> Float:
    """Width of the pale gap around an island, [h, w]: wide on one side, nearly closed on the other."""
    ray = outline.polar(window)[1]
    widening = np.cos(ray - np.float32(rng.uniform(0, 2 * np.pi)))
    width_px: Float = np.float32(CLEFT_PX) * (1 + np.float32(0.8) * widening)
    return width_px


def _cleft(depth_px: Float) -> Layer:
    return Layer(share=_soft(depth_px), hematoxylin=0.04, eosin=CLEFT_EOSIN)


def _soft(depth_px: Float) -> Float:
    """Share of each pixel that is inside: 0 to 1 over one pixel round depth 0."""
    return (depth_px + np.float32(0.5)).clip(0, 1)


def _ring_depth_px(outline: Outline, window: Window) -> Float:
    """Depth measured along the ray but in units of the mean radius, so that rings are scaled copies of the border."""
    radius_px, angle = outline.polar(window)
    return (1 - radius_px / outline.radius_at(angle)) * np.float32(outline.mean_radius_px)


def _gaps(rng: np.random.Generator, outline: Outline, window: Window, *, pale_share: float) -> Float:
    """One to three pale gaps anywhere inside that together take the share of the island's area."""
    num_gaps = int(rng.integers(1, 4))
    radius_px = outline.mean_radius_px * np.sqrt(pale_share / num_gaps)
    first_angle = rng.uniform(0, 2 * np.pi)
    pale = np.zeros((window.height_px, window.width_px), np.float32)
    for gap in range(num_gaps):
        angle = first_angle + gap * 2 * np.pi / num_gaps
        away_px = outline.mean_radius_px * rng.uniform(0.1, 0.55)
        shape = draw_island_outline(rng, radius_px=radius_px, roughness=0.3)
        placed = shape.moved(*outline.center_px).moved(away_px * np.cos(angle), away_px * np.sin(angle))
        pale = np.maximum(pale, _soft(placed.depth_px(window)))
    return pale


def _nest_nuclei(rng: np.random.Generator, outline: Outline) -> Nuclei:
    """The palisade at right angles to the border, and round nuclei in no order inside it."""
    rim, tangent = outline.grown(-PALISADE_DEPTH_PX).steps_along(PALISADE_SPACING_PX)
    palisade = draw_nuclei(rng, rim, half_axes_px=(4.8, 2.0), angle=tangent + np.pi / 2)
    reach_px = outline.reach_px
    anywhere = scatter(
        rng, width_px=2 * reach_px, height_px=2 * reach_px, spacing_px=NUCLEUS_SPACING_PX, jitter_px=1.0
    )
    offset = anywhere - reach_px
    angle = np.arctan2(offset[:, 1], offset[:, 0]).astype(np.float32)
    is_inner = np.hypot(*offset.T) < outline.radius_at(angle) - 2 * PALISADE_DEPTH_PX - 1
    inner = draw_nuclei(rng, offset[is_inner] + outline.center_px, half_axes_px=(3.7, 3.1))
    return joined([palisade, inner])


def _ring_nuclei(rng: np.random.Generator, outline: Outline, *, lumen_radius_px: float) -> Nuclei:
    """Nuclei in rings that are scaled copies of the border, long axes along the ring, from the border to the lumen."""
    radius_px = outline.mean_radius_px
    depths_px = np.arange(FIRST_RING_PX, radius_px - lumen_radius_px - 2, RING_PERIOD_PX)
    rings = []
    for depth_px in depths_px:
        center_px, tangent = outline.scaled(float(1 - depth_px / radius_px)).steps_along(RING_NUCLEUS_SPACING_PX)
        moved_px = center_px + rng.normal(0, 0.5, center_px.shape)
        rings.append(draw_nuclei(rng, moved_px, half_axes_px=(4.5, 3.6), angle=tangent))
    return joined(rings)


def _blend(canvas: Canvas, window: Window, layer: Layer) -> None:
    for stain, density in ((canvas.hematoxylin, layer.hematoxylin), (canvas.eosin, layer.eosin)):
        stain[window.slices] += layer.share * (np.float32(density) - stain[window.slices])


def _fill(rng: np.random.Generator, canvas: Canvas, window: Window, plan: Plan) -> None:
    """Paint the inside; the mean density of each stain over it comes from one distribution for both kinds."""
    size = {"height_px": window.height_px, "width_px": window.width_px}
    nuclei = stamp(plan.nuclei.moved(-window.left_px, -window.top_px), **size) * (1 - plan.pale)
    cloud = 1 + np.float32(0.15) * smooth_noise(rng, scale_px=6, **size)
    cytoplasm = plan.cytoplasm * cloud * (1 - plan.pale) * (1 - nuclei)
    pale = plan.pale * cloud
    inks = (
        (canvas.hematoxylin, 0.30 * cytoplasm + NUCLEUS_DENSITY * nuclei, rng.normal(0.58, 0.035), 0.06),
        (canvas.eosin, 0.32 * cytoplasm + 0.25 * nuclei, rng.normal(0.25, 0.015), 0.22),
    )
    for stain, ink, mean, pale_density in inks:
        painted = ink * (mean / ink[plan.depth_px > 0].mean()) + pale_density * pale
        stain[window.slices] += _soft(plan.depth_px) * (painted - stain[window.slices])
