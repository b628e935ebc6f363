"""How a page of the analysis looks in a browser: on screens, on paper, to the keyboard and to a screen reader."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accessibility import violations
from chromium import Browser
from pypdf import PdfReader

A4_MM = (210.0, 297.0)
PRINTED_WIDTH_PX = 703
"""Between the margins of the page's style: 186 mm at 96 px an inch."""
SCREENS_PX = (1280, 390)
_MM_PER_INCH = 25.4
_LONGEST_PICTURE_PX = 12_000
_CUT = """
    const most = document.documentElement.clientWidth;
    return [...document.querySelectorAll("body *")]
        .filter((each) => !each.closest(given[0]) && each.getBoundingClientRect().right > most + 1)
        .map((each) => `${each.tagName} ${each.textContent.trim().slice(0, 60)}`);
"""
_SCROLLED = """
    return [...document.querySelectorAll(".scroll")]
        .filter((each) => each.scrollWidth > each.clientWidth)
        .map((each) => each.getAttribute("aria-label"));
"""
_EMPTY_PICTURES = """
    return [...document.images].filter((each) => !each.naturalWidth || !each.alt).map((each) => each.src.slice(0, 60));
"""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What a page looks like on a screen of some width."""

    cut: list[str]
    """What reaches over the right edge, but what lies in a box of its own that is scrolled."""
    scrolled: list[str]
    """Tables that are wider than the place that they have."""
    violations: list[str]
    """What axe calls serious or critical."""
    empty_pictures: list[str]
    """Pictures that show nothing, or say nothing to those who do not see them."""


def look_at(browser: Browser, page: Path, width_px: int) -> Looks:
    """Open a page in a window of some width."""
    _set_width(browser, width_px)
    browser.open(page.as_uri())
    return Looks(
        cut=browser.run(_CUT, ".scroll"),
        scrolled=browser.run(_SCROLLED),
        violations=violations(browser),
        empty_pictures=browser.run(_EMPTY_PICTURES),
    )


def cut_on_paper(browser: Browser, page: Path) -> list[str]:
    """What would reach over the right margin of a sheet."""
    _set_width(browser, PRINTED_WIDTH_PX)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        browser.open(page.as_uri())
        cut: list[str] = browser.run(_CUT, "nothing")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    return cut


def print_page(browser: Browser, page: Path, path: Path) -> list[str]:
    """Print a page into a PDF; returns the text of each sheet, without white space."""
    browser.open(page.as_uri())
    sheet = dict(zip(("paperWidth", "paperHeight"), (side / _MM_PER_INCH for side in A4_MM), strict=True))
    options: dict[str, Any] = {**sheet, "preferCSSPageSize": True, "printBackground": True}
    printed = base64.b64decode(browser.driver.execute_cdp_cmd("Page.printToPDF", options)["data"])
    path.write_bytes(printed)
    return [without_space(sheet.extract_text()) for sheet in PdfReader(io.BytesIO(printed)).pages]


def without_space(text: str) -> str:
    """A text without what a line break may have changed."""
    return "".join(text.split())


def keep_whole_picture(browser: Browser, page: Path, path: Path, width_px: int) -> None:
    """Write a picture of the whole page, as far as a picture may be long."""
    _set_width(browser, width_px)
    browser.open(page.as_uri())
    size = browser.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": width_px, "height": min(size["height"], _LONGEST_PICTURE_PX), "scale": 1}
    options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    path.write_bytes(base64.b64decode(browser.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]))


def _set_width(browser: Browser, width_px: int) -> None:
    is_small = width_px < 600
    size = {"width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": is_small}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
