"""The sections that a goal takes are counted exactly, and those that cluster count for fewer."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from study_folders import ledger_row, sections, write_study

from analysis.make import make
from analysis.study_evidence.evidence import Evidence
from analysis.tables.sample_size import effective_number, sections_needed, widths, write_sample_size
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import ConfigurationError, NothingToShowError
from bccdist.paths import StudyPaths


def exact_width(share: float, number: int) -> float:
    """By the quantiles of the beta distribution; of a part of a section the wider bounds."""
    least, most = int(np.floor(share * number + 1e-9)), int(np.ceil(share * number - 1e-9))
    low = beta.ppf(0.025, least, number - least + 1) if least else 0.0
    high = beta.ppf(0.975, most + 1, number - most) if most < number else 1.0
    return float(high - low)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.95, 0.975, 1.0])
def test_widths_are_those_of_the_beta_distribution(share: float) -> None:
    numbers = np.array([1, 2, 7, 20, 40, 111, 500])
    assert widths(share, numbers) == pytest.approx([exact_width(share, int(number)) for number in numbers], abs=1e-9)


@pytest.mark.parametrize(
    ("share", "width"), [(0.95, 0.1), (0.9, 0.1), (0.8, 0.2), (0.5, 0.15), (0.97, 0.3), (0.03, 0.12)]
)
def test_from_the_number_that_a_goal_takes_no_interval_is_wider(share: float, width: float) -> None:
    needed = sections_needed(share, width)
    assert exact_width(share, needed - 1) > width
    assert all(exact_width(share, number) <= width for number in range(needed, needed + 200))


def test_sections_that_are_alike_on_each_slide_count_as_their_slides() -> None:
    right = np.array([5, 0, 5, 5, 0, 5, 5, 5, 5, 5])
    # Wholly alike: ten observations of 0 or 1, with n - 1 below the variance.
    assert effective_number(right, np.full(10, 5)) == pytest.approx(9)
    assert effective_number(np.full(10, 5), np.full(10, 5)) == 10
    assert effective_number(np.array([3]), np.array([7])) == 1
    assert effective_number(np.array([0, 0]), np.array([0, 0])) == 0


def test_the_effective_number_is_the_one_whose_variance_simulated_studies_have() -> None:
    random = np.random.default_rng(0)
    found, shares = [], []
    for _ in range(400):
        number = random.integers(1, 9, size=60)
        right = random.binomial(number, random.beta(4, 1, size=60))
        found.append(effective_number(right, number))
        shares.append(right.sum() / number.sum())
    simulated = np.mean(shares) * (1 - np.mean(shares)) / np.var(shares)
    assert np.median(found) == pytest.approx(simulated, rel=0.15)
    assert simulated < 0.75 * 60 * 4.5


def study_of(folder: Path, *, slides: int = 12, **of_test: int) -> StudyPaths:
    rows = sections(tp=9, fn=1, fp=1, tn=9)
    for number in range(slides):
        rows += [
            {**row, "slide_id": f"t{number}", "section_id": f"t{number}-{row['section_id']}"}
            for row in sections(part="Test", **of_test)
        ]
    paths = write_study(folder, rows)
    select_thresholds(paths.root, SelectConfig())
    return paths


def test_a_goal_is_set_beside_what_there_is(tmp_path: Path) -> None:
    paths = study_of(tmp_path, tp=3, fn=0, fp=1, tn=3)
    table = write_sample_size(Evidence(paths.root), goal_sensitivity=0.7, goal_specificity=0.99, goal_width=0.4)
    rows = table.frame.set_index("figure").to_dict("index")
    assert rows["sensitivity"]["num_sections"] == 36
    # No slide has an error, so that each counts once: 0.025 ** (1 / 12).
    assert rows["sensitivity"]["num_effective"] == 12
    assert np.isnan(rows["sensitivity"]["design_effect"])
    assert rows["sensitivity"]["width_effective"] == pytest.approx(1 - 0.025 ** (1 / 12))
    assert rows["sensitivity"]["num_needed"] == sections_needed(0.7, 0.4)
    assert np.isnan(rows["sensitivity"]["num_needed_here"])
    assert "there is no design effect (n/a), and each slide counts as one section" in table.markdown
    assert "each slide one trial" in table.markdown
    assert rows["sensitivity"]["outcome"] == "shown"
    assert not rows["sensitivity"]["is_reached"]
    assert rows["specificity"]["outcome"] == "missed"
    assert rows["specificity"]["is_reached"]
    assert "an interval no wider than 0.4" in table.markdown


def test_a_stated_goal_stays_for_the_report_with_its_time(tmp_path: Path) -> None:
    paths = study_of(tmp_path, tp=3, fn=1, fp=1, tn=3)
    assert write_sample_size(Evidence(paths.root)).frame["goal"].isna().all()
    make(["sample_size", str(paths.root), "--goal-sensitivity", "0.9"])
    stated_at = json.loads(paths.goals.read_text())["stated_at"]
    frame = write_sample_size(Evidence(paths.root)).frame.set_index("figure")
    assert frame.loc["sensitivity", "goal"] == 0.9
    assert frame.loc["sensitivity", "goal_width"] == 0.1
    assert frame.loc["sensitivity", "goal_stated_at"] == stated_at
    assert np.isnan(frame.loc["specificity", "goal"])
    # The same again keeps its time; another one has its own.
    paths.goals.write_text(paths.goals.read_text().replace(stated_at, "2020-01-01T00:00:00+00:00"))
    write_sample_size(Evidence(paths.root), goal_sensitivity=0.9)
    assert json.loads(paths.goals.read_text())["stated_at"].startswith("2020")
    write_sample_size(Evidence(paths.root), goal_sensitivity=0.8)
    assert not json.loads(paths.goals.read_text())["stated_at"].startswith("2020")


def test_made_elsewhere_the_goals_of_the_study_count_and_none_is_stated(tmp_path: Path) -> None:
    paths = study_of(tmp_path / "study", tp=3, fn=1, fp=1, tn=3)
    write_sample_size(Evidence(paths.root), goal_sensitivity=0.9)
    elsewhere = Evidence(paths.root, shown_in=tmp_path / "mine")
    assert write_sample_size(elsewhere).frame["goal"].max() == 0.9
    assert write_sample_size(elsewhere, goal_sensitivity=0.9).frame["goal"].max() == 0.9
    with pytest.raises(ConfigurationError, match="a goal belongs to the study"):
        write_sample_size(elsewhere, goal_sensitivity=0.8)
    assert not (tmp_path / "mine" / "goals.json").exists()
    assert write_sample_size(Evidence(paths.root)).frame["goal"].max() == 0.9


def test_a_goal_that_is_changed_leaves_what_was_stated_before_and_the_table_says_so(tmp_path: Path) -> None:
    paths = study_of(tmp_path, tp=3, fn=1, fp=1, tn=3)
    first = write_sample_size(Evidence(paths.root), goal_sensitivity=0.9)
    assert first.frame["num_goals_before"].tolist() == [0, 0]
    assert "stated AFTER there were results of Test" in first.markdown
    write_sample_size(Evidence(paths.root), goal_sensitivity=0.8, goal_specificity=0.7)
    table = write_sample_size(Evidence(paths.root), goal_sensitivity=0.75, goal_width=0.2)
    assert table.frame["num_goals_before"].tolist() == [2, 2]
    assert "CHANGED after there were results of Test: before this goal there was sensitivity 0.9" in table.markdown
    assert "sensitivity 0.8, specificity 0.7, width 0.1" in table.markdown
    kept = json.loads(paths.goals.read_text())
    assert [each["sensitivity"] for each in kept["history"]] == [0.9, 0.8]
    assert all(each["stated_at"] for each in kept["history"])


def test_a_goal_stated_before_test_is_judged_is_told_as_such(tmp_path: Path) -> None:
    paths = write_study(tmp_path, sections(tp=9, fn=1, fp=1, tn=9))
    select_thresholds(paths.root, SelectConfig())
    with pytest.raises(NothingToShowError):
        write_sample_size(Evidence(paths.root), goal_sensitivity=0.9)
    assert json.loads(paths.goals.read_text())["after_results"] is False
    study_of(tmp_path, tp=3, fn=1, fp=1, tn=3)
    table = write_sample_size(Evidence(paths.root))
    assert table.frame["goal_after_results"].tolist()[0] is False
    assert "AFTER" not in table.markdown


@pytest.mark.parametrize("counts", [{"tp": 3, "fn": 0, "fp": 0, "tn": 3}, {"tp": 3, "fn": 1, "fp": 1, "tn": 3}])
def test_slides_that_are_all_alike_have_no_design_effect_and_no_resampling_is_named(
    tmp_path: Path, counts: dict[str, int]
) -> None:
    table = write_sample_size(Evidence(study_of(tmp_path, **counts).root))
    assert table.frame["design_effect"].isna().all()
    assert table.frame["num_effective"].tolist() == [12, 12]
    assert "resamples of whole slides" not in table.markdown
    assert "Clopper and Pearson's bounds, each slide one trial" in table.markdown


@pytest.mark.parametrize(
    ("goals", "said"),
    [
        ({"goal_sensitivity": 1.0}, "goal of sensitivity is 1, expected"),
        ({"goal_specificity": 95.0}, "goal of specificity is 95, expected"),
        ({"goal_sensitivity": 0.9, "goal_width": 0.0}, "goal of width is 0, expected"),
        ({"goal_width": 0.1}, "give --goal-sensitivity"),
    ],
)
def test_a_goal_that_is_none_is_refused_and_not_kept(tmp_path: Path, goals: dict[str, float], said: str) -> None:
    paths = study_of(tmp_path, tp=3, fn=1, fp=1, tn=3)
    with pytest.raises(ConfigurationError, match=said):
        write_sample_size(Evidence(paths.root), **goals)
    assert not paths.goals.exists()


def test_a_damaged_file_of_goals_says_what_to_do(tmp_path: Path) -> None:
    paths = study_of(tmp_path, tp=3, fn=1, fp=1, tn=3)
    paths.goals.write_text('{"sensitivty": 0.9}')
    with pytest.raises(ConfigurationError, match=r"goals\.json: holds no goals .*sensitivty.* state them again"):
        write_sample_size(Evidence(paths.root))


def test_of_one_kind_the_other_figure_is_not_known(tmp_path: Path) -> None:
    paths = study_of(tmp_path, slides=1, tp=3, fn=1, fp=0, tn=0)
    table = write_sample_size(Evidence(paths.root), goal_specificity=0.9)
    row = table.frame.set_index("figure").loc["specificity"]
    assert (row["num_sections"], row["num_effective"]) == (0, 0)
    assert pd.isna(row["design_effect"])
    assert not row["is_reached"]
    assert "nan" not in table.markdown


def test_without_labels_it_says_so(tmp_path: Path) -> None:
    paths = write_study(tmp_path, [*sections(tp=9, fn=1, fp=1, tn=9), ledger_row(part="Test", label=None)])
    select_thresholds(paths.root, SelectConfig())
    with pytest.raises(NothingToShowError, match="needs labels: 0 of 1"):
        write_sample_size(Evidence(paths.root))
