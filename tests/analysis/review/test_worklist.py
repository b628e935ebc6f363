"""The worklist: order, blind share, and a plan that all reviewers share."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_study import SLIDES
from review_study import BLIND, PLAN, SETTING, copied_study, original, worklist_of

from analysis.review.worklist import ReviewPlan, SectionCall, WorkSection, claim_plan, in_order, read_worklist
from bccdist.errors import ConfigurationError, LedgerError
from bccdist.parts import Part
from bccdist.sections.ledger import SCHEMA
from bccdist.slides.geometry import Box


def test_the_nearest_to_the_decision_come_first_after_the_blind_ones_and_those_without_prediction_last(
    tmp_path: Path,
) -> None:
    worklist = worklist_of(copied_study(tmp_path))
    assert [section.key for section in worklist.sections if section.is_blind] == [BLIND]
    first, *others = worklist.sections
    assert first.key == BLIND
    distances = [section.calls[SETTING].flip_shift if section.calls else math.inf for section in others]
    assert distances == sorted(distances)
    assert distances[0] < 1
    assert others[0].key == "test-1/test-1-right"
    assert [section.slide_id for section in others[-2:]] == ["test-2", "test-2"]
    assert len(worklist.sections) == 10


def test_the_order_by_slide_counts_in_numbers_and_keeps_each_slide_together() -> None:
    names = [("s10", "a"), ("s9", "b2"), ("s9", "b10"), ("s10", "b"), ("s9", "a")]
    made = [section_of(slide_id, section_id) for slide_id, section_id in names]
    plan = ReviewPlan(blind_share=0)
    assert [section.key for section in in_order(made, plan, SETTING)] == ["s9/a", "s9/b2", "s9/b10", "s10/a", "s10/b"]


def section_of(slide_id: str, section_id: str) -> WorkSection:
    call = SectionCall(verdict="Tumor", area_um2=1.0, area_factor=2.0, flip_shift=0.5)
    return WorkSection(
        slide_id=slide_id,
        section_id=section_id,
        part=Part.TEST,
        box_level0_px=Box(0, 0, 1, 1),
        is_blind=False,
        calls={SETTING: call},
    )


def test_sections_for_review_come_before_all_others(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    rows = paths.ledger_rows(SETTING, 2, "val1-0")
    frame = pd.read_parquet(rows)
    frame.loc[frame["section_id"] == "val1-0-right", "coverage"] = 0.5
    pq.write_table(pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False), rows)
    first = worklist_of(paths).sections[1]
    assert first.key == "val1-0/val1-0-right"
    assert first.calls[SETTING].verdict == "review"
    assert first.prefilled == ""


def test_a_verdict_that_no_shift_changes_comes_last_of_those_with_a_prediction(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    rows = paths.ledger_rows(SETTING, 2, "val1-0")
    frame = pd.read_parquet(rows)
    frame.loc[frame["section_id"] == "val1-0-right", "largest_region_px"] = pd.Series([[0] * 256] * len(frame))
    pq.write_table(pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False), rows)
    worklist = worklist_of(paths)
    assert [section.key for section in worklist.sections if section.calls][-1] == "val1-0/val1-0-right"
    assert worklist.by_key["val1-0/val1-0-right"].calls[SETTING].flip_shift == math.inf
    assert not worklist.sections[-1].calls


def test_sections_for_review_stand_by_their_flip_shifts(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    rows = paths.ledger_rows(SETTING, 2, "val1-0")
    frame = pd.read_parquet(rows).assign(coverage=0.5)
    low = frame["section_id"] == "val1-0-left"
    faint, near = [1000] * 20 + [0] * 236, [10**9] * 100 + [0] * 156
    frame["largest_region_px"] = [faint if is_low else near for is_low in low]
    pq.write_table(pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False), rows)
    assert [section.section_id for section in worklist_of(paths).sections[1:3]] == ["val1-0-right", "val1-0-left"]


def test_the_random_order_depends_on_the_seed_alone(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)

    def keys(plan: ReviewPlan) -> list[str]:
        return [section.key for section in worklist_of(paths, plan).sections]

    one = keys(ReviewPlan(order="random", seed=1))
    more = ReviewPlan(order="random", seed=1, blind_share=0.5)
    for is_blind in (True, False):
        same = [key for key in keys(more) if more.is_blind(*key.split("/")) is is_blind]
        assert same == [key for key in keys(replace(more, blind_share=0)) if key in same]
    assert one != keys(ReviewPlan(order="random", seed=2))
    assert sorted(one) == sorted(keys(PLAN))


def test_the_blind_share_is_that_share_of_many_sections() -> None:
    plan = ReviewPlan(blind_share=0.2, seed=7)
    blind = Counter(plan.is_blind("slide", f"section-{number}") for number in range(5000))
    assert blind[True] == pytest.approx(1000, abs=120)


def test_a_larger_share_keeps_the_blind_sections_blind() -> None:
    names = [f"section-{number}" for number in range(200)]
    few = {name for name in names if ReviewPlan(blind_share=0.2).is_blind("s", name)}
    many = {name for name in names if ReviewPlan(blind_share=0.6).is_blind("s", name)}
    assert few < many


@pytest.mark.parametrize(("share", "expected"), [(0.0, set()), (1.0, {True})])
def test_none_and_all_are_shares(share: float, expected: set[bool]) -> None:
    blind = {ReviewPlan(blind_share=share).is_blind("slide", str(number)) for number in range(50)}
    assert blind - {False} == expected


def test_verdicts_of_all_settings_stand_at_each_section(tmp_path: Path) -> None:
    section = worklist_of(copied_study(tmp_path)).by_key["test-1/test-1-right"]
    assert {setting: call.verdict for setting, call in section.calls.items()} == {
        "unet": "Normal",
        "resnet34_ds": "Tumor",
        "resnet34_linear": "Tumor",
    }
    assert (section.label, section.prefilled) == ("Normal", "Tumor")


def test_the_plan_of_the_first_reviewer_holds_for_all(tmp_path: Path) -> None:
    path = tmp_path / "review" / "review.json"
    first = claim_plan(path, order="random", blind_share=0.5, seed=4)
    assert first == ReviewPlan(order="random", blind_share=0.5, seed=4)
    assert claim_plan(path, order=None, blind_share=None, seed=None) == first
    with pytest.raises(ConfigurationError, match=r"blind_share is 0.5, not 0.2.*same for all reviewers"):
        claim_plan(path, order=None, blind_share=0.2, seed=None)
    assert [each.name for each in path.parent.iterdir()] == ["review.json"]


def test_a_dry_claim_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "review.json"
    assert claim_plan(path, order=None, blind_share=None, seed=9, dry_run=True) == ReviewPlan(seed=9)
    assert not path.exists()


def test_values_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"blind_share is 1.5, expected 0 to 1"):
        ReviewPlan(blind_share=1.5)
    with pytest.raises(ConfigurationError, match="order is 'size', expected one of slide, distance, random"):
        replace(PLAN, order="size")  # type: ignore[arg-type]


def test_an_unknown_setting_is_refused_with_those_that_were_selected(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    with pytest.raises(LedgerError, match="nothing was selected for vgg; selected were unet, resnet34_ds"):
        read_worklist(paths.root, [Part.TEST], PLAN, setting="vgg")


def test_the_best_setting_is_the_headline_where_none_is_named(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    selection = pd.read_parquet(paths.selection).assign(f_beta=[0.5, 0.7, 0.9])
    selection.to_parquet(paths.selection)
    assert read_worklist(paths.root, [Part.TEST], PLAN).headline.setting == "resnet34_linear"


def test_parts_that_are_not_asked_for_are_not_there(tmp_path: Path) -> None:
    worklist = worklist_of(copied_study(tmp_path), parts=[Part.TEST])
    assert set(worklist.by_slide) == {name for name, part in SLIDES.items() if part is Part.TEST}
    assert BLIND in worklist.by_key
    assert worklist.num_unplaced == 0


def test_sections_without_box_and_prediction_are_counted(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("slides.csv", "sections.csv"):
        text = (original().manifest.path.parent / name).read_text()
        (data / name).write_text(text)
    lines = (data / "sections.csv").read_text().splitlines()
    (data / "sections.csv").write_text(
        "\n".join(
            ",".join([*line.split(",")[:3], "", "", "", ""]) if line.startswith("test-2") else line for line in lines
        )
    )
    paths.study.write_text(paths.study.read_text().replace(str(original().manifest.path), str(data / "slides.csv")))
    worklist = worklist_of(paths, parts=[Part.TEST])
    assert worklist.num_unplaced == 2
    assert "test-2" not in worklist.by_slide


def test_a_list_says_which_sections_are_reviewed(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    names = ["test-2,test-2-left", "test-1,test-1-right"]
    listed.write_text(
        "\n".join(["slide_id,section_id,label", *(f"{name}," for name in names)]) + "\n", encoding="utf-8"
    )
    worklist = read_worklist(copied_study(tmp_path).root, [Part.TEST], PLAN, setting=SETTING, listed=listed)
    assert sorted(section.key for section in worklist.sections) == ["test-1/test-1-right", "test-2/test-2-left"]


def test_a_list_of_sections_that_are_not_there_is_refused_by_their_names(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("slide_id,section_id,label\ntest-1,test-1-right,\ntest-9,test-9-left,\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="1 of its 2 sections are not under review: test-9/test-9-left"):
        read_worklist(copied_study(tmp_path).root, [Part.TEST], PLAN, setting=SETTING, listed=listed)
