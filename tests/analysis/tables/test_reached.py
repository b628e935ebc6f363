"""The table of how verdicts were reached counts them, holds the bound against slides, and fails where it is broken."""

from pathlib import Path
from typing import Any

import pytest
from study_folders import TUMOR_CURVE, ledger_row, sections, write_study

from analysis.page.summary import make_tables
from analysis.specs import SPECS
from analysis.study_evidence.evidence import Evidence
from analysis.tables.reached import write_reached
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import LedgerError
from bccdist.sections.choices import read_selection

_VALIDATION = sections(tp=6, fn=0, fp=0, tn=6)


def certificate(t_p: float, t_a_um2: float) -> dict[str, Any]:
    return {
        "certificate_levels": 9,
        "certificate_confidence": 0.9,
        "certificate_num_slides": 30,
        "certificate_t_p": t_p,
        "certificate_t_a_um2": t_a_um2,
        "certificate_area_unit": "physical",
    }


def study_of(folder: Path, *, checked: list[int], shift_t_p: float = 0.0) -> Evidence:
    """A study of which each Test slide has one certified section, and one that was checked, so many levels apart."""
    paths = write_study(folder, _VALIDATION)
    select_thresholds(paths.root, SelectConfig())
    (chosen,) = read_selection(paths).to_dict("records")
    promise = certificate(chosen["t_p"] + shift_t_p, chosen["t_a_um2"])
    rows = []
    for number, apart in enumerate(checked):
        for section, how in enumerate(("certified", "checked", "recomputed")):
            rows.append(
                ledger_row(
                    part="Test",
                    slide_id=f"t{number}",
                    section_id=f"t{number}-{section}",
                    largest_region_px=TUMOR_CURVE,
                    reached_by=how,
                    levels_apart={"certified": None, "checked": apart, "recomputed": 0}[how],
                    **promise,
                )
            )
    write_study(folder, [*_VALIDATION, *rows])
    return Evidence(paths.root)


def test_a_slide_counts_once_however_many_of_its_sections_were_compared(tmp_path: Path) -> None:
    table = write_reached(study_of(tmp_path, checked=[0, 3, 9, 12] + [1] * 40))
    (row,) = table.frame.to_dict("records")
    assert (row["num_certified"], row["num_checked"], row["num_recomputed"], row["num_exact"]) == (44, 44, 44, 0)
    assert (row["num_slides_compared"], row["num_slides_outside"], row["bound"]) == (44, 1, "holds")
    assert "d = 9, confidence 0.9 per slide, 30 calibrated slides" in table.markdown
    assert table.place is not None
    assert table.place.with_suffix(".parquet").exists()


def test_few_slides_say_nothing(tmp_path: Path) -> None:
    (row,) = write_reached(study_of(tmp_path, checked=[12])).frame.to_dict("records")
    assert row["bound"] == "too few"


@pytest.mark.parametrize("num_outside", [12, 40])
def test_a_bound_that_does_not_hold_is_a_finding_with_what_to_do(tmp_path: Path, num_outside: int) -> None:
    study = study_of(tmp_path, checked=[10] * num_outside + [2] * (40 - num_outside))
    with pytest.raises(LedgerError, match=f"{num_outside} of 40 slides .* outside of d = 9") as told:
        write_reached(study)
    assert "--inference exact" in str(told.value)
    # The table itself is there, and all others are made.
    made = make_tables(study, [SPECS["reached"], SPECS["flip_shifts"]])
    assert [type(each).__name__ for each in made.values()] == ["NotMade", "Table"]
    assert (study.paths.tables / "reached.parquet").exists()


def test_exact_verdicts_have_no_bound_to_check(tmp_path: Path) -> None:
    paths = write_study(tmp_path, [*_VALIDATION, *sections(tp=2, fn=0, fp=0, tn=1, part="Test")])
    select_thresholds(paths.root, SelectConfig())
    table = write_reached(Evidence(paths.root))
    (row,) = table.frame.to_dict("records")
    assert (row["num_exact"], row["num_sections"], row["bound"], row["num_slides_compared"]) == (3, 3, "", 0)
    assert table.notes == ()


def test_verdicts_that_were_certified_for_other_thresholds_are_refused(tmp_path: Path) -> None:
    study = study_of(tmp_path, checked=[0, 0], shift_t_p=0.05)
    with pytest.raises(LedgerError, match=r"2 section\(s\), such as t0-0, were certified for t_p"):
        write_reached(study)
