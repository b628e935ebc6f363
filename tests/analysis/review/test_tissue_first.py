"""Tissue first, in a real browser: what lies over a slide when it is opened, and that it all belongs together."""

import time
from collections import Counter
from pathlib import Path

import pytest
from chromium import Browser
from review_browser import BLACK, SEEN, Start, forget_requests, num_of_colour, only, open_page, requests, settle
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def colours_over_the_slide(browser: Browser) -> Counter[tuple[int, ...]]:
    """The colours of the layers, each with the number of its pixels."""
    found = browser.run(
        """
        const layers = document.querySelector(".layers");
        const { data } = layers.getContext("2d").getImageData(0, 0, layers.width, layers.height);
        const seen = {};
        for (let i = 0; i < data.length; i += 4) {
          const colour = `${data[i]},${data[i + 1]},${data[i + 2]},${data[i + 3]}`;
          seen[colour] = (seen[colour] ?? 0) + 1;
        }
        return seen;
        """
    )
    return Counter({tuple(map(int, name.split(","))): num for name, num in found.items()})


def covered(browser: Browser) -> float:
    """Share of the view over which anything is drawn."""
    colours = colours_over_the_slide(browser)
    return 1 - colours[(0, 0, 0, 0)] / colours.total()


def test_on_opening_nothing_but_thin_outlines_lies_over_the_tissue(
    browser: Browser, start: Start, tmp_path: Path
) -> None:
    open_page(browser, start("sees tissue"), SEEN)
    assert not any("/api/heatmap/" in name for name in requests(browser)), "heat that nobody asked for"
    assert 0.001 < covered(browser) < 0.02
    above = browser.run(
        """
        const { left, top, width, height } = document.getElementById("slide").getBoundingClientRect();
        const spots = [0.03, 0.2, 0.5, 0.8, 0.97].flatMap((x) => [0.03, 0.3, 0.6, 0.97].map((y) => [x, y]));
        const at = ([x, y]) => document.elementFromPoint(left + x * width, top + y * height);
        return spots.map(at).filter((element) => !element.closest("#slide")).length;
        """
    )
    assert above == 0, "overview, scale bar and colours lie beside the slide"
    browser.keep_picture("review-tissue-first", tmp_path)


def test_one_key_takes_everything_off_and_brings_it_back(browser: Browser, start: Start) -> None:
    open_page(browser, start("hides"), SEEN)
    browser.press("1", "2", "4", "5")
    settle(browser)
    assert covered(browser) > 0.05
    browser.press("x")
    time.sleep(0.2)
    assert covered(browser) == 0
    assert browser.find("hide-all").get_attribute("aria-pressed") == "true"
    browser.press("x")
    time.sleep(0.2)
    assert covered(browser) > 0.05


def test_heat_begins_at_t_p(browser: Browser, start: Start) -> None:
    """Stored values of the slide are 20, 180, 230 and 250 of 255."""
    open_page(browser, start("heats"), SEEN)
    with only(browser, "heatmap"):
        everything = covered(browser)
        browser.press(*["]"] * 49)
        settle(browser)
        assert covered(browser) == 0, "t_p is 0.99, above 250"
        browser.press(*["["] * 49)
        settle(browser)
        assert covered(browser) == pytest.approx(everything, rel=0.01)


def test_regions_area_and_verdict_are_of_the_chosen_psi_and_t_p(
    browser: Browser, start: Start, tmp_path: Path
) -> None:
    open_page(browser, start("chooses"), SEEN)
    browser.wait(lambda: "psi_4, t_p 0.50: Tumor" in browser.text("viewed"), "the study's own verdict")
    assert not browser.find("not-chosen").is_displayed()
    forget_requests(browser)
    Select(browser.find("psi")).select_by_visible_text("psi_2")
    browser.wait(lambda: "psi_2, t_p 0.50: Tumor" in browser.text("viewed"), "the verdict of the other output")
    assert any("psi=psi_2" in name for name in requests(browser))
    assert "Not the study's choice, which is psi_4 at t_p 0.50" in browser.text("not-chosen")
    browser.press(*["]"] * 45)
    browser.wait(lambda: "psi_2, t_p 0.95: Normal" in browser.text("viewed"), "the verdict at another t_p")
    browser.wait(lambda: browser.text("regions-text").startswith("0 regions"), "no region reaches it")
    browser.keep_picture("review-other-psi", tmp_path)
    browser.find("tp-chosen").click()
    Select(browser.find("psi")).select_by_visible_text("psi_4")
    browser.wait(lambda: "psi_4, t_p 0.50: Tumor" in browser.text("viewed"), "back at the study's own")
    assert not browser.find("not-chosen").is_displayed()


def test_areas_stand_at_the_largest_region_and_under_the_pointer(browser: Browser, start: Start) -> None:
    open_page(browser, start("points"), SEEN)
    with only(browser, "regions"):
        labelled = num_of_colour(browser, BLACK)
        middle = browser.run(
            """
            const { Overlays } = await import("/static/overlays.js");
            const overlays = new Overlays(() => {});
            await overlays.loadRegions("resnet34_ds", "test-1", { psi: "psi_4", tP: 0.5 });
            return overlays.regions.map(({ properties }) => properties.section_id);
            """
        )
        assert sorted(middle) == ["test-1-left", "test-1-right"]
        browser.press("9")
        settle(browser)
        without = num_of_colour(browser, BLACK)
        # The other section's region: x 700 to 820, y 200 to 300 of 1100 x 640.
        slide = browser.find("slide")
        width, height = slide.size["width"], slide.size["height"]
        scale = min(width / 1100, height / 640)
        place = (round((760 - 550) * scale), round((250 - 320) * scale))
        browser.click_in("slide", place)
        assert num_of_colour(browser, BLACK) > without + 300, "its area is written in a black box"
    assert labelled > 300
    assert browser.driver.find_elements(By.CSS_SELECTOR, ".plate") == []
