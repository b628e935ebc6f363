"""Ledger rows of made-up laboratories: slides that scatter, sections that resemble each other within one, shifts."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.site_transfer.sections import QUALITY, MeasuredSections
from bccdist.sections.choices import Choice

CHOICE = Choice(
    setting="resnet34_ds",
    epoch=1,
    psi="psi_4",
    t_p=0.5,
    t_a_um2=5120.0,
    beta=1.5,
    area_unit="physical",
    weights_digest="abcdefabcdef",
)
NUM_FEATURES = 16
_WITHIN = 0.7
"""Scatter of a slide's sections, in that of slides."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A laboratory; shifts are in standard deviations between slides."""

    num_slides: int = 16
    sections_each: float = 3.2
    """On average."""
    prevalence: float = 0.4
    """Of Tumor sections."""
    stain: float = 0.0
    """Moves stain strength, features and, by a third, the scores."""
    blur: float = 0.0
    """Takes focus away and, by a third of it, score."""
    score: float = 0.0
    """Moves scores alone, of Tumor and Normal alike."""
    mixing: float = 0.0
    """Share of Tumor sections that the network does not tell from Normal ones at all."""

    def table(self, seed: int, *, name: str = "slide") -> pa.Table:
        """Its ledger's rows, as far as transfer reads them."""
        random = np.random.default_rng(seed)
        rows: list[dict[str, Any]] = []
        for number in range(self.num_slides):
            of_slide = {each: random.normal() for each in (*QUALITY, "score")}
            share = random.beta(2 * self.prevalence, 2 * (1 - self.prevalence))
            features = random.normal(size=NUM_FEATURES) + 0.5 * self.stain
            for place in range(max(1, random.poisson(self.sections_each))):
                is_tumor = bool(random.random() < share)
                looks_tumor = is_tumor and random.random() >= self.mixing
                quality = {each: of_slide[each] + _WITHIN * random.normal() for each in QUALITY}
                quality["stain_density"] += self.stain
                quality["focus"] -= self.blur
                score = (2.2 if looks_tumor else -2.2) + 0.6 * of_slide["score"] + 0.6 * random.normal()
                score += 0.6 * (self.score - (self.stain + self.blur) / 3)
                top = round(255 / (1 + np.exp(-score)))
                rows.append(
                    {
                        "slide_id": f"{name}-{number:03d}",
                        "section_id": f"{name}-{number:03d}-s{place}",
                        "part": "Test",
                        "is_final": True,
                        "label": "Tumor" if is_tumor else "Normal",
                        "tissue_um2": 1e6,
                        "coverage": 1.0,
                        "mpp": 1.0,
                        "pixel_px": 1,
                        "largest_region_px": region_curve(top, 20_000 * np.exp(0.5 * random.normal())),
                        "max_probability": top / 255,
                        "p99_probability": 0.9 * top / 255,
                        **quality,
                        "features": features + float(is_tumor) + 0.3 * random.normal(size=NUM_FEATURES),
                    }
                )
        lists = {
            "largest_region_px": np.array([row.pop("largest_region_px") for row in rows], dtype=np.uint32),
            "features": np.array([row.pop("features") for row in rows], dtype=np.float32),
        }
        table = pa.Table.from_pylist(rows)
        for each, values in lists.items():
            offsets = np.arange(len(rows) + 1, dtype=np.int32) * values.shape[1]
            table = table.append_column(each, pa.ListArray.from_arrays(offsets, values.ravel()))
        return table

    def sections(self, seed: int) -> MeasuredSections:
        """The same, measured."""
        return _sections_of(self, seed)


@cache
def _sections_of(site: Site, seed: int) -> MeasuredSections:
    return MeasuredSections.of(site.table(seed), CHOICE)


def region_curve(top_step: int, num_px: float) -> NDArray[np.float64]:
    """The curve of a region that shrinks up to its highest step."""
    return np.asarray(np.round(num_px * np.sqrt(np.clip(1 - np.arange(256) / (top_step + 1), 0, 1))))


CHOSEN_ON = Site(num_slides=60)
"""What a model was chosen on."""
