"""A slide's sections and Tumor regions as GeoJSON, as QuPath opens it (paper, section 2.4).

Coordinates are level-0 px in QuPath's frame (bccdist/slides/frames.py). The collection says which pixel they count
from, so that it may serve as an annotation again.

A section's "flip shift" is the smallest shift of probability that would change its verdict; where none does, it is no
measurement, and the metadata says so.

Margins, the measurements "margin um", are for research use only: distances to the edge of the tissue found on the
slide, which need not be a surgical margin.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import IO, Any

import pandas as pd
import shapely

from bccdist.configuration import phantom_warning
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.parts import Label
from bccdist.sections.chosen_output import ChosenOutput, SectionVerdict, section_box, smallest_margin_um
from bccdist.sections.margins import MARGIN_WARNING
from bccdist.sections.regions import Region
from bccdist.sections.verdicts import NEVER, Verdict
from bccdist.slides.annotations.geojson import ABOUT, ORIGIN
from bccdist.slides.frames import qupath_origin
from bccdist.slides.geometry import Box

REGION_CLASS = Label.TUMOR.value
SECTION_CLASS = "Section"
"""Sections have classes derived of it, such as "Section: Tumor", so that no box is taken for a region."""
_COLOURS = {Verdict.TUMOR.value: (215, 25, 28), Verdict.NORMAL.value: (26, 150, 65), Verdict.REVIEW.value: (107,) * 3}


def write_features(file: IO[bytes], output: ChosenOutput, sections: pd.DataFrame) -> None:
    """Write a FeatureCollection: each section, followed by its regions.

    Args:
        file: open for writing.
        output: the slide's.
        sections: their verdicts by this output, with the columns of `section_verdicts`.

    Raises:
        HeatmapError: the heatmap cannot be read, or is not the one that the verdicts were made of.
    """
    origin_level0_px = qupath_origin(output.slide.properties)
    about = json.dumps(_about(output, origin_level0_px))
    file.write(f'{{"type": "FeatureCollection", "{ABOUT}": {about}, "features": [\n'.encode())
    for number, feature in enumerate(_features(output, sections, origin_level0_px=origin_level0_px)):
        file.write((",\n" * bool(number) + feature).encode())
    file.write(b"\n]}\n")


def _about(output: ChosenOutput, origin_level0_px: tuple[int, int]) -> dict[str, Any]:
    """How the regions came about: a member of its own beside the features."""
    attributes = output.heatmap.attributes
    return {
        "slide_id": attributes.slide_id,
        **{name: getattr(output.choice, name) for name in ("setting", "epoch", "t_p", "t_a_um2", "area_unit")},
        "psi": output.psi,
        ORIGIN: origin_level0_px,
        "weights_digest": attributes.weights_digest,
        "config_digest": attributes.config_digest,
        "slide_fingerprint": attributes.slide_fingerprint,
        "phantom": attributes.phantom,
        "phantom_weights": output.choice.phantom_weights,
        "margins": MARGIN_WARNING,
    }


def _features(output: ChosenOutput, sections: pd.DataFrame, *, origin_level0_px: tuple[int, int]) -> Iterator[str]:
    for section in sections.to_dict("records"):
        regions = output.regions_in(section)
        box = _placed_box(section_box(section), origin_level0_px)
        yield _feature(box, _section_properties(output, section, smallest_margin_um(regions)))
        for number, region in enumerate(regions, start=1):
            outline = output.placed(region.outline, origin_level0_px=origin_level0_px)
            yield _feature(outline, _region_properties(output, section, region, number))


def _placed_box(box_level0_px: Box, origin_level0_px: tuple[int, int]) -> shapely.Polygon:
    """A box of level 0 in QuPath's frame."""
    x, y = origin_level0_px
    return shapely.box(box_level0_px.x - x, box_level0_px.y - y, box_level0_px.x_end - x, box_level0_px.y_end - y)


def _feature(geometry: shapely.Geometry, properties: Mapping[str, Any]) -> str:
    """An annotation object as QuPath writes it."""
    text = json.dumps({"objectType": "annotation", **properties}, allow_nan=False)
    return f'{{"type": "Feature", "geometry": {shapely.to_geojson(geometry)}, "properties": {text}}}'


def _region_properties(output: ChosenOutput, section: SectionVerdict, region: Region, number: int) -> dict[str, Any]:
    return {
        "name": f"{section['section_id']}, region {number}",
        "classification": {"name": REGION_CLASS, "color": _COLOURS[Verdict.TUMOR.value]},
        "measurements": {
            "area um2": region.num_pixels * output.pixel_um2,
            "max probability": region.max_value / NUM_STEPS,
            "mean probability": region.mean_value / NUM_STEPS,
            "margin um": region.margin_um,
        },
        "metadata": {"section": section["section_id"], **_warning(output)},
    }


def _section_properties(output: ChosenOutput, section: SectionVerdict, margin_um: float) -> dict[str, Any]:
    """A section's box, locked so that nobody moves it unawares."""
    return {
        "name": section["section_id"],
        "classification": {"names": [SECTION_CLASS, section["verdict"]], "color": _COLOURS[section["verdict"]]},
        "isLocked": True,
        "measurements": {
            "largest region um2": section["area_um2"],
            "largest region less t_A um2": section["area_difference_um2"],
            **_finite("largest region by t_A", section["area_factor"]),
            **_finite("flip shift", section["flip_shift"]),
            "max probability": section["max_probability"],
            "p99 probability": section["p99_probability"],
            "tissue um2": section["tissue_um2"],
            "coverage": section["coverage"],
            # A section without regions has none.
            **_finite("smallest margin um", margin_um),
        },
        "metadata": {
            "verdict": section["verdict"],
            "reached by": section["reached_by"],
            **({"flip shift": NEVER} if math.isinf(section["flip_shift"]) else {}),
            **_label(section),
            **_why_review(section),
            **_warning(output),
        },
    }


def _finite(name: str, value: float) -> dict[str, float]:
    """A measurement; JSON has no words for what is infinite or not there, so that it is left out then."""
    return {name: value} if math.isfinite(value) else {}


def _label(section: SectionVerdict) -> dict[str, str]:
    """What a person said, and whether the verdict is the same."""
    result: dict[str, str] = (
        {} if pd.isna(section["correct"]) else {"result": "right" if section["correct"] else "WRONG"}
    )
    return {"label": "none" if pd.isna(section["label"]) else section["label"], **result}


def _why_review(section: SectionVerdict) -> dict[str, str]:
    """Why the section is looked at by a person, whatever its verdict."""
    reasons = []
    if section["coverage"] < 1:
        reasons.append(f"{1 - section['coverage']:.1%} of its tissue was not read")
    doubt = section["not_assessable"]
    if isinstance(doubt, str) and doubt:  # null where nobody judged it
        reasons.append(f"not assessable: {doubt}")
    return {"review": "; ".join(reasons)} if reasons else {}


def _warning(output: ChosenOutput) -> dict[str, str]:
    slides, weights = output.heatmap.attributes.phantom, output.choice.phantom_weights
    warning = phantom_warning(slides=slides, weights=weights)
    return {"warning": warning} if warning else {}
