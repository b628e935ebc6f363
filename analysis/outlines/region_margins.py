"""How far predicted tumor lies from the tissue's edge: `python analysis/make.py margins STUDY [--part test]`.

RESEARCH USE ONLY. The edge is that of the tissue found on the slide; it need not be a surgical margin. What counts as
an edge, and how exact it is, says bccdist/sections/margins.py.

`margins.parquet` has one row per predicted Tumor region of the chosen models: of at least t_A at the chosen t_p
(paper, section 2.4). `section_margins.parquet` has one row per section with the smallest of them, and beside it the
ledger's bound (`ledger_margin_um`), which also counts regions that t_A drops. The slides' tissue is read for it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from analysis.outlines.chosen_regions import on_each_output, read_chosen_verdicts
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table, of_part, rounded
from bccdist.errors import StageFailedError
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.parts import Part
from bccdist.sections.chosen_output import ChosenOutput, SectionVerdict, smallest_margin_um
from bccdist.sections.margins import MARGIN_WARNING
from bccdist.sections.regions import Region
from bccdist.sections.section_verdicts import LEDGER_MARGIN

_SECTION_COLUMNS = ("slide_id", "section_id", "part", "setting", "epoch", "psi", "t_p", "t_a_um2")
_REGION_TYPES = {
    **dict.fromkeys(("slide_id", "section_id", "part", "setting"), "str"),
    "epoch": "int64",
    "psi": "str",
    **dict.fromkeys(("t_p", "t_a_um2"), "float64"),
    "region": "int64",
    **dict.fromkeys(("area_um2", "margin_um", "max_probability", "mean_probability"), "float64"),
    **dict.fromkeys(("x_level0_px", "y_level0_px"), "float64"),
    "weights_digest": "str",
    **dict.fromkeys(("phantom", "phantom_weights"), "bool"),
}
"""Columns of the table of regions, which may have no row; x and y are of the centroid."""


class _Rows(NamedTuple):
    """The rows of one slide and setting."""

    regions: list[dict[str, Any]]
    sections: list[dict[str, Any]]


def write_margins(study: Evidence, part: Part = Part.TEST) -> Table:
    """Write the margins of predicted tumor, of each region and the smallest of each section. Research use only.

    Args:
        study: The study's folder.
        part: Which part of the data.

    Returns:
        The table of sections.

    Raises:
        ConfigurationError: the folder is no study.
        LedgerError: nothing was selected, or the part was not inferred.
        StageFailedError: some slides or heatmaps cannot be read; the tables hold all others.
    """
    found, failures = on_each_output(study.paths, study.manifest, read_chosen_verdicts(study, [part]), _rows_of)
    regions, sections = _build_tables(found, part, num_failures=len(failures))
    for table in (regions, sections):
        study.write(table.asked(of_part(part)))
    if failures:
        raise StageFailedError(
            f"{len(failures)} heatmap(s) or slide(s) were not read, the tables of margins hold {len(found)}:\n"
            + "\n".join(failures)
        )
    return sections


def _rows_of(output: ChosenOutput, sections: pd.DataFrame) -> _Rows:
    rows = _Rows([], [])
    for section in sections.to_dict("records"):
        regions = output.regions_in(section)
        about = _about(section)
        rows.regions.extend(_region_row(output, about, region, number) for number, region in enumerate(regions, 1))
        rows.sections.append(_section_row(about, section, regions))
    return rows


def _about(section: SectionVerdict) -> dict[str, Any]:
    """What names a section's output, and how it was judged."""
    return {name: section[name] for name in (*_SECTION_COLUMNS, "weights_digest", "phantom", "phantom_weights")}


def _region_row(output: ChosenOutput, about: Mapping[str, Any], region: Region, number: int) -> dict[str, Any]:
    """A region under the number that it has in the file for QuPath."""
    centroid = output.placed(region.outline.centroid)
    return {
        **about,
        "region": number,
        "area_um2": region.num_pixels * output.pixel_um2,
        "margin_um": region.margin_um,
        "max_probability": region.max_value / NUM_STEPS,
        "mean_probability": region.mean_value / NUM_STEPS,
        "x_level0_px": centroid.x,
        "y_level0_px": centroid.y,
    }


def _section_row(about: Mapping[str, Any], section: SectionVerdict, regions: list[Region]) -> dict[str, Any]:
    return {
        **about,
        **{name: section[name] for name in ("label", "verdict", "coverage")},
        "num_regions": len(regions),
        "margin_um": smallest_margin_um(regions),
        LEDGER_MARGIN: section[LEDGER_MARGIN],
    }


def _build_tables(found: list[_Rows], part: Part, *, num_failures: int) -> tuple[Table, Table]:
    regions = pd.DataFrame([row for rows in found for row in rows.regions], columns=list(_REGION_TYPES))
    sections = pd.DataFrame([row for rows in found for row in rows.sections], columns=_section_columns())
    notes = (MARGIN_WARNING, *_left_out(num_failures))
    return (
        _region_table(regions.astype(_REGION_TYPES), part, notes),
        _section_table(
            sections.astype({"phantom": "bool", "phantom_weights": "bool", "margin_um": "float64"}), part, notes
        ),
    )


def _section_columns() -> list[str]:
    last = ("label", "verdict", "coverage", "num_regions", "margin_um", LEDGER_MARGIN, "weights_digest")
    return [*_SECTION_COLUMNS, *last, "phantom", "phantom_weights"]


def _left_out(num_failures: int) -> tuple[str, ...]:
    return (f"Slides or heatmaps that could not be read, and are left out: {num_failures}.",) if num_failures else ()


def _region_table(regions: pd.DataFrame, part: Part, notes: tuple[str, ...]) -> Table:
    ordered = _nearest_first(regions, "region")
    printed = pd.DataFrame(
        {
            "slide": ordered["slide_id"],
            "section": ordered["section_id"],
            "setting": ordered["setting"],
            "region": ordered["region"].astype(str),
            "margin um": rounded(ordered["margin_um"], 0),
            "area um2": rounded(ordered["area_um2"], 0),
            "highest": rounded(ordered["max_probability"], 2),
            "mean": rounded(ordered["mean_probability"], 2),
            "x, y in level-0 px": [
                f"{x:.0f}, {y:.0f}" for x, y in zip(ordered["x_level0_px"], ordered["y_level0_px"], strict=True)
            ],
        }
    )
    title = f"Research use only. From each predicted tumor region to the tissue's edge, {part.value}; nearest first."
    return Table(name="margins", title=title, frame=_marked(ordered), printed=printed, notes=notes)


def _section_table(sections: pd.DataFrame, part: Part, notes: tuple[str, ...]) -> Table:
    ordered = _nearest_first(sections, "section_id")
    printed = pd.DataFrame(
        {
            "slide": ordered["slide_id"],
            "section": ordered["section_id"],
            "setting": ordered["setting"],
            "verdict": ordered["verdict"],
            "regions": ordered["num_regions"].astype(str),
            "margin um": rounded(ordered["margin_um"], 0),
            "not below um": rounded(ordered[LEDGER_MARGIN], 0),
        }
    )
    title = f"Research use only. From predicted tumor to the tissue's edge by section, {part.value}; nearest first."
    explained = '"Not below" is the ledger\'s bound: it also counts regions smaller than t_A.'
    return Table(
        name="section_margins",
        title=title,
        frame=_marked(ordered),
        printed=printed,
        notes=(notes[0], explained, *notes[1:]),
    )


def _nearest_first(frame: pd.DataFrame, last: str) -> pd.DataFrame:
    """Rows by setting and margin; those without one come last."""
    return frame.sort_values(["setting", "margin_um", "slide_id", "section_id", last], ignore_index=True)


def _marked(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the warning among its attributes, which a parquet file keeps."""
    marked = frame.copy()
    marked.attrs["margins"] = MARGIN_WARNING
    return marked
