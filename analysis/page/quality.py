"""The report's part on quality: what was measured, and pictures of the sections that it is worst of."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.page.blocks import GalleryBlock, Section, Tile, data_uri
from analysis.page.content import PageContent
from analysis.pictures.shown_sections import section_picture
from analysis.tables.quality import NAMES, MeasuredSetting, measured_settings
from bccdist.errors import HeatmapError, ManifestError, SlideError
from bccdist.sections.assessable import is_not_assessable, short_reasons
from bccdist.sections.chosen_output import boxes_by_slide

_PICTURE_PX = 560


def quality_section(study: PageContent) -> Section:
    """The sections of Test against those that the model was chosen on."""
    found = measured_settings(study.evidence)
    mine = next(each for each in found if each.choice.setting == study.headline.setting)
    tiles = list(_worst(study, mine))
    return Section(
        lines=[*why_not_assessable(mine.frame), *study.left_out("quality")],
        blocks=[
            *study.blocks("quality"),
            *study.picture("quality", "Each dot is a section of Test."),
            *([GalleryBlock(title="The section that is worst by each measure.", tiles=tiles)] if tiles else []),
        ],
    )


def why_not_assessable(sections: pd.DataFrame) -> Iterator[str]:
    """How many of these sections are not assessable, by reason; nothing where all are."""
    lost = sections[is_not_assessable(sections["not_assessable"])]
    texts = pd.Series([reason for text in lost["not_assessable"] for reason in short_reasons(text)])
    if len(texts):
        counted = ", ".join(f"{reason} {num}" for reason, num in texts.value_counts().items())
        yield f"Not assessable: {len(lost)} of {len(sections)} sections ({counted})."


def _worst(study: PageContent, found: MeasuredSetting) -> Iterator[Tile]:
    """A picture of the section that is worst by each measure that is judged; a section is shown once."""
    verdicts = study.verdicts.reset_index(drop=True)
    boxes = boxes_by_slide(verdicts)
    by_key = {(row["slide_id"], row["section_id"]): row for row in verdicts.to_dict("records")}
    worst: dict[tuple[str, str], list[str]] = {}
    for name, limits in found.limits.limits.items():
        values = found.frame[name].to_numpy(dtype=np.float64)
        ends = [side * (values - end) for side, end in ((-1, limits.low), (1, limits.high)) if np.isfinite(end)]
        excess = np.max(ends, axis=0)
        if np.isfinite(excess).any() and np.nanmax(values) > np.nanmin(values):
            at = int(np.nanargmax(excess))
            row = found.frame.iloc[at]
            text = f"{NAMES[name]} {values[at]:.2f}{', beyond the limit' if excess[at] > 0 else ''}"
            worst.setdefault((row["slide_id"], row["section_id"]), []).append(text)
    for (slide_id, section_id), lines in worst.items():
        section = by_key[slide_id, section_id]
        tile_lines = [str(section["verdict"]), *lines]
        try:
            record = study.evidence.manifest.slide(slide_id)
            picture = section_picture(
                study.paths, record, study.headline, section, boxes[slide_id], width_px=_PICTURE_PX
            )
        except (SlideError, HeatmapError, ManifestError) as reason:
            yield Tile(name=section_id, lines=[*tile_lines, f"no picture: {reason}"])
            continue
        alt = f"Section {section_id}: its tissue, and the same under its heatmap"
        yield Tile(name=section_id, lines=tile_lines, uri=data_uri(picture, "jpeg"), alt=alt)
