"""The page about a transfer: the verdict first, then why, then what to do next; one file without links to others."""

import io
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.page.blocks import Number, PictureBlock, Section, TableBlock, data_uri, frame_block, render
from analysis.page.terms import with_terms
from analysis.site_transfer.holding import named
from analysis.site_transfer.making import DRIVES, Judgement, choice_line, slides_frame, thresholds_frame
from analysis.site_transfer.sections import FEATURES, MEASURES
from analysis.site_transfer.shift import ALPHA, NUM_PERMUTATIONS
from analysis.study_evidence.provenance import model_facts
from analysis.study_evidence.resampling import Interval
from analysis.study_evidence.table import NOT_KNOWN
from analysis.tables.chart import DPI, new_figure, tidy
from analysis.tables.intervals import interval_text
from bccdist.configuration import phantom_warning
from bccdist.files import write_text

_WORDS = {**MEASURES, FEATURES: "network's features, distance from the reference's middle"}
_MOST_SLIDES = 10


def write_page(found: Judgement) -> Path:
    """Write COHORT/transfer/transfer.html; returns its place."""
    study = found.transfer.study
    path = study.paths.transfer / "transfer.html"
    parts = {
        "Does the model hold here?": _verdict_section(found),
        "Why": _why_section(found),
        "What to do next": _next_section(found),
        "Differences": _difference_section(found),
        "Thresholds for this site": _threshold_section(found),
        "Triage": _triage_section(found),
        "Work list": _worklist_section(found),
        "Provenance": _provenance_section(found),
    }
    sections = with_terms([Section(**{**vars(each), "title": title}) for title, each in parts.items()])
    warning = phantom_warning(slides=study.manifest.is_phantom, weights=found.transfer.here.choice.phantom_weights)
    name = f"Transfer to {study.root.resolve().name}"
    write_text(path, render(name, sections, warning=warning, without_paths=study.without_paths))
    return path


def _verdict_section(found: Judgement) -> Section:
    here, labels, shift = found.transfer.here, found.transfer.labels, found.shift
    smallest = shift.frame["p_adjusted"].min() if len(shift.frame) else float("nan")
    unread = f", {here.num_unread} not read whole are left out" if here.num_unread else ", all read whole"
    random = int(labels.is_random.sum())
    closed = int((~here.is_assessable).sum())
    unread += f"; {closed} not assessable" if closed else ""
    return Section(
        lines=[found.holding.sentence],
        numbers=[
            Number(name="verdict", value=found.holding.state, range=""),
            Number(name="sections here", value=f"{here.num:,}", range=f"{here.num_slides} slides{unread}"),
            Number(
                name="sections of the reference",
                value=f"{found.transfer.reference.num:,}",
                range=f"{found.transfer.reference.num_slides} slides that the model was chosen on",
            ),
            Number(name="labelled here", value=f"{labels.sections.num:,}", range=f"{random} of them bear a promise"),
            Number(
                name="smallest p",
                value=NOT_KNOWN if pd.isna(smallest) else f"{smallest:.4f}",
                range=f"adjusted for {len(shift.frame)} measures",
            ),
        ],
        warnings=_site_warnings(found),
    )


def _site_warnings(found: Judgement) -> list[str]:
    site = found.transfer.study.site_choice
    if site is None:
        return []
    return [
        (
            f"Verdicts of this cohort are made at the site's thresholds, {site.thresholds}; this page judges the "
            "model at its own."
        )
    ]


def _why_section(found: Judgement) -> Section:
    return Section(lines=[*found.holding.why, found.triage.why, *(f"Note: {line}" for line in found.notes)])


def _next_section(found: Judgement) -> Section:
    steps = [f"{number}. {step}" for number, step in enumerate(found.next_steps, start=1)]
    if any("STUDY" in step for step in steps):
        steps.append(
            f"STUDY stands for the folder of this cohort, {found.transfer.study.root.resolve().name}: this page may "
            "leave the laboratory and names no path; the command printed the same steps with it."
        )
    return Section(lines=steps or ["Nothing that this command knows of."])


def _difference_section(found: Judgement) -> Section:
    blocks: list[TableBlock | PictureBlock] = []
    if len(found.shift.frame):
        blocks.append(
            PictureBlock(
                uri=data_uri(_chart(found), "png"),
                caption="Share of pairs of slides of which the one from here has the larger value, with 95 % "
                "intervals; shaded: the tolerance within which both are called alike.",
            )
        )
    for name, shift in {"all": found.shift, **found.by_label}.items():
        title = "All sections." if name == "all" else f"{name} sections alone, labelled at random."
        blocks.append(replace(frame_block(title, _printed_shift(shift.frame)), folded=name != "all"))
    blocks.append(_printed_slides(slides_frame(found)))
    return Section(
        lines=[
            (
                f"Whole slides are dealt out anew {NUM_PERMUTATIONS:,} times; found: adjusted p (Westfall and Young) "
                f"at most {ALPHA:g}. Sections of a slide are averaged, so that a slide counts once."
            ),
            (
                "Share of the difference: by how much the distance of both groups falls without the slide. "
                "Deviations: from the reference's median, in its median absolute deviations, scaled to standard ones."
            ),
            *([f"Not measured: {named(list(found.shift.not_measured))}."] if found.shift.not_measured else []),
        ],
        blocks=blocks,
    )


def _printed_slides(slides: pd.DataFrame) -> TableBlock:
    """Those that drive the difference; where none does, those that lie furthest from the reference."""
    drive = slides[slides["influence"] >= DRIVES]
    slides = (drive if len(drive) else slides).head(_MOST_SLIDES)
    printed = pd.DataFrame(
        {
            "slide": slides["slide_id"],
            "sections": slides["num_sections"],
            "share of the difference": [f"{each:.1%}" for each in slides["influence"]],
            "most unusual": [_WORDS.get(each, "") for each in slides["measure"]],
            "value": [f"{each:.3g}" for each in slides["value"]],
            "reference": [f"{each:.3g}" for each in slides["reference"]],
            "deviations": [f"{each:+.1f}" for each in slides["deviations"]],
        }
    )
    if len(drive):
        return frame_block(f"Slides that drive the difference, the first {len(slides)}.", printed)
    printed = printed.drop(columns="share of the difference")
    return frame_block(f"No slide drives a difference; the {len(slides)} that lie furthest.", printed)


def _printed_shift(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame.to_dict("records")
    return pd.DataFrame(
        {
            "measure": [_WORDS[row["measure"]] for row in rows],
            "reference": [f"{row['reference']:.3g}" for row in rows],
            "here": [f"{row['here']:.3g}" for row in rows],
            "share of pairs": [interval_text(Interval.from_columns(row, "share")) for row in rows],
            "p": [f"{row['p']:.4f}" for row in rows],
            "adjusted": [f"{row['p_adjusted']:.4f}" for row in rows],
            "differs": ["yes" if row["is_found"] else "not found" for row in rows],
            "within tolerance": ["yes" if row["is_alike"] else "not shown" for row in rows],
        }
    )


def _chart(found: Judgement) -> bytes:
    frame, tolerance = found.shift.frame[::-1], found.shift.tolerance
    figure = new_figure(8.0, 0.6 + 0.32 * len(frame) + 0.6, "Here against the model's reference", warning="")
    axes = figure.add_subplot()
    tidy(axes)
    places = range(len(frame))
    axes.axvspan(0.5 - tolerance, 0.5 + tolerance, color="#009e73", alpha=0.15)
    axes.axvline(0.5, color="#555555", linestyle=":")
    for place, row in zip(places, frame.to_dict("records"), strict=True):
        colour = "#d55e00" if row["is_found"] else "#0072b2"
        axes.plot([row["share_low"], row["share_high"]], [place, place], color=colour, linewidth=2)
        axes.plot([row["share"]], [place], "D" if row["is_found"] else "o", color=colour)
    axes.set_yticks(list(places), [_WORDS[name].partition(",")[0] for name in frame["measure"]])
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of pairs in which the slide from here has the larger value")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def _threshold_section(found: Judgement) -> Section:
    measured, labels = found.measured, found.transfer.labels
    if measured is None:
        return Section(lines=[f"Not chosen: {labels.lack}{labels.left_out}."])
    frame = thresholds_frame(found)
    rows = frame.to_dict("records")
    printed = pd.DataFrame(
        {
            "thresholds": ["the model's", "of this site"],
            "t_p": [f"{row['t_p']:g}" for row in rows],
            "t_A um2": [f"{row['t_a_um2']:g}" for row in rows],
            **{
                figure: [interval_text(Interval.from_columns(row, figure)) for row in rows]
                for figure in ("sensitivity", "specificity", "f_beta")
            },
            "sensitivity at least": [f"{row['sensitivity_at_least']:.3f}" for row in rows],
            "specificity at least": [f"{row['specificity_at_least']:.3f}" for row in rows],
        }
    )
    t_p, t_a = measured.t_p_range, measured.t_a_range_um2
    lines = [
        (
            f"Chosen by the study's rule and grid on {labels.sections.num} labelled sections of "
            f"{labels.sections.num_slides} slides. In 95 % of resamples of whole slides t_p is {t_p[0]:g} to "
            f"{t_p[1]:g} and t_A {t_a[0]:g} to {t_a[1]:g} um2; {measured.agreement:.0%} choose the same pair."
        ),
        (
            "Figures of this site's thresholds are of slides that did not choose them: each slide is judged by the "
            "thresholds that the others choose. Brackets: 95 % intervals over slides. At least: with a confidence of "
            "95 %, by the sections drawn at random alone, counted as so many independent ones."
        ),
        (
            f"The best sensitivity of any pair of the grid at a specificity of {measured.goal.specificity:g}: "
            f"{measured.best_sensitivity.value:.3f}, at most {measured.best_sensitivity.high:.3f}."
        ),
        *([] if measured.is_beyond_mending else [_needed_line(found)]),
    ]
    if measured.is_same:
        lines.append("These labels choose the model's own thresholds again: nothing changes, and no file is written.")
    warnings = (
        [f"No threshold mends it: a sensitivity of {measured.goal.sensitivity:g} is out of reach."]
        if measured.is_beyond_mending
        else []
    )
    if found.site_choice is not None:
        lines.append(choice_line(found, measured))
    return Section(lines=lines, warnings=warnings, blocks=[frame_block("Before and after.", printed)])


def _needed_line(found: Judgement) -> str:
    texts = []
    for figure, kind in (("sensitivity", "Tumor"), ("specificity", "Normal")):
        num, bound = found.needed[figure], found.relied_on.bounds[figure] if found.relied_on else None
        goal = getattr(found.goal, figure)
        if num is not None:
            texts.append(f"a {figure} of {goal:g} takes about {num} {kind} sections drawn at random")
        elif bound is None or not bound.num:
            texts.append(f"a {figure} of {goal:g} takes {kind} sections drawn at random, and none of these are")
        else:
            texts.append(
                f"a {figure} of {goal:g} is not promised by any number of labels: {bound.value:.1%} were right"
            )
    return f"To promise it here: {'; '.join(texts)}."


def _triage_section(found: Judgement) -> Section:
    rows = found.triage.frame.to_dict("records")
    printed = pd.DataFrame(
        {
            "promise rests on": [
                f"{row['num_promising_slides']} slides of the {'model' if row['source'] == 'model' else 'site'}"
                for row in rows
            ],
            "misses promised": [f"{row['miss_rate']:.1%}" for row in rows],
            "auto-normal": [_allowed_text(row) for row in rows],
            "below t_p": [f"{row['normal_below_t_p']:.3f}" for row in rows],
            "auto-normal sections": [f"{row['num_auto_normal']}" for row in rows],
            "for review": [f"{row['num_review']}" for row in rows],
            "slides missed here": [
                NOT_KNOWN
                if not row["num_labelled_tumor_slides"]
                else f"{row['miss_rate_here']:.1%} ({row['num_slides_missed']} of {row['num_labelled_tumor_slides']})"
                for row in rows
            ],
        }
    )
    return Section(
        lines=[
            found.triage.why,
            (
                "Misses: slides with Tumor sections of which one is auto-normal; promised with a confidence of 95 %. "
                "Missed here: by the labels, with thresholds that did not know the slide, allowed or not."
            ),
            "Where no slide may be missed so many are too few for the promise, auto-normal lies below t_p 0.",
        ],
        blocks=[frame_block("Promised, and what happened.", printed)] if rows else [],
    )


def _allowed_text(row: Mapping[Hashable, Any]) -> str:
    if not row["is_allowed"]:
        return "REFUSED" if row["normal_below_t_p"] else "no: too few slides"
    return "allowed" if row["num_auto_normal"] else "allowed, but no section is so low"


def _worklist_section(found: Judgement) -> Section:
    if found.worklist.empty:
        if more := found.transfer.labels.more_slides:
            return Section(lines=[f"Empty, as there are too few slides: {more}."])
        return Section(lines=["Empty: no assessable section is without a label, or none was asked for."])
    printed = found.worklist.drop(columns="seed").rename(columns={"slide_id": "slide", "section_id": "section"})
    return Section(
        lines=[
            (
                "Half are drawn at random over the whole cohort and bear what is promised; the others are near the "
                "decision or unlike the slides that the model was chosen on, with a quota for each slide, and tell "
                "more about thresholds."
            )
        ],
        blocks=[frame_block(f"The next {len(printed)} sections to label.", printed)],
    )


def _provenance_section(found: Judgement) -> Section:
    transfer = found.transfer
    return Section(
        blocks=[frame_block("The model.", model_facts(transfer.model, transfer.study.site_choice))],
    )
