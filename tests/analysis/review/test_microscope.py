"""The slide as under a microscope, in a real browser: magnification, turning, light, colours, snapshot, panels."""

import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from chromium import Browser
from numpy.typing import NDArray
from review_browser import SEEN, Start, only, open_page, settle
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def drag(browser: Browser, *places: tuple[int, int], key: str | None = None) -> None:
    """Press, move and release the mouse, at places counted in px from the slide's middle."""
    slide = browser.find("slide")
    hand = ActionChains(browser.driver, duration=60)
    if key:
        hand.key_down(key)
    hand.move_to_element_with_offset(slide, *places[0]).click_and_hold()
    for place in places[1:]:
        hand.move_to_element_with_offset(slide, *place)
    hand.release()
    if key:
        hand.key_up(key)
    hand.perform()
    time.sleep(0.6)


def um_per_px(browser: Browser) -> float:
    return float(re.search(r"([\d.]+) \u00b5m/px", browser.text("magnification"))[1])  # type: ignore[index]


def layer_pixels(browser: Browser) -> NDArray[np.bool_]:
    """Where anything is drawn over the slide: bool [h, w]."""
    width, height, places = browser.run(
        """
        const { width, height } = document.querySelector(".layers");
        const { data } = document.querySelector(".layers").getContext("2d").getImageData(0, 0, width, height);
        const places = [];
        for (let i = 3; i < data.length; i += 4) if (data[i]) places.push(i >> 2);
        return [width, height, places];
        """
    )
    drawn = np.zeros(width * height, dtype=bool)
    drawn[places] = True
    return drawn.reshape(height, width)


@pytest.mark.parametrize("stop", [1, 5, 40])
def test_a_magnification_is_um_per_px_of_the_screen(browser: Browser, start: Start, stop: int) -> None:
    open_page(browser, start("magnifies"), SEEN)
    browser.driver.find_element(By.CSS_SELECTOR, f'[data-stop="{stop}"]').click()
    settle(browser)
    assert um_per_px(browser) == pytest.approx(10 / stop, rel=0.01)
    assert browser.text("magnification").startswith(f"{stop}\u00d7")
    pressed = browser.driver.find_elements(By.CSS_SELECTOR, '#magnifications [aria-pressed="true"]')
    assert [button.text for button in pressed] == [f"{stop}\u00d7"]


def test_keys_step_through_the_magnifications_and_move_the_slide(browser: Browser, start: Start) -> None:
    open_page(browser, start("steps"), SEEN)
    browser.driver.find_element(By.CSS_SELECTOR, '[data-stop="10"]').click()
    settle(browser)
    for key, expected in ((Keys.PAGE_UP, 0.5), (Keys.PAGE_UP, 0.25), (Keys.PAGE_DOWN, 0.5), (Keys.PAGE_DOWN, 1.0)):
        browser.press(key)
        settle(browser)
        assert um_per_px(browser) == pytest.approx(expected, rel=0.01)
    name = browser.text("section-name")
    with only(browser, "boxes"):
        before = layer_pixels(browser)
        ActionChains(browser.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
        settle(browser)
        after = layer_pixels(browser)
    shift = browser.find("slide").size["width"] // 4
    assert (before[:, shift + 8 : -8] == after[:, 8 : -shift - 8]).mean() > 0.99
    assert browser.text("section-name") == name, "arrows with Shift move the slide and no section"


VIEW = """
    const { SlideView } = await import("/static/slide_view.js");
    const box = document.createElement("div");
    box.style.cssText = "position: fixed; inset: 0 auto auto 0; width: 640px; height: 480px; z-index: 9";
    document.body.append(box);
    const scale = document.getElementById("scale").cloneNode(true);
    const drawn = [];
    const view = new SlideView(box, scale, { draw: (_, place) => drawn.push(place), settled: () => {} });
    const slide = await (await fetch("/api/slides/test-1")).json();
    const rest = (ms = 1500) => new Promise((resolve) => setTimeout(resolve, ms));
    await view.open(slide);
    await rest();
"""
"""A view of its own of a slide; `rest()` waits until its tiles are there."""


@pytest.mark.parametrize("degrees", [0, 90, 33])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_what_lies_over_the_slide_turns_with_its_tiles(
    browser: Browser, start: Start, degrees: int, is_mirrored: bool
) -> None:
    """Where a place of the slide is said to be on the screen, the tiles have its colour there."""
    browser.open(start("turns").address)
    settle(browser)
    upright, turned = browser.run(
        VIEW
        + """
        const places = [];
        for (let x = 60; x < 2200; x += 107) for (let y = 60; y < 1280; y += 97) places.push([x, y]);
        const colours = () => {
          const context = view.tileCanvases[0].getContext("2d");
          return places.map((place) => {
            const [x, y] = view.place.screen(place);
            const isSeen = x > 3 && y > 3 && x < 636 && y < 476;
            const around = isSeen ? context.getImageData(Math.round(x) - 1, Math.round(y) - 1, 3, 3).data : [];
            const mean = (c) => around.filter((_, i) => i % 4 === c).reduce((a, b) => a + b) / 9;
            return isSeen ? [0, 1, 2].map(mean) : null;
          });
        };
        const upright = colours();
        if (given[1]) view.mirror();
        view.turnTo(given[0]);
        await rest();
        const said = [view.degrees, view.isMirrored];
        if (said[0] !== given[0] || said[1] !== given[1]) throw new Error(String(said));
        const back = view.place.level0(view.place.screen([100, 200]));
        if (Math.hypot(back[0] - 100, back[1] - 200) > 0.01) throw new Error(String(back));
        return [upright, colours()];
        """,
        degrees,
        is_mirrored,
    )
    both = [(one, other) for one, other in zip(upright, turned, strict=True) if one and other]
    assert len(both) > 60
    first, second = (np.array(each) for each in zip(*both, strict=True))
    assert np.ptp(first, axis=0).max() > 60, "the slide has places of different colours"
    assert np.abs(first - second).mean() < 12


def test_keys_and_buttons_turn_and_mirror(browser: Browser, start: Start) -> None:
    open_page(browser, start("keys"), SEEN)

    def said() -> tuple[str, str]:
        text = browser.run("return document.getElementById('turn-text').textContent")
        return text, str(browser.find("mirror").get_attribute("aria-pressed"))

    browser.press("r")
    assert said() == ("90\u00b0", "false")
    ActionChains(browser.driver).key_down(Keys.SHIFT).send_keys("r").key_up(Keys.SHIFT).perform()
    assert said() == ("0\u00b0", "false")
    browser.press("m")
    browser.find("turn-right").click()
    assert said() == ("90\u00b0", "true")


def slide_middle(browser: Browser) -> list[int]:
    """The colour that the screen shows in the middle of the slide."""
    slide = browser.find("slide")
    png = np.frombuffer(slide.screenshot_as_png, np.uint8)
    image = cv2.imdecode(png, cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    return [round(float(value)) for value in image[height // 3 : -height // 3, width // 3 : -width // 3].mean((0, 1))]


def set_range(browser: Browser, name: str, value: float) -> None:
    browser.run(
        """
        const input = document.getElementById(given[0]);
        input.value = given[1];
        input.dispatchEvent(new Event("input", { bubbles: true }));
        """,
        name,
        value,
    )
    time.sleep(0.3)


def test_light_changes_what_is_shown_and_can_be_put_back(browser: Browser, start: Start, tmp_path: Path) -> None:
    open_page(browser, start("light"), SEEN)
    as_scanned = slide_middle(browser)
    for name, value, direction in (("brightness", 0.25, 1), ("gamma", 0.5, -1)):
        set_range(browser, name, value)
        changed = slide_middle(browser)
        assert all(direction * (new - old) > 10 for new, old in zip(changed, as_scanned, strict=True)), name
        browser.run("document.getElementById('light-reset').click()")
        time.sleep(0.3)
        assert slide_middle(browser) == pytest.approx(as_scanned, abs=2)
    browser.driver.find_element(By.CSS_SELECTOR, ".menu summary").click()
    set_range(browser, "contrast", 2.0)
    browser.keep_picture("review-light", tmp_path)


def test_a_slide_without_a_colour_profile_says_so(browser: Browser, start: Start) -> None:
    open_page(browser, start("profile"), SEEN)
    assert browser.find("profile").get_attribute("disabled") == "true"
    said = browser.run("return document.getElementById('profile-text').textContent")
    assert said == "The slide carries no colour profile"


def test_switching_the_profile_asks_for_other_tiles_of_the_same_view(browser: Browser, start: Start) -> None:
    browser.open(start("switches").address)
    settle(browser)
    seen, before, after = browser.run(
        VIEW
        + """
        view.zoomBy(3);
        view.turnTo(90);
        await rest();
        const before = view.view;
        performance.clearResourceTimings();
        view.hasProfile = false;
        await rest();
        const names = performance.getEntriesByType("resource").map(({ name }) => name);
        return [names, before, view.view];
        """
    )
    tiles = [name for name in seen if "/tiles/" in name]
    assert tiles
    assert all(name.endswith("?profile=no") for name in tiles)
    assert after["scale"] == pytest.approx(before["scale"], rel=1e-6)
    assert after["centre"] == pytest.approx(before["centre"], abs=0.01)
    assert after["rotation"] == before["rotation"]


def test_the_ruler_measures_um(browser: Browser, start: Start, tmp_path: Path) -> None:
    open_page(browser, start("rules"), SEEN)
    browser.driver.find_element(By.CSS_SELECTOR, '[data-stop="10"]').click()
    settle(browser)
    browser.press("l")
    texts = browser.run(
        """
        const { lengthText } = await import("/static/geometry.js");
        window.written = [];
        const write = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {
          window.written.push(text);
          return write.call(this, text, ...at);
        };
        return lengthText(200);
        """
    )
    assert texts == "200 \u00b5m"
    drag(browser, (-100, 20), (0, 20), (100, 20))
    lengths = [text for text in browser.run("return window.written") if re.fullmatch(r"[\d.]+ \u00b5m", text)]
    assert float(lengths[-1].split()[0]) == pytest.approx(200, rel=0.02), "200 px of the screen at 1 um/px"
    browser.keep_picture("review-ruler", tmp_path)
    browser.press(Keys.ESCAPE)
    browser.run("window.written = []")
    browser.press("+")
    settle(browser)
    assert not [text for text in browser.run("return window.written") if text == lengths[-1]]


def test_a_snapshot_has_its_scale_bar_and_says_what_it_is_of(browser: Browser, start: Start) -> None:
    open_page(browser, start("snaps"), SEEN)
    found = browser.run(
        """
        const kept = [];
        URL.createObjectURL = (blob) => (kept.push(blob), "blob:nothing");
        HTMLAnchorElement.prototype.click = function () { kept.push(this.download); };
        const texts = [];
        const write = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {
          if (!this.canvas.isConnected) texts.push(text);
          return write.call(this, text, ...at);
        };
        document.getElementById("snapshot").click();
        while (kept.length < 2) await new Promise((resolve) => setTimeout(resolve, 50));
        const picture = await createImageBitmap(kept[0]);
        const { width, height } = document.querySelector(".layers");
        const size = [picture.width, picture.height];
        return { type: kept[0].type, name: kept[1], texts, size, view: [width, height] };
        """
    )
    assert found["type"] == "image/png"
    assert found["name"] == "test-1-test-1-left.png"
    assert found["size"][0] == found["view"][0]
    assert found["size"][1] > found["view"][1], "the lines stand below the picture, not on it"
    said = " | ".join(found["texts"])
    assert re.search(r"\d+ (\u00b5m|mm) \([\d.]+\u00d7\)", said), "the scale bar"
    assert "test-1 \u00b7 test-1-left" in said
    assert "psi_4, t_p 0.50: regions" in said
    assert "PHANTOM DATA" in said


def test_panels_fold_away_and_come_back(browser: Browser, start: Start, tmp_path: Path) -> None:
    open_page(browser, start("folds"), SEEN)
    narrow = browser.find("slide").size["width"]
    browser.find("fold-list").click()
    assert not browser.find("list").is_displayed()
    assert browser.find("fold-list").get_attribute("aria-expanded") == "false"
    browser.press("f")
    settle(browser)
    assert not browser.find("panel").is_displayed()
    assert browser.find("slide").size["width"] > narrow + 500
    browser.keep_picture("review-folded", tmp_path)
    browser.press("t")
    browser.press("f")
    assert browser.find("list").is_displayed()
    browser.wait(lambda: browser.text("answer-state").startswith("Tumor, saved"), "keys answer without the panel, too")


def test_the_overview_hides_nothing_and_folds(browser: Browser, start: Start) -> None:
    open_page(browser, start("overview"), SEEN)
    inside = browser.run(
        """
        const overview = document.getElementById("overview");
        const canvas = overview.querySelector("canvas");
        return [overview.clientWidth, overview.clientHeight, canvas.width, Boolean(overview.closest("#list"))];
        """
    )
    assert inside[0] > 200
    assert inside[1] > 100
    assert inside[2] > 200
    assert inside[3]
    browser.driver.find_element(By.CSS_SELECTOR, ".overview summary").click()
    assert not browser.find("overview").is_displayed()
