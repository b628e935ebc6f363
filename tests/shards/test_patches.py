"""Patches show the slide's pixels, each read once, and their rows say what lies under them."""

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_study import NORMAL, STROMA, TUMORNEST, tissue_picture, write_manifest, write_mask, write_slide

from bccdist.configuration import CELL_PX, ShardConfig
from bccdist.errors import ShardError
from bccdist.parts import Kind
from bccdist.slides.annotations import KindMasks, read_annotations
from bccdist.slides.geometry import Box, patch_grid
from bccdist.slides.manifest import DEFAULT_KINDS, read_manifest
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP
from shards.grid import needed_cells
from shards.patches import (
    CodedPatch,
    code_patches,
    cut_image,
    cut_mask,
    open_slide,
    patch_rows,
    read_bands,
    survey_slide,
)


def _samples(folder: Path, config: ShardConfig, *, part: str = "train") -> list[CodedPatch]:
    manifest = read_manifest(write_manifest(folder, [("a", part)]))
    record = manifest.slide("a")
    with ThreadPoolExecutor(2) as pool, open_slide(record, config, pool) as slide:
        return list(code_patches(slide, survey_slide(slide, record, manifest, config), config, pool))


def _patches(slide: Slide, boxes: list[Box], mask: Path) -> dict[Box, tuple[NDArray[np.uint8], KindMasks]]:
    annotation = read_annotations([mask], slide, DEFAULT_KINDS)
    needed = needed_cells(boxes, cell_px=CELL_PX)
    tissue = np.ones(slide.overview(TISSUE_MPP).pixels.shape[:2], dtype=bool)
    return {
        box: (cut_image(bands, box), {kind: cut_mask(bands, box, kind) for kind in Kind})
        for bands, row in patch_rows(read_bands(slide, annotation, needed, tissue), boxes)
        for box in row
    }


@pytest.mark.parametrize("stride_px", [256, 512, 200, 100, 511])
def test_patches_show_the_slide_and_each_pixel_is_read_once(
    tmp_path: Path, stride_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tissue_picture(1340, 860, seed=0)
    write_slide(tmp_path / "a.tif", picture)
    padded = np.full((2048, 2048, 3), 255, dtype=np.uint8)
    padded[:860, :1340] = picture
    values = np.zeros((2048, 2048), dtype=np.uint8)
    values[:860, :1340] = np.random.default_rng(0).integers(0, 4, (86, 134)).repeat(10, axis=0).repeat(10, axis=1)
    write_mask(tmp_path / "a.png", values[:860, :1340])
    read_px = np.zeros((2048, 2048), dtype=int)
    read_into = Slide.read_into

    def counting(slide: Slide, image: NDArray[np.uint8], box_px: Box) -> None:
        read_px[box_px.slices()] += 1
        read_into(slide, image, box_px)

    monkeypatch.setattr(Slide, "read_into", counting)
    boxes = patch_grid(1340, 860, patch_px=512, stride_px=stride_px)
    with Slide(tmp_path / "a.tif", target_mpp=0.92) as slide:
        patches = _patches(slide, boxes, tmp_path / "a.png")
    assert list(patches) == boxes
    kind_values = {Kind.TUMORNEST: TUMORNEST, Kind.STROMA: STROMA, Kind.NORMAL: NORMAL}
    for box, (image, masks) in patches.items():
        assert np.array_equal(image, padded[box.slices()])
        for kind, value in kind_values.items():
            assert np.array_equal(masks[kind], values[box.slices()] == value)
    assert read_px[:860, :1340].max() == 1


def test_only_cells_under_kept_patches_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_slide(tmp_path / "a.tif", tissue_picture(2560, 1536, seed=0))
    write_mask(tmp_path / "a.png", np.zeros((1536, 2560), dtype=np.uint8))
    boxes: list[Box] = []
    read_into = Slide.read_into

    def noting(slide: Slide, image: NDArray[np.uint8], box_px: Box) -> None:
        boxes.append(box_px)
        read_into(slide, image, box_px)

    monkeypatch.setattr(Slide, "read_into", noting)
    with Slide(tmp_path / "a.tif", target_mpp=0.92) as slide:
        kept = [Box(0, 0, 512, 512), Box(1024, 1024, 512, 512)]
        patches = _patches(slide, kept, tmp_path / "a.png")
        assert sum(box.area for box in boxes) == 2 * 512 * 512
        assert all(np.array_equal(patches[box][0], slide.read(box)) for box in kept)


def test_fractions_and_members_say_what_the_mask_says(tmp_path: Path) -> None:
    mask = np.zeros((512, 768), dtype=np.uint8)
    mask[:128, :256] = TUMORNEST
    mask[128:130, :256] = STROMA
    mask[500:, 512:] = NORMAL
    picture = tissue_picture(768, 512, seed=0)
    write_slide(tmp_path / "a.tif", picture)
    write_mask(tmp_path / "a.png", mask)
    first, second = _samples(tmp_path, ShardConfig())
    kinds = ("tumornest", "stroma", "normal")
    assert [first.row[f"{kind}_fraction"] for kind in kinds] == [0.125, 512 / 512**2, 0]
    assert [second.row[f"{kind}_fraction"] for kind in kinds] == [0, 0, 12 * 256 / 512**2]
    assert first.key == "a_x000000_y000000"
    assert second.key == "a_x000512_y000000"
    assert json.loads(second.members["json"]) == {
        "slide_id": "a",
        "section_id": "a-s0",
        "part": "Training",
        "origin_level0_px": [512, 0],
        "mpp_read": pytest.approx(0.92),
        "fractions": {
            "tumornest": 0,
            "stroma": 0,
            "normal": 12 * 256 / 512**2,
            "tissue": pytest.approx((768 * 0.9 - 256) / 512, abs=0.02),
        },
    }
    decoded = Image.open(io.BytesIO(first.members["mask.png"]))
    assert decoded.mode == "1"
    assert np.array_equal(np.asarray(decoded), mask[:, :512] == TUMORNEST)
    image = Image.open(io.BytesIO(first.members["jpg"]))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - picture[:, :512]).mean() < 2


def test_colour_is_stored_at_full_resolution(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif", tissue_picture(600, 512, seed=0))
    write_mask(tmp_path / "a.png", np.zeros((512, 600), dtype=np.uint8))
    image = Image.open(io.BytesIO(_samples(tmp_path, ShardConfig())[0].members["jpg"]))
    sampling = {tuple(layer[1:3]) for layer in image.layer}  # type: ignore[attr-defined]
    assert sampling == {(1, 1)}


def test_a_lossless_set_holds_the_slides_own_pixels(tmp_path: Path) -> None:
    picture = tissue_picture(600, 512, seed=0)
    write_slide(tmp_path / "a.tif", picture)
    write_mask(tmp_path / "a.png", np.zeros((512, 600), dtype=np.uint8))
    first = _samples(tmp_path, ShardConfig(image_coding="png"))[0]
    assert set(first.members) == {"png", "mask.png", "json"}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(first.members["png"]))), picture[:, :512])


def test_a_slide_smaller_than_a_patch_is_white_and_normal_beyond_its_border(tmp_path: Path) -> None:
    picture = tissue_picture(300, 200, seed=0)
    write_slide(tmp_path / "a.tif", picture)
    write_mask(tmp_path / "a.png", np.full((200, 300), TUMORNEST, dtype=np.uint8))
    (sample,) = _samples(tmp_path, ShardConfig())
    assert sample.row["tumornest_fraction"] == 300 * 200 / 512**2
    mask = cv2.imdecode(np.frombuffer(sample.members["mask.png"], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    assert mask.shape == (512, 512)
    assert (mask[:200, :300] == 255).all()
    assert not mask[200:].any()
    assert not mask[:, 300:].any()
    image = cv2.imdecode(np.frombuffer(sample.members["jpg"], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    assert image[216:].min() > 250
    assert np.abs(image[:200, :300].astype(int) - picture).mean() < 2


@pytest.mark.parametrize(("part", "xs"), [("train", [0, 256, 512, 768]), ("val1", [0, 512, 1024])])
def test_stride_follows_the_part(tmp_path: Path, part: str, xs: list[int]) -> None:
    write_slide(tmp_path / "a.tif", tissue_picture(1280, 512, seed=0))
    write_mask(tmp_path / "a.png", np.zeros((512, 1280), dtype=np.uint8))
    samples = _samples(tmp_path, ShardConfig(), part=part)
    assert [sample.row["x_level0_px"] // 2 for sample in samples] == xs


def test_patches_with_too_little_tissue_are_left_out(tmp_path: Path) -> None:
    picture = np.full((512, 2048, 3), 240, dtype=np.uint8)
    picture[:, :640] = tissue_picture(1024, 512, seed=0)[:, :640]
    write_slide(tmp_path / "a.tif", picture)
    write_mask(tmp_path / "a.png", np.zeros((512, 2048), dtype=np.uint8))
    few = _samples(tmp_path, ShardConfig(min_tissue_fraction=0.5))
    more = _samples(tmp_path, ShardConfig(min_tissue_fraction=0.1))
    every = _samples(tmp_path, ShardConfig(min_tissue_fraction=0.0))
    assert [[sample.row["x_level0_px"] // 2 for sample in samples] for samples in (few, more, every)] == [
        [0, 256],
        [0, 256, 512],
        [0, 256, 512],
    ]


def test_a_slide_without_tissue_is_refused(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif", np.full((600, 1000, 3), 240, dtype=np.uint8))
    write_mask(tmp_path / "a.png", np.zeros((600, 1000), dtype=np.uint8))
    with pytest.raises(ShardError, match=r"none of the 6 patches of a has a share of tissue .* out of Training"):
        _samples(tmp_path, ShardConfig())


def test_no_thread_reads_on_when_the_samples_are_left_early(tmp_path: Path) -> None:
    """The slide is closed next, and a thread that still read it would crash."""
    write_slide(tmp_path / "a.tif", tissue_picture(2048, 4096, seed=0))
    write_mask(tmp_path / "a.png", np.zeros((4096, 2048), dtype=np.uint8))
    manifest = read_manifest(write_manifest(tmp_path, [("a", "train")]))
    record, config = manifest.slide("a"), ShardConfig()
    with ThreadPoolExecutor(2) as pool, open_slide(record, config, pool) as slide:
        samples = code_patches(slide, survey_slide(slide, record, manifest, config), config, pool)
        next(samples)
        assert any("one-ahead" in thread.name for thread in threading.enumerate())
        samples.close()
        assert not any("one-ahead" in thread.name for thread in threading.enumerate())
