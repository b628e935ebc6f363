"""Annotations of a phantom slide as QuPath writes them: a GeoJSON FeatureCollection in level-0 pixels."""

import uuid
from typing import Any

import numpy as np

from bccdist.parts import Kind
from bccdist.phantom.islands import Island, IslandKind
from bccdist.phantom.outlines import Outline
from bccdist.phantom.painting import PaintedSection

VERTEX_SPACING_PX = 4.0
MIN_VERTICES, MAX_VERTICES = 40, 150
COLORS = {Kind.TUMORNEST: [200, 0, 0], Kind.STROMA: [150, 200, 150], Kind.NORMAL: [0, 160, 60]}

Ring = list[list[float]]


def annotate_section(
    rng: np.random.Generator, section: PaintedSection, *, origin_px: tuple[int, int], downsample: int, share: float
) -> list[dict[str, Any]]:
    """Features of one section: every nest, and only a share of the nests' stroma rings and of the follicles.

    `origin_px` is the section's corner (x, y) on the slide in painted pixels; coordinates come out at level 0.
    """
    features = []
    for island in section.islands:
        is_drawn = rng.random() < share
        border = _ring_of(island.outline, origin_px=origin_px, downsample=downsample)
        if island.kind is IslandKind.NEST:
            features.append(_feature(Kind.TUMORNEST, [border]))
            if is_drawn:
                outer = _ring_of(_stroma_border(section, island), origin_px=origin_px, downsample=downsample)
                features.append(_feature(Kind.STROMA, [outer, border[::-1]]))
        elif is_drawn:
            features.append(_feature(Kind.NORMAL, [border]))
    return features


def collection(slide_id: str, features: list[dict[str, Any]]) -> dict[str, Any]:
    """The features of a slide as one FeatureCollection; ids follow from the slide and the position."""
    named = [
        {"type": "Feature", "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{slide_id}/{position}")), **feature}
        for position, feature in enumerate(features)
    ]
    return {"type": "FeatureCollection", "features": named}


def _stroma_border(section: PaintedSection, nest: Island) -> Outline:
    return nest.outline.grown(section.stroma_ring_px)


def _ring_of(outline: Outline, *, origin_px: tuple[int, int], downsample: int) -> Ring:
    """The outline's vertices as a closed ring of (x, y) at level 0, to a hundredth of a pixel."""
    num_vertices = int(np.clip(outline.length_px / VERTEX_SPACING_PX, MIN_VERTICES, MAX_VERTICES))
    points, _ = outline.steps_along(outline.length_px / num_vertices)
    ring: Ring = np.round((points + origin_px) * downsample, 2).tolist()
    return [*ring, ring[0]]


def _feature(kind: Kind, rings: list[Ring]) -> dict[str, Any]:
    return {
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {"objectType": "annotation", "classification": {"name": kind.value, "color": COLORS[kind]}},
    }
