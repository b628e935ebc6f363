"""The audit's page in a real browser: crops with their reasons, and decisions that stand in the reviewer's file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from audit_study import SETTING, WRONG, write_audited_study
from chromium import Browser, running_browser
from review_browser import Server
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from analysis.review.audit.crops import PREDICTED
from analysis.review.audit.decisions import read_decisions
from analysis.review.audit.session import AuditedStudy
from bccdist.paths import StudyPaths

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(write_audited_study(tmp_path / "audited").root, "anna", 0, "--audit", SETTING)
    yield server
    server.stop()


@pytest.fixture
def browser(server: Server, tmp_path: Path) -> Iterator[Browser]:
    with running_browser(tmp_path / "profile") as browser:
        browser.open(server.address)
        yield browser


def cards(browser: Browser) -> list[WebElement]:
    """The findings that are shown, once the pictures of the first are there."""
    drawn = "return [...document.querySelectorAll('.finding:first-child img')].filter((each) => each.naturalWidth > 0)"
    browser.wait(lambda: len(browser.run(drawn)) == 2, "the first finding has its pictures")
    return browser.driver.find_elements(By.CSS_SELECTOR, ".finding")


def id_of(card: WebElement) -> str:
    return card.find_element(By.TAG_NAME, "h2").text.split()[1]


def card_with(browser: Browser, reason: str) -> WebElement:
    (card,) = [each for each in cards(browser) if reason in each.find_element(By.CLASS_NAME, "reason").text]
    return card


def num_predicted_px(browser: Browser, picture: WebElement) -> int:
    """Pixels of a picture that have the colour of the prediction's border."""
    return int(
        browser.run(
            """
            const [picture, colour] = given;
            const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
            const context = canvas.getContext("2d");
            context.drawImage(picture, 0, 0);
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            let num = 0;
            for (let i = 0; i < data.length; i += 4) num += colour.every((value, j) => data[i + j] === value);
            return num;
            """,
            picture,
            PREDICTED,
        )
    )


def press(card: WebElement, decision: str) -> None:
    card.find_element(By.CSS_SELECTOR, f"[data-decision='{decision}']").click()


def test_a_finding_is_seen_with_its_reason_and_decisions_are_in_the_file(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    shown = cards(browser)
    study = AuditedStudy(StudyPaths(server.study), SETTING)
    assert [each.find_element(By.TAG_NAME, "h2").text.split()[1] for each in shown] == [
        row["id"] for row in study.rows
    ]
    assert f"the first {study.num_first} are a tenth" in browser.text("about")
    assert browser.text("state") == "0 decided, 0 of them fixed."
    browser.keep_picture("audit-opened", tmp_path)

    left_out = card_with(browser, "nest left out: tumor is predicted on")
    browser.driver.execute_script("arguments[0].scrollIntoView()", left_out)
    tissue, marked = left_out.find_elements(By.TAG_NAME, "img")
    browser.wait(lambda: marked.get_property("complete") and tissue.get_property("complete"), "its pictures are there")
    assert num_predicted_px(browser, marked) > 200
    assert num_predicted_px(browser, tissue) == 0
    assert left_out.find_element(By.TAG_NAME, "select").get_property("value") == "Tumornest", "as is proposed"
    press(left_out, "fix")
    browser.wait(lambda: browser.text("state") == "1 decided, 1 of them fixed.", "the fix is kept")

    stands = card_with(browser, "annotated Normal, predicted tumor")
    press(stands, "accept")
    browser.wait(lambda: browser.text("state") == "2 decided, 1 of them fixed.", "what stands is kept")
    assert stands.find_element(By.CLASS_NAME, "said").text.startswith("accepted: the annotation stands (")
    browser.keep_picture("audit-decided", tmp_path)

    ids = [id_of(each) for each in (left_out, stands)]
    kept, num_earlier = read_decisions(study.paths, SETTING, study.digest)
    assert [(each.reviewer, each.id, each.decision, each.kind) for each in kept] == [
        ("anna", ids[0], "fix", "Tumornest"),
        ("anna", ids[1], "accept", None),
    ]
    assert all(each.startswith(f"{WRONG}/") for each in ids)
    assert num_earlier == 0

    browser.driver.refresh()
    pressed = [
        button.get_attribute("data-decision")
        for card in cards(browser)
        for button in card.find_elements(By.CSS_SELECTOR, "button[aria-pressed='true']")
    ]
    assert sorted(pressed) == ["accept", "fix"]
    assert browser.text("state") == "2 decided, 1 of them fixed."
    assert browser.faults() == []
