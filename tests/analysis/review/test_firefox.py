"""The review page in Firefox: it opens, shows what lies over the slide, draws, and takes an answer."""

import os
from pathlib import Path

import pytest
from firefox import Firefox, reason_against, running_firefox
from places import REQUIRE_ALL
from review_browser import SEEN, Start

NO_FIREFOX = reason_against()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NO_FIREFOX is not None and REQUIRE_ALL not in os.environ, reason=NO_FIREFOX or ""),
]


def text(window: Firefox, element_id: str) -> str:
    return str(window.run(f"document.getElementById('{element_id}').textContent"))


def num_drawn(window: Firefox) -> int:
    """Pixels of the layers over the slide that are drawn on."""
    return int(
        window.run(
            "(() => { const { width, height } = document.querySelector('.layers');"
            "const { data } = document.querySelector('.layers').getContext('2d').getImageData(0, 0, width, height);"
            "let num = 0; for (let i = 3; i < data.length; i += 4) num += data[i] > 0; return num; })()"
        )
    )


def test_the_page_works_in_firefox(start: Start, tmp_path: Path) -> None:
    server = start("firefox")
    with running_firefox(tmp_path / "profile") as window:
        window.open(f"{server.address}#{SEEN}")
        window.wait(lambda: "psi_4, t_p 0.50: Tumor" in text(window, "viewed"), "the verdict is shown")
        window.wait(lambda: num_drawn(window) > 500, "outlines lie over the slide")
        outlines_alone = num_drawn(window)
        window.press("1")
        window.wait(lambda: num_drawn(window) > 5 * outlines_alone, "the heat lies over the slide")
        window.press("x")
        window.wait(lambda: num_drawn(window) == 0, "one key takes everything off")
        window.press("x", "r", "m", "b")
        middle = window.run(
            "(() => { const box = document.getElementById('slide').getBoundingClientRect();"
            "return `${Math.round(box.x + box.width / 2)} ${Math.round(box.y + box.height / 2)}`; })()"
        )
        x, y = map(int, str(middle).split())
        window.drag((x - 40, y), (x, y), (x + 40, y + 10))
        window.wait(lambda: "Tumornest" in text(window, "outlines"), "the brush has painted")
        window.press("\ue00c", "t")
        window.wait(lambda: text(window, "answer-state").startswith("Tumor, saved"), "the answer is saved")
        window.press("p")
        assert window.faults == []
    assert [answer["answer"] for answer in server.answers] == ["Tumor"]
