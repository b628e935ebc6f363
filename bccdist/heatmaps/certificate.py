"""What a heatmap holds that was made in a fast way, with the sections that could be other ones computed exactly.

Its verdicts by the final output at one pair of thresholds are those of the exact way, with the confidence that it
names (`bccdist.sections.certificate`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from bccdist.configuration import AreaUnit, Psi
from bccdist.files import digest_of


@dataclass(frozen=True, kw_only=True)
class FastCurve:
    """What the fast way had found of a section that was computed exactly then."""

    box_level0_px: tuple[int, int, int, int]
    """x, y, width and height: with the tissue it names the section, whatever it is called."""
    tissue_um2: float
    largest_region_px: tuple[int, ...]
    """Heatmap pixels in the largest region at each of 256 probability steps, of the output that was looked at."""


@dataclass(frozen=True, kw_only=True)
class HeatmapCertificate:
    """By what the verdicts on the fast part of a heatmap are the exact ones."""

    way: str
    """The fast way, in words."""
    psi: Psi
    """The output of the fast way whose curves were looked at."""
    t_p: float
    t_a_um2: float
    area_unit: AreaUnit
    levels: int
    """d: how far a section's exact curve lies from the fast one at most, in probability steps."""
    confidence: float
    """With which it does so, over slides."""
    num_slides: int
    """How many were calibrated."""
    check_share: float
    """Share of the certified sections that are computed exactly as well."""
    outside: str = ""
    """Why the slide is none of those that the certificate speaks of, and was computed exactly; empty where it is."""
    fast_curves: tuple[FastCurve, ...] = ()

    @property
    def digest(self) -> str:
        """Names what shapes a heatmap beside the fast way itself; what was found on a slide is no part of it."""
        values = asdict(self)
        del values["way"], values["num_slides"], values["outside"], values["fast_curves"]
        return digest_of(values)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The certificate from what JSON made of it."""
        curves = tuple(
            FastCurve(
                box_level0_px=tuple(curve["box_level0_px"]),
                tissue_um2=curve["tissue_um2"],
                largest_region_px=tuple(curve["largest_region_px"]),
            )
            for curve in values["fast_curves"]
        )
        return cls(**{**values, "fast_curves": curves})
