"""One command says whether a model holds on a cohort, why, and what to do next; what cannot be judged is one line."""

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from cohort import write_model_file
from sites import write_cohort_of, write_model_of

from analysis.site_transfer.making import write_transfer
from analysis.site_transfer.thresholds import SiteThresholds
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.schemas import SCHEMAS
from bccdist.errors import BccdistError
from bccdist.models.cohort import unpack_model
from bccdist.models.model_file import REFERENCE, ModelFile, read_model, write_model
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import read_choices
from bccdist.sections.site_choice import SiteChoice
from benchmarks.sites import CHOSEN_ON, Site

LOW = Site(num_slides=40, score=-6.0)
"""All scores are lower."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return write_model_of(tmp_path_factory.mktemp("model"), CHOSEN_ON)


@pytest.fixture(scope="module")
def low(model: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    return write_cohort_of(tmp_path_factory.mktemp("low"), model, LOW)


@pytest.fixture(scope="module")
def unlabelled(model: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    return write_cohort_of(tmp_path_factory.mktemp("none"), model, Site(num_slides=12), labelled=lambda _: False)


def transfer(paths: StudyPaths, **options: object) -> str:
    return write_transfer(Evidence(paths.root), **options)  # type: ignore[arg-type]


def page_of(paths: StudyPaths) -> str:
    return html.unescape((paths.transfer / "transfer.html").read_text(encoding="utf-8"))


def test_a_site_whose_scores_are_lower_does_not_hold_and_its_own_thresholds_mend_it(
    model: ModelFile, low: StudyPaths
) -> None:
    said = transfer(low, model=model.path, goal_sensitivity=0.8)
    first, *_ = said.splitlines()
    assert first.startswith("Does not hold as it is: sensitivity 0.")
    assert "with thresholds of this site" in first
    site = SiteChoice.read(low.transfer / "site_choice.json")
    assert site.model_digest == model.digest
    assert site.t_p < model.description.selection.t_p
    assert "--site-choice" in said
    assert first in re.sub(r"\s+", " ", page_of(low))


def test_the_sites_choice_makes_the_cohorts_verdicts_and_the_page_says_so(model: ModelFile, low: StudyPaths) -> None:
    transfer(low, goal_sensitivity=0.8)
    shutil.copytree(low.root, copy := low.root.with_name("with-choice"))
    unpack_model(model, copy, site_choice=copy / "transfer" / "site_choice.json")
    paths = StudyPaths(copy)
    (choice,) = read_choices(paths)
    before, after = (Evidence(each.root).verdicts(Part.TEST) for each in (low, paths))
    assert set(after["site_choice"]) == {choice.site_choice} != {""} == set(before["site_choice"])
    assert (after["verdict"] == "Tumor").sum() > (before["verdict"] == "Tumor").sum()
    transfer(paths, goal_sensitivity=0.8)
    assert "Verdicts of this cohort are made at the site's thresholds" in page_of(paths)


def test_without_labels_and_without_a_difference_it_cannot_be_told_and_a_work_list_says_what_next(
    unlabelled: StudyPaths,
) -> None:
    said = transfer(unlabelled, num_next=10)
    assert said.startswith("Cannot be told with ")
    assert "auto-Normal is for review" in page_of(unlabelled)
    worklist = pd.read_csv(unlabelled.transfer / "worklist-001.csv")
    assert len(worklist) == 10
    assert {"random", "active"} <= set(worklist["drawn"]) <= {"random", "active", "both"}
    assert not (unlabelled.transfer / "site_choice.json").exists()


def test_a_work_list_that_is_filled_in_is_read_as_labels_of_which_the_random_ones_promise(
    model: ModelFile, tmp_path: Path
) -> None:
    paths = write_cohort_of(tmp_path / "cohort", model, LOW, labelled=lambda _: False)
    transfer(paths, num_next=80)
    filled = pd.read_csv(paths.transfer / "worklist-001.csv")
    labels = LOW.table(2, name="here").select(["slide_id", "section_id", "label"]).to_pandas()
    filled = filled.drop(columns="label").merge(labels, on=["slide_id", "section_id"])
    filled.to_csv(tmp_path / "filled.csv", index=False)
    assert transfer(paths, labels=tmp_path / "filled.csv").startswith("Does not hold")
    frame = pd.read_parquet(paths.transfer / "transfer_thresholds.parquet")
    assert set(frame["num_sections"]) == {80}
    assert set(frame["num_random"]) == {40}


def test_labels_that_are_swapped_are_said_to_be_perhaps_and_no_number_of_them_is_asked_for(
    model: ModelFile, tmp_path: Path
) -> None:
    paths = write_cohort_of(tmp_path / "cohort", model, Site(num_slides=40))
    assert "may be swapped" not in transfer(paths)
    others = {"Tumor": "Normal", "Normal": "Tumor"}
    rows = Site(num_slides=40).table(2, name="here").select(["slide_id", "section_id", "label"]).to_pylist()
    swapped = [f"{row['slide_id']},{row['section_id']},{others[row['label']]}" for row in rows]
    said = transfer(paths, labels=labels_file(tmp_path, swapped))
    assert said.startswith("Does not hold as it is")
    assert "Tumor and Normal may be swapped in the labels" in said
    assert "next: Check the labels first" in said
    assert "sections drawn at random, if as large a share" not in said
    assert "To promise it here" not in page_of(paths)


def test_labels_that_choose_the_models_thresholds_again_change_nothing_and_no_file_is_written(
    model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_cohort_of(tmp_path / "cohort", model, LOW)
    monkeypatch.setattr(SiteThresholds, "is_same", True)
    said = transfer(paths, goal_sensitivity=0.8)
    assert "these labels choose the model's own thresholds again, so that thresholds change nothing" in said
    assert "--site-choice" not in said
    assert "nothing changes, and no file is written" in page_of(paths)
    assert not (paths.transfer / "site_choice.json").exists()


def test_a_sites_choice_that_is_not_recommended_says_so(model: ModelFile, tmp_path: Path) -> None:
    paths = write_cohort_of(tmp_path / "cohort", model, Site(num_slides=12, score=-2.0))
    said = transfer(paths)
    assert said.startswith("Cannot be told")
    assert (paths.transfer / "site_choice.json").exists()
    assert "it is not recommended: while the answer is `cannot be told`" in said
    assert "it is not recommended" in page_of(paths)


def test_the_chance_of_being_called_alike_is_told_with_the_number_of_slides(unlabelled: StudyPaths) -> None:
    assert "a site of 12 slides without any shift would be called alike in " in transfer(unlabelled)


def test_slides_are_listed_with_their_share_only_where_they_drive_a_difference(
    model: ModelFile, unlabelled: StudyPaths, tmp_path: Path
) -> None:
    transfer(unlabelled)
    assert "No slide drives a difference; the 10 that lie furthest." in page_of(unlabelled)
    paths = write_cohort_of(tmp_path / "cohort", model, Site(num_slides=12, stain=3.0))
    transfer(paths)
    assert "Slides that drive the difference, the first " in page_of(paths)
    assert "<td>0.0%</td>" not in page_of(paths)


@pytest.mark.parametrize("name", ["transfer", "evidence"])
def test_help_names_the_command_that_was_typed(name: str) -> None:
    command = [sys.executable, f"analysis/{name}.py", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"usage: {name}.py ")
    assert "make.py" not in said


def test_every_table_is_described(low: StudyPaths) -> None:
    transfer(low)
    tables = [name for name in SCHEMAS if name.startswith("transfer_")]
    assert len(tables) == 4
    for name in tables:
        assert set(pq.read_schema(low.transfer / f"{name}.parquet").names) == set(SCHEMAS[name].columns)


def test_the_page_is_one_file_that_names_no_folder(low: StudyPaths) -> None:
    transfer(low)
    page = page_of(low)
    assert str(low.root) not in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)


def test_the_same_question_gives_the_same_answer(unlabelled: StudyPaths) -> None:
    assert transfer(unlabelled) == transfer(unlabelled)


def labels_file(folder: Path, rows: list[str]) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(["slide_id,section_id,label", *rows]) + "\n", encoding="utf-8")
    return path


def of_one_kind(paths: StudyPaths) -> list[str]:
    rows = Evidence(paths.root).sections_in_ledger
    return [f"{slide_id},{section_id},Normal" for slide_id, section_id in rows]


BAD_LABELS: dict[str, tuple[Callable[[StudyPaths], list[str]], str]] = {
    "an unknown slide": (
        lambda _: ["nowhere,s1,Tumor"],
        "1 of its 1 labelled sections are none of the cohort .*nowhere",
    ),
    "an unknown section": (lambda _: ["here-000,s99,Tumor"], "'s99' is none of its"),
    "one kind alone": (of_one_kind, "one kind alone: 0 Tumor and"),
    "too few": (lambda paths: of_one_kind(paths)[:2], "expected at least 5 of each"),
    "without labels": (lambda _: ["here-000,here-000-s0,"], "too few: 0 Tumor and 0 Normal"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_labels_that_say_nothing_are_one_line(unlabelled: StudyPaths, tmp_path: Path, name: str) -> None:
    rows, why = BAD_LABELS[name]
    with pytest.raises(BccdistError, match=why) as raised:
        transfer(unlabelled, labels=labels_file(tmp_path, rows(unlabelled)))
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_no_cohort_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(BccdistError, match="no cohort, as no model lies in it"):
        transfer(StudyPaths(tmp_path))


def test_another_model_is_refused(model: ModelFile, unlabelled: StudyPaths, tmp_path: Path) -> None:
    other = write_model_file(tmp_path, seed=3)
    with pytest.raises(BccdistError, match=f"cohort of another model.*{model.digest}.*{other.digest}"):
        transfer(unlabelled, model=other.path)


def test_a_cohort_without_rows_is_said_to_have_none(model: ModelFile, tmp_path: Path) -> None:
    paths = write_cohort_of(tmp_path / "cohort", model, Site(num_slides=2))
    shutil.rmtree(paths.ledger)
    with pytest.raises(BccdistError, match="no section ledger there"):
        transfer(paths)


def test_an_old_model_file_without_a_reference_is_refused(model: ModelFile, tmp_path: Path) -> None:
    old = tmp_path / "old.model"
    write_model(old, {name: model.read(name) for name in model.names() if name != REFERENCE}, model.description)
    paths = write_cohort_of(tmp_path / "cohort", read_model(old), Site(num_slides=3))
    with pytest.raises(BccdistError, match=f"no {REFERENCE} in it, so there is nothing to compare with"):
        transfer(paths)


def test_a_reference_of_before_quality_was_measured_is_said_to_lack_it(tmp_path: Path) -> None:
    old = write_model_of(tmp_path, replace(CHOSEN_ON, num_slides=20), has_features=False)
    paths = write_cohort_of(tmp_path / "cohort", old, Site(num_slides=8))
    said = transfer(paths)
    assert "Not measured, here or in the model file: focus, " in said
    assert "The model file lacks focus, " in said
    assert "--parts val1 val2 test --epochs chosen" in said
    assert "The cohort lacks" not in said


def test_a_model_of_drawn_slides_says_nothing_of_real_ones(tmp_path: Path) -> None:
    phantom = write_model_of(tmp_path, replace(CHOSEN_ON, num_slides=10), phantom=True)
    paths = write_cohort_of(tmp_path / "cohort", phantom, Site(num_slides=4))
    with pytest.raises(BccdistError, match="trained on drawn slides"):
        transfer(paths)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"goal_sensitivity": 1.0}, "goal_sensitivity is 1, expected above 0 and below 1"),
        ({"tolerance": 0.6}, "tolerance is 0.6, expected above 0 and below 0.5"),
        ({"num_next": -1}, "num_next is -1"),
    ],
)
def test_numbers_that_cannot_work_are_one_line(unlabelled: StudyPaths, options: dict[str, float], why: str) -> None:
    with pytest.raises(BccdistError, match=why):
        transfer(unlabelled, **options)
