"""Masks that were resized with interpolation or blurred are told from drawn ones, and refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from annotated_slides import KINDS, blank_slide
from numpy.typing import NDArray

from bccdist.errors import AnnotationError
from bccdist.slides.annotations import UnknownNamesError, read_annotations
from bccdist.slides.annotations.invented_values import are_invented

SIZE = (480, 320)
"""Width and height of level 0, and of the masks before they are resized."""
SLIDE = blank_slide(width_px=240, height_px=160)
METHODS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}
CODES = {"0123": (0, 1, 2, 3), "02": (0, 2, 0, 2), "0213": (0, 2, 1, 3), "03": (0, 3, 3, 0), "013": (0, 1, 3, 1)}


def drawn(seed: int, codes: tuple[int, ...]) -> NDArray[np.uint8]:
    """Round pieces of the second code, with nests of the others in them and beside them."""
    rng = np.random.default_rng(seed)
    values = np.full(SIZE[::-1], codes[0], dtype=np.uint8)
    for code, num, largest in ((codes[1], 6, 80), (codes[2], 12, 30), (codes[3], 12, 30)):
        for _ in range(num):
            centre = (int(rng.integers(SIZE[0])), int(rng.integers(SIZE[1])))
            axes = (int(rng.integers(8, largest)), int(rng.integers(8, largest)))
            cv2.ellipse(values, centre, axes, float(rng.uniform(0, 180)), 0, 360, code, -1)
    return values


def meanings(values: NDArray[Any]) -> Mapping[int, Any]:
    return {int(value): KINDS.mask_values[int(value)] for value in np.unique(values)}


def resized(values: NDArray[np.uint8], factor: float, method: int) -> NDArray[np.uint8]:
    size = (round(values.shape[1] * factor), round(values.shape[0] * factor))
    return np.asarray(cv2.resize(values, size, interpolation=method), dtype=np.uint8).clip(0, 3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("codes", CODES.values(), ids=CODES)
@pytest.mark.parametrize("factor", [0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0])
def test_drawn_masks_are_drawn_at_each_size(seed: int, codes: tuple[int, ...], factor: float) -> None:
    values = resized(drawn(seed, codes), factor, cv2.INTER_NEAREST)
    assert not are_invented(values, meanings(values), pixel_um=4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("codes", CODES.values(), ids=CODES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [0.5, 0.7, 1.5, 2.2, 3.7])
def test_interpolated_masks_are_told_though_each_value_has_a_meaning(
    seed: int, codes: tuple[int, ...], method: str, factor: float
) -> None:
    values = resized(drawn(seed, codes), factor, METHODS[method])
    assert are_invented(values, meanings(values), pixel_um=4)


def test_nested_kinds_are_no_invention(tmp_path: Path) -> None:
    """Each nest has a wide rim of stroma: no border steps over a value, as in an interpolated mask."""
    values = drawn(0, (0, 0, 3, 3))
    rim = cv2.dilate(values, np.ones((9, 9), dtype=np.uint8)) > 0
    values = np.where(values > 0, 2, rim).astype(np.uint8)
    assert not are_invented(values, meanings(values), pixel_um=4)


def test_an_interpolated_mask_is_refused_with_the_values_found_and_those_expected(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), resized(drawn(0, (0, 3, 1, 2)), 0.5, cv2.INTER_LINEAR))
    with pytest.raises(AnnotationError, match=r"found 0, 1, 2, 3, expected 0, 1, 2, 3 without blends"):
        read_annotations([path], SLIDE, KINDS)


def test_a_drawn_kind_without_a_meaning_is_still_asked_for(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), drawn(0, (0, 1, 2, 3)) * 2)
    with pytest.raises(UnknownNamesError) as error:
        read_annotations([tmp_path / "a.png"], SLIDE, KINDS)
    assert error.value.unknown == (4, 6)
