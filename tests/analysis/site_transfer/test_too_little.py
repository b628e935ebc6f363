"""What a cohort cannot show is said first, with a step that can work: too few slides, sections not assessable."""

import html
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sites import write_cohort_of, write_model_of

from analysis.site_transfer.making import write_transfer
from analysis.site_transfer.shift import find_shift
from analysis.study_evidence.evidence import Evidence
from bccdist.errors import BccdistError
from bccdist.models.model_file import ModelFile
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import write_rows
from bccdist.sections.site_choice import SiteChoice
from bccdist.slides.manifest import read_manifest
from benchmarks.sites import CHOSEN_ON, Site

LOW = Site(num_slides=40, score=-6.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return write_model_of(tmp_path_factory.mktemp("model"), replace(CHOSEN_ON, num_slides=20))


def transfer(paths: StudyPaths, **options: object) -> str:
    return write_transfer(Evidence(paths.root), **options)  # type: ignore[arg-type]


def page_of(paths: StudyPaths) -> str:
    return html.unescape((paths.transfer / "transfer.html").read_text(encoding="utf-8"))


def labels_file(folder: Path, rows: list[str]) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(["slide_id,section_id,label", *rows]) + "\n", encoding="utf-8")
    return path


def write_site(
    root: Path, model: ModelFile, num_slides: int, *, closed: Callable[[int], str] = lambda _: ""
) -> StudyPaths:
    """A cohort of a made-up site without labels; `closed` says by a section's number why it is not assessable."""
    paths = write_cohort_of(root, model, Site(num_slides=num_slides, sections_each=5), labelled=lambda _: False)
    network, number = model.description.network, 0
    for slide in read_manifest(root / "slides.csv").slides:
        path = paths.ledger_rows(network.setting, network.epoch, slide.slide_id)
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            row["not_assessable"] = closed(number)
            number += 1
        write_rows(path, rows)
    return paths


BLURRED = "out of focus: -0.84, reference slides -0.32 to 0.10"


def said_lines(said: str, kind: str) -> list[str]:
    return [line.removeprefix(f"{kind}: ") for line in said.splitlines() if line.startswith(f"{kind}: ")]


def test_one_slide_cannot_be_compared_and_all_that_is_said_is_to_apply_more(model: ModelFile, tmp_path: Path) -> None:
    said = transfer(write_site(tmp_path / "cohort", model, 1))
    assert said.startswith("Cannot be told with ")
    assert said_lines(said, "why") == ["One slide cannot be compared: a group needs two slides or more."]
    (step,) = said_lines(said, "next")
    assert step.startswith("Apply the model to at least 4 more slide(s) of this site")
    assert "Not measured" not in said + page_of(StudyPaths(tmp_path / "cohort"))


def test_what_one_slide_alone_has_is_not_said_to_be_not_measured() -> None:
    reference, here = CHOSEN_ON.sections(1), Site(num_slides=8).sections(2)
    first = here.frame["slide_id"] == here.frame["slide_id"].iloc[0]
    found = find_shift(reference, replace(here, frame=here.frame.assign(focus=here.frame["focus"].where(first))))
    assert found.too_few == ("focus",)
    assert not found.not_measured
    assert not found.is_refuted


def test_a_cohort_that_is_not_assessable_does_not_hold_and_asks_for_no_label(model: ModelFile, tmp_path: Path) -> None:
    paths = write_site(tmp_path / "cohort", model, 6, closed=lambda _: BLURRED)
    said = transfer(paths)
    num = len(Evidence(paths.root).sections_in_ledger)
    closed = f"{num} of {num} sections are not assessable (out of focus): rescan"
    assert said.startswith(f"Does not hold where nothing can be said: {closed}.\n")
    assert said_lines(said, "why")[0] == f"{closed}."
    assert closed in page_of(paths)
    assert "No measure of the pictures differs" not in said
    assert "Label " not in said
    assert said_lines(said, "next")[0].startswith("Scan or prepare these slides anew")
    assert not list(paths.transfer.glob("worklist-*.csv"))


def test_sections_that_are_not_assessable_do_not_come_onto_the_work_list(model: ModelFile, tmp_path: Path) -> None:
    paths = write_site(tmp_path / "cohort", model, 12, closed=lambda number: BLURRED if number % 5 == 0 else "")
    said = transfer(paths, num_next=400)
    assert "Does not hold where" not in said, "a fifth is below the share from which on it does not hold"
    rows = pd.concat([pd.read_parquet(path) for path in sorted(paths.ledger.rglob("*.parquet"))])
    closed = set(rows.loc[rows["not_assessable"] != "", "section_id"])
    listed = set(pd.read_csv(paths.transfer / "worklist-001.csv")["section_id"])
    assert listed == set(rows["section_id"]) - closed
    assert said_lines(said, "why")[0].startswith(f"{len(closed)} of {len(rows)} sections are not assessable")


def test_a_third_that_is_not_assessable_does_not_hold_whatever_the_others_say(
    model: ModelFile, tmp_path: Path
) -> None:
    said = transfer(
        write_site(tmp_path / "cohort", model, 12, closed=lambda number: BLURRED if number % 3 == 0 else "")
    )
    assert said.startswith("Does not hold where nothing can be said: ")
    assert ": rescan. Beside that: " in said.splitlines()[0]


def test_too_few_slides_for_any_label_to_count_is_said_before_one_is_labelled(
    model: ModelFile, tmp_path: Path
) -> None:
    paths = write_site(tmp_path / "cohort", model, 3, closed=lambda number: BLURRED if number == 0 else "")
    said = transfer(paths)
    assert "next: Apply the model to at least 2 more slide(s) of this site, into the same cohort" in said
    assert "of 3 no number of labels is enough. Label none before that." in said
    assert not list(paths.transfer.glob("worklist-*.csv"))
    with pytest.raises(BccdistError, match="one kind alone") as raised:
        transfer(
            paths,
            labels=labels_file(
                tmp_path, [f"{slide},{section},Normal" for slide, section in Evidence(paths.root).sections_in_ledger]
            ),
        )
    assert "; 1 more with a label are left out, as they are not assessable; apply the model to at least 2 more" in str(
        raised.value
    )
    assert "without --labels" not in str(raised.value)


@pytest.mark.slow
def test_a_sites_choice_is_told_with_its_place_and_a_run_without_labels_keeps_it(
    model: ModelFile, tmp_path: Path
) -> None:
    paths = write_cohort_of(tmp_path / "cohort", model, Site(num_slides=40, score=-6.0), labelled=lambda _: False)
    rows = LOW.table(2, name="here").select(["slide_id", "section_id", "label"]).to_pylist()
    labels = labels_file(tmp_path, [",".join(row.values()) for row in rows])
    said = transfer(paths, labels=labels, goal_sensitivity=0.8)
    place = paths.transfer / "site_choice.json"
    site = SiteChoice.read(place)
    assert f"next: {place} was written: the thresholds that these labels choose, {site.thresholds}" in said
    assert f"--site-choice {place}" in said
    assert f"note: {place} is of labels of an earlier run" in transfer(paths)
    assert SiteChoice.read(place) == site


@pytest.mark.slow
def test_what_no_number_of_labels_promises_is_said_and_no_label_is_asked_for(model: ModelFile, tmp_path: Path) -> None:
    site = Site(num_slides=40, mixing=0.6)
    paths = write_cohort_of(tmp_path / "cohort", model, site, labelled=lambda number: number % 2 == 0)
    rows = site.table(2, name="here").select(["slide_id", "section_id", "label"]).to_pylist()
    given = labels_file(tmp_path, [",".join(row.values()) for row in rows[::2]])
    said = transfer(paths, labels=given, drawn="random", goal_sensitivity=0.6)
    assert "A sensitivity of 0.6 is not promised by any number of labels at the model's thresholds: " in said
    assert "next: More labels do not lead to the goal" in said
    assert "next: Label " not in said
    assert "more than there are" not in said


def test_labels_of_other_slides_are_left_out_with_a_note(model: ModelFile, tmp_path: Path) -> None:
    paths = write_cohort_of(tmp_path / "cohort", model, LOW, labelled=lambda _: False)
    rows = LOW.table(2, name="here").select(["slide_id", "section_id", "label"]).to_pylist()
    own = [",".join(row.values()) for row in rows]
    labels = labels_file(tmp_path, [*own, "elsewhere-1,e1,Tumor", "elsewhere-2,e2,Normal"])
    note = f"2 of the {len(own) + 2} labels of {labels} name slides that are not in this cohort: elsewhere"
    assert f"note: {note}-1, elsewhere-2." in transfer(paths, labels=labels)
    assert "name slides that are not in this cohort" in page_of(paths)


def test_a_share_of_cases_that_is_small_is_explained(model: ModelFile, tmp_path: Path) -> None:
    said = transfer(write_site(tmp_path / "cohort", model, 3))
    assert "in 0% of cases: so few slides can hardly show that nothing differs, even where nothing does." in said
