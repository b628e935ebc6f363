"""Limits follow from the reference's slides, and what is beyond them is told in words; nothing measured is no good."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from study_folders import NORMAL_CURVE, TUMOR_CURVE, ledger_row

from bccdist.sections.assessable import FEWEST_SLIDES, NOT_MEASURED, QualityLimits
from bccdist.sections.choices import Choice
from bccdist.sections.ledger import table_of
from bccdist.sections.section_rows import SectionRows
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.slides.quality_measures import MEASURES

CHOICE = Choice(
    setting="resnet34_ds",
    epoch=1,
    psi="psi_4",
    t_p=0.5,
    t_a_um2=1000.0,
    beta=1.5,
    area_unit="physical",
    weights_digest="abcdefabcdef",
)
_LIKE = {
    "focus": -0.05,
    "compression": 0.4,
    "stain_density": 1.0,
    "stain_hue": 0.3,
    "ink_share": 0.0,
    "fold_share": 0.0,
    "air_share": 0.0,
}


def section(rng: np.random.Generator, **changes: Any) -> dict[str, Any]:
    """A section like those of the reference but for `changes`."""
    noise = {name: value + rng.normal(0, 0.02) * (not name.endswith("share")) for name, value in _LIKE.items()}
    return {**noise, "features": rng.normal(1, 0.3, 16).tolist(), **changes}


def reference(*, num_slides: int = 12, **changes: Any) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = [
        {"slide": slide, "is_final": is_final, **section(rng, **changes)}
        for slide in range(num_slides)
        for _ in range(3)
        for is_final in (False, True)
    ]
    schema = pa.schema([("slide", pa.int32()), ("is_final", pa.bool_()), *((name, pa.float32()) for name in MEASURES)])
    return pa.Table.from_pylist(rows, schema=schema.append(pa.field("features", pa.list_(pa.float32()))))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"focus": -1.9}, "out of focus: -1.90, reference slides -0."),
        ({"focus": 0.9}, ""),
        ({"compression": 2.0}, "strongly compressed: 2.00"),
        ({"compression": None}, ""),
        ({"stain_density": 0.4}, "faintly stained: 0.40"),
        ({"stain_density": 1.9}, "strongly stained: 1.90"),
        ({"stain_hue": -0.2}, "stained redder: -0.20"),
        ({"stain_hue": 0.8}, "stained bluer: 0.80"),
        ({"ink_share": 0.31}, "under ink: 31%, reference slides 0% to 0%"),
        ({"fold_share": 0.6}, "folded: 60%"),
        ({"air_share": 0.5}, "under air or the edge of a coverslip: 50%"),
        ({"features": [3.0] * 16}, "unlike the tissue that the model was chosen on"),
        ({"features": [1.0] * 4}, "unlike the tissue that the model was chosen on: inf"),
        (dict.fromkeys(("focus", "compression", "stain_density", "stain_hue")), NOT_MEASURED),
    ],
)
def test_what_is_beyond_a_limit_is_said_with_its_value(changes: dict[str, Any], says: str) -> None:
    found = QualityLimits.of(reference()).judge(section(np.random.default_rng(1), **changes))
    assert found is not None
    assert found.startswith(says) if says else not found


def test_several_reasons_are_all_said() -> None:
    found = QualityLimits.of(reference()).judge(section(np.random.default_rng(1), focus=-2.0, ink_share=0.5))
    assert found
    assert [reason.partition(":")[0] for reason in found.split("; ")] == ["out of focus", "under ink"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            reference(num_slides=FEWEST_SLIDES - 1),
            f"of 7 slide\\(s\\), and {FEWEST_SLIDES} are needed.*chosen on more slides",
        ),
        (reference(focus=None), "heatmaps hold no quality.*remove the heatmaps of Validation I \\+ II"),
        (reference().drop_columns(["focus"]), "packed before quality was measured.*remove the heatmaps"),
    ],
)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"focus": -0.5}, ""),
        ({"focus": -1.9}, "out of focus: -1.90, expected -0.60 or more of any section"),
        ({"compression": 2.0}, "strongly compressed: 2.00, expected 1.20 or less of any section"),
        ({"stain_density": 0.1}, "faintly stained: 0.10, expected 0.35 or more of any section"),
        ({"ink_share": 0.31}, "under ink: 31%, expected 5% or less of any section"),
        ({"fold_share": 0.6}, "folded: 60%, expected 10% or less of any section"),
        ({"air_share": 0.5}, "under air or the edge of a coverslip: 50%, expected 5% or less of any section"),
        ({"focus": None}, NOT_MEASURED),
    ],
)
def test_without_a_reference_absolute_limits_judge_and_why_is_said(
    table: pa.Table, says: str, changes: dict[str, Any], reason: str
) -> None:
    limits = QualityLimits.of(table)
    assert limits.judge(section(np.random.default_rng(1), **changes)) == reason
    assert re.search(says, limits.warning)


def test_a_measure_that_the_reference_lacks_has_the_absolute_limit() -> None:
    limits = QualityLimits.of(reference(compression=None))
    assert limits.judge(section(np.random.default_rng(1), compression=2.0)) == (
        "strongly compressed: 2.00, expected 1.20 or less of any section"
    )
    assert not limits.warning


def test_what_was_not_measured_is_not_judged() -> None:
    assert QualityLimits.of(reference()).judge(dict.fromkeys((*MEASURES, "features"))) is None


def test_a_slide_of_the_reference_that_is_bad_itself_moves_no_limit() -> None:
    table = reference()
    values = table["focus"].to_numpy().copy()
    values[table["slide"].to_numpy() == 3] = -4.0
    spoiled = table.set_column(table.column_names.index("focus"), "focus", pa.array(values))
    assert QualityLimits.of(spoiled).limits["focus"].low == pytest.approx(
        QualityLimits.of(table).limits["focus"].low, abs=0.02
    )


def test_limits_do_not_depend_on_the_order_of_rows() -> None:
    table = reference()
    turned = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    assert QualityLimits.of(turned).limits["focus"] == QualityLimits.of(table).limits["focus"]


@pytest.mark.parametrize(("reason", "verdict"), [("out of focus: -1.9", "review"), ("", "Normal"), (None, "Normal")])
def test_what_is_not_assessable_is_never_normal_and_tumor_stays_tumor(reason: str | None, verdict: str) -> None:
    rows = [
        ledger_row(section_id="tumor", largest_region_px=TUMOR_CURVE, not_assessable=reason),
        ledger_row(section_id="normal", largest_region_px=NORMAL_CURVE, not_assessable=reason),
    ]
    found = section_verdicts(SectionRows.from_table(table_of(rows, where=Path("a test"))), CHOICE)
    assert found["verdict"].tolist() == ["Tumor", verdict]
    assert [None if pd.isna(each) else each for each in found["not_assessable"]] == [reason, reason]
