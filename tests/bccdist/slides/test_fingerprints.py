"""A fingerprint names the pixels of a slide in whatever file, and nothing else; kept ones are not made again."""

import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from synthetic_slides import GLASS, islands_picture, write_slide
from tissue_pictures import textured_tissue

from bccdist.errors import SlideError
from bccdist.parts import Part
from bccdist.slides import fingerprints as module
from bccdist.slides.fingerprints import (
    MOST_LANDMARKS,
    content_of,
    find_landmarks,
    fingerprints_of,
    kept_fingerprint,
    make_fingerprint,
    size_of,
)
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SlideRecord
from benchmarks.rescans import scaled, turned

MPP = 2.0


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    return textured_tissue(0)


def record(path: Path, *, mpp: float | None = None) -> SlideRecord:
    return SlideRecord(slide_id=path.stem, part=Part.TEST, path=path, mpp=mpp)


def test_the_same_pixels_have_one_content_in_every_file(tmp_path: Path, tissue: np.ndarray) -> None:
    paths = [write_slide(tmp_path / "plain.tif", tissue, mpp=MPP)]
    paths += [write_slide(tmp_path / "pyramid.tif", tissue, mpp=0.3, downsamples=(1, 4))]
    paths += [tmp_path / "renamed.svs"]
    paths[-1].write_bytes(paths[0].read_bytes())
    for name, options in {
        "lzw": {"tile": (128, 128), "compression": "lzw"},
        "large tiles": {"tile": (512, 512), "compression": "deflate"},
        "small tiles": {"tile": (64, 64)},
        "big": {"tile": (256, 256), "bigtiff": True, "planarconfig": "contig"},
    }.items():
        paths.append(tmp_path / f"{name}.tif")
        tifffile.imwrite(paths[-1], tissue, photometric="rgb", **options)
    assert len({content_of(path) for path in paths}) == 1


def test_a_jpeg_saved_again_without_loss_has_the_same_content(tmp_path: Path, tissue: np.ndarray) -> None:
    coded = tmp_path / "coded.tif"
    tifffile.imwrite(
        coded, tissue, photometric="rgb", tile=(256, 256), compression="jpeg", compressionargs={"level": 80}
    )
    import openslide

    with openslide.OpenSlide(coded) as handle:
        pixels = np.asarray(handle.read_region((0, 0), 0, handle.dimensions))[..., :3]
    assert content_of(write_slide(tmp_path / "saved.tif", pixels)) == content_of(coded)
    assert content_of(write_slide(tmp_path / "before.tif", tissue)) != content_of(coded)


@pytest.mark.parametrize("change", ["mirrored", "one column less", "brighter", "another piece"])
def test_other_pixels_have_another_content(tmp_path: Path, tissue: np.ndarray, change: str) -> None:
    other = {
        "mirrored": tissue[:, ::-1],
        "one column less": tissue[:, :-1],
        "brighter": np.minimum(tissue, 254) + 1,
        "another piece": textured_tissue(1),
    }[change]
    contents = {
        content_of(write_slide(tmp_path / f"{number}.tif", each)) for number, each in enumerate((tissue, other))
    }
    assert len(contents) == 2


def test_a_small_piece_on_much_glass_tells_two_slides_apart(tmp_path: Path) -> None:
    contents = set()
    for seed in range(3):
        picture = np.full((3000, 4000, 3), GLASS, dtype=np.uint8)
        picture[1600:1800, 1000:1250] = textured_tissue(seed)[450:650, 300:550]
        contents.add(content_of(write_slide(tmp_path / f"{seed}.tif", picture)))
    assert len(contents) == 3
    assert "" not in contents


def test_glass_alone_is_not_said_to_be_equal(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", islands_picture(900, 700, noise=3.0), mpp=MPP)
    made = make_fingerprint(path, mpp=None)
    assert (made.content, len(made.positions_px), made.size_level0_px) == ("", 0, (900, 700))


def test_a_slide_smaller_than_a_square_has_a_content(tmp_path: Path, tissue: np.ndarray) -> None:
    assert content_of(write_slide(tmp_path / "a.tif", tissue[500:560, 500:550]))


def test_places_lie_on_the_slide_and_are_spread_over_it() -> None:
    boxes = [box for box, _ in zip(module._places((5000, 3000)), range(500), strict=False)]
    assert all(box.intersection(Box(0, 0, 5000, 3000)) == box for box in boxes)
    hit = {(box.x * 10 // 5000, box.y * 10 // 3000) for box in boxes}
    assert len(hit) == 100


def test_landmarks_are_the_same_wherever_tiles_end(tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    overview = scaled(tissue, 0.4)
    whole, described = find_landmarks(overview)
    monkeypatch.setattr(module, "_TILE_PX", 200)
    monkeypatch.setattr(module, "_MARGIN_PX", 48)
    in_pieces, described_in_pieces = find_landmarks(overview)
    rows = {tuple(position): row for row, position in enumerate(in_pieces.round().tolist())}
    shared = [(row, rows[tuple(at)]) for row, at in enumerate(whole.round().tolist()) if tuple(at) in rows]
    assert len(shared) > 0.9 * len(whole) > 100
    differences = [np.abs(described[one].astype(int) - described_in_pieces[other]).mean() for one, other in shared]
    assert np.median(differences) < 3


def test_only_the_strongest_landmarks_are_kept(tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    overview = scaled(tissue, 0.25)
    positions_px, descriptors = find_landmarks(overview)
    assert len(positions_px) == len(descriptors) <= MOST_LANDMARKS
    monkeypatch.setattr(module, "MOST_LANDMARKS", 20)
    assert np.array_equal(find_landmarks(overview)[0], positions_px[:20])


def test_a_picture_without_anything_has_no_landmarks() -> None:
    positions_px, descriptors = find_landmarks(np.full((300, 200, 3), 240, dtype=np.uint8))
    assert (positions_px.shape, descriptors.shape) == ((0, 2), (0, 128))


def test_a_kept_fingerprint_is_taken_as_long_as_file_and_scale_are_the_same(
    tmp_path: Path, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_in = tmp_path / "kept"
    first = record(write_slide(tmp_path / "a.tif", tissue, mpp=MPP))
    made, reasons = fingerprints_of([first], keep_in=kept_in, num_workers=0)
    assert (list(made), reasons) == (["a"], {})
    calls: list[Path] = []
    make = module.make_fingerprint
    monkeypatch.setattr(module, "make_fingerprint", lambda path, *, mpp: calls.append(path) or make(path, mpp=mpp))
    again, _ = fingerprints_of([first], keep_in=None, also_in=[tmp_path / "none", kept_in], num_workers=0)
    assert calls == []
    assert again["a"].content == made["a"].content
    assert np.array_equal(again["a"].descriptors, made["a"].descriptors)
    assert np.array_equal(again["a"].positions_px, made["a"].positions_px)
    moved = record(first.path.rename(tmp_path / "moved.tif"))
    assert kept_fingerprint(moved, [kept_in]) is not None
    assert kept_fingerprint(record(moved.path, mpp=1.0), [kept_in]) is None
    write_slide(moved.path, turned(tissue, 90), mpp=MPP)
    fingerprints_of([moved], keep_in=kept_in, num_workers=0)
    assert calls == [moved.path]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", None])
def test_a_damaged_kept_fingerprint_is_made_again(tmp_path: Path, tissue: np.ndarray, damage: bytes | None) -> None:
    slide = record(write_slide(tmp_path / "a.tif", tissue, mpp=MPP))
    made, _ = fingerprints_of([slide], keep_in=tmp_path / "kept", num_workers=0)
    (file,) = (tmp_path / "kept").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert kept_fingerprint(slide, [tmp_path / "kept"]) is None
    again, _ = fingerprints_of([slide], keep_in=tmp_path / "kept", num_workers=0)
    assert again["a"].content == made["a"].content
    assert file.read_bytes()[:2] == b"PK"


def test_what_cannot_be_read_has_a_reason_and_costs_no_other(tmp_path: Path, tissue: np.ndarray) -> None:
    good = record(write_slide(tmp_path / "good.tif", tissue, mpp=MPP))
    (tmp_path / "bad.tif").write_bytes(b"no slide")
    bad, gone = record(tmp_path / "bad.tif"), record(tmp_path / "gone.tif")
    made, reasons = fingerprints_of([gone, bad, good], keep_in=None, num_workers=1)
    assert list(made) == ["good"]
    assert set(reasons) == {"gone", "bad"}
    assert "cannot open" in reasons["bad"]
    with pytest.raises(SlideError, match="cannot open"):
        size_of(bad.path)
    assert size_of(good.path) == (1800, 1300)


@pytest.mark.shared_data
def test_the_content_of_real_slides_takes_less_than_two_seconds_and_is_its_own(shared_data: Path) -> None:
    paths = sorted((shared_data / "ebhi-slides").glob("*.tif"))
    contents, times_s = set(), []
    for path in paths:
        start_s = time.process_time()
        contents.add(content_of(path))
        times_s.append(time.process_time() - start_s)
    assert len(contents) == len(paths)
    assert max(times_s) < 2
