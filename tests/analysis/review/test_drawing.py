"""Outlines as they are drawn by hand, in a real browser: every tool, with the mouse and with a finger."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser
from review_browser import SEEN, Start, open_page, settle
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SQUARE = ((-100, -100), (100, -100), (100, 100), (-100, 100))


def stroke(browser: Browser, *places: tuple[int, int]) -> None:
    """Draw with the mouse, at places counted in px from the slide's middle."""
    slide = browser.find("slide")
    hand = ActionChains(browser.driver, duration=40).move_to_element_with_offset(slide, *places[0]).click_and_hold()
    for place in places[1:]:
        hand.move_to_element_with_offset(slide, *place)
    hand.release().perform()
    time.sleep(0.5)


def finger(browser: Browser, *places: tuple[int, int]) -> None:
    """Draw with a finger."""
    box = browser.find("slide").rect
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for number, (x, y) in enumerate(places):
        point = [{"x": middle[0] + x, "y": middle[1] + y}]
        kind = "touchMove" if number else "touchStart"
        browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": point})
        time.sleep(0.05)
    browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    time.sleep(0.5)


def areas(browser: Browser) -> list[float]:
    """The areas of the outlines as the list says them, in um2."""
    texts: Sequence[str] = browser.run(
        'return [...document.querySelectorAll("#outlines li .link")].map((each) => each.textContent)'
    )
    return [float(text.split(", ", 1)[1].split()[0].replace(",", "")) for text in texts]


def um_per_px(browser: Browser) -> float:
    return float(browser.text("magnification").split("\u00b7")[1].split()[0])


def open_at_10x(browser: Browser, start: Start, reviewer: str) -> None:
    """1 um for each px of the screen, so that px2 are um2."""
    open_page(browser, start(reviewer), SEEN)
    browser.run("""document.querySelector('[data-stop="10"]').click()""")
    settle(browser)
    assert um_per_px(browser) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("end", ["first point", "double click", "key"])
def test_an_outline_is_closed_by_its_first_point_a_double_click_or_a_key(
    browser: Browser, start: Start, end: str
) -> None:
    open_at_10x(browser, start, f"closes by {end}")
    browser.press("d")
    browser.click_in("slide", *SQUARE[:3])
    if end == "double click":
        slide = browser.find("slide")
        ActionChains(browser.driver).move_to_element_with_offset(slide, *SQUARE[3]).double_click().perform()
    else:
        browser.click_in("slide", SQUARE[3])
        if end == "key":
            browser.press(Keys.ENTER)
        else:
            browser.click_in("slide", (-97, -98))
    browser.wait(lambda: areas(browser), "the outline is listed")
    assert areas(browser) == [pytest.approx(200 * 200, rel=0.02)]


def test_points_are_taken_back_one_by_one(browser: Browser, start: Start) -> None:
    open_at_10x(browser, start, "takes back")
    browser.press("d")
    browser.click_in("slide", *SQUARE, (200, 0), (220, 0))
    browser.press(Keys.BACKSPACE)
    ActionChains(browser.driver).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    browser.press(Keys.ENTER)
    browser.wait(lambda: areas(browser), "the outline is listed")
    assert areas(browser) == [pytest.approx(200 * 200, rel=0.02)]


def test_a_freehand_line_goes_around_an_area_even_where_it_crosses_itself(browser: Browser, start: Start) -> None:
    open_at_10x(browser, start, "freehand")
    browser.press("g")
    stroke(browser, *SQUARE, (-100, -102))
    stroke(browser, (150, -100), (250, 100), (250, -100), (150, 100))
    assert areas(browser) == [pytest.approx(200 * 200, rel=0.03), pytest.approx(100 * 200 / 2, rel=0.05)]
    stroke(browser, (0, 180), (3, 180))
    assert "goes around no area" in browser.text("drawing-hint")


def test_the_brush_paints_and_lets_grow_and_the_eraser_takes_off(
    browser: Browser, start: Start, tmp_path: Path
) -> None:
    open_at_10x(browser, start, "paints")
    browser.press("b")
    stroke(browser, (-100, 0), (100, 0))
    (painted,) = areas(browser)
    assert painted == pytest.approx(200 * 52 + 3.1416 * 26**2, rel=0.03), "radius 26 px"
    stroke(browser, (100, 0), (100, 100))
    (grown,) = areas(browser)
    assert grown == pytest.approx(painted + 100 * 52, rel=0.05), "one outline, that has grown"
    stroke(browser, (-200, -150), (-150, -150))
    assert len(areas(browser)) == 2, "one beside it is another"
    browser.keep_picture("review-brush", tmp_path)
    browser.press("e")
    stroke(browser, (0, -60), (0, 60))
    assert max(areas(browser)) == pytest.approx(grown - 52 * 52, rel=0.05)
    stroke(browser, (250, 180), (280, 180))
    assert "No outline of yours lies there" in browser.text("drawing-hint")
    browser.press("[", "[", "[", "b")
    stroke(browser, (-100, 180), (0, 180))
    assert min(areas(browser)) == pytest.approx(100 * 16 + 3.1416 * 8**2, rel=0.1), "radius 8 px"


def test_a_hole_is_cut_and_kept_over_a_reload(browser: Browser, start: Start, tmp_path: Path) -> None:
    open_at_10x(browser, start, "holes")
    browser.press("d")
    browser.click_in("slide", *SQUARE)
    browser.press(Keys.ENTER, "o")
    browser.click_in("slide", (-40, -40), (40, -40), (40, 40), (-40, 40))
    browser.press(Keys.ENTER)
    browser.wait(lambda: areas(browser)[0] < 39_000, "the hole is taken off")
    assert areas(browser) == [pytest.approx(200 * 200 - 80 * 80, rel=0.02)]
    browser.keep_picture("review-hole", tmp_path)
    browser.press("o")
    browser.click_in("slide", (200, 150), (230, 150), (230, 190))
    browser.press(Keys.ENTER)
    assert "No outline of yours lies below it" in browser.text("drawing-hint")
    time.sleep(1)
    browser.driver.refresh()
    settle(browser)
    browser.wait(lambda: areas(browser), "it is found again")
    assert areas(browser) == [pytest.approx(200 * 200 - 80 * 80, rel=0.02)]


def test_corners_are_moved_added_and_taken_off(browser: Browser, start: Start, tmp_path: Path) -> None:
    open_at_10x(browser, start, "corners")
    browser.press("d")
    browser.click_in("slide", *SQUARE)
    browser.press(Keys.ENTER, "v")
    stroke(browser, SQUARE[1], (150, -100))
    assert areas(browser) == [pytest.approx(200 * 200 + 50 * 200 / 2, rel=0.02)]
    stroke(browser, (0, 100), (0, 150))
    assert areas(browser) == [pytest.approx(45_000 + 50 * 200 / 2, rel=0.02)], "a side is bent by a new corner"
    browser.keep_picture("review-corners", tmp_path)
    browser.press(Keys.DELETE)
    assert areas(browser) == [pytest.approx(45_000, rel=0.02)]
    stroke(browser, SQUARE[2], (-250, 0))
    assert "would cross itself" in browser.text("drawing-hint")
    assert areas(browser) == [pytest.approx(45_000, rel=0.02)]


def test_a_finger_draws_and_two_move_the_slide(browser: Browser, start: Start) -> None:
    open_at_10x(browser, start, "touches")
    browser.press("b")
    finger(browser, (-100, 0), (-50, 0), (0, 0), (60, 0), (100, 0))
    assert areas(browser) == [pytest.approx(200 * 52 + 3.1416 * 26**2, rel=0.05)]
    browser.press("g")
    finger(browser, (-250, -150), (-150, -150), (-150, -80), (-250, -80), (-250, -148))
    assert len(areas(browser)) == 2, browser.text("drawing-hint")
    assert um_per_px(browser) == pytest.approx(1, rel=0.01), "the slide stayed"
    box = browser.find("slide").rect
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, apart in [("touchStart", 40), *(("touchMove", apart) for apart in range(50, 160, 10)), ("touchEnd", 0)]:
        points: list[dict[str, Any]] = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        browser.driver.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if apart else []}
        )
    settle(browser)
    assert um_per_px(browser) < 0.8, "two fingers zoom, with a tool in the hand, too"
    assert len(areas(browser)) == 2, "and draw nothing"


def test_with_shift_the_slide_moves_under_a_tool(browser: Browser, start: Start) -> None:
    open_at_10x(browser, start, "shifts")
    browser.press("g")
    slide = browser.find("slide")
    hand = ActionChains(browser.driver, duration=60).key_down(Keys.SHIFT)
    hand.move_to_element_with_offset(slide, 100, 100).click_and_hold().move_to_element_with_offset(slide, -50, 50)
    hand.move_to_element_with_offset(slide, -80, -50).release().key_up(Keys.SHIFT).perform()
    settle(browser)
    assert areas(browser) == []
    assert "freehand" in browser.text("drawing-hint")


def test_every_step_is_taken_back_also_a_deleted_outline(browser: Browser, start: Start) -> None:
    open_at_10x(browser, start, "undoes")
    browser.press("b")
    stroke(browser, (-100, 0), (100, 0))
    (painted,) = areas(browser)
    browser.press("e")
    stroke(browser, (0, -60), (0, 60))
    (erased,) = areas(browser)
    browser.press(Keys.ESCAPE)
    browser.run('document.querySelector("#outlines li .small").click()')
    browser.wait(lambda: not areas(browser), "it is deleted")
    for expected in (erased, painted):
        time.sleep(0.6)
        browser.press("z")
        browser.wait(lambda area=expected: areas(browser) == [area], f"{expected} um2 are back")
    time.sleep(0.6)
    ActionChains(browser.driver).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    browser.wait(lambda: not areas(browser), "the first stroke is taken back, too")
