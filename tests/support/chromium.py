"""Debian's Chromium without a screen, for tests: a page as a reader meets it."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

SCREENSHOTS = "BCCDIST_SCREENSHOTS"
"""A folder in which pictures of the pages stay; without it they go with the test's own folder."""
_PROGRAMS = ("chromium", "chromedriver")
WIDTH_PX, HEIGHT_PX = 1366, 768
LONGEST_WAIT_S = 20.0
# Wide enough that no text is cut, and without what asks other machines for anything.
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--lang=en",
    f"--window-size={WIDTH_PX},{HEIGHT_PX}",
)


def reason_against() -> str | None:
    """Why there can be no browser here, if so."""
    missing = [name for name in _PROGRAMS if not shutil.which(name)]
    return f"needs a browser, and {', '.join(missing)} is not there: make browser" if missing else None


class Browser:
    """One window, and what a hand or an eye does with it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        """Take a window over."""
        self.driver = driver

    def open(self, address: str) -> None:
        self.driver.get(address)

    def find(self, element_id: str) -> WebElement:
        return self.driver.find_element(By.ID, element_id)

    def text(self, element_id: str) -> str:
        return self.find(element_id).text

    def press(self, *keys: str) -> None:
        """Type keys to whatever has the focus."""
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def click_in(self, element_id: str, *places: tuple[int, int]) -> None:
        """Click at places counted in px from an element's middle."""
        for x, y in places:
            ActionChains(self.driver).move_to_element_with_offset(self.find(element_id), x, y).click().perform()
            # Two clicks that follow at once are one double click.
            time.sleep(0.4)

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script's `return`; it may use `await`."""
        answer = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            f"(async (...given) => {{ {script} }})(...arguments).then("
            "(value) => done({ value }), (error) => done({ error: String(error) }));",
            *arguments,
        )
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """The first value of a condition that is true."""
        end_s = time.monotonic() + LONGEST_WAIT_S
        while time.monotonic() < end_s:
            value = condition()
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"in {LONGEST_WAIT_S:.0f} s it did not come about that {what}")

    def faults(self) -> list[str]:
        """What the browser complained of since the last call: errors of scripts, requests and the security policy."""
        lines: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def keep_picture(self, name: str, folder: Path) -> Path:
        """Write what the window shows into the folder for pictures, or into `folder`."""
        place = Path(os.environ.get(SCREENSHOTS, folder))
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{name}.png"
        assert self.driver.save_screenshot(str(path))
        return path


@contextmanager
def running_browser(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own."""
    options = webdriver.ChromeOptions()
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.binary_location = shutil.which(_PROGRAMS[0]) or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which(_PROGRAMS[1])))
    try:
        driver.set_script_timeout(LONGEST_WAIT_S)
        size = {"width": WIDTH_PX, "height": HEIGHT_PX, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield Browser(driver)
    finally:
        driver.quit()
