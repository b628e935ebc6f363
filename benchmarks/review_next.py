"""How soon the next section is there on the review page.

`python -m benchmarks.review_next STUDY [--sections N] [--listed M]`: a browser without a screen presses J. The time
runs from the key itself; a section is ready once all tiles of its view and what is laid over it are there and a frame
was drawn. Cold: the key comes as soon as the section before is ready, with an empty browser cache; warm: it is looked
at for a while, in which the page fetches ahead. Cold and warm take turns. Journals go to a copy of the results.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import numpy as np
import tyro
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

from analysis.review.gate import Access
from analysis.review.journal import Journal
from analysis.review.server import make_app
from analysis.review.serving import LOCAL, listen
from analysis.review.session import Session
from analysis.review.worklist import ReviewPlan, Worklist, read_worklist
from bccdist.parts import Part

_LOOK_S = 0.7
_LONGEST_WAIT_S = 30.0
_TURNS = 2
_WATCH = "addEventListener('keydown', ({ timeStamp }) => (window.pressedAt = timeStamp), true)"
_READY = """
    const found = performance.getEntriesByName("section ready");
    return found.map(({ startTime, duration }) => startTime + duration - (window.pressedAt ?? startTime));
"""


def main(study: Annotated[Path, tyro.conf.Positional], sections: int = 40, listed: int = 0) -> None:
    """Measure and print.

    Args:
        study: Folder of a study whose thresholds are selected.
        sections: That are walked over in each turn.
        listed: At least so many sections stand in the list, those of the study several times.
    """
    with ExitStack() as stack:
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / study.name
        shutil.copytree(study, copy, ignore=shutil.ignore_patterns("checkpoints", "shards", "review"))
        worklist = read_worklist(copy, [part for part in Part if part is not Part.TRAINING], ReviewPlan())
        times = range(max(1, -(-listed // len(worklist.sections))))
        copies = [
            replace(each, section_id=f"{each.section_id} {time}") for time in times for each in worklist.sections
        ]
        worklist = replace(worklist, sections=tuple(copies))
        driver = stack.enter_context(_browser())
        print(f"{len(worklist.sections)} sections on {len(worklist.by_slide)} slides; ms from the key to ready:")
        for turn in range(_TURNS):
            for name, look_s in (("cold", 0.0), ("warm", _LOOK_S)):
                with _serving(worklist, f"{name} {turn}") as address:
                    found = _walk(driver, address, min(sections, len(worklist.sections) - 1), look_s)
                p50, p95 = np.quantile(found, [0.5, 0.95])
                print(f"  {name}  p50 {p50:5.0f}   p95 {p95:5.0f}   longest {max(found):5.0f}", flush=True)


@contextmanager
def _browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1366,768"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def _serving(worklist: Worklist, reviewer: str) -> Iterator[str]:
    with Journal(worklist.paths, reviewer) as journal, listen(LOCAL, 0) as listener:
        port = listener.getsockname()[1]
        app = make_app(Session(worklist, journal), Access(port=port, names=frozenset({LOCAL})))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none"))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://{LOCAL}:{port}/"
        finally:
            server.should_exit = True
            thread.join()


def _walk(driver: webdriver.Chrome, address: str, num: int, look_s: float) -> list[float]:
    """Milliseconds until each section was ready."""
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.get(address)
    _ready(driver)
    driver.execute_script(_WATCH)
    found: list[float] = []
    for _ in range(num):
        driver.execute_script("performance.clearMeasures()")
        time.sleep(look_s)
        ActionChains(driver).send_keys("j").perform()
        found += _ready(driver)
    driver.get("about:blank")
    return found


def _ready(driver: webdriver.Chrome) -> list[Any]:
    end_s = time.monotonic() + _LONGEST_WAIT_S
    while time.monotonic() < end_s:
        if found := driver.execute_script(_READY):
            return list(found)
        time.sleep(0.02)
    raise TimeoutError(f"no section was ready within {_LONGEST_WAIT_S:.0f} s")


if __name__ == "__main__":
    tyro.cli(main)
