"""One page about a study: `python analysis/make.py report STUDY` writes STUDY/report.html.

Tables, charts and pictures are inside the file, so that it opens without a network, today and in ten years. It makes
the tables anew from the ledger; pictures of the paper's figures are taken as they are in STUDY/figures.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.page.blocks import PictureBlock, Section, TableBlock, data_uri, frame_block, render
from analysis.page.content import PageContent, spoken
from analysis.page.errors import errors_section
from analysis.page.findings import list_section, nearest_section, overlays_section, slides_section, time_section
from analysis.page.overview import overview_section
from analysis.page.quality import quality_section
from analysis.page.summary import Made, fault, faults_of, keep_origins, make_tables, require_no_fault
from analysis.page.terms import with_terms
from analysis.specs import SPECS
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.provenance import costs, facts, failures, model_facts, runs
from analysis.study_evidence.table import NotMade, Table
from analysis.tables.checklists import ItemState
from analysis.tables.learning_curves import write_learning_curves
from bccdist.configuration import phantom_warning
from bccdist.errors import NothingToShowError
from bccdist.files import write_text
from bccdist.sections.margins import MARGIN_WARNING
from bccdist.sections.origins import origin_now
from bccdist.stages.outdated import Result


def write_report(study: Evidence, setting: str | None = None) -> Path:
    """Write one page about a study, with all of its tables; with labels or without.

    Args:
        study: The study's folder.
        setting: Which setting comes first: default is the one with the best F_beta on Validation I + II.

    Returns:
        The page's path.

    Raises:
        ConfigurationError: the folder is no study.
        LedgerError: nothing was selected, or not for this setting.
        StageFailedError: something is wrong with a table or a part of the page; it says so, and all else is on it.
    """
    origin = origin_now(study.paths, study.manifest)
    tables = make_tables(study)
    page, faults = build_report(study, setting, tables=tables)
    keep_origins(study, origin, {Result.TABLES: tables, Result.REPORT: faults})
    require_no_fault(faults_of({**tables, **faults}))
    return page


def build_report(study: Evidence, setting: str | None = None, *, tables: Made) -> tuple[Path, Made]:
    """The page from tables that are made; also which parts of it could not be made.

    Raises:
        ConfigurationError: the folder is no study.
        LedgerError: nothing was selected, or not for this setting.
    """
    # The manifest first: a folder that is no study is said to be none.
    drawn = study.manifest.is_phantom
    if not study.is_cohort:
        # Of a cohort it says what its model was chosen on, which is not on this page.
        drawn |= bool(study.selection.get("phantom", pd.Series([False])).any())
    warning = phantom_warning(slides=drawn, weights=any(choice.phantom_weights for choice in study.choices))
    content = PageContent(evidence=study, headline=study.headline(setting), tables=tables)
    page = _COHORT_PAGE if study.is_cohort else _STUDY_PAGE
    sections = with_terms([_section_or_reason(title, build, content) for title, build in page.items()])
    page_text = render(study.root.resolve().name, sections, warning=warning, without_paths=study.without_paths)
    write_text(study.paths.report, page_text)
    return study.paths.report, content.faults


def _section_or_reason(title: str, build: Callable[[PageContent], Section], study: PageContent) -> Section:
    """A part of the page; where it cannot be made, the reason in its place."""
    try:
        return replace(build(study), title=title)
    except NothingToShowError as error:
        return Section(title=title, lines=[f"{error}."])
    except Exception as error:  # noqa: BLE001 - whatever it is, the rest of the page is made, and it is an exit code
        study.faults[title] = fault(title, error)
        return Section(title=title, warnings=[f"Not made: {study.faults[title].reason}"])


def _model_section(study: PageContent) -> Section:
    """What the slides of a cohort were judged by."""
    elsewhere = [spoken(spec.name) for spec in SPECS.values() if spec.of_study_alone]
    return Section(
        lines=[
            "Network and thresholds came with the model; all slides of a cohort are of part Test.",
            f"What rests on a training or on Validation stands in the model's study alone: {', '.join(elsewhere)}.",
        ],
        blocks=[frame_block("The model.", model_facts(study.evidence.model, study.evidence.site_choice))],
    )


def _data_section(study: PageContent) -> Section:
    names = ("table1", "table2")
    return Section(
        lines=study.left_out(*names, "figure2"),
        blocks=[*study.blocks(*names), *study.picture("figure2")],
    )


def _standard_section(study: PageContent) -> Section:
    """Who labelled the sections, and how far readers agree."""
    names = ("reference_standard", "agreement")
    return Section(
        lines=[
            "Every figure of right and wrong rests on these labels: the manifest's, and after them the corrections.",
            *study.left_out(*names),
        ],
        blocks=[*study.blocks(*names)],
    )


def _selection_section(study: PageContent) -> Section:
    names = ("table3", "stability")
    return Section(
        lines=[
            "Epoch, t_p and t_A were chosen on Validation I + II (section 2.5); figures there are too good.",
            *study.left_out(*names),
        ],
        blocks=[
            *study.blocks(*names),
            *study.picture("stability", "F_beta over the grid; the outline is the plateau, the ring the choice."),
        ],
    )


def _test_section(study: PageContent) -> Section:
    names = (
        "table4",
        "units",
        "sensitivity_analysis",
        "predictive_values",
        "intervals",
        "sample_size",
        "subgroups",
        "comparisons",
    )
    return Section(
        lines=study.left_out("flow", *names, "figure5", "roc", "figure6"),
        blocks=[
            *study.picture("flow", "From slides to figures (STARD 2015, item 19)."),
            *study.blocks("flow", folded=True),
            *study.blocks(*names),
            *study.picture("figure5", "Figure 5. Wrongly classified sections of Test."),
            *study.picture(
                "roc",
                "ROC and precision-recall of section verdicts over all t_p; marks: the chosen; shaded: 95 % bands.",
            ),
            *study.blocks("roc"),
            *study.picture("figure6"),
        ],
    )


def _blocks_section(study: PageContent) -> Section:
    names = ("table5", "merge_weights")
    return Section(
        lines=study.left_out(*names, "figure8"),
        blocks=[*study.blocks(*names), *study.picture("figure8")],
    )


def _training_section(study: PageContent) -> Section:
    picture = study.paths.tables / "learning_curves.png"
    table = write_learning_curves(study.evidence)
    return Section(
        lines=[*table.notes, *study.left_out("figure4")],
        blocks=[
            PictureBlock(uri=data_uri(picture.read_bytes(), "png"), caption=table.title),
            *study.picture("figure4"),
        ],
    )


def _trust_section(study: PageContent) -> Section:
    triage = study.tables.get("triage")
    warnings = [note for note in triage.notes if note.startswith("WARNING")] if isinstance(triage, Table) else []
    return Section(
        lines=study.left_out("reliability", "decision_curve", "triage"),
        warnings=warnings,
        blocks=[
            *study.picture(
                "reliability",
                "Share of Tumor among sections of a probability, with 95 % intervals; dotted: calibrated.",
            ),
            *study.blocks("reliability"),
            *study.picture("decision_curve", "Net benefit for each section; dashed: acting on all, dotted: on none."),
            *study.blocks("decision_curve", "triage"),
        ],
    )


def _margins_section(study: PageContent) -> Section:
    """The smallest margins by the ledger; no slide is read for them."""
    return Section(
        lines=study.left_out("margin_bounds"),
        warnings=[MARGIN_WARNING],
        blocks=[*study.blocks("margin_bounds", folded=True)],
    )


def _checklists_section(study: PageContent) -> Section:
    """What reporting guidelines ask, and by name what is open."""
    table = study.tables["checklists"]
    lines = study.left_out("checklists")
    if isinstance(table, Table):
        topics = table.frame.groupby("state")["topic"].agg(list).to_dict()
        open_ones = topics.get(ItemState.OPEN.value, [])
        lines = [
            *table.notes,
            f"Open, for the authors to answer ({len(open_ones)}): {'; '.join(open_ones)}.",
        ]
    return Section(
        lines=lines, blocks=[*(replace(each, notes=()) for each in study.blocks("checklists", folded=True))]
    )


def _provenance_section(study: PageContent) -> Section:
    paths = study.paths
    not_made = [[name, each.reason] for name, each in study.tables.items() if isinstance(each, NotMade)]
    failed = failures(study.evidence)
    took, notes = costs(paths)
    # A cohort has no runs: what its model says of itself stands above.
    is_cohort, choices = study.evidence.is_cohort, study.evidence.choices
    chosen = [] if is_cohort else [frame_block("The chosen models.", runs(paths, choices))]
    return Section(
        blocks=[
            frame_block("The study.", facts(study.evidence)),
            *chosen,
            replace(frame_block("What the stages took.", took), notes=notes),
            *([frame_block("Failed, and not in the results.", failed)] if len(failed) else []),
            *([TableBlock(title="Not made.", heading=["what", "why"], rows=not_made)] if not_made else []),
        ],
    )


_STUDY_PAGE: Mapping[str, Callable[[PageContent], Section]] = {
    "Overview": overview_section,
    "Data": _data_section,
    "Reference standard": _standard_section,
    "Training": _training_section,
    "Selection": _selection_section,
    "Test": _test_section,
    "Verdicts nearest to changing": nearest_section,
    "Decoder blocks": _blocks_section,
    "Errors": errors_section,
    "Probabilities and triage": _trust_section,
    "Sections": list_section,
    "Slides": slides_section,
    "Quality": quality_section,
    "Overlays": overlays_section,
    "Margins": _margins_section,
    "Time": time_section,
    "Checklists": _checklists_section,
    "Provenance": _provenance_section,
}
"""The parts of a study's page by their titles, in their order."""

_COHORT_PAGE: Mapping[str, Callable[[PageContent], Section]] = {
    "Overview": overview_section,
    "Model": _model_section,
    **{
        title: _STUDY_PAGE[title]
        for title in (
            *(
                "Sections",
                "Slides",
                "Quality",
                "Overlays",
                "Verdicts nearest to changing",
                "Reference standard",
                "Test",
            ),
            *("Errors", "Decoder blocks", "Probabilities and triage", "Margins", "Time", "Checklists", "Provenance"),
        )
    },
}
"""The parts of a cohort's page: what was found comes first, and there is nothing of a training."""
