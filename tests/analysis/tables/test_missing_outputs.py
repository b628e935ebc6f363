"""Tables of outputs say which ones have no rows, and why: they must not look as if they were whole."""

from pathlib import Path
from typing import Any

import pytest
from study_folders import sections, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.tables.comparisons import write_comparisons
from analysis.tables.selection import select_thresholds
from analysis.tables.table5 import write_table5
from bccdist.configuration import SelectConfig
from bccdist.errors import NothingToShowError


def study_of(root: Path, *test_outputs: dict[str, Any], validation_psi: str = "psi_4") -> Evidence:
    """A study whose Test has these outputs."""
    rows = sections(tp=3, fn=0, fp=0, tn=3, psi=validation_psi)
    for changes in test_outputs:
        rows += sections(tp=3, fn=1, fp=1, tn=3, part="Test", **changes)
    paths = write_study(root, rows)
    select_thresholds(paths.root, SelectConfig())
    return Evidence(paths.root)


def notes_of(study: Evidence) -> list[str]:
    """What both tables say of outputs."""
    tables = write_table5(study), write_comparisons(study)
    found = [[note for note in table.notes if "Without psi" in note or "fast way" in note] for table in tables]
    assert found[0] == found[1]
    assert all(note in (study.paths.tables / "table5.md").read_text(encoding="utf-8") for note in found[0])
    return found[0]


def test_certified_inference_is_why_three_outputs_are_missing(tmp_path: Path) -> None:
    thresholds = {"certificate_t_p": 0.05, "certificate_t_a_um2": 1280.0, "certificate_area_unit": "physical"}
    final = {"psi": "psi_4", "reached_by": "certified", **thresholds}
    early = {"psi": "psi_0", "is_final": False, "reached_by": "fast"}
    missing, fast = notes_of(study_of(tmp_path, final, early))
    assert missing.startswith("Without psi_1, psi_2, psi_3 of resnet34_ds: certified inference ended at psi_0")
    assert "--inference exact" in missing
    assert fast == "8 verdicts of resnet34_ds psi_0 come from a fast way: not the exact ones of this output."


def test_outputs_without_rows_are_named_though_nobody_knows_why(tmp_path: Path) -> None:
    (missing,) = notes_of(study_of(tmp_path, {"psi": "psi_4"}, {"psi": "psi_2", "is_final": False}))
    assert missing.startswith("Without psi_0, psi_1, psi_3 of resnet34_ds: the ledger has no rows of them")


def test_an_early_exit_is_why_psi_0_stands_alone(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"psi": "psi_0"}, validation_psi="psi_0")
    (note,) = write_table5(study).notes
    assert note.startswith("Without psi_1, psi_2, psi_3, psi_4 of resnet34_ds: the inference ended at psi_0")
    with pytest.raises(NothingToShowError, match=r"one output of one setting .* Without psi_1.*--exit psi_0"):
        write_comparisons(study)


def test_nothing_is_missing_where_every_output_is_there(tmp_path: Path) -> None:
    every = [{"psi": f"psi_{block}", "is_final": block == 4} for block in range(5)]
    assert notes_of(study_of(tmp_path / "ds", *every)) == []
