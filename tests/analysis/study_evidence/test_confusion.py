"""The figures from counts agree with every number that the paper prints, and are NaN where nothing is known."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.study_evidence.confusion import Confusion, count_verdicts
from analysis.study_evidence.table import cut, rounded


class Printed(NamedTuple):
    """A row of the paper's Table 3 or 4, and the counts behind it."""

    name: str
    counts: tuple[int, int, int, int]
    """TP FN FP TN."""
    figures: list[str]
    """Accuracy, sensitivity, specificity, F_1.5."""


def of_test_part(fn: int, fp: int) -> tuple[int, int, int, int]:
    return 1119 - fn, fn, fp, 843 - fp


TABLES = [
    Printed("3 unet", (445, 0, 16, 623), ["0.985", "1.000", "0.975", "0.989"]),
    Printed("3 resnet34", (444, 1, 7, 632), ["0.993", "0.998", "0.989", "0.994"]),
    Printed("3 resnet34_ds", (443, 2, 5, 634), ["0.994", "0.996", "0.992", "0.993"]),
    Printed("3 resnet34_linear", (445, 0, 4, 635), ["0.996", "1.000", "0.994", "0.997"]),
    Printed("4 unet", of_test_part(33, 133), ["0.915", "0.971", "0.842", "0.945"]),
    Printed("4 resnet34, 51 FN", of_test_part(51, 33), ["0.957", "0.954", "0.961", "0.959"]),
    Printed("4 resnet34, 52 FN", of_test_part(52, 33), ["0.957", "0.954", "0.961", "0.959"]),
    Printed("4 resnet34_ds", of_test_part(44, 30), ["0.962", "0.961", "0.964", "0.964"]),
    Printed("4 resnet34_linear", of_test_part(59, 25), ["0.957", "0.947", "0.970", "0.956"]),
]
TABLE_5 = [
    Printed("psi_0", of_test_part(46, 33), ["0.9597", "0.959", "0.961", "0.962"]),
    Printed("psi_1, psi_2", of_test_part(44, 31), ["0.9617", "0.961", "0.963", "0.964"]),
    Printed("psi_3, psi_4", of_test_part(44, 30), ["0.9622", "0.961", "0.964", "0.964"]),
]


def confusion_of(counts: tuple[int, int, int, int]) -> Confusion:
    return Confusion(tp=counts[0], fn=counts[1], fp=counts[2], tn=counts[3])


def figures_of(confusion: Confusion) -> list[float]:
    values = confusion.accuracy, confusion.sensitivity, confusion.specificity, confusion.f_beta(1.5)
    return [float(value) for value in values]


@pytest.mark.parametrize("row", TABLES, ids=lambda row: row.name)
def test_tables_3_and_4(row: Printed) -> None:
    assert rounded(figures_of(confusion_of(row.counts)), 3) == row.figures


@pytest.mark.parametrize("row", TABLE_5, ids=lambda row: row.name)
def test_table_5_cuts_its_accuracies(row: Printed) -> None:
    accuracy, *others = figures_of(confusion_of(row.counts))
    assert [*cut([accuracy], 4), *rounded(others, 3)] == row.figures


def test_rounding_would_not_give_table_5() -> None:
    assert rounded([float(confusion_of(TABLE_5[1].counts).accuracy)], 4) == ["0.9618"]


def test_cut_keeps_a_value_that_has_just_the_digits() -> None:
    assert cut([0.29, 1.0, 0.0, float("nan")], 2) == ["0.29", "1.00", "0.00", "n/a"]


@given(*[st.integers(0, 50)] * 4, st.sampled_from([0.5, 1.0, 1.5, 2.0]))
def test_f_beta_is_the_weighted_mean_of_equation_3(tp: int, fn: int, fp: int, tn: int, beta: float) -> None:
    confusion = Confusion(tp=tp, fn=fn, fp=fp, tn=tn)
    precision, recall = float(confusion.precision), float(confusion.sensitivity)
    if tp:
        expected = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
        assert float(confusion.f_beta(beta)) == pytest.approx(expected)
    else:
        assert np.isnan(confusion.f_beta(beta)) == (fn + fp == 0)


def test_what_is_not_known_is_nan() -> None:
    nothing = Confusion(tp=0, fn=0, fp=0, tn=0)
    assert np.isnan([*figures_of(nothing), float(nothing.precision), float(nothing.iou)]).all()
    only_normal = Confusion(tp=0, fn=0, fp=0, tn=7)
    assert float(only_normal.accuracy) == 1.0
    assert np.isnan([only_normal.sensitivity, only_normal.precision, only_normal.f_beta(1.5)]).all()


def test_iou() -> None:
    assert float(Confusion(tp=6, fn=1, fp=3, tn=100).iou) == pytest.approx(0.6)


def test_counts_over_a_grid_leave_out_what_is_called_neither() -> None:
    is_tumor = np.array([True, True, False, False, False])
    called_tumor = np.array([[1, 1], [0, 1], [1, 0], [0, 0], [0, 0]], dtype=bool)
    called_normal = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    confusion = count_verdicts(is_tumor=is_tumor, called_tumor=called_tumor, called_normal=called_normal)
    counts = [np.asarray(count).tolist() for count in (confusion.tp, confusion.fn, confusion.fp, confusion.tn)]
    assert counts == [[1, 2], [1, 0], [1, 0], [1, 2]]
    np.testing.assert_array_equal(confusion.total, [4, 4])
