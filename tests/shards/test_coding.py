"""A patch that is joined from its cells' JPEGs is the one that encoding it would give; masks lose nothing."""

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from small_study import SLIDE_IDS, tissue_picture, write_study

from bccdist.configuration import CELL_PX, PATCH_PX, JpegChroma, ShardConfig
from shards.build import build_slides
from shards.coding import Intervals, encode_cell, encode_empty_mask, encode_image, encode_mask, join_cells

CHROMAS: tuple[JpegChroma, ...] = ("444", "422", "420")


def noisy_patch(seed: int) -> NDArray[np.uint8]:
    """Tissue with noise, and a corner of glass: uint8 RGB [512, 512, 3]."""
    noise = np.random.default_rng(seed).normal(0, 20, (PATCH_PX, PATCH_PX, 3))
    patch = (tissue_picture(PATCH_PX, PATCH_PX, seed=seed) + noise).clip(0, 255).astype(np.uint8)
    patch[300:, 400:] = 255
    return patch


def cells_of(patch: NDArray[np.uint8], config: ShardConfig) -> list[list[Intervals]]:
    starts = (0, CELL_PX)
    return [[encode_cell(patch[y : y + CELL_PX, x : x + CELL_PX], config) for x in starts] for y in starts]


@pytest.mark.parametrize("chroma", CHROMAS)
@pytest.mark.parametrize("quality", [50, 90, 100])
def test_joined_cells_are_byte_for_byte_the_encoded_patch(chroma: JpegChroma, quality: int) -> None:
    config = ShardConfig(jpeg_chroma=chroma, jpeg_quality=quality)
    for seed in range(3):
        patch = noisy_patch(seed)
        assert join_cells(cells_of(patch, config), config) == encode_image(patch, config)


@pytest.mark.parametrize("chroma", CHROMAS)
def test_every_reader_shows_the_same_pixels_and_no_cell_is_in_the_wrong_place(chroma: JpegChroma) -> None:
    config = ShardConfig(jpeg_chroma=chroma, jpeg_quality=95)
    patch = noisy_patch(7)
    joined = join_cells(cells_of(patch, config), config)
    pillow = np.asarray(Image.open(io.BytesIO(joined)).convert("RGB"))
    opencv = cv2.imdecode(np.frombuffer(joined, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert opencv is not None
    assert np.abs(pillow.astype(int) - opencv).max() <= 1
    # Noise of 20 levels in all channels; cells that change places give more than 25.
    assert np.abs(opencv.astype(int) - patch).mean() < (3 if chroma == "444" else 12)


def test_restart_markers_cost_about_one_percent() -> None:
    patch = noisy_patch(1)
    plain = cv2.imencode(
        ".jpg",
        patch[..., ::-1],
        [
            cv2.IMWRITE_JPEG_QUALITY,
            90,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ],
    )[1]
    assert len(encode_image(patch, ShardConfig())) < 1.02 * len(plain)


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_a_mask_comes_back_bit_by_bit(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((PATCH_PX, PATCH_PX)) < share
    decoded = Image.open(io.BytesIO(encode_mask(mask)))
    assert decoded.mode == "1"
    assert np.array_equal(np.asarray(decoded), mask)


def test_the_empty_mask_is_empty() -> None:
    assert not np.asarray(Image.open(io.BytesIO(encode_empty_mask()))).any()


def test_workers_and_threads_do_not_show_in_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_study(tmp_path, width_px=1300, height_px=900)
    study.build()
    for name, num_workers, num_cores in (("processes", 2, 2), ("threads", 0, 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", str(num_cores))
        again = replace(study, root=tmp_path / name)
        build_slides(study.manifest, SLIDE_IDS[::-1], again.root, study.config, num_workers=num_workers)
        assert again.contents() == study.contents()
