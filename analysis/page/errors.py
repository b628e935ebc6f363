"""The report's part on wrong verdicts, with a picture of each section."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import quote

from analysis.page.blocks import GalleryBlock, Section, Tile, data_uri
from analysis.page.content import PageContent
from analysis.pictures.shown_sections import section_picture
from analysis.study_evidence.flip_shifts import shift_texts
from bccdist.errors import HeatmapError, ManifestError, RemoteError, SlideError
from bccdist.parts import Label, Part
from bccdist.sections.chosen_output import boxes_by_slide
from bccdist.sections.section_rows import rows_of
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.slides.geometry import Box

MOST_PICTURES = 12
"""Sections of each kind of error that are shown."""
REVIEW_PAGE = "http://127.0.0.1:8765/"
"""Where jobs/review.py serves its page on this machine, if nothing else is asked of it."""


def errors_section(study: PageContent) -> Section:
    """The wrong verdicts of the headline, one by one and in groups."""
    galleries = list(_galleries(study))
    command = "python jobs/review.py STUDY --reviewer NAME"
    served = f"Links to the review page lead to {REVIEW_PAGE}, where `{command}` serves it."
    return Section(
        lines=[*([served] if galleries else []), *study.left_out("error_groups", "figure7")],
        blocks=[
            *galleries,
            *study.picture("figure7"),
            *study.blocks("error_groups", folded=True),
        ],
    )


def _galleries(study: PageContent) -> Iterator[GalleryBlock]:
    """The wrong verdicts of the headline's setting: missed ones, then false alarms, the worst first."""
    verdicts = section_verdicts(rows_of(study.evidence.ledger, [Part.TEST], final_only=True), study.headline)
    boxes = boxes_by_slide(verdicts)
    wrong = verdicts[verdicts["correct"].eq(False).fillna(False)]
    kinds: tuple[tuple[Literal["fn", "fp"], str, str], ...] = (
        ("fn", Label.TUMOR.value, "Missed: labelled Tumor, called Normal"),
        ("fp", Label.NORMAL.value, "False alarms: labelled Normal, called Tumor"),
    )
    for error, label, title in kinds:
        mine = wrong[wrong["label"] == label].sort_values("tumor_until", ascending=error == "fn", kind="stable")
        if not mine.empty:
            shown = mine.head(MOST_PICTURES).to_dict("records")
            more = f"; the {len(shown)} worst" if len(mine) > len(shown) else ""
            yield GalleryBlock(
                title=f"{title}: {len(mine)}, by {study.headline.setting}{more}",
                tiles=[_tile(study, row, error, boxes[row["slide_id"]]) for row in shown],
            )


def _tile(
    study: PageContent, row: Mapping[Hashable, Any], error: Literal["fn", "fp"], boxes_level0_px: Mapping[str, Box]
) -> Tile:
    """A section with its picture; where there can be none, why. The boxes are those of its slide."""
    lines = [
        f"Tumor up to t_p {row['tumor_until']:.2f}; chosen {row['t_p']:.2f}",
        f"flip shift {shift_texts([row['flip_shift']])[0]}",
        f"largest region {row['area_um2']:,.0f} um2; t_A {row['t_a_um2']:,.0f}",
    ]
    if row["prefilled"]:
        lines.append(f"pre-filled: {row['prefilled']}")
    tile = Tile(name=str(row["section_id"]), lines=lines, error=error, links=list(_links(study, row)))
    try:
        record = study.evidence.manifest.slide(str(row["slide_id"]))
        picture = section_picture(study.paths, record, study.headline, row, boxes_level0_px)
    except (SlideError, RemoteError, HeatmapError, ManifestError) as reason:
        return replace(tile, lines=[*lines, f"no picture: {reason}"])
    alt = f"Section {row['section_id']}: its tissue, and the same under its heatmap"
    return replace(tile, uri=data_uri(picture, "jpeg"), alt=alt)


def _links(study: PageContent, row: Mapping[Hashable, Any]) -> Iterator[tuple[str, str]]:
    """Where there is more to see of a section."""
    overlay = study.paths.overlay(study.headline.setting, str(row["slide_id"]))
    if overlay.exists():
        yield "whole slide", overlay.relative_to(study.paths.shown()).as_posix()
    name = f"{row['slide_id']}/{row['section_id']}"
    yield "review page", f"{REVIEW_PAGE}#{quote(name)}"
