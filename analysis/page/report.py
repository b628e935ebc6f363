"""One page about a study: `python analysis/make.py report STUDY` writes STUDY/report.html.

Tables, charts and pictures are inside the file, so that it opens without a network, today and in ten years. It makes
the tables anew from the ledger; pictures of the paper's figures are taken as they are in STUDY/figures.
"""

import io
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from PIL import Image

from analysis.evidence.evidence import Evidence
from analysis.evidence.flip_shifts import shift_texts
from analysis.evidence.provenance import costs, facts, failures, model_facts, runs, slide_times
from analysis.evidence.resampling import FIGURES
from analysis.evidence.slide_states import SlideState
from analysis.evidence.table import NotMade, Table
from analysis.outlines.region_margins import bounds_table
from analysis.page.blocks import (
    GalleryBlock,
    Number,
    PictureBlock,
    Section,
    TableBlock,
    Tile,
    data_uri,
    frame_block,
    render,
    table_block,
)
from analysis.page.summary import Made, fault, make_tables, require_no_fault
from analysis.pictures.shown_sections import section_picture
from analysis.specs import SPECS
from analysis.tables.comparisons import NOT_RESOLVED
from analysis.tables.intervals import interval_from, interval_text
from analysis.tables.learning_curves import write_learning_curves
from analysis.tables.section_verdicts import build_verdict_table
from bccdist.configuration import phantom_warning
from bccdist.errors import HeatmapError, ManifestError, NothingToShowError, SlideError
from bccdist.files import write_text
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_output import boxes_by_slide
from bccdist.sections.margins import MARGIN_WARNING
from bccdist.sections.section_rows import rows_of
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.sections.verdicts import Verdict
from bccdist.slides.geometry import Box

MOST_PICTURES = 12
"""Sections of each kind of error that are shown."""
MOST_OVERLAYS = 36
"""Slides whose pictures are shown in small."""
MOST_SECTIONS = 40
"""Sections that stand on the page unfolded."""
_MOST_FAILURES = 10
_JPEG_QUALITY = 88
_OVERLAY_PX = 480
"""The longer side of a slide's small picture."""
_PAPER_FIGURES = {
    "figure2": "Figure 2. Section labels on two Test slides: Tumor red, Normal green.",
    "figure4": "Figure 4. The settings on patches of Validation I.",
    "figure6": "Figure 6. Sections of Test that were classified right.",
    "figure7": "Figure 7. A section of Test that was called Tumor and is not.",
    "figure8": "Figure 8. Outputs of the decoder's blocks on patches of Validation I.",
}


@dataclass(frozen=True, kw_only=True)
class _Study:
    """What the page is made from."""

    evidence: Evidence
    headline: Choice
    """The setting that the first numbers and the pictures of errors are of."""
    tables: Made

    faults: dict[str, NotMade] = field(default_factory=dict)
    """What of the page itself could not be made, as it is found."""

    @property
    def paths(self) -> StudyPaths:
        """The study's files."""
        return self.evidence.paths

    def blocks(self, *names: str, folded: bool = False) -> Iterator[TableBlock]:
        """Take some tables; one that could not be made is named by `left_out`."""
        for name in names:
            table = self.tables.get(name)
            if isinstance(table, Table):
                yield table_block(table, folded=folded)

    def left_out(self, *names: str) -> list[str]:
        """A line for each reason why some of these tables are not there."""
        by_reason: dict[str, list[str]] = {}
        for name in names:
            outcome = self.tables.get(name)
            if isinstance(outcome, NotMade):
                by_reason.setdefault(outcome.reason, []).append(_spoken(name))
        return [f"Left out: {', '.join(left)}: {reason}." for reason, left in by_reason.items()]

    def picture(self, name: str, caption: str = "") -> Iterator[PictureBlock]:
        """Take a picture from STUDY/figures, if it is there; the paper's figures have their own captions."""
        if isinstance(self.tables.get(name), NotMade):
            return
        # Made elsewhere, the report shows the study's own where no newer ones were drawn.
        places = (self.paths.figure(name), StudyPaths(self.paths.root).figure(name))
        path = next(filter(Path.exists, places), None)
        if path is not None:
            # The paper's figures show tissue, which is smaller as JPEG.
            shows_tissue = name in _PAPER_FIGURES
            uri = data_uri(_as_jpeg(path), "jpeg") if shows_tissue else data_uri(path.read_bytes(), "png")
            yield PictureBlock(uri=uri, caption=caption or _PAPER_FIGURES[name])

    def counts(self) -> Mapping[Hashable, Any] | None:
        """How many slides and sections of Test there are, and how they were judged; None where none were."""
        table = self.tables["verdict_counts"]
        if not isinstance(table, Table):
            return None
        frame = table.frame
        mine = frame[(frame["part"] == Part.TEST.value) & (frame["setting"] == self.headline.setting)]
        return None if mine.empty else mine.to_dict("records")[0]

    def slides(self) -> pd.DataFrame:
        """The slides of Test under the headline's setting, in the order of the table of slides; perhaps none."""
        table = self.tables["slides"]
        if not isinstance(table, Table):
            return pd.DataFrame({"slide_id": [], "state": []})
        mine = (table.frame["part"] == Part.TEST.value) & (table.frame["setting"] == self.headline.setting)
        return table.frame[mine]


def _spoken(name: str) -> str:
    """A table's name as a reader knows it: Table 4, Figure 5, error groups."""
    numbered = re.fullmatch(r"(table|figure)(\d)", name)
    return f"{numbered[1].capitalize()} {numbered[2]}" if numbered else name.replace("_", " ")


def _as_jpeg(path: Path, *, most_px: int | None = None) -> bytes:
    file = io.BytesIO()
    with Image.open(path) as image:
        if most_px:
            image.thumbnail((most_px, most_px))
        image.convert("RGB").save(file, format="jpeg", quality=_JPEG_QUALITY)
    return file.getvalue()


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
    tables = make_tables(study)
    page, faults = build_report(study, setting, tables=tables)
    require_no_fault({**tables, **faults})
    return page


def build_report(study: Evidence, setting: str | None = None, *, tables: Made) -> tuple[Path, Made]:
    """The page from tables that are made; also which parts of it could not be made.

    Raises:
        ConfigurationError: the folder is no study.
        LedgerError: nothing was selected, or not for this setting.
    """
    # The manifest first: a folder that is no study is said to be none.
    drawn = study.manifest.is_phantom or bool(study.selection.get("phantom", pd.Series([False])).any())
    warning = phantom_warning(slides=drawn, weights=any(choice.phantom_weights for choice in study.choices))
    content = _Study(evidence=study, headline=study.headline(setting), tables=tables)
    page = _COHORT_PAGE if study.is_cohort else _STUDY_PAGE
    sections = [_section_or_reason(title, build, content) for title, build in page.items()]
    write_text(study.paths.report, render(study.root.resolve().name, sections, warning=warning))
    return study.paths.report, content.faults


def _section_or_reason(title: str, build: Callable[[_Study], Section], study: _Study) -> Section:
    """A part of the page; where it cannot be made, the reason in its place."""
    try:
        return replace(build(study), title=title)
    except NothingToShowError as error:
        return Section(title=title, lines=[f"{error}."])
    except Exception as error:  # noqa: BLE001 - whatever it is, the rest of the page is made, and it is an exit code
        study.faults[title] = fault(title, error)
        return Section(title=title, warnings=[f"Not made: {study.faults[title].reason}"])


def _overview_section(study: _Study) -> Section:
    """What was judged and how; with labels the chosen model in four numbers, and whether others are told apart."""
    choice = study.headline
    intervals = study.tables["intervals"]
    origin = f"best F_{choice.beta:g} on Validation I + II" + (" of the model's study" * study.evidence.is_cohort)
    return Section(
        lines=[
            (
                f"{choice.setting}, epoch {choice.epoch}, t_p {choice.t_p:.2f}, t_A {choice.t_a_um2:.0f} um2 "
                f"({choice.area_unit}): {origin}, judged on Test."
            ),
            *_label_lines(study),
            *_resolution_lines(study),
        ],
        warnings=list(_missing_warnings(study)),
        numbers=[
            *_count_numbers(study.counts()),
            *(_numbers(intervals.frame, choice) if isinstance(intervals, Table) else []),
        ],
    )


def _count_numbers(counts: Mapping[Hashable, Any] | None) -> Iterator[Number]:
    """How many slides and sections of Test, and how many have each verdict."""
    if counts is None:
        return
    without = [
        f"{counts[name]} {text}"
        for name, text in (
            ("num_failed", "failed"),
            ("num_not_there", "not there"),
            ("num_without_section", "without a section"),
        )
        if counts[name]
    ]
    yield Number(name="slides of Test", value=f"{counts['num_slides']:,}", range=", ".join(without))
    yield Number(
        name="sections",
        value=f"{counts['num_sections']:,}",
        range=f"{counts['num_unread']:,} not read whole" if counts["num_unread"] else "all read whole",
    )
    for name, verdict in (("num_tumor", "called Tumor"), ("num_normal", "called Normal"), ("num_review", "review")):
        share = f"{counts[name] / counts['num_sections']:.0%} of the sections" if counts["num_sections"] else ""
        yield Number(name=verdict, value=f"{counts[name]:,}", range=share)


def _label_lines(study: _Study) -> Iterator[str]:
    """What labels say, or that there are none."""
    counts, table4 = study.counts(), study.tables["table4"]
    if counts is None:
        return
    total, labelled = counts["num_sections"], counts["num_labelled"]
    if not labelled:
        yield (
            f"No section of Test has a label (0 of {total}): what follows counts verdicts. With labels, now or later, "
            "the same commands add figures and intervals: `python analysis/make.py relabel STUDY sections.csv`."
        )
    elif isinstance(table4, Table):
        (row,) = table4.frame[table4.frame["setting"] == study.headline.setting].to_dict("records")
        which = "All" if labelled == total else f"{labelled} of {total}"
        yield (
            f"{which} sections of Test have a label: {row['tp']} TP, {row['fn']} FN, {row['fp']} FP, {row['tn']} TN, "
            f"{row['num_review']} for review."
        )


def _missing_warnings(study: _Study) -> Iterator[str]:
    """The slides that are in no result, by name, and why."""
    failed = failures(study.paths)
    if len(failed):
        yield f"Failed and not in the results: {len(failed)} (see Provenance)."
    slides = study.slides()
    for state, text in (
        (SlideState.NOT_THERE, "not in the results, as nothing was made of them"),
        (SlideState.NO_SECTION, "without a section, so that they have no verdict"),
    ):
        names = slides[slides["state"] == state.value]["slide_id"].tolist()
        if names:
            more = f" and {len(names) - _MOST_FAILURES} more" if len(names) > _MOST_FAILURES else ""
            yield f"{len(names)} slide(s) of Test {text}: {', '.join(names[:_MOST_FAILURES])}{more}."
    failed_here = slides[slides["state"] == SlideState.FAILED.value]
    for slide in failed_here.head(_MOST_FAILURES).to_dict("records"):
        yield f"{slide['slide_id']} failed: {slide['reason']}"
    if len(failed_here) > _MOST_FAILURES:
        yield f"{len(failed_here) - _MOST_FAILURES} more slides of Test failed: see Slides."


def _model_section(study: _Study) -> Section:
    """What the slides of a cohort were judged by."""
    elsewhere = [_spoken(spec.name) for spec in SPECS.values() if spec.of_study_alone]
    return Section(
        lines=[
            "Network and thresholds came with the model; all slides of a cohort are of part Test.",
            f"What rests on a training or on Validation stands in the model's study alone: {', '.join(elsewhere)}.",
        ],
        blocks=[frame_block("The model.", model_facts(study.evidence.model))],
    )


def _data_section(study: _Study) -> Section:
    names = ("table1", "table2")
    return Section(
        lines=study.left_out(*names, "figure2"),
        blocks=[*study.blocks(*names), *study.picture("figure2")],
    )


def _selection_section(study: _Study) -> Section:
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


def _test_section(study: _Study) -> Section:
    names = ("table4", "intervals", "comparisons")
    return Section(
        lines=study.left_out(*names, "figure5", "roc", "figure6"),
        blocks=[
            *study.blocks(*names),
            *study.picture("figure5", "Figure 5. Wrongly classified sections of Test."),
            *study.picture(
                "roc", "ROC and precision-recall of section verdicts over all t_p; marks: the chosen ones."
            ),
            *study.blocks("roc"),
            *study.picture("figure6"),
        ],
    )


def _blocks_section(study: _Study) -> Section:
    names = ("table5", "merge_weights")
    return Section(
        lines=study.left_out(*names, "figure8"),
        blocks=[*study.blocks(*names), *study.picture("figure8")],
    )


def _list_section(study: _Study) -> Section:
    """The sections of Test in the order in which a pathologist would look at them."""
    verdicts = study.evidence.verdicts(Part.TEST)
    table = build_verdict_table(verdicts[verdicts["setting"] == study.headline.setting])
    block = table_block(table)
    first = replace(block, rows=block.rows[:MOST_SECTIONS])
    rest = replace(block, rows=block.rows[MOST_SECTIONS:], folded=True, notes=(), title="")
    rest = replace(rest, title=f"The other {len(rest.rows)} sections")
    return Section(blocks=[first, *([rest] if rest.rows else [])])


def _slides_section(study: _Study) -> Section:
    return Section(
        lines=study.left_out("verdict_counts", "slides"),
        blocks=[*study.blocks("verdict_counts"), *study.blocks("slides", folded=True)],
    )


def _overlays_section(study: _Study) -> Section:
    """Small pictures of the slides of Test, as the table of slides orders them."""
    setting = study.headline.setting
    drawn = [
        (slide, path)
        for slide in study.slides().to_dict("records")
        if (path := study.paths.overlay(setting, slide["slide_id"])).exists()
    ]
    lines = (
        [] if drawn else [f"No slide of Test is drawn for {setting}: `python analysis/make.py overlays` draws them."]
    )
    if len(drawn) > MOST_OVERLAYS:
        lines.append(f"{MOST_OVERLAYS} of {len(drawn)}; all are in {study.paths.overlays.name}/{setting}.")
    tiles = [_overlay_tile(study, slide, path) for slide, path in drawn[:MOST_OVERLAYS]]
    title = f"Slides of Test under the heatmap of {setting}"
    outcome = study.tables.get("overlays")
    return Section(
        lines=lines,
        warnings=[outcome.reason] if isinstance(outcome, NotMade) and outcome.is_fault else [],
        blocks=[GalleryBlock(title=title, tiles=tiles)] if tiles else [],
    )


def _overlay_tile(study: _Study, slide: Mapping[Hashable, Any], path: Path) -> Tile:
    counts = [f"{slide[f'num_{verdict.lower()}']} {verdict}" for verdict in Verdict]
    return Tile(
        name=str(slide["slide_id"]),
        lines=[", ".join(counts)],
        uri=data_uri(_as_jpeg(path, most_px=_OVERLAY_PX), "jpeg"),
        link=path.relative_to(study.paths.shown()).as_posix(),
    )


def _time_section(study: _Study) -> Section:
    return Section(
        lines=["Reading and the network run beside each other, so their times do not add up."],
        blocks=[frame_block("Seconds a slide took, by the ledger.", slide_times(study.evidence))],
    )


def _numbers(intervals: pd.DataFrame, choice: Choice) -> Iterator[Number]:
    mine = (
        intervals[
            (intervals["part"] == Part.TEST.value) & intervals["is_final"] & (intervals["setting"] == choice.setting)
        ]
        .set_index("figure")
        .to_dict("index")
    )
    titles = ("accuracy", "sensitivity", "specificity", f"F_{choice.beta:g}")
    for name, title in zip(FIGURES, titles, strict=True):
        if name in mine:
            value, _, rest = interval_text(interval_from(mine[name])).partition(" ")
            yield Number(name=title, value=value, range=rest.strip("()"))


def _resolution_lines(study: _Study) -> Iterator[str]:
    """Which other settings Test tells apart from the headline's."""
    table = study.tables["comparisons"]
    if not isinstance(table, Table):
        return
    settings = {choice.setting for choice in study.evidence.choices}
    for row in table.frame.to_dict("records"):
        pair = {row["one"], row["other"]}
        if study.headline.setting in pair and pair <= settings:
            (other,) = pair - {study.headline.setting}
            sign = 1 if row["one"] == study.headline.setting else -1
            difference = f"{sign * row['accuracy_difference']:+.3f} of accuracy"
            yield f"Against {other}: {difference}, {'resolved' if row['is_resolved'] else NOT_RESOLVED}."


def _training_section(study: _Study) -> Section:
    picture = study.paths.tables / "learning_curves.png"
    table = write_learning_curves(study.evidence)
    return Section(
        lines=[*table.notes, *study.left_out("figure4")],
        blocks=[
            PictureBlock(uri=data_uri(picture.read_bytes(), "png"), caption=table.title),
            *study.picture("figure4"),
        ],
    )


def _nearest_section(study: _Study) -> Section:
    """The verdicts that the smallest shifts of probability would change; no label is needed for it."""
    return Section(
        lines=study.left_out("nearest_verdicts", "flip_shifts"),
        blocks=[*_nearest_of_headline(study), *study.blocks("flip_shifts", folded=True)],
    )


def _nearest_of_headline(study: _Study) -> Iterator[TableBlock]:
    table, setting = study.tables["nearest_verdicts"], study.headline.setting
    if isinstance(table, Table):
        mine = table.printed[table.printed["setting"] == setting].drop(columns="setting")
        title = f"The {len(mine)} verdicts of {setting} that the smallest shifts of probability would change."
        yield replace(frame_block(title, mine), notes=table.notes)


def _errors_section(study: _Study) -> Section:
    return Section(
        lines=study.left_out("error_groups", "figure7"),
        blocks=[
            *_galleries(study),
            *study.picture("figure7"),
            *study.blocks("error_groups", folded=True),
        ],
    )


def _galleries(study: _Study) -> Iterator[GalleryBlock]:
    """The wrong verdicts of the headline's setting: missed ones, then false alarms, the worst first."""
    verdicts = section_verdicts(rows_of(study.evidence.ledger, [Part.TEST], final_only=True), study.headline)
    boxes = boxes_by_slide(verdicts)
    wrong = verdicts[verdicts["correct"].eq(False).fillna(False)]
    kinds: tuple[tuple[Literal["fn", "fp"], str, str], ...] = (
        ("fn", Label.TUMOR.value, "Missed: labelled Tumor, called Normal"),
        ("fp", Label.NORMAL.value, "False alarms: labelled Normal, called Tumor"),
    )
    for error, label, title in kinds:
        mine = wrong[wrong["label"] == label].sort_values("tumor_until", ascending=error == "fn", kind="stable")
        if not mine.empty:
            shown = mine.head(MOST_PICTURES).to_dict("records")
            more = f"; the {len(shown)} worst" if len(mine) > len(shown) else ""
            yield GalleryBlock(
                title=f"{title}: {len(mine)}, by {study.headline.setting}{more}",
                tiles=[_tile(study, row, error, boxes[row["slide_id"]]) for row in shown],
            )


def _tile(
    study: _Study, row: Mapping[Hashable, Any], error: Literal["fn", "fp"], boxes_level0_px: Mapping[str, Box]
) -> Tile:
    """A section with its picture; where there can be none, why. The boxes are those of its slide."""
    lines = [
        f"Tumor up to t_p {row['tumor_until']:.2f}; chosen {row['t_p']:.2f}",
        f"flip shift {shift_texts([row['flip_shift']])[0]}",
        f"largest region {row['area_um2']:,.0f} um2; t_A {row['t_a_um2']:,.0f}",
    ]
    if row["prefilled"]:
        lines.append(f"pre-filled: {row['prefilled']}")
    try:
        record = study.evidence.manifest.slide(str(row["slide_id"]))
        picture = section_picture(study.paths, record, study.headline, row, boxes_level0_px)
    except (SlideError, HeatmapError, ManifestError) as reason:
        return Tile(name=str(row["section_id"]), lines=[*lines, f"no picture: {reason}"], error=error)
    return Tile(name=str(row["section_id"]), lines=lines, error=error, uri=data_uri(picture, "jpeg"))


def _trust_section(study: _Study) -> Section:
    triage = study.tables.get("triage")
    warnings = [note for note in triage.notes if note.startswith("WARNING")] if isinstance(triage, Table) else []
    return Section(
        lines=study.left_out("reliability", "triage"),
        warnings=warnings,
        blocks=[
            *study.picture("reliability", "Share of Tumor among sections of a probability; dotted: calibrated."),
            *study.blocks("reliability", "triage"),
        ],
    )


def _margins_section(study: _Study) -> Section:
    """The smallest margins by the ledger; no slide is read for them."""
    verdicts = study.evidence.verdicts(Part.TEST)
    return Section(warnings=[MARGIN_WARNING], blocks=[table_block(bounds_table(verdicts), folded=True)])


def _provenance_section(study: _Study) -> Section:
    paths = study.paths
    not_made = [[name, each.reason] for name, each in study.tables.items() if isinstance(each, NotMade)]
    failed = failures(paths)
    took, notes = costs(paths)
    # A cohort has no runs: what its model says of itself stands above.
    is_cohort, choices = study.evidence.is_cohort, study.evidence.choices
    chosen = [] if is_cohort else [frame_block("The chosen models.", runs(paths, choices))]
    return Section(
        blocks=[
            frame_block("The study.", facts(paths, study.evidence.manifest)),
            *chosen,
            replace(frame_block("What the stages took.", took), notes=notes),
            *([frame_block("Failed, and not in the results.", failed)] if len(failed) else []),
            *([TableBlock(title="Not made.", heading=["what", "why"], rows=not_made)] if not_made else []),
        ],
    )


_STUDY_PAGE: Mapping[str, Callable[[_Study], Section]] = {
    "Overview": _overview_section,
    "Data": _data_section,
    "Training": _training_section,
    "Selection": _selection_section,
    "Test": _test_section,
    "Verdicts nearest to changing": _nearest_section,
    "Decoder blocks": _blocks_section,
    "Errors": _errors_section,
    "Probabilities and triage": _trust_section,
    "Sections": _list_section,
    "Slides": _slides_section,
    "Overlays": _overlays_section,
    "Margins": _margins_section,
    "Time": _time_section,
    "Provenance": _provenance_section,
}
"""The parts of a study's page by their titles, in their order."""
_COHORT_PAGE: Mapping[str, Callable[[_Study], Section]] = {
    "Overview": _overview_section,
    "Model": _model_section,
    **{
        title: _STUDY_PAGE[title]
        for title in (
            *("Sections", "Slides", "Overlays", "Verdicts nearest to changing", "Test", "Errors", "Decoder blocks"),
            *("Probabilities and triage", "Margins", "Time", "Provenance"),
        )
    },
}
"""The parts of a cohort's page: what was found comes first, and there is nothing of a training."""
