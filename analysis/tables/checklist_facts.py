"""What a study knows of what guidelines ask: one fact an item, empty where it does not know it."""

from collections import Counter
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.provenance import runs
from analysis.study_evidence.readings import readings_of
from analysis.study_evidence.resampling import LEVEL, NUM_RESAMPLES, Interval, counts_by_slide, draw_slides, intervals
from analysis.study_evidence.slide_states import SlideState, slide_states
from analysis.study_evidence.verdict_table import summarise
from analysis.tables.agreement import build_agreement
from analysis.tables.intervals import interval_text
from analysis.tables.subgroups import GROUP_COLUMNS
from analysis.tables.table1 import build_table1
from analysis.tables.verdict_counts import patients_of
from bccdist.errors import NothingToShowError
from bccdist.models.model_file import ModelFile
from bccdist.parts import Label, Part
from bccdist.sections.verdicts import Verdict
from bccdist.slides.manifest import SectionRecord


class Facts:
    """The facts of a study, each a sentence; a property is called as the items name it."""

    def __init__(self, study: Evidence) -> None:
        """The facts of `study`; nothing is read yet."""
        self._study = study
        self._choice = study.headline()

    @property
    def is_cohort(self) -> bool:
        """Whether network and thresholds came with a model."""
        return self._study.is_cohort

    def named(self, name: str) -> str:
        """A fact by its name; empty where the study does not know it."""
        try:
            return str(getattr(self, name))
        except NothingToShowError:
            return ""

    @cached_property
    def _model(self) -> ModelFile | None:
        return self._study.model if self._study.is_cohort else None

    @cached_property
    def _slides(self) -> pd.DataFrame:
        """The slides of Test under the headline's setting."""
        states = slide_states(self._study)
        return states[(states["part"] == Part.TEST.value) & (states["setting"] == self._choice.setting)]

    def _sum(self, name: str) -> int:
        return int(self._slides[f"num_{name}"].sum())

    @cached_property
    def _verdicts(self) -> pd.DataFrame:
        verdicts = self._study.verdicts(Part.TEST)
        return verdicts[verdicts["setting"] == self._choice.setting]

    @cached_property
    def _sums(self) -> dict[str, Any]:
        """Table 4's row of the headline.

        Raises:
            NothingToShowError: no section of Test has a label.
        """
        sums = summarise(self._verdicts, self._choice.beta)
        if not sums["num_sections"]:
            raise NothingToShowError("no section of Test has a label")
        return sums

    @cached_property
    def _labelled(self) -> list[SectionRecord]:
        """The sections of Test with a label."""
        test = {slide.slide_id for slide in self._study.manifest.slides_of([Part.TEST])}
        return [
            each for each in self._study.labelled_manifest.sections if each.slide_id in test and each.label is not None
        ]

    @property
    def goal(self) -> str:
        """What kind of study it is, as far as its files say."""
        if self._study.is_cohort:
            return "a finished model is applied to slides, and judged where they have labels"
        return "networks are trained, one epoch and its thresholds are chosen, and they are judged on Test"

    @property
    def source(self) -> str:
        """Which slides, by the manifest."""
        manifest = self._study.manifest
        return f"{len(manifest.slides)} slides of slides.csv, digest {manifest.digest}"

    @property
    def readers(self) -> str:
        """Who labelled Test."""
        names = Counter(section.labelled_by or "not named" for section in self._labelled).most_common()
        return f"Test: {', '.join(f'{name} ({num} sections)' for name, num in names)}" if names else ""

    @property
    def labelling(self) -> str:
        """How Test was labelled."""
        if not self._labelled:
            return ""
        prefilled = sum(bool(section.prefilled) for section in self._labelled)
        return f"{len(self._labelled)} sections of Test have a label; of {prefilled} a model's is noted as pre-filled"

    @property
    def scanners(self) -> str:
        """What scanned the slides of Test."""
        names = Counter(slide.scanner for slide in self._study.manifest.slides_of([Part.TEST]))
        if not any(names):
            return ""
        return ", ".join(f"{name or 'not named'} ({num} slides of Test)" for name, num in names.most_common())

    @property
    def preparation(self) -> str:
        """How pixels came from the slides."""
        mpp = self._study.rows(Part.TEST).frame["mpp"]
        if mpp.empty:
            return ""
        return f"read at {mpp.min():.3g} to {mpp.max():.3g} um per pixel; tissue and sections are found, or as given"

    @property
    def subset(self) -> str:
        """Which slides of the manifest count."""
        return f"every slide of Test in slides.csv is worked on: {len(self._slides)}"

    @property
    def missing(self) -> str:
        """What has no verdict or no label."""
        states = self._slides["state"]
        slides = ", ".join(
            f"{int((states == state.value).sum())} {text}"
            for state, text in (
                (SlideState.FAILED, "failed"),
                (SlideState.NOT_THERE, "not worked on"),
                (SlideState.NO_SECTION, "without a section"),
            )
        )
        without = self._sum("sections") - self._sum("labelled")
        return (
            f"slides of Test: {slides}, in no figure; {without} of {self._sum('sections')} sections without a label, "
            "in no figure of right and wrong; nothing is filled in"
        )

    @property
    def test(self) -> str:
        """What is judged, and by what."""
        choice = self._choice
        return (
            f"{choice.setting}, epoch {choice.epoch}, {choice.psi}, weights {choice.weights_digest}: Tumor where a "
            f"region of at least {choice.t_a_um2:,.0f} um2 ({choice.area_unit}) has probabilities of at least "
            f"{choice.t_p:.2f}"
        )

    @property
    def training(self) -> str:
        """How the network was trained."""
        if self._model is not None:
            num = self._model.description.trained_on.num_slides.get(Part.TRAINING.value, 0)
            return f"by the model's file, on {num} slides of its own study"
        (row,) = runs(self._study.paths, [self._choice]).to_dict("records")
        if row["configuration"] == "not there":
            return ""
        return f"configuration {row['configuration']}, which the run's folder holds whole; epoch {row['epoch']} chosen"

    @property
    def _parts(self) -> pd.DataFrame:
        return build_table1(self._study.labelled_manifest).frame

    @property
    def parts(self) -> str:
        """What is in each part."""
        rows = self._parts.to_dict("records")
        return "; ".join(
            f"{row['part']} {row['num_slides']} slides, {row['num_tumor']} Tumor and {row['num_normal']} Normal "
            "sections"
            for row in rows
        )

    @property
    def numbers(self) -> str:
        """How many sections each analysis rests on."""
        judged = f"Test: {self._sums['num_sections']} labelled sections, {self._sums['num_review']} of them for review"
        return f"{judged}; {self.parts}"

    @property
    def disjoint(self) -> str:
        """Whether parts share patients."""
        if self._study.is_cohort:
            return ""
        nameless = {part: patients_of(self._study.manifest, part).num_slides_without for part in Part}
        num = sum(nameless.values())
        if num == len(self._study.manifest.slides):
            return ""
        but = f", but for {num} slides that name none, of which it is not known" if num else ""
        return f"by patient: no patient of slides.csv or sections.csv is in two parts{but}"

    @property
    def cutoffs(self) -> str:
        """The thresholds and where they come from."""
        choice = self._choice
        if self._study.is_cohort:
            return f"t_p {choice.t_p:.2f} and t_A {choice.t_a_um2:,.0f} um2 came with the model, before these slides"
        if "specificity" not in self._study.selection:
            return ""
        return f"t_p {choice.t_p:.2f} and t_A {choice.t_a_um2:,.0f} um2, the best of a grid on Validation I + II"

    @property
    def choice(self) -> str:
        """How the epoch was chosen."""
        if "specificity" not in self._study.selection and not self._study.is_cohort:
            return ""
        return f"epoch and thresholds together, by F_{self._choice.beta:g} on Validation I + II"

    @property
    def standard(self) -> str:
        """What a label is."""
        return f"a label Tumor or Normal for each section; {self.readers}" if self.readers else ""

    @property
    def categories(self) -> str:
        """What labels there are."""
        tumor, normal = (sum(each.label is label for each in self._labelled) for label in Label)
        if not self._labelled:
            return ""
        return (
            f"Test: {tumor} Tumor, {normal} Normal, {self._sum('unsure')} unsure and {self._sum('conflict')} in "
            "conflict; the last two have no label"
        )

    @property
    def test_blind(self) -> str:
        """What the test sees."""
        return "verdicts come from pixels and fixed thresholds; no label is an input"

    @property
    def standard_blind(self) -> str:
        """What those who labelled saw."""
        prefilled = sum(bool(section.prefilled) for section in self._labelled)
        return f"pre-filled by a model: {prefilled} of {len(self._labelled)} labels of Test" if prefilled else ""

    @property
    def agreement(self) -> str:
        """Kappa of readers on Test."""
        parts = {slide.slide_id: slide.part for slide in self._study.manifest.slides}
        frame = build_agreement(readings_of(self._study), parts, blind=None, phantom=False, notes=()).frame
        rows = frame[frame["part"] == Part.TEST.value].to_dict("records")
        return "; ".join(
            f"{row['one']} and {row['other']}: kappa {interval_text(Interval.from_columns(row, 'kappa'))}, "
            f"{row['num_sections']} sections"
            for row in rows
        )

    @property
    def predictors(self) -> str:
        """What goes into the network."""
        return "the pixels of the slide alone; none was chosen beforehand"

    @property
    def statistics(self) -> str:
        """How figures were computed."""
        return (
            f"{LEVEL:.0%} intervals over {NUM_RESAMPLES:,} resampled sets of {self._sums['num_slides']} slides, or "
            "exact bounds; p-values adjusted for their number; figures that cannot be made are named with the reason"
        )

    @property
    def indeterminate(self) -> str:
        """What is no clear yes or no."""
        return (
            f"{self._sum('review')} sections of Test for review, {self._sum('unsure')} unsure and "
            f"{self._sum('conflict')} in conflict; in none of the four counts, and told beside them"
        )

    @property
    def variation(self) -> str:
        """What was varied."""
        num = self._sums["num_slides"]
        return f"over resampled sets of {num} slides, by group, and with what is left out put in, right or wrong"

    @property
    def size(self) -> str:
        """What was reached."""
        sums = self._sums
        tumor, normal = sums["tp"] + sums["fn"], sums["fp"] + sums["tn"]
        return f"reached: {tumor} Tumor and {normal} Normal sections with a verdict, on {sums['num_slides']} slides"

    @property
    def groups(self) -> str:
        """Which groups of people are told apart."""
        known = {name for slide in self._study.manifest.slides for name, text in slide.extra.items() if text}
        found = sorted(name for name in known if name.lower() in GROUP_COLUMNS)
        return f"figures by {', '.join(found)}" if found and self._sums else ""

    @property
    def flow(self) -> str:
        """From slides to figures."""
        done = int((self._slides["state"] == SlideState.DONE.value).sum())
        return (
            f"{len(self._slides)} slides of Test, {done} with sections, {self._sum('sections')} sections, "
            f"{self._sum('labelled')} of them labelled"
        )

    @property
    def prevalence(self) -> str:
        """The share of Tumor."""
        sums = self._sums
        num = sums["tp"] + sums["fn"] + sums["fp"] + sums["tn"]
        if not num:
            return ""
        share = (sums["tp"] + sums["fn"]) / num
        return f"{share:.1%} of Test's judged sections are Tumor; predictive values at other shares are in the table"

    @property
    def confusion(self) -> str:
        """The four counts."""
        return ", ".join(f"{self._sums[name]} {name.upper()}" for name in ("tp", "fn", "fp", "tn"))

    @property
    def accuracy(self) -> str:
        """The figures with their intervals."""
        labelled = self._verdicts[self._verdicts["label"].notna()]
        if (labelled["verdict"] == Verdict.REVIEW.value).all() or not self._sums:
            return ""
        slide_ids = pd.Index(sorted(set(labelled["slide_id"])))
        found = intervals(counts_by_slide(labelled, slide_ids), draw_slides(len(slide_ids)), self._choice.beta)
        names = ("accuracy", "sensitivity", "specificity")
        return ", ".join(f"{name} {interval_text(found[name])}" for name in names)

    @property
    def errors(self) -> str:
        """The wrong verdicts."""
        return f"{self._sums['fn']} missed and {self._sums['fp']} false alarms, each by its name"

    @property
    def internal(self) -> str:
        """Figures of the parts that chose beside those of Test."""
        selection = self._study.selection
        if self._study.is_cohort or "accuracy" not in selection or not self._sums:
            return ""
        (row,) = selection[selection["setting"] == self._choice.setting].to_dict("records")
        of_test = self._sums["accuracy"]
        return f"accuracy {row['accuracy']:.3f} on Validation I + II, which chose, and {of_test:.3f} on Test"

    @property
    def access(self) -> str:
        """By what data, code and model are known."""
        return f"known by: slides.csv {self._study.manifest.digest}, weights {self._choice.weights_digest}"

    @property
    def audit(self) -> str:
        """What is kept."""
        return (
            f"a ledger of {self._study.ledger.num_rows:,} rows, from which every figure here is a query; "
            "`python analysis/evidence.py` packs what they rest on"
        )

    @property
    def _run(self) -> dict[str, str]:
        if self._study.is_cohort:
            return {}
        (row,) = runs(self._study.paths, [self._choice]).to_dict("records")
        return {str(name): str(text) for name, text in row.items()}

    @property
    def software(self) -> str:
        """What trained it."""
        if self._model is not None:
            return f"packed by bccdist {self._model.description.made_by}"
        return ", ".join(f"{name} {self._run[name]}" for name in ("bccdist", "torch", "python") if name in self._run)

    @property
    def start(self) -> str:
        """What the network was before training."""
        is_known = self._run.get("configuration", "not there") != "not there"
        return self._run["started from"] if is_known else ""

    @property
    def ensemble(self) -> str:
        """Whether several networks decide."""
        return f"one network; its output {self._choice.psi} alone decides"

    @property
    def insight(self) -> str:
        """How the model can be looked into."""
        choice, slides = self._choice, self._slides["slide_id"]
        num = sum(self._study.paths.heatmap(choice.setting, choice.epoch, slide_id).exists() for slide_id in slides)
        return (
            f"heatmaps of {num} of {len(slides)} slides of Test are kept, with the regions that decide" if num else ""
        )

    @property
    def updating(self) -> str:
        """Whether the model was changed."""
        if self._model is None:
            return ""
        return f"none: network and thresholds are those of the model with digest {self._model.digest}"

    @property
    def imbalance(self) -> str:
        """How scarce tumor was met."""
        if self._study.is_cohort or not self._study.paths.shards.manifest.exists():
            return ""
        return "patches with tumor are drawn more often (Table 2); probabilities are not calibrated afterwards"

    @property
    def poor_input(self) -> str:
        """What happens to poor input."""
        num_failed = int((self._slides["state"] == SlideState.FAILED.value).sum())
        return (
            f"a slide that cannot be read fails by name ({num_failed} of Test); a section not read whole is never "
            f"Normal ({self._sum('review')} for review)"
        )
