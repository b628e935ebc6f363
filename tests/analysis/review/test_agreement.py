"""Kappa and anchoring, against numbers worked out by hand."""

import numpy as np
import pytest
from review_study import given

from analysis.review.agreement import agreement_report, anchoring, cohens_kappa, pair_agreement
from analysis.review.answers import GivenAs, Said
from analysis.study_evidence.resampling import draw_slides


def said(reviewer: str, *answers: str, **changes: object) -> Said:
    """One answer each to sections s0, s1, ...; an empty text is none."""
    keys = [f"slide/s{number}" for number in range(len(answers))]
    return Said(
        reviewer=reviewer,
        steps=[given(key, answer, **changes) for key, answer in zip(keys, answers, strict=True) if answer],
    )


def test_kappa_is_that_of_a_worked_example() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: 0.70 observed, 0.50 by chance."""
    pairs = [("T", "T")] * 20 + [("T", "N")] * 5 + [("N", "T")] * 10 + [("N", "N")] * 15
    assert cohens_kappa(pairs) == pytest.approx(0.4)


def test_kappa_is_one_for_the_same_answers_and_below_zero_for_opposite_ones() -> None:
    assert cohens_kappa([("T", "T"), ("N", "N")]) == 1.0
    assert cohens_kappa([("T", "N"), ("N", "T")]) == -1.0


def test_kappa_is_not_defined_where_all_answers_are_one_label() -> None:
    pair = pair_agreement(said("a", "Tumor", "Tumor"), said("b", "Tumor", "Tumor"))
    assert (pair.num, pair.agreement, pair.kappa) == (2, 1.0, None)
    assert "same one label" in pair.note


def test_without_common_sections_there_is_a_note_in_place_of_a_number() -> None:
    pair = pair_agreement(said("a", "Tumor", ""), said("b", "", "Tumor"))
    assert (pair.num, pair.agreement, pair.kappa, pair.note) == (0, None, None, "no section was decided by both")


def test_sections_that_one_is_unsure_about_are_left_out_and_counted() -> None:
    pair = pair_agreement(said("a", "Tumor", "unsure", "Normal"), said("b", "Tumor", "Tumor", "Normal"))
    assert (pair.num, pair.num_unsure, pair.num_agreed, pair.kappa) == (2, 1, 2, 1.0)


def read_by(reviewer: str, answers: str, *, per_slide: int) -> Said:
    """T or N for each section of slides with so many sections."""
    names = {"T": "Tumor", "N": "Normal"}
    return Said(
        reviewer=reviewer,
        steps=[
            given(f"slide-{number // per_slide:03}/s{number}", names[letter]) for number, letter in enumerate(answers)
        ],
    )


@pytest.mark.parametrize("per_slide", [1, 2, 5])
def test_the_interval_of_kappa_is_over_resampled_slides(per_slide: int) -> None:
    one, other = "TTTTNNNNTTNNTNTNTNNN", "TTTNNNNTTTNNTNTNTNNT"
    pair = pair_agreement(read_by("a", one, per_slide=per_slide), read_by("b", other, per_slide=per_slide))
    num_slides = len(one) // per_slide
    samples = []
    for draw in draw_slides(num_slides):
        drawn = [
            both
            for slide, times in enumerate(draw)
            for both in list(zip(one, other, strict=True))[slide * per_slide : (slide + 1) * per_slide] * times
        ]
        samples.append(cohens_kappa(drawn))
    known = [sample for sample in samples if sample is not None]
    assert pair.interval == pytest.approx(np.quantile(known, [0.025, 0.975]))
    assert pair.num_slides == num_slides
    assert pair.interval is not None
    assert pair.kappa is not None
    assert pair.interval[0] < pair.kappa < pair.interval[1]


def test_where_all_agree_kappa_is_as_certain_as_the_number_of_slides_makes_it() -> None:
    lows = []
    for num_slides in (2, 10, 100):
        answers = "TN" * num_slides
        pair = pair_agreement(read_by("a", answers, per_slide=2), read_by("b", answers, per_slide=2))
        # By chance half would agree: a share s is a kappa of 2 s - 1.
        assert pair.interval == pytest.approx((2 * 0.025 ** (1 / num_slides) - 1, 1.0), abs=1e-6)
        assert pair.interval is not None
        lows.append(pair.interval[0])
    assert lows == sorted(lows)


def test_there_is_no_interval_without_a_kappa_and_few_slides_are_said() -> None:
    report = agreement_report([said("a", "Tumor", "Tumor"), said("b", "Tumor", "Tumor"), said("c", "Tumor", "Normal")])
    assert [pair["interval"] is None for pair in report["pairs"]] == [True, False, False]
    assert report["notes"] == [
        "Intervals over fewer than 20 slides are narrower than they should be; slides: a and c 1, b and c 1."
    ]


def test_the_first_answer_that_decides_tells_of_anchoring_also_after_unsure() -> None:
    blind = {"is_blind": True, "was_shown": False, "prefilled": "", "prediction": "Tumor"}
    answers = [
        given("slide/s0", "unsure", **blind),
        given("slide/s0", "Tumor", **blind),
        given("slide/s0", "Normal", **blind | {"was_shown": True}),
        given("slide/s1", "unsure", **blind),
    ]
    report = anchoring([Said(reviewer="a", steps=list(answers))])
    assert report["blind"] == {"num": 1, "num_agreed": 1, "num_unsure": 1, "agreement": 1.0}
    assert report["shown"]["num"] == 0


def test_decisions_between_others_count_for_neither_kappa_nor_anchoring() -> None:
    decision = said("c", "Tumor", "Normal", given_as=GivenAs.DECISION)
    assert pair_agreement(said("a", "Tumor", "Normal"), decision).num == 0
    report = agreement_report([said("a", "Tumor"), said("b", "Tumor"), decision, Said(reviewer="d")])
    assert [(pair["one"], pair["other"]) for pair in report["pairs"]] == [("a", "b")]
    assert anchoring([decision])["shown"]["num"] == 0


def test_hidden_answers_count_nowhere() -> None:
    report = agreement_report(
        [said("a", "Tumor", "Normal"), said("b", "Tumor", "Tumor")], lambda each: each.key == "slide/s1"
    )
    assert (report["pairs"][0]["num"], report["anchoring"]["shown"]["num"], report["num_withheld"]) == (1, 2, 1)


def test_the_last_answers_agree_and_the_first_ones_tell_of_anchoring() -> None:
    blind_then_led = [
        given("slide/s0", "Normal", is_blind=True, was_shown=False, prefilled="", prediction="Tumor"),
        given("slide/s0", "Tumor", is_blind=True, was_shown=True, prediction="Tumor"),
    ]
    anna = Said(reviewer="anna", steps=[*blind_then_led])
    assert pair_agreement(anna, said("b", "Tumor")).num_agreed == 1
    report = anchoring([anna])
    assert report["blind"] == {"num": 1, "num_agreed": 0, "num_unsure": 0, "agreement": 0.0}
    assert report["shown"]["num"] == 0
    assert report["difference"] is None
    assert report["note"] == "no answers with a shown verdict to compare with"


def test_anchoring_is_the_difference_of_two_shares_with_their_counts() -> None:
    shown = said("a", *["Tumor"] * 9, "Normal", "unsure", prediction="Tumor")
    blind = said("b", *["Tumor"] * 6, *["Normal"] * 4, prediction="Tumor", was_shown=False, is_blind=True)
    report = anchoring([shown, blind])
    assert report["shown"] == {"num": 10, "num_agreed": 9, "num_unsure": 1, "agreement": 0.9}
    assert report["blind"] == {"num": 10, "num_agreed": 6, "num_unsure": 0, "agreement": 0.6}
    assert report["difference"] == pytest.approx(0.3)
    low, high = report["interval"]
    # By hand: shares 10/12 and 7/12, half width 1.96 sqrt((10/12 2/12 + 7/12 5/12) / 12).
    assert (low, high) == pytest.approx((0.25 - 0.34999, 0.25 + 0.34999), abs=1e-3)


def test_sections_without_a_verdict_tell_nothing_of_anchoring() -> None:
    report = anchoring([said("a", "Tumor", "Normal", prediction="review"), said("b", "Tumor", prediction="")])
    assert report["shown"]["num"] == 0


def test_every_pair_and_every_reviewer_is_reported() -> None:
    report = agreement_report([said("a", "Tumor"), said("b", "Normal"), said("c", "Tumor")])
    assert [(pair["one"], pair["other"]) for pair in report["pairs"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert set(report["anchoring"]["by_reviewer"]) == {"a", "b", "c"}
