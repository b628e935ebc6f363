"""Tumor regions for QuPath, a file per slide and setting: `python analysis/regions.py STUDY SLIDES_CSV`.

What a verdict rests on (paper, section 2.4), to look at and to correct beside the slide: the regions of at least t_A
at the chosen t_p, and the boxes of the sections with what was said about them. A file is zipped GeoJSON; QuPath opens
it as it is. A region belongs to its section: where boxes overlap, it is there for each of them.

Coordinates are level-0 px. QuPath shows a slide from the corner of the area that the scanner names as scanned
(openslide.bounds-x and -y, of MRXS above all), so there they count from this corner.
"""

import json
import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Annotated, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pandas as pd
import shapely
import tyro
from numpy.typing import NDArray

from analysis.choices import Choice, read_choices
from analysis.command import run
from analysis.region_outlines import Region, find_regions
from analysis.section_rows import load_ledger, rows_of
from analysis.verdict_table import no_rows, section_verdicts
from bccdist.configuration import CELL_PX, PHANTOM_WARNING, Psi, pixel_px
from bccdist.errors import HeatmapError, LedgerError, SlideError, StageFailedError
from bccdist.files import atomic_path
from bccdist.heatmaps.curve import NUM_LEVELS, level_of
from bccdist.heatmaps.store import CHUNK_PIXELS, Heatmap
from bccdist.heatmaps.verdicts import Verdict
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SlideRecord, read_manifest
from bccdist.slides.slide import Slide

REGION_CLASS = Label.TUMOR.value
SECTION_CLASS = "Section"
"""Sections have classes derived of it, such as "Section: Tumor", so that no box is taken for a region."""
_COLOURS = {Verdict.TUMOR.value: (215, 25, 28), Verdict.NORMAL.value: (26, 150, 65), Verdict.REVIEW.value: (107,) * 3}
_BOUNDS = tuple(f"openslide.bounds-{side}" for side in ("x", "y", "width", "height"))
_Section = Mapping[Hashable, Any]
"""A row of the verdicts."""
_DECIMALS = 3
"""Of a coordinate in level-0 px."""


def write_regions(
    study_root: Path,
    manifest_path: Path,
    parts: list[Part],
    *,
    setting: str | None = None,
    psi: Psi | None = None,
    t_p: float | None = None,
) -> list[Path]:
    """Write the regions of every slide of some parts that the chosen models were applied to.

    Args:
        study_root: the study's folder.
        manifest_path: its slides.csv.
        parts: of the slides.
        setting: None is every one that was selected.
        psi: the output; None is each setting's own.
        t_p: prediction threshold, 0 to 1; None is the chosen one.

    Returns:
        The files' paths.

    Raises:
        LedgerError: nothing was selected, or no slide of these parts was inferred, or an argument fits neither.
        StageFailedError: some slides or heatmaps cannot be read; all others are written.
    """
    paths = StudyPaths(study_root)
    manifest = read_manifest(manifest_path, files_must_exist=False)
    choices = _choices(paths, setting, t_p)
    verdicts = _verdicts(paths, list(choices.values()), parts, psi)
    written, failures = [], []
    for (name, slide_id), sections in verdicts.groupby(["setting", "slide_id"]):
        try:
            written.append(_write_slide(paths, manifest.slide(str(slide_id)), choices[str(name)], sections))
        except (SlideError, HeatmapError) as error:
            failures.append(f"  - {name}: {error}")
    if failures:
        raise StageFailedError(
            f"the regions of {len(failures)} slide(s) were not written, of {len(written)} they were:\n"
            + "\n".join(failures)
        )
    return written


def _choices(paths: StudyPaths, setting: str | None, t_p: float | None) -> dict[str, Choice]:
    """What was chosen, by setting, with another t_p if one is given."""
    choices = {choice.setting: choice for choice in read_choices(paths)}
    if setting is not None and setting not in choices:
        raise LedgerError(f"--setting {setting}: nothing was selected for it; selected were {', '.join(choices)}")
    if t_p is not None and not 0 < t_p <= 1:
        raise LedgerError(f"--t-p {t_p}: a prediction threshold lies above 0 and is at most 1")
    return {
        name: choice if t_p is None else replace(choice, t_p=t_p)
        for name, choice in choices.items()
        if setting in (None, name)
    }


def _verdicts(paths: StudyPaths, choices: list[Choice], parts: list[Part], psi: Psi | None) -> pd.DataFrame:
    """The verdicts by one output, as `verdict_table` has them."""
    rows = rows_of(load_ledger(paths), parts, final_only=psi is None)
    if psi is not None:
        rows = rows.where((rows.frame["psi"] == psi).to_numpy())
    verdicts = pd.concat([section_verdicts(rows, choice) for choice in choices], ignore_index=True)
    if verdicts.empty:
        raise no_rows(parts, choices)
    return verdicts


@dataclass(frozen=True, kw_only=True)
class _Output:
    """One output of one slide's heatmap, and how it lies in QuPath's frame."""

    heatmap: Heatmap
    psi: Psi
    choice: Choice
    """The model and the thresholds."""
    origin_level0_px: tuple[int, int]
    """The point that QuPath counts from."""

    @property
    def pixel_um2(self) -> float:
        """Area of a heatmap pixel, as the selection counts it."""
        edge_um = pixel_px(self.psi) * (self.heatmap.attributes.mpp if self.choice.area_unit == "physical" else 1.0)
        return edge_um * edge_um

    @property
    def least_pixels(self) -> int:
        """The fewest pixels of a region of t_A."""
        about = math.floor(self.choice.t_a_um2 / self.pixel_um2)
        return next(num for num in range(max(1, about - 1), about + 3) if num * self.pixel_um2 >= self.choice.t_a_um2)

    def placed(self, outline: shapely.Geometry, corner_px: tuple[int, int]) -> shapely.Geometry:
        """An outline in heatmap pixels from a corner (x, y); x and y are moved each alone, so it stays valid."""
        edge_level0_px = pixel_px(self.psi) * self.heatmap.attributes.downsample
        corner, origin = np.array(corner_px), np.array(self.origin_level0_px)
        return shapely.transform(outline, lambda xy: np.round((xy + corner) * edge_level0_px - origin, _DECIMALS))

    def placed_box(self, box_level0_px: Box) -> shapely.Polygon:
        """A box of level 0."""
        x, y = self.origin_level0_px
        return shapely.box(box_level0_px.x - x, box_level0_px.y - y, box_level0_px.x_end - x, box_level0_px.y_end - y)

    def strips(self, box_px: Box) -> Iterator[NDArray[np.uint8]]:
        """A box of heatmap pixels by rows of chunks, 0 where a verdict does not count them."""
        counted = (self.heatmap.coverage == self.heatmap.attributes.full_coverage) & self.heatmap.tissue_cells
        edge_px = pixel_px(self.psi)
        cell_cols = np.arange(box_px.x, box_px.x_end) * edge_px // CELL_PX
        for chunk_y in range(box_px.y // CHUNK_PIXELS * CHUNK_PIXELS, box_px.y_end, CHUNK_PIXELS):
            y, y_end = max(chunk_y, box_px.y), min(chunk_y + CHUNK_PIXELS, box_px.y_end)
            cell_rows = np.arange(y, y_end) * edge_px // CELL_PX
            strip = Box(*(edge_px * length for length in (box_px.x, y, box_px.width, y_end - y)))
            yield self.heatmap.read(self.psi, strip) * counted[np.ix_(cell_rows, cell_cols)]


def _write_slide(paths: StudyPaths, record: SlideRecord, choice: Choice, sections: pd.DataFrame) -> Path:
    """Write one slide's file.

    Args:
        paths: the study's.
        record: the slide.
        choice: the model and the thresholds.
        sections: their verdicts by one output.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap cannot be read, or is not the one that the ledger was made of.
    """
    heatmap = Heatmap(paths.heatmap(choice.setting, choice.epoch, record.slide_id))
    if heatmap.attributes.weights_digest != choice.weights_digest:
        raise HeatmapError(
            f"{heatmap.path}: made with the weights {heatmap.attributes.weights_digest}, but {choice.weights_digest} "
            "were chosen; run the inference stage again, or the selection"
        )
    output = _Output(
        heatmap=heatmap,
        psi=sections["psi"].iloc[0],
        choice=choice,
        origin_level0_px=_qupath_origin(record, heatmap),
    )
    path = paths.regions(choice.setting, record.slide_id)
    member = ZipInfo(f"{record.slide_id}.geojson")
    member.compress_type = ZIP_DEFLATED
    with atomic_path(path) as partial, ZipFile(partial, "x") as archive, archive.open(member, "w") as file:
        _write_collection(file, _about(output), _features(output, sections))
    return path


def _qupath_origin(record: SlideRecord, heatmap: Heatmap) -> tuple[int, int]:
    """The level-0 pixel that QuPath counts from."""
    with Slide(record.path, target_mpp=heatmap.attributes.mpp, mpp=record.mpp) as slide:
        if tuple(slide.level0_size) != heatmap.attributes.size_level0_px:
            raise SlideError(
                f"{record.path}: it has {slide.level0_size} level-0 px, but the heatmap {heatmap.path} was made of "
                f"{heatmap.attributes.size_level0_px}; give the manifest that the study was made with"
            )
        if not all(name in slide.properties for name in _BOUNDS):
            return (0, 0)
        return (int(slide.properties[_BOUNDS[0]]), int(slide.properties[_BOUNDS[1]]))


def _about(output: _Output) -> dict[str, Any]:
    """How the regions came about: a member of its own beside the features."""
    attributes = output.heatmap.attributes
    return {
        "slide_id": attributes.slide_id,
        **{name: getattr(output.choice, name) for name in ("setting", "epoch", "t_p", "t_a_um2", "area_unit")},
        "psi": output.psi,
        "origin_level0_px": output.origin_level0_px,
        "weights_digest": attributes.weights_digest,
        "config_digest": attributes.config_digest,
        "slide_fingerprint": attributes.slide_fingerprint,
        "phantom": attributes.phantom,
    }


def _write_collection(file: IO[bytes], about: Mapping[str, Any], features: Iterator[str]) -> None:
    """Write a FeatureCollection, feature by feature."""
    file.write(f'{{"type": "FeatureCollection", "bccdist": {json.dumps(about)}, "features": [\n'.encode())
    for number, feature in enumerate(features):
        file.write((",\n" * bool(number) + feature).encode())
    file.write(b"\n]}\n")


def _features(output: _Output, sections: pd.DataFrame) -> Iterator[str]:
    """Each section, followed by its regions."""
    for section in sections.sort_values("section_id").to_dict("records"):
        box_level0_px = Box(*(section[f"{side}_level0_px"] for side in ("x", "y", "width", "height")))
        yield _feature(output.placed_box(box_level0_px), _section_properties(output, section))
        if section["tissue_um2"]:
            box_target_px = box_level0_px.scaled(1 / output.heatmap.attributes.downsample)
            yield from _region_features(output, section, output.heatmap.lattice_box(output.psi, box_target_px))


def _region_features(output: _Output, section: _Section, box_px: Box) -> Iterator[str]:
    """The regions of one section, whose box is given in heatmap pixels."""
    level = level_of(output.choice.t_p)
    regions = find_regions(output.strips(box_px), level=level, least_pixels=output.least_pixels)
    largest_px = 0
    for number, region in enumerate(regions, start=1):
        largest_px = max(largest_px, region.num_pixels)
        outline = output.placed(region.outline, (box_px.x, box_px.y))
        yield _feature(outline, _region_properties(output, section, region, number))
    _require_ledgers_area(output, section, largest_px * output.pixel_um2)


def _require_ledgers_area(output: _Output, section: _Section, largest_um2: float) -> None:
    """Refuse a heatmap that is not the one of the ledger, which the verdict stands on."""
    expected_um2 = section["area_um2"] if section["verdict"] == Verdict.TUMOR else 0.0
    if not math.isclose(largest_um2, expected_um2, rel_tol=1e-9):
        raise HeatmapError(
            f"{output.heatmap.path}: the largest region in section {section['section_id']} has {largest_um2:.1f} um2, "
            f"but {expected_um2:.1f} um2 by the ledger; run the inference stage again for this slide"
        )


def _feature(geometry: shapely.Geometry, properties: Mapping[str, Any]) -> str:
    """An annotation object as QuPath writes it."""
    text = json.dumps({"objectType": "annotation", **properties}, allow_nan=False)
    return f'{{"type": "Feature", "geometry": {shapely.to_geojson(geometry)}, "properties": {text}}}'


def _region_properties(output: _Output, section: _Section, region: Region, number: int) -> dict[str, Any]:
    return {
        "name": f"{section['section_id']}, region {number}",
        "classification": {"name": REGION_CLASS, "color": _COLOURS[Verdict.TUMOR.value]},
        "measurements": {
            "area um2": region.num_pixels * output.pixel_um2,
            "max probability": region.max_value / (NUM_LEVELS - 1),
            "mean probability": region.mean_value / (NUM_LEVELS - 1),
        },
        "metadata": {"section": section["section_id"], **_warning(output)},
    }


def _section_properties(output: _Output, section: _Section) -> dict[str, Any]:
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
        },
        "metadata": {"verdict": section["verdict"], **_label(section), **_unread(section), **_warning(output)},
    }


def _label(section: _Section) -> dict[str, str]:
    """What a person said, and whether the verdict is the same."""
    result: dict[str, str] = (
        {} if pd.isna(section["correct"]) else {"result": "right" if section["correct"] else "WRONG"}
    )
    return {"label": "none" if pd.isna(section["label"]) else section["label"], **result}


def _unread(section: _Section) -> dict[str, str]:
    if section["coverage"] >= 1:
        return {}
    return {"review": f"{1 - section['coverage']:.1%} of its tissue was not read"}


def _warning(output: _Output) -> dict[str, str]:
    return {"warning": PHANTOM_WARNING} if output.heatmap.attributes.phantom else {}


def main(
    study: Annotated[Path, tyro.conf.Positional],
    manifest: Annotated[Path, tyro.conf.Positional],
    parts: tuple[str, ...] = (Part.TEST.short,),
    setting: str | None = None,
    psi: Psi | None = None,
    t_p: float | None = None,
) -> None:
    """Write the regions of slides that the chosen models were applied to.

    Args:
        study: The study's folder.
        manifest: The slides.csv that the study was made with.
        parts: Which parts: train, val1, val2, test.
        setting: Default is every one that was selected.
        psi: Which output: default is each setting's own.
        t_p: Prediction threshold, 0 to 1: default is the chosen one.
    """
    chosen_parts = [Part.parse(part) for part in parts]
    for path in write_regions(study, manifest, chosen_parts, setting=setting, psi=psi, t_p=t_p):
        print(path)


if __name__ == "__main__":
    run(main)
