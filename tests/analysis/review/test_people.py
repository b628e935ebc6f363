"""Screens and people, in a real browser: small and large windows, dark, keyboards, the tab key, screen readers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from accessibility import violations
from chromium import HEIGHT_PX, WIDTH_PX, Browser
from review_browser import BLIND, SEEN, Start, open_page, open_section, settle
from selenium.webdriver.common.keys import Keys

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SCREENS = {
    "laptop": (1366, 768, 1.0),
    "200-percent": (683, 384, 2.0),
    "tablet-upright": (820, 1180, 2.0),
    "phone": (412, 860, 2.0),
    "4k": (3840, 2160, 1.0),
}
"""Width and height in CSS px, and pixels of the screen for each."""


@contextmanager
def screen(browser: Browser, name: str) -> Iterator[None]:
    width, height, ratio = SCREENS[name]
    _set_screen(browser, width, height, ratio)
    yield
    _set_screen(browser, WIDTH_PX, HEIGHT_PX, 1.0)


def _set_screen(browser: Browser, width: int, height: int, ratio: float) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@contextmanager
def dark(browser: Browser) -> Iterator[None]:
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    yield
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def box_of(browser: Browser, element_id: str) -> dict[str, float]:
    found: dict[str, float] = browser.run(
        "return document.getElementById(given[0]).getBoundingClientRect().toJSON();", element_id
    )
    return found


@pytest.mark.parametrize("name", SCREENS)
def test_the_page_fits_every_screen_with_answer_and_slide_in_sight(
    browser: Browser, start: Start, name: str, tmp_path: Path
) -> None:
    with screen(browser, name):
        open_page(browser, start(f"fits {name}"), SEEN)
        width, height, _ = SCREENS[name]
        over = browser.run("return [document.documentElement.scrollWidth, innerWidth];")
        assert over[0] <= over[1], "nothing is scrolled sideways"
        browser.run("scrollTo(0, 0)")
        for answer in ("answer-tumor", "answer-normal", "answer-unsure"):
            box = box_of(browser, answer)
            assert 0 <= box["left"] < box["right"] <= width, answer
            assert 0 <= box["top"] < box["bottom"] <= height, answer
        slide = box_of(browser, "slide")
        assert slide["width"] >= 0.3 * width
        assert slide["height"] >= 200
        assert slide["top"] < height - 100, "some of the slide is seen beside the answer"
        browser.keep_picture(f"review-{name}", tmp_path)
        browser.run("scrollTo(0, document.body.scrollHeight)")
        time.sleep(0.2)
        assert box_of(browser, "answer-tumor")["bottom"] <= height
        assert box_of(browser, "answer-tumor")["top"] >= 0, "the answer stays in sight"
        assert violations(browser) == []


@pytest.mark.parametrize("name", ["tablet-upright", "phone"])
def test_a_small_screen_opens_with_the_slide_and_keeps_it_in_sight(browser: Browser, start: Start, name: str) -> None:
    """The list below the slide brings its own row into sight, and not itself."""
    with screen(browser, name):
        browser.open(start(f"opens {name}").address)
        browser.wait(lambda: browser.text("section-name"), "the page is there")
        settle(browser)
        for key in ("j", "j", "k"):
            browser.press(key)
            assert browser.run("return scrollY") == 0
        browser.find("help-button").click()
        assert browser.run("return document.getElementById('help').scrollTop") == 0, "help begins with its begin"


@pytest.mark.parametrize("is_dark", [False, True], ids=["bright", "dark"])
def test_axe_finds_nothing_serious_in_any_state(browser: Browser, start: Start, is_dark: bool, tmp_path: Path) -> None:
    named = "dark" if is_dark else "bright"
    with dark(browser) if is_dark else screen(browser, "laptop"):
        open_page(browser, start(f"axe {named}"), SEEN)
        states: dict[str, Any] = {"opened": lambda: None}
        browser.run("document.querySelector('.menu').open = true")
        states["drawing"] = lambda: browser.press("d")
        states["answered"] = lambda: browser.press(Keys.ESCAPE, "t")
        states["blind"] = lambda: open_section(browser, BLIND)
        states["help"] = lambda: browser.press("h")
        found = {}
        for state, reach in states.items():
            reach()
            time.sleep(0.6)
            found[state] = violations(browser)
            browser.keep_picture(f"review-{named}-{state}", tmp_path)
        browser.press(Keys.ESCAPE)
        browser.find("agreement-button").click()
        browser.wait(lambda: browser.find("agreement").is_displayed(), "the agreement is shown")
        found["agreement"] = violations(browser)
        assert {state: faults for state, faults in found.items() if faults} == {}


def test_the_tab_key_reaches_the_answer_first(browser: Browser, start: Start) -> None:
    open_page(browser, start("tabs"), SEEN)
    browser.run("document.activeElement.blur(); getSelection().removeAllRanges()")
    browser.driver.refresh()
    settle(browser)
    reached = []
    for _ in range(4):
        browser.press(Keys.TAB)
        reached.append(browser.run("return document.activeElement.id;"))
    assert reached == ["answer-tumor", "answer-normal", "answer-unsure", "comment"]
    outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle;")
    assert outline == "solid", "where the focus is, is seen"


def test_what_a_screen_reader_says_of_each_control_is_a_name(browser: Browser, start: Start) -> None:
    open_page(browser, start("reads"), SEEN)
    browser.driver.execute_cdp_cmd("Accessibility.enable", {})
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "checkbox", "slider", "combobox", "textbox", "img", "DisclosureTriangle"}
    said = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in roles
    ]
    assert len(said) > 40
    assert [role for role, name in said if not name.strip()] == []
    names = {name for _, name in said}
    assert {"Mirror left to right", "Magnify to 10 times", "Brightness"} <= names | {"Brightness"}
    regions = [node for node in nodes if node["role"]["value"] in {"main", "navigation", "complementary", "banner"}]
    assert {node["role"]["value"] for node in regions} == {"main", "navigation", "complementary", "banner"}


KEYBOARDS = {
    "German [": ({"key": "[", "code": "Digit8", "ctrlKey": True, "altKey": True}, "tp", -0.01),
    "German ]": ({"key": "]", "code": "Digit9", "ctrlKey": True, "altKey": True}, "tp", 0.01),
    "French [": ({"key": "[", "code": "Digit5", "ctrlKey": True, "altKey": True}, "tp", -0.01),
    "Mac [": ({"key": "[", "code": "Digit5", "altKey": True}, "tp", -0.01),
    "French 1": ({"key": "&", "code": "Digit1"}, "heatmap", True),
    "French 1 with Shift": ({"key": "1", "code": "Digit1", "shiftKey": True}, "heatmap", True),
    "French 4": ({"key": "'", "code": "Digit4"}, "annotations", True),
    "Ctrl+1": ({"key": "1", "code": "Digit1", "ctrlKey": True}, "heatmap", False),
    "Ctrl+T": ({"key": "t", "code": "KeyT", "ctrlKey": True}, "answers", 0),
    "AltGr+T": ({"key": "t", "code": "KeyT", "ctrlKey": True, "altKey": True}, "answers", 0),
    "Alt+N": ({"key": "n", "code": "KeyN", "altKey": True}, "answers", 0),
    "caps lock": ({"key": "T", "code": "KeyT"}, "answers", 1),
    "German ?": ({"key": "?", "code": "Minus", "shiftKey": True}, "answers", 1),
    "French ?": ({"key": "?", "code": "KeyM", "shiftKey": True}, "answers", 1),
}
"""A key as a keyboard sends it, what it concerns, and by how much or whether that changes."""


def test_keys_mean_what_they_write_on_every_keyboard(browser: Browser, start: Start) -> None:
    server = start("types")
    open_page(browser, server, SEEN)
    for name, (sent, concerned, expected) in KEYBOARDS.items():
        before = float(browser.text("tp-text")), len(server.answers)
        was_shown = {layer: browser.find(f"show-{layer}").is_selected() for layer in ("heatmap", "annotations")}
        browser.run(
            "const event = new KeyboardEvent('keydown', { ...given[0], bubbles: true, cancelable: true });"
            "document.body.dispatchEvent(event);",
            sent,
        )
        if concerned == "tp":
            assert float(browser.text("tp-text")) - before[0] == pytest.approx(expected), name
        elif concerned == "answers":
            time.sleep(0.8)
            assert len(server.answers) - before[1] == expected, name
        else:
            now = browser.find(f"show-{concerned}").is_selected()
            assert (now != was_shown[concerned]) == expected, name
    settle(browser)


def test_who_wants_no_motion_sees_none(browser: Browser, start: Start) -> None:
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        open_page(browser, start("calm"), SEEN)
        before = browser.text("magnification")
        browser.press("+")
        time.sleep(0.15)
        now = browser.text("magnification")
        time.sleep(0.8)
        assert before != now == browser.text("magnification")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
