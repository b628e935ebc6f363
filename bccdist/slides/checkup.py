"""What is wrong with a slide, its annotation and its sections, found in seconds and before any job needs them.

`check_slide` looks at one slide and never raises for what is wrong with it: that becomes findings. `set_checkup` adds
what only shows among all slides of a manifest.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from bccdist.addresses import Location
from bccdist.configuration import CELL_PX
from bccdist.errors import AnnotationError, RemoteError, SlideError
from bccdist.log import notes_apart
from bccdist.parts import Kind, Label, Part
from bccdist.slides.annotations import Annotation, OffTissueError, UnknownNamesError, read_annotations
from bccdist.slides.annotations.contradictions import (
    TwoKindsError,
    contradiction,
    label_doubt,
    require_one_kind,
)
from bccdist.slides.annotations.samples import Samples
from bccdist.slides.box_faults import BoxFaults, box_faults
from bccdist.slides.cell_rows import ReadingTally, readable_rows
from bccdist.slides.colours import colour_doubt
from bccdist.slides.geometry import Box, cell_shape, tissue_cells
from bccdist.slides.manifest import Kinds, SectionRecord, SlideRecord
from bccdist.slides.private_fields import annotation_fields, fields_in_name, private_fields, private_images
from bccdist.slides.quality_doubts import quality_doubts
from bccdist.slides.scales import Scale, scale_of
from bccdist.slides.section_map import share_out
from bccdist.slides.sections import Section, find_sections, have_boxes, sections_of
from bccdist.slides.slide import Slide
from bccdist.slides.slide_file import SlideFile, open_slide_file
from bccdist.slides.tissue import TISSUE_MPP, TissueError, tissue_mask

PROBE_PX = 256
"""Edge of the areas that are read on trial, in the target frame."""
MOST_TISSUE_PROBES = 8
LARGE_RESIZE = 3.0
"""Pixels of the read level per target pixel, along an edge, from which reading is called slow: nine for each one."""
LARGE_OVERVIEW_PX = 250_000_000
"""Pixels read for the tissue mask from which that is called slow; a full pyramid leaves a few ten million."""
SHARE_WELL_ON_TISSUE = 0.8
"""Share of the annotated area on tissue below which a person should look; below a half the annotation is refused."""
_PATH_PARTS = 3
"""A path's file and folders that are looked at for the name of a patient, from its end."""
_WHITE_FROM, _BLACK_TO = 250, 5


class Severity(StrEnum):
    """Whether a finding stops the slide from being used."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """What was found; the names in the report."""

    NOT_OPENED = "not-opened"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    BLANK_TISSUE = "blank-tissue"
    ABSENT_TISSUE = "absent-tissue"
    UNLIKELY_COLOURS = "unlikely-colours"
    POOR_QUALITY = "poor-quality"
    SLOW_RESAMPLING = "slow-resampling"
    SLOW_OVERVIEW = "slow-overview"
    UNUSED_LEVELS = "unused-levels"
    UNCERTAIN_TISSUE = "uncertain-tissue"
    NO_TISSUE = "no-tissue"
    BAD_ANNOTATION = "bad-annotation"
    UNKNOWN_NAMES = "unknown-names"
    NO_TUMORNEST = "no-tumornest"
    TUMOR_IN_NORMAL = "tumor-in-normal"
    OFF_TISSUE = "off-tissue"
    TWO_KINDS = "two-kinds"
    BAD_SECTIONS = "bad-sections"
    OTHER_NUMBER = "other-number-of-sections"
    EMPTY_SECTION = "empty-section"
    MISSED_PIECE = "missed-piece"
    CUT_PIECE = "cut-piece"
    SHARED_PIECE = "shared-piece"
    NO_LABEL = "no-label"
    OUTLYING_MPP = "outlying-mpp"
    UNLIKELY_MPP = "unlikely-mpp"
    SAME_FILE = "same-file"
    SAME_PIXELS = "same-pixels"
    LOOKS_ALIKE = "looks-alike"
    NOT_COMPARED = "not-compared"
    PRIVATE_NAME = "private-name"
    CRASH = "crash"
    TIMEOUT = "timeout"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with a slide."""

    code: Code
    severity: Severity
    text: str
    """What, and what to do; the slide's id stands elsewhere."""


@dataclass(kw_only=True)
class SlideCheckup:
    """What was found on one slide; a fact is None where the checks did not come so far."""

    slide_id: str
    part: Part
    path: str
    findings: list[Finding] = field(default_factory=list)
    file_bytes: int | None = None
    """Size of the named file; a slide in several files has more."""
    vendor: str | None = None
    num_levels: int | None = None
    size_level0_px: tuple[int, int] | None = None
    mpp_level0: float | None = None
    scale: Scale | None = None
    """The same with the scanner and its objective, to be held against other slides."""
    level: int | None = None
    """Pyramid level that patches are read from."""
    resize: float | None = None
    """Pixels of the read level per target pixel; 1 where the level is used as it is."""
    mpp: float | None = None
    """Resolution of the target frame, in um per pixel."""
    size_mm: tuple[float, float] | None = None
    tissue_mm2: float | None = None
    num_sections_found: int | None = None
    num_sections_listed: int = 0
    """Rows of sections.csv."""
    num_sections_labelled: int = 0
    num_sections_tumor: int = 0
    """Of these, labelled Tumor."""
    is_labelled_normal: bool = False
    """Whether it has sections and all are labelled Normal, so that no Tumornest is right."""
    num_annotation_files: int = 0
    num_polygons: Mapping[Kind, int] | None = None
    annotated_um2: Mapping[Kind, float] | None = None
    share_on_tissue: float | None = None
    """Share of the annotated area that lies on tissue, 0 to 1."""
    notes: list[str] = field(default_factory=list)
    """What was taken for granted, a sentence each: no finding, but to be known."""
    private_images: list[str] = field(default_factory=list)
    """Images in its file that may show the label."""
    private_fields: list[str] = field(default_factory=list)
    """Filled fields of its file, and of its annotations, that may name a patient, a person or a day; no texts."""
    is_named_after_patient: bool = False
    """Whether the slide_id has the text of its patient_id."""
    unknown_names: dict[str, list[str]] = field(default_factory=dict)
    """Names or values of the annotation without a meaning, by the table of kinds.toml."""

    def add(self, code: Code, severity: Severity, text: str) -> None:
        """Keep a finding."""
        self.findings.append(Finding(code=code, severity=severity, text=text))

    def count(self, severity: Severity) -> int:
        """How many findings are this severe."""
        return sum(finding.severity is severity for finding in self.findings)


def check_slide(
    record: SlideRecord,
    sections: Sequence[SectionRecord],
    kinds: Kinds,
    *,
    target_mpp: float,
    mpp_tolerance: float,
    each_cell: bool = True,
) -> SlideCheckup:
    """Open a slide, read it on trial, and hold its annotation and sections against its tissue.

    Args:
        record: the slide.
        sections: its rows of sections.csv.
        kinds: what the names in annotations mean.
        target_mpp: um per pixel that the network sees.
        mpp_tolerance: relative deviation up to which a level is used without resampling.
        each_cell: whether all tissue is read and held against the overview, as it is in inference; False reads some
            places alone, and notes that.
    """
    with notes_apart() as told:
        checkup = _checked(
            record, sections, kinds, target_mpp=target_mpp, mpp_tolerance=mpp_tolerance, each_cell=each_cell
        )
    checkup.notes += [text.replace(f"{record.path}: ", "") for text in told]
    return checkup


def _checked(
    record: SlideRecord,
    sections: Sequence[SectionRecord],
    kinds: Kinds,
    *,
    target_mpp: float,
    mpp_tolerance: float,
    each_cell: bool,
) -> SlideCheckup:
    checkup = begin_checkup(record, sections)
    if isinstance(record.path, Path) and not record.path.exists():
        text = f"the slide is not there, looked at {record.path}; correct its path in slides.csv, or take it out"
        checkup.add(Code.NOT_OPENED, Severity.ERROR, text)
        return checkup
    try:
        _check_file(checkup, record.path)
        slide = Slide(record.path, target_mpp=target_mpp, tolerance=mpp_tolerance, mpp=record.mpp)
    except SlideError as error:
        checkup.add(Code.NOT_OPENED, Severity.ERROR, _without_path(error, record.path))
        return checkup
    # One finding does not hide the next: each check goes on where it can, so that a slide is mended in one go.
    with slide:
        _check_scale(checkup, slide, scanner=record.scanner)
        _check_privacy(checkup, slide, record)
        _check_places(checkup, slide, _probes_over_slide(slide))
        tissue = _find_tissue(checkup, slide, sections)
        if tissue is None:
            return checkup
        _check_tissue(checkup, slide, tissue)
        _check_colours(checkup, slide, tissue)
        for doubt in quality_doubts(slide, tissue):
            text = f"{doubt}; look at the slide, and scan or clean it again"
            checkup.add(Code.POOR_QUALITY, Severity.WARNING, text)
        if each_cell:
            _check_cells(checkup, slide, tissue)
        else:
            checkup.notes.append("that all of its tissue is in the file, and is that of its overview, was not checked")
        _check_annotations(checkup, slide, tissue, record, kinds)
        _check_sections(checkup, slide, tissue, sections)
    return checkup


def _find_tissue(checkup: SlideCheckup, slide: Slide, sections: Sequence[SectionRecord]) -> NDArray[np.bool_] | None:
    """The tissue mask; None where there is none. What speaks against it is a finding."""
    try:
        return tissue_mask(slide, for_sections=True)
    except TissueError as error:
        doubt = _without_path(error, slide.path)
    except SlideError as error:
        text = f"no overview can be read, so that tissue is not known: {_without_path(error, slide.path)}"
        checkup.add(Code.UNREADABLE, Severity.ERROR, text)
        return None
    try:
        tissue = tissue_mask(slide)
    except TissueError:
        tissue = None
    # Boxes from a person need no glass between them, but what is tissue in them stays uncertain.
    severity = Severity.WARNING if tissue is not None and have_boxes(sections) else Severity.ERROR
    checkup.add(Code.UNCERTAIN_TISSUE, severity, doubt)
    return tissue


def begin_checkup(record: SlideRecord, sections: Sequence[SectionRecord]) -> SlideCheckup:
    """A slide's checkup with what the manifest knows of it."""
    return SlideCheckup(
        slide_id=record.slide_id,
        part=record.part,
        path=str(record.path),
        num_sections_listed=len(sections),
        num_sections_labelled=sum(section.label is not None for section in sections),
        num_sections_tumor=sum(section.label is Label.TUMOR for section in sections),
        is_labelled_normal={section.label for section in sections} == {Label.NORMAL},
        num_annotation_files=len(record.annotations),
    )


def _without_path(error: Exception, path: Location) -> str:
    """The error's message without the slide's path, for where the slide is named already."""
    return str(error).replace(f"{path}: ", "")


def _check_file(checkup: SlideCheckup, path: Location) -> None:
    if isinstance(path, Path) and not path.is_file():
        return
    with open_slide_file(path) as file:
        checkup.file_bytes = file.size_bytes
        end = _end_of_tiles(file)
    if end is not None and end > checkup.file_bytes:
        text = (
            f"the file has {checkup.file_bytes:,} bytes, but its tiles reach to byte {end:,}: it was cut off; "
            "copy it again from the scanner"
        )
        checkup.add(Code.TRUNCATED, Severity.ERROR, text)


def _end_of_tiles(file: SlideFile) -> int | None:
    """The byte at which a TIFF's pixels end, as its own directory says; None where no directory can be read."""
    try:
        with tifffile.TiffFile(file.reading(), name=file.location.name) as tiff:
            ends = [
                offset + size
                for page in tiff.pages
                for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True)
            ]
    except RemoteError:
        raise
    # Whatever tifffile cannot read is for OpenSlide to judge: not every slide is a TIFF, and not every TIFF is whole.
    except (OSError, ValueError, TypeError, IndexError, KeyError, AttributeError):
        return None
    return max(ends, default=None)


def _check_scale(checkup: SlideCheckup, slide: Slide, *, scanner: str) -> None:
    resolution = slide.resolution
    checkup.vendor = slide.properties.get("openslide.vendor", "")
    checkup.num_levels = slide.num_levels
    checkup.size_level0_px = slide.level0_size
    checkup.scale = scale_of(checkup.slide_id, scanner, slide.properties, resolution.mpp_level0)
    checkup.mpp_level0, checkup.mpp = resolution.mpp_level0, resolution.mpp
    checkup.level, checkup.resize = resolution.level, resolution.resize
    if slide.why_not_by_tile:
        checkup.notes.append(f"it is read through OpenSlide, as {slide.why_not_by_tile}")
    width_px, height_px = slide.level0_size
    checkup.size_mm = (width_px * resolution.mpp_level0 / 1000, height_px * resolution.mpp_level0 / 1000)
    if slide.unused_levels:
        text = (
            f"level(s) {', '.join(map(str, slide.unused_levels))} are not used: their size is not level 0's by one "
            "factor, or another level has it, too; finer ones are read instead, which may be slow: convert the slide"
        )
        checkup.add(Code.UNUSED_LEVELS, Severity.WARNING, text)
    if resolution.resize >= LARGE_RESIZE:
        text = (
            f"no level lies between {resolution.mpp / resolution.resize:.3g} and {resolution.mpp:.3g} um/px, so that "
            f"{resolution.resize**2:.0f} pixels are read for each one: slow; convert the slide to a full pyramid"
        )
        checkup.add(Code.SLOW_RESAMPLING, Severity.WARNING, text)
    num_px = slide.overview_px(TISSUE_MPP)
    if num_px >= LARGE_OVERVIEW_PX:
        text = (
            f"its pyramid has no coarse level: {num_px / 1e6:,.0f} million pixels are read to find the tissue: slow; "
            "convert the slide to a full pyramid"
        )
        checkup.add(Code.SLOW_OVERVIEW, Severity.WARNING, text)


def _check_privacy(checkup: SlideCheckup, slide: Slide, record: SlideRecord) -> None:
    """Name what may name a patient, and hold it against the names that appear in what is made of the slide."""
    checkup.private_images = private_images(slide.path)
    fields = private_fields(slide.path, slide.properties)
    checkup.private_fields = [
        *sorted(fields),
        *(f"annotation.{name}" for name in annotation_fields(record.annotations)),
    ]
    checkup.is_named_after_patient = bool(fields_in_name({"patient_id": record.patient_id}, record.slide_id))
    for what, name, where in (
        ("slide_id", record.slide_id, "every table, picture and file name; give it another one in slides.csv"),
        (
            "path",
            "/".join(PurePath(str(record.path)).parts[-_PATH_PARTS:]),
            "the study's copy of slides.csv and in messages; rename it",
        ),
    ):
        if found := fields_in_name(fields, name):
            text = f"its {what} has the text of {', '.join(found)}, which may name a patient, and appears in {where}"
            checkup.add(Code.PRIVATE_NAME, Severity.WARNING, text)


def _probes_over_slide(slide: Slide) -> dict[str, Box]:
    """The four corners and the centre, in the target frame."""
    right, bottom = max(0, slide.width_px - PROBE_PX), max(0, slide.height_px - PROBE_PX)
    corners = {
        "top left corner": (0, 0),
        "top right corner": (right, 0),
        "bottom left corner": (0, bottom),
        "bottom right corner": (right, bottom),
        "centre": (right // 2, bottom // 2),
    }
    return {name: Box(x, y, PROBE_PX, PROBE_PX) for name, (x, y) in corners.items()}


def _check_places(checkup: SlideCheckup, slide: Slide, places: Mapping[str, Box]) -> dict[str, NDArray[np.uint8]]:
    """Read some places on trial; what cannot be read is one finding. Returns the images of the others."""
    images: dict[str, NDArray[np.uint8]] = {}
    errors: dict[str, str] = {}
    for name, box_px in places.items():
        try:
            images[name] = slide.read(box_px)
        except SlideError as error:
            errors[name] = _without_path(error, slide.path)
            slide.reopen()  # OpenSlide refuses every read after one that failed
    if errors:
        first = next(iter(errors.values()))
        text = f"{len(errors)} of {len(places)} places cannot be read ({', '.join(errors)}): {first}"
        checkup.add(Code.UNREADABLE, Severity.ERROR, text)
    return images


def _check_tissue(checkup: SlideCheckup, slide: Slide, tissue: NDArray[np.bool_]) -> None:
    found = find_sections(tissue)
    checkup.num_sections_found = len(found)
    checkup.tissue_mm2 = int(tissue.sum()) * TISSUE_MPP**2 / 1e6
    if not found:
        severity = Severity.ERROR if checkup.part.is_annotated else Severity.WARNING
        text = f"no tissue was found; look at the slide, and take it out of {checkup.part.value} if it is empty"
        checkup.add(Code.NO_TISSUE, severity, text)
    # Corners and centre are glass on most slides, and a broken tile may lie under tissue alone.
    places = {}
    for box in found[:MOST_TISSUE_PROBES]:
        x, y = _deepest(tissue, box)
        x_px, y_px = (int((edge + 0.5) * TISSUE_MPP / slide.resolution.mpp) for edge in (x, y))
        probe = Box(max(0, x_px - PROBE_PX // 2), max(0, y_px - PROBE_PX // 2), PROBE_PX, PROBE_PX)
        downsample = slide.resolution.downsample
        places[f"tissue at level-0 px ({round(x_px * downsample)}, {round(y_px * downsample)})"] = probe
    for place, image in _check_places(checkup, slide, places).items():
        if image.min() >= _WHITE_FROM or image.max() <= _BLACK_TO:
            colour = "white" if image.min() >= _WHITE_FROM else "black"
            text = f"the {place} is all {colour} when read: its levels show different things; scan it again"
            checkup.add(Code.BLANK_TISSUE, Severity.WARNING, text)


def _check_colours(checkup: SlideCheckup, slide: Slide, tissue: NDArray[np.bool_]) -> None:
    doubt = colour_doubt(slide, tissue)
    if doubt:
        checkup.add(Code.UNLIKELY_COLOURS, Severity.WARNING, f"{doubt}; look at the slide, and convert it")


def _check_cells(checkup: SlideCheckup, slide: Slide, tissue: NDArray[np.bool_]) -> None:
    """Read all tissue as inference does, and say which cells lack it or show something else than the overview."""
    resolution = slide.resolution
    shape = cell_shape(slide.width_px, slide.height_px, cell_px=CELL_PX)
    needed = tissue_cells(tissue, shape=shape, pixels_per_cell=CELL_PX * resolution.mpp / TISSUE_MPP)
    tally = ReadingTally()
    unread = np.array([cell_row.unread for cell_row in readable_rows(slide, needed, tally, tissue)])
    if not unread.any():
        return
    row, col = np.argwhere(unread)[0].tolist()
    corner = f"({round(col * CELL_PX * resolution.downsample)}, {round(row * CELL_PX * resolution.downsample)})"
    what = "the slide is refused" if checkup.part.is_annotated else "their sections will be for review"
    reason = tally.unread_reason.replace(f"{slide.path}: ", "")
    text = (
        f"{tally.num_unread_cells} of {int(needed.sum())} cells of {CELL_PX * resolution.mpp:.0f} um with tissue are "
        f"not read, the first at level-0 px {corner}: {reason}; {what}: export or scan it again"
    )
    checkup.add(Code.ABSENT_TISSUE, Severity.ERROR if checkup.part.is_annotated else Severity.WARNING, text)


def _deepest(tissue: NDArray[np.bool_], box: Box) -> tuple[int, int]:
    """The pixel (x, y) of tissue in a box that is farthest from glass."""
    padded = np.pad(tissue[box.slices()].astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_3)[1:-1, 1:-1]
    row, col = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return box.x + int(col), box.y + int(row)


def _check_annotations(
    checkup: SlideCheckup, slide: Slide, tissue: NDArray[np.bool_], record: SlideRecord, kinds: Kinds
) -> None:
    annotation = _read_each(checkup, slide, tissue, record, kinds)
    if annotation is None:
        return
    checkup.num_polygons, checkup.annotated_um2 = dict(annotation.num_polygons), dict(annotation.areas_um2)
    if record.part.is_annotated:
        _check_against_labels(checkup, has_tumor=checkup.annotated_um2[Kind.TUMORNEST] > 0)
    checkup.share_on_tissue = Samples.of(annotation, slide).share_on(tissue, slide)
    if checkup.share_on_tissue is not None and checkup.share_on_tissue < SHARE_WELL_ON_TISSUE:
        text = (
            f"{checkup.share_on_tissue:.0%} of the annotated area lies on tissue; the annotation may be shifted: open "
            "both together"
        )
        checkup.add(Code.OFF_TISSUE, Severity.WARNING, text)
    twice = contradiction(annotation, slide)
    if twice.is_large:
        text = (
            f"{twice.share:.0%} of the area annotated as {Kind.NORMAL} is annotated as {Kind.TUMORNEST}, too "
            f"({twice.num_polygons} polygon(s) for the most part): {Kind.TUMORNEST} counts there; take the wrong one "
            "out, or cut it out of the other as a hole"
        )
        checkup.add(Code.TWO_KINDS, Severity.WARNING, text)
    checkup.notes += annotation.notes
    num_unmarked = annotation.num_unmarked_polygons
    if num_unmarked:
        checkup.notes.append(
            f"{num_unmarked} of {sum(checkup.num_polygons.values())} polygons lie between the centres of pixels of "
            f"{slide.resolution.mpp:.3g} um, and mark none"
        )


def _check_against_labels(checkup: SlideCheckup, *, has_tumor: bool) -> None:
    """Hold the annotated tumor against what the sections are labelled."""
    doubt = label_doubt(
        has_tumor=has_tumor, num_tumor=checkup.num_sections_tumor, all_normal=checkup.is_labelled_normal
    )
    if doubt:
        code = Code.TUMOR_IN_NORMAL if has_tumor else Code.NO_TUMORNEST
        checkup.add(code, Severity.ERROR if doubt.is_error else Severity.WARNING, doubt.text)


def _read_each(
    checkup: SlideCheckup, slide: Slide, tissue: NDArray[np.bool_], record: SlideRecord, kinds: Kinds
) -> Annotation | None:
    """The annotation of a slide; None where it has none, or where any file has faults, which become findings."""
    severity = Severity.ERROR if record.part.is_annotated else Severity.WARNING
    read = []
    # One file at a time, so that faults in the first do not hide those in the second.
    for path in record.annotations:
        try:
            read.append(read_annotations([path], slide, kinds, tissue=tissue))
        except UnknownNamesError as error:
            names = [str(name) for name in error.unknown]
            checkup.unknown_names.setdefault(error.table, []).extend(names)
            text = f"{path.name}: no meaning in [{error.table}] of kinds.toml: {', '.join(map(repr, names))}"
            checkup.add(Code.UNKNOWN_NAMES, severity, text)
        except AnnotationError as error:
            code = Code.TWO_KINDS if isinstance(error, TwoKindsError) else Code.BAD_ANNOTATION
            if isinstance(error, OffTissueError):
                code, checkup.share_on_tissue = Code.OFF_TISSUE, error.share
            checkup.add(code, severity, str(error).replace(f"{path}: ", f"{path.name}: "))
    if not read or len(read) < len(record.annotations):
        return None
    annotation = Annotation.joined(slide, read)
    try:
        require_one_kind(record.annotations[-1], annotation)
    except TwoKindsError as error:
        checkup.add(Code.TWO_KINDS, severity, str(error).replace(f"{path}: ", f"{path.name}: "))
        return None
    return annotation


def _check_sections(
    checkup: SlideCheckup, slide: Slide, tissue: NDArray[np.bool_], records: Sequence[SectionRecord]
) -> None:
    num_found = checkup.num_sections_found or 0
    try:
        sections = sections_of(slide, checkup.slide_id, tissue, list(records))
    except SlideError as error:
        checkup.add(Code.BAD_SECTIONS, Severity.ERROR, _without_path(error, slide.path))
        return
    boxes_level0_px = [section.box_level0_px for section in sections]
    shares = share_out(tissue, boxes_level0_px, mpp_level0=slide.resolution.mpp_level0)
    empty = [section.section_id for section, px in zip(sections, shares.tissue_px(), strict=True) if not px]
    if empty:
        text = (
            f"no tissue of its own in the box of {', '.join(empty)}, whose verdict is review; correct it in "
            "sections.csv, or take it out"
        )
        checkup.add(Code.EMPTY_SECTION, Severity.WARNING, text)
    faults = box_faults(shares)
    _check_boxes(checkup, faults, sections, mpp_level0=slide.resolution.mpp_level0)
    # Where a piece is named, that there is another number of them says no more.
    if records and num_found != len(records) and not faults and not empty:
        text = (
            f"{len(records)} boxes in sections.csv, but {num_found} pieces of tissue were found; the boxes count: "
            "check that none is missing"
        )
        checkup.add(Code.OTHER_NUMBER, Severity.WARNING, text)
    _check_labels(checkup, len(sections))


def _check_boxes(checkup: SlideCheckup, faults: BoxFaults, sections: Sequence[Section], *, mpp_level0: float) -> None:
    """Say which pieces of tissue boxes miss, cut or share."""

    def place(box: Box) -> str:
        scaled = box.scaled(TISSUE_MPP / mpp_level0)
        return f"{tuple(scaled)}"

    in_px = "(x, y, width, height in level-0 px)"
    if faults.missed:
        text = (
            f"no box holds the tissue at {', '.join(map(place, faults.missed))} {in_px}: nothing is said about it; "
            "add a row to sections.csv, unless it is to be left out"
        )
        checkup.add(Code.MISSED_PIECE, Severity.WARNING, text)
    if faults.cut:
        listed = ", ".join(f"{place(box)}, {share:.0%}" for box, share in faults.cut)
        text = (
            f"boxes hold a part alone of the tissue at {listed} {in_px}: the rest counts for no section; widen the "
            "boxes in sections.csv, unless it is to be left out"
        )
        checkup.add(Code.CUT_PIECE, Severity.WARNING, text)
    if faults.shared:
        listed = ", ".join(
            f"{place(box)} by {' and '.join(sections[number - 1].section_id for number in numbers)}"
            for box, numbers in faults.shared
        )
        text = (
            f"one piece of tissue is shared by several boxes: at {listed} {in_px}; it is cut between them, so "
            "correct the boxes if it is one section"
        )
        checkup.add(Code.SHARED_PIECE, Severity.WARNING, text)


def _check_labels(checkup: SlideCheckup, num_sections: int) -> None:
    num_missing = num_sections - checkup.num_sections_labelled
    if num_missing <= 0:
        return
    severity = Severity.WARNING if checkup.part.is_annotated else Severity.ERROR
    use = {
        Part.TRAINING: "no figure needs those of Training; they only tell whether an annotation is complete",
        Part.VALIDATION_1: "the selection of the thresholds leaves them out",
        Part.VALIDATION_2: "the selection of the thresholds needs them",
        Part.TEST: "the figures of Test need them",
    }[checkup.part]
    how = "fill them in there" if checkup.num_sections_listed else "jobs/find_sections.py writes rows to fill in"
    text = f"{num_missing} of {num_sections} section(s) have no label in sections.csv; {use}; {how}"
    checkup.add(Code.NO_LABEL, severity, text)


def unknown_names_of(checkups: Iterable[SlideCheckup]) -> dict[str, dict[str, int]]:
    """On how many slides each name without a meaning occurs, by the table of kinds.toml that lacks it."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for checkup in checkups:
        for table, names in checkup.unknown_names.items():
            counts[table].update(set(names))
    return {
        table: dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))) for table, counter in counts.items()
    }
