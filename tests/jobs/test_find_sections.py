"""Sections found on many slides become a sections.csv to correct; what is in the old one stays."""

import csv
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import pytest
from killing import killed_at
from range_server import serving
from synthetic_slides import islands_picture, write_slide

from bccdist.addresses import parse_address
from bccdist.errors import ConfigurationError, ManifestError, StageFailedError
from bccdist.parts import Label
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, read_manifest
from bccdist.slides.sections import sections_of
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask
from jobs import find_sections
from jobs.find_sections import find_sections_of_slides

MPP = 2.0
ISLANDS = (Box(80, 80, 320, 200), Box(720, 120, 240, 160), Box(160, 400, 400, 160))
REPOSITORY = Path(__file__).resolve().parents[2]


def write_slides(folder: Path, *slide_ids: str, islands: tuple[Box, ...] = ISLANDS) -> Path:
    """Slides of part test with the same islands, and their slides.csv."""
    rows = ["slide_id,part,path"]
    for slide_id in slide_ids:
        write_slide(folder / f"{slide_id}.tif", islands_picture(1200, 640, *islands), mpp=MPP)
        rows.append(f"{slide_id},test,{slide_id}.tif")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "slides.csv"


def find(
    manifest: Path, *, out: Path | None = None, in_place: bool = False, pictures: Path | None = None, workers: int = 0
) -> Path:
    return find_sections_of_slides(manifest, out=out, in_place=in_place, pictures=pictures, workers=workers)


def boxes_of(manifest: Manifest, slide_id: str) -> list[Box | None]:
    return [section.box_level0_px for section in manifest.sections_of(slide_id)]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_is_written_is_read_again_and_its_boxes_are_the_sections(tmp_path: Path) -> None:
    manifest = read_manifest(write_slides(tmp_path, "b", "a"))
    written = find(manifest.path, workers=2)
    assert written == tmp_path / "sections.csv"
    again = read_manifest(manifest.path)
    assert [section.section_id for section in again.sections] == ["b-s0", "b-s1", "b-s2", "a-s0", "a-s1", "a-s2"]
    for slide in again.slides:
        assert boxes_of(again, slide.slide_id) == list(ISLANDS)
        with Slide(slide.path, target_mpp=MPP) as opened:
            tissue = tissue_mask(opened)
            given = sections_of(opened, slide.slide_id, tissue, again.sections_of(slide.slide_id))
            assert given == sections_of(opened, slide.slide_id, tissue, [])


def test_rows_stay_with_labels_and_unknown_columns_and_get_boxes(tmp_path: Path) -> None:
    manifest = write_slides(tmp_path, "a", "b", "c")
    given = tmp_path / "sections.csv"
    given.write_text(
        "remark,slide_id,section_id,label,labelled_by,x_level0_px,y_level0_px,width_level0_px,height_level0_px\n"
        "own box,b,b-x,Tumor,me,1,2,3,4\n"
        "first,a,left,Tumor,me,,,,\n"
        '"second, really",a,right,Normal,you,,,,\n'
        "third,a,below,,,,,,\n",
        encoding="utf-8",
    )
    before = given.read_bytes()
    out = find(manifest, out=tmp_path / "new" / "sections.csv")
    assert given.read_bytes() == before
    rows = rows_of(out)
    assert [row["remark"] for row in rows] == ["own box", "first", "second, really", "third", "", "", ""]
    assert [row["section_id"] for row in rows] == ["b-x", "left", "right", "below", "c-s0", "c-s1", "c-s2"]
    given.write_bytes(out.read_bytes())
    again = read_manifest(manifest)
    assert boxes_of(again, "b") == [Box(1, 2, 3, 4)]
    assert boxes_of(again, "a") == boxes_of(again, "c") == list(ISLANDS)
    assert [section.label for section in again.sections_of("a")] == [Label.TUMOR, Label.NORMAL, None]
    assert again.sections_of("a")[1].labelled_by == "you"
    assert {section.label for section in again.sections_of("c")} == {None}


def test_a_slide_that_fails_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    manifest = write_slides(tmp_path, "a", "b", "c")
    (tmp_path / "b.tif").unlink()
    (tmp_path / "sections.csv").write_text("slide_id,section_id,label\nc,c-1,Tumor\nc,c-2,Normal\n", encoding="utf-8")
    out = tmp_path / "out.csv"
    with pytest.raises(StageFailedError, match=r"out\.csv is written; 2 slide\(s\) failed") as error:
        find(manifest, out=out)
    assert "b.tif: the slide is not there" in str(error.value)
    assert "c: sections.csv has 2 row(s), but 3 section(s) were found, at (80, 80, 320, 200), (720" in str(error.value)
    assert [row["section_id"] for row in rows_of(out)] == ["c-1", "c-2", "a-s0", "a-s1", "a-s2"]
    assert {row["x_level0_px"] for row in rows_of(out)[:2]} == {""}


def test_a_name_that_another_slide_has_is_refused(tmp_path: Path) -> None:
    manifest = write_slides(tmp_path, "a", "b")
    (tmp_path / "sections.csv").write_text(
        "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px\nb,a-s1,,0,0,9,9\n",
        encoding="utf-8",
    )
    with pytest.raises(StageFailedError, match=r"gives the name\(s\) a-s1 to another slide"):
        find(manifest, in_place=True)


def test_every_slide_gets_a_picture_with_numbered_boxes(tmp_path: Path) -> None:
    manifest = write_slides(tmp_path, "a", "b")
    (tmp_path / "sections.csv").write_text(
        "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px\nb,b-1,,400,80,400,400\n",
        encoding="utf-8",
    )
    find(manifest, in_place=True, pictures=tmp_path / "pictures")
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["a.png", "b.png"]
    picture = cv2.imread(str(tmp_path / "pictures" / "b.png"))
    assert picture is not None
    assert picture.shape == (160, 300, 3)
    assert picture[20, 150].tolist() == picture[60, 100].tolist() == [0, 160, 0]
    assert boxes_of(read_manifest(manifest), "b") == [Box(400, 80, 400, 400)]
    assert boxes_of(read_manifest(manifest), "a") == list(ISLANDS)


def test_slides_without_tissue_are_said_and_make_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_slides(tmp_path, "a", islands=())
    with pytest.raises(ManifestError, match="no section was found on any slide"):
        find(manifest)
    assert "slide 1/1 a: NO TISSUE FOUND" in capsys.readouterr().out
    assert not (tmp_path / "sections.csv").exists()


@pytest.mark.parametrize("name", ["sections.csv", "earlier.csv"])
def test_an_existing_file_is_not_replaced_unasked(tmp_path: Path, name: str) -> None:
    manifest = write_slides(tmp_path, "a")
    (tmp_path / name).write_text("slide_id,section_id,label\n", encoding="utf-8")
    for out in [tmp_path / name, *([None] if name == "sections.csv" else [])]:
        with pytest.raises(
            ConfigurationError, match="exists and may hold corrections; give another --out, or --in-pl"
        ):
            find(manifest, out=out)
    with pytest.raises(ConfigurationError, match="either --out or --in-place"):
        find(manifest, out=tmp_path / name, in_place=True)


def test_fewer_workers_than_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="-1 workers, expected 1 or more"):
        find(write_slides(tmp_path, "a"), workers=-1)


def test_a_slide_that_kills_its_process_is_named_and_the_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_slides(tmp_path, "a", "b", "c")
    monkeypatch.setattr(find_sections, "open_search", partial(killed_at, "b", "jobs.find_sections:open_search"))
    with pytest.raises(StageFailedError, match=r"sections\.csv is written; 1 slide.*\n  - b: its process .* SIGKILL"):
        find(manifest, workers=1)
    assert {row["slide_id"] for row in rows_of(tmp_path / "sections.csv")} == {"a", "c"}


def test_the_command_ends_with_an_error_code_when_a_slide_failed(tmp_path: Path) -> None:
    manifest = write_slides(tmp_path, "a", "b")
    (tmp_path / "b.tif").write_bytes(b"no slide")
    command = [sys.executable, str(REPOSITORY / "jobs" / "find_sections.py"), str(manifest), "--workers", "1"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 1
    assert "slide 1/2" in finished.stdout
    assert "error: " in finished.stderr
    assert "b.tif: OpenSlide cannot open it" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert len(rows_of(tmp_path / "sections.csv")) == 3


def test_boxes_and_pictures_of_slides_on_a_server_are_those_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "served").mkdir()
    manifest = write_slides(tmp_path / "served", "a")
    find(manifest, out=tmp_path / "local.csv", pictures=tmp_path / "local")
    with serving(manifest.parent) as server:
        address = parse_address(f"{server.url}/slides.csv")
        find_sections.main(address, out=tmp_path / "remote.csv", pictures=tmp_path / "remote", workers=0)
    assert (tmp_path / "remote.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()
    assert (tmp_path / "remote" / "a.png").read_bytes() == (tmp_path / "local" / "a.png").read_bytes()
