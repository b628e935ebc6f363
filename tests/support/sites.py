"""Ledger rows of made-up laboratories: slides that scatter, sections that resemble each other within one, shifts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

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
                        "features": (features + (1.0 if is_tumor else 0.0) + 0.3 * random.normal(size=NUM_FEATURES)),
                    }
                )
        table = pa.Table.from_pylist([{**row, "features": row["features"].tolist()} for row in rows])
        place = table.schema.get_field_index("largest_region_px")
        return table.set_column(place, "largest_region_px", table["largest_region_px"].cast(pa.list_(pa.uint32())))

    def sections(self, seed: int, *, name: str = "slide") -> MeasuredSections:
        """The same, measured."""
        return MeasuredSections.of(self.table(seed, name=name), CHOICE)


def region_curve(top_step: int, num_px: float) -> list[int]:
    """The curve of a region that shrinks up to its highest step."""
    steps = np.arange(256)
    shares = np.sqrt(np.clip(1 - steps / (top_step + 1), 0, 1))
    return [int(value) for value in np.round(num_px * shares)]


REFERENCE = Site(num_slides=60)
"""What a model was chosen on."""
