"""Everything that the analysis makes of a study, as one table of names and functions.

The command line (`analysis/make.py`), the summary, the report and the job of the stage iterate over it. A function is
imported where it is called, so that a command starts with no more than it needs.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Summary = Literal["always", "with pictures", "never"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One thing that can be made."""

    name: str
    function: str
    """Its module and name; its signature and docstring are the command's options and help."""
    about: str
    """A line that stands alone."""
    summary: Summary = "never"
    """Whether the summary makes it: "always" needs parquet alone, "with pictures" reads slides and heatmaps."""
    of_study_alone: bool = False
    """Whether it rests on a training or on slides of Validation, which a cohort has not."""

    def load(self) -> Callable[..., Any]:
        """The function itself."""
        module, _, function = self.function.partition(":")
        loaded: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return loaded


def _table(
    name: str, about: str, *, function: str = "", summary: Summary = "always", of_study_alone: bool = False
) -> Spec:
    function = function or f"analysis.tables.{name}:write_{name}"
    return Spec(name=name, function=function, about=about, summary=summary, of_study_alone=of_study_alone)


def _figure(name: str, about: str, *, of_study_alone: bool = False) -> Spec:
    function = f"analysis.pictures.{name}:write_{name}"
    return Spec(name=name, function=function, about=about, summary="with pictures", of_study_alone=of_study_alone)


SPECS = {
    spec.name: spec
    for spec in (
        Spec(
            name="summary",
            function="analysis.page.summary:write_summary",
            about="All tables and charts that can be made by now",
        ),
        Spec(
            name="report", function="analysis.page.report:write_report", about="One page about the study, in one file"
        ),
        Spec(
            name="selection",
            function="analysis.tables.selection:select_thresholds",
            about="Model selection: epoch, t_p and t_A of each setting (section 2.5)",
        ),
        Spec(
            name="relabel",
            function="analysis.study_evidence.relabel:relabel_study",
            about="Corrected labels for the selection and all tables",
        ),
        _table("table1", "Table 1: slides, annotations and section labels (section 2.1)"),
        _table("table2", "Table 2: patches before and after balancing (section 2.3)", of_study_alone=True),
        _table("table3", "Table 3: the selected models on Validation I + II (section 2.5)"),
        _table("stability", "How much the choice of thresholds matters"),
        _table("reference_standard", "Who labelled the sections, when, and led by what"),
        _table("agreement", "How far readers agree with one another"),
        _table("verdict_counts", "How many slides and sections were judged, and how; needs no labels"),
        _table("slides", "What became of each slide, and how it was read; needs no labels"),
        _table("quality", "How sections of Test are, against those that the model was chosen on; needs no labels"),
        _table("flow", "How slides of Test became figures: a STARD flow diagram"),
        _table("reached", "How the verdicts on Test were reached, and whether the certificate holds; needs no labels"),
        _table("table4", "Table 4: the chosen models on Test (section 3)"),
        _table("intervals", "The figures of Tables 3 to 5 with their intervals"),
        _table("units", "The verdicts on Test by section, by slide and by patient"),
        _table(
            "sensitivity_analysis", "The figures on Test with what is left out or in doubt, at its best and its worst"
        ),
        _table("predictive_values", "Predictive values and likelihood ratios of the verdicts, at several prevalences"),
        _table("sample_size", "Whether Test has sections enough for a stated goal, as they cluster in slides"),
        _table("subgroups", "The verdicts on Test by scanner, site and other groups, and by tissue area"),
        _table("comparisons", "Which settings and outputs are told apart by Test"),
        _table("figure5", "Figure 5: wrongly classified sections of Test (section 3)"),
        _table("roc", "ROC and precision-recall of the section verdicts on Test"),
        _table("reliability", "Whether a section's probability means what it says"),
        _table("decision_curve", "What acting on the verdicts on Test is worth, at each price of a false alarm"),
        _table("error_groups", "Where the wrong verdicts on Test are"),
        _table("flip_shifts", "How small a shift of probability would change verdicts, by verdict"),
        _table("nearest_verdicts", "The verdicts that the smallest shifts of probability would change"),
        _table(
            "triage", "Which sections a model may sort out by itself, and which a person must see", of_study_alone=True
        ),
        _table("table5", "Table 5: each decoder block as the output (section 3.1)"),
        _table("margin_bounds", "How far predicted tumor is from the tissue's edge at least; research use only"),
        _table("checklists", "What STARD-AI, CLAIM and TRIPOD+AI ask, and what of it is answered"),
        _table("merge_weights", "What each block adds to the linear merge (eq. 2)", of_study_alone=True),
        _table(
            "verdict_table",
            "The verdict on every section by the chosen models",
            function="analysis.tables.section_verdicts:write_verdict_table",
            summary="never",
        ),
        _table("learning_curves", "How the settings learn (section 2.5)", summary="never", of_study_alone=True),
        _table("beside_paper", "The study's results beside the paper's", summary="never"),
        _figure("figure2", "Figure 2: labels of the sections of Test slides (section 2.1)"),
        _figure("figure4", "Figure 4: the settings on patches of Validation I (section 3)", of_study_alone=True),
        _figure("figure6", "Figure 6: correctly classified sections of Test (section 3)"),
        _figure("figure7", "Figure 7: a section that was wrongly called Tumor (section 3)"),
        _figure("figure8", "Figure 8: what each decoder block says (section 3.1)", of_study_alone=True),
        Spec(
            name="overlays",
            function="analysis.pictures.overlays:draw_overlays",
            about="A picture of each slide with its heatmap, sections and verdicts",
        ),
        Spec(
            name="regions",
            function="analysis.outlines.qupath:write_regions",
            about="Tumor regions as QuPath opens them",
        ),
        Spec(
            name="margins",
            function="analysis.outlines.region_margins:write_margins",
            about="How far predicted tumor lies from the tissue's edge; research use only",
        ),
        Spec(
            name="heatmap_tiff",
            function="analysis.outlines.heatmap_tiff:export_heatmap",
            about="A heatmap as a pyramidal TIFF, for any slide viewer",
        ),
        Spec(
            name="dicom",
            function="analysis.dicom_files.export:write_dicom",
            about="A slide's heatmap and verdicts as a DICOM segmentation and report",
        ),
        Spec(
            name="evidence",
            function="analysis.evidence_pack.making:write_evidence",
            about="All that the report rests on, in a folder that anybody can check; short: analysis/evidence.py",
        ),
        Spec(
            name="transfer",
            function="analysis.site_transfer.making:write_transfer",
            about="Whether a model holds on a cohort, why, and what to do next; short: analysis/transfer.py",
        ),
        Spec(
            name="schemas",
            function="analysis.study_evidence.schemas:write_schemas",
            about="What every column of every parquet file means",
        ),
    )
}


def in_summary(kind: Summary) -> list[Spec]:
    """What the summary makes always, or only with pictures, in the order of the table."""
    return [spec for spec in SPECS.values() if spec.summary == kind]
