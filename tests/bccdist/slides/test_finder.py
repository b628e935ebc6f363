"""Slides are found where nobody wrote a manifest, each once, under ids that depend on nothing but themselves."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from heatmap_slides import pink_picture, write_slide

from bccdist.errors import ManifestError
from bccdist.slides.finder import find_slides, slide_id_of

SERIES = b"457192622591"
"""The end of the series' number in the DICOM slide."""
PICTURE = pink_picture(300, 300, islands=[(50, 50, 100, 100)])


def touch(folder: Path, *names: str) -> Path:
    """Files that are called like slides, which need not be any to be found."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes([number]) * 10)
    return folder


def found_in(source: Path) -> dict[str, str]:
    return {slide_id: path.name for slide_id, path in find_slides(source).paths.items()}


def test_a_folder_is_searched_with_those_below_it(tmp_path: Path) -> None:
    touch(tmp_path, "b.svs", "a.ndpi", "deep/er/c.SVS", "deep/d.scn")
    assert found_in(tmp_path) == {"a": "a.ndpi", "b": "b.svs", "deep-d": "d.scn", "deep-er-c": "c.SVS"}


@pytest.mark.parametrize(
    ("path", "slide_id"),
    [
        ("HE.svs", "HE"),
        ("case 7/HE 2.svs", "case_7-HE_2"),
        ("TCGA-A1-01.8F2.svs", "TCGA-A1-01_8F2"),
        ("-x.svs", "s-x"),
        ("Müller.svs", "M_ller-7a8346"),
        ("切片.svs", "s__-0a16b1"),
    ],
)
def test_an_id_is_the_path_in_letters_that_ids_have(path: str, slide_id: str) -> None:
    assert slide_id_of(Path(path)) == slide_id


def test_names_in_other_alphabets_keep_apart(tmp_path: Path) -> None:
    touch(tmp_path, "切片.svs", "样本.svs", "é.svs", "è.svs", f"{'long' * 50}1.svs", f"{'long' * 50}2.svs")
    found = found_in(tmp_path)
    assert len(found) == 6
    assert max(map(len, found)) < 140


def test_what_is_added_later_changes_no_id(tmp_path: Path) -> None:
    touch(tmp_path, "b/HE.svs", "c/HE.svs")
    before = found_in(tmp_path)
    touch(tmp_path, "HE.svs", "a/HE.svs", "b/b/HE.svs")
    assert before.items() <= found_in(tmp_path).items()


def test_two_slides_of_one_name_in_two_folders_are_told(tmp_path: Path) -> None:
    notes = find_slides(touch(tmp_path, "b/HE.svs", "c/HE.svs", "d/other.svs")).notes
    assert any("b-HE, c-HE of HE.svs" in note for note in notes)


@pytest.mark.parametrize("names", [("a.svs", "a.ndpi"), ("a/b-c.svs", "a-b/c.svs"), ("a b.svs", "a.b.svs")])
def test_two_slides_that_would_share_an_id_are_one_error(tmp_path: Path, names: tuple[str, str]) -> None:
    touch(tmp_path, *names)
    with pytest.raises(ManifestError, match="2 slides would have the slide_id") as raised:
        find_slides(tmp_path)
    assert all(Path(name).name in str(raised.value) for name in names)


def test_other_files_are_counted_by_kind_in_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "x.jpg", "y.jpg", "notes", ".hidden.svs", ".git/c.svs", "._a.svs")
    (note,) = find_slides(tmp_path).notes
    assert note.startswith("5 other file(s) are no slides (2 .jpg, 2 hidden, 1 without ending)")


def test_a_tiff_is_a_slide_where_openslide_knows_it(tmp_path: Path) -> None:
    write_slide(tmp_path / "slide.tif", PICTURE)
    tifffile.imwrite(tmp_path / "photo.tif", np.zeros((40, 40, 3), dtype=np.uint8), photometric="rgb")
    found = find_slides(tmp_path)
    assert list(found.paths) == ["slide"]
    assert "photo.tif" in found.notes[0]


@pytest.mark.parametrize("num_bytes", [0, 8, 500, -1000])
def test_a_tiff_that_was_cut_short_may_have_been_a_slide_and_fails_by_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, num_bytes: int
) -> None:
    write_slide(tmp_path / "slide.tif", PICTURE)
    (tmp_path / "cut.tiff").write_bytes((tmp_path / "slide.tif").read_bytes()[:num_bytes])
    assert list(find_slides(tmp_path).paths) == ["cut", "slide"]
    assert not caplog.records


def test_slides_of_several_files_count_once(tmp_path: Path) -> None:
    touch(tmp_path, "m.mrxs", "m/Slidedat.ini", "m/Data0000.dat", "m/inner.svs")
    (tmp_path / "v.vms").write_text("[Virtual Microscope Specimen]\nImageFile=v-0.jpg\nOptimisationFile=v.opt\n")
    touch(tmp_path, "v-0.jpg", "v.opt")
    found = find_slides(tmp_path)
    assert list(found.paths) == ["m", "v"]
    assert not found.notes


def test_a_link_to_a_slide_is_no_second_slide_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, "data/a.svs")
    (tmp_path / "z.svs").symlink_to("data/a.svs")
    (tmp_path / "data" / "up").symlink_to("..")
    assert len(find_slides(tmp_path).paths) == 1


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.svs").symlink_to("gone")
    with pytest.raises(ManifestError, match=r"a.svs cannot be read: No such file"):
        find_slides(tmp_path)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "disk/a.svs")
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "lab").symlink_to("../disk")
    assert found_in(tmp_path / "slides") == {"lab-a": "a.svs"}


def test_a_single_slide_is_found_and_something_else_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "a.docx")
    assert found_in(tmp_path / "a.svs") == {"a": "a.svs"}
    with pytest.raises(ManifestError, match=r"a.docx: no slide that OpenSlide knows"):
        find_slides(tmp_path / "a.docx")
    with pytest.raises(ManifestError, match="nothing is there"):
        find_slides(tmp_path / "b")


def test_a_list_names_slides_and_folders_relative_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "lists/x/a.svs", "far/b.svs", "far/more/c.svs", "far/d.svs")
    (tmp_path / "lists" / "these.txt").write_text(f"# of March\nx/a.svs\n\n../far/b.svs\r\n{tmp_path}/far/more\n")
    assert found_in(tmp_path / "lists" / "these.txt") == {"x-a": "a.svs", "b": "b.svs", "c": "c.svs"}
    (tmp_path / "lists" / "these.txt").write_text("x/a.svs\nx/gone.svs\n")
    with pytest.raises(ManifestError, match=r"these.txt, line 2: .*gone.svs is not there"):
        find_slides(tmp_path / "lists" / "these.txt")


def test_a_folder_without_slides_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no slide is in it$"):
        find_slides(tmp_path)
    touch(tmp_path, "a.jpg")
    with pytest.raises(ManifestError, match=r"no slide is in it; 1 other file\(s\) are no slides \(1 .jpg\)"):
        find_slides(tmp_path)


@pytest.mark.parametrize("ending", [".jpg", ".tif", "", ".dcm"])
def test_ten_thousand_other_files_are_passed_over_at_once(tmp_path: Path, ending: str) -> None:
    for number in range(10_000):
        (tmp_path / f"{number:05d}{ending}").write_bytes(b"0")
    touch(tmp_path, "a.svs")
    started_s = time.process_time()
    found = find_slides(tmp_path)
    assert time.process_time() - started_s < 5
    assert list(found.paths) == ["a"]
    assert "10000" in found.notes[0]
    assert len(found.notes[0]) < 1000


def test_names_that_are_not_utf8_are_named_so_that_a_terminal_shows_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.svs")).write_bytes(b"1")
    with pytest.raises(ManifestError, match=r"M\\xfcller.svs: its name is not UTF-8"):
        find_slides(tmp_path)


def test_other_files_may_have_any_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/notes.t\xfct")).write_bytes(b"1")
    (note,) = find_slides(tmp_path).notes
    assert note.encode().decode() == note


@pytest.mark.parametrize("name", ["a\nb.svs", "a\\b.svs", " a.svs"])
def test_a_name_that_no_table_gives_back_is_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    if name.startswith(" "):  # a blank in the middle of a path is none at its end
        assert len(find_slides(tmp_path).paths) == 1
        return
    with pytest.raises(ManifestError, match="signs that a table cannot hold"):
        find_slides(tmp_path)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.svs", "secret/b.svs")
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ManifestError, match="secret cannot be read: Permission denied"):
        find_slides(tmp_path)


def test_a_manifest_in_the_folder_is_pointed_at(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "slides.csv")
    assert any("slides.csv is there and was not read" in note for note in find_slides(tmp_path).notes)


@pytest.mark.shared_data
def test_dicom_series_are_slides_with_their_volume_in_front(shared_data: Path, tmp_path: Path) -> None:
    given = shared_data / "fixtures" / "dicom_cmu1"
    shutil.copytree(given, tmp_path / "one")
    volume = max(given.iterdir(), key=lambda path: path.stat().st_size).name
    # Another laboratory's export: no endings, a series beside the first one, and DICOM files that are no slides.
    for number, path in enumerate(sorted(given.iterdir())):
        (tmp_path / "one" / f"IM_{number}").write_bytes(path.read_bytes().replace(SERIES, SERIES[::-1]))
    (tmp_path / "one" / "report.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    found = find_slides(tmp_path)
    assert len(found.paths) == 2
    assert volume in {path.name for path in found.paths.values()}
    assert [path.stat().st_size for path in found.paths.values()] == [(given / volume).stat().st_size] * 2
    assert "report.dcm" in found.notes[0]
    assert len(find_slides(tmp_path / "one" / volume).paths) == 1


def test_an_address_in_a_list_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "these.txt").write_text("https://u:Hidden1@host/a.svs?sig=Hidden1\n")
    with pytest.raises(ManifestError, match=r"these.txt, line 1: https://host/a.svs is an address") as caught:
        find_slides(tmp_path / "these.txt")
    assert "Hidden1" not in str(caught.value)
