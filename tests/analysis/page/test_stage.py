"""The tables stage makes all that can be made, and says at its end what could not."""

from pathlib import Path

import pytest
from study_folders import sections, write_study

from analysis.page import stage
from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import StageFailedError
from bccdist.files import write_json
from bccdist.stages.table import TABLES
from bccdist.study import manifest_of_study


def test_a_slide_that_cannot_be_drawn_costs_neither_the_tables_nor_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*sections(tp=3, fn=0, fp=0, tn=3), *sections(tp=3, fn=0, fp=1, tn=3, part="Test")]
    paths = write_study(tmp_path / "study", rows)
    manifest = tmp_path / "slides.csv"
    lines = ["slide_id,part,path", "Test-0000,test,gone.tif", "Validation-II-0000,val2,gone-too.tif"]
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(paths.study, {"manifest": str(manifest), "phantom": False})
    select_thresholds(paths.root, SelectConfig())

    def fail(*_: object) -> None:
        raise StageFailedError("slide-0: gone")

    monkeypatch.setattr(stage, "draw_overlays", fail)
    with pytest.raises(StageFailedError, match="slide-0: gone"):
        stage.write_tables(paths.root, manifest)
    assert paths.report.is_file()
    assert (paths.tables / "table4.parquet").is_file()
    assert Evidence(paths.root).choices
    progress = TABLES.progress(paths, manifest_of_study(paths.root))
    assert not progress.is_whole, "its job failed, and so says the status"
    assert progress.failures["overlays"] == "slide-0: gone"
    assert "overlays" in progress.detail
