"""The parquet files of a study, column by column: `python analysis/make.py schemas` writes docs/parquet.md.

Every file that the analysis writes is described here, and is written with these words in its metadata: as a whole
`bccdist.schema` and `bccdist.schema_version`, and at each column `description`. A column that is not described here is
refused. When a column's meaning changes, or one goes, the version of its file goes up; a new column leaves it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import tyro

from bccdist.audit import table as audit
from bccdist.configuration import SETTINGS
from bccdist.errors import LedgerError
from bccdist.files import write_text
from bccdist.sections import ledger
from bccdist.shard_set import index as shard_set
from bccdist.slides.quality_measures import MEASURES
from bccdist.training.reporting import metrics

DOCUMENT = Path(__file__).parents[2] / "docs" / "parquet.md"
WORDS = {
    "setting": "unet, resnet34, resnet34_ds or resnet34_linear",
    "epoch": "the chosen weights' epoch; the first is 1",
    "psi": "the output: psi_0 to psi_4, or merged",
    "is_final": "whether this psi is the setting's own output",
    "t_p": "prediction threshold, 0 to 1",
    "t_a_um2": "area threshold, um2",
    "site_choice": "digest of the site's own choice of t_p and t_A; empty where they are the model's",
    "tp": "Tumor sections called Tumor",
    "fn": "Tumor sections called Normal",
    "fp": "Normal sections called Tumor",
    "tn": "Normal sections called Normal",
    "accuracy": "share of right verdicts, 0 to 1; null where there is none",
    "sensitivity": "share of Tumor sections called Tumor; null where there is none",
    "specificity": "share of Normal sections called Normal; null where there is none",
    "precision": "share of Tumor verdicts that are right; null where there is none",
    "f_beta": "F_beta of the verdicts (eq. 3)",
    "beta": "beta of F_beta: above 1 favours sensitivity",
    "num_review": "sections for review: not read whole or not assessable, no tumor found; in none of the four counts",
    "num_sections": "labelled sections",
    "num_unlabelled": "sections without a label, which count nowhere",
    "num_slides": "slides of the sections",
    "num_changed": "verdicts that differ from those of the setting's own output",
    "epochs_done": "epochs of the run that were done when its best ones were compared",
    "area_unit": "physical: um2 by the slide's um per pixel; nominal: 1 um per pixel",
    "weights_digest": "first 12 hex digits of the weights' SHA-256",
    "phantom": "true where any slide is drawn: not tissue",
    "phantom_weights": "true where a network was trained on drawn slides, whatever the slides are",
    "part": "Training, Validation I, Validation II or Test",
    "slide_id": "the slide, as in slides.csv",
    "section_id": "the section, as in sections.csv, or slide_id-sN for found ones",
    "verdict": "Tumor, Normal or review",
    "area_um2": "area of the largest region at t_p, um2",
    "area_difference_um2": "area_um2 less t_a_um2: how far the largest region is from t_A, negative where it is "
    "smaller; Tumor stays Tumor for every t_A that is greater by no more than this",
    "area_factor": "area_um2 as a multiple of t_a_um2: at least 1 where the section is Tumor; 0 without a region; inf "
    "for any region where t_a_um2 is 0",
    "flip_shift": "the smallest shift of all stored probabilities, in multiples of 1 / 255 up to 1, that would change "
    "the verdict at this t_p and t_A: downwards for Tumor, upwards to Tumor for Normal and review; of what was read "
    "alone; inf where no shift changes it, as no probability above 0 makes a region of t_A. Not a margin",
    "flip_shift_min": "smallest flip_shift of the sections; inf where no shift changes any verdict",
    "flip_shift_q1": "lower quartile of flip_shift, a value that occurs",
    "flip_shift_median": "median of flip_shift, a value that occurs",
    "flip_shift_q3": "upper quartile of flip_shift, a value that occurs; inf where no shift changes that verdict",
    "num_flip_below_0_02": "sections with a flip_shift below 0.02",
    "num_flip_below_0_05": "sections with a flip_shift below 0.05",
    "num_never_flip": "sections whose verdict no shift of probability changes",
}
"""What columns mean that several files have."""
_COUNTS = ("tp", "fn", "fp", "tn")
_FIGURES = (*_COUNTS, "accuracy", "sensitivity", "specificity", "f_beta")
_SUMMARY = (
    *_FIGURES,
    "num_review",
    "num_sections",
    "num_unlabelled",
    "num_slides",
    "beta",
    "phantom",
    "phantom_weights",
)
_FLIPS = (
    *("flip_shift_min", "flip_shift_q1", "flip_shift_median", "flip_shift_q3"),
    *("num_flip_below_0_02", "num_flip_below_0_05", "num_never_flip"),
)
_CHOICE = ("setting", "epoch", "t_p", "t_a_um2")


@dataclass(frozen=True, kw_only=True)
class Schema:
    """One file's columns."""

    name: str
    about: str
    """What one row is."""
    columns: Mapping[str, str]
    """The meaning of each."""
    folder: str
    """Where it is written within the study."""
    version: int = 1


_VERSIONS = {"triage": 2}
"""Of files of which a column has come to mean something else."""


def file_schema(name: str, about: str, shared: Sequence[str] = (), /, *, folder: str = "tables", **own: str) -> Schema:
    """One file: columns that mean what `WORDS` says, and after them those that mean something here alone."""
    columns = {**{each: WORDS[each] for each in shared}, **own}
    return Schema(name=name, about=about, folder=folder, columns=columns, version=_VERSIONS.get(name, 1))


def _from_ledger(*names: str) -> dict[str, str]:
    """Columns that are the section ledger's."""
    return {name: ledger.SCHEMA.field(name).metadata[b"description"].decode() for name in names}


def _words(*names: str) -> dict[str, str]:
    """Columns that mean what `WORDS` says, for places among others."""
    return {name: WORDS[name] for name in names}


_BOX = ("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px")
_UM_PER_PX = "um per pixel of the picture as it was read"
_PATCH_SHARED = ("slide_id", "setting", "epoch", "psi", "t_p", "weights_digest", "phantom", "phantom_weights")
_PATCH_OUTPUT = {
    "key": "the patch, as in the shard set's index",
    "x_level0_px": "left edge of the patch",
    "y_level0_px": "top edge of the patch",
    "width_level0_px": "width of the patch",
    "height_level0_px": "height of the patch",
    "um_per_px": _UM_PER_PX,
    "tumornest_share": "share of the patch that is annotated as Tumornest",
    "mask_share": "share of the patch with a probability of at least t_p",
    "iou": "intersection over union of the two, in this patch alone",
    "max_probability": "highest probability in the patch",
    "mean_probability": "mean probability of the patch",
}
_SHOWN_SHARED = (*("slide_id", "section_id", "part", "psi"), *_CHOICE)
_SHOWN_SECTION = {
    **_from_ledger(*_BOX, "label", "max_probability", "weights_digest", "phantom", "phantom_weights"),
    "verdict": "Tumor, Normal or review",
    "area_um2": "area of the largest region at t_p, um2",
    "um_per_px": _UM_PER_PX,
}
_SELECTED = (
    *(*_CHOICE, *_FIGURES, "num_review", "psi", "num_sections", "num_slides", "beta", "area_unit"),
    "epochs_done",
)


def _with_ends(meanings: Mapping[str, str]) -> dict[str, str]:
    """Figures, each with the ends of its interval in two further columns."""
    ends = {"": "", "_low": "lower end of its 95 % interval", "_high": "upper end of its 95 % interval"}
    return {f"{name}{end}": text or meaning for name, meaning in meanings.items() for end, text in ends.items()}


_STATE_SUMS = {
    "num_sections": "sections, labelled or not",
    "num_tumor": "sections called Tumor",
    "num_normal": "sections called Normal",
    "num_labelled": "sections with a label",
    "num_unsure": "sections without a label, as those who saw them could not say",
    "num_conflict": "sections without a label, as those who saw them differ",
    "num_unread": "sections whose tissue was not read whole",
    "tissue_um2": "area of the sections' tissue, um2",
}
SCHEMAS = {
    schema.name: schema
    for schema in (
        file_schema(
            "grid",
            "one cell of the selection's grid: a setting, an epoch, t_p and t_A, on Validation I + II",
            (*_CHOICE, *_FIGURES, "num_review"),
        ),
        file_schema(
            "selection",
            "what was chosen for a setting, with its figures on Validation I + II; a cohort whose site chose "
            "thresholds of its own has these here, and a column `site_choice` with the digest of that choice",
            (*_SELECTED, "weights_digest", "phantom", "phantom_weights"),
        ),
        file_schema(
            "table1",
            "one part of the data",
            ("part", "phantom"),
            num_slides="slides of the part",
            num_annotated="slides with annotations",
            num_tumor="sections labelled Tumor",
            num_normal="sections labelled Normal",
            num_unlabelled="sections in sections.csv without a label",
            num_slides_without_sections="slides that sections.csv does not name",
            num_prefilled="sections whose label a model had filled in before a person saw them",
        ),
        file_schema(
            "reference_standard",
            "a part's sections with one and the same reader, or readers who answered all of them",
            ("part", "phantom"),
            num_sections="sections, labelled or not",
            labelled_by="who labelled them, several with '; ' between; not named, or nobody where they have no label",
            num_tumor="sections labelled Tumor",
            num_normal="sections labelled Normal",
            num_unsure="sections that somebody saw and gave no label, or decided that nobody can",
            num_conflict="sections on which readers differ and nobody has decided, so that they have no label",
            num_unlabelled="sections of which nobody said anything",
            num_prefilled="sections whose label a model had filled in before, as far as that is noted",
            num_blind="sections whose label rests on answers alone that came before the model's verdict was shown, as "
            "far as that is known; null where no review was held in the study",
            first_labelled_at="the first date among them, as it was given; empty where none is",
            last_labelled_at="the last date among them",
        ),
        file_schema(
            "agreement",
            "two readers on the sections of a part that both answered",
            ("part", "num_slides", "phantom"),
            one="a reader",
            other="another reader",
            num_sections="sections to which both said Tumor or Normal",
            num_unsure="sections that both answered, at least one of them with unsure",
            num_agreed="sections to which both said the same",
            num_blind="of num_sections, those to which both said it before the model's verdict was shown; null where "
            "no review was held in the study",
            agreement="num_agreed / num_sections; null without any",
            **_with_ends(
                {"kappa": "Cohen's kappa; null where both gave all sections one label, or decided none together"}
            ),
        ),
        file_schema(
            "checklists",
            "one thing that reporting guidelines ask",
            ("phantom", "phantom_weights"),
            topic="what is asked, in words of our own",
            stard_ai="our numbers for it in STARD-AI (2025), not checked against the publication; empty where that "
            "does not ask for it",
            claim="our numbers for it in CLAIM (2024), not checked against the publication, whose list could not be "
            "found here; empty likewise",
            tripod_ai="our numbers for it in TRIPOD+AI (2024), not checked against the publication; empty likewise",
            state="answered, in part, or open: only the authors can answer it",
            where="the part of the report; empty where it is open",
            answer="what the study knows of it; empty where it is open",
            left_open="what the authors have to add",
        ),
        file_schema(
            "table2",
            "one pool of training patches, or their total",
            ("phantom",),
            pool="tumor_free, tumor, tumor_dense, stroma, normal or total",
            num_patches="patches in the pool, before balancing",
            num_draws="draws of the pool in an epoch of the default balance",
            unbalance_before="tumor-free pixels per tumor pixel over the different patches; equal in all rows",
            unbalance_after="the same, expected over an epoch's draws",
        ),
        file_schema(
            "table3",
            "what was chosen for a setting, as in selection.parquet",
            (*_SELECTED, "weights_digest", "phantom", "phantom_weights"),
        ),
        file_schema(
            "verdict_counts",
            "the slides and sections of a part under one chosen model, labelled or not",
            ("part", *_CHOICE, "num_review", "phantom", "phantom_weights"),
            num_slides="slides of the part, in the manifest or the ledger",
            num_patients="patients named: whom slides.csv or sections.csv name for the part's slides, judged or not; "
            "null if none; units counts judged ones",
            num_slides_without_patient="slides of the part of which no patient is named",
            num_done="of them, those with sections in the ledger",
            num_failed="of them, those that failed",
            num_not_there="of them, those that were not worked on, or whose rows are gone",
            num_without_section="of them, those on which no section was found",
            **_STATE_SUMS,
            unread_um2="tissue of the sections that was not read, um2",
        ),
        file_schema(
            "slides",
            "one slide under one chosen model",
            ("part", "setting", "epoch", "slide_id", "num_review", "phantom", "phantom_weights"),
            state="done; failed; not there: not worked on, or its rows are gone; or no section: none was found on it",
            reason="why it failed; empty where it did not",
            **_STATE_SUMS,
            coverage="share of the sections' tissue that was read; null without a section",
            **_from_ledger("reader", "why_openslide", "read_s", "network_s"),
        ),
        file_schema(
            "reached",
            "the sections of a part under one chosen model and one certificate, or none",
            ("part", "setting", "epoch", "num_sections", "phantom", "phantom_weights"),
            num_exact="verdicts of the exact way alone",
            num_certified="verdicts of a fast way, certified to be the exact ones",
            num_recomputed="verdicts computed exactly, as the fast way could not settle them",
            num_checked="verdicts computed exactly though they were certified",
            num_outside="verdicts computed exactly, as their slide lies outside of what was calibrated",
            num_fast="verdicts of a fast way of which nothing is claimed",
            levels="d, the bound in probability steps; null without a certificate",
            confidence="with which the bound holds for a further slide; null likewise",
            num_slides_calibrated="slides that the bound rests on; null likewise",
            num_slides_compared="slides with sections that were computed in both ways",
            num_slides_outside="of them, those with a section whose exact curve lies further off than d",
            most_outside="the largest share of slides outside that this leaves open, with 95 % confidence",
            bound="holds, broken, or too few: what the comparison says of d; empty without a certificate",
        ),
        file_schema(
            "table4",
            "one chosen model on Test",
            (*_CHOICE, *_SUMMARY, "weights_digest"),
            median_read_s="seconds that reading a slide took, the median of its slides",
            median_network_s="seconds that the network took for a slide, the median; beside reading",
        ),
        file_schema(
            "table5",
            "one output of a chosen model on Test",
            ("setting", "psi", "is_final", *_SUMMARY, "num_changed"),
            num_to_tumor="verdicts that this output turns from Normal or review to Tumor",
            num_to_normal="verdicts that this output turns from Tumor to Normal or review",
            patch_s="seconds a patch of 512 px takes up to this output, float32 eager, by the speed-up record; "
            "null without one",
        ),
        file_schema(
            "merge_weights",
            "one decoder block in the linear merge (eq. 2)",
            ("setting", "epoch", "phantom"),
            psi="psi_0 to psi_4",
            merge_weight="w as learned",
            score_std="standard deviation of Tumor's score minus Normal's over the measured patches; null "
            "without a speed-up record",
            effect="merge_weight times score_std: how far the block moves the merged score; null likewise",
        ),
        file_schema(
            "section_verdicts",
            "one section under one output of a chosen model; is_final tells the output that decides",
            ("slide_id", "section_id", "part", "setting", "epoch", "psi", "is_final", "t_p", "t_a_um2"),
            **_words("site_choice"),
            **_from_ledger(
                *("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px"),
                *("label", "labelled_by", "labelled_at", "prefilled", "tissue_um2", "coverage"),
                *("max_probability", "p99_probability", "reached_by", "levels_apart"),
                *("certificate_levels", "certificate_confidence", "certificate_num_slides"),
                *MEASURES,
                "not_assessable",
                *("weights_digest", "phantom", "phantom_weights"),
                *("read_s", "network_s"),
            ),
            **_words("area_um2", "area_difference_um2", "area_factor"),
            tumor_until="the highest t_p at which the section is Tumor with this t_A; 0 for none",
            **_words("flip_shift"),
            ledger_margin_um="smallest distance from a pixel of at least t_p to the edge of the tissue, um; "
            "null without any; research use only",
            verdict="Tumor, Normal or review",
            correct="whether verdict and label agree; null without a label, or for review",
        ),
        file_schema(
            "intervals",
            "one figure of one output on some parts, with its interval over resampled slides",
            ("setting", "psi", "is_final", "num_sections", "num_slides", "phantom", "phantom_weights"),
            part="Test, or Validation I + II",
            figure="accuracy, sensitivity, specificity or f_beta",
            value="of the sections as they are",
            low="lower end of the 95 % interval",
            high="upper end of the 95 % interval",
        ),
        file_schema(
            "beside_paper",
            "one row of the paper's Table 3, 4 or 5 with the study's figures",
            ("setting", "psi", "num_sections", "num_slides", "phantom", "phantom_weights"),
            table="Table 3, Table 4 or Table 5",
            **{
                f"{name}{suffix}": f"{name} {text}"
                for name in ("accuracy", "sensitivity", "specificity", "f_beta")
                for suffix, text in (
                    ("_paper", "as the paper prints it, a text"),
                    ("", "of the study"),
                    ("_low", "of the study, lower end of its 95 % interval"),
                    ("_high", "of the study, upper end"),
                )
            },
        ),
        file_schema(
            "comparisons",
            "a pair of models on the Test sections that both judge",
            ("num_slides", "phantom", "phantom_weights"),
            one="a setting, or a setting and one of its outputs",
            other="a setting",
            num_sections="labelled sections that both call Tumor or Normal",
            num_only_one_right="sections on which only the first is right",
            num_only_other_right="sections on which only the second is right",
            p="two-sided p-value that both have the same accuracy, by resampled slides",
            p_adjusted="p adjusted for the number of pairs by Holm's rule",
            mcnemar_p="McNemar's exact two-sided p, which takes sections as independent",
            mcnemar_p_adjusted="mcnemar_p adjusted for the number of pairs by Holm's rule",
            **{
                f"{name}_difference{suffix}": f"{name} of the first minus the second's{text}"
                for name in ("accuracy", "sensitivity", "specificity", "f_beta")
                for suffix, text in (
                    ("", ""),
                    ("_low", ": lower end of the 95 % interval over resampled slides"),
                    ("_high", ": upper end"),
                )
            },
            is_resolved="whether the interval of the accuracy's difference excludes 0",
        ),
        file_schema(
            "roc_curves",
            "one setting at one stored probability as t_p, on Test",
            (
                "setting",
                "t_p",
                "t_a_um2",
                *_COUNTS,
                "sensitivity",
                "specificity",
                "precision",
                "phantom",
                "phantom_weights",
            ),
        ),
        file_schema(
            "roc",
            "the areas under a setting's curves on Test",
            ("setting", "t_a_um2", "num_slides", "phantom", "phantom_weights"),
            roc_auc="area under the ROC curve over all t_p",
            roc_auc_low="lower end of its 95 % interval over resampled slides",
            roc_auc_high="upper end",
            average_precision="mean precision over the Tumor sections, each at its own threshold",
            average_precision_low="lower end of its 95 % interval over resampled slides",
            average_precision_high="upper end",
            num_tumor="sections labelled Tumor",
            num_normal="sections labelled Normal",
        ),
        file_schema(
            "roc_bands",
            "one place of a setting's ROC or precision-recall curve on Test, with its band",
            ("setting", "phantom", "phantom_weights"),
            curve="roc or precision_recall",
            x="roc: 1 - specificity; precision_recall: sensitivity",
            y="roc: the highest sensitivity there, straight between thresholds; precision_recall: precision of the "
            "highest threshold that finds so many",
            low="lower end of its 95 % interval over resampled slides, at this place alone",
            high="upper end",
        ),
        file_schema(
            "reliability_bins",
            "the Test sections of a setting with a probability in one tenth",
            ("setting", "phantom", "phantom_weights"),
            probability_low="where the tenth begins",
            probability_high="where it ends",
            mean_probability="mean of the highest t_p at which its sections are Tumor",
            **_with_ends({"tumor_share": "share of its sections that are labelled Tumor"}),
            num_sections="its sections",
            num_slides="their slides",
        ),
        file_schema(
            "reliability",
            "a setting's calibration on Test",
            ("setting", "num_sections", "num_slides", "phantom", "phantom_weights"),
            calibration_error="mean distance of mean_probability and tumor_share over the tenths, by sections",
            brier_score="mean squared distance of probability and label",
            brier_score_of_share="the same for always saying the share of Tumor",
            **_with_ends(
                {
                    "intercept": "what has to be added to the logit of each probability, its slope held at 1, so that "
                    "as many Tumor sections are expected as there are: calibration in the large, best 0",
                    "slope": "factor of the logit that is most likely, with an intercept of its own, best 1; null "
                    "where slope_outcome is not fitted",
                }
            ),
            slope_outcome="fitted; separated: the probability tells all Tumor from all Normal sections, so no finite "
            "slope fits best; or one value: all probabilities are the same",
        ),
        file_schema(
            "decision_curve",
            "a setting on Test at one threshold probability",
            ("setting", "num_slides", "phantom", "phantom_weights"),
            threshold="threshold probability: how likely tumor must be before one acts on a section; a false alarm "
            "costs threshold / (1 - threshold) of a tumor found",
            treat_all="net benefit of acting on every section; of acting on none it is 0",
            **_with_ends(
                {
                    "by_score_net_benefit": "tumors found less priced false alarms, for each section, where one acts "
                    "on scores (the highest t_p at which a section is Tumor with t_A) of at least the threshold",
                    "by_score_gain": "by_score_net_benefit less the better of treat_all and 0",
                    "as_chosen_net_benefit": "the same where one acts on sections that are Tumor at the chosen t_p",
                    "as_chosen_gain": "as_chosen_net_benefit less the better of treat_all and 0",
                }
            ),
            num_tumor="sections labelled Tumor",
            num_sections="labelled sections that were read whole",
        ),
        file_schema(
            "error_groups",
            "one group of Test sections under one chosen model",
            ("setting", *_COUNTS, "num_review", "num_sections", *_FLIPS, "phantom", "phantom_weights"),
            kind="slide, area, flip_shift or prefilled",
            group="the slide_id; the largest region's area in multiples of t_A; the verdict's flip_shift; or the "
            "pre-filled label",
            error_share="share of the judged sections that are wrong",
        ),
        file_schema(
            "flip_shifts",
            "the sections of one part with one verdict by a chosen model, or all of its sections",
            ("setting", "part", "t_p", "t_a_um2", *_FLIPS, "phantom", "phantom_weights"),
            verdict="Tumor, Normal, review or all",
            num_sections="sections with this verdict, labelled or not",
        ),
        file_schema(
            "nearest_verdicts",
            "one of the verdicts of a chosen model that the smallest shifts of probability would change",
            ("slide_id", "section_id", "part", *_CHOICE, "verdict", "flip_shift"),
            **_words("area_um2", "area_difference_um2", "area_factor"),
            **_from_ledger(*_BOX, "label", "coverage", "weights_digest", "phantom", "phantom_weights"),
        ),
        file_schema(
            "stability",
            "the plateau around a setting's chosen thresholds on Validation I + II",
            (*_CHOICE, "f_beta", "phantom", "phantom_weights"),
            tolerance="so much below the chosen cell's F_beta a cell of the plateau may be",
            plateau_share="share of the grid's cells in the plateau",
            t_p_low="least t_p in the plateau",
            t_p_high="greatest t_p in the plateau",
            edges="least or greatest thresholds of the grid that the plateau reaches: beyond them nothing was tried; "
            "empty where it ends before",
            t_a_um2_low="least t_A in the plateau, um2",
            t_a_um2_high="greatest t_A in the plateau, um2",
        ),
        file_schema(
            "quality",
            "one measure of quality on the sections of Test, under a setting",
            ("setting", "part", "phantom", "phantom_weights"),
            measure="the ledger's column, or feature_distance: of the encoder's features to the reference's nearest",
            num_reference_slides="slides of Validation I + II, of a cohort those of its model, with measured sections",
            reference_low="the lowest of these slides, by the median of its sections; null without a reference",
            reference_high="the highest likewise",
            limit_low="a section below is not assessable in a cohort; infinite where none is too low",
            limit_high="a section above is not assessable in a cohort; infinite where none is too high",
            q05="5th percentile of the sections of Test; null where none was measured",
            median="their median",
            q95="their 95th percentile",
            num_sections="sections of Test",
            num_measured="those of them that were measured",
            num_beyond="those of them beyond the limits",
            num_not_assessable="sections that are not assessable, by any measure",
        ),
        file_schema(
            "flow",
            "a setting at one step from slides to figures",
            ("setting", "phantom", "phantom_weights"),
            step="what is counted: slides and why some have no verdict, sections with and without a label and for "
            "review, and what was called Tumor and Normal against the label",
            number="slides or sections",
        ),
        file_schema(
            "units",
            "a setting on Test by section, by slide or by patient",
            ("setting", "phantom", "phantom_weights"),
            unit="section, slide or patient: a slide is Tumor if a section is, a patient if a slide is",
            tp="Tumor units called Tumor",
            fn="Tumor units called Normal",
            fp="Normal units called Tumor",
            tn="Normal units called Normal",
            num_review="labelled units for review, in none of the four counts",
            num_unlabelled="units whose label is not known, in none of the four counts",
            num_units="sections, slides or judged patients: whom slides.csv names for a judged slide, and each slide "
            "that names none as one; verdict_counts has all that are named",
            **_with_ends({name: WORDS[name].replace("sections", "units") for name in _FIGURES if name not in _COUNTS}),
        ),
        file_schema(
            "sensitivity_analysis",
            "a setting on Test with sections of one kind that are left out or in doubt, as one case takes them",
            ("setting", *_COUNTS, "num_slides", "phantom", "phantom_weights"),
            kind="as reported; review; no verdict: on slides that failed, were not worked on or have no section; "
            "dropped: named in sections.csv or labels.csv, but not among what was judged; "
            "unsure, conflict or no label: why there is no label; disputed: labelled, but not every reader says so; "
            "or all of these",
            case="left out, as if right or as if wrong: all verdicts of the kind; called Tumor or called Normal: what "
            "is for review",
            num_meant="sections of the kind",
            num_neither="of them, those with neither label nor verdict: in none of the four counts, but in each "
            "figure that they could belong to",
            **_with_ends({name: WORDS[name] for name in _FIGURES if name not in _COUNTS}),
        ),
        file_schema(
            "predictive_values",
            "a setting on Test at one prevalence",
            ("setting", "num_slides", "phantom", "phantom_weights"),
            prevalence="share of Tumor among sections",
            is_own="whether it is that of Test's labelled sections",
            num_sections="labelled sections of Test with a verdict",
            **_with_ends(
                {
                    "ppv": "positive predictive value: share of Tumor verdicts that are right at this prevalence",
                    "npv": "negative predictive value: share of Normal verdicts that are right at this prevalence",
                    "lr_positive": "positive likelihood ratio: sensitivity / (1 - specificity); inf if no false alarm",
                    "lr_negative": "negative likelihood ratio: (1 - sensitivity) / specificity",
                }
            ),
        ),
        file_schema(
            "sample_size",
            "a setting's sensitivity or specificity on Test, and how many sections it rests on",
            ("setting", "phantom", "phantom_weights"),
            figure="sensitivity or specificity",
            num_sections="Tumor sections with a verdict, for specificity Normal ones",
            num_slides="their slides",
            **_with_ends({"value": "share of these sections that are right; null where there is none"}),
            design_effect="sections for each independent one: num_sections / num_effective; null where all slides are "
            "alike, as without an error, or there is but one",
            num_effective="as how many independent sections they count, by how far slides differ; slides where all "
            "are alike",
            width_independent="width of the exact 95 % interval of value for num_sections independent sections",
            width_effective="the same for num_effective",
            goal="how high the figure was to be; null where nothing was stated",
            goal_width="how wide its 95 % interval may be; null likewise",
            num_needed="independent sections from which on the exact interval of the goal is no wider; null likewise",
            num_needed_here="the same times design_effect; null where there is none",
            is_reached="whether num_effective is at least num_needed; null likewise",
            outcome="shown, missed or open: whether the interval of value lies above the goal, below it or holds it; "
            "empty likewise",
            goal_stated_at="when the goal was stated, UTC; empty likewise",
            goal_after_results="whether there were results of Test by then; null likewise, and where it was not noted",
            num_goals_before="goals that were stated before this one, and that it took the place of",
        ),
        file_schema(
            "subgroups",
            "a setting in one group of Test",
            ("setting", *_COUNTS, "num_sections", "num_slides", "phantom", "phantom_weights"),
            column="what groups: scanner, a column of slides.csv, or tissue area",
            group="the value; not said where a slide has none",
            p="two-sided p-value that accuracy is that of all other sections, by resampled slides; null where a "
            "side has one slide",
            p_adjusted="p adjusted for the number of groups by Holm's rule",
            **_with_ends({name: WORDS[name] for name in _FIGURES if name not in _COUNTS}),
        ),
        file_schema(
            "triage",
            "a setting at a promised miss rate",
            ("setting", "phantom", "phantom_weights"),
            miss_rate="promised: share of slides with Tumor sections that may have one in auto-normal",
            false_alarm_rate="promised: share of slides with Normal sections that may have one in auto-tumor",
            confidence="probability, over calibrations, with which each of the two is kept",
            smallest_miss_rate="the smallest miss_rate that Validation I + II have slides enough for",
            smallest_false_alarm_rate="the smallest false_alarm_rate likewise",
            normal_below_t_p="a section that is Tumor only below this t_p is auto-normal; 0 for none",
            tumor_from_t_p="a section that is Tumor at this t_p is auto-tumor; null for none",
            num_calibration_tumor="Tumor sections of Validation I + II",
            num_calibration_normal="Normal sections of Validation I + II",
            num_calibration_tumor_slides="slides of Validation I + II with Tumor sections",
            num_calibration_normal_slides="slides of Validation I + II with Normal sections",
            review_share_predicted="share of Validation I + II that is for review",
            review_share_test="share of Test that is for review; null without Test",
            num_test="sections of Test, with a label or without",
            num_auto_normal="of Test",
            num_review="of Test, with sections that were not read whole",
            num_auto_tumor="of Test",
            num_missed="Tumor sections of Test that are auto-normal",
            num_false_alarms="Normal sections of Test that are auto-tumor",
            num_slides_missed="slides of Test with such a Tumor section",
            num_slides_false_alarms="slides of Test with such a Normal section",
            miss_rate_test="num_slides_missed as a share of Test's slides with Tumor sections; null without any",
            false_alarm_rate_test="num_slides_false_alarms as a share of those with Normal sections; null without any",
            prefilled_share="share of the conformal set's sections whose label a model had filled in before",
        ),
        file_schema(
            "transfer_shift",
            "one measure of a cohort's slides beside those that its model was chosen on",
            ("phantom", "phantom_weights"),
            folder="transfer",
            sections="all, Tumor or Normal: which sections are compared; of the latter those labelled at random",
            measure="what is compared: a mean over a slide's sections; features are all of the network's deepest ones",
            kind="scores, picture or features",
            num_reference="slides of the model's reference",
            num_here="slides of the cohort",
            reference="median over the reference's slides; of features, of their distance from the reference's middle",
            here="median over the cohort's slides likewise",
            distance="energy distance of both groups; of ranks as shares, or of scaled features",
            **_with_ends({"share": "share of pairs of slides of which the one from here has the larger value"}),
            p="share of 10,000 ways to deal out the slides that are as far apart, in share or features' distance",
            p_adjusted="p adjusted for the number of measures by Westfall and Young's rule",
            smallest_p="the smallest p that so few slides can give",
            is_found="whether p_adjusted is at most 0.05",
            is_alike="whether share lies within the tolerance, by two one-sided tests at 5 %",
        ),
        file_schema(
            "transfer_slides",
            "one slide of the cohort: how much of the difference goes with it, and what is most unusual about it",
            ("slide_id", "phantom", "phantom_weights"),
            folder="transfer",
            num_sections="sections that were read whole",
            influence="share of the found distances that goes when the slide is left out; 0 where none was found",
            measure="the measure in which it is furthest from the reference",
            value="that measure, mean over its sections",
            reference="median of it over the reference's slides",
            deviations="value less reference, in median absolute deviations as those of a normal distribution",
        ),
        file_schema(
            "transfer_thresholds",
            "what the model's thresholds, or those chosen here, do on the site's labelled sections",
            ("t_p", "t_a_um2", "phantom", "phantom_weights"),
            folder="transfer",
            thresholds="model or site; of the site each slide is judged by what the other slides choose",
            num_sections="labelled sections",
            num_slides="their slides",
            num_random="labelled sections that bear a promise: drawn at random, or all that there are",
            t_p_low="lower end of t_p in 95 % of resamples of slides; null for the model's",
            t_p_high="upper end likewise",
            t_a_low_um2="lower end of t_A likewise",
            t_a_high_um2="upper end of t_A likewise",
            agreement="share of resamples that choose the same pair; null likewise",
            **_with_ends({name: WORDS[name] for name in ("accuracy", "sensitivity", "specificity", "f_beta")}),
            **{
                f"{name}_{end}": text
                for name in ("sensitivity", "specificity")
                for end, text in {
                    "at_least": f"exact one-sided 95 % lower bound of {name}, of the random sections alone",
                    "at_most": "upper bound likewise",
                    "effect": "random sections for each independent one",
                    "needed": "random sections of the kind that would bear the goal; null where no number would",
                }.items()
            },
            best_sensitivity="highest sensitivity of any pair of the grid at the goal's specificity",
            best_sensitivity_high="the same at its best, with a confidence of 95 %",
            is_beyond_mending="whether that is below the goal's sensitivity",
        ),
        file_schema(
            "transfer_triage",
            "a promised miss rate on a cohort, and what it rests on",
            ("phantom", "phantom_weights"),
            folder="transfer",
            source="model: the promise rests on its reference; site: on slides of this site labelled at random",
            miss_rate="promised: share of slides with Tumor sections that may have one in auto-normal",
            false_alarm_rate="promised: share of slides with Normal sections that may have one in auto-tumor",
            confidence="with which each is promised",
            is_allowed="whether auto-normal is given: of the model's only where a shift is refuted; of enough slides",
            normal_below_t_p="a section that is Tumor only below this t_p would be auto-normal; 0 for none",
            tumor_from_t_p="a section that is Tumor at this t_p is auto-tumor; null for none",
            num_promising_slides="slides with Tumor sections that the promise rests on",
            smallest_miss_rate="the smallest that so many can promise",
            num_auto_normal="of the cohort's sections; 0 where it is refused",
            num_review="of the cohort's sections",
            num_auto_tumor="of the cohort's sections",
            num_labelled_tumor_slides="slides of the cohort with labelled Tumor sections",
            num_slides_missed="of them with one below normal_below_t_p, by thresholds that do not know the slide",
            miss_rate_here="that as a share; null without labels",
        ),
        file_schema(
            "learning_curves",
            "one epoch",
            ("phantom",),
            epoch="the first is 1",
            **dict.fromkeys(
                SETTINGS, "IoU of the setting's own output on Validation I; null where it has no such epoch"
            ),
        ),
        file_schema(
            "margins",
            "one predicted Tumor region of a chosen model, with its distance to the tissue's edge; research use "
            "only: that edge need not be a surgical margin",
            ("slide_id", "section_id", "part", "setting", "epoch", "psi", "t_p", "t_a_um2"),
            region="its number in the section, as in the file for QuPath",
            area_um2="area of the region, um2",
            margin_um="smallest distance from the region to the edge of the tissue found; research use only",
            max_probability="highest probability in the region",
            mean_probability="mean probability of the region",
            x_level0_px="of the region's centroid",
            y_level0_px="of the region's centroid",
            **_from_ledger("weights_digest", "phantom", "phantom_weights"),
        ),
        file_schema(
            "section_margins",
            "one section under one chosen model, with the smallest margin of its regions; research use only: "
            "the tissue's edge need not be a surgical margin",
            ("slide_id", "section_id", "part", "setting", "epoch", "psi", "t_p", "t_a_um2"),
            **_from_ledger("label", "coverage"),
            verdict="Tumor, Normal or review",
            num_regions="regions of at least t_A at t_p",
            margin_um="smallest margin of these regions; null without any; research use only",
            ledger_margin_um="the ledger's margin_um at t_p, never above margin_um as it also counts smaller "
            "regions; null where no pixel reaches t_p; research use only",
            **_from_ledger("weights_digest", "phantom", "phantom_weights"),
        ),
        file_schema(
            "margin_bounds",
            "one section of Test that a chosen model called Tumor, and how far that is from the tissue's edge at "
            "least; research use only: that edge need not be a surgical margin",
            ("slide_id", "section_id", "part", "setting", "epoch", "psi", "t_p", "t_a_um2"),
            **_from_ledger("label", "coverage"),
            area_um2="area of the largest region at t_p, um2",
            ledger_margin_um="the ledger's margin_um at t_p: the margin of each region of at least t_A is no smaller, "
            "as this also counts smaller regions; research use only",
            **_from_ledger("weights_digest", "phantom", "phantom_weights"),
        ),
        file_schema(
            "figure2",
            "one section of a slide that is shown",
            ("slide_id", "section_id", "part", "phantom"),
            folder="figures",
            **_from_ledger("label", "labelled_by", *_BOX),
            um_per_px=_UM_PER_PX,
        ),
        file_schema(
            "figure4",
            "a setting's own output on one patch of Validation I",
            _PATCH_SHARED,
            folder="figures",
            **_PATCH_OUTPUT,
        ),
        file_schema(
            "figure5",
            "one bar: a chosen model on Test",
            ("setting", "fn", "fp", "num_review", "num_sections", "phantom", "phantom_weights"),
            folder="figures",
            num_wrong="fn + fp",
        ),
        file_schema(
            "figure6", "one correctly classified Test section", _SHOWN_SHARED, folder="figures", **_SHOWN_SECTION
        ),
        file_schema(
            "figure7",
            "the false positive of Test with the largest region",
            _SHOWN_SHARED,
            folder="figures",
            **_SHOWN_SECTION,
            region_um_per_px="um per pixel of the picture of the region",
            region_x_level0_px="left edge of the region's box",
            region_y_level0_px="top edge of the region's box",
            region_width_level0_px="width of the region's box",
            region_height_level0_px="height of the region's box",
            region_max_probability="highest probability in the region",
            region_mean_probability="mean probability of the region",
        ),
        file_schema(
            "figure8",
            "an output of resnet34_ds or resnet34_linear on one patch of Validation I",
            _PATCH_SHARED,
            folder="figures",
            **_PATCH_OUTPUT,
        ),
    )
}


def with_descriptions(frame: pd.DataFrame, name: str) -> pa.Table:
    """A frame as a table that carries its schema's name and version, and what its columns mean.

    Raises:
        LedgerError: the file or one of the columns is not described in this module.
    """
    schema = SCHEMAS.get(name)
    unknown = set(frame.columns) - set(schema.columns if schema else ())
    if schema is None or unknown:
        raise LedgerError(f"{name}.parquet: not described in analysis/study_evidence/schemas.py: {sorted(unknown)}")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [each.with_metadata({"description": schema.columns[each.name]}) for each in table.schema]
    about = {"bccdist.schema": schema.name, "bccdist.schema_version": str(schema.version)}
    # What pandas notes for itself stays, so that its own types come back.
    metadata = {**(table.schema.metadata or {}), **{key.encode(): value.encode() for key, value in about.items()}}
    return table.cast(pa.schema(fields, metadata=metadata))


def document() -> str:
    """docs/parquet.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Parquet files of a study"
    yield ""
    yield (
        "Made by `python analysis/make.py schemas` from the code that writes the files. Each file names its schema "
        "and the version in its metadata (`bccdist.schema`, `bccdist.schema_version`), and each column its meaning "
        "(`description`). Units stand in the names: `_px` pixels, `_level0_px` pixels of the finest level, `_um` "
        "micrometres, `_um2` square micrometres, `_s` seconds, `_share` 0 to 1, `num_` a count. Any reader will do:"
    )
    yield ""
    yield "```sql"
    yield "SELECT setting, count(*) FROM 'STUDY/tables/section_verdicts.parquet'"
    yield "WHERE is_final AND NOT correct GROUP BY setting;"
    yield "```"
    described = (
        ("sections.parquet", ledger.SCHEMA, "one section under one epoch's output: the section ledger"),
        ("runs/SETTING/metrics.parquet", metrics.SCHEMA, "one epoch and output of a training run"),
        ("shards/index.parquet", shard_set.SCHEMA, "one patch of the shard set"),
        (
            "runs/SETTING/audit/audit.parquet",
            audit.SCHEMA,
            "one outline, predicted region or patch of Training, beside a network that never saw its patient",
        ),
    )
    for path, schema, about in described:
        version = schema.metadata[b"bccdist.schema_version"].decode()
        columns = {each.name: each.metadata[b"description"].decode() for each in schema}
        yield from _file_lines(path, version, about, columns)
    for mine in SCHEMAS.values():
        yield from _file_lines(f"{mine.folder}/{mine.name}.parquet", str(mine.version), mine.about, mine.columns)


def _file_lines(path: str, version: str, about: str, columns: Mapping[str, str]) -> Iterator[str]:
    yield from (
        "",
        f"## {path}, version {version}",
        "",
        f"One row is {about}.",
        "",
        "| column | meaning |",
        "|---|---|",
    )
    for name, text in columns.items():
        yield f"| `{name}` | {text} |"


def write_schemas(out: Annotated[Path, tyro.conf.Positional] = DOCUMENT) -> Path:
    """Write what every column of every parquet file means.

    Args:
        out: The document.
    """
    write_text(out, document())
    return out
