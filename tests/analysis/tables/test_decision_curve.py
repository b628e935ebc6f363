"""Net benefit is what counting sections and pricing false alarms gives, with a band that holds the truth."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from study_folders import write_study_of_test

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.scored_sections import ScoredSections
from analysis.study_evidence.table import Table
from analysis.tables.decision_curve import THRESHOLDS, build_decision_curve, draw, write_decision_curve
from bccdist.errors import NothingToShowError
from bccdist.sections.choices import Choice

Found = list[tuple[str, str, int]]
CHOICE = Choice(
    setting="resnet34_ds",
    epoch=1,
    psi="psi_4",
    t_p=0.6,
    t_a_um2=1.0,
    beta=1.5,
    area_unit="physical",
    weights_digest="0" * 12,
)


def overlapping(random: np.random.Generator, num_slides: int) -> Found:
    """Sections of slides that are brighter or darker as a whole: slide, label and highest step."""
    found: Found = []
    for slide in range(num_slides):
        shift = random.normal(0, 25)
        for label, mean, most in (("Tumor", 170, 4), ("Normal", 100, 7)):
            for _ in range(random.integers(1, most)):
                found.append((f"t{slide}", label, int(np.clip(mean + shift + random.normal(0, 30), 0, 255))))
    return found


def of_study(folder: Path, found: Found) -> Table:
    return write_decision_curve(Evidence(write_study_of_test(folder, found).root))


def scored(found: Found) -> ScoredSections:
    frame = pd.DataFrame(found, columns=["slide_id", "label", "step"])
    frame = frame.assign(
        tumor_until=frame["step"] / 255, phantom=False, phantom_weights=False, reached_by="exact", is_final=True
    )
    return ScoredSections(choice=CHOICE, frame=frame, num_unread=0)


def counted(found: Found, calls: list[bool], threshold: float) -> float:
    """Net benefit as Vickers and Elkin write it, section by section."""
    true = sum(call and label == "Tumor" for (_, label, _), call in zip(found, calls, strict=True))
    false = sum(call and label == "Normal" for (_, label, _), call in zip(found, calls, strict=True))
    return true / len(found) - false / len(found) * threshold / (1 - threshold)


def test_it_is_what_counting_gives_by_the_score_as_chosen_and_for_all(tmp_path: Path) -> None:
    found = overlapping(np.random.default_rng(0), 15)
    table = of_study(tmp_path, found)
    t_p = Evidence(tmp_path).choices[0].t_p
    for row in table.frame.to_dict("records")[::7]:
        threshold = row["threshold"]
        by_score = counted(found, [step / 255 >= threshold - 1e-9 for _, _, step in found], threshold)
        as_chosen = counted(found, [step / 255 >= t_p - 1e-9 for _, _, step in found], threshold)
        everything = counted(found, [True] * len(found), threshold)
        assert row["by_score_net_benefit"] == pytest.approx(by_score)
        assert row["as_chosen_net_benefit"] == pytest.approx(as_chosen)
        assert row["treat_all"] == pytest.approx(everything)
        assert row["by_score_gain"] == pytest.approx(by_score - max(0, everything))
        assert row["as_chosen_gain"] == pytest.approx(as_chosen - max(0, everything))
        assert row["by_score_net_benefit_low"] <= by_score <= row["by_score_net_benefit_high"]
    assert cv2.imread(str(tmp_path / "figures" / "decision_curve.png")).std() > 10


@pytest.mark.parametrize(
    "labels", ["Tumor Normal", "Tumor Tumor Tumor Normal", "Normal Normal Normal Normal Normal Tumor"]
)
def test_no_line_or_band_is_cut_by_the_axes(labels: str) -> None:
    found = [(f"t{slide}", label, step) for slide in range(6) for label in labels.split() for step in (250, 40)]
    frame = build_decision_curve([scored(found)]).frame
    values = frame.filter(regex="net_benefit|treat_all").to_numpy()
    for axes in draw(frame).axes:
        low, high = axes.get_ylim()
        assert low < values.min()
        assert high >= values.max()
        assert len(axes.get_yticks()) > 3


def test_no_error_seen_is_no_certainty(tmp_path: Path) -> None:
    found = [(f"t{slide}", label, step) for slide in range(6) for label, step in (("Tumor", 250), ("Normal", 10))]
    frame = of_study(tmp_path, found).frame.set_index("threshold")
    # Clopper and Pearson for 6 of 6 slides, both for sensitivity and for specificity; half of the sections are Tumor.
    assert frame.loc[0.5, "as_chosen_net_benefit"] == 0.5
    assert frame.loc[0.5, "as_chosen_net_benefit_low"] == pytest.approx(0.5 * 0.5407 - 0.5 * (1 - 0.5407), abs=1e-4)
    assert frame.loc[0.5, "as_chosen_gain_low"] == frame.loc[0.5, "as_chosen_net_benefit_low"]


@pytest.mark.parametrize("num_slides", [20, 40])
def test_bands_hold_the_true_net_benefit_on_slides_that_cluster(
    num_slides: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "analysis.study_evidence.resampling.draw_slides.__kwdefaults__", {"num_resamples": 300, "seed": 0}
    )
    random = np.random.default_rng(1)
    names = ("by_score_net_benefit", "by_score_gain", "as_chosen_net_benefit")
    truth = build_decision_curve([scored(overlapping(random, 4_000))]).frame
    num, hits = 40, {name: np.zeros(len(THRESHOLDS)) for name in names}
    for _ in range(num):
        frame = build_decision_curve([scored(overlapping(random, num_slides))]).frame
        for name in names:
            hits[name] += (frame[f"{name}_low"] <= truth[name]) & (truth[name] <= frame[f"{name}_high"])
    for name, each in hits.items():
        assert each.mean() / num >= 0.9, name


def test_one_slide_leaves_everything_open(tmp_path: Path) -> None:
    frame = of_study(tmp_path, [("t0", "Tumor", 250), ("t0", "Normal", 10), ("t0", "Normal", 200)]).frame
    low, high = frame["as_chosen_net_benefit_low"], frame["as_chosen_net_benefit_high"]
    assert (high - low).min() > 0.3
    assert np.isfinite(frame.select_dtypes("number")).all(axis=None)


@pytest.mark.parametrize("label", ["Tumor", "Normal", None])
def test_of_one_kind_or_none_nothing_is_said(tmp_path: Path, label: str | None) -> None:
    with pytest.raises(NothingToShowError, match="needs labels"):
        of_study(tmp_path, [("t0", label, 250), ("t1", label, 10)])  # type: ignore[list-item]
