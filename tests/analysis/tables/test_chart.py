"""Charts are of one look, and none is cut."""

import numpy as np
import pandas as pd
import pytest

from analysis.tables.chart import new_figure
from analysis.tables.figure5 import draw
from bccdist.configuration import PHANTOM_WARNING


@pytest.mark.parametrize("width_inch", [4.8, 6.4, 11.0])
@pytest.mark.parametrize(
    "title",
    ["ROC", "F_1.5 on Validation I + II by thresholds; outlined: at most 0.005 below", "sections of all parts " * 10],
)
@pytest.mark.parametrize("warning", ["", PHANTOM_WARNING])
def test_a_title_is_within_its_figure_however_long(width_inch: float, title: str, warning: str) -> None:
    figure = new_figure(width_inch, 4.6, title, warning=warning)
    figure.subplots().plot([0, 1])
    figure.draw_without_rendering()
    (written,) = [text for text in figure.texts if text.get_text()]
    drawn = written.get_window_extent()
    assert drawn.x0 >= 0
    assert drawn.x1 <= figure.bbox.width
    assert written.get_text().replace("\n", " ") == f"{title} {warning}".replace("  ", " ").strip()
    assert drawn.y0 >= figure.axes[0].get_tightbbox().y1 - 1


@pytest.mark.parametrize("num_settings", [1, 2, 4])
def test_errors_are_told_apart_without_colours_and_one_bar_is_no_wall(num_settings: int) -> None:
    names = ["unet", "resnet34", "resnet34_ds", "resnet34_linear"][:num_settings]
    frame = pd.DataFrame({"setting": names, "fn": 2, "fp": 3, "num_wrong": 5, "num_sections": 40})
    axes = draw(frame.assign(phantom=False, phantom_weights=False)).axes[0]
    missed, false = axes.containers[:2]
    assert [bar.get_hatch() for bar in (missed[0], false[0])] == [None, "//"]
    low, high = axes.get_xlim()
    assert missed[0].get_width() / (high - low) <= 0.21
    assert low < missed[0].get_x()
    assert all(np.isclose(tick, round(tick)) for tick in axes.get_yticks())
