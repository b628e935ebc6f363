"""A pathologist at work: 100 sections, while pages are loaded anew, storage fills up and the server is killed."""

import csv
from pathlib import Path

import pytest
from chromium import Browser
from picture_study import write_picture_study
from review_browser import Server, Start

from analysis.review.export import export_review

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NUM_SECTIONS = 100
COLS, ROWS = 12, 8
KEYS = {"t": "Tumor", "n": "Normal", "?": "unsure"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose slide test-2 has 96 sections; the two others of Test have two each."""
    written = write_picture_study(tmp_path_factory.mktemp("review"))
    path = written.manifest.path.with_name("sections.csv")
    kept = [line for line in path.read_text().splitlines() if not line.startswith("test-2,")]
    boxes = [(180 * col, 160 * row, 180, 160) for row in range(ROWS) for col in range(COLS)]
    added = [f"test-2,test-2-{number},,{','.join(map(str, box))}" for number, box in enumerate(boxes)]
    path.write_text("\n".join([*kept, *added]) + "\n", encoding="utf-8")
    return written.root


class Pathologist:
    """Answers what is open, by key, and goes on."""

    def __init__(self, browser: Browser) -> None:
        """Nothing is answered yet."""
        self.browser = browser
        self.said: dict[str, str] = {}

    def open(self, address: str) -> None:
        """Open the page in this tab; an answer opens the next section there."""
        self.browser.open(address)
        self.browser.wait(lambda: self.browser.text("section-name"), "the page is there")
        if not self.browser.find("go-on").is_selected():
            self.browser.run("document.getElementById('go-on').click()")

    @property
    def current(self) -> str:
        """The section that is open."""
        key: str = self.browser.run("return decodeURIComponent(location.hash.slice(1))")
        return key

    def answer(self, num: int) -> None:
        """Answer so many sections, each with another answer than the one before."""
        for _ in range(num):
            key, section = list(KEYS)[len(self.said) % len(KEYS)], self.current
            assert section not in self.said, "an answered section is not opened again"
            self.browser.press(key)
            self.said[section] = KEYS[key]
            if len(self.said) < NUM_SECTIONS:
                self.browser.wait(lambda before=section: self.current != before, "the next section is open")

    def wait_until_sent(self) -> None:
        """Wait until the page shows no more that is not with the server."""
        text = f"{len(self.said)} of {NUM_SECTIONS} sections answered"
        self.browser.wait(lambda: self.browser.text("progress-text") == text, text)
        self.browser.wait(lambda: not self.browser.find("outbox").is_displayed(), "all is sent")
        no_badge = "return document.querySelectorAll('.badge.waiting').length === 0"
        self.browser.wait(lambda: self.browser.run(no_badge), "no section waits")


def fill_storage(browser: Browser) -> None:
    """Have this page's storage take nothing more, until the page is loaded anew."""
    # As a full disk has it; the browser's own switch for quotas has no effect without a screen.
    browser.run(
        """
        const full = () => { throw new DOMException("The quota has been exceeded.", "QuotaExceededError"); };
        IDBObjectStore.prototype.realPut ??= IDBObjectStore.prototype.put;
        IDBObjectStore.prototype.put = full;
        Storage.prototype.setItem = full;
        """
    )


def make_room(browser: Browser) -> None:
    """Have it take things again."""
    browser.run("IDBObjectStore.prototype.put = IDBObjectStore.prototype.realPut;")


def lose_replies(browser: Browser) -> None:
    """Have what the server replies never reach this page, though it has kept what it was sent."""
    browser.run(
        """
        const real = window.fetch;
        window.fetch = async (...asked) => {
          await real(...asked);
          throw new TypeError("The connection was lost.");
        };
        window.hear = () => (window.fetch = real);
        """
    )


def kill_between_keeping_and_replying(hand: Pathologist, server: Server, start: Start) -> Server:
    """Answer four sections, of which the server keeps the first and is killed before the page hears of it."""
    browser = hand.browser
    lose_replies(browser)
    num_kept = len(server.answers)
    hand.answer(4)
    browser.wait(lambda: len(server.answers) > num_kept, "the server has kept the first of them")
    server.kill()
    browser.run("window.hear()")
    server = start("pathologist", port=server.port)
    asked_for = "open the address that the server printed last"
    browser.wait(lambda: asked_for in browser.text("outbox-text"), "a page of before says what to open")
    browser.run("await fetch(given[0])", server.address)
    hand.wait_until_sent()
    return server


def test_none_of_100_answers_is_lost_and_none_is_there_twice(
    browser: Browser, start: Start, study: Path, tmp_path: Path
) -> None:
    server = start("pathologist")
    hand = Pathologist(browser)
    hand.open(server.address)
    hand.answer(15)

    browser.driver.refresh()
    browser.wait(lambda: browser.text("section-name"), "the page is there again")
    hand.answer(10)

    first_tab = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    hand.open(f"http://127.0.0.1:{server.port}/")
    hand.answer(15)
    hand.wait_until_sent()
    browser.driver.close()
    browser.driver.switch_to.window(first_tab)
    # The first tab was told, without being loaded anew.
    hand.wait_until_sent()
    browser.press(" ")
    hand.answer(5)

    fill_storage(browser)
    hand.answer(10)
    hand.wait_until_sent()
    make_room(browser)

    hand.answer(3)
    server.kill()
    hand.answer(12)
    browser.wait(lambda: "not sent yet, kept in this browser" in browser.text("outbox-text"), "the page says so")
    browser.keep_picture("review-server-killed", tmp_path)
    server = start("pathologist", port=server.port)
    browser.run("await fetch(given[0])", server.address)
    hand.wait_until_sent()

    fill_storage(browser)
    server.kill()
    hand.answer(10)
    browser.wait(lambda: "This browser does not keep 10 of them" in browser.text("outbox-text"), "the page says so")
    browser.keep_picture("review-storage-full", tmp_path)
    server = start("pathologist", port=server.port)
    browser.run("await fetch(given[0])", server.address)
    hand.wait_until_sent()
    make_room(browser)

    server = kill_between_keeping_and_replying(hand, server, start)

    hand.answer(NUM_SECTIONS - len(hand.said))
    hand.wait_until_sent()
    server.kill()
    browser.faults()

    export_review(study, tmp_path / "out")
    with (tmp_path / "out" / "answers.csv").open(newline="", encoding="utf-8") as file:
        found = [(f"{row['slide_id']}/{row['section_id']}", row["answer"]) for row in csv.DictReader(file)]
    assert sorted(found) == sorted(hand.said.items())
    assert len(server.answers) == NUM_SECTIONS, "each was kept once"
