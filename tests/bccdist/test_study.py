"""A folder is the study of one manifest, which may come again and is checked each time."""

import shutil
from pathlib import Path

import pytest
from study_folders import ledger_row

from bccdist.errors import ConfigurationError, ManifestError
from bccdist.files import fingerprint_of_file, read_json, write_json
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import write_rows
from bccdist.stages.inference_identity import InferenceIdentity
from bccdist.study import claim_study, keep_manifest, manifest_of_study, unread_files


def write_manifest(folder: Path, *, scanner: str = "", content: bytes = b"") -> Path:
    folder.mkdir(parents=True)
    (folder / "a.tif").write_bytes(content)
    path = folder / "slides.csv"
    path.write_text(f"slide_id,part,path,scanner\na,Test,a.tif,{scanner}\n", encoding="utf-8")
    return path


def test_a_claimed_study_opens_with_its_manifest(tmp_path: Path) -> None:
    manifest = claim_study(tmp_path / "study", write_manifest(tmp_path / "data"))
    assert manifest_of_study(tmp_path / "study") == manifest
    assert [slide.slide_id for slide in manifest.slides] == ["a"]


def test_the_same_manifest_may_come_again_by_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_manifest(tmp_path / "data")
    manifest = claim_study(tmp_path / "study", path)
    content = (tmp_path / "study" / "study.json").read_bytes()
    monkeypatch.chdir(tmp_path)
    assert claim_study(Path("study"), Path("data/../data/slides.csv")) == manifest
    assert (tmp_path / "study" / "study.json").read_bytes() == content


def test_another_manifest_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "data")
    claim_study(tmp_path / "study", path)
    other = write_manifest(tmp_path / "other", scanner="S360")
    with pytest.raises(ConfigurationError, match="is a study of") as error:
        claim_study(tmp_path / "study", other)
    assert str(path) in str(error.value)
    assert str(other) in str(error.value)
    assert "--study" in str(error.value)
    assert manifest_of_study(tmp_path / "study").path == path


@pytest.mark.parametrize(("scanner", "expected"), [("phantom", True), ("S360", False), ("", False)])
def test_a_study_remembers_whether_it_is_a_phantom(tmp_path: Path, scanner: str, *, expected: bool) -> None:
    claim_study(tmp_path / "study", write_manifest(tmp_path / "data", scanner=scanner))
    assert read_json(tmp_path / "study" / "study.json")["phantom"] is expected


def test_a_faulty_manifest_makes_no_study(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "data")
    (tmp_path / "data" / "a.tif").unlink()
    with pytest.raises(ManifestError, match=r"a\.tif"):
        claim_study(tmp_path / "study", path)
    assert not (tmp_path / "study").exists()


def test_faults_that_came_later_are_found(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "data")
    claim_study(tmp_path / "study", path)
    path.write_text("slide_id,part,path\na,Tset,a.tif\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="unknown part 'Tset'"):
        manifest_of_study(tmp_path / "study")


def test_a_slide_that_has_gone_does_not_close_the_study(tmp_path: Path) -> None:
    manifest = claim_study(tmp_path / "study", write_manifest(tmp_path / "data"))
    (tmp_path / "data" / "a.tif").unlink()
    assert manifest_of_study(tmp_path / "study") == manifest


def test_a_folder_that_is_no_study_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no study") as error:
        manifest_of_study(tmp_path)
    assert "launch_study.py --manifest" in str(error.value)


def test_what_may_be_wrong_is_told_at_the_launch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_manifest(tmp_path / "data")
    path.write_text("slide_id,part,path,MPP,note\na,Test,a.tif,0.5,\n", encoding="utf-8")
    with caplog.at_level("INFO"):
        claim_study(tmp_path / "study", path, dry_run=True)
    assert [(record.levelname, "MPP" in record.message) for record in caplog.records] == [
        ("WARNING", True),
        ("INFO", True),
    ]


def made_study(folder: Path) -> Path:
    """A study of a data set beside it, in which something was made of its slide."""
    path = write_manifest(folder / "data", content=b"pixels")
    claim_study(folder / "study", path)
    identity = InferenceIdentity(
        weights_digest="w",
        config_digest="c",
        slide_fingerprint=fingerprint_of_file(folder / "data" / "a.tif"),
        sections_digest="s",
    )
    rows = [ledger_row(slide_id="a", setting="unet")]
    write_rows(StudyPaths(folder / "study").ledger_rows("unet", 1, "a"), rows, metadata=identity.as_metadata)
    return folder / "study"


def test_a_study_that_was_moved_with_its_data_finds_its_manifest_there(tmp_path: Path) -> None:
    made_study(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert manifest_of_study(tmp_path / "there" / "study").path == tmp_path / "there" / "data" / "slides.csv"


def test_a_study_that_was_moved_alone_finds_its_manifest_where_it_stayed(tmp_path: Path) -> None:
    made_study(tmp_path / "here").rename(tmp_path / "study")
    assert manifest_of_study(tmp_path / "study").path == tmp_path / "here" / "data" / "slides.csv"


def test_a_study_whose_data_has_gone_is_read_by_its_own_copy_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = made_study(tmp_path)
    (tmp_path / "data").rename(tmp_path / "away")
    manifest = manifest_of_study(study)
    assert [(slide.slide_id, slide.part) for slide in manifest.slides] == [("a", "Test")]
    assert "the study's own copy of it" in caplog.text
    assert "--manifest NEW" in caplog.text


def test_another_data_set_at_the_old_place_is_not_taken_for_the_study_s(tmp_path: Path) -> None:
    study = made_study(tmp_path / "here")
    study.rename(tmp_path / "study")
    shutil.rmtree(tmp_path / "here" / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "slides.csv").write_text("slide_id,part,path\nother,Test,other.tif\n", encoding="utf-8")
    assert [slide.slide_id for slide in manifest_of_study(tmp_path / "study").slides] == ["a"]


def test_the_same_rows_at_another_place_are_the_study_s_manifest_from_then_on(tmp_path: Path) -> None:
    study = made_study(tmp_path)
    shutil.copytree(tmp_path / "data", tmp_path / "mounted", copy_function=shutil.copy)
    shutil.rmtree(tmp_path / "data")
    claim_study(study, tmp_path / "mounted" / "slides.csv")
    assert manifest_of_study(study).path == tmp_path / "mounted" / "slides.csv"


def test_the_same_rows_with_another_slide_s_pixels_are_refused(tmp_path: Path) -> None:
    study = made_study(tmp_path)
    other = write_manifest(tmp_path / "other", content=b"other pixels")
    with pytest.raises(ConfigurationError, match=r"was made from other slides than .*other.* names: a"):
        claim_study(study, other)


def test_slides_that_have_gone_do_not_stop_a_launch(tmp_path: Path) -> None:
    study = made_study(tmp_path)
    (tmp_path / "data" / "a.tif").unlink()
    assert len(claim_study(study, tmp_path / "data" / "slides.csv").slides) == 1


def test_a_study_of_an_older_version_is_read_by_its_absolute_path(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "data")
    (tmp_path / "study").mkdir()
    write_json(tmp_path / "study" / "study.json", {"manifest": str(path), "phantom": False})
    assert manifest_of_study(tmp_path / "study").path == path
    claim_study(tmp_path / "study", path)
    assert read_json(tmp_path / "study" / "study.json")["manifest"] == "../data/slides.csv"


def copy_of_older_study(folder: Path, place: str) -> tuple[Path, Path]:
    """A study of an older version whose manifest lies in it, and a copy of all of it."""
    original = folder / "original"
    path = write_manifest(original / place)
    write_json(original / "study.json", {"manifest": str(path), "phantom": False})
    shutil.copytree(original, folder / "far" / "copy")
    return path, folder / "far" / "copy"


@pytest.mark.parametrize("place", ["", "phantom", "data/lab 2"])
def test_a_copy_of_an_older_study_reads_its_own_manifest_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    named, copy = copy_of_older_study(tmp_path, place)
    own = copy / place / "slides.csv"
    manifest = manifest_of_study(copy)
    assert [manifest.path, manifest.slides[0].path] == [own, own.with_name("a.tif")]
    assert f"its own, {own}, is read instead" in caplog.text
    assert "differ" not in caplog.text
    assert manifest_of_study(named.parents[len(Path(place).parts)]).path == named
    claim_study(copy, own)
    caplog.clear()
    assert manifest_of_study(copy).path == own
    assert caplog.text == ""


def test_labels_that_came_into_one_of_them_since_the_copy_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    named, copy = copy_of_older_study(tmp_path, "")
    named.with_name("sections.csv").write_text("slide_id,section_id,label\na,a-s0,Tumor\n", encoding="utf-8")
    assert manifest_of_study(copy).sections == ()
    assert "differ in what else they say, such as labels" in caplog.text


def test_a_copy_whose_own_manifest_has_other_slides_is_refused_until_one_is_chosen(tmp_path: Path) -> None:
    named, copy = copy_of_older_study(tmp_path, "phantom")
    own = copy / "phantom" / "slides.csv"
    own.write_text("slide_id,part,path\nb,Test,a.tif\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="has other slides") as error:
        manifest_of_study(copy)
    assert f"--manifest {named} --only-missing" in str(error.value)
    claim_study(copy, named)
    assert manifest_of_study(copy).path == named


def test_an_older_study_of_slides_in_another_study_s_folder_is_no_copy(tmp_path: Path) -> None:
    named, copy = copy_of_older_study(tmp_path, "phantom")
    shutil.rmtree(copy / "phantom")
    assert manifest_of_study(copy).path == named


@pytest.mark.parametrize("manifest_by_link", [True, False])
def test_a_study_in_a_home_that_is_a_link_names_its_manifest_through_the_link(
    tmp_path: Path, *, manifest_by_link: bool
) -> None:
    """Jobs on other machines read it, where the home is another link."""
    write_manifest(tmp_path / "disk" / "user" / "data")
    home = tmp_path / "home"
    home.symlink_to(tmp_path / "disk" / "user")
    claimed_by = home if manifest_by_link else tmp_path / "disk" / "user"
    manifest = claim_study(home / "study", claimed_by / "data" / "slides.csv")
    assert manifest.path == claimed_by / "data" / "slides.csv"
    found = manifest_of_study(home / "study")
    assert [found.path, found.slides[0].path] == [home / "data" / "slides.csv", home / "data" / "a.tif"]


def write_labelled(folder: Path) -> Path:
    path = write_manifest(folder)
    path.with_name("sections.csv").write_text("slide_id,section_id,label\na,a-s0,Tumor\n", encoding="utf-8")
    path.with_name("kinds.toml").write_text('[names]\nnest = "Tumornest"\n', encoding="utf-8")
    return path


EDITS = {
    "sections.csv": ("Tumor", "Normal"),
    "slides.csv": (",test,", ",val2,"),
    "kinds.toml": ("nest", "island"),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("is_older", [False, True])
def test_an_edited_copy_of_the_manifest_is_an_error_that_says_what_counts(
    tmp_path: Path, name: str, *, is_older: bool
) -> None:
    path = write_labelled(tmp_path / "data")
    study = tmp_path / "study"
    claim_study(study, path)
    if is_older:
        record = read_json(study / "study.json")
        write_json(study / "study.json", {key: value for key, value in record.items() if key != "kept"})
        assert manifest_of_study(study).path == path
    copy = study / "manifest" / name
    copy.write_text(copy.read_text(encoding="utf-8").replace(*EDITS[name]), encoding="utf-8")
    for reads in (lambda: manifest_of_study(study), lambda: claim_study(study, path, dry_run=True)):
        with pytest.raises(ConfigurationError, match="was edited, and is only a copy") as error:
            reads()
        for said in (name, f"What counts is {path}", f"mv {study / 'manifest'}", f"relabel {study}"):
            assert said in str(error.value)
    (study / "manifest").rename(study / "manifest-edited")
    assert manifest_of_study(study).path == path
    claim_study(study, path)
    assert copy.read_bytes() == (study / "manifest" / name).read_bytes()
    assert manifest_of_study(study).path == path


def test_a_path_edited_in_the_copy_is_an_edit_too(tmp_path: Path) -> None:
    study = tmp_path / "study"
    claim_study(study, write_labelled(tmp_path / "data"))
    copy = study / "manifest" / "slides.csv"
    copy.write_text(copy.read_text(encoding="utf-8").replace("a.tif", "b.tif"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"slides\.csv was edited"):
        manifest_of_study(study)


def test_the_manifest_itself_may_be_edited_and_the_next_launch_copies_it(tmp_path: Path) -> None:
    path = write_labelled(tmp_path / "data")
    study = tmp_path / "study"
    claim_study(study, path)
    labels = path.with_name("sections.csv")
    labels.write_text(labels.read_text(encoding="utf-8").replace("Tumor", "Normal"), encoding="utf-8")
    for _ in range(2):
        assert manifest_of_study(study).sections[0].label == "Normal"
        claim_study(study, path)
    assert (study / "manifest" / "sections.csv").read_bytes() == labels.read_bytes()


def test_a_launch_that_is_killed_while_it_copies_leaves_no_copy_that_looks_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_labelled(tmp_path / "data")
    study = tmp_path / "study"
    claim_study(study, path)
    labels = path.with_name("sections.csv")
    labels.write_text(labels.read_text(encoding="utf-8").replace("Tumor", "Normal"), encoding="utf-8")
    monkeypatch.setattr("bccdist.study.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        claim_study(study, path)
    monkeypatch.undo()
    assert manifest_of_study(study).sections[0].label == "Normal"
    keep_manifest(study, manifest_of_study(study))
    assert (study / "manifest" / "slides.csv").exists()


def test_where_the_manifest_is_gone_the_copy_counts_with_what_was_edited_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_labelled(tmp_path / "data")
    study = tmp_path / "study"
    claim_study(study, path)
    shutil.rmtree(path.parent)
    copy = study / "manifest" / "sections.csv"
    copy.write_text(copy.read_text(encoding="utf-8").replace("Tumor", "Normal"), encoding="utf-8")
    assert manifest_of_study(study).sections[0].label == "Normal"
    assert "with what was edited there since (sections.csv), is read" in caplog.text
    copy.unlink()
    with pytest.raises(ConfigurationError, match=r"own copy sections\.csv is gone.*labels, is not known"):
        manifest_of_study(study)


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("study/sections.csv", "relabel"),
        ("study/slides.csv", "say it there"),
        ("study/kinds.toml", "say it there"),
        ("study/manifest/labels.csv", "relabel"),
        ("data/labels.csv", "relabel"),
    ],
)
def test_a_file_that_looks_as_if_it_counted_is_told(
    tmp_path: Path, place: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    study = tmp_path / "study"
    manifest = claim_study(study, write_labelled(tmp_path / "data"))
    assert unread_files(study, manifest) == []
    (tmp_path / place).write_text("", encoding="utf-8")
    assert manifest_of_study(study) == manifest
    assert unread_files(study, manifest) == [tmp_path / place]
    assert f"{tmp_path / place} is NOT read: what counts is {manifest.path}" in caplog.text
    assert advice in caplog.text


def test_what_a_study_reads_is_not_told_as_unread(tmp_path: Path) -> None:
    study = tmp_path / "study"
    manifest = claim_study(study, write_labelled(study))
    (study / "labels.csv").write_text("", encoding="utf-8")
    assert unread_files(study, manifest) == []
