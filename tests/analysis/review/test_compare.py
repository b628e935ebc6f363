"""Two views side by side, in a real browser: two outputs of a slide, or two slides, that move together."""

import time
from pathlib import Path

import pytest
from chromium import Browser
from review_browser import SEEN, Start, open_page, settle
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import Select

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def magnifications(browser: Browser) -> tuple[str, str]:
    """Of the first view and of the second."""
    found = browser.run('return document.querySelector("#other-scale .scale").lastElementChild.textContent;')
    return browser.text("magnification"), str(found)


def drawn(browser: Browser, view: str) -> list[list[int]]:
    """The left and right, top and bottom of what is drawn over a view."""
    found: list[list[int]] = browser.run(
        """
        const layers = document.querySelector(`#${given[0]} .layers`);
        const { width, height } = layers;
        const { data } = layers.getContext("2d").getImageData(0, 0, width, height);
        let [left, right, top, bottom] = [width, 0, height, 0];
        for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) if (data[4 * (y * width + x) + 3]) {
          [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
        }
        return [[left, right], [top, bottom]];
        """,
        view,
    )
    return found


def test_two_outputs_of_a_slide_lie_side_by_side_and_move_together(
    browser: Browser, start: Start, tmp_path: Path
) -> None:
    open_page(browser, start("compares"), SEEN)
    browser.press("i")
    browser.wait(lambda: "Tumor" in browser.text("other-text"), "the verdict of the other output is there")
    Select(browser.find("other-output")).select_by_visible_text("resnet34_ds psi_2")
    browser.wait(lambda: "psi_2, t_p 0.50 (not the study's choice): Tumor" in browser.text("other-text"), "of psi_2")
    is_cut = "const text = document.getElementById('other-text'); return text.scrollWidth > text.clientWidth"
    assert not browser.run(is_cut), browser.text("other-text")
    browser.press("5", "+", "r")
    settle(browser)
    time.sleep(1)
    first, second = magnifications(browser)
    assert first == second
    # psi_2 has pixels of four: its regions end where whole pixels do.
    for one, other in zip(drawn(browser, "slide"), drawn(browser, "other-view"), strict=True):
        assert other == pytest.approx(one, abs=6)
    browser.keep_picture("review-compare", tmp_path)
    other = browser.find("other-view")
    hand = ActionChains(browser.driver, duration=60).move_to_element_with_offset(other, 60, 60).click_and_hold()
    hand.move_by_offset(-90, -40).move_by_offset(-10, -5).release().perform()
    time.sleep(1.5)
    for one, there in zip(drawn(browser, "slide"), drawn(browser, "other-view"), strict=True):
        assert there == pytest.approx(one, abs=6), "the first follows the second"


def test_two_slides_move_together_until_they_are_parted(browser: Browser, start: Start) -> None:
    open_page(browser, start("parts"), SEEN)
    browser.press("i")
    browser.wait(lambda: "Tumor" in browser.text("other-text"), "the second view is there")
    Select(browser.find("other-slide")).select_by_visible_text("test-0")
    settle(browser)
    browser.press("+")
    settle(browser)
    time.sleep(1)
    first, second = magnifications(browser)
    assert first == second
    browser.find("linked").click()
    browser.press("+", "+")
    settle(browser)
    time.sleep(1)
    first, after = magnifications(browser)
    assert after == second != first, "the second stays"
    browser.press("i")
    assert not browser.find("other-pane").is_displayed()
