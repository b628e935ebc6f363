"""The regions that the chosen models find, slide by slide (paper, section 2.4): of at least t_A at the chosen t_p.

What a verdict rests on. A region belongs to the section whose tissue it lies on, as the ledger counts it: where boxes
overlap, it is there once, and one that crosses from tissue to tissue is cut. Its margin is the smallest distance to
the edge of the tissue found on the slide. Margins are for research use only: that edge need not be a surgical margin
(bccdist/sections/margins.py says what counts as an edge).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple, TypeVar

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.verdict_table import no_rows
from bccdist.configuration import Psi
from bccdist.errors import HeatmapError, LedgerError, RemoteError, SlideError
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.processes import Failure, run_each
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_heatmap import open_chosen, require_same_slide
from bccdist.sections.chosen_output import ChosenOutput, SlideTissue, boxes_by_slide
from bccdist.sections.margins import edge_distances_um
from bccdist.sections.section_rows import rows_of
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask

_T = TypeVar("_T")
TissueAt = Callable[[float], SlideTissue]
"""The tissue of a slide, by the um/px of the target frame."""


class ChosenVerdicts(NamedTuple):
    """The chosen models, and what they said."""

    choices: dict[str, Choice]
    """The chosen model of each setting."""
    verdicts: pd.DataFrame
    """One output of each setting, with the columns of `section_verdicts`."""
    boxes_level0_px: Mapping[str, Mapping[str, Box]]
    """The boxes of all sections of the slides, by slide_id and section_id: they share out the tissue."""
    asked: str = ""
    """What was asked for in place of what was chosen, fit for a folder's name: t_p-0.7, psi_0; else nothing."""


def read_chosen_verdicts(
    study: Evidence,
    parts: Sequence[Part],
    *,
    setting: str | None = None,
    psi: Psi | None = None,
    t_p: float | None = None,
) -> ChosenVerdicts:
    """The chosen models and their verdicts on some parts.

    Args:
        study: the study.
        parts: whose slides are read.
        setting: None is every one that was selected.
        psi: the output; None is each setting's own.
        t_p: prediction threshold, 0 to 1; None is the chosen one.

    Raises:
        LedgerError: nothing was selected, or no slide of these parts was inferred, or an argument fits neither.
    """
    choices = _choices(study, setting, t_p)
    rows = rows_of(study.ledger, parts, final_only=psi is None)
    if psi is not None:
        rows = rows.where((rows.frame["psi"] == psi).to_numpy())
    frame = pd.concat([section_verdicts(rows, choice) for choice in choices.values()], ignore_index=True)
    if frame.empty:
        raise no_rows(list(parts), list(choices.values()))
    return ChosenVerdicts(choices, frame, boxes_by_slide(frame), _asked(study, frame, t_p))


def _asked(study: Evidence, verdicts: pd.DataFrame, t_p: float | None) -> str:
    """What other t_p or output these verdicts are of than the selected ones; nothing for the study's own."""
    chosen = {choice.setting: choice.t_p for choice in study.choices}
    words = []
    if t_p is not None and any(chosen[setting] != t_p for setting in set(verdicts["setting"])):
        words.append(f"t_p-{t_p:g}")
    if not verdicts["is_final"].all():
        words.append(str(verdicts["psi"].iloc[0]))
    return "-".join(words)


def _choices(study: Evidence, setting: str | None, t_p: float | None) -> dict[str, Choice]:
    """What was chosen, by setting, with another t_p if one is given."""
    choices = study.choices if setting is None else [study.headline(setting)]
    if t_p is not None and not 0 < t_p <= 1:
        raise LedgerError(f"--t-p {t_p}: a prediction threshold lies above 0 and is at most 1")
    return {choice.setting: choice if t_p is None else replace(choice, t_p=t_p) for choice in choices}


def on_each_output(
    paths: StudyPaths,
    manifest: Manifest,
    chosen: ChosenVerdicts,
    work: Callable[[ChosenOutput, pd.DataFrame], _T],
    *,
    num_workers: int | None = 0,
) -> tuple[list[_T], list[str]]:
    """Do something with the output of every slide and setting of some verdicts; each slide's tissue is read once.

    Args:
        paths: the study's.
        manifest: its slides.
        chosen: the chosen models and their verdicts.
        work: takes an output and its verdicts.
        num_workers: see `run_each`.

    Returns:
        What `work` returned, by slide and setting, and a line for each output that could not be read.
    """
    slide_ids = [str(slide_id) for slide_id in chosen.verdicts.groupby("slide_id").groups]
    setup = partial(open_outputs, paths, manifest.only(slide_ids), chosen, work)
    outcomes = dict(run_each(setup, slide_ids, num_workers=num_workers))
    done, failures = [], []
    for slide_id in slide_ids:
        outcome = outcomes[slide_id]
        if isinstance(outcome, Failure):
            failures.append(f"  - {slide_id}: {outcome.reason}")
        else:
            done += outcome[0]
            failures += outcome[1]
    return done, failures


def open_outputs(
    paths: StudyPaths, manifest: Manifest, chosen: ChosenVerdicts, work: Callable[[ChosenOutput, pd.DataFrame], _T]
) -> Callable[[str], tuple[list[_T], list[str]]]:
    """What `on_each_output` does with one slide, by slide_id: an output that cannot be read costs no other."""
    of_slide = dict(iter(chosen.verdicts.groupby("slide_id")))

    def work_on_all(slide_id: str) -> tuple[list[_T], list[str]]:
        done, failures = [], []
        tissue_at = cache(partial(read_tissue, manifest.slide(slide_id)))
        for setting, sections in of_slide[slide_id].groupby("setting"):
            try:
                choice, boxes = chosen.choices[str(setting)], chosen.boxes_level0_px[slide_id]
                output = open_output(paths, choice, sections, boxes, tissue_at)
                done.append(work(output, sections.sort_values("section_id")))
            except (SlideError, RemoteError, HeatmapError) as error:
                failures.append(f"  - {setting}: {error}")
        return done, failures

    return work_on_all


def open_output(
    paths: StudyPaths,
    choice: Choice,
    sections: pd.DataFrame,
    boxes_level0_px: Mapping[str, Box],
    tissue_at: TissueAt,
) -> ChosenOutput:
    """One slide's output under one setting.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap cannot be read, or is of other weights than the chosen ones.
    """
    slide_id, psi = sections["slide_id"].iloc[0], sections["psi"].iloc[0]
    heatmap = open_chosen(paths, choice, slide_id)
    slide = tissue_at(heatmap.attributes.mpp)
    require_same_slide(heatmap, slide.size_level0_px)
    return ChosenOutput(heatmap=heatmap, psi=psi, choice=choice, slide=slide, boxes_level0_px=boxes_level0_px)


def read_tissue(record: SlideRecord, target_mpp: float) -> SlideTissue:
    """The tissue of a slide, found anew.

    Raises:
        SlideError: the slide cannot be read.
    """
    with Slide(record.path, target_mpp=target_mpp, mpp=record.mpp) as slide:
        width_px, height_px = slide.level0_size
        tissue = tissue_mask(slide)
        return SlideTissue(
            properties=dict(slide.properties),
            size_level0_px=(width_px, height_px),
            tissue=tissue,
            distances_um=edge_distances_um(tissue),
        )
