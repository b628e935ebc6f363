"""A sheet shows its images pixel by pixel under the right headings, and outlines follow masks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from analysis.pictures.colours import ColourBar, heat_bar, heated, in_colours, outlined, probability_bar
from analysis.pictures.drawing import Key, Mark, Panel, PictureBox, Row, Sheet, draw_sheet, round_length_um
from bccdist.configuration import PHANTOM_WARNING


def noise(width: int, height: int, *, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain_sheet(*rows: Row) -> Sheet:
    return Sheet(title="Figure", subtitle="about it", columns=("one", "two"), rows=rows, panel_px=(300, 200))


def pixels_of(sheet: Sheet, number: int) -> NDArray[np.uint8]:
    """The drawn area of one panel, RGB."""
    figure = draw_sheet(sheet)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    place = figure.axes[number].bbox
    top, left = round(drawn.shape[0] - place.y1), round(place.x0)
    return drawn[top : top + round(place.height), left : left + round(place.width), :3]


def drawn_text(figure: Figure, text: str) -> Bbox:
    """Where a text of the sheet stands, in pixels from below."""
    (found,) = (each for each in figure.texts if each.get_text() == text)
    return found.get_window_extent()


def test_images_that_fit_are_shown_pixel_by_pixel_and_others_shrink_in_proportion() -> None:
    small, large = noise(240, 90), noise(900, 300, seed=1)
    sheet = plain_sheet(Row(panels=(Panel(image=small), Panel(image=large))))
    shown = pixels_of(sheet, 0)
    assert shown.shape == small.shape
    assert (shown == small)[2:-2, 2:-2].all()
    assert pixels_of(sheet, 1).shape == (100, 300, 3)


def test_panels_stand_in_their_row_and_column() -> None:
    panels = [Panel(image=noise(300, height), caption="below") for height in (50, 200, 80)]
    sheet = plain_sheet(Row(panels=(panels[0], panels[1]), heading="first"), Row(panels=(None, panels[2])))
    first, second, third = (axes.bbox for axes in draw_sheet(sheet).axes)
    assert first.y1 == pytest.approx(second.y1)
    assert second.x0 == third.x0 == pytest.approx(first.x1 + 10)
    assert third.y1 < second.y0 - 20


def test_headings_captions_and_the_warning_are_written() -> None:
    sheet = plain_sheet(Row(panels=(Panel(image=noise(300, 50), caption="IoU 0.50"), None), heading="val1-0"))
    texts = {text.get_text() for text in draw_sheet(sheet).texts}
    assert texts >= {"Figure", "about it", "one", "two", "val1-0", "IoU 0.50"}
    warned = {text.get_text() for text in draw_sheet(replace(sheet, warning=PHANTOM_WARNING)).texts}
    assert warned - texts == {"PHANTOM DATA - drawn slides, not tissue"}


def test_a_scale_bar_has_the_length_that_it_says() -> None:
    sheet = plain_sheet(Row(panels=(Panel(image=noise(300, 200), um_per_px=2.0), None)))
    axes = draw_sheet(sheet).axes[0]
    (bar,) = axes.lines
    start, end = np.asarray(bar.get_xdata(), dtype=float)
    assert (end - start) * 300 * 2.0 == pytest.approx(100)
    (text,) = axes.texts
    assert text.get_text() == "100 \u00b5m"
    assert text.get_window_extent().y1 <= axes.bbox.y0


@given(st.floats(1e-3, 1e6))
def test_scale_bar_has_a_round_length(longest_um: float) -> None:
    length_um = round_length_um(longest_um)
    assert length_um <= longest_um * (1 + 1e-6) < 2.5 * length_um * (1 + 1e-6)
    assert f"{length_um:.0e}"[0] in "125"


def test_a_caption_stands_below_the_scale_bar_of_its_row() -> None:
    panels = (Panel(image=noise(300, 50), um_per_px=2.0, caption="left"), Panel(image=noise(300, 50), caption="right"))
    figure = draw_sheet(plain_sheet(Row(panels=panels)))
    left, right = (drawn_text(figure, text) for text in ("left", "right"))
    assert left.y0 == pytest.approx(right.y0, abs=4)
    assert max(left.y1, right.y1) <= figure.axes[0].texts[0].get_window_extent().y0


def test_marks_lie_on_their_boxes() -> None:
    white = np.full((200, 300, 3), 255, dtype=np.uint8)
    mark = Mark(box=PictureBox(40, 60, 200, 100), colour="#d7191c", text="Tumor")
    shown = pixels_of(plain_sheet(Row(panels=(Panel(image=white, marks=(mark,)), None))), 0).astype(int)
    is_red = (shown[..., 0] > 180) & (shown[..., 1] < 80)
    rows, cols = np.nonzero(is_red[:, 100:])
    assert (rows.min(), rows.max()) == pytest.approx((60, 160), abs=3)
    assert 100 + cols.max() == pytest.approx(240, abs=3)
    assert is_red[35:55, 40:50].any()
    assert is_red[120:150, 60:220].sum() == 0


@pytest.mark.parametrize(
    "box",
    [PictureBox(0, 0, 30, 40), PictureBox(270, 0, 30, 40), PictureBox(280, 180, 20, 20), PictureBox(100, 100, 50, 50)],
    ids=["upper left", "upper right", "lower right", "middle"],
)
def test_a_tag_stays_inside_the_picture(box: PictureBox) -> None:
    mark = Mark(box=box, colour="#d7191c", text="Normal / Tumor WRONG", alarming=True)
    axes = draw_sheet(plain_sheet(Row(panels=(Panel(image=noise(300, 200), marks=(mark,)), None)))).axes[0]
    (tag,) = axes.texts
    drawn = tag.get_window_extent()
    assert axes.bbox.x0 < drawn.x0 < drawn.x1 < axes.bbox.x1
    assert axes.bbox.y0 < drawn.y0 < drawn.y1 < axes.bbox.y1


def test_a_mark_at_the_edge_does_not_shrink_the_image() -> None:
    image = noise(300, 200)
    sheet = plain_sheet(
        Row(panels=(Panel(image=image, marks=(Mark(box=PictureBox(0, 0, 300, 200), colour="k"),)), None))
    )
    assert (pixels_of(sheet, 0) == image)[6:-6, 6:-6].all()


@pytest.mark.parametrize("name", ["slide-" * 8, "slide-" * 40], ids=["smaller letters", "without its middle"])
def test_long_names_run_into_nothing(name: str) -> None:
    row = Row(panels=(Panel(image=noise(300, 150), caption=f"caption {name}"), None), heading=f"row {name}")
    sheet = replace(plain_sheet(row), title=f"title {name}", columns=(f"column {name}", ""))
    figure = draw_sheet(sheet)
    most_px = {"caption": 300, "column": 300, "title": figure.bbox.width - 48}
    for kind, most in most_px.items():
        (found,) = (text for text in figure.texts if text.get_text().startswith(kind))
        assert found.get_window_extent().width <= most
        assert found.get_text().endswith("slide-")
    (heading,) = (text for text in figure.texts if text.get_text().startswith("row"))
    assert heading.get_window_extent().height <= 150


def test_the_warning_overlaps_no_title() -> None:
    figure = draw_sheet(replace(plain_sheet(Row(panels=(None, None))), title="title " * 30, warning=PHANTOM_WARNING))
    warning = drawn_text(figure, "PHANTOM DATA - drawn slides, not tissue")
    assert warning.y0 >= drawn_text(figure, "title " * 30).y1
    assert warning.y1 <= figure.bbox.height


def test_signs_are_explained_below_everything() -> None:
    keys = (Key(sign="box", colour="r", text="label Tumor"), Key(sign="line", colour="k", text="outline"))
    row = Row(panels=(Panel(image=noise(300, 50)), None))
    figure = draw_sheet(replace(plain_sheet(row), bar=a_heat_bar(), keys=keys))
    (legend,) = figure.legends
    drawn = legend.get_window_extent()
    assert [text.get_text() for text in legend.get_texts()] == ["label Tumor", "outline"]
    assert 0 <= drawn.y0 < drawn.y1 < figure.axes[1].bbox.y0
    assert drawn.x1 < figure.bbox.width


def test_a_sheet_without_a_title_is_as_wide_as_its_panels() -> None:
    row = Row(panels=(Panel(image=noise(300, 50), um_per_px=1.0), Panel(image=noise(300, 50))))
    figure = draw_sheet(replace(plain_sheet(row), title="", subtitle="", columns=("", "")))
    assert figure.bbox.width == 610
    assert figure.bbox.height < 100


def test_the_outline_follows_the_mask_and_not_the_edge_of_the_image() -> None:
    image = np.full((100, 120, 3), 128, dtype=np.uint8)
    mask = np.zeros((100, 120), dtype=bool)
    mask[30:60, :50] = True
    changed = (outlined(image, mask) != 128).any(axis=2)
    assert changed[28:32, 5:45].any(axis=0).all()
    assert changed[33:57, 48:52].any(axis=1).all()
    assert not changed[35:55, :44].any()
    assert not changed[:26].any()
    assert (outlined(image, np.ones_like(mask)) == 128).all()
    assert (image == 128).all()


def test_heat_covers_nothing_where_no_tumor_is_suspected() -> None:
    tissue = noise(60, 40)
    probability = np.zeros((40, 60), dtype=np.float32)
    probability[:, 30:] = 0.9
    mixed = heated(tissue, probability, 0.6)
    np.testing.assert_array_equal(mixed[:, :30], tissue[:, :30])
    assert (mixed[:, 30:] != tissue[:, 30:]).any(axis=2).all()


def test_colours_of_probabilities_grow_brighter() -> None:
    colours = probability_bar().colours
    luminance = colours.astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) >= -0.5).all()
    assert luminance[-1] - luminance[0] > 150
    np.testing.assert_array_equal(in_colours(np.array([[1.0]], dtype=np.float32))[0, 0], colours[-1])


def a_heat_bar() -> ColourBar:
    """Of a picture whose greatest probability is 0.9."""
    return heat_bar(0.6, [(noise(60, 40), np.full((40, 60), 0.9, dtype=np.float32))])


def test_the_bar_of_heat_has_colours_from_t_p_to_what_is_shown() -> None:
    bar = a_heat_bar()
    assert bar.shown == pytest.approx((0.6, 0.9))
    luminance = bar.colours.astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) >= -0.8).all()


def test_a_bar_of_nothing_says_so() -> None:
    nothing = heat_bar(0.6, [(noise(60, 40), np.zeros((40, 60), dtype=np.float32))])
    figure = draw_sheet(replace(plain_sheet(Row(panels=(Panel(image=noise(300, 50)), None))), bar=nothing))
    assert drawn_text(figure, "no probability reaches t_p").x1 < figure.bbox.width


def test_the_bar_has_its_own_place() -> None:
    row = Row(panels=(Panel(image=noise(300, 50)), None))
    with_bar = draw_sheet(replace(plain_sheet(row), bar=probability_bar()))
    panel, bar = (axes.bbox for axes in with_bar.axes)
    assert bar.y1 < panel.y0 - 5
    assert bar.y0 > 20


def test_the_bar_of_heat_marks_t_p() -> None:
    sheet = plain_sheet(Row(panels=(Panel(image=noise(300, 50)), None)))
    axes = draw_sheet(replace(sheet, bar=a_heat_bar())).axes[1]
    assert [text.get_text() for text in axes.texts] == ["t_p 0.60"]
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [0.6, 0.6]
