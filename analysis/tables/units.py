"""The same verdicts counted by section, slide and patient: `python analysis/make.py units STUDY`.

A slide is Tumor if one of its sections is, and a patient if one of the slides is; for labels as for verdicts. Without
Tumor it is for review if one section is, and its label is not known if one section has none.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.study_evidence.evidence import Evidence
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
from analysis.study_evidence.table import Table, phantom_marks
from analysis.study_evidence.verdict_table import needs_labels
from analysis.tables.intervals import interval_text
from analysis.tables.verdict_counts import patients_of
from bccdist.parts import Label, Part
from bccdist.sections.verdicts import Verdict

UNITS = ("section", "slide", "patient")
_PRINTED = {"patient": "judged patient"}
"""The headline's patients are all that are named, judged or not, so these go by another word."""


def build_units(verdicts: pd.DataFrame, patients: pd.Series, beta: float, *, num_named: int | None) -> Table:
    """One row per setting and unit.

    Args:
        verdicts: from `all_verdicts`, of Test.
        patients: the patient of each slide, by slide_id; empty where the manifest names none.
        beta: of F_beta.
        num_named: the headline's patients, all whom the manifest names for Test; None where it names none.

    Raises:
        NothingToShowError: no section has a label.
    """
    if verdicts["label"].isna().all():
        raise needs_labels(verdicts, [Part.TEST])
    known = patients.reindex(verdicts["slide_id"]).fillna("").to_numpy()
    # A slide whose patient nobody named is one of its own: to join such slides would invent a patient.
    owner = np.where(known == "", "slide " + verdicts["slide_id"], "patient " + pd.Series(known, index=verdicts.index))
    verdicts = verdicts.assign(patient=owner)
    units = UNITS if (known != "").any() else UNITS[:-1]
    frame = pd.DataFrame(
        [row for _, mine in verdicts.groupby("setting", sort=False) for row in _rows(mine, units, beta)]
    )
    unnamed = int(verdicts.loc[known == "", "slide_id"].nunique())
    return Table(
        name="units",
        title=f"Sections, slides and patients of Test, with {LEVEL:.0%} intervals.",
        frame=frame,
        printed=_printed(frame, beta),
        notes=(
            (
                "A slide is Tumor if one of its sections is, a patient if one of the slides is. Without Tumor it is "
                "for review if one section is; if one has no label, its own is not known and it counts nowhere."
            ),
            *_patient_notes(frame, num_named=num_named),
            f"{NUM_RESAMPLES:,} resamples of whole patients, of slides where none is named, seed {SEED}.",
            *([_unnamed_note(unnamed, num_named=num_named)] if unnamed else []),
            *few_slides_notes({"Test": int(verdicts["slide_id"].nunique())}),
        ),
    )


def _unnamed_note(num_slides: int, *, num_named: int | None) -> str:
    note = f"{num_slides} slide(s) name no patient in slides.csv; each counts as one of its own"
    return f"{note}, as sections of several patients may share a slide." if num_named else f"{note}."


def _patient_notes(frame: pd.DataFrame, *, num_named: int | None) -> Iterator[str]:
    """How the number of patients of this table and that of the headline came about."""
    judged = frame.loc[frame["unit"] == "patient", "num_units"]
    if judged.empty:
        return
    yield (
        f"Judged patients ({judged.max()}): whom slides.csv names for a slide with a section here, and each slide "
        f"that names none as one. The headline's patients named ({num_named}) are all whom slides.csv or sections.csv "
        "name for Test, judged or not."
    )


def _rows(verdicts: pd.DataFrame, units: tuple[str, ...], beta: float) -> Iterator[dict[str, Any]]:
    clusters = pd.Index(sorted(set(verdicts["patient"])))
    draws = draw_slides(len(clusters))
    for unit in units:
        counted = verdicts if unit == "section" else _joined(verdicts, "slide_id" if unit == "slide" else "patient")
        # Resampled by patient whatever is counted: slides of one patient are alike, too.
        by_cluster = counts_by_slide(counted.assign(slide_id=counted["patient"]), clusters)
        found, sums = intervals(by_cluster, draws, beta), total(by_cluster)
        yield {
            "setting": verdicts["setting"].iloc[0],
            "unit": unit,
            **sums.counts,
            "num_review": int((counted["label"].notna() & (counted["verdict"] == Verdict.REVIEW.value)).sum()),
            "num_unlabelled": int(counted["label"].isna().sum()),
            "num_units": len(counted),
            **{key: value for name in FIGURES for key, value in found[name].columns(name).items()},
            **phantom_marks(verdicts),
        }


def _joined(verdicts: pd.DataFrame, by: str) -> pd.DataFrame:
    """One row per slide or patient, with its own label and verdict."""
    groups = verdicts.groupby(by, sort=True)
    return pd.DataFrame(
        {
            "patient": groups["patient"].first(),
            "label": groups["label"].agg(_label),
            "verdict": groups["verdict"].agg(_verdict),
        }
    ).reset_index(drop=True)


def _label(labels: pd.Series) -> str | None:
    if (labels == Label.TUMOR.value).any():
        return Label.TUMOR.value
    return None if labels.isna().any() else Label.NORMAL.value


def _verdict(verdicts: pd.Series) -> str:
    found = set(verdicts)
    return next(each.value for each in (Verdict.TUMOR, Verdict.REVIEW, Verdict.NORMAL) if each.value in found)


def _printed(frame: pd.DataFrame, beta: float) -> pd.DataFrame:
    titles = dict(zip(FIGURES, (*FIGURES[:-1], f"F_{beta:g}"), strict=True))
    rows = frame.to_dict("records")
    return pd.DataFrame(
        {
            "setting": frame["setting"],
            "of": frame["unit"].replace(_PRINTED),
            "number": frame["num_units"].astype(str),
            **{name.upper(): frame[name].astype(str) for name in ("tp", "fn", "fp", "tn")},
            "review": frame["num_review"].astype(str),
            "no label": frame["num_unlabelled"].astype(str),
            **{
                title: [interval_text(Interval.from_columns(row, name)) for row in rows]
                for name, title in titles.items()
            },
        }
    )


def write_units(study: Evidence) -> Table:
    """Write the verdicts on Test counted by section, by slide and by patient.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or it has no labels.
    """
    verdicts = study.verdicts(Part.TEST)
    patients = pd.Series({slide.slide_id: slide.patient_id for slide in study.manifest.slides}, dtype=object)
    named = patients_of(study.manifest, Part.TEST).num
    return study.write(build_units(verdicts, patients, study.choices[0].beta, num_named=named))
