"""The server of the review page as a user starts it, and what a hand and an eye do with the page in a browser."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chromium import Browser
from selenium.webdriver.common.by import By

from analysis.review.worklist import ReviewPlan

BLACK = (16, 16, 16)
"""Of the mask's outline."""
REPOSITORY = Path(__file__).resolve().parents[2]
SEEN, OTHER, BLIND, UNREADABLE = (
    "test-1/test-1-left",
    "test-0/test-0-right",
    "test-0/test-0-left",
    "test-2/test-2-left",
)
Start = Callable[..., "Server"]


def seed_with(*, blind: str, seen: tuple[str, ...]) -> int:
    """A seed under which one section is blind and others are not."""

    def fits(seed: int) -> bool:
        plan = ReviewPlan(seed=seed)
        return plan.is_blind(*blind.split("/")) and not any(plan.is_blind(*name.split("/")) for name in seen)

    return next(seed for seed in range(1000) if fits(seed))


class Server:
    """A server as a user starts it."""

    def __init__(self, study: Path, reviewer: str, port: int = 0, *more: str) -> None:
        """Start it, and wait until it listens."""
        self.study, self.reviewer = study, reviewer
        seed = seed_with(blind=BLIND, seen=(SEEN, OTHER))
        words = ["--reviewer", reviewer, "--port", str(port), "--seed", str(seed), *more]
        self._process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "jobs" / "review.py"), str(study), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.address = self._printed_address()
        self.port = urlsplit(self.address).port or 0

    def _printed_address(self) -> str:
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if found := re.match(r"open (http\S+)", line):
                return found[1]
        self._process.communicate()
        raise AssertionError(f"the server did not start: {said}")

    @property
    def listening_port(self) -> int:
        """The port, where the printed address is a proxy's."""
        inodes = {str(file.readlink()) for file in Path(f"/proc/{self._process.pid}/fd").iterdir()}
        lines = Path(f"/proc/{self._process.pid}/net/tcp").read_text().splitlines()[1:]
        fields = [line.split() for line in lines]
        (port,) = [each[1] for each in fields if each[3] == "0A" and f"socket:[{each[9]}]" in inodes]
        return int(port.split(":")[1], 16)

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=20)

    def kill(self) -> None:
        """End it at once, as a machine does that goes down."""
        self._process.kill()
        self._process.communicate(timeout=20)

    @property
    def answers(self) -> list[dict[str, Any]]:
        """What stands in the reviewer's journal."""
        (path,) = [
            path
            for path in (self.study / "review").glob("journal-*.jsonl")
            if json.loads(path.read_text(encoding="utf-8").splitlines()[0])["reviewer"] == self.reviewer
        ]
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [record for record in records if record["kind"] == "answer"]


def settle(browser: Browser) -> None:
    """Wait until all that was asked for is drawn."""
    browser.wait(lambda: browser.find("slide-name").text, "a slide has a name")
    browser.wait(lambda: not browser.text("loading"), "everything is loaded")
    time.sleep(0.8)
    browser.wait(lambda: not browser.text("loading"), "everything is loaded")


def open_section(browser: Browser, section_id: str) -> None:
    browser.driver.find_element(By.CSS_SELECTOR, f'[data-id="{section_id}"]').click()
    browser.wait(lambda: browser.text("section-name") == section_id.split("/")[1], f"{section_id} is open")
    settle(browser)


def open_page(browser: Browser, server: Server, section_id: str) -> None:
    browser.open(server.address)
    browser.wait(lambda: browser.text("section-name"), "the page is there")
    open_section(browser, section_id)


def num_of_colour(browser: Browser, colour: tuple[int, int, int], *, alpha: int = 255) -> int:
    """Pixels of the layers over the slide that have a colour, to a few grey levels."""
    return int(
        browser.run(
            """
            const layers = document.querySelector(".layers");
            const { data } = layers.getContext("2d").getImageData(0, 0, layers.width, layers.height);
            let num = 0;
            for (let i = 0; i < data.length; i += 4) {
              const isNear = given[0].every((value, channel) => Math.abs(data[i + channel] - value) <= 4);
              num += isNear && Math.abs(data[i + 3] - given[1]) <= 4;
            }
            return num;
            """,
            colour,
            alpha,
        )
    )


def requests(browser: Browser) -> list[str]:
    """What the page asked for since `forget_requests`, or since it was opened."""
    return list(browser.run("return performance.getEntriesByType('resource').map(({ name }) => name)"))


def forget_requests(browser: Browser) -> None:
    browser.run("performance.clearResourceTimings()")


@contextmanager
def only(browser: Browser, *names: str) -> Iterator[None]:
    """Show some layers alone."""
    boxes = {name: browser.find(f"show-{name}") for name in ("heatmap", "mask", "regions", "annotations", "boxes")}
    was = {name: box.is_selected() for name, box in boxes.items()}
    for name, box in boxes.items():
        if box.is_selected() != (name in names):
            box.click()
    settle(browser)
    yield
    for name, box in boxes.items():
        if box.is_selected() != was[name]:
            box.click()
