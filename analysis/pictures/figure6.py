"""Figure 6, correctly classified sections of Test (paper, section 3): `python analysis/make.py figure6 STUDY`.

Tissue and heatmap side by side: sections with tumor from the largest to the smallest region, and some without.
"""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.pictures.crops import ShownSections, read_section
from analysis.pictures.drawing import Panel, Row, write_figure
from analysis.pictures.picture_state import state_of_verdicts
from analysis.pictures.shown_sections import about_choice, bar_of, heat_panel, of_setting, open_shown, section_table
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table
from analysis.study_evidence.verdict_table import all_verdicts, needs_labels
from bccdist.errors import NothingToShowError
from bccdist.parts import Label, Part
from bccdist.sections.chosen_output import boxes_by_slide

NUM_TUMOR, NUM_NORMAL = 4, 2
_PAIRS_PER_ROW = 2
_PANEL_PX = (440, 440)


def choose_sections(verdicts: pd.DataFrame, *, num_tumor: int, num_normal: int) -> pd.DataFrame:
    """Sections that were correctly classified, those with tumor first; of as many slides as there are.

    Those with tumor are spread evenly over the area of the largest region, those without over the area of tissue.

    Args:
        verdicts: the rows of one setting, from `section_verdicts`.
        num_tumor, num_normal: at most so many of each label.
    """
    right = verdicts[verdicts["correct"].fillna(value=False).astype(bool)]
    tumor = _spread(right[right["label"] == Label.TUMOR.value], by="area_um2", num=num_tumor)
    normal = _spread(right[right["label"] == Label.NORMAL.value], by="tissue_um2", num=num_normal)
    return pd.concat([tumor, normal], ignore_index=True)


def _spread(sections: pd.DataFrame, *, by: str, num: int) -> pd.DataFrame:
    """At most `num` rows, from the greatest to the least; each slide once where there are enough slides."""
    ordered = sections.sort_values([by, "slide_id", "section_id"], ascending=[False, True, True])
    of_each_slide = ordered.drop_duplicates("slide_id")
    pool = of_each_slide if len(of_each_slide) >= num else ordered
    picked = np.linspace(0, len(pool) - 1, min(num, len(pool))).round().astype(int)
    return pool.iloc[picked]


def _pair(number: int, section: Mapping[Hashable, Any], shown: ShownSections) -> tuple[Panel, Panel]:
    """A section's tissue and its heatmap."""
    about = f"{number}: {section['section_id']}, {section['label']}"
    tissue = Panel(image=shown.crop.tissue, um_per_px=shown.crop.um_per_px, caption=about)
    found = f"largest region {section['area_um2']:,.0f} µm²" if section["area_um2"] else "no region"
    return tissue, replace(heat_panel(shown, section["t_p"]), caption=found)


def _rows(pairs: list[tuple[Panel, Panel]]) -> tuple[Row, ...]:
    """Some pairs in each row, the last one filled up with empty places."""
    panels = [panel for pair in pairs for panel in pair]
    width = 2 * min(_PAIRS_PER_ROW, len(pairs))
    filled = [*panels, *[None] * (-len(panels) % width)]
    return tuple(Row(panels=tuple(filled[start : start + width])) for start in range(0, len(filled), width))


def write_figure6(
    study: Evidence, setting: str | None = None, *, tumor: int = NUM_TUMOR, normal: int = NUM_NORMAL
) -> Table:
    """Draw Figure 6, correctly classified sections of Test, and write what it shows.

    Args:
        study: The study's folder.
        setting: Which setting: default is the one with the best F_beta on Validation I + II.
        tumor: How many sections with tumor.
        normal: How many sections without.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or no section was correctly classified.
        SlideError, HeatmapError: a slide or a heatmap cannot be read.
    """
    manifest, paths, choice = study.manifest, study.paths, study.headline(setting)
    verdicts = all_verdicts(study.ledger, [choice], [Part.TEST])
    sections = choose_sections(verdicts, num_tumor=tumor, num_normal=normal)
    if sections.empty and not verdicts["label"].notna().any():
        raise needs_labels(verdicts, [Part.TEST])
    if sections.empty:
        raise NothingToShowError(
            f"{choice.setting}, epoch {choice.epoch}: no section to show among {len(verdicts)} of {Part.TEST.value} "
            "is labelled and correctly classified; label sections, name another --setting, or ask for more than none"
        )
    size = {"width_px": _PANEL_PX[0], "height_px": _PANEL_PX[1]}
    boxes = boxes_by_slide(verdicts)
    pairs, shown = [], []
    for number, section in enumerate(sections.to_dict("records"), start=1):
        record = manifest.slide(section["slide_id"])
        output = open_shown(paths, record, choice, section, boxes[record.slide_id])
        shown.append(read_section(record, output, section, **size))
        pairs.append(_pair(number, section, shown[-1]))
    um_per_px = [each.crop.um_per_px for each in shown]
    title = f"Figure 6. Correctly classified sections of {Part.TEST.value}."
    return write_figure(
        paths,
        section_table("figure6", title, sections, um_per_px=um_per_px).asked(of_setting(study, choice)),
        subtitle=about_choice(choice),
        columns=("tissue", "heatmap") * min(_PAIRS_PER_ROW, len(pairs)),
        rows=_rows(pairs),
        panel_px=_PANEL_PX,
        bar=bar_of(choice.t_p, *shown),
        state=state_of_verdicts(verdicts),
    )
