"""Tumor regions for QuPath, a file per slide and setting: `python analysis/make.py regions STUDY SLIDES_CSV`.

What a verdict rests on (paper, section 2.4), to look at and to correct beside the slide: the regions of at least t_A
at the chosen t_p, and the boxes of the sections with what was said about them. A file is zipped GeoJSON; QuPath opens
it as it is. A region belongs to the section whose tissue it lies on, also where boxes overlap.

Coordinates are level-0 px in QuPath's frame (bccdist/slides/frames.py). The file says which pixel they count from, so
that it may serve as an annotation again.

Margins, the measurements "margin um", are for research use only: distances to the edge of the tissue found on the
slide, which need not be a surgical margin.
"""

import json
import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pandas as pd
import shapely

from analysis.evidence.evidence import Evidence
from analysis.outlines.chosen_regions import (
    ChosenOutput,
    SectionVerdict,
    on_each_output,
    read_chosen_verdicts,
    section_box,
    smallest_margin_um,
)
from analysis.outlines.region_outlines import Region
from bccdist.configuration import Psi, phantom_warning
from bccdist.errors import StageFailedError
from bccdist.files import atomic_path
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.margins import MARGIN_WARNING
from bccdist.sections.verdicts import Verdict
from bccdist.slides.annotations.geojson import ABOUT, ORIGIN
from bccdist.slides.frames import qupath_origin
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import read_manifest

REGION_CLASS = Label.TUMOR.value
SECTION_CLASS = "Section"
"""Sections have classes derived of it, such as "Section: Tumor", so that no box is taken for a region."""
_COLOURS = {Verdict.TUMOR.value: (215, 25, 28), Verdict.NORMAL.value: (26, 150, 65), Verdict.REVIEW.value: (107,) * 3}


def write_regions(
    study: Evidence,
    manifest: Path,
    parts: tuple[Part, ...] = (Part.TEST,),
    *,
    setting: str | None = None,
    psi: Psi | None = None,
    t_p: float | None = None,
    num_workers: int | None = None,
) -> list[Path]:
    """Write the regions of slides that the chosen models were applied to, as QuPath opens them.

    Args:
        study: The study's folder.
        manifest: The slides.csv that the study was made with.
        parts: Which parts of the data.
        setting: Which setting: default is every one that was selected.
        psi: Which output: default is each setting's own.
        t_p: Prediction threshold, 0 to 1: default is the chosen one.
        num_workers: Processes that take a slide each: default is one for each core, 0 is this process.

    Returns:
        The files' paths, by slide and setting.

    Raises:
        LedgerError: nothing was selected, or no slide of these parts was inferred, or an argument fits neither.
        StageFailedError: some slides or heatmaps cannot be read; all others are written.
    """
    slides = read_manifest(manifest, files_must_exist=False)
    chosen = read_chosen_verdicts(study, parts, setting=setting, psi=psi, t_p=t_p)
    work = partial(_write_slide, study.paths)
    written, failures = on_each_output(study.paths, slides, chosen, work, num_workers=num_workers)
    if failures:
        raise StageFailedError(
            f"the regions of {len(failures)} slide(s) were not written, of {len(written)} they were:\n"
            + "\n".join(failures)
        )
    return written


def _write_slide(paths: StudyPaths, output: ChosenOutput, sections: pd.DataFrame) -> Path:
    """Write one slide's file.

    Args:
        paths: the study's.
        output: the slide's.
        sections: their verdicts by this output.

    Raises:
        HeatmapError: the heatmap cannot be read, or is not the one that the ledger was made of.
    """
    slide_id = output.heatmap.attributes.slide_id
    path = paths.regions(output.choice.setting, slide_id)
    origin_level0_px = qupath_origin(output.slide.properties)
    member = ZipInfo(f"{slide_id}.geojson")
    member.compress_type = ZIP_DEFLATED
    with atomic_path(path) as partial, ZipFile(partial, "x") as archive, archive.open(member, "w") as file:
        _write_collection(
            file, _about(output, origin_level0_px), _features(output, sections, origin_level0_px=origin_level0_px)
        )
    return path


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


def _write_collection(file: IO[bytes], about: Mapping[str, Any], features: Iterator[str]) -> None:
    """Write a FeatureCollection, feature by feature."""
    file.write(f'{{"type": "FeatureCollection", "{ABOUT}": {json.dumps(about)}, "features": [\n'.encode())
    for number, feature in enumerate(features):
        file.write((",\n" * bool(number) + feature).encode())
    file.write(b"\n]}\n")


def _features(output: ChosenOutput, sections: pd.DataFrame, *, origin_level0_px: tuple[int, int]) -> Iterator[str]:
    """Each section, followed by its regions."""
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
            "max probability": section["max_probability"],
            "p99 probability": section["p99_probability"],
            "tissue um2": section["tissue_um2"],
            "coverage": section["coverage"],
            # A section without regions has none.
            **({} if math.isnan(margin_um) else {"smallest margin um": margin_um}),
        },
        "metadata": {"verdict": section["verdict"], **_label(section), **_unread(section), **_warning(output)},
    }


def _label(section: SectionVerdict) -> dict[str, str]:
    """What a person said, and whether the verdict is the same."""
    result: dict[str, str] = (
        {} if pd.isna(section["correct"]) else {"result": "right" if section["correct"] else "WRONG"}
    )
    return {"label": "none" if pd.isna(section["label"]) else section["label"], **result}


def _unread(section: SectionVerdict) -> dict[str, str]:
    if section["coverage"] >= 1:
        return {}
    return {"review": f"{1 - section['coverage']:.1%} of its tissue was not read"}


def _warning(output: ChosenOutput) -> dict[str, str]:
    slides, weights = output.heatmap.attributes.phantom, output.choice.phantom_weights
    warning = phantom_warning(slides=slides, weights=weights)
    return {"warning": warning} if warning else {}
