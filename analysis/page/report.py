"""One page about a study: `python analysis/make.py report STUDY` writes STUDY/report.html.

Tables, charts and pictures are inside the file, so that it opens without a network, today and in ten years. It makes
the tables anew from the ledger; pictures of the paper's figures are taken as they are in STUDY/figures.
"""

import base64
import io
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import jinja2
import pandas as pd
import tyro
from PIL import Image

from analysis.evidence.evidence import Evidence
from analysis.evidence.flip_shifts import shift_texts
from analysis.evidence.provenance import costs, facts, failures, runs, slide_times
from analysis.evidence.resampling import FIGURES
from analysis.evidence.table import NotMade, Table, phantom_marks
from analysis.outlines.region_margins import bounds_table
from analysis.page.summary import Made, make_tables
from analysis.pictures.shown_sections import section_picture
from analysis.tables.comparisons import NOT_RESOLVED
from analysis.tables.intervals import interval_from, interval_text
from analysis.tables.learning_curves import write_learning_curves
from bccdist import __version__
from bccdist.configuration import phantom_warning
from bccdist.errors import BccdistError, HeatmapError, LedgerError, ManifestError, SlideError
from bccdist.files import write_text
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_output import boxes_by_slide
from bccdist.sections.margins import MARGIN_WARNING
from bccdist.sections.section_rows import rows_of
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.slides.geometry import Box

MOST_PICTURES = 12
"""Sections of each kind of error that are shown."""
_JPEG_QUALITY = 88
_PAPER_FIGURES = {
    "figure2": "Figure 2. Section labels on two Test slides: Tumor red, Normal green.",
    "figure4": "Figure 4. The settings on patches of Validation I.",
    "figure6": "Figure 6. Sections of Test that were classified right.",
    "figure7": "Figure 7. A section of Test that was called Tumor and is not.",
    "figure8": "Figure 8. Outputs of the decoder's blocks on patches of Validation I.",
}


@dataclass(frozen=True, kw_only=True)
class TableBlock:
    """A table on the page."""

    title: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    folded: bool = False
    kind: Literal["table"] = "table"


@dataclass(frozen=True, kw_only=True)
class PictureBlock:
    """A picture on the page."""

    uri: str
    caption: str
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One section in a gallery."""

    name: str
    lines: Sequence[str]
    error: Literal["fn", "fp"]
    uri: str = ""


@dataclass(frozen=True, kw_only=True)
class GalleryBlock:
    """Sections beside each other."""

    title: str
    tiles: Sequence[Tile]
    kind: Literal["gallery"] = "gallery"


@dataclass(frozen=True, kw_only=True)
class Number:
    """One large number."""

    name: str
    value: str
    range: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page."""

    title: str
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
    numbers: Sequence[Number] = ()
    blocks: Sequence[TableBlock | PictureBlock | GalleryBlock] = field(default_factory=tuple)

    @property
    def anchor(self) -> str:
        """The name that links within the page lead to."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


@dataclass(frozen=True, kw_only=True)
class _Study:
    """What the page is made from."""

    evidence: Evidence
    headline: Choice
    """The setting that the first numbers and the pictures of errors are of."""
    tables: Made

    @property
    def paths(self) -> StudyPaths:
        """The study's files."""
        return self.evidence.paths

    def blocks(self, *names: str, folded: bool = False) -> Iterator[TableBlock]:
        """Take some tables; one that could not be made is left out, and named under "Not made"."""
        for name in names:
            table = self.tables[name]
            if isinstance(table, Table):
                yield table_block(table, folded=folded)

    def picture(self, name: str, caption: str = "") -> Iterator[PictureBlock]:
        """Take a picture from STUDY/figures, if it is there; the paper's figures have their own captions."""
        # Made elsewhere, the report shows the study's own where no newer ones were drawn.
        places = (self.paths.figure(name), StudyPaths(self.paths.root).figure(name))
        path = next(filter(Path.exists, places), None)
        if path is not None:
            # The paper's figures show tissue, which is smaller as JPEG.
            shows_tissue = name in _PAPER_FIGURES
            uri = data_uri(_as_jpeg(path), "jpeg") if shows_tissue else data_uri(path.read_bytes(), "png")
            yield PictureBlock(uri=uri, caption=caption or _PAPER_FIGURES[name])


def table_block(table: Table, *, folded: bool = False) -> TableBlock:
    """A table as it is printed."""
    return replace(frame_block(table.title, table.printed), notes=table.notes, folded=folded)


def _as_jpeg(path: Path) -> bytes:
    file = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(file, format="jpeg", quality=_JPEG_QUALITY)
    return file.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """A picture that stands in the page itself."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def write_report(
    study: Evidence,
    setting: str | None = None,
    *,
    tables: tyro.conf.Suppress[dict[str, Table | NotMade] | None] = None,
) -> Path:
    """Write one page about a study, with all of its tables.

    Args:
        study: The study's folder.
        setting: Which setting comes first: default is the one with the best F_beta on Validation I + II.
        tables: From `analysis.page.summary.make_tables`; None makes them anew.

    Returns:
        The page's path.

    Raises:
        ConfigurationError: the folder is no study.
        LedgerError: nothing was selected, or not for this setting.
    """
    # The manifest first: a folder that is no study is said to be none.
    drawn, marks = study.manifest.is_phantom, phantom_marks(study.selection)
    warning = phantom_warning(slides=drawn or marks["phantom"], weights=marks["phantom_weights"])
    headline = study.headline(setting)
    content = _Study(evidence=study, headline=headline, tables=make_tables(study) if tables is None else tables)
    text = render(study.root.resolve().name, list(_sections(content)), warning=warning)
    write_text(study.paths.report, text)
    return study.paths.report


def render(name: str, sections: Sequence[Section], *, warning: str) -> str:
    """The page's text; everything that is put in is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("analysis.page").joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        name=name,
        sections=sections,
        written_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        software=f"bccdist {__version__}",
        phantom=warning,
    )


def _sections(study: _Study) -> Iterator[Section]:
    yield _headline_section(study)
    yield Section(title="Data", blocks=[*study.blocks("table1", "table2"), *study.picture("figure2")])
    yield _training_section(study)
    yield Section(
        title="Selection",
        lines=["Epoch, t_p and t_A were chosen on Validation I + II (section 2.5); figures there are too good."],
        blocks=[
            *study.blocks("table3", "stability"),
            *study.picture("stability", "F_beta over the grid; the outline is the plateau, the ring the choice."),
        ],
    )
    yield Section(
        title="Test",
        blocks=[
            *study.blocks("table4", "intervals", "comparisons"),
            *study.picture("figure5", "Figure 5. Wrongly classified sections of Test."),
            *study.picture(
                "roc", "ROC and precision-recall of section verdicts over all t_p; marks: the chosen ones."
            ),
            *study.blocks("roc"),
            *study.picture("figure6"),
        ],
    )
    yield _nearest_section(study)
    yield Section(
        title="Decoder blocks",
        blocks=[*study.blocks("table5", "merge_weights"), *study.picture("figure8")],
    )
    yield _errors_section(study)
    yield _trust_section(study)
    yield _margins_section(study)
    yield Section(
        title="Time",
        lines=["Reading and the network run beside each other, so their times do not add up."],
        blocks=[frame_block("Seconds a slide took, by the ledger.", slide_times(study.evidence))],
    )
    yield _provenance_section(study)


def frame_block(title: str, frame: pd.DataFrame) -> TableBlock:
    """A frame of texts."""
    rows = frame.fillna("").astype(str).to_numpy().tolist()
    return TableBlock(title=title, heading=[str(name) for name in frame], rows=rows)


def _headline_section(study: _Study) -> Section:
    """The chosen model on Test in four numbers, and whether others are told apart from it."""
    choice, paths = study.headline, study.paths
    intervals = study.tables["intervals"]
    numbers = list(_numbers(intervals.frame, choice)) if isinstance(intervals, Table) else []
    return Section(
        title="Overview",
        lines=[
            (
                f"{choice.setting}, epoch {choice.epoch}, t_p {choice.t_p:.2f}, t_A {choice.t_a_um2:.0f} um2 "
                f"({choice.area_unit}): best F_{choice.beta:g} on Validation I + II, judged on Test."
            ),
            *_resolution_lines(study),
        ],
        warnings=[f"Failed and not in the results: {len(failures(paths))} (see Provenance)."]
        * bool(len(failures(paths))),
        numbers=numbers,
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
    try:
        table = write_learning_curves(study.evidence)
    except BccdistError as error:
        return Section(title="Training", lines=[str(error)])
    return Section(
        title="Training",
        lines=table.notes,
        blocks=[
            PictureBlock(uri=data_uri(picture.read_bytes(), "png"), caption=table.title),
            *study.picture("figure4"),
        ],
    )


def _nearest_section(study: _Study) -> Section:
    """The verdicts that the smallest shifts of probability would change; no label is needed for it."""
    return Section(
        title="Verdicts nearest to changing",
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
        title="Errors",
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
    triage = study.tables["triage"]
    warnings = [note for note in triage.notes if note.startswith("WARNING")] if isinstance(triage, Table) else []
    return Section(
        title="Probabilities and triage",
        warnings=warnings,
        blocks=[
            *study.picture("reliability", "Share of Tumor among sections of a probability; dotted: calibrated."),
            *study.blocks("reliability", "triage"),
        ],
    )


def _margins_section(study: _Study) -> Section:
    """The smallest margins by the ledger; no slide is read for them."""
    try:
        verdicts = study.evidence.verdicts(Part.TEST)
    except LedgerError as error:
        return Section(title="Margins", lines=[str(error)])
    return Section(
        title="Margins", warnings=[MARGIN_WARNING], blocks=[table_block(bounds_table(verdicts), folded=True)]
    )


def _provenance_section(study: _Study) -> Section:
    paths = study.paths
    not_made = [[name, each.reason] for name, each in study.tables.items() if isinstance(each, NotMade)]
    failed = failures(paths)
    took, notes = costs(paths)
    return Section(
        title="Provenance",
        blocks=[
            frame_block("The study.", facts(paths, study.evidence.manifest)),
            frame_block("The chosen models.", runs(paths, study.evidence.choices)),
            replace(frame_block("What the stages took.", took), notes=notes),
            *([frame_block("Failed, and not in the results.", failed)] if len(failed) else []),
            *([TableBlock(title="Not made.", heading=["what", "why"], rows=not_made)] if not_made else []),
        ],
    )
