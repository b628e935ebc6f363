"""Best and worst cases hold whatever the truth about what is left out or in doubt may be."""

import math
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from study_folders import NORMAL_CURVE, ledger_row, sections, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.readings import LabelState
from analysis.study_evidence.table import Table
from analysis.tables.intervals import write_intervals
from analysis.tables.selection import select_thresholds
from analysis.tables.sensitivity_analysis import (
    build_sensitivity_analysis,
    sections_in_doubt,
    write_sensitivity_analysis,
)
from bccdist.configuration import SelectConfig
from bccdist.errors import NothingToShowError
from bccdist.failures import write_failure
from bccdist.files import write_json
from bccdist.paths import StudyPaths
from bccdist.stages.stage import failures_name

Known = tuple[str | None, str, bool]
"""Label, verdict (nothing on a slide that failed), and whether a reader says something else."""
MARKS = {"phantom": False, "phantom_weights": False}


def table_of(known: list[Known], states: dict[int, LabelState] | None = None) -> Table:
    keys = [(f"t{number // 2}", f"s{number}") for number in range(len(known))]
    frame = pd.DataFrame(
        [(*key, label, verdict) for key, (label, verdict, _) in zip(keys, known, strict=True)],
        columns=["slide_id", "section_id", "label", "verdict"],
    )
    is_missing = frame["verdict"] == ""
    said = {key: "unsure" for key, (_, _, is_disputed) in zip(keys, known, strict=True) if is_disputed}
    why = {keys[number]: state for number, state in (states or {}).items()}
    missing = frame[is_missing].drop(columns="verdict").assign(kind="no verdict")
    doubts = sections_in_doubt(frame[~is_missing], missing, why, {"reader": said})
    return build_sensitivity_analysis({"resnet34_ds": doubts}, 1.5, MARKS)


def figures(pairs: list[tuple[str, str]]) -> dict[str, float]:
    """By counting one after the other; without anything to count it is not known."""
    right = [label == verdict for label, verdict in pairs]
    by_label = {
        kind: [ok for ok, (label, _) in zip(right, pairs, strict=True) if label == kind]
        for kind in ("Tumor", "Normal")
    }
    counted = {"accuracy": right, "sensitivity": by_label["Tumor"], "specificity": by_label["Normal"]}
    return {name: sum(each) / len(each) if each else math.nan for name, each in counted.items()}


one = st.tuples(
    st.sampled_from(["Tumor", "Normal", None]), st.sampled_from(["Tumor", "Normal", "review", ""]), st.booleans()
)


@given(st.lists(one, min_size=0, max_size=4))
@hypothesis_settings(max_examples=40, deadline=None)
def test_no_truth_lies_outside_of_the_best_and_the_worst_case(doubtful: list[Known]) -> None:
    known: list[Known] = [("Tumor", "Tumor", False), ("Tumor", "Normal", False), ("Normal", "Normal", False)]
    frame = table_of([*known, *doubtful]).frame
    # Of one kind alone there is no row for all of them.
    worst = frame[frame["case"] == "as if wrong"].iloc[-1:].to_dict("records")
    best = frame[frame["case"] == "as if right"].iloc[-1:].to_dict("records")
    certain = [each for each in doubtful if each[0] and each[1] in ("Tumor", "Normal") and not each[2]]
    unknown = [each for each in doubtful if each not in certain]
    assert bool(worst) == bool(best) == bool(unknown)
    options = [
        list(
            product(
                ["Tumor", "Normal"] if label is None or (disputed and verdict in ("Tumor", "Normal")) else [label],
                [verdict] if verdict in ("Tumor", "Normal") else ["Tumor", "Normal"],
            )
        )
        for label, verdict, disputed in unknown
    ]
    base = [(label, verdict) for label, verdict, _ in [*known, *certain] if label]
    for truth in product(*options):
        for name, value in figures([*base, *truth]).items():
            if unknown:
                assert worst[0][name] - 1e-9 <= value <= best[0][name] + 1e-9, name
            else:
                assert frame.iloc[0][name] == pytest.approx(value)


def test_each_kind_has_its_cases_and_says_what_it_is() -> None:
    table = table_of(
        [
            *[("Tumor", "Tumor", False), ("Normal", "Normal", False)] * 3,
            ("Normal", "review", False),
            ("Tumor", "", False),
            (None, "Tumor", False),
            (None, "Normal", False),
            (None, "Normal", False),
            ("Tumor", "Tumor", True),
        ],
        states={8: LabelState.UNSURE, 9: LabelState.CONFLICT},
    )
    counts = table.frame.set_index(["kind", "case"])[["tp", "fn", "fp", "tn"]].agg(list, axis=1).to_dict()
    assert counts == {
        ("as reported", "left out"): [4, 0, 0, 3],
        ("review", "as if right"): [4, 0, 0, 4],
        ("review", "as if wrong"): [4, 0, 1, 3],
        ("review", "called Tumor"): [4, 0, 1, 3],
        ("review", "called Normal"): [4, 0, 0, 4],
        ("no verdict", "as if right"): [5, 0, 0, 3],
        ("no verdict", "as if wrong"): [4, 1, 0, 3],
        ("unsure", "as if right"): [5, 0, 0, 3],
        ("unsure", "as if wrong"): [4, 0, 1, 3],
        ("conflict", "as if right"): [4, 0, 0, 4],
        ("conflict", "as if wrong"): [4, 1, 0, 3],
        ("no label", "as if right"): [4, 0, 0, 4],
        ("no label", "as if wrong"): [4, 1, 0, 3],
        ("disputed", "left out"): [3, 0, 0, 3],
        ("disputed", "as if right"): [4, 0, 0, 3],
        ("disputed", "as if wrong"): [3, 0, 1, 3],
        ("all of these", "as if right"): [6, 0, 0, 6],
        ("all of these", "as if wrong"): [3, 3, 3, 3],
    }
    assert "for review: not read whole or not assessable, and no tumor found (review)" in table.markdown


def make_study(root: Path, test: list[dict], *, failed: tuple[str, ...] = (), named: str = "") -> StudyPaths:  # type: ignore[type-arg]
    """A study whose slides in `failed` failed; `named` are further lines of sections.csv."""
    paths = write_study(root / "study", [*sections(tp=6, fn=0, fp=0, tn=6), *test])
    slide_ids = dict.fromkeys([*(row["slide_id"] for row in test), *failed])
    lines = [f"{slide_id},Test,{slide_id}.tif" for slide_id in slide_ids]
    (root / "slides.csv").write_text("\n".join(["slide_id,part,path", *lines, "Validation-II-0000,val2,v.tif"]) + "\n")
    if named:
        (root / "sections.csv").write_text(f"slide_id,section_id,label\n{named}\n")
    write_json(paths.study, {"manifest": str(root / "slides.csv"), "phantom": False})
    select_thresholds(paths.root, SelectConfig())
    for slide_id in failed:
        stage = failures_name("infer", "resnet34_ds")
        write_failure(
            paths.failure(stage, slide_id), stage=stage, slide_id=slide_id, reason="broken", error="SlideError"
        )
    return paths


def test_as_reported_it_is_table_4_with_its_intervals(tmp_path: Path) -> None:
    test = [
        row
        for number in range(6)
        for row in sections(tp=3, fn=int(number == 2), fp=1, tn=2, review=1, part="Test", slide_id=f"t{number}")
    ]
    test = [{**row, "section_id": f"s{number}"} for number, row in enumerate(test)]
    paths = make_study(tmp_path, test, failed=("gone",))
    table = write_sensitivity_analysis(Evidence(paths.root))
    reported = table.frame.iloc[0]
    frame = write_intervals(Evidence(paths.root)).frame
    found = frame[frame["part"] == "Test"].set_index("figure")
    for name in ("accuracy", "sensitivity", "specificity", "f_beta"):
        for end, column in (("value", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
            assert reported[column] == pytest.approx(found.loc[name, end])
    # The slide that failed, of which no section is known, is one section of either kind.
    gone = table.frame.query("kind == 'no verdict' and case == 'as if wrong'").iloc[0]
    assert (gone["num_meant"], gone["num_neither"]) == (1, 1)
    assert gone["sensitivity"] == pytest.approx(18 / 20)
    assert gone["specificity"] == pytest.approx(12 / 19)
    assert gone["accuracy"] == pytest.approx(30 / 38)
    assert "counts as one section" in table.markdown


def test_sections_that_are_named_on_a_slide_that_failed_count_with_their_labels(tmp_path: Path) -> None:
    test = [{**row, "slide_id": f"t{row['label']}"} for row in sections(tp=3, fn=1, fp=0, tn=4, part="Test")]
    named = "gone,a,Tumor\ngone,b,Normal\ngone,c,"
    paths = make_study(tmp_path, test, failed=("gone",), named=named)
    frame = write_sensitivity_analysis(Evidence(paths.root)).frame
    wrong = frame.query("kind == 'no verdict' and case == 'as if wrong'").iloc[0]
    assert (wrong["num_meant"], wrong["num_neither"]) == (3, 1)
    assert (wrong["tp"], wrong["fn"], wrong["fp"], wrong["tn"]) == (3, 2, 1, 4)
    assert wrong["sensitivity"] == pytest.approx(3 / 6)


def test_labelled_sections_that_were_not_judged_are_dropped_and_named(tmp_path: Path) -> None:
    test = [{**row, "slide_id": "t0"} for row in sections(tp=3, fn=1, fp=0, tn=4, part="Test")]
    judged = "\n".join(f"t0,{row['section_id']},{row['label']}" for row in test)
    paths = make_study(tmp_path, test, named=f"{judged}\nt0,gone,Tumor")
    # A correction of a section that has another name by now.
    paths.labels.write_text("slide_id,section_id,label\nt0,older,Normal\n")
    frame = write_sensitivity_analysis(Evidence(paths.root)).frame.set_index(["kind", "case"])
    wrong = frame.loc[("dropped", "as if wrong")]
    assert (wrong["num_meant"], wrong["num_neither"]) == (2, 0)
    assert (wrong["tp"], wrong["fn"], wrong["fp"], wrong["tn"]) == (3, 2, 1, 4)


def test_without_doubt_one_row_says_so(tmp_path: Path) -> None:
    paths = make_study(tmp_path, sections(tp=3, fn=1, fp=1, tn=3, part="Test"))
    table = write_sensitivity_analysis(Evidence(paths.root))
    assert table.frame["kind"].tolist() == ["as reported"]
    assert "Nothing is left out or in doubt" in table.markdown


def test_where_all_are_for_review_the_cases_still_say_what_may_be(tmp_path: Path) -> None:
    test = [
        ledger_row(part="Test", section_id=f"s{number}", label=label, coverage=0.5, largest_region_px=NORMAL_CURVE)
        for number, label in enumerate(["Tumor", "Normal", None])
    ]
    paths = make_study(tmp_path, test)
    frame = write_sensitivity_analysis(Evidence(paths.root)).frame.set_index(["kind", "case"])
    assert math.isnan(frame.loc[("as reported", "left out"), "accuracy"])
    assert frame.loc[("review", "called Tumor"), "sensitivity"] == 1
    assert frame.loc[("all of these", "as if wrong"), "sensitivity"] == 0
    assert frame.loc[("all of these", "as if right"), "specificity"] == 1


def test_without_any_label_it_says_what_it_needs(tmp_path: Path) -> None:
    paths = make_study(tmp_path, [ledger_row(part="Test", label=None)])
    with pytest.raises(NothingToShowError, match="needs labels: 0 of 1"):
        write_sensitivity_analysis(Evidence(paths.root))
