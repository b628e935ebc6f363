"""How a page of the analysis looks in a browser: on screens, on paper, to the keyboard and to a screen reader."""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accessibility import violations
from chromium import Browser
from pypdf import PageObject, PdfReader

A4_MM = (210.0, 297.0)
PRINTED_WIDTH_PX = 703
"""Between the margins of the page's style: 186 mm at 96 px an inch."""
SCREENS_PX = (1280, 390)
_MM_PER_INCH = 25.4
_MARGINS_MM = (14.0, 16.0)
"""Above and below, by the page's style."""
_PT_PER_INCH = 72.0
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


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A sheet of a printed page."""

    text: str
    """Without white space."""
    filled: float
    """Down to which share of the printed height there is anything."""


def print_page(browser: Browser, page: Path, path: Path) -> list[Sheet]:
    """Print a page into a PDF; returns its sheets."""
    browser.open(page.as_uri())
    sheet = dict(zip(("paperWidth", "paperHeight"), (side / _MM_PER_INCH for side in A4_MM), strict=True))
    options: dict[str, Any] = {**sheet, "preferCSSPageSize": True, "printBackground": True}
    printed = base64.b64decode(browser.driver.execute_cdp_cmd("Page.printToPDF", options)["data"])
    path.write_bytes(printed)
    return [_sheet(page) for page in PdfReader(io.BytesIO(printed)).pages]


def _sheet(page: PageObject) -> Sheet:
    """What a page of a PDF shows, and how far down; the number at its foot does not count."""
    heights_pt: list[float] = []

    def see_text(text: str, base: list[float], line: list[float], *_: object) -> None:
        if text.strip():
            heights_pt.append(line[4] * base[1] + line[5] * base[3] + base[5])

    def see_picture(operator: bytes, _: object, base: list[float], *__: object) -> None:
        if operator == b"Do":
            heights_pt.append(min(base[5], base[3] + base[5]))

    text = page.extract_text(visitor_text=see_text, visitor_operand_before=see_picture)
    top_pt, foot_pt = (
        edge_mm / _MM_PER_INCH * _PT_PER_INCH for edge_mm in (A4_MM[1] - _MARGINS_MM[0], _MARGINS_MM[1])
    )
    lowest_pt = min((each for each in heights_pt if each > foot_pt), default=top_pt)
    return Sheet(text=without_space(text), filled=(top_pt - lowest_pt) / (top_pt - foot_pt))


def rows_alone(sheets: Sequence[Sheet], tables: Mapping[str, Sequence[Mapping[str, str]]]) -> list[str]:
    """Tables of which one row alone stands on a sheet while others stand elsewhere; alike rows are not looked at."""
    found = []
    for title, rows in tables.items():
        texts = ["".join(map(without_space, row.values())) for row in rows]
        places = [[place for place, sheet in enumerate(sheets, 1) if text in sheet.text] for text in texts]
        nums = Counter(mine[0] for mine in places if len(mine) == 1)
        if len(nums) > 1:
            found += [f"sheet {place}: {title}" for place, num in nums.items() if num == 1]
    return found


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
