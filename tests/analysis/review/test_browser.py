"""The review page in a real browser: it opens, shows, redraws, takes answers, and loses none."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser
from review_browser import (
    BLACK,
    BLIND,
    OTHER,
    SEEN,
    UNREADABLE,
    Start,
    forget_requests,
    num_of_colour,
    only,
    open_page,
    open_section,
    requests,
    settle,
)
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from analysis.pictures.colours import heat_layer

HOSTILE = 'Dr <img src="x" onerror="window.hacked = 1"><b>x'

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_page_opens_with_its_token_alone(browser: Browser, start: Start, tmp_path: Path) -> None:
    server = start("opens")
    browser.driver.delete_all_cookies()
    browser.open(f"http://127.0.0.1:{server.port}/")
    assert "token" in browser.driver.page_source
    assert all("403" in fault for fault in browser.faults())
    browser.open(server.address)
    settle(browser)
    assert "token" not in browser.driver.current_url
    assert browser.text("progress-text") == "0 of 6 sections answered"
    assert browser.text("phantom").startswith("PHANTOM DATA")
    assert browser.text("reviewer") == "Reviewer: opens"
    browser.keep_picture("review-opened", tmp_path)


def test_answers_that_a_page_of_before_kept_unsent_are_sent(browser: Browser, start: Start) -> None:
    server = start("upgrades")
    open_page(browser, server, SEEN)
    kept = """
        const { name, reviewer } = await (await fetch("api/study")).json();
        const body = { id: given[0], answer: "Tumor", comment: "", seconds: 0 };
        const entry = { number: "1", address: "/api/answers", body, refused: null };
        localStorage.setItem(`bccdist-review:${name}:${reviewer}`, JSON.stringify([entry]));
    """
    browser.run(kept, SEEN)
    browser.driver.refresh()
    settle(browser)
    browser.wait(lambda: browser.text("progress-text") == "1 of 6 sections answered", "the answer")
    assert browser.run("return Object.keys(localStorage).filter((key) => key.startsWith('bccdist-review:'))") == []


def test_the_slide_zooms_down_to_its_pixels_and_the_scale_bar_follows(browser: Browser, start: Start) -> None:
    open_page(browser, start("zooms"), SEEN)
    scale_before = browser.text("scale-text")
    forget_requests(browser)
    browser.press("+", "+", "+")
    settle(browser)
    tiles = [re.search(r"/tiles/test-1/(\d+)/", name) for name in requests(browser)]
    assert max(int(tile[1]) for tile in tiles if tile) == 12, "level of 2200 px"
    assert length_um(browser.text("scale-text")) < length_um(scale_before)
    browser.press("0")
    settle(browser)
    assert browser.text("scale-text") == scale_before


def length_um(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"\u00b5m": 1, "mm": 1000}[unit]


def test_the_scale_bar_is_as_long_as_it_says(browser: Browser, start: Start) -> None:
    """The box of a section, 1,280 level-0 px high, is as high on the screen as the bar tells."""
    open_page(browser, start("measures"), SEEN)
    with only(browser, "boxes"):
        rows = browser.run(
            """
            const { width, height } = document.querySelector(".layers");
            const context = document.querySelector(".layers").getContext("2d");
            const { data } = context.getImageData(0, 0, width, height);
            const filled = Array.from({ length: height }, (_, y) => {
              let num = 0;
              for (let x = 0; x < width; x++) num += data[4 * (y * width + x) + 3] > 0;
              return num;
            });
            const lines = filled.flatMap((num, y) => (num > width / 2 ? [y] : []));
            return [lines[0], lines.at(-1)];
            """
        )
    bar_px = browser.find("scale-line").size["width"]
    um_per_screen_px = length_um(browser.text("scale-text")) / bar_px
    assert (rows[1] - rows[0]) * um_per_screen_px == pytest.approx(1280 * 0.46, rel=0.03)


def test_the_heatmap_has_the_colours_of_the_overlay_pictures(browser: Browser, start: Start) -> None:
    browser.open(start("colours").address)
    settle(browser)
    shown = browser.run(
        """
        const { colourTable, MOST_OPAQUE } = await import("/static/heatmap.js");
        const bytes = new Uint8Array(colourTable(0.6).buffer);
        return [Array.from(bytes), MOST_OPAQUE];
        """
    )
    values = np.array(shown[0], dtype=float).reshape(256, 4) / 255
    values[:, 3] *= shown[1]
    expected = heat_layer(np.linspace(0, 1, 256, dtype=np.float32)[None], 0.6)[0]
    seen = np.arange(256) >= 0.6 * 255
    assert values[seen, 3] == pytest.approx(expected[seen, 3], abs=0.004)
    assert not values[~seen, 3].any(), "below t_p the tissue is left as it is"
    assert values[seen, :3] == pytest.approx(expected[seen, :3], abs=0.02)


def test_heat_mask_and_regions_lie_over_the_slide(browser: Browser, start: Start, tmp_path: Path) -> None:
    open_page(browser, start("looks"), SEEN)
    layer = heat_layer(np.full((1, 1), 230 / 255, dtype=np.float32), 0.5)[0, 0]
    red, green, blue, opacity = (round(255 * float(value)) for value in layer)
    with only(browser, "heatmap"):
        assert num_of_colour(browser, (red, green, blue), alpha=opacity) > 20_000
    with only(browser, "mask"):
        assert num_of_colour(browser, (red, green, blue), alpha=opacity) == 0
        assert num_of_colour(browser, BLACK) > 300
    with only(browser):
        assert num_of_colour(browser, BLACK) == 0
    assert browser.text("regions-text").startswith("2 regions ")
    browser.press("4")
    time.sleep(0.3)
    browser.keep_picture("review-overlays", tmp_path)


def test_moving_t_p_redraws_the_mask_without_a_request(browser: Browser, start: Start) -> None:
    """Stored probabilities of the tumor are 230 of 255: 0.9."""
    open_page(browser, start("moves"), SEEN)
    with only(browser, "mask"):
        assert num_of_colour(browser, BLACK) > 300
        slider = browser.find("tp")
        forget_requests(browser)
        hand = ActionChains(browser.driver).click_and_hold(slider)
        hand.move_by_offset(round(0.49 * slider.size["width"]), 0).perform()
        browser.wait(lambda: float(browser.text("tp-text")) > 0.92, "the slider is at the right")
        browser.wait(lambda: num_of_colour(browser, BLACK) == 0, "the mask is empty")
        assert requests(browser) == []
        ActionChains(browser.driver).release().perform()
        browser.wait(lambda: any("/api/regions/" in name for name in requests(browser)), "regions are asked for")
        settle(browser)
        assert browser.text("regions-text").startswith("0 regions")
        browser.find("tp-chosen").click()
        browser.wait(lambda: num_of_colour(browser, BLACK) > 300, "the mask is back")


def test_answers_given_by_key_are_found_again_after_a_reload(browser: Browser, start: Start) -> None:
    server = start("answers")
    open_page(browser, server, SEEN)
    browser.press("t")
    browser.wait(lambda: browser.text("answer-state").startswith("Tumor, saved"), "the answer is saved")
    browser.press("c")
    browser.press(*"not n", Keys.ESCAPE)
    browser.find("setting").send_keys("n")
    assert len(server.answers) == 1, "typed text is no answer, and neither is a choice in a list"
    browser.find("save-comment").click()
    browser.wait(lambda: len(server.answers) == 2, "the comment is saved")
    open_section(browser, OTHER)
    browser.press("?")
    browser.wait(lambda: browser.text("answer-state").startswith("Unsure, saved"), "the answer is saved")
    browser.press("u")
    browser.press("n")
    browser.wait(lambda: browser.text("answer-state").startswith("Normal, saved"), "it is answered again")

    browser.driver.refresh()
    settle(browser)
    assert browser.text("section-name") == OTHER.split("/")[1], "the section that was open"
    assert browser.text("answer-state").startswith("Normal, saved")
    assert browser.find("answer-normal").get_attribute("aria-pressed") == "true"
    assert browser.text("progress-text") == "2 of 6 sections answered"
    open_section(browser, SEEN)
    assert browser.text("answer-state").startswith("Tumor, saved")
    assert browser.find("comment").get_property("value") == "not n"
    given = [(answer["section_id"], answer["answer"], answer["comment"]) for answer in server.answers]
    seen, other = SEEN.split("/")[1], OTHER.split("/")[1]
    assert given == [
        (seen, "Tumor", ""),
        (seen, "Tumor", "not n"),
        (other, "unsure", ""),
        (other, "Normal", ""),
    ]
    assert server.answers[0]["viewed"]["heatmap"] is True
    assert 0.5 < server.answers[0]["seconds"] < 60


def test_keys_lead_through_the_sections(browser: Browser, start: Start) -> None:
    browser.open(start("walks").address)
    settle(browser)
    order = [row.get_attribute("data-id") for row in browser.driver.find_elements(By.CSS_SELECTOR, ".row")]
    names = [str(name).split("/")[1] for name in order]
    for key, place in (("j", 1), (Keys.ARROW_DOWN, 2), ("k", 1), (Keys.ARROW_UP, 0), ("k", 0)):
        browser.press(key)
        assert browser.text("section-name") == names[place]
    browser.press("j", "j", "j", "j", "k")
    settle(browser)
    assert browser.text("slide-name").startswith(f"{str(order[3]).split('/')[0]} "), "the slide of the last one"
    browser.press("k", "k", "k", "t", " ")
    browser.wait(lambda: browser.text("section-name") == names[1], "the next one without an answer is open")
    browser.press("h")
    assert browser.find("help").is_displayed()
    browser.press("n", Keys.ESCAPE)
    assert not browser.find("help").is_displayed()
    assert browser.text("answer-state").startswith("No answer yet")


def test_a_blind_section_shows_nothing_before_its_answer_and_all_after(
    browser: Browser, start: Start, tmp_path: Path
) -> None:
    open_page(browser, start("blind"), BLIND)
    assert browser.find("blind-note").is_displayed()
    assert browser.text("known-content") == "Not shown before your answer."
    row = browser.driver.find_element(By.CSS_SELECTOR, f'[data-id="{BLIND}"]')
    assert "model" not in row.text
    assert browser.text("regions-text") == "Regions are hidden until you have answered."
    browser.press("4", "+")
    settle(browser)
    with only(browser, "heatmap", "mask", "regions", "annotations"):
        assert num_of_colour(browser, (0, 0, 0), alpha=0) == total_pixels(browser)
    browser.keep_picture("review-blind-before", tmp_path)

    browser.press("n")
    browser.wait(lambda: browser.text("answer-state").startswith("Normal, saved"), "the answer is saved")
    settle(browser)
    assert not browser.find("blind-note").is_displayed()
    assert "Label Tumor" in browser.text("known-content")
    assert "resnet34_ds" in browser.text("known-content")
    assert "Flip shift" in browser.text("known-content")
    assert re.match(r"\d+ regions? of at least t", browser.text("regions-text"))
    with only(browser, "mask"):
        assert num_of_colour(browser, BLACK) > 300
    browser.keep_picture("review-blind-after", tmp_path)


def total_pixels(browser: Browser) -> int:
    return int(browser.run("const { width, height } = document.querySelector('.layers'); return width * height"))


def test_names_and_comments_are_shown_as_text(browser: Browser, start: Start, study: Path, tmp_path: Path) -> None:
    hostile = study.rename(tmp_path / HOSTILE)
    try:
        open_page(browser, start(HOSTILE, study=hostile), SEEN)
        browser.press("c")
        browser.press(*HOSTILE, Keys.ESCAPE, "t")
        browser.wait(lambda: browser.text("answer-state").startswith("Tumor, saved"), "the answer is saved")
        browser.driver.refresh()
        settle(browser)
        assert browser.text("study-name") == HOSTILE
        assert browser.text("reviewer") == f"Reviewer: {HOSTILE}"
        assert browser.find("comment").get_property("value") == HOSTILE
        assert browser.run("return [window.hacked, document.images.length]") == [None, 0]
        browser.find("agreement-button").click()
        browser.wait(lambda: browser.find("agreement").is_displayed(), "the agreement is shown")
        assert browser.run("return [window.hacked, document.images.length]") == [None, 0]
    finally:
        hostile.rename(study)


def test_an_answer_that_cannot_be_sent_is_kept_and_sent_later(browser: Browser, start: Start, tmp_path: Path) -> None:
    server = start("offline")
    open_page(browser, server, SEEN)
    server.stop()
    browser.press("t")
    browser.wait(lambda: browser.text("answer-state") == "Tumor: kept here, not sent yet", "the page says so")
    browser.wait(lambda: "1 not sent yet" in browser.text("outbox-text"), "the page says so at its top")
    browser.keep_picture("review-not-sent", tmp_path)
    assert browser.faults(), "refused connections"
    assert server.answers == []

    again = start("offline", port=server.port)
    browser.run("await fetch(given[0])", again.address)
    browser.wait(lambda: browser.text("answer-state").startswith("Tumor, saved"), "it is sent by itself")
    assert not browser.find("outbox").is_displayed()
    assert [answer["answer"] for answer in again.answers] == ["Tumor"]
    browser.faults()


OUTBOX = """
    const { Outbox } = await import("/static/outbox.js");
    const { ServerError } = await import("/static/server.js");
    const rows = new Map();
    const store = {
      all: async () => [...rows.values()].sort((one, other) => one.at - other.at),
      put: async (row) => rows.set(row.entry, row),
      remove: async (entry) => rows.delete(entry),
    };
    const sent = [];
    const statusOf = {};
    const send = async (address, { said }) => {
      if (said in statusOf) throw new ServerError(`no ${said}`, statusOf[said]);
      sent.push(said);
    };
    const made = async (journal = "j", other = store) => {
      const outbox = new Outbox({ store: other, journal, send, onSent: () => {}, onChange: () => {} });
      await outbox.refresh();
      return outbox;
    };
    const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
    const add = async (outbox, said, subject = said) => (outbox.add("/a", { said }, subject), await pause());
    const shown = ({ entries }) => entries.map(({ body, fault, isRefused }) => [body.said, fault, isRefused]);
"""
"""Entries that say something, a server that answers `statusOf` it, and a browser that keeps `rows`."""


def test_what_the_server_refuses_is_kept_until_it_is_discarded_and_holds_nothing_up(
    browser: Browser, start: Start
) -> None:
    browser.open(start("refuses").address)
    found = browser.run(
        OUTBOX
        + """
        statusOf.bad = 404;
        for (const said of ["good", "bad", "better"]) await add(await made(), said);
        const again = await made();
        const refused = shown(again);
        again.discardRefused();
        await pause();
        return [sent, refused, shown(await made())];
        """
    )
    assert found == [["good", "better"], [["bad", "no bad", True]], []]
    settle(browser)


def test_an_entry_at_which_the_server_fails_is_passed_by_and_can_be_discarded(browser: Browser, start: Start) -> None:
    """What is said later of the same section waits for it: otherwise the earlier answer would come last, and count."""
    browser.open(start("fails").address)
    found = browser.run(
        OUTBOX
        + """
        statusOf.poison = 500;
        const outbox = await made();
        await add(outbox, "poison", "section 1");
        await add(outbox, "other", "section 2");
        await add(outbox, "later", "section 1");
        const before = [[...sent], shown(outbox)];
        outbox.discard(outbox.entries[0].entry);
        await pause();
        return [...before, sent, shown(outbox)];
        """
    )
    waiting = [["poison", "no poison", False], ["later", None, False]]
    assert found == [["other"], waiting, ["other", "later"], []]
    settle(browser)


def test_what_waits_for_another_review_is_not_sent_to_this_one_and_is_said(browser: Browser, start: Start) -> None:
    browser.open(start("other").address)
    found = browser.run(
        OUTBOX
        + """
        statusOf.away = 0;
        await add(await made("their journal"), "away");
        delete statusOf.away;
        const outbox = await made("ours");
        await outbox.flush();
        return [sent, outbox.others, rows.size];
        """
    )
    assert found == [[], ["their journal"], 1]
    settle(browser)


def test_a_browser_that_keeps_nothing_says_so_and_sends_all_the_same(browser: Browser, start: Start) -> None:
    browser.open(start("full").address)
    found = browser.run(
        OUTBOX
        + """
        const full = { ...store, put: async () => { throw new DOMException("too much", "QuotaExceededError"); } };
        const outbox = await made("j", full);
        statusOf.waits = 0;
        await add(outbox, "goes");
        await add(outbox, "waits");
        const unkept = [outbox.numUnkept, outbox.storageError.name];
        await outbox.refresh();
        delete statusOf.waits;
        await outbox.flush();
        return [unkept, sent, outbox.numUnkept];
        """
    )
    assert found == [[1, "QuotaExceededError"], ["goes", "waits"], 0]
    settle(browser)


def test_an_outline_must_not_cross_itself(browser: Browser, start: Start) -> None:
    browser.open(start("crosses").address)
    shapes = {
        "square": [[0, 0], [1, 0], [1, 1], [0, 1]],
        "bow tie": [[0, 0], [1, 1], [1, 0], [0, 1]],
        "triangle": [[0, 0], [3, 1], [1, 4]],
        "crosses its last side": [[0, 0], [2, 0], [2, 2], [1, -1]],
    }
    crossing = browser.run(
        """
        const { crossesItself } = await import("/static/geometry.js");
        return Object.keys(given[0]).filter((name) => crossesItself(given[0][name]));
        """,
        shapes,
    )
    assert crossing == ["bow tie", "crosses its last side"]
    settle(browser)


def test_an_outline_is_drawn_kept_and_deleted(browser: Browser, start: Start, tmp_path: Path) -> None:
    server = start("draws")
    open_page(browser, server, SEEN)
    browser.press("d")
    browser.click_in("slide", (-100, -60), (60, -80))
    browser.press(Keys.ENTER)
    assert "three points" in browser.text("drawing-hint")
    browser.click_in("slide", (80, 70), (-60, 90))
    browser.press("t", Keys.ENTER)
    browser.wait(lambda: outlines(browser), "the outline is listed")
    assert server.answers == [], "a key for drawing is no answer"
    browser.find("copy-regions").click()
    browser.wait(lambda: len(outlines(browser)) == 2, "the predicted region is copied")
    browser.keep_picture("review-outlines", tmp_path)

    browser.driver.refresh()
    settle(browser)
    browser.wait(lambda: len(outlines(browser)) == 2, "both are found again")
    assert outlines(browser)[1].startswith("Tumornest, 49,0"), "the area of the predicted region"
    browser.driver.find_element(By.CSS_SELECTOR, "#outlines li .small").click()
    browser.wait(lambda: len(outlines(browser)) == 1, "the first is deleted")
    browser.driver.refresh()
    settle(browser)
    browser.wait(lambda: len(outlines(browser)) == 1, "it stays deleted")


def outlines(browser: Browser) -> list[str]:
    texts: list[str] = browser.run('return [...document.querySelectorAll("#outlines li")].map((li) => li.innerText)')
    return texts


def test_a_slide_that_cannot_be_read_is_named_and_the_rest_goes_on(
    browser: Browser, start: Start, tmp_path: Path
) -> None:
    server = start("damaged")
    open_page(browser, server, SEEN)
    browser.driver.find_element(By.CSS_SELECTOR, f'[data-id="{UNREADABLE}"]').click()
    browser.wait(lambda: browser.find("slide-error").is_displayed(), "the page names it")
    assert "test-2" in browser.text("slide-error")
    browser.keep_picture("review-unreadable", tmp_path)
    browser.press("?")
    browser.wait(lambda: browser.text("answer-state").startswith("Unsure, saved"), "it can be answered")
    open_section(browser, SEEN)
    assert not browser.find("slide-error").is_displayed()
    assert browser.text("regions-text").startswith("2 regions ")


def test_answers_and_outlines_are_taken_back_step_by_step_also_after_a_reload(browser: Browser, start: Start) -> None:
    server = start("undoes")
    open_page(browser, server, SEEN)
    for key, said in (("t", "Tumor"), ("n", "Normal")):
        browser.press(key)
        browser.wait(lambda said=said: browser.text("answer-state").startswith(f"{said}, saved"), f"{said} is saved")
    browser.find("copy-regions").click()
    browser.wait(lambda: len(outlines(browser)) == 1, "the predicted region is copied")
    browser.find("copy-regions").click()
    assert browser.text("undone") == "All regions of this section are copied already."
    browser.driver.refresh()
    settle(browser)
    browser.wait(lambda: len(outlines(browser)) == 1, "it is there once")
    browser.find("copy-regions").click()
    assert len(outlines(browser)) == 1, "also after a reload"

    browser.find("undo").click()
    browser.wait(lambda: not outlines(browser), "the outline is taken back")
    browser.find("undo").click()
    browser.wait(lambda: browser.text("answer-state").startswith("Tumor, saved"), "the second answer is taken back")
    browser.find("undo").click()
    browser.wait(lambda: browser.text("answer-state").startswith("No answer yet"), "the first one, too")
    browser.find("undo").click()
    assert browser.text("undone") == "There is no step to take back."
    browser.press("t")
    browser.wait(lambda: browser.text("answer-state").startswith("Tumor, saved"), "it is answered again")
    browser.find("withdraw").click()
    browser.wait(lambda: browser.text("answer-state").startswith("No answer yet"), "the answer is withdrawn")
    assert browser.text("progress-text") == "0 of 6 sections answered"
    assert len(server.answers) == 3, "the journal keeps all"


def test_the_page_works_below_a_path(browser: Browser, start: Start) -> None:
    """As behind a proxy that leaves its own part of the path there."""
    server = start("proxied", "--address", "http://127.0.0.1/user/anna/review")
    token = server.address.split("?")[1]
    assert server.address.startswith("http://127.0.0.1/user/anna/review/?token=")
    port = server.listening_port
    browser.open(f"http://127.0.0.1:{port}/user/anna/review/?{token}")
    settle(browser)
    assert "token" not in browser.driver.current_url
    browser.press("t")
    browser.wait(lambda: "saved" in browser.text("answer-state"), "the answer is saved")
    asked = [name.split(str(port))[1] for name in requests(browser)]
    assert any("/tiles/" in name for name in asked)
    assert all(name.startswith("/user/anna/review/") for name in asked)
