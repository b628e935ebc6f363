"""The tables stage makes all that can be made, and says at its end what could not."""

from pathlib import Path

import pytest
from study_folders import sections, write_study

from analysis.evidence.evidence import Evidence
from analysis.page import stage
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import StageFailedError
from bccdist.files import write_json


def test_a_slide_that_cannot_be_drawn_costs_neither_the_tables_nor_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*sections(tp=3, fn=0, fp=0, tn=3), *sections(tp=3, fn=0, fp=1, tn=3, part="Test")]
    paths = write_study(tmp_path / "study", rows)
    manifest = tmp_path / "slides.csv"
    manifest.write_text("slide_id,part,path\nslide-0,test,gone.tif\n", encoding="utf-8")
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
