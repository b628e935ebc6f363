"""Parts of the report that need no labels: sections, slides, their pictures, times, and verdicts near to changing."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.page.blocks import GalleryBlock, Section, TableBlock, Tile, data_uri, frame_block, table_block
from analysis.page.content import PageContent, as_jpeg
from analysis.pictures.picture_state import state_of_verdicts
from analysis.study_evidence.provenance import slide_times
from analysis.study_evidence.table import NotMade, Table
from analysis.tables.section_verdicts import build_verdict_table
from bccdist.parts import Part
from bccdist.sections.verdicts import Verdict

MOST_OVERLAYS = 36
"""Slides whose pictures are shown in small."""
MOST_SECTIONS = 40
"""Sections that stand on the page unfolded."""
_OVERLAY_PX = 480
"""The longer side of a slide's small picture."""


def list_section(study: PageContent) -> Section:
    """The sections of Test in the order in which a pathologist would look at them."""
    verdicts = study.evidence.verdicts(Part.TEST)
    table = build_verdict_table(verdicts[verdicts["setting"] == study.headline.setting])
    block = table_block(table)
    first = replace(block, rows=block.rows[:MOST_SECTIONS])
    rest = replace(block, rows=block.rows[MOST_SECTIONS:], folded=True, notes=(), title="")
    rest = replace(rest, title=f"The other {len(rest.rows)} sections")
    return Section(blocks=[first, *([rest] if rest.rows else [])])


def slides_section(study: PageContent) -> Section:
    """How many slides and sections were judged, and what became of each slide."""
    return Section(
        lines=study.left_out("verdict_counts", "reached", "slides"),
        blocks=[*study.blocks("verdict_counts", "reached"), *study.blocks("slides", folded=True)],
    )


def overlays_section(study: PageContent) -> Section:
    """Small pictures of the slides of Test, as the table of slides orders them."""
    setting = study.headline.setting
    drawn = [
        (slide, path)
        for slide in study.slides().to_dict("records")
        if (path := study.paths.overlay(setting, slide["slide_id"])).exists()
    ]
    command = "python analysis/make.py overlays STUDY"
    lines = [] if drawn else [f"No slide of Test is drawn for {setting}: `{command}` draws them."]
    if len(drawn) > MOST_OVERLAYS:
        lines.append(f"{MOST_OVERLAYS} of {len(drawn)}; all are in {study.paths.overlays.name}/{setting}.")
    states = {str(slide_id): state_of_verdicts(rows) for slide_id, rows in study.verdicts.groupby("slide_id")}
    of_before = {
        slide["slide_id"]
        for slide, path in drawn
        if (state := states.get(slide["slide_id"])) and study.is_of_before(path, state)
    }
    tiles = [
        _overlay_tile(study, slide, path, is_of_before=slide["slide_id"] in of_before)
        for slide, path in drawn[:MOST_OVERLAYS]
    ]
    title = f"Slides of Test under the heatmap of {setting}"
    outcome = study.tables.get("overlays")
    return Section(
        lines=lines,
        warnings=[
            *([outcome.reason] if isinstance(outcome, NotMade) and outcome.is_fault else []),
            *([f"{len(of_before)} drawn with labels or verdicts of before; {study.redraw}."] if of_before else []),
        ],
        blocks=[GalleryBlock(title=title, tiles=tiles)] if tiles else [],
    )


def _overlay_tile(study: PageContent, slide: Mapping[Hashable, Any], path: Path, *, is_of_before: bool) -> Tile:
    counts = [f"{slide[f'num_{verdict.lower()}']} {verdict}" for verdict in Verdict]
    before = ["drawn with labels or verdicts of before"] if is_of_before else []
    return Tile(
        name=str(slide["slide_id"]),
        lines=[", ".join(counts), *before],
        uri=data_uri(as_jpeg(path, most_px=_OVERLAY_PX), "jpeg"),
        alt=f"Slide {slide['slide_id']} under its heatmap, with its sections, labels and verdicts",
        links=[("whole picture", path.relative_to(study.paths.shown()).as_posix())],
    )


def time_section(study: PageContent) -> Section:
    """What the slides took."""
    return Section(
        lines=["Reading and the network run beside each other, so their times do not add up."],
        blocks=[frame_block("Seconds a slide took, by the ledger.", slide_times(study.evidence))],
    )


def nearest_section(study: PageContent) -> Section:
    """The verdicts that the smallest shifts of probability would change; no label is needed for it."""
    return Section(
        lines=study.left_out("nearest_verdicts", "flip_shifts"),
        blocks=[*_nearest_of_headline(study), *study.blocks("flip_shifts", folded=True)],
    )


def _nearest_of_headline(study: PageContent) -> Iterator[TableBlock]:
    table, setting = study.tables["nearest_verdicts"], study.headline.setting
    if isinstance(table, Table):
        mine = table.printed[table.printed["setting"] == setting]
        title = f"The {len(mine)} verdicts of {setting} that the smallest shifts of probability would change."
        yield replace(frame_block(title, mine), notes=table.notes, name=table.name)
