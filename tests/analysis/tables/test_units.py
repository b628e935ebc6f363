"""Verdicts by section, slide and patient: one bad slide is one, however many sections it has."""

import pandas as pd
import pytest

from analysis.tables.units import build_units
from bccdist.errors import NothingToShowError


def verdicts(*rows: tuple[str, str | None, str]) -> pd.DataFrame:
    """Rows of (slide_id, label, verdict)."""
    frame = pd.DataFrame(rows, columns=["slide_id", "label", "verdict"])
    return frame.assign(setting="resnet34_ds", phantom=False, phantom_weights=False)


def counts(frame: pd.DataFrame, patients: dict[str, str]) -> dict[str, tuple[int, ...]]:
    table = build_units(frame, pd.Series(patients, dtype=object), 1.5, num_named=None).frame.set_index("unit")
    names = ["tp", "fn", "fp", "tn", "num_review", "num_unlabelled", "num_units"]
    return {str(unit): tuple(int(value) for value in row) for unit, row in table[names].iterrows()}


FRAME = verdicts(
    ("a", "Tumor", "Normal"),
    ("a", "Tumor", "Tumor"),
    ("b", "Normal", "Normal"),
    ("b", "Normal", "review"),
    ("c", "Normal", "Tumor"),
    ("d", "Normal", "Normal"),
    ("d", None, "Normal"),
)


def test_a_slide_is_tumor_if_one_of_its_sections_is_and_a_patient_if_one_slide_is() -> None:
    found = counts(FRAME, {"a": "p1", "b": "p1", "c": "p2", "d": "p3"})
    assert found["section"] == (1, 1, 1, 2, 1, 1, 7)
    # b is for review, d's label is not known.
    assert found["slide"] == (1, 0, 1, 0, 1, 1, 4)
    assert found["patient"] == (1, 0, 1, 0, 0, 1, 3)


def test_where_no_patient_is_named_there_is_no_row_of_patients() -> None:
    assert set(counts(FRAME, {"a": "", "b": ""})) == {"section", "slide"}


def test_slides_without_a_patient_are_not_joined_to_one() -> None:
    table = build_units(FRAME, pd.Series({"a": "p1", "b": "p1"}, dtype=object), 1.5, num_named=5)
    assert table.frame.set_index("unit").loc["patient", "num_units"] == 3
    assert "2 slide(s) name no patient" in table.markdown
    # The headline counts all that are named, here those that are judged: each by a word of its own.
    assert "Judged patients (3): " in table.markdown
    assert "The headline's patients named (5) are all" in table.markdown
    assert "| judged patient |" in table.markdown


def test_without_a_label_it_says_what_is_needed() -> None:
    with pytest.raises(NothingToShowError, match="needs labels"):
        build_units(FRAME.assign(label=None, section_id="s"), pd.Series({}, dtype=object), 1.5, num_named=5)


def test_slides_without_a_patient_whose_sections_name_some_are_explained() -> None:
    markdown = build_units(FRAME, pd.Series({"a": "", "b": ""}, dtype=object), 1.5, num_named=5).markdown
    assert "each counts as one of its own, as sections of several patients may share a slide." in markdown
