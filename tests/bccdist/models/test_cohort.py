"""A cohort is a study's folder with a model unpacked in it: of one model, and of the bytes that were packed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from cohort import write_cohort, write_model_file, write_slides
from speedup_records import RECORD

from bccdist.errors import BccdistError, ConfigurationError, ManifestError, ModelError
from bccdist.models.cohort import lacks_of_model, require_place_for, unpack_model
from bccdist.models.cohort_slides import look_at, slides_of_cohort
from bccdist.models.model_file import ModelFile
from bccdist.models.packing import pack_model
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import read_choices
from bccdist.sections.section_rows import load_ledger
from bccdist.slides.manifest import read_manifest
from bccdist.speedups.record import read_speedups, write_speedups
from bccdist.study import keep_manifest, manifest_of_study

SETTING, EPOCH = "resnet34_ds", 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cohort")


@pytest.fixture(scope="module")
def model(folder: Path) -> ModelFile:
    return write_model_file(folder)


@pytest.fixture(scope="module")
def slides(folder: Path) -> Path:
    return write_slides(folder / "slides", "a", "case-1/HE", "case-2/HE")


@pytest.fixture(scope="module")
def cohort(folder: Path, model: ModelFile, slides: Path) -> StudyPaths:
    return write_cohort(folder / "cohort", model.path, slides)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_unpacked_is_where_the_stages_look_and_as_it_was_in_the_study(folder: Path, model: ModelFile) -> None:
    cohort, study = StudyPaths(folder / "unpacked"), StudyPaths(folder / "model-study")
    unpack_model(model, cohort.root)
    assert cohort.run(SETTING).weights(EPOCH).read_bytes() == study.run(SETTING).weights(EPOCH).read_bytes()
    assert read_choices(cohort) == read_choices(study)
    pd.testing.assert_frame_equal(pd.read_parquet(cohort.selection), pd.read_parquet(study.selection))
    pd.testing.assert_frame_equal(pd.read_parquet(cohort.grid), pd.read_parquet(study.grid))
    assert cohort.model.read_bytes() == model.path.read_bytes()


def test_all_slides_get_heatmaps_and_rows_of_the_part_test(cohort: StudyPaths) -> None:
    manifest = manifest_of_study(cohort.root)
    assert [slide.slide_id for slide in manifest.slides] == ["a", "case-1-HE", "case-2-HE"]
    assert {slide.part for slide in manifest.slides} == {Part.TEST}
    for slide in manifest.slides:
        rows = pd.read_parquet(cohort.ledger_rows(SETTING, EPOCH, slide.slide_id))
        assert len(rows) == 2 * 5, "two pieces of tissue, five outputs"
        assert cohort.heatmap(SETTING, EPOCH, slide.slide_id).exists()


def test_a_cohort_of_another_model_is_refused_with_both_digests(
    cohort: StudyPaths, model: ModelFile, tmp_path: Path
) -> None:
    other = write_model_file(tmp_path, seed=1)
    before = files_in(cohort.root)
    with pytest.raises(ConfigurationError, match=f"{model.digest}.*{other.digest}"):
        unpack_model(other, cohort.root)
    assert files_in(cohort.root) == before


@pytest.mark.parametrize("name", ["weights", "selection", "grid", "model"])
def test_one_changed_byte_in_what_was_unpacked_is_found(model: ModelFile, tmp_path: Path, name: str) -> None:
    paths = StudyPaths(tmp_path / "cohort")
    unpack_model(model, paths.root)
    changed = {"weights": paths.run(SETTING).weights(EPOCH), "selection": paths.selection}
    path = {**changed, "grid": paths.grid, "model": paths.model}[name]
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    with pytest.raises(ModelError, match=str(path)):
        require_place_for(model, paths.root)
    if name == "model":
        path.write_bytes(model.path.read_bytes())
    else:
        path.unlink()
    unpack_model(model, paths.root)
    assert path.exists()


def test_a_folder_of_something_else_is_refused_and_left_alone(model: ModelFile, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"1")
    (tmp_path / "file").write_bytes(b"2")
    before = files_in(tmp_path)
    for place, why in (
        (tmp_path / "photos", "holds something else"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "below" / "it", "file is a file"),
        (folder / "model-study", "is a study"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            require_place_for(model, place)
    assert files_in(tmp_path) == before


def test_thresholds_by_another_section_method_are_named(model: ModelFile) -> None:
    other = replace(model, description=replace(model.description, section_method="tissue 1, sections 1"))
    assert not lacks_of_model(model)
    assert "tissue 1, sections 1" in lacks_of_model(other)[0]


def test_a_slide_that_is_added_keeps_the_others_as_they_are(cohort: StudyPaths, slides: Path, tmp_path: Path) -> None:
    more = write_slides(tmp_path / "more", "b")
    found = slides_of_cohort(more, cohort.root)
    assert [slide.slide_id for slide in found.new] == ["b"]
    assert [slide.slide_id for slide in found.manifest.slides] == ["a", "case-1-HE", "case-2-HE", "b"]
    assert not slides_of_cohort(slides, cohort.root).new


def test_what_was_written_into_the_cohorts_own_table_stays(model: ModelFile, slides: Path, tmp_path: Path) -> None:
    unpack_model(model, tmp_path / "cohort")
    path = slides_of_cohort(slides, tmp_path / "cohort").write().path
    path.write_text(path.read_text().replace("case-1/HE.tif,,", "case-1/HE.tif,,0.92"))
    (path.parent / "sections.csv").write_text("slide_id,section_id,label\na,s0,Tumor\na,s1,Normal\n")
    again = slides_of_cohort(slides, tmp_path / "cohort").write()
    assert again.slide("case-1-HE").mpp == 0.92
    assert [section.label for section in again.sections_of("a")] == [Label.TUMOR, Label.NORMAL]


def test_slides_that_moved_are_the_same_slides(model: ModelFile, slides: Path, tmp_path: Path) -> None:
    there = write_slides(tmp_path / "disk", "a", "b")
    slides_of_cohort(there, tmp_path / "cohort").write()
    moved = there.rename(tmp_path / "other-disk")
    found = slides_of_cohort(moved, tmp_path / "cohort")
    assert not found.new
    assert found.manifest.slide("b").path == moved / "b.tif"


def test_another_slide_of_the_same_name_is_refused_by_both_paths(slides: Path, tmp_path: Path) -> None:
    slides_of_cohort(slides, tmp_path / "cohort").write()
    other = write_slides(tmp_path / "other", "x", "a")
    with pytest.raises(ManifestError, match=r"a: .*slides/a.tif in the cohort, .*other/a.tif now"):
        slides_of_cohort(other, tmp_path / "cohort")


@pytest.mark.parametrize("where", ["slides", "elsewhere"])
def test_a_file_that_took_the_place_of_a_judged_one_is_refused(model: ModelFile, tmp_path: Path, where: str) -> None:
    slides = write_slides(tmp_path / "slides", "a", "b")
    cohort = write_cohort(tmp_path / "cohort", model.path, slides)
    (slides / "b.tif").replace(slides / "a.tif")
    slides = slides.rename(tmp_path / where)
    before = files_in(cohort.root)
    with pytest.raises(ManifestError, match=r"1 slide\(s\) .* were judged from other files .*: a; put the files back"):
        slides_of_cohort(slides, cohort.root)
    assert files_in(cohort.root) == before


def test_a_slide_whose_row_is_taken_out_stays_out_until_it_is_named_again(
    model: ModelFile, slides: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "slides"
    shutil.copytree(slides, folder)
    paths = write_cohort(tmp_path / "cohort", model.path, folder)
    table = tmp_path / "cohort" / "slides.csv"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith("a,")), encoding="utf-8")
    # Whatever became of its file: it is no part of the cohort.
    (folder / "a.tif").write_bytes((folder / "case-1" / "HE.tif").read_bytes())
    found = slides_of_cohort(folder, paths.root)
    assert [slide.slide_id for slide in found.manifest.slides] == ["case-1-HE", "case-2-HE"]
    assert found.new == ()
    assert any(note.startswith(f"1 slide(s) were taken out of {table} and stay out: a;") for note in found.notes)
    ledger = load_ledger(paths, found.manifest)
    assert set(ledger["slide_id"].to_pylist()) == {"case-1-HE", "case-2-HE"}


def test_a_slide_that_was_taken_out_comes_in_again_by_itself_or_by_a_table(
    model: ModelFile, slides: Path, tmp_path: Path
) -> None:
    paths = write_cohort(tmp_path / "cohort", model.path, slides)
    table = tmp_path / "cohort" / "slides.csv"
    whole = table.read_text(encoding="utf-8")
    table.write_text(whole.replace(whole.splitlines(keepends=True)[1], ""), encoding="utf-8")
    (tmp_path / "given.csv").write_text(f"slide_id,path\na,{slides / 'a.tif'}\n", encoding="utf-8")
    for source in (slides / "a.tif", tmp_path / "given.csv"):
        assert [slide.slide_id for slide in slides_of_cohort(source, paths.root).new] == ["a"]
    (tmp_path / "list.txt").write_text(f"{slides / 'a.tif'}\n", encoding="utf-8")
    assert slides_of_cohort(tmp_path / "list.txt", paths.root).new == ()


def test_a_manifest_needs_no_part_and_its_labels_come_along(slides: Path, tmp_path: Path) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(
        f"slide_id;path;patient_id;batch\nfirst;{slides}/a.tif;p1;7\nsecond;{slides}/case-1/HE.tif;p2;8\n"
    )
    (tmp_path / "sections.csv").write_text("slide_id,section_id,label\nfirst,s0,Tumor\nfirst,s1,\n")
    found = slides_of_cohort(table, tmp_path / "cohort").write()
    assert [(slide.slide_id, slide.part, slide.patient_id) for slide in found.slides] == [
        ("first", Part.TEST, "p1"),
        ("second", Part.TEST, "p2"),
    ]
    assert found.slide("first").extra == {"batch": "7"}
    assert [section.label for section in found.sections] == [Label.TUMOR, None]


def test_parts_of_a_study_do_not_matter_to_a_cohort(folder: Path, tmp_path: Path) -> None:
    found = slides_of_cohort(folder / "model-study" / "data" / "slides.csv", tmp_path / "cohort")
    assert {slide.part for slide in found.manifest.slides} == {Part.TEST}
    assert found.manifest.slide("slide-0").patient_id == "patient-Anna-1961-0"


def test_labels_that_change_in_the_given_manifest_change_in_the_cohort(slides: Path, tmp_path: Path) -> None:
    table, cohort = tmp_path / "slides.csv", tmp_path / "cohort"
    table.write_text(f"slide_id,path\nfirst,{slides}/a.tif\n")
    for label in ("Tumor", "Normal"):
        (tmp_path / "sections.csv").write_text(f"slide_id,section_id,label\nfirst,s0,{label}\nfirst,s1,Normal\n")
        sections = slides_of_cohort(table, cohort).write().sections
        assert [section.label for section in sections] == [Label(label), Label.NORMAL]


def test_labels_edited_in_the_cohorts_copy_of_its_tables_are_refused(slides: Path, tmp_path: Path) -> None:
    table, cohort = tmp_path / "slides.csv", tmp_path / "cohort"
    table.write_text(f"slide_id,path\nfirst,{slides}/a.tif\n")
    (tmp_path / "sections.csv").write_text("slide_id,section_id,label\nfirst,s0,Tumor\n")
    keep_manifest(cohort, slides_of_cohort(table, cohort).write())
    copy = StudyPaths(cohort).kept_manifest.with_name("sections.csv")
    copy.write_text(copy.read_text().replace("Tumor", "Normal"))
    for reads in (lambda: slides_of_cohort(table, cohort), lambda: manifest_of_study(cohort)):
        with pytest.raises(ConfigurationError, match=f"sections.csv was edited.*What counts is {cohort}/slides.csv"):
            reads()


def test_faults_of_a_given_manifest_are_told_by_its_own_lines(slides: Path, tmp_path: Path) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(f"slide_id,path\na b,{slides}/a.tif\nc,gone.svs\n")
    with pytest.raises(
        ManifestError, match=r"(?s)slides.csv, line 2: .*'a b'.*slides.csv, line 3: .*gone.svs.*not there"
    ):
        slides_of_cohort(table, tmp_path / "cohort")
    assert not (tmp_path / "cohort").exists()


@pytest.mark.parametrize("place", ["slides/out", "slides", "slides/case-1/x/y"])
def test_a_cohort_inside_of_its_slides_is_refused(slides: Path, place: str) -> None:
    with pytest.raises(BccdistError, match="lies inside of"):
        slides_of_cohort(slides, slides.parent / place)


def test_a_look_tells_slides_that_are_too_coarse_or_no_slides(model: ModelFile, slides: Path, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "cut.svs").write_bytes((slides / "a.tif").read_bytes()[:1000])
    write_slides(tmp_path / "slides", "good")
    found = slides_of_cohort(tmp_path / "slides", tmp_path / "cohort")
    look = look_at(found.new, model.description.network)
    assert (look.num_usable, list(look.unusable)) == (1, ["cut"])
    finer = look_at(found.new, replace(model.description.network, target_mpp=0.25))
    assert (finer.num_usable, set(finer.unusable)) == (0, {"cut", "good"})
    assert "coarser than the target of 0.25" in finer.unusable["good"]


def test_reading_back_what_was_written_gives_the_same_slides(slides: Path, tmp_path: Path) -> None:
    found = slides_of_cohort(slides, tmp_path / "cohort")
    assert found.write().slides == found.manifest.slides == read_manifest(tmp_path / "cohort" / "slides.csv").slides


def test_copies_of_a_slide_are_told(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    for name in ("one.tif", "copy.tif"):
        (tmp_path / "slides" / name).write_bytes((slides / "a.tif").read_bytes())
    notes = slides_of_cohort(tmp_path / "slides", tmp_path / "cohort").notes
    assert any("the files of copy, one are copies of each other" in note for note in notes)
    assert not any("copies" in note for note in slides_of_cohort(slides, tmp_path / "other").notes)


def test_a_speedup_record_and_int8_models_are_unpacked_to_where_they_are_looked_for(tmp_path: Path) -> None:
    model = write_model_file(tmp_path)
    study = StudyPaths(tmp_path / "model-study")
    record = replace(RECORD, weights_digest=model.description.network.weights_digest)
    write_speedups(study.run(SETTING).speedups(EPOCH, "cpu"), record)
    study.run(SETTING).int8_model(EPOCH, "whole").write_text("<net/>")
    cohort = StudyPaths(tmp_path / "cohort")
    unpack_model(pack_model(study.root, tmp_path / "fast.model"), cohort.root)
    there = read_speedups(cohort.run(SETTING).speedups(EPOCH, "cpu"), weights_digest=record.weights_digest)
    assert [(way.tiling, way.mpx_per_s) for way in there.ways] == [(way.tiling, way.mpx_per_s) for way in record.ways]
    assert cohort.run(SETTING).int8_model(EPOCH, "whole").read_text() == "<net/>"
