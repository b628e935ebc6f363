"""A folder is the study of one manifest, which may come again and is checked each time."""

from pathlib import Path

import pytest

from bccdist.errors import ConfigurationError, ManifestError
from bccdist.files import read_json
from bccdist.study import claim_study, manifest_of_study


def write_manifest(folder: Path, *, scanner: str = "") -> Path:
    folder.mkdir()
    (folder / "a.tif").write_bytes(b"")
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
    other = write_manifest(tmp_path / "other")
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
