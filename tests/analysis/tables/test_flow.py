"""The flow diagram: every slide and section of Test is at exactly one place of it."""

import pandas as pd
import pytest

from analysis.tables.flow import STEPS, build_flow, draw

VERDICTS = pd.DataFrame(
    [("Tumor", "Tumor")] * 3
    + [("Tumor", "Normal")] * 2
    + [("Normal", "Tumor")]
    + [("Normal", "Normal")] * 4
    + [("Normal", "review")] * 2
    + [(None, "review"), (None, "Tumor")],
    columns=["label", "verdict"],
).assign(setting="unet")


def flow(states: list[str], verdicts: pd.DataFrame = VERDICTS) -> pd.Series:
    slides = pd.DataFrame({"state": states, "num_unsure": 0, "num_conflict": 0})
    slides = slides.assign(setting="unet", phantom=False, phantom_weights=False)
    return build_flow(slides, verdicts).frame.set_index("step")["number"]


def test_what_leaves_and_what_stays_is_what_was_there() -> None:
    found = flow(["done", "done", "failed", "no section", "not there"])
    assert list(found.index) == list(STEPS)
    assert (found["slides"], found["slides_failed"], found["slides_not_there"]) == (5, 1, 1)
    assert found["slides_without_section"] == 1
    assert found["sections"] == 14 == found["sections_unlabelled"] + found["sections_labelled"]
    judged = found["called_tumor"] + found["called_normal"]
    assert found["sections_labelled"] == 12 == judged + found["sections_review"]
    assert (found["tp"], found["fn"], found["fp"], found["tn"]) == (3, 2, 1, 4)


def test_without_a_section_all_further_numbers_are_0() -> None:
    found = flow(["failed", "failed"], VERDICTS.iloc[:0])
    assert found["slides_failed"] == 2
    assert (found.drop(["slides", "slides_failed"]) == 0).all()


@pytest.mark.parametrize("setting", ["unet", "resnet34_ds"])
def test_the_diagram_says_each_number_of_its_setting(setting: str) -> None:
    slides = pd.DataFrame({"state": ["done"] * 7, "num_unsure": [1, *[0] * 6], "num_conflict": [0, 1, *[0] * 5]})
    slides = slides.assign(setting=setting, phantom=True, phantom_weights=False)
    table = build_flow(slides, VERDICTS.assign(setting=setting))
    figure = draw(table.frame, setting)
    texts = "\n".join(text.get_text() for text in figure.axes[0].texts)
    for text in (
        "Slides\n7",
        "Labelled sections\n12",
        "review\n2",
        "Tumor 3 (TP)",
        "Normal 4 (TN)",
        "label\n2\nof these unsure 1, in conflict 1",
    ):
        assert text in texts
    assert "PHANTOM" in figure.get_suptitle()
