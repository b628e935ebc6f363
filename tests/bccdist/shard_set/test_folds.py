"""Folds divide the Training slides by patient, the same way each time, and are not changed once they were dealt."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bccdist.errors import ConfigurationError
from bccdist.shard_set.folds import Folds, SlidePatches, claim_folds, deal, read_folds

SLIDES = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=30).map(
    lambda drawn: [
        SlidePatches(f"s{number}", f"patient {patient}", patches + tumor, tumor)
        for number, (patient, patches, tumor) in enumerate(drawn)
    ]
)


@given(SLIDES, st.integers(2, 6), st.randoms())
def test_every_slide_is_in_one_fold_with_all_others_of_its_patient_whatever_their_order(
    slides: list[SlidePatches], num: int, random: st.randoms
) -> None:
    patients = {slide.slide_id: slide.patient for slide in slides}
    if len(set(patients.values())) < num:
        with pytest.raises(ConfigurationError, match=r"folds is \d, expected 2 to \d"):
            deal(slides, num)
        return
    folds = deal(slides, num)
    assert sorted(slide_id for fold in folds.values() for slide_id in fold) == sorted(patients)
    places = {(patients[slide_id], number) for number, fold in folds.items() for slide_id in fold}
    assert len(places) == len(set(patients.values())), "no patient is in two folds"
    assert all(folds.values()), "no fold is empty"
    shuffled = list(slides)
    random.shuffle(shuffled)
    assert deal(shuffled, num) == folds


def test_folds_have_about_as_much_tumor_each() -> None:
    tumor = (40, 30, 20, 10, 10, 10, 0, 0, 0)
    slides = [SlidePatches(f"s{number}", f"p{number}", 100, each) for number, each in enumerate(tumor)]
    folds = deal(slides, 3)
    assert sorted(sum(tumor[int(slide_id[1:])] for slide_id in fold) for fold in folds.values()) == [40, 40, 40]


def test_folds_without_tumor_in_the_others_are_refused() -> None:
    slides = [SlidePatches("a", "p", 10, 5), SlidePatches("b", "q", 10, 0)]
    with pytest.raises(ConfigurationError, match="would see none"):
        deal(slides, 2)


FOLDS = Folds(num=2, shard_set="abc", slides={1: ("a",), 2: ("b", "c")})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(FOLDS, num=3, slides={1: ("a",), 2: ("b",), 3: ("c",)}), "with 2 folds, and 3 are asked for"),
        (replace(FOLDS, shard_set="xyz"), "on the shard set abc, and it is xyz now"),
        (replace(FOLDS, slides={1: ("a", "b"), 2: ("c",)}), "patient_id has changed"),
    ],
    ids=["number", "shard set", "patients"],
)
def test_folds_that_changed_later_are_refused_in_one_line(other: Folds, words: str, tmp_path: Path) -> None:
    path = tmp_path / "audit" / "folds.json"
    claim_folds(path, FOLDS)
    claim_folds(path, FOLDS)
    assert read_folds(path) == FOLDS
    with pytest.raises(ConfigurationError, match=words) as refused:
        claim_folds(path, other)
    assert "\n" not in str(refused.value)
    assert read_folds(path) == FOLDS


def test_a_slide_that_is_in_no_fold_is_named() -> None:
    assert FOLDS.fold_of("c") == 2
    with pytest.raises(ConfigurationError, match="slide d is in none of the 2 folds"):
        FOLDS.fold_of("d")
