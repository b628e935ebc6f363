"""What an audit finds, and why: a patch, an outline or a predicted region that contradicts its annotation."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import shapely

from bccdist.parts import Kind


class Unit(StrEnum):
    """What a finding is about."""

    OUTLINE = "outline"
    """What somebody drew."""
    REGION = "region"
    """What is predicted where nobody drew."""
    PATCH = "patch"
    """A patch of the shard set."""


class Reason(StrEnum):
    """Why an annotation may be wrong."""

    LEFT_OUT = "nest left out"
    MOVED = "outline moved"
    SWAPPED = "kind swapped"
    IN_PART = "in part"
    AGREES = "agrees"
    NOT_READ = "not compared"
    """No patch lies there, or it is smaller than a pixel of the map."""


class Outline(NamedTuple):
    """One drawn outline."""

    kind: Kind
    polygon: shapely.Polygon
    """In level-0 px."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An outline or a region, and how far it contradicts."""

    unit: Unit
    number: int
    """Of the outline or region on its slide, from 0."""
    kind: Kind | None
    """As it is annotated; None where nothing is."""
    geometry: shapely.Geometry
    """In level-0 px."""
    reason: Reason
    text: str
    """The reason in a sentence."""
    score: float
    """NaN where nothing could be compared."""
    area_um2: float
    mean_probability: float
    """Of tumor, inside; NaN where nothing was read."""
    proposed_kind: Kind | None = None
    """What a correction would make of it; None where none is proposed."""
    proposed: shapely.Geometry | None = None
    """Its shape then, in level-0 px."""


class Shown(NamedTuple):
    """What a patch shows of the finding that weighs most in it."""

    finding: Finding
    share: float
    """Of the finding that lies in the patch, 0 to 1."""

    @property
    def score(self) -> float:
        """The finding's, as far as it lies in the patch."""
        return self.finding.score * self.share
