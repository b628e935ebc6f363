"""Subgroups: right counts, no group unasked that may name a patient, p-values that know how many they are."""

import pandas as pd
import pytest

from analysis.study_evidence.resampling import holm
from analysis.tables.subgroups import build_subgroups
from bccdist.sections.choices import Choice

CHOICE = Choice(
    setting="resnet34_ds",
    epoch=1,
    psi="psi_4",
    t_p=0.5,
    t_a_um2=1.0,
    beta=1.5,
    area_unit="physical",
    weights_digest="0" * 12,
)


def verdicts(num_slides: int, wrong: set[int]) -> pd.DataFrame:
    """Four sections a slide, two of each kind; on the slides in `wrong` all verdicts are wrong."""
    rows = []
    for slide in range(num_slides):
        for number in range(4):
            label = "Tumor" if number % 2 else "Normal"
            other = "Normal" if number % 2 else "Tumor"
            rows.append(
                {
                    "slide_id": f"s{slide}",
                    "label": label,
                    "verdict": other if slide in wrong else label,
                    "tissue_um2": 1e6 * (slide * 4 + number + 1),
                }
            )
    return pd.DataFrame(rows).assign(setting="resnet34_ds", phantom=False, phantom_weights=False)


def of_slides(num: int, value: dict[int, str]) -> pd.Series:
    return pd.Series({f"s{slide}": value.get(slide, "one") for slide in range(num)}, dtype=object)


def test_a_group_that_fails_is_seen_and_one_that_does_not_is_not() -> None:
    half = dict.fromkeys(range(10, 20), "two")
    table = build_subgroups(
        verdicts(20, wrong=set(range(10, 20))),
        {"scanner": of_slides(20, half), "site": of_slides(20, dict.fromkeys(range(0, 20, 2), "two"))},
        [CHOICE],
    )
    frame = table.frame.set_index(["column", "group"])
    assert frame.loc[("scanner", "one"), "accuracy"] == 1.0
    assert frame.loc[("scanner", "two"), "accuracy"] == 0.0
    assert frame.loc[("scanner", "two"), "p_adjusted"] < 0.01
    assert frame.loc[("site", "two"), "p_adjusted"] > 0.5
    assert frame.loc[("scanner", "one"), ["tp", "fn", "fp", "tn"]].tolist() == [20, 0, 0, 20]


def test_quarters_by_tissue_area_are_in_order_and_hold_all_sections() -> None:
    frame = build_subgroups(verdicts(10, wrong=set()), {}, [CHOICE]).frame
    assert frame["group"].tolist() == ["up to 10.8 mm2", "up to 20.5 mm2", "up to 30.2 mm2", "above 30.2 mm2"]
    assert frame["num_sections"].tolist() == [10, 10, 10, 10]


def test_a_column_of_one_value_or_of_many_is_named_and_not_taken() -> None:
    table = build_subgroups(
        verdicts(20, wrong=set()),
        {"scanner": of_slides(20, {}), "block": of_slides(20, {slide: f"b{slide}" for slide in range(20)})},
        [CHOICE],
    )
    assert set(table.frame["column"]) == {"tissue area"}
    assert "Not taken, as they have one value or more than 12: scanner, block." in table.markdown


def test_slides_without_a_value_are_a_group_of_their_own() -> None:
    frame = build_subgroups(verdicts(4, wrong=set()), {"site": of_slides(4, {0: "", 1: ""})}, [CHOICE]).frame
    assert set(frame.query("column == 'site'")["group"]) == {"not said", "one"}


def test_two_slides_against_two_prove_nothing_however_alike_they_are() -> None:
    frame = build_subgroups(verdicts(4, wrong={2, 3}), {"site": of_slides(4, {2: "two", 3: "two"})}, [CHOICE]).frame
    # Four slides can be dealt out in six ways, and two of them are as far apart as this.
    assert frame.query("column == 'site'")["p"].tolist() == pytest.approx([1 / 3, 1 / 3])


def test_p_values_are_adjusted_for_all_comparisons_of_the_table() -> None:
    table = build_subgroups(
        verdicts(20, wrong=set(range(10, 20))), {"site": of_slides(20, dict.fromkeys(range(10, 20), "two"))}, [CHOICE]
    )
    assert table.frame["p_adjusted"].tolist() == holm(table.frame["p"]).tolist()
    assert f"adjusted for the {len(table.frame)} comparison(s) of this table by Holm's rule (1979)" in table.markdown
