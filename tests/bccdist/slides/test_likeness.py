"""Slides of one piece of tissue look alike however they were turned, cut, saved or scanned, and no others do."""

from collections.abc import Callable

import numpy as np
import pytest
from tissue_pictures import textured_tissue

from bccdist.slides.fingerprints import Fingerprint, find_landmarks
from bccdist.slides.likeness import LEAST_AGREEING, Likeness, look_alikes
from benchmarks.rescans import Picture, recompressed, scaled, scanned_again, turned

NUM_OTHERS = 6


def print_of(picture: Picture) -> Fingerprint:
    """The fingerprint of an overview."""
    positions_px, descriptors = find_landmarks(np.ascontiguousarray(picture))
    return Fingerprint(size_level0_px=(0, 0), content="", positions_px=positions_px, descriptors=descriptors)


@pytest.fixture(scope="module")
def overviews() -> list[Picture]:
    return [scaled(textured_tissue(seed), 0.25) for seed in range(NUM_OTHERS)]


@pytest.fixture(scope="module")
def prints(overviews: list[Picture]) -> dict[str, Fingerprint]:
    return {f"s{number}": print_of(overview) for number, overview in enumerate(overviews)}


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "the same": lambda picture: picture,
    "a quarter turn": np.rot90,
    "half a turn": lambda picture: np.rot90(picture, 2),
    "17 degrees": lambda picture: turned(picture, 17),
    "mirrored": lambda picture: picture[:, ::-1],
    "upside down": lambda picture: picture[::-1],
    "mirrored and turned": lambda picture: turned(np.ascontiguousarray(picture[:, ::-1]), 133),
    "recompressed": lambda picture: recompressed(picture, 30),
    "the left half": lambda picture: picture[:, : picture.shape[1] // 2],
    "a corner, mirrored": lambda picture: picture[: picture.shape[0] * 2 // 3, : picture.shape[1] // 2][:, ::-1],
    "half the um/px by its word": lambda picture: scaled(picture, 0.5),
    "twice the um/px by its word": lambda picture: scaled(picture, 2.0),
    "scanned again": lambda picture: scanned_again(picture, np.random.default_rng(0)),
    "on larger glass": lambda picture: np.pad(picture, ((90, 20), (10, 150), (0, 0)), constant_values=255),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_piece_of_tissue_is_found_in_both_slides(
    overviews: list[Picture], prints: dict[str, Fingerprint], name: str
) -> None:
    changed = print_of(CHANGES[name](overviews[3]))
    (found,) = look_alikes({**prints, "again": changed})
    assert found.slide_ids == ("s3", "again")
    assert found.is_mirrored is (("mirrored" in name) or name == "upside down")
    assert found.num_agreeing >= LEAST_AGREEING


def test_slides_of_different_tissue_do_not_look_alike(prints: dict[str, Fingerprint]) -> None:
    assert look_alikes(prints) == []


def test_of_two_slides_alone_likeness_is_found_too(overviews: list[Picture], prints: dict[str, Fingerprint]) -> None:
    assert look_alikes({"a": prints["s0"], "b": prints["s1"]}) == []
    (found,) = look_alikes({"a": prints["s0"], "b": print_of(np.rot90(overviews[0]))})
    assert found == Likeness(slide_ids=("a", "b"), num_agreeing=found.num_agreeing, is_mirrored=False)


def test_each_pair_of_three_is_found(overviews: list[Picture], prints: dict[str, Fingerprint]) -> None:
    more = {"b": print_of(np.rot90(overviews[5])), "c": print_of(overviews[5][:, ::-1])}
    found = {each.slide_ids for each in look_alikes({**prints, **more})}
    assert found == {("s5", "b"), ("s5", "c"), ("b", "c")}


def test_slides_without_landmarks_look_like_nothing(prints: dict[str, Fingerprint]) -> None:
    empty = print_of(np.full((50, 60, 3), 240, dtype=np.uint8))
    assert look_alikes({}) == look_alikes({"a": empty}) == look_alikes({"a": empty, "b": empty}) == []
    assert look_alikes({"a": empty, "s": prints["s0"], "b": empty}) == []


def test_rectangles_alone_do_not_look_alike() -> None:
    # Mosaics of square fields have corners at equal distances; what lies within them decides.
    def fields(seed: int) -> Picture:
        picture = np.full((260, 420, 3), 255, dtype=np.uint8)
        texture = scaled(textured_tissue(seed), 0.5)[150:450, 60:400]
        for row in range(4):
            for column in range(6):
                y, x = 20 + 56 * row, 20 + 62 * column
                picture[y : y + 50, x : x + 50] = texture[50 * row : 50 * row + 50, 50 * column : 50 * column + 50]
        return picture

    assert look_alikes({f"s{seed}": print_of(fields(seed)) for seed in range(5)}) == []
