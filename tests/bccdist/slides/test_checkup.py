"""Each thing that can be wrong with a slide is found, named, and nothing else is."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import tifffile
from synthetic_slides import GLASS, islands_picture, write_slide

from bccdist.errors import SlideError
from bccdist.files import write_json
from bccdist.parts import Kind, Label, Part
from bccdist.slides import checkup as module
from bccdist.slides.checkup import (
    Code,
    Severity,
    SlideCheckup,
    check_slide,
    unknown_names_of,
)
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import DEFAULT_KINDS, SectionRecord, SlideRecord
from bccdist.slides.slide import Slide

MPP = 2.0
WIDTH_PX, HEIGHT_PX = 1200, 640
ISLANDS = (Box(80, 80, 320, 200), Box(720, 120, 240, 160))


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two islands on noisy glass."""
    return write_islands(tmp_path_factory.mktemp("checkup") / "a.tif", *ISLANDS)


def write_islands(path: Path, *islands: Box, mpp: float | None = MPP) -> Path:
    return write_slide(path, islands_picture(WIDTH_PX, HEIGHT_PX, *islands, noise=3.0), mpp=mpp)


def write_boxes(path: Path, boxes: dict[str, Box]) -> Path:
    """GeoJSON with a rectangle for each name."""
    features = [
        {
            "type": "Feature",
            "properties": {"classification": {"name": name}},
            "geometry": {"type": "Polygon", "coordinates": [corners(box)]},
        }
        for name, box in boxes.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def corners(box: Box) -> list[list[int]]:
    ring = [[box.x, box.y], [box.x_end, box.y], [box.x_end, box.y_end], [box.x, box.y_end]]
    return [*ring, ring[0]]


def section(number: int, label: Label | None = Label.TUMOR, box: Box | None = None) -> SectionRecord:
    return SectionRecord(slide_id="a", section_id=f"a-{number}", label=label, box_level0_px=box)


BOTH = (section(0, box=ISLANDS[0]), section(1, Label.NORMAL, box=ISLANDS[1]))


def check(
    path: Path, sections: tuple[SectionRecord, ...] = BOTH, *, target_mpp: float = MPP, **changes: Any
) -> SlideCheckup:
    record = replace(SlideRecord(slide_id="a", part=Part.TEST, path=path), **changes)
    return check_slide(record, sections, DEFAULT_KINDS, target_mpp=target_mpp, mpp_tolerance=0.1)


def only(checkup: SlideCheckup, code: Code, severity: Severity) -> str:
    """The text of the one finding, which is of this code and severity."""
    (finding,) = checkup.findings
    assert (finding.code, finding.severity) == (code, severity), finding
    return finding.text


def test_a_clean_slide_has_facts_and_no_findings(slide_path: Path, tmp_path: Path) -> None:
    inner = Box(100, 100, 100, 50)
    annotation = write_boxes(tmp_path / "a.geojson", {"Tumornest": inner})
    checkup = check(slide_path, part=Part.TRAINING, annotations=(annotation,))
    assert checkup.findings == []
    assert (checkup.vendor, checkup.num_levels, checkup.level, checkup.resize) == ("generic-tiff", 1, 0, 1)
    assert checkup.size_mm == pytest.approx((2.4, 1.28))
    assert (checkup.num_sections_found, checkup.num_sections_listed, checkup.num_sections_labelled) == (2, 2, 2)
    assert checkup.tissue_mm2 == pytest.approx(sum(box.area for box in ISLANDS) * MPP**2 / 1e6, rel=0.1)
    assert checkup.annotated_um2 == {Kind.TUMORNEST: inner.area * MPP**2, Kind.STROMA: 0, Kind.NORMAL: 0}
    assert checkup.num_polygons is not None
    assert checkup.num_polygons[Kind.TUMORNEST] == 1
    assert checkup.share_on_tissue == 1
    assert checkup.file_bytes == slide_path.stat().st_size


def test_a_checkup_goes_into_json(slide_path: Path, tmp_path: Path) -> None:
    annotation = write_boxes(tmp_path / "a.geojson", {"Tumornest": ISLANDS[0], "Fat": ISLANDS[1]})
    write_json(tmp_path / "report.json", asdict(check(slide_path, annotations=(annotation,))))
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written["findings"][0]["code"] == "unknown-names"
    assert written["part"] == "Test"


def test_a_slide_that_is_not_there_is_said(tmp_path: Path) -> None:
    text = only(check(tmp_path / "gone.tif"), Code.NOT_OPENED, Severity.ERROR)
    assert f"the slide is not there, looked at {tmp_path / 'gone.tif'};" in text


@pytest.mark.parametrize("content", [b"", b"no slide"])
def test_what_is_no_slide_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    assert "cannot open it" in only(check(tmp_path / "a.tif"), Code.NOT_OPENED, Severity.ERROR)


def test_a_slide_without_scale_is_said_and_the_manifest_can_set_it(tmp_path: Path) -> None:
    path = write_islands(tmp_path / "a.tif", *ISLANDS, mpp=None)
    assert "set the column mpp in slides.csv" in only(check(path), Code.NOT_OPENED, Severity.ERROR)
    assert check(path, mpp=MPP).findings == []


def test_a_file_that_was_cut_off_is_said(tmp_path: Path) -> None:
    whole = write_islands(tmp_path / "a.tif", *ISLANDS)
    with tifffile.TiffFile(whole) as tiff:
        end = max(tiff.pages[0].dataoffsets)
    (tmp_path / "cut.tif").write_bytes(whole.read_bytes()[: end + 10])
    findings = check(tmp_path / "cut.tif").findings
    assert [finding.severity for finding in findings] == [Severity.ERROR] * len(findings)
    (text,) = [finding.text for finding in findings if finding.code is Code.TRUNCATED]
    assert f"the file has {end + 10:,} bytes" in text
    assert f"{whole.stat().st_size:,}" in text
    assert "copy it again" in text


def damage_tile(path: Path, number: int) -> None:
    """Overwrite what is stored of one tile of level 0."""
    with tifffile.TiffFile(path) as tiff:
        offset, size = tiff.pages[0].dataoffsets[number], tiff.pages[0].databytecounts[number]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * size)


def test_a_damaged_tile_is_found_and_placed(tmp_path: Path) -> None:
    path = write_islands(tmp_path / "a.tif", *ISLANDS)
    damage_tile(path, 4)
    findings = check(path).findings
    assert {(finding.code, finding.severity) for finding in findings} == {(Code.UNREADABLE, Severity.ERROR)}
    assert "1 of 5 places cannot be read (top right corner): " in findings[0].text
    assert "no overview can be read" in findings[1].text


def test_tissue_that_is_blank_when_read_is_a_warning(slide_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blank = np.full((module.PROBE_PX, module.PROBE_PX, 3), 255, dtype=np.uint8)
    monkeypatch.setattr(Slide, "read", lambda _slide, _box: blank)
    findings = check(slide_path).findings
    assert {(finding.code, finding.severity) for finding in findings} == {(Code.BLANK_TISSUE, Severity.WARNING)}
    assert "is all white when read" in findings[0].text
    assert len(findings) == len(ISLANDS)
    blank[:] = 0
    assert "is all black when read" in check(slide_path).findings[0].text


def test_an_unreadable_piece_of_tissue_is_placed(slide_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(slide: Slide, box_px: Box) -> np.ndarray:
        if Box(900, 200, 1, 1).intersection(box_px).area:
            raise SlideError(f"{slide.path}: cannot decode level 0")
        return np.full((box_px.height, box_px.width, 3), GLASS, dtype=np.uint8)

    monkeypatch.setattr(Slide, "read", read)
    text = only(check(slide_path), Code.UNREADABLE, Severity.ERROR)
    assert text.startswith("1 of 2 places cannot be read (tissue at level-0 px (")
    assert text.endswith("): cannot decode level 0")


class Hole(NamedTuple):
    """What the level that is read shows in a place of tissue, where its overview is whole."""

    name: str
    colour: tuple[int, int, int] | None
    """None for a tile that is not in the file."""
    part: Part = Part.TEST
    severity: Severity = Severity.WARNING


HOLES = [
    Hole("lost", None),
    Hole("blank", (255, 255, 255)),
    Hole("black", (0, 0, 0)),
    Hole("other tissue", (150, 90, 190)),
    Hole("lost, where patches are cut", None, Part.TRAINING, Severity.ERROR),
]


def write_hole(path: Path, hole: Hole) -> Path:
    """An island of 3 x 3 tiles at level 0, of which one tile away from where it is deepest shows something else."""
    picture = islands_picture(1280, 1280, (256, 256, 768, 768), noise=3.0)
    overview = cv2.resize(picture, (320, 320), interpolation=cv2.INTER_AREA)
    if hole.colour is not None:
        picture[768:1024, 768:1024] = hole.colour
    with tifffile.TiffWriter(path) as tiff:
        for level, pixels in enumerate((picture, overview)):
            tiff.write(
                pixels,
                tile=(256, 256),
                compression="deflate",
                photometric="rgb",
                subfiletype=int(level > 0),
                resolution=(1e4 / MPP / 4**level,) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    if hole.colour is None:
        with tifffile.TiffFile(path, mode="r+") as tiff:
            counts = list(tiff.pages[0].databytecounts)
            counts[3 * 5 + 3] = 0
            tiff.pages[0].tags["TileByteCounts"].overwrite(counts)
    return path


@pytest.mark.parametrize("hole", HOLES, ids=lambda hole: hole.name)
def test_tissue_that_inference_would_not_read_is_found_and_placed(tmp_path: Path, hole: Hole) -> None:
    path = write_hole(tmp_path / "a.tif", hole)
    sections = (section(0, box=Box(256, 256, 768, 768)),)
    found = check(path, sections, part=hole.part).findings
    (text,) = (finding.text for finding in found if finding.code is Code.ABSENT_TISSUE)
    assert {finding.severity for finding in found if finding.code is Code.ABSENT_TISSUE} == {hole.severity}
    assert text.startswith("1 of 9 cells of 512 um with tissue are not read, the first at level-0 px (768, 768): ")


def test_where_not_all_tissue_was_read_the_checkup_says_so(tmp_path: Path) -> None:
    path = write_hole(tmp_path / "a.tif", HOLES[0])
    record = SlideRecord(slide_id="a", part=Part.TEST, path=path)
    sections = (section(0, box=Box(256, 256, 768, 768)),)
    quick = check_slide(record, sections, DEFAULT_KINDS, target_mpp=MPP, mpp_tolerance=0.1, each_cell=False)
    assert not quick.findings
    assert "was not checked" in quick.notes[-1]


def test_a_large_resampling_is_a_warning(slide_path: Path) -> None:
    text = only(check(slide_path, target_mpp=4 * MPP), Code.SLOW_RESAMPLING, Severity.WARNING)
    assert "no level lies between 2 and 8 um/px, so that 16 pixels are read for each one" in text


@pytest.mark.parametrize(("downsamples", "is_slow"), [((1,), True), ((1, 4), False)])
def test_a_large_slide_without_a_pyramid_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, downsamples: tuple[int, ...], is_slow: bool
) -> None:
    monkeypatch.setattr(module, "LARGE_OVERVIEW_PX", WIDTH_PX * HEIGHT_PX)
    picture = islands_picture(WIDTH_PX, HEIGHT_PX, *ISLANDS, noise=3.0)
    checkup = check(write_slide(tmp_path / "a.tif", picture, mpp=MPP, downsamples=downsamples))
    assert [finding.code for finding in checkup.findings] == [Code.SLOW_OVERVIEW] * is_slow


@pytest.mark.parametrize(("part", "severity"), [(Part.TRAINING, Severity.ERROR), (Part.TEST, Severity.WARNING)])
def test_a_slide_without_tissue_is_said(tmp_path: Path, part: Part, severity: Severity) -> None:
    text = only(check(write_islands(tmp_path / "a.tif"), (), part=part), Code.NO_TISSUE, severity)
    assert f"take it out of {part.value}" in text


@pytest.mark.parametrize(("part", "severity"), [(Part.VALIDATION_1, Severity.ERROR), (Part.TEST, Severity.WARNING)])
def test_an_annotation_that_cannot_be_read_is_said(
    slide_path: Path, tmp_path: Path, part: Part, severity: Severity
) -> None:
    checkup = check(slide_path, part=part, annotations=(tmp_path / "gone.geojson",))
    text = only(checkup, Code.BAD_ANNOTATION, severity)
    assert text.startswith("gone.geojson: ")
    assert checkup.annotated_um2 is None


def test_names_without_a_meaning_are_collected_from_all_files(slide_path: Path, tmp_path: Path) -> None:
    first = write_boxes(tmp_path / "1.geojson", {"Tumornest": ISLANDS[0], "Fat": ISLANDS[1]})
    other = write_boxes(tmp_path / "2.geojson", {"Muscle": ISLANDS[0], "Ink": ISLANDS[1]})
    checkup = check(slide_path, part=Part.TRAINING, annotations=(first, other))
    assert [finding.code for finding in checkup.findings] == [Code.UNKNOWN_NAMES] * 2
    assert "1.geojson: no meaning in [names] of kinds.toml: 'Fat'" in checkup.findings[0].text
    assert checkup.unknown_names == {"names": ["Fat", "Ink", "Muscle"]}
    second = replace(checkup, slide_id="b", unknown_names={"names": ["Fat"], "mask_values": ["7"]})
    names = unknown_names_of([second, checkup])
    assert names == {"names": {"Fat": 2, "Ink": 1, "Muscle": 1}, "mask_values": {"7": 1}}
    assert list(names["names"]) == ["Fat", "Ink", "Muscle"]


def test_files_of_a_slide_are_united(slide_path: Path, tmp_path: Path) -> None:
    first = write_boxes(tmp_path / "1.geojson", {"Tumornest": Box(100, 100, 50, 50)})
    other = write_boxes(tmp_path / "2.geojson", {"Stroma": Box(200, 100, 50, 50)})
    areas = check(slide_path, part=Part.TRAINING, annotations=(first, other)).annotated_um2
    assert areas == {Kind.TUMORNEST: 10_000, Kind.STROMA: 10_000, Kind.NORMAL: 0}


NORMAL_ALONE = (section(0, Label.NORMAL, ISLANDS[0]), section(1, Label.NORMAL, ISLANDS[1]))


UNLABELLED = (section(0, None, ISLANDS[0]), section(1, None, ISLANDS[1]))


class Annotated(NamedTuple):
    """What is drawn on a slide with some labels, and what is said about it."""

    part: Part
    sections: tuple[SectionRecord, ...]
    drawn: dict[str, Box]
    code: Code | None = None
    severity: Severity | None = None


NORMAL_DRAWN, TUMOR_DRAWN = {"Normal": ISLANDS[0]}, {"Tumornest": ISLANDS[0]}
ANNOTATED = {
    "tumor missing": Annotated(Part.TRAINING, BOTH, NORMAL_DRAWN, Code.NO_TUMORNEST, Severity.ERROR),
    "nothing drawn": Annotated(Part.TRAINING, BOTH, {}, Code.NO_TUMORNEST, Severity.ERROR),
    "nothing drawn in Validation I": Annotated(Part.VALIDATION_1, BOTH, {}, Code.NO_TUMORNEST, Severity.ERROR),
    "no labels": Annotated(Part.TRAINING, UNLABELLED, NORMAL_DRAWN, Code.NO_TUMORNEST, Severity.WARNING),
    "no labels, nothing drawn": Annotated(Part.TRAINING, UNLABELLED, {}, Code.NO_TUMORNEST, Severity.WARNING),
    "tumor in Normal": Annotated(Part.TRAINING, NORMAL_ALONE, TUMOR_DRAWN, Code.TUMOR_IN_NORMAL, Severity.WARNING),
    "all is Normal": Annotated(Part.TRAINING, NORMAL_ALONE, NORMAL_DRAWN),
    "all is Normal, nothing drawn": Annotated(Part.TRAINING, NORMAL_ALONE, {}),
    "tumor in Tumor": Annotated(Part.TRAINING, BOTH, TUMOR_DRAWN),
    "in Test": Annotated(Part.TEST, BOTH, NORMAL_DRAWN),
}


@pytest.mark.parametrize("case", ANNOTATED.values(), ids=ANNOTATED.keys())
def test_annotated_tumor_is_held_against_the_labels(slide_path: Path, tmp_path: Path, case: Annotated) -> None:
    annotation = write_boxes(tmp_path / "a.geojson", case.drawn)
    checkup = check(slide_path, case.sections, part=case.part, annotations=(annotation,))
    found = [(each.code, each.severity) for each in checkup.findings if each.code is not Code.NO_LABEL]
    assert found == ([] if case.code is None else [(case.code, case.severity)])


@pytest.mark.parametrize("num_files", [1, 2])
def test_one_polygon_under_two_kinds_is_an_error(slide_path: Path, tmp_path: Path, num_files: int) -> None:
    boxes = {"Tumornest": ISLANDS[0], "Normal": ISLANDS[0]}
    each = [boxes] if num_files == 1 else [{name: box} for name, box in boxes.items()]
    paths = tuple(write_boxes(tmp_path / f"{number}.geojson", some) for number, some in enumerate(each))
    text = only(check(slide_path, part=Part.TRAINING, annotations=paths), Code.TWO_KINDS, Severity.ERROR)
    assert "drawn as Tumornest and again as Normal" in text


def test_normal_within_tumor_is_a_warning_that_says_which_counts(slide_path: Path, tmp_path: Path) -> None:
    boxes = {"Tumornest": ISLANDS[0], "Normal": Box(100, 100, 50, 50)}
    path = write_boxes(tmp_path / "a.geojson", boxes)
    text = only(check(slide_path, part=Part.TRAINING, annotations=(path,)), Code.TWO_KINDS, Severity.WARNING)
    assert "100% of the area annotated as Normal" in text
    assert "Tumornest counts there" in text


class OffTissue(NamedTuple):
    """A box of Tumornest, how much of it lies on tissue, and how severe that is."""

    box: Box
    share: float
    severity: Severity | None = None


OFF_TISSUE = {
    "on tissue": OffTissue(Box(80, 80, 320, 200), 1.0),
    "a little on glass": OffTissue(Box(120, 80, 320, 200), 0.875),
    "a quarter on glass": OffTissue(Box(160, 80, 320, 200), 0.75, Severity.WARNING),
    "mostly on glass": OffTissue(Box(280, 80, 320, 200), 0.375, Severity.ERROR),
    "on glass": OffTissue(Box(480, 400, 200, 200), 0.0, Severity.ERROR),
    "a speck on tissue": OffTissue(Box(200, 150, 2, 2), 1.0),
    "a speck on glass": OffTissue(Box(480, 400, 2, 2), 0.0, Severity.ERROR),
}


@pytest.mark.parametrize("case", OFF_TISSUE.values(), ids=OFF_TISSUE.keys())
def test_an_annotation_off_the_tissue_is_found(slide_path: Path, tmp_path: Path, case: OffTissue) -> None:
    annotation = write_boxes(tmp_path / "a.geojson", {"Tumornest": case.box})
    checkup = check(slide_path, part=Part.TRAINING, annotations=(annotation,))
    assert checkup.share_on_tissue == pytest.approx(case.share, abs=0.05)
    if case.severity is None:
        assert checkup.findings == []
    else:
        assert "of the annotated area lies on tissue" in only(checkup, Code.OFF_TISSUE, case.severity)


def test_a_polygon_between_the_centres_of_pixels_is_noted_and_no_finding(slide_path: Path, tmp_path: Path) -> None:
    nest, speck = Box(100, 100, 100, 50), Box(200, 200, 1, 1)
    first, other = (write_boxes(tmp_path / f"{box.x}.geojson", {"Tumornest": box}) for box in (nest, speck))
    content = json.loads(first.read_text())
    content["features"] += json.loads(other.read_text().replace("201", "200.4"))["features"]
    write_json(first, content)
    checkup = check(slide_path, part=Part.TRAINING, annotations=(first,))
    assert checkup.findings == []
    assert checkup.notes == ["1 of 2 polygons lie between the centres of pixels of 2 um, and mark none"]


class Sections(NamedTuple):
    """Rows of sections.csv that do not fit the slide."""

    records: tuple[SectionRecord, ...]
    code: Code
    severity: Severity
    says: str


BAD_SECTIONS = {
    "too few without boxes": Sections(
        (section(0),), Code.BAD_SECTIONS, Severity.ERROR, "labels 1 sections of a, but 2"
    ),
    "box outside": Sections(
        (section(0, box=ISLANDS[0]), section(1, box=Box(1000, 0, 300, 50))),
        Code.BAD_SECTIONS,
        Severity.ERROR,
        "of section a-1 reaches outside the slide's 1200 x 640",
    ),
    "too few boxes": Sections(
        (section(0, box=ISLANDS[0]),),
        Code.MISSED_PIECE,
        Severity.WARNING,
        "no box holds the tissue at (720, 120, 240, 160)",
    ),
    "box on glass": Sections(
        (*BOTH, section(2, box=Box(500, 400, 100, 100))),
        Code.EMPTY_SECTION,
        Severity.WARNING,
        "no tissue of its own in the box of a-2, whose verdict is review;",
    ),
    "box in another's": Sections(
        (*BOTH, section(2, box=Box(90, 90, 10, 10))),
        Code.EMPTY_SECTION,
        Severity.WARNING,
        "no tissue of its own in the box of a-2, whose verdict is review;",
    ),
    "box that cuts a piece": Sections(
        (section(0, box=Box(80, 80, 240, 200)), BOTH[1]),
        Code.CUT_PIECE,
        Severity.WARNING,
        "of the tissue at (80, 80, 320, 200), 76% (x, y",
    ),
    "boxes that share a piece": Sections(
        (section(0, box=Box(80, 80, 160, 200)), BOTH[1], section(2, box=Box(200, 80, 200, 200))),
        Code.SHARED_PIECE,
        Severity.WARNING,
        "at (80, 80, 320, 200) by a-0 and a-2 (x, y",
    ),
    "the same box twice": Sections(
        (BOTH[0], section(1, box=ISLANDS[0])),
        Code.BAD_SECTIONS,
        Severity.ERROR,
        "the sections a-0, a-1 have the same box in sections.csv",
    ),
}


@pytest.mark.parametrize("case", BAD_SECTIONS.values(), ids=BAD_SECTIONS.keys())
def test_sections_that_do_not_fit_are_said(slide_path: Path, case: Sections) -> None:
    assert case.says in only(check(slide_path, case.records), case.code, case.severity)


class Labels(NamedTuple):
    part: Part
    severity: Severity
    says: str


@pytest.mark.parametrize(
    "case",
    [
        Labels(Part.TRAINING, Severity.WARNING, "no figure needs those"),
        Labels(Part.VALIDATION_1, Severity.WARNING, "leaves them out"),
        Labels(Part.VALIDATION_2, Severity.ERROR, "needs them"),
        Labels(Part.TEST, Severity.ERROR, "need them"),
    ],
)
def test_missing_labels_count_where_figures_need_them(slide_path: Path, case: Labels) -> None:
    one = (section(0, box=ISLANDS[0]), section(1, None, ISLANDS[1]))
    text = only(check(slide_path, one, part=case.part), Code.NO_LABEL, case.severity)
    assert text.startswith("1 of 2 section(s) have no label in sections.csv;")
    assert case.says in text
    text = only(check(slide_path, (), part=case.part), Code.NO_LABEL, case.severity)
    assert text.startswith("2 of 2 section(s)")
    assert "jobs/find_sections.py" in text


@pytest.mark.parametrize("margin_px", [-8, 40])
def test_boxes_that_people_drew_around_pieces_are_good(slide_path: Path, margin_px: int) -> None:
    """Not to the pixel, and overlapping or not."""
    drawn = tuple(section(number, box=box.grown(margin_px)) for number, box in enumerate(ISLANDS))
    assert check(slide_path, drawn).findings == []
