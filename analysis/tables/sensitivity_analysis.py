"""Figures on Test with what is left out or in doubt: `python analysis/make.py sensitivity_analysis STUDY`.

Figures leave out sections for review, slides that failed, sections that were dropped, and those without a label, as
readers were unsure or differed or nobody looked. Each kind is put in as if all of its verdicts were right, and as if
all were wrong; so are labelled sections on which readers do not agree, which are also taken out. The truth lies
between.
"""

from collections.abc import Collection, Iterator
from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.readings import LabelState, Readings, label_states, readings_of
from analysis.study_evidence.resampling import (
    FIGURES,
    LEVEL,
    NUM_RESAMPLES,
    SEED,
    Interval,
    counts_by_slide,
    draw_slides,
    few_slides_notes,
    intervals,
    total,
)
from analysis.study_evidence.slide_states import SlideState, slide_states
from analysis.study_evidence.table import Table, phantom_marks
from analysis.study_evidence.verdict_table import needs_labels, no_rows
from analysis.tables.intervals import interval_text
from bccdist.parts import Label, Part
from bccdist.sections.labels import SectionKey, key_of
from bccdist.sections.verdicts import Verdict
from bccdist.slides.manifest import SectionRecord

AS_REPORTED, ALL = "as reported", "all of these"
KINDS = {
    "review": "for review: not read whole or not assessable, and no tumor found",
    "no verdict": "on slides that failed, were not worked on, or have no section",
    "dropped": "named in sections.csv or labels.csv, but not among the sections that were judged",
    "unsure": "without a label, as who looked was unsure",
    "conflict": "without a label, as readers differ",
    "no label": "without a label, as nobody looked",
    "disputed": "labelled, but not every reader says so",
}
"""What is left out of figures or in doubt."""
LEFT_OUT, RIGHT, WRONG, AS_TUMOR, AS_NORMAL = "left out", "as if right", "as if wrong", "called Tumor", "called Normal"
_OTHER = {Label.TUMOR.value: Label.NORMAL.value, Label.NORMAL.value: Label.TUMOR.value}
_NO_VERDICT = ""


def sections_in_doubt(
    verdicts: pd.DataFrame,
    missing: pd.DataFrame,
    states: dict[SectionKey, LabelState],
    readings: Readings,
) -> pd.DataFrame:
    """All sections of one setting with the kind of doubt that there is: slide_id, label, verdict, kind.

    Args:
        verdicts: of Test under the setting.
        missing: from `missing_sections`.
        states: why sections have no label.
        readings: what each reader said.
    """
    there = verdicts[["slide_id", "section_id", "label", "verdict"]].assign(kind="")
    frame = pd.concat([there, missing.assign(verdict=_NO_VERDICT)], ignore_index=True)
    # Pandas tells a missing text from None by its own kinds; here there is one.
    frame["label"] = frame["label"].astype(object).where(frame["label"].notna(), None)
    frame["kind"] = [_kind(row, states, readings) for row in frame.to_dict("records")]
    return frame


def _kind(row: dict[Any, Any], states: dict[SectionKey, LabelState], readings: Readings) -> str:
    key = (row["slide_id"], row["section_id"])
    if row["kind"]:
        return str(row["kind"])
    if row["label"] is None:
        state = states.get(key, LabelState.UNLABELLED)
        return LabelState.UNLABELLED.value if state is LabelState.LABELLED else state.value
    if row["verdict"] == Verdict.REVIEW.value:
        return "review"
    said = {mine[key] for mine in readings.values() if key in mine}
    return "disputed" if said - {row["label"]} else ""


def build_sensitivity_analysis(doubts: dict[str, pd.DataFrame], beta: float, marks: dict[str, bool]) -> Table:
    """One row per setting, kind of doubt and case.

    Args:
        doubts: from `sections_in_doubt`, by setting.
        beta: of F_beta.
        marks: whether slides or weights are phantoms.
    """
    frame = pd.DataFrame(
        [{"setting": setting, **row, **marks} for setting, sections in doubts.items() for row in _rows(sections, beta)]
    )
    kinds = [kind for kind in KINDS if (frame["kind"] == kind).any()]
    return Table(
        name="sensitivity_analysis",
        title=f"Test with what is left out or in doubt put in, with {LEVEL:.0%} intervals.",
        frame=frame,
        printed=_printed(frame, beta),
        notes=(
            *([f"Sections {'; '.join(f'{KINDS[kind]} ({kind})' for kind in kinds)}."] if kinds else []),
            (
                "As if right, as if wrong: all verdicts of the kind, also those that are not there. The truth lies "
                "between, whatever the reasons are."
                if kinds
                else "Nothing is left out or in doubt: every section of every slide has a label and a verdict."
            ),
            *_neither_notes(frame),
            f"{NUM_RESAMPLES:,} resamples of whole slides, seed {SEED}.",
            *few_slides_notes({"Test": int(frame["num_slides"].min())}),
        ),
    )


def _neither_notes(frame: pd.DataFrame) -> Iterator[str]:
    if most := int(frame["num_neither"].max()):
        yield (
            f"Up to {most} sections have neither label nor verdict; each counts against, or for, every figure that it "
            "could belong to. A slide without a verdict of which no section is known counts as one section."
        )


def _rows(sections: pd.DataFrame, beta: float) -> Iterator[dict[str, Any]]:
    kinds = [kind for kind in KINDS if (sections["kind"] == kind).any()]
    yield _row(sections, AS_REPORTED, (), LEFT_OUT, beta)
    for kind in kinds:
        if kind == "disputed":
            yield _row(sections, kind, [kind], LEFT_OUT, beta)
        yield _row(sections, kind, [kind], RIGHT, beta)
        yield _row(sections, kind, [kind], WRONG, beta)
        if kind == "review":
            yield _row(sections, kind, [kind], AS_TUMOR, beta)
            yield _row(sections, kind, [kind], AS_NORMAL, beta)
    if len(kinds) > 1:
        yield _row(sections, ALL, kinds, RIGHT, beta)
        yield _row(sections, ALL, kinds, WRONG, beta)


def _row(sections: pd.DataFrame, name: str, kinds: Collection[str], case: str, beta: float) -> dict[str, Any]:
    is_meant = sections["kind"].isin(list(kinds))
    # Slides without a verdict are among the slides that are drawn only where they are put in.
    others = sections[~is_meant & (sections["verdict"] != _NO_VERDICT)]
    meant = sections[is_meant]
    neither = meant[meant["label"].isna() & ~meant["verdict"].isin(list(_OTHER))]
    known = pd.concat([others, _as_if(meant.drop(neither.index), case)])
    # What has neither label nor verdict may be of either kind: for sensitivity Tumor, for specificity Normal.
    found = [_intervals(pd.concat([known, _as_if(neither.assign(label=label), case)]), beta) for label in _OTHER]
    figures = {
        "accuracy": found[0]["accuracy"],
        "sensitivity": found[0]["sensitivity"],
        "specificity": found[1]["specificity"],
        "f_beta": (max if case == RIGHT else min)((each["f_beta"] for each in found), key=lambda each: each.value),
    }
    counts = _by_slide(known)
    return {
        "kind": name,
        "case": case,
        "num_meant": len(meant),
        "num_neither": len(neither),
        **total(counts[0]).counts,
        **{key: value for figure in FIGURES for key, value in figures[figure].columns(figure).items()},
        "num_slides": len(counts[1]),
    }


def _as_if(meant: pd.DataFrame, case: str) -> pd.DataFrame:
    """Sections as a case takes them."""
    if case == LEFT_OUT:
        return meant.iloc[:0]
    if case in (AS_TUMOR, AS_NORMAL):
        return meant.assign(verdict=case.removeprefix("called "))
    has_verdict = meant["verdict"].isin(list(_OTHER))
    # Where there is a verdict the label is what is in doubt, elsewhere the verdict.
    agreed = meant["verdict"].where(has_verdict, meant["label"])
    against = agreed.map(_OTHER)
    wrong_label, wrong_verdict = agreed.where(~has_verdict, against), agreed.where(has_verdict, against)
    if case == RIGHT:
        return meant.assign(label=agreed, verdict=agreed)
    return meant.assign(label=wrong_label, verdict=wrong_verdict)


def _by_slide(sections: pd.DataFrame) -> tuple[Any, pd.Index]:
    labelled = sections[sections["label"].notna()]
    slide_ids = pd.Index(sorted(set(labelled["slide_id"])))
    return counts_by_slide(labelled, slide_ids), slide_ids


def _intervals(sections: pd.DataFrame, beta: float) -> dict[str, Interval]:
    by_slide, slide_ids = _by_slide(sections)
    return intervals(by_slide, draw_slides(len(slide_ids)), beta)


def _printed(frame: pd.DataFrame, beta: float) -> pd.DataFrame:
    titles = dict(zip(FIGURES, (*FIGURES[:-1], f"F_{beta:g}"), strict=True))
    rows = frame.to_dict("records")
    return pd.DataFrame(
        {
            "setting": frame["setting"],
            "sections": frame["kind"],
            "number": [str(row["num_meant"]) if row["kind"] != AS_REPORTED else "" for row in rows],
            "taken": ["" if row["kind"] == AS_REPORTED else row["case"] for row in rows],
            **{
                title: [interval_text(Interval.from_columns(row, name)) for row in rows]
                for name, title in titles.items()
            },
        }
    )


def missing_sections(study: Evidence, slides: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Sections without a verdict: slide_id, section_id, label, and kind, which is no verdict or dropped.

    Of a slide without a verdict on which no section is known there is one row without a name.

    Args:
        study: the study.
        slides: rows of `slide_states` of Test, of one setting.
        verdicts: of Test under the setting.
    """
    states = dict(zip(slides["slide_id"], slides["state"], strict=True))
    judged = set(zip(verdicts["slide_id"], verdicts["section_id"], strict=True))
    rows = [
        {
            "slide_id": section.slide_id,
            "section_id": section.section_id,
            "label": None if section.label is None else section.label.value,
            "kind": "dropped" if states[section.slide_id] == SlideState.DONE.value else "no verdict",
        }
        for key, section in {key_of(each): each for each in _named(study)}.items()
        if section.slide_id in states and key not in judged
    ]
    known = {row["slide_id"] for row in rows}
    rows += [
        {"slide_id": slide_id, "section_id": "", "label": None, "kind": "no verdict"}
        for slide_id, state in states.items()
        if state != SlideState.DONE.value and slide_id not in known
    ]
    return pd.DataFrame(rows, columns=["slide_id", "section_id", "label", "kind"])


def _named(study: Evidence) -> list[SectionRecord]:
    """All sections that the manifest or a correction names."""
    return [*study.labelled_manifest.sections, *study.lost_corrections]


def write_sensitivity_analysis(study: Evidence) -> Table:
    """Write what the figures on Test would be with what is left out or in doubt, at its best and at its worst.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or it has no labels.
    """
    verdicts = study.verdicts(Part.TEST)
    if verdicts["label"].isna().all():
        raise needs_labels(verdicts, [Part.TEST])
    states = slide_states(study)
    slides = states[states["part"] == Part.TEST.value]
    if slides.empty:
        raise no_rows([Part.TEST], study.choices)
    why, readings = label_states(study), readings_of(study)
    doubts = {
        str(setting): sections_in_doubt(
            mine, missing_sections(study, slides[slides["setting"] == setting], mine), why, readings
        )
        for setting, mine in verdicts.groupby("setting", sort=False)
    }
    return study.write(build_sensitivity_analysis(doubts, study.choices[0].beta, phantom_marks(verdicts)))
