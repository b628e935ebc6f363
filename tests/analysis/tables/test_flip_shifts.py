"""Tables say how near each verdict is to changing, with labels or without, and name the nearest one."""

import math
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from study_folders import flat_curve, ledger_row, sections, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.flip_shifts import flip_figures, nearest_notes, shift_texts
from analysis.tables.error_groups import write_error_groups
from analysis.tables.flip_shifts import write_flip_shifts
from analysis.tables.nearest_verdicts import MOST_OF_A_SETTING, write_nearest_verdicts
from analysis.tables.section_verdicts import write_verdict_table
from analysis.tables.selection import select_thresholds
from analysis.tables.table4 import write_table4
from bccdist.configuration import SelectConfig
from bccdist.heatmaps.probability import step_of
from bccdist.parts import Part

BELOW_0_6 = flat_curve(top_step=150, num_px=50_000).tolist()
VALIDATION = [
    *sections(tp=10, fn=0, fp=0, tn=0),
    *({**row, "slide_id": "normal", "largest_region_px": BELOW_0_6} for row in sections(tp=0, fn=0, fp=0, tn=10)),
]
"""From these a t_p of 0.6 is chosen."""


def section_of(name: str, *, top_step: int, num_px: int = 50_000, **changes: Any) -> dict[str, Any]:
    """A section of Test whose one region has one value."""
    curve = flat_curve(top_step=top_step, num_px=num_px)
    return ledger_row(
        **{"part": "Test", "slide_id": f"slide-{name}", "section_id": name, "largest_region_px": curve, **changes}
    )


def study_of(folder: Path, rows: list[dict[str, Any]]) -> Evidence:
    root = write_study(folder, [*VALIDATION, *rows]).root
    select_thresholds(root, SelectConfig())
    return Evidence(root)


@pytest.fixture(scope="module")
def steps_of(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, float]:
    """The chosen t_p as a step, and the chosen t_A, of the studies here."""
    (choice,) = study_of(tmp_path_factory.mktemp("chosen"), []).choices
    assert choice.t_p == pytest.approx(0.6)
    return step_of(choice.t_p), choice.t_a_um2


def test_every_verdict_has_its_flip_shift_and_its_distance_in_area(
    tmp_path: Path, steps_of: tuple[int, float]
) -> None:
    step, t_a_um2 = steps_of
    area_px = round(2 * t_a_um2)
    study = study_of(
        tmp_path,
        [
            section_of("a", top_step=step + 1, num_px=area_px),
            section_of("b", top_step=step - 3, num_px=area_px),
            section_of("c", top_step=step - 1, num_px=area_px, coverage=0.5, label=None),
            section_of("d", top_step=0, label="Normal"),
            section_of("e", top_step=255, num_px=round(t_a_um2) - 10, label="Normal"),
        ],
    )
    write_verdict_table(study)
    frame = pd.read_parquet(study.paths.tables / "section_verdicts.parquet").set_index("section_id").sort_index()
    assert frame["verdict"].tolist() == ["Tumor", "Normal", "review", "Normal", "Normal"]
    assert frame["flip_shift"].tolist() == [2 / 255, 3 / 255, 1 / 255, math.inf, math.inf]
    assert frame["area_factor"].tolist() == pytest.approx([2, 0, 0, 0, (t_a_um2 - 10) / t_a_um2])
    assert frame["area_difference_um2"].tolist() == pytest.approx([t_a_um2, *(-t_a_um2,) * 3, -10])
    printed = (study.paths.tables / "section_verdicts.md").read_text()
    assert "0.008" in printed
    assert "never" in printed


def test_a_table_without_a_wrong_verdict_names_the_one_that_is_nearest_to_changing(
    tmp_path: Path, steps_of: tuple[int, float]
) -> None:
    step, _ = steps_of
    rows = [*sections(tp=3, fn=0, fp=0, tn=3, part="Test"), section_of("near", top_step=step + 1)]
    table = write_table4(study_of(tmp_path, rows))
    assert table.frame["accuracy"].tolist() == [1.0]
    assert "resnet34_ds: section near of slide slide-near, Tumor, by a shift of probability of 0.008" in table.markdown
    assert "of all verdicts 1 by less than 0.02, 1 by less than 0.05." in table.markdown


def test_flip_shifts_are_summed_up_by_verdict_without_any_label(tmp_path: Path, steps_of: tuple[int, float]) -> None:
    step, _ = steps_of
    rows = [section_of(f"t{up}", top_step=step + up, label=None) for up in (1, 8, 9, 40)]
    rows += [section_of(f"n{down}", top_step=step - down, label=None) for down in (5, 6, 60)]
    rows += [section_of("empty", top_step=0, label=None), section_of("r", top_step=5, label=None, coverage=0.9)]
    table = write_flip_shifts(study_of(tmp_path, rows))
    found = table.frame.set_index("verdict")
    assert found.index.tolist() == ["Tumor", "Normal", "review", "all"]
    assert found["num_sections"].tolist() == [4, 4, 1, 9]
    figures = ["flip_shift_min", "flip_shift_q1", "flip_shift_median", "flip_shift_q3"]
    assert (255 * found.loc["Tumor", figures]).tolist() == pytest.approx([2, 2, 9, 10])
    assert (255 * found.loc["Normal", figures]).tolist() == pytest.approx([5, 5, 6, 60])
    assert found["num_flip_below_0_02"].tolist() == [1, 1, 0, 2]
    assert found["num_flip_below_0_05"].tolist() == [3, 2, 0, 5]
    assert found["num_never_flip"].tolist() == [0, 1, 0, 1]
    assert table.printed.loc[1, ["25%", "75%", "never"]].tolist() == ["0.020", "0.235", "1"]


def test_verdicts_that_nothing_changes_are_said_to_be_so(tmp_path: Path) -> None:
    table = write_flip_shifts(study_of(tmp_path, [section_of("empty", top_step=0, label=None)]))
    assert table.printed.loc[0, ["smallest", "75%"]].tolist() == ["never", "never"]
    assert "none; no shift of probability would change a verdict" in table.markdown
    assert not table.frame.isna().any(axis=None)


def test_the_ten_nearest_come_first_by_flip_shift(tmp_path: Path, steps_of: tuple[int, float]) -> None:
    step, t_a_um2 = steps_of
    rows = [section_of(f"s{away:02d}", top_step=step + away, num_px=round(t_a_um2) + 1) for away in range(-9, 9)]
    table = write_nearest_verdicts(study_of(tmp_path, rows))
    assert len(table.frame) == MOST_OF_A_SETTING
    assert (255 * table.frame["flip_shift"]).tolist() == pytest.approx([1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    assert set(table.printed) == {"slide", "section", "setting", "verdict", "t_p", "flip shift", "area, x t_A"}
    assert table.title == "Verdicts nearest to changing on Test, 10 of each setting."


def test_each_setting_has_its_own_nearest_verdicts(tmp_path: Path) -> None:
    other = [{**row, "setting": "unet"} for row in VALIDATION]
    study = study_of(tmp_path, [*other, *sections(tp=2, fn=0, fp=0, tn=2, part="Test")])
    assert write_nearest_verdicts(study).frame["setting"].tolist() == ["resnet34_ds"] * 4
    validation = write_nearest_verdicts(study, Part.VALIDATION_2).frame
    assert validation["setting"].value_counts().to_dict() == {"resnet34_ds": 10, "unet": 10}


def test_errors_are_counted_by_flip_shift_too(tmp_path: Path, steps_of: tuple[int, float]) -> None:
    step, _ = steps_of
    rows = [
        section_of("wrong", top_step=step - 2),
        section_of("right", top_step=step + 20),
        section_of("far", top_step=0, label="Normal"),
    ]
    frame = write_error_groups(study_of(tmp_path, rows)).frame.set_index(["kind", "group"])
    groups = frame.loc["flip_shift"]
    assert groups.index.tolist() == ["0 to 0.02", "0.05 and more"]
    assert groups["fn"].tolist() == [1, 0]
    assert groups["num_sections"].tolist() == [1, 2]
    assert frame.loc[("slide", "slide-wrong"), "flip_shift_min"] == 2 / 255


def test_duckdb_finds_the_sections_that_flip_first(tmp_path: Path, steps_of: tuple[int, float]) -> None:
    step, _ = steps_of
    rows = [section_of(name, top_step=top) for name, top in (("a", 0), ("b", step), ("c", step - 2))]
    study = study_of(tmp_path, rows)
    write_verdict_table(study)
    verdicts = duckdb.read_parquet(str(study.paths.tables / "section_verdicts.parquet"))
    assert verdicts.order("flip_shift").project("section_id").fetchall() == [("b",), ("c",), ("a",)]
    assert verdicts.filter("flip_shift < 0.006").project("section_id").fetchall() == [("b",)]
    assert verdicts.filter("isinf(flip_shift)").project("section_id").fetchall() == [("a",)]


def test_quartiles_are_values_that_occur() -> None:
    frame = pd.DataFrame({"flip_shift": [0.1, 0.2, math.inf, math.inf]})
    figures = flip_figures(frame)
    assert list(figures.values()) == [0.1, 0.1, 0.2, math.inf, 0, 0, 2]
    assert shift_texts([0.1, math.inf]) == ["0.100", "never"]


def test_each_setting_has_a_note_of_its_own() -> None:
    frame = pd.DataFrame(
        [
            ("unet", "s", "b", "Tumor", 0.1),
            ("unet", "s", "a", "Normal", 0.1),
            ("resnet34", "s", "a", "review", 0.019),
        ],
        columns=["setting", "slide_id", "section_id", "verdict", "flip_shift"],
    )
    one, other = nearest_notes(frame)
    assert "unet: section a of slide s, Normal, by a shift of probability of 0.100" in one
    assert "resnet34: section a of slide s, review, by a shift of probability of 0.019" in other
