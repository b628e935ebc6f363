"""Tables 1 and 2, Figure 5, calibration, errors, merge weights: small studies whose numbers are known."""

from pathlib import Path

import cv2
import pandas as pd
import pytest
from study_folders import flat_curve, ledger_row, sections, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.tables.error_groups import write_error_groups
from analysis.tables.figure5 import write_figure5
from analysis.tables.merge_weights import write_merge_weights
from analysis.tables.reliability import write_reliability
from analysis.tables.roc import write_roc
from analysis.tables.selection import select_thresholds
from analysis.tables.table1 import write_table1
from analysis.tables.table2 import build_table2
from bccdist.configuration import SelectConfig
from bccdist.errors import LedgerError
from bccdist.files import write_json
from bccdist.paths import StudyPaths
from bccdist.speedups.record import MeasuredOutput

VALIDATION = sections(tp=20, fn=0, fp=0, tn=20)
SLIDES = """slide_id,part,path,annotation
a,Training,a.tif,a.xml
b,Training,b.tif,a.xml
c,Test,c.tif,
d,Test,d.tif,
"""
SECTIONS = """slide_id,section_id,label,prefilled
a,a1,Tumor,
a,a2,Normal,
b,b1,Normal,
c,c1,Tumor,Normal
c,c2,,
"""


def selected(folder: Path, rows: list) -> StudyPaths:  # type: ignore[type-arg]
    settings = sorted({row["setting"] for row in rows})
    validation = [{**row, "setting": setting} for row in VALIDATION for setting in settings or ["resnet34_ds"]]
    paths = write_study(folder, [*rows, *validation])
    select_thresholds(paths.root, SelectConfig())
    return paths


def test_table_1_counts_slides_and_labels_of_each_part(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text(SLIDES)
    (tmp_path / "sections.csv").write_text(SECTIONS)
    (tmp_path / "a.xml").touch()
    write_json(tmp_path / "study" / "study.json", {"manifest": str(tmp_path / "slides.csv"), "phantom": False})
    table = write_table1(Evidence(tmp_path / "study"))
    training, test = table.frame.to_dict("records")
    counts = (
        "num_slides",
        "num_annotated",
        "num_tumor",
        "num_normal",
        "num_unlabelled",
        "num_slides_without_sections",
    )
    assert [training[name] for name in counts] == [2, 2, 1, 2, 0, 0]
    assert [test[name] for name in counts] == [2, 0, 1, 0, 1, 1]
    assert test["num_prefilled"] == 1
    assert "says nothing of: 1" in table.markdown


def test_table_1_of_slides_that_nobody_labelled_says_so_instead_of_zeros(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("slide_id,part,path\na,Test,a.tif\nb,Validation II,b.tif\n")
    (tmp_path / "sections.csv").write_text("slide_id,section_id,label\nb,b1,\n")
    write_json(tmp_path / "study" / "study.json", {"manifest": str(tmp_path / "slides.csv"), "phantom": False})
    table = write_table1(Evidence(tmp_path / "study"))
    validation, test = table.printed.to_dict("records")
    assert {test[name] for name in ("Tumor sections", "Normal sections", "without label")} == {"unlabelled"}
    assert [validation[name] for name in ("Tumor sections", "Normal sections", "without label")] == ["0", "0", "1"]


def test_table_2_prints_the_papers_numbers() -> None:
    pools = {"tumor_free": 175_771, "tumor": 9_537, "tumor_dense": 5_528, "stroma": 9_096, "normal": 9_458}
    draws = {"tumor_free": 175_771, "tumor": 30_000, "tumor_dense": 10_000, "stroma": 20_000, "normal": 20_000}
    manifest = {
        "parts": {"Training": {"num_patches": 185_308, "pools": pools}},
        "training_epoch": {"draws": draws, "num_draws": 255_771, "unbalance_before": 78.48, "unbalance_after": 16.81},
        "phantom": False,
    }
    table = build_table2(manifest)
    assert table.printed["before"].tolist() == ["175,771", "9,537", "5,528", "9,096", "9,458", "209,390", "78.48"]
    assert table.printed["after"].tolist() == ["175,771", "30,000", "10,000", "20,000", "20,000", "255,771", "16.81"]
    assert "185,308" in table.markdown


def test_figure_5_has_the_errors_of_table_4(tmp_path: Path) -> None:
    paths = selected(tmp_path, sections(tp=30, fn=4, fp=3, tn=40, part="Test"))
    table = write_figure5(Evidence(paths.root))
    assert table.frame[["fn", "fp", "num_wrong"]].to_numpy().tolist() == [[4, 3, 7]]
    assert cv2.imread(str(paths.figure("figure5"))) is not None
    vector = (paths.figures / "figure5.svg").read_text()
    write_figure5(Evidence(paths.root))
    assert (paths.figures / "figure5.svg").read_text() == vector


def test_probabilities_that_are_shares_have_no_calibration_error(tmp_path: Path) -> None:
    # Ten sections at a probability of 0.8 of which eight are Tumor; ten at 0.2 of which two are.
    rows = [
        ledger_row(
            part="Test",
            slide_id=f"t{number}",
            section_id=f"t{number}",
            label="Tumor" if number % 10 < num_tumor else "Normal",
            largest_region_px=flat_curve(top_step=level, num_px=50_000),
        )
        for start, level, num_tumor in ((0, 204, 8), (10, 51, 2))
        for number in range(start, start + 10)
    ]
    paths = selected(tmp_path, rows)
    (row,) = write_reliability(Evidence(paths.root)).frame.to_dict("records")
    assert row["calibration_error"] == pytest.approx(0, abs=1e-12)
    assert row["brier_score"] == pytest.approx(0.16)
    assert row["brier_score_of_share"] == pytest.approx(0.25)
    bins = pd.read_parquet(paths.tables / "reliability_bins.parquet")
    assert bins["num_sections"].tolist() == [10, 10]


def test_errors_are_counted_by_slide_area_and_prefilled_label(tmp_path: Path) -> None:
    rows = [
        *sections(tp=3, fn=2, fp=0, tn=4, part="Test", slide_id="bad", prefilled="Normal"),
        *(
            {**row, "section_id": f"other-{row['section_id']}"}
            for row in sections(tp=4, fn=0, fp=1, tn=4, part="Test", slide_id="good")
        ),
    ]
    table = write_error_groups(Evidence(selected(tmp_path, rows).root))
    frame = table.frame.set_index(["kind", "group"])
    assert frame.loc[("slide", "bad"), ["tp", "fn", "fp", "tn"]].tolist() == [3, 2, 0, 4]
    assert frame.loc[("prefilled", "Normal"), "fn"] == 2
    assert frame.loc[("prefilled", "none"), "fp"] == 1
    areas = table.frame[table.frame["kind"] == "area"]
    assert areas["num_sections"].sum() == len(rows)
    assert areas.set_index("group").loc["0 to 0.25", "fn"] == 2
    assert table.printed["group"].tolist()[:2] == ["bad", "good"]


def linear_study(folder: Path) -> StudyPaths:
    rows = [{**row, "setting": "resnet34_linear", "psi": "merged"} for row in VALIDATION]
    paths = write_study(folder, rows)
    select_thresholds(paths.root, SelectConfig())
    metrics = pd.DataFrame(
        {
            "epoch": [1] * 6,
            "psi": ["psi_0", "psi_1", "psi_2", "psi_3", "psi_4", "merged"],
            "is_final": [False] * 5 + [True],
            "iou": [0.5] * 6,
            "merge_weight": [0.1590, -0.1645, 0.1603, -0.2963, 0.0036, None],
            "phantom": [False] * 6,
        }
    )
    metrics.to_parquet(paths.run("resnet34_linear").metrics)
    return paths


def test_a_test_part_without_labels_is_a_reason_and_no_traceback(tmp_path: Path) -> None:
    rows = [{**row, "label": None} for row in sections(tp=2, fn=0, fp=0, tn=2, part="Test")]
    study = Evidence(selected(tmp_path, rows).root)
    for write in (write_error_groups, write_reliability, write_roc):
        with pytest.raises(LedgerError, match=r"needs labels: 0 of 4 sections of Test have one; .*relabel"):
            write(study)


def test_merge_weights_are_printed_as_learned_and_times_their_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = linear_study(tmp_path)
    costs = {
        f"psi_{block}": MeasuredOutput(psi=f"psi_{block}", patch_s=0.1, score_std=block + 1.0) for block in range(5)
    }
    monkeypatch.setattr("analysis.tables.merge_weights.measured_outputs", lambda *_: costs)
    table = write_merge_weights(Evidence(paths.root))
    assert table.printed["w"].tolist() == ["+0.1590", "-0.1645", "+0.1603", "-0.2963", "+0.0036"]
    assert table.printed["w times deviation"].tolist() == ["+0.1590", "-0.3290", "+0.4809", "-1.1852", "+0.0180"]
    assert table.notes == ()


def test_merge_weights_without_a_calibration_say_what_is_missing(tmp_path: Path) -> None:
    table = write_merge_weights(Evidence(linear_study(tmp_path).root))
    assert table.printed["w times deviation"].tolist() == ["n/a"] * 5
    assert "launch_calibrate" in table.markdown


def test_merge_weights_need_the_linear_merge(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="nothing was selected for resnet34_linear"):
        write_merge_weights(Evidence(selected(tmp_path, []).root))
