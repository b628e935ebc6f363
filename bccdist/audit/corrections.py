"""Annotations as they are after somebody went through an audit: what was fixed is changed, all else stands.

A slide's corrected annotation is one GeoJSON file, which takes the place of its files in the manifest.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import shapely
import shapely.geometry

from bccdist.audit.findings import Outline, Reason, Unit
from bccdist.errors import ConfigurationError
from bccdist.parts import Kind
from bccdist.slides.annotations.geojson import ABOUT, ORIGIN
from bccdist.slides.manifest import Kinds


@dataclass(frozen=True, kw_only=True)
class Fix:
    """What becomes of an outline or a region."""

    kind: Kind | None
    """Its kind from now on; None takes an outline away."""


def corrected(rows: Iterable[Mapping[str, Any]], fixes: Mapping[str, Fix]) -> list[Outline]:
    """The outlines of a slide after some fixes.

    Args:
        rows: of the slide, from an audit's table.
        fixes: by the row's id; rows without one stay as they are annotated.

    Raises:
        ConfigurationError: a fix names a row that is no outline or region of the slide.
    """
    places = {row["id"]: row for row in rows if row["unit"] != Unit.PATCH}
    if unknown := sorted(fixes.keys() - places.keys()):
        raise ConfigurationError(f"fixed are {', '.join(unknown)}, which are no outlines or regions of this audit")
    ordered = sorted(places.values(), key=_place_in_file)
    return [outline for row in ordered for outline in _after(row, fixes.get(row["id"]))]


def _place_in_file(row: Mapping[str, Any]) -> tuple[bool, int]:
    """Outlines in the order in which they were drawn, then regions."""
    return row["unit"] == Unit.REGION, int(row["id"].rpartition("-")[2])


def _after(row: Mapping[str, Any], fix: Fix | None) -> Iterator[Outline]:
    if fix is None:
        if row["unit"] == Unit.OUTLINE:
            yield from _outlines(Kind(row["kind"]), row["geometry"])
    elif fix.kind is not None:
        # Only what was moved has another shape; a kind is changed where it lies.
        has_moved = row["reason"] in (Reason.MOVED, Reason.LEFT_OUT) and fix.kind is Kind.TUMORNEST
        yield from _outlines(fix.kind, row["proposed_geometry"] if has_moved else row["geometry"])


def _outlines(kind: Kind, wkb: bytes) -> Iterator[Outline]:
    geometry = shapely.make_valid(shapely.from_wkb(wkb), method="structure", keep_collapsed=False)
    yield from (Outline(kind, piece) for piece in getattr(geometry, "geoms", [geometry]) if piece.area)


def as_geojson(outlines: Iterable[Outline], kinds: Kinds) -> dict[str, Any]:
    """Outlines as a file that the manifest's `annotation` column takes; it says itself where it counts from.

    Raises:
        ConfigurationError: no name means one of the kinds, by the manifest's kinds.toml.
    """
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(outline.polygon),
            "properties": {"objectType": "annotation", "classification": {"name": name_of(outline.kind, kinds)}},
        }
        for outline in outlines
    ]
    return {"type": "FeatureCollection", "features": features, ABOUT: {ORIGIN: [0, 0]}}


def name_of(kind: Kind, kinds: Kinds) -> str:
    """A name that means a kind; its own, where that does.

    Raises:
        ConfigurationError: none does.
    """
    names = [name for name, meant in kinds.names.items() if meant is kind]
    if not names:
        raise ConfigurationError(f"no name in kinds.toml means {kind}: add one to its table [names]")
    return kind.value if kind.value in names else names[0]
