"""A slide's DICOM files are read back by highdicom: values, places, identifiers and verdicts are the study's."""

import importlib.util
import math
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import highdicom
import numpy as np
import pydicom
import pytest
from cohort import write_cohort, write_model_file, write_slides
from dicom_study import CHOICE, DOWNSAMPLE, PATIENT, SETTING, DicomStudy, write_dicom_study
from dicom_tools import errors_of, orthanc
from numpy.typing import NDArray
from picture_study import MPP, write_heatmap
from small_study import tissue_picture, write_slide
from study_folders import ledger_row

from analysis.dicom_files import writing
from analysis.dicom_files.export import write_dicom
from analysis.dicom_files.placement import Placement, uid_of
from analysis.make import make
from analysis.study_evidence.evidence import Evidence
from bccdist.errors import BccdistError, ConfigurationError, HeatmapError, LedgerError, ManifestError, SlideError
from bccdist.files import fingerprint_of_file
from bccdist.heatmaps.store import Heatmap
from bccdist.models.model_file import read_model
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import write_rows

HALF_STEP = 0.5 / 255
WIDTH_PX, HEIGHT_PX = 1200, 1000
"""Of the TIFF in the target frame."""


class Files(NamedTuple):
    """What was written of a slide."""

    segmentation: Path
    report: Path


def write(study: DicomStudy) -> Files:
    return Files(*write_dicom(Evidence(study.paths.root), "s1"))


@pytest.fixture(scope="module")
def tiff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiff") / "Doe^Jane.tif"
    write_slide(path, tissue_picture(WIDTH_PX, HEIGHT_PX, seed=0))
    return path


@pytest.fixture(scope="module")
def tiff_study(tiff: Path, tmp_path_factory: pytest.TempPathFactory) -> DicomStudy:
    return write_dicom_study(tmp_path_factory.mktemp("study"), tiff)


@pytest.fixture(scope="module")
def tiff_files(tiff_study: DicomStudy) -> Files:
    return write(tiff_study)


def volume_of(folder: Path) -> Path:
    """The level-0 image of a DICOM slide."""
    [path] = [
        each
        for each in sorted(folder.glob("*.dcm"))
        if pydicom.dcmread(each, stop_before_pixels=True).ImageType[2] == "VOLUME"
    ]
    return path


@pytest.fixture
def dicom_study(shared_data: Path, tmp_path: Path) -> DicomStudy:
    """Of a DICOM slide whose rows run along the slide's y, of which the manifest names the label's file."""
    folder = shared_data / "fixtures" / "dicom_cmu1"
    label = next(each for each in sorted(folder.glob("*.dcm")) if each.name != volume_of(folder).name)
    return write_dicom_study(tmp_path, label)


def values_in(path: Path) -> NDArray[np.float64]:
    """The probabilities [h, w] of a segmentation."""
    image = highdicom.seg.segread(path)
    pixels: NDArray[np.float64] = image.get_total_pixel_matrix(combine_segments=False)[..., 0]
    return pixels


def evaluations_of(group: Any) -> dict[str, str]:
    return {each.name.meaning: each.value.meaning for each in group.get_qualitative_evaluations()}


def measurements_of(group: Any) -> dict[str, float]:
    return {each.name.value: float(each.value) for each in group.get_measurements()}


def groups_of(path: Path) -> dict[str, Any]:
    """The measurement groups of a report by section_id."""
    content = highdicom.sr.srread(path).content
    return {group.tracking_identifier: group for group in content.get_planar_roi_measurement_groups()}


def test_the_segmentation_of_a_tiff_is_the_heatmap_within_half_a_step(
    tiff_study: DicomStudy, tiff_files: Files
) -> None:
    assert np.abs(values_in(tiff_files.segmentation) - tiff_study.values / 255).max() < HALF_STEP


@pytest.mark.shared_data
def test_the_segmentation_of_a_dicom_slide_is_the_heatmap_within_half_a_step(dicom_study: DicomStudy) -> None:
    assert np.abs(values_in(write(dicom_study).segmentation) - dicom_study.values / 255).max() < HALF_STEP


def test_only_tiles_with_something_in_them_are_there(tiff_files: Files) -> None:
    image = pydicom.dcmread(tiff_files.segmentation)
    places = [frame.PlanePositionSlideSequence[0] for frame in image.PerFrameFunctionalGroupsSequence]
    corners = [(p.RowPositionInTotalImagePixelMatrix, p.ColumnPositionInTotalImagePixelMatrix) for p in places]
    assert corners == [(1, 1), (513, 1), (513, 1025)]
    assert (image.NumberOfFrames, image.DimensionOrganizationType) == (3, "TILED_SPARSE")
    assert (image.TotalPixelMatrixRows, image.TotalPixelMatrixColumns) == (HEIGHT_PX, WIDTH_PX)


def test_a_heatmap_of_nothing_has_one_empty_tile(tiff: Path, tmp_path: Path) -> None:
    study = write_dicom_study(tmp_path, tiff, np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8))
    path = write(study).segmentation
    assert highdicom.seg.segread(path).NumberOfFrames == 1
    assert not values_in(path).any()


@pytest.mark.shared_data
def test_a_dicom_slide_keeps_its_study_its_frame_of_reference_and_where_it_lies(dicom_study: DicomStudy) -> None:
    slide = pydicom.dcmread(volume_of(dicom_study.slide.parent), stop_before_pixels=True)
    files = write(dicom_study)
    image, report = pydicom.dcmread(files.segmentation), pydicom.dcmread(files.report)
    assert image.StudyInstanceUID == report.StudyInstanceUID == slide.StudyInstanceUID
    assert image.FrameOfReferenceUID == slide.FrameOfReferenceUID
    assert image.ImageOrientationSlide == slide.ImageOrientationSlide
    for axis in "XY":
        name = f"{axis}OffsetInSlideCoordinateSystem"
        origins = [each.TotalPixelMatrixOriginSequence[0].get(name) for each in (image, slide)]
        assert origins[0] == origins[1]
    spacings = [
        np.array(each.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing)
        for each in (image, slide)
    ]
    np.testing.assert_allclose(spacings[0], DOWNSAMPLE * spacings[1])
    [series] = image.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == slide.SeriesInstanceUID
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == slide.SOPInstanceUID


@pytest.mark.shared_data
def test_tiles_and_boxes_lie_where_the_slides_own_geometry_puts_them(dicom_study: DicomStudy) -> None:
    slide = pydicom.dcmread(volume_of(dicom_study.slide.parent), stop_before_pixels=True)
    to_mm = highdicom.spatial.PixelToReferenceTransformer.for_image(slide, for_total_pixel_matrix=True)
    files = write(dicom_study)
    image = pydicom.dcmread(files.segmentation)
    place = image.PerFrameFunctionalGroupsSequence[1].PlanePositionSlideSequence[0]
    expected = to_mm(np.array([[0, 512 * DOWNSAMPLE]]))[0]
    found = [place.get(f"{axis}OffsetInSlideCoordinateSystem") for axis in "XYZ"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    region = groups_of(files.report)["right"].roi
    assert region.frame_of_reference_uid == slide.FrameOfReferenceUID
    corners = np.array([[1100, 0], [2000, 0], [2000, 2000], [1100, 2000], [1100, 0]])
    np.testing.assert_allclose(region.value, to_mm(corners), atol=1e-5)


def test_another_slide_gets_identifiers_that_follow_from_its_bytes(tiff_study: DicomStudy, tiff_files: Files) -> None:
    image, report = pydicom.dcmread(tiff_files.segmentation), pydicom.dcmread(tiff_files.report)
    assert image.StudyInstanceUID == report.StudyInstanceUID
    assert image.PatientID == report.PatientID == f"bccdist-{image.StudyInstanceUID[-12:]}"
    assert image.PatientIdentityRemoved == "YES"
    assert "SourceImageSequence" not in image
    assert "ReferencedSeriesSequence" not in image
    spacing = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    np.testing.assert_allclose([float(value) for value in spacing], MPP / 1000)
    for path in tiff_files:
        content = path.read_bytes()
        for word in (PATIENT, "Jane", tiff_study.slide.name):
            assert word.encode() not in content


def test_the_same_heatmap_gives_the_same_files_and_another_one_other_identifiers(
    tiff: Path, tiff_study: DicomStudy, tiff_files: Files, tmp_path: Path
) -> None:
    before = [path.read_bytes() for path in tiff_files]
    assert [path.read_bytes() for path in write(tiff_study)] == before
    again = write(write_dicom_study(tmp_path / "again", tiff))
    values = tiff_study.values.copy()
    values[0, 0] ^= 1
    other = write(write_dicom_study(tmp_path / "other", tiff, values))
    for path, same, different in zip(tiff_files, again, other, strict=True):
        uids = [pydicom.dcmread(each).SOPInstanceUID for each in (path, same, different)]
        assert uids[0] == uids[1] != uids[2]


def test_identifiers_depend_on_values_and_not_on_their_types() -> None:
    uid = uid_of("a", 0.5, 3, CHOICE)
    assert uid == uid_of(np.str_("a"), np.float64(0.5), np.int64(3), replace(CHOICE))
    assert uid != uid_of("a", 0.5, 3, replace(CHOICE, t_p=0.6))
    assert len(uid) <= 64


def test_the_report_has_a_group_for_each_section_with_what_its_verdict_rests_on(tiff_files: Files) -> None:
    groups = groups_of(tiff_files.report)
    assert list(groups) == ["left", "right", "torn"]
    group = groups["left"]
    assert evaluations_of(group) == {"Verdict on the section": "Tumor"}
    area_um2 = 50_000 * MPP**2
    expected = {
        "AREA-LARGEST": area_um2,
        "COVERAGE": 1.0,
        "FLIP-SHIFT": 123 / 255,
        "T-P": CHOICE.t_p,
        "T-A": CHOICE.t_a_um2,
    }
    assert measurements_of(group) == pytest.approx(expected)
    said = [each.value for each in pydicom.dcmread(tiff_files.report).iterall() if each.keyword == "TextValue"]
    for words in (f"setting: {SETTING}", f"weights: {CHOICE.weights_digest}", "areas: physical"):
        assert said.count(words) == len(groups)


def test_a_section_for_review_is_called_so_in_the_report(tiff_files: Files) -> None:
    group = groups_of(tiff_files.report)["torn"]
    said = evaluations_of(group)
    assert said["Verdict on the section"].startswith("review")
    assert measurements_of(group)["COVERAGE"] == 0.25
    # Nothing was found in what was read: its flip shift is infinite, which DICOM has no number for.
    assert said["Smallest shift of probability that flips it"] == "No shift of probability flips it"


@pytest.mark.parametrize("kind", ["phantom", "phantom_weights"])
def test_what_is_not_real_is_said_in_both_files(tiff: Path, tmp_path: Path, kind: str) -> None:
    files = write(write_dicom_study(tmp_path, tiff, **{kind: True}))
    image, report = (pydicom.dcmread(path) for path in files)
    for made in (image, report):
        assert made.SeriesDescription.startswith("PHANTOM")
    assert "PHANTOM" in image.SegmentSequence[0].SegmentDescription
    for group in groups_of(files.report).values():
        assert "drawn slides" in evaluations_of(group)["What is not real"].lower()


def test_the_command_names_both_files(tiff_study: DicomStudy, capsys: pytest.CaptureFixture[str]) -> None:
    make(["dicom", str(tiff_study.paths.root), "s1"])
    assert capsys.readouterr().out.splitlines() == list(map(str, write(tiff_study)))


def test_a_slide_that_is_not_of_the_study_is_refused(tiff_study: DicomStudy) -> None:
    with pytest.raises(ManifestError, match="no slide 's2' among its 1 slides"):
        write_dicom(Evidence(tiff_study.paths.root), "s2")


def fails(study: DicomStudy, kind: type[BccdistError], match: str) -> None:
    """One line says why, and nothing is written."""
    with pytest.raises(kind, match=match) as raised:
        write(study)
    assert "\n" not in str(raised.value)
    folder = study.paths.dicom_report(SETTING, "s1").parent
    assert not folder.exists() or not list(folder.iterdir())


def test_a_slide_without_a_heatmap_is_refused(tiff: Path, tmp_path: Path) -> None:
    study = write_dicom_study(tmp_path, tiff)
    study.paths.heatmap(SETTING, CHOICE.epoch, "s1").unlink()
    fails(study, HeatmapError, "no heatmap there")


def test_a_slide_without_verdicts_is_refused(tiff: Path, tmp_path: Path) -> None:
    study = write_dicom_study(tmp_path, tiff)
    rows = study.paths.ledger_rows(SETTING, CHOICE.epoch, "s1")
    rows.unlink()
    row = ledger_row(slide_id="s2", setting=SETTING, epoch=CHOICE.epoch, weights_digest=CHOICE.weights_digest)
    write_rows(rows.with_name("s2.parquet"), [row])
    fails(study, LedgerError, "no verdicts on s1")


def test_a_slide_that_is_gone_or_another_one_is_refused(tiff: Path, tmp_path: Path) -> None:
    study = write_dicom_study(tmp_path, tiff)
    study.slide.write_bytes(b"another slide")
    fails(study, SlideError, "not the slide that")
    study.slide.unlink()
    fails(study, SlideError, "No such file")


@pytest.mark.parametrize("missing", ["highdicom", "pydicom"])
def test_without_the_extra_it_says_what_to_install(
    tiff_study: DicomStudy, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else there(name))
    match = rf"DICOM needs {missing}, not installed here; install with `pip install 'bccdist\[dicom\]'`"
    with pytest.raises(ConfigurationError, match=match):
        write(tiff_study)


def test_a_failure_at_the_report_leaves_no_segmentation(
    tiff: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise HeatmapError("no report")

    study = write_dicom_study(tmp_path, tiff)
    monkeypatch.setattr(writing, "make_report", fail)
    fails(study, HeatmapError, "no report")


def change_volume(study: DicomStudy, to: Path, **values: Any) -> None:
    """Write the level-0 image once more with other attributes."""
    image = pydicom.dcmread(volume_of(study.slide.parent))
    for name, value in values.items():
        setattr(image, name, value)
    image.save_as(to)


@pytest.mark.shared_data
def test_two_images_of_the_size_of_level_0_are_refused(dicom_study: DicomStudy) -> None:
    change_volume(dicom_study, dicom_study.slide.with_name("second.dcm"), SOPInstanceUID="2.25.77")
    fails(dicom_study, SlideError, "2 images of its series have level 0's 2220 x 2967 px")


@pytest.mark.shared_data
def test_an_image_of_another_series_in_the_folder_is_not_taken(dicom_study: DicomStudy) -> None:
    change_volume(dicom_study, dicom_study.slide.with_name("other.dcm"), SeriesInstanceUID="2.25.78")
    (dicom_study.slide.parent / "notes.txt").write_text("no DICOM", encoding="utf-8")
    assert write(dicom_study).segmentation.exists()


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ConcatenationUID": "2.25.79"}, "concatenation"),
        ({"TotalPixelMatrixOriginSequence": []}, "TotalPixelMatrixOriginSequence is missing"),
        ({"FrameOfReferenceUID": ""}, "FrameOfReferenceUID is missing"),
        ({"ImageOrientationSlide": None}, "ImageOrientationSlide is missing"),
    ],
)
def test_a_dicom_slide_of_which_nobody_knows_where_it_lies_is_refused(
    dicom_study: DicomStudy, change: dict[str, Any], match: str
) -> None:
    change_volume(dicom_study, volume_of(dicom_study.slide.parent), **change)
    fails(dicom_study, SlideError, match)


def test_memory_holds_a_row_of_tiles_and_not_the_heatmap(tiff: Path, tmp_path: Path) -> None:
    """40 rows of tiles of a slide that is much higher than wide."""
    study = write_dicom_study(tmp_path, tiff)
    path = study.paths.heatmap(SETTING, CHOICE.epoch, "s1")
    path.unlink()
    values = np.random.default_rng(0).integers(1, 256, (20_480, 1024), dtype=np.uint8)
    write_heatmap(
        path,
        values,
        outputs=("psi_4",),
        weights_digest=CHOICE.weights_digest,
        slide_id="s1",
        slide_fingerprint=fingerprint_of_file(study.slide),
    )
    write(study)  # what is imported at first does not count
    tracemalloc.start()
    try:
        files = write(study)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pydicom.dcmread(files.segmentation, stop_before_pixels=True).NumberOfFrames == 80
    assert peak < values.nbytes / 2


@pytest.mark.dicom_tools
@pytest.mark.shared_data
def test_dciodvfy_finds_no_error_and_orthanc_stores_each_file_once(
    dicom_study: DicomStudy, tiff_files: Files, cohort: StudyPaths, tiff: Path, tmp_path: Path
) -> None:
    phantom = write(write_dicom_study(tmp_path / "phantom", tiff, phantom=True))
    paths = [*tiff_files, *write(dicom_study), *phantom, *write_dicom(Evidence(cohort.root), "a")]
    assert {path: errors_of(path) for path in paths} == {path: [] for path in paths}
    with orthanc(tmp_path / "orthanc") as archive:
        for expected in ("Success", "AlreadyStored"):
            answers = [archive.post("/instances", content=path.read_bytes()).json() for path in paths]
            assert [answer["Status"] for answer in answers] == [expected] * len(paths)
        assert len(archive.get("/instances").json()) == len(paths)
        for path, answer in zip(paths, answers, strict=True):
            assert archive.get(f"/instances/{answer['ID']}/file").content == path.read_bytes()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    """Of two slides whose level 0 is what the network sees."""
    folder = tmp_path_factory.mktemp("cohort")
    return write_cohort(folder / "cohort", write_model_file(folder).path, write_slides(folder / "slides", "a", "b"))


def test_a_cohorts_slide_is_written_with_the_digest_of_its_model(cohort: StudyPaths) -> None:
    files = Files(*write_dicom(Evidence(cohort.root), "b"))
    groups = groups_of(files.report)
    assert len(groups) == 2
    digest = read_model(cohort.model).digest
    assert files.report.read_bytes().count(f"model: {digest}".encode()) == len(groups)
    assert errors_in_values(files.segmentation, cohort) < HALF_STEP


def errors_in_values(path: Path, cohort: StudyPaths) -> float:
    """The largest difference of a probability from the heatmap of slide b."""
    [place] = sorted(cohort.root.glob("heatmaps/*/*/b.ozx"))
    heatmap = Heatmap(place)
    stored = heatmap.read_rows(heatmap.outputs[-1], 0, slice(None))
    return float(np.abs(values_in(path) - stored / 255).max())


@pytest.mark.dicom_tools
@pytest.mark.parametrize("is_dicom", [False, True])
def test_numbers_with_many_digits_and_a_turned_slide_are_written_as_dicom_wants_them(
    tiff_study: DicomStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_dicom: bool
) -> None:
    cos, sin = math.cos(2.3), math.sin(2.3)
    placement = Placement(
        study_uid="2.25.1",
        frame_of_reference_uid="2.25.2",
        spacing_level0_mm=(1 / 2173, 1 / 3111),
        origin_mm=(-100 / 7, 1e-5 / 3),
        orientation=(cos, sin, 0.0, sin, -cos, 0.0),
        image_uid="2.25.3" if is_dicom else "",
        series_uid="2.25.4" if is_dicom else "",
    )
    monkeypatch.setattr(writing, "place_slide", lambda *_: placement)
    made = write_dicom(Evidence(tiff_study.paths.root, shown_in=tmp_path), "s1")
    assert [errors_of(path) for path in made] == [[], []]
    assert np.abs(values_in(made[0]) - tiff_study.values / 255).max() < HALF_STEP


def test_the_study_may_be_read_only(tiff: Path, tmp_path: Path) -> None:
    study = write_dicom_study(tmp_path, tiff)
    made = write_dicom(Evidence(study.paths.root, shown_in=tmp_path / "elsewhere"), "s1")
    assert all(path.is_relative_to(tmp_path / "elsewhere") for path in made)
    shutil.rmtree(tmp_path / "elsewhere")
