"""Several readers: dealing, deciding between them, and how far each is."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from review_study import BLIND, PLAN, copied_study, given, listening, say, serving, worklist_of

from analysis.review.answers import GivenAs, read_journals
from analysis.review.gate import Access
from analysis.review.journal import Journal
from analysis.review.readers import Conflicts, assigned, in_conflict, progress_by_reader, study_progress
from analysis.review.server import make_app
from analysis.review.session import Session
from analysis.review.worklist import ReviewPlan, claim_plan
from bccdist.errors import ConfigurationError
from bccdist.paths import StudyPaths

LEFT, RIGHT = "test-0/test-0-left", "test-0/test-0-right"
NAMES = [f"section-{number}" for number in range(4000)]


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return copied_study(tmp_path)


@pytest.mark.parametrize(("num_readers", "overlap"), [(2, 0.2), (2, 0.0), (3, 0.5), (5, 1.0)])
def test_sections_are_dealt_with_the_stated_overlap(num_readers: int, overlap: float) -> None:
    readers = tuple(f"reader {number}" for number in range(num_readers))
    plan = ReviewPlan(readers=readers, overlap=overlap, seed=5)
    read_by = [[reader for reader in readers if plan.reads(reader, "slide", name)] for name in NAMES]
    counts = Counter(map(len, read_by))
    assert set(counts) <= {1, num_readers}
    assert counts[num_readers] / len(NAMES) == pytest.approx(overlap, abs=0.03)
    assert sum(plan.is_shared("slide", name) for name in NAMES) == counts[num_readers]
    for reader in readers:
        share = sum(reader in names for names in read_by) / len(NAMES)
        assert share == pytest.approx(overlap + (1 - overlap) / num_readers, abs=0.03)


def test_the_dealing_depends_on_the_seed_and_not_on_the_blind_share() -> None:
    plan = ReviewPlan(readers=("a", "b"), overlap=0.2, seed=1)

    def dealt(plan: ReviewPlan) -> list[bool]:
        return [plan.reads("a", "slide", name) for name in NAMES]

    assert dealt(plan) == dealt(replace(plan, blind_share=0.9))
    assert dealt(plan) != dealt(replace(plan, seed=2))
    shares = Counter((plan.is_blind("slide", name), plan.reads("a", "slide", name)) for name in NAMES)
    blind_of_a = shares[True, True] / (shares[True, True] + shares[False, True])
    assert blind_of_a == pytest.approx(0.2, abs=0.03)


def test_every_section_is_somebodys_and_nobody_else_reads(paths: StudyPaths) -> None:
    plan = replace(PLAN, readers=("anna", "bert"), overlap=0.3)
    worklist = worklist_of(paths, plan)
    mine = {name: {each.key for each in assigned(worklist, name).sections} for name in plan.readers}
    assert mine["anna"] | mine["bert"] == {each.key for each in worklist.sections}
    assert mine["anna"] != mine["bert"]
    with pytest.raises(ConfigurationError, match="dealt to anna, bert, and 'carl' is none of them"):
        assigned(worklist, "carl")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"overlap": 0.5}, "dealt to two or more"),
        ({"overlap": 0.5, "readers": ("a", "a")}, "dealt to two or more"),
        ({"overlap": -0.1, "readers": ("a", "b")}, "overlap is -0.1, expected 0 to 1"),
        ({"readers": ("Dr. A", "Dr. B", "dr a")}, "name each reader once"),
        ({"conflict_answers": "both"}, "expected hidden or shown"),
    ],
)
def test_plans_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ReviewPlan(**fields)


def test_the_plan_of_readers_is_the_same_for_all_and_a_plan_of_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "review.json"
    for readers in ([], ["a"], ["a", "a"]):
        with pytest.raises(ConfigurationError, match=r"expected two or more names.*leave --readers out"):
            claim_plan(path, order=None, blind_share=None, seed=None, readers=readers)
    assert not path.exists()
    first = claim_plan(path, order=None, blind_share=None, seed=None, readers=["a", "b"], overlap=0.1)
    assert claim_plan(path, order=None, blind_share=None, seed=None) == first
    assert (first.readers, first.overlap) == (("a", "b"), 0.1)
    with pytest.raises(ConfigurationError, match=r"overlap is 0\.1, not 0\.2"):
        claim_plan(path, order=None, blind_share=None, seed=None, overlap=0.2)
    path.write_text(json.dumps({"order": "distance", "blind_share": 0.3, "seed": 1}))
    assert claim_plan(path, order=None, blind_share=None, seed=None) == ReviewPlan(
        order="distance", blind_share=0.3, seed=1
    )
    path.write_text(json.dumps({"order": "slide", "blind_share": 0.3, "seed": 1, "readers": ["a"]}))
    assert claim_plan(path, order=None, blind_share=None, seed=None, readers=["a"]).readers == ("a",)
    path.write_text(json.dumps({"order": "slide", "pace": 3}))
    with pytest.raises(ConfigurationError, match="unknown fields pace"):
        claim_plan(path, order=None, blind_share=None, seed=None)


def differ(paths: StudyPaths) -> None:
    """Anna and Bert differ on two sections, and agree on a third."""
    say(paths, "anna", given(LEFT, "Tumor", comment="nest"), given(RIGHT, "unsure"), given(BLIND, "Tumor"))
    say(paths, "bert", given(LEFT, "Normal"), given(RIGHT, "Normal"), given(BLIND, "Tumor"))


@contextmanager
def deciding(paths: StudyPaths, reviewer: str, plan: ReviewPlan = PLAN) -> Iterator[httpx.Client]:
    """The page of somebody who decides."""
    conflicts = Conflicts(worklist_of(paths, plan), reviewer)
    with Journal(paths, reviewer) as journal:
        app = make_app(Session(conflicts.worklist, journal, conflicts), Access(port=0, names=frozenset({"127.0.0.1"})))
        with listening(app) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield client


def listed(client: httpx.Client) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in client.get("/api/sections").json()["sections"]}


def test_a_third_decides_where_two_differ_with_their_answers_hidden_until_then(paths: StudyPaths) -> None:
    differ(paths)
    with deciding(paths, "carl") as carl:
        assert carl.get("/api/study").json()["decides"]
        assert listed(carl).keys() == {LEFT, RIGHT}
        assert [each["others"] for each in listed(carl).values()] == [None, None]
        carl.post("/api/answers", json={"id": LEFT, "answer": "unsure"})
        assert listed(carl)[LEFT]["others"] is None
        carl.post("/api/answers", json={"id": LEFT, "answer": "Tumor"})
        assert listed(carl)[LEFT]["others"] == [
            {"reviewer": "anna", "answer": "Tumor", "comment": "nest"},
            {"reviewer": "bert", "answer": "Normal", "comment": ""},
        ]
        assert listed(carl)[RIGHT]["others"] is None
    decisions = [(each.key, each.answer, each.given_as) for each in read_journals(paths)[-1].answers]
    assert decisions == [(LEFT, "unsure", "decision"), (LEFT, "Tumor", "decision")]


def test_conflicts_that_come_up_or_are_settled_while_the_page_is_open_are_there_at_once(paths: StudyPaths) -> None:
    differ(paths)
    beside = "val1-0/val1-0-left"
    with deciding(paths, "carl") as carl:
        version = carl.get("/api/history").json()["list"]
        carl.post("/api/answers", json={"id": LEFT, "answer": "Tumor"})
        assert carl.get("/api/history").json()["list"] == version, "what Carl says himself changes no list"
        say(paths, "anna", given(beside, "Tumor"))
        say(paths, "bert", given(beside, "Normal"), given(RIGHT, "unsure"))
        assert carl.get("/api/history").json()["list"] != version
        assert listed(carl).keys() == {LEFT, beside}
        assert carl.post("/api/answers", json={"id": beside, "answer": "Normal"}).status_code == 200
        assert carl.get("/tiles/val1-0/8/0_0.jpeg").status_code == 200
        assert carl.post("/api/answers", json={"id": RIGHT, "answer": "Normal"}).status_code == 404
        # All are settled: the page keeps what it shows.
        say(paths, "bert", given(beside, "Tumor"), given(LEFT, "Tumor"))
        assert listed(carl).keys() == {LEFT, beside}


def test_a_blind_section_in_a_conflict_that_comes_up_later_is_shown_after_its_decision(paths: StudyPaths) -> None:
    differ(paths)
    with deciding(paths, "carl") as carl:
        say(paths, "bert", given(BLIND, "Normal"))
        assert not listed(carl)[BLIND]["revealed"]
        carl.post("/api/answers", json={"id": BLIND, "answer": "Normal"})
        assert listed(carl)[BLIND]["revealed"]


def test_a_reader_who_decides_sees_no_slide_of_which_their_own_blind_sections_are_open(paths: StudyPaths) -> None:
    """Anna, Bert and Carl read; on the blind section's slide Carl decides about the other one."""
    plan, beside = replace(PLAN, readers=("anna", "bert", "carl")), "test-1/test-1-right"
    say(paths, "anna", given(beside, "Tumor"))
    say(paths, "bert", given(beside, "Normal"))
    with deciding(paths, "carl", plan) as carl:
        assert (listed(carl)[beside]["revealed"], listed(carl)[beside]["num_blind_left"]) == (False, 1)
    with deciding(paths, "dora", plan) as dora:
        assert listed(dora)[beside]["revealed"]


def test_the_plan_can_show_the_answers_to_whoever_decides(paths: StudyPaths) -> None:
    differ(paths)
    with deciding(paths, "carl", replace(PLAN, conflict_answers="shown")) as carl:
        assert {each["reviewer"]: each["answer"] for each in listed(carl)[RIGHT]["others"]} == {
            "anna": "unsure",
            "bert": "Normal",
        }


def test_a_reader_is_never_shown_what_others_said(paths: StudyPaths) -> None:
    differ(paths)
    with serving(paths, "carl", replace(PLAN, conflict_answers="shown")) as carl:
        assert {each["others"] for each in listed(carl).values()} == {None}
        assert "nest" not in carl.get("/api/sections").text + carl.get("/api/readers").text


def test_who_differs_does_not_decide_and_what_is_decided_is_no_conflict_any_more(paths: StudyPaths) -> None:
    differ(paths)
    worklist = worklist_of(paths)
    with pytest.raises(ConfigurationError, match=r"differ on 2 undecided section\(s\).*'anna' is one of the readers"):
        in_conflict(worklist, read_journals(paths), "anna")
    decision = given(LEFT, "Tumor", given_as=GivenAs.DECISION)
    say(paths, "carl", decision)
    assert [each.key for each in in_conflict(worklist, read_journals(paths), "dora").sections] == [RIGHT]
    # Carl sees it again, to correct it; an unsure decision leaves it to others.
    assert len(in_conflict(worklist, read_journals(paths), "carl").sections) == 2
    say(paths, "carl", given(LEFT, "unsure", given_as=GivenAs.DECISION))
    assert len(in_conflict(worklist, read_journals(paths), "dora").sections) == 2


@pytest.mark.parametrize(
    "answers_of_bert",
    [(), ("Tumor", "Normal"), ("unsure", "Normal")],
    ids=["one reader alone", "they agree", "the one conflict is decided"],
)
def test_where_readers_differ_on_nothing_that_is_undecided_there_is_no_conflict(
    paths: StudyPaths, answers_of_bert: tuple[str, ...]
) -> None:
    say(paths, "anna", given(LEFT, "Tumor"), given(RIGHT, "Normal"))
    worklist = worklist_of(paths)
    if answers_of_bert:
        say(paths, "bert", *(given(key, said) for key, said in zip((LEFT, RIGHT), answers_of_bert, strict=True)))
    if "unsure" in answers_of_bert:
        assert [each.key for each in in_conflict(worklist, read_journals(paths), "dora").sections] == [LEFT]
        say(paths, "carl", given(LEFT, "Tumor", given_as=GivenAs.DECISION))
    # Who has read them and who has not are told the same: it is nobody's fault.
    for name in ("anna", "dora"):
        with pytest.raises(ConfigurationError, match="there is no conflict: readers differ on no undecided section"):
            in_conflict(worklist, read_journals(paths), name)


def test_the_lead_sees_how_far_each_reader_is_and_not_what_they_said(paths: StudyPaths) -> None:
    plan = replace(PLAN, readers=("anna", "bert", "dora"), overlap=1.0)
    differ(paths)
    say(paths, "anna", given("test-1/test-1-right", "Tumor", is_hasty=True, given_as=GivenAs.REST))
    say(paths, "carl", given(LEFT, "Tumor", given_as=GivenAs.DECISION))
    rows = progress_by_reader(worklist_of(paths, plan), read_journals(paths))
    assert [row["reader"] for row in rows] == ["anna", "bert", "dora", "carl"]
    assert [(row["num"], row["num_answered"], row["num_decisions"]) for row in rows] == [
        (10, 4, 0),
        (10, 3, 0),
        (10, 0, 0),
        (0, 0, 1),
    ]
    anna = rows[0]
    assert (anna["num_blind"], anna["num_blind_answered"], anna["num_unsure"]) == (1, 1, 1)
    assert (anna["num_hasty"], anna["num_rest"]) == (1, 1)
    with serving(paths, "anna", plan) as client:
        assert client.get("/api/readers").json()["readers"] == rows
    assert "Tumor" not in json.dumps(rows)


def test_progress_is_printed_without_a_server(paths: StudyPaths) -> None:
    parts = [each.part for each in worklist_of(paths).sections]
    with pytest.raises(ConfigurationError, match="nobody has begun to review this study"):
        study_progress(paths.root, parts)
    claim_plan(paths.review_plan, order=None, blind_share=0.0, seed=None)
    differ(paths)
    text = study_progress(paths.root, parts)
    assert "anna: 3 of 10 sections answered, 0 of 0 blind ones; 1 unsure" in text
    assert text.endswith("2 section(s) on which readers differ are undecided (--conflicts)")
