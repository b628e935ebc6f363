"""What a chosen model says of a slide at one output and one t_p: verdicts and the regions that they rest on (2.4).

All of it is of the same psi and the same t_p, whatever these are: the study's own choice is marked, and of any other
the page says that it is not.
"""

import gzip
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.outlines.chosen_regions import TissueAt, open_output
from analysis.review.geojson import Feature, collection, feature
from analysis.review.worklist import SectionCall, Worklist, call_of
from bccdist.configuration import Psi
from bccdist.errors import LedgerError
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_output import ChosenOutput, boxes_by_slide
from bccdist.sections.section_rows import SectionRows
from bccdist.sections.section_verdicts import section_verdicts


def predicted(
    worklist: Worklist,
    setting: str,
    slide_id: str,
    *,
    psi: Psi,
    t_p: float,
    find_regions: Callable[[Choice, pd.DataFrame, Mapping[str, Any]], bytes],
) -> bytes:
    """The verdicts on a slide and its regions of at least t_A; none where the setting was not applied to it.

    Args:
        worklist: the study's.
        setting: one of those selected.
        slide_id: a slide under review.
        psi: an output of the setting.
        t_p: prediction threshold, above 0 to 1.
        find_regions: finds the regions that verdicts rest on, and puts them beside these, as `packed_regions` does.

    Returns:
        what the page gets: JSON, packed by gzip.

    Raises:
        LedgerError: the slide was inferred without this output, or its rows were certified for other thresholds.
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap cannot be read, or is not the one that the ledger was made of.
    """
    choice = replace(worklist.choices[setting], t_p=t_p)
    verdicts = section_verdicts(_rows(worklist, choice, slide_id, psi), choice)
    if verdicts.empty and not _rows(worklist, choice, slide_id, cast("Psi", choice.psi)).frame.empty:
        raise LedgerError(
            f"{slide_id}: the ledger has no row of {setting}'s output {psi}; it was not inferred with it"
        )
    calls = {str(row["section_id"]): call_of(row) for row in verdicts.to_dict("records")}
    about = predicted_json(calls, choice=worklist.choices[setting], psi=psi, t_p=t_p)
    return packed((), about) if verdicts.empty else find_regions(choice, verdicts, about)


def packed(regions: Iterable[Feature], about: Mapping[str, Any]) -> bytes:
    """Regions and what is said beside them as JSON, packed by gzip.

    The outlines of all regions of a slide of 100,000 px are some MB of text, and many times as much as objects.
    """
    return gzip.compress(json.dumps({**collection(list(regions)), **about}).encode(), compresslevel=1)


def packed_regions(
    paths: StudyPaths, choice: Choice, verdicts: pd.DataFrame, about: Mapping[str, Any], tissue_at: TissueAt
) -> bytes:
    """The regions that `regions_of` finds, beside what is said of them, `packed`."""
    return packed(regions_of(paths, choice, verdicts, tissue_at), about)


def regions_of(paths: StudyPaths, choice: Choice, verdicts: pd.DataFrame, tissue_at: TissueAt) -> tuple[Feature, ...]:
    """The regions of at least t_A that the verdicts on one slide rest on, in level-0 px.

    Args:
        paths: the study's.
        choice: the model and the thresholds.
        verdicts: on the sections of the slide, at one output.
        tissue_at: the slide's tissue, by the um/px of the heatmap.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap cannot be read, or is not the one that the ledger was made of.
    """
    (boxes,) = boxes_by_slide(verdicts).values()
    output = open_output(paths, choice, verdicts, boxes, tissue_at)
    return tuple(
        feature(output.placed(region.outline), {"section_id": section["section_id"], **_measures(output, region)})
        for section in verdicts.sort_values("section_id").to_dict("records")
        for region in output.regions_in(section)
    )


def predicted_json(calls: Mapping[str, SectionCall], *, choice: Choice, psi: Psi, t_p: float) -> dict[str, Any]:
    """What the page gets beside the regions, of the verdicts by section_id."""
    return {
        "setting": choice.setting,
        "psi": psi,
        "t_p": t_p,
        "is_chosen": psi == choice.psi and t_p == choice.t_p,
        "verdicts": {name: call_json(call) for name, call in calls.items()},
    }


def call_json(call: SectionCall) -> dict[str, Any]:
    """A verdict; null where no shift changes it, as JSON has no infinity."""
    finite = {
        name: value if math.isfinite(value := getattr(call, name)) else None for name in ("area_factor", "flip_shift")
    }
    return {**asdict(call), **finite}


def _rows(worklist: Worklist, choice: Choice, slide_id: str, psi: Psi) -> SectionRows:
    """The ledger's rows of a slide at one output; of other outputs than the settings' own they are read now."""
    wanted = {"setting": choice.setting, "epoch": choice.epoch, "slide_id": slide_id, "psi": psi}
    if psi == choice.psi:
        frame = worklist.rows.frame
        return worklist.rows.where((frame[list(wanted)] == pd.Series(wanted)).all(axis=1).to_numpy())
    # Rows of all outputs would be most of the memory of this server.
    conditions = [pc.field(name) == value for name, value in wanted.items()]
    condition = conditions[0] & conditions[1] & conditions[2] & conditions[3]
    return SectionRows.from_table(pq.read_table(worklist.paths.sections, filters=condition))


def _measures(output: ChosenOutput, region: Any) -> dict[str, Any]:
    return {
        # As the verdict has it: rounded where it is shown, and nowhere before.
        "area_um2": region.num_pixels * output.pixel_um2,
        "margin_um": None if math.isnan(region.margin_um) else round(region.margin_um, 1),
        "max_probability": round(region.max_value / NUM_STEPS, 4),
    }
