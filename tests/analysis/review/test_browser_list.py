"""The list of sections in a real browser: what is listed, what comes next, and how soon it is there."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chromium import Browser, running_browser
from review_study import SETTING, copied_study, given, listening, say, worklist_of
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from analysis.review.answers import GivenAnswer, read_journals
from analysis.review.gate import Access
from analysis.review.journal import Journal
from analysis.review.readers import in_conflict
from analysis.review.server import make_app
from analysis.review.session import Session
from analysis.review.worklist import ReviewPlan
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import SCHEMA

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NUM_SECTIONS = 2000
PLAN = ReviewPlan(blind_share=0.2, seed=3)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return copied_study(tmp_path)


def serve(
    stack: ExitStack, paths: StudyPaths, reviewer: str, *, plan: ReviewPlan = PLAN, decides: bool = False
) -> str:
    """The address of a reviewer's page."""
    worklist = worklist_of(paths, plan)
    if decides:
        worklist = in_conflict(worklist, read_journals(paths), reviewer)
    journal = stack.enter_context(Journal(paths, reviewer))
    access = Access(port=0, names=frozenset({"127.0.0.1"}))
    port = stack.enter_context(listening(make_app(Session(worklist, journal), access)))
    return f"http://127.0.0.1:{port}/"


def answers(paths: StudyPaths) -> list[GivenAnswer]:
    return [answer for said in read_journals(paths) for answer in said.answers]


def ready(browser: Browser) -> list[dict[str, Any]]:
    """The sections that were ready since `forget`, with how long each took in ms."""
    script = (
        "return performance.getEntriesByName('section ready').map(({ detail, duration }) => ({ detail, duration }))"
    )
    return list(browser.run(script))


def forget(browser: Browser) -> None:
    browser.run("performance.clearMeasures()")


def open_page(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.wait(lambda: ready(browser), "the first section is ready")


def rows(browser: Browser) -> list[str]:
    script = "return [...document.querySelectorAll('.row')].map(({ dataset }) => dataset.id)"
    return list(browser.run(script))


def name(browser: Browser) -> str:
    return str(browser.run("return decodeURIComponent(location.hash.slice(1))"))


def choose(browser: Browser, element_id: str, value: str) -> None:
    script = """
        const input = document.getElementById(given[0]);
        input.value = given[1];
        for (const kind of ["input", "change"]) input.dispatchEvent(new Event(kind, { bubbles: true }));
    """
    browser.run(script, element_id, value)


def test_j_and_k_follow_the_list_as_it_is_shown(browser: Browser, stack: ExitStack, paths: StudyPaths) -> None:
    open_page(browser, serve(stack, paths, "anna", plan=ReviewPlan(order="random", seed=2)))
    by_order = rows(browser)
    browser.find("by-slide").click()
    by_slide = rows(browser)
    assert by_slide != by_order
    assert [key.split("/")[0] for key in by_slide] == sorted(key.split("/")[0] for key in by_slide)
    # A hand scrolls first: the driver would hit the head that stays above the rows of a slide.
    browser.run("document.querySelector(`[data-id='${given[0]}']`).click()", by_slide[0])
    walked = [name(browser)]
    for _ in by_slide[1:]:
        browser.press("j")
        walked.append(name(browser))
    assert walked == by_slide
    browser.press("k")
    assert name(browser) == by_slide[-2]
    choose(browser, "search", "test-0")
    listed = rows(browser)
    assert {key.split("/")[0] for key in listed if key != by_slide[-2]} == {"test-0"}
    browser.press("k", "k")
    assert name(browser) == listed[-3]
    browser.press("t", " ")
    assert name(browser).startswith("test-0/")
    browser.find("filters-clear").click()
    assert sorted(rows(browser)) == sorted(by_order)


def test_a_step_touches_the_two_rows_that_change_alone(browser: Browser, stack: ExitStack, paths: StudyPaths) -> None:
    open_page(browser, serve(stack, paths, "anna"))
    browser.run("document.querySelectorAll('.row').forEach((row) => (row.isOld = true))")
    was = name(browser)
    browser.press("j")
    new = "return [...document.querySelectorAll('.row')].filter((row) => !row.isOld).map(({ dataset }) => dataset.id)"
    assert sorted(browser.run(new)) == sorted([was, name(browser)])


def test_the_next_slides_regions_are_at_hand_and_its_annotations_where_they_are_shown(
    browser: Browser, stack: ExitStack, paths: StudyPaths
) -> None:
    open_page(browser, serve(stack, paths, "anna", plan=ReviewPlan(blind_share=0.0)) + "#test-0/test-0-right")
    asked = "return performance.getEntriesByType('resource').map(({ name }) => new URL(name).pathname)"
    following = f"/api/regions/{SETTING}/test-1"
    browser.find("by-slide").click()
    browser.driver.find_element(By.CSS_SELECTOR, '[data-id="test-0/test-0-right"]').click()
    browser.wait(lambda: following in browser.run(asked), "the next slide's regions are fetched ahead")
    assert not [each for each in browser.run(asked) if each.startswith("/api/annotations")]
    forget(browser)
    browser.driver.find_element(By.CSS_SELECTOR, '[data-id="test-1/test-1-right"]').click()
    browser.wait(lambda: ready(browser), "it is there")
    assert "on this slide" in browser.text("regions-text")
    assert browser.run(asked).count(following) == 1, "once, ahead"
    browser.find("show-annotations").click()
    browser.wait(lambda: "/api/annotations/test-1" in browser.run(asked), "asked for once they are shown")


def test_the_next_slides_heat_is_at_hand_where_it_is_shown(
    browser: Browser, stack: ExitStack, paths: StudyPaths
) -> None:
    """And of a slide that no model has seen, such as test-2, none is asked for."""
    open_page(browser, serve(stack, paths, "anna", plan=ReviewPlan(blind_share=0.0)) + "#test-0/test-0-right")
    names = "return performance.getEntriesByType('resource').map(({ name }) => name)"

    def whole_slides() -> list[str]:
        found = [
            re.search(r"/api/heatmap/\w+/([\w-]+)/psi_4\?x=0&y=0&.*max_px=1024$", name) for name in browser.run(names)
        ]
        return [each[1] for each in found if each]

    browser.find("by-slide").click()
    assert whole_slides() == []
    browser.find("show-heatmap").click()
    browser.driver.find_element(By.CSS_SELECTOR, '[data-id="test-0/test-0-right"]').click()
    browser.wait(lambda: whole_slides() == ["test-0", "test-1"], "the next slide's heat is fetched ahead")
    forget(browser)
    browser.driver.find_element(By.CSS_SELECTOR, '[data-id="test-1/test-1-right"]').click()
    browser.wait(lambda: ready(browser), "it is there")
    assert whole_slides().count("test-1") == 1, "once, ahead"
    assert "test-2" not in whole_slides()


def test_an_answer_lets_go_of_what_was_fetched_before_it(
    browser: Browser, stack: ExitStack, paths: StudyPaths
) -> None:
    """The regions of a blind section that was answered are among its slide's, though these were fetched before."""
    open_page(browser, serve(stack, paths, "anna") + "#test-0/test-0-right")
    browser.find("by-slide").click()
    browser.driver.find_element(By.CSS_SELECTOR, '[data-id="test-1/test-1-left"]').click()
    assert browser.find("blind-note").is_displayed()
    browser.press("t", "k")
    browser.wait(lambda: len(answers(paths)) == 1, "it is kept")
    browser.wait(lambda: not browser.find("outbox").is_displayed(), "all is sent")
    forget(browser)
    browser.press("j")
    browser.wait(lambda: ready(browser), "it is there")
    said = browser.wait(lambda: browser.text("viewed"), "the verdict is shown")
    assert "Tumor" in said or "Normal" in said


def test_filters_and_search_list_what_they_say(browser: Browser, stack: ExitStack, paths: StudyPaths) -> None:
    open_page(browser, serve(stack, paths, "anna"))
    every = rows(browser)
    known = {
        each["id"]: each
        for each in httpx.get(browser.run("return location.origin") + "/api/sections").json()["sections"]
    }
    blind = [key for key in every if known[key]["blind"]]
    assert blind
    assert every[: len(blind)] == blind, "blind ones come first"

    def listed(element_id: str, value: str) -> set[str]:
        choose(browser, element_id, value)
        found = set(rows(browser)) - {name(browser)}
        browser.find("filters-clear").click()
        return found

    current = name(browser)
    assert listed("filter-state", "blind") == set(blind) - {current}
    verdicts = {key: each["verdicts"][SETTING]["verdict"] for key, each in known.items() if each.get("verdicts")}
    for verdict in ("Tumor", "Normal"):
        assert listed("filter-verdict", verdict) == {key for key in verdicts if verdicts[key] == verdict} - {current}
    assert listed("search", "TEST-1 right") == {"test-1/test-1-right"} - {current}
    shifts = {key: known[key]["verdicts"][SETTING]["flip_shift"] for key in verdicts}
    most = sorted(shifts.values())[2]
    assert listed("filter-shift", str(most)) == {key for key, shift in shifts.items() if shift <= most} - {current}
    assert browser.text("list-count") == ""


def test_the_rest_of_a_slide_is_confirmed_and_taken_back_in_one_step_also_after_a_reload(
    browser: Browser, stack: ExitStack, paths: StudyPaths
) -> None:
    open_page(browser, serve(stack, paths, "anna") + "#test-0/test-0-right")
    assert browser.text("confirm-rest") == "Confirm the rest of this slide (2) A"
    browser.press("a")
    browser.wait(lambda: len(answers(paths)) == 2, "both are confirmed")
    browser.wait(lambda: "saved" in browser.text("answer-state"), "it is said")
    assert browser.text("undone") == "2 confirmed."
    assert {(each.slide_id, each.given_as, each.is_hasty) for each in answers(paths)} == {
        ("test-0", "rest of the slide", False)
    }
    assert not browser.find("confirm-rest").is_displayed()
    browser.driver.refresh()
    browser.wait(lambda: "saved" in browser.text("answer-state"), "the page is there again")
    browser.press("z")
    browser.wait(lambda: browser.text("answer-state").startswith("No answer yet"), "it is taken back")
    assert read_journals(paths)[0].latest == {}
    browser.press("z")
    browser.wait(lambda: browser.text("undone") == "There is no step to take back.", "it was one step")


def test_a_slide_is_blind_until_its_blind_section_is_answered_and_says_so(
    browser: Browser, stack: ExitStack, paths: StudyPaths
) -> None:
    open_page(browser, serve(stack, paths, "anna", plan=ReviewPlan(order="distance", seed=3)) + "#test-1/test-1-right")
    assert browser.text("blind-note").startswith("This slide is blind until you have answered its blind section;")
    assert browser.text("known-content") == "Not shown before your answer."
    assert not browser.find("confirm-rest").is_displayed()
    before = rows(browser)
    browser.driver.find_element(By.CSS_SELECTOR, '[data-id="test-1/test-1-left"]').click()
    browser.press("t")
    browser.wait(lambda: not browser.find("blind-note").is_displayed(), "the slide is open")
    browser.wait(lambda: rows(browser) != before, "its other section has its place in the list by distance")
    assert rows(browser)[:2] == ["test-1/test-1-left", "test-1/test-1-right"]
    browser.press("j")
    assert not browser.find("blind-note").is_displayed()
    browser.wait(lambda: "resnet34_ds" in browser.text("known-content"), "its verdict is shown")


def test_a_key_that_is_hit_twice_is_marked_and_unsure_reveals_nothing(
    browser: Browser, stack: ExitStack, paths: StudyPaths
) -> None:
    open_page(browser, serve(stack, paths, "anna"))
    browser.run("document.getElementById('go-on').click()")
    first, second = rows(browser)[:2]
    browser.run(
        "for (const key of ['?', 't']) document.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))"
    )
    browser.wait(lambda: len(answers(paths)) == 2, "both are kept")
    assert [(each.key, each.is_hasty) for each in answers(paths)] == [(first, False), (second, True)]
    marks = browser.wait(
        lambda: browser.driver.find_elements(By.CSS_SELECTOR, f'[data-id="{second}"] .hasty'), "the row is marked"
    )
    assert [mark.text for mark in marks] == ["fast"]
    browser.driver.find_element(By.CSS_SELECTOR, f'[data-id="{first}"]').click()
    assert browser.find("blind-note").is_displayed()
    assert browser.text("known-content") == "Not shown before your answer."


def test_settings_are_kept_over_a_reload(browser: Browser, stack: ExitStack, paths: StudyPaths) -> None:
    open_page(browser, serve(stack, paths, "anna"))
    browser.find("by-slide").click()
    browser.find("go-on").click()
    browser.find("show-heatmap").click()
    for element_id, value in (("opacity", "0.3"), ("tp", "0.7"), ("filter-state", "blind"), ("setting", "unet")):
        choose(browser, element_id, value)
    choose(browser, "tp", "0.7")
    browser.driver.refresh()
    browser.wait(lambda: ready(browser), "the page is there again")
    values = {each: browser.find(each).get_property("value") for each in ("opacity", "tp", "filter-state", "setting")}
    assert values == {"opacity": "0.3", "tp": "0.7", "filter-state": "blind", "setting": "unet"}
    assert browser.find("go-on").is_selected()
    assert browser.find("show-heatmap").is_selected()
    assert browser.find("by-slide").get_attribute("aria-pressed") == "true"


def test_a_link_opens_the_section_in_a_colleagues_own_session(
    browser: Browser, stack: ExitStack, paths: StudyPaths
) -> None:
    open_page(browser, serve(stack, paths, "anna") + "#test-0/test-0-right")
    assert name(browser) == "test-0/test-0-right"
    link = browser.run("const { linkTo } = await import('/static/links.js'); return linkTo('test-0/test-0-right')")
    assert "anna" not in link
    assert "token" not in link
    open_page(browser, serve(stack, paths, "bert"))
    assert name(browser) != "test-0/test-0-right"
    choose(browser, "search", link)
    browser.wait(lambda: name(browser) == "test-0/test-0-right", "the pasted link is followed")
    assert browser.find("search").get_property("value") == ""
    choose(browser, "search", link.replace("test-0-right", "nowhere"))
    assert "test-0/nowhere is not among your sections" in browser.text("problem-text")
    browser.run("location.hash = '#test-1%2Ftest-1-right'")
    browser.wait(lambda: browser.text("section-name") == "test-1-right", "a link in the address is followed, too")


def test_the_gallery_shows_the_tissue_of_what_is_listed(
    browser: Browser, stack: ExitStack, paths: StudyPaths, tmp_path: Path
) -> None:
    open_page(browser, serve(stack, paths, "anna"))
    browser.press("G")
    cards = browser.driver.find_elements(By.CSS_SELECTOR, ".gallery-card")
    assert len(cards) == len(rows(browser))
    drawn = "return document.querySelectorAll('.gallery-card [data-drawn]').length"
    browser.wait(lambda: browser.run(drawn) >= 6, "pictures are drawn")
    pixels = browser.run(
        """
        const canvas = document.querySelector(".gallery-card [data-drawn]");
        return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
        """
    )
    colours = np.array(pixels).reshape(-1, 4)[:, :3]
    assert colours[colours.sum(axis=1) > 0].std() > 10, "tissue, not one grey"
    browser.keep_picture("review-gallery", tmp_path)
    wanted = cards[3].get_attribute("data-id")
    cards[3].click()
    assert not browser.find("gallery").is_displayed()
    assert name(browser) == wanted


def test_who_decides_sees_the_answers_after_deciding(
    browser: Browser, stack: ExitStack, paths: StudyPaths, tmp_path: Path
) -> None:
    say(paths, "anna", given("test-1/test-1-right", "Tumor", comment="a nest <b>"))
    say(paths, "bert", given("test-1/test-1-right", "Normal"))
    open_page(browser, serve(stack, paths, "carl", decides=True))
    assert rows(browser) == ["test-1/test-1-right"]
    assert "shown after your answer" in browser.text("others")
    browser.press("n")
    browser.wait(lambda: "anna: Tumor \u2013 a nest <b>" in browser.text("others"), "the answers are shown")
    assert "bert: Normal" in browser.text("others")
    browser.keep_picture("review-decides", tmp_path)
    browser.find("agreement-button").click()
    browser.wait(lambda: "carl" in browser.text("readers-content"), "how far each reader is")
    browser.keep_picture("review-readers", tmp_path)
    browser.press(Keys.ESCAPE)


def many_sections(paths: StudyPaths) -> None:
    """The ledger with thousands of sections more, small ones where nothing was found, below what the slides hold."""
    for path in sorted(paths.ledger.rglob("*.parquet")):
        frame = pd.read_parquet(path)
        copies = [frame]
        for number in range(NUM_SECTIONS // (2 * 4)):
            is_right = frame["section_id"].str.endswith("right")
            moved = frame.assign(
                section_id=frame["section_id"] + f"-{number}",
                x_level0_px=1100 * is_right + 40 * (number % 25),
                y_level0_px=1030 + 24 * (number // 25),
                width_level0_px=38,
                height_level0_px=22,
                largest_region_px=pd.Series([[0] * 256] * len(frame)),
            )
            copies.append(moved)
        table = pa.Table.from_pandas(pd.concat(copies), schema=SCHEMA, preserve_index=False)
        pq.write_table(table, path)


def test_thousands_of_sections_are_listed_and_the_next_one_is_soon_ready(
    browser: Browser, stack: ExitStack, paths: StudyPaths, record_property: Callable[[str, object], None]
) -> None:
    """The limit is wide, for a loaded machine; the times are in the report that --junitxml writes."""
    many_sections(paths)
    open_page(browser, serve(stack, paths, "anna", plan=ReviewPlan(blind_share=0.02, seed=1)))
    num = len(rows(browser))
    assert num >= NUM_SECTIONS
    blocks = browser.run("return [...document.querySelectorAll('.rows')].map(({ children }) => children.length)")
    assert sum(blocks) == num
    assert max(blocks) <= 50, "the browser asks of each block whether it is in sight, not of each row"
    durations = []
    for _ in range(25):
        forget(browser)
        time.sleep(0.2)
        browser.press("j")
        durations += [each["duration"] for each in browser.wait(lambda: ready(browser), "the next one is ready")]
    record_property("ms", durations)
    assert np.median(durations) < 2000
    began = time.monotonic()
    choose(browser, "search", "test-1-left-7")
    assert 0 < len(rows(browser)) < num / 10
    assert time.monotonic() - began < 5
