"""Pictures in rows and columns with headings: what the paper's Figures 2, 4 and 6 to 8 are made of.

Nothing is read here: arrays in, a PNG out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib.patheffects as effects
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analysis.pictures.overlay_drawing import PictureBox, heat_layer, round_length_um
from bccdist.configuration import PHANTOM_WARNING
from bccdist.files import atomic_path

PROBABILITY_COLOURS = colormaps["viridis"]
"""Evenly brighter with the probability, also to the colour-blind."""
_DARK, _BRIGHT = "#101010", "#ffffff"
_DPI = 100
_GAP_PX, _MARGIN_PX, _ROW_HEADING_PX, _CAPTION_PX = 10, 24, 34, 26
_HEADING_PX, _COLUMN_HEADING_PX, _BAR_PX = 76, 42, 56
_LEAST_WIDTH_PX = 940
_SCALE_BAR_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A box on a panel, with a text above its left corner where there is one."""

    box: PictureBox
    """In pixels of the panel's image."""
    colour: str
    dashed: bool = False
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a sheet."""

    image: NDArray[np.uint8]
    """RGB [h, w, 3]; shown as large as the sheet's panels may be, at most pixel by pixel."""
    um_per_px: float | None = None
    """Of the image, for a scale bar; None is without."""
    caption: str = ""
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels side by side; None is an empty place."""

    panels: tuple[Panel | None, ...]
    heading: str = ""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """All that a figure shows."""

    title: str
    subtitle: str
    columns: tuple[str, ...]
    """Headings, of two lines at most."""
    rows: tuple[Row, ...]
    panel_px: tuple[int, int]
    """The greatest width and height of a panel."""
    bar: NDArray[np.uint8] | None = None
    """RGB [n, 3]: the colours of the probabilities from 0 to 1; None is without a key to them."""
    phantom: bool


def in_colours(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities 0 to 1 as colours: [...] becomes uint8 RGB [..., 3]."""
    return np.asarray(PROBABILITY_COLOURS(probability, bytes=True), dtype=np.uint8)[..., :3]


def heated(tissue: NDArray[np.uint8], probability: NDArray[np.float32], t_p: float) -> NDArray[np.uint8]:
    """Tissue under the colours of the overlays: uint8 RGB [h, w, 3]; probability is [h, w], 0 to 1."""
    layer = heat_layer(probability, t_p)
    opacity = layer[..., 3:]
    mixed = tissue * (1 - opacity) + 255 * layer[..., :3] * opacity
    return np.asarray(np.round(mixed), dtype=np.uint8)


def outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_], *, bright: bool = False) -> NDArray[np.uint8]:
    """A copy of an RGB image with the outlines of a mask; none is drawn along the image's edge.

    Args:
        image: [h, w, 3].
        mask: [h, w].
        bright: a bright line with dark edges, which is seen on any colour; without, a fine dark one, as on overlays.
    """
    lines = ((_DARK, 4), (_BRIGHT, 2)) if bright else ((_DARK, 1),)
    margin = 8
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    mask_padded = np.pad(mask.astype(np.uint8), margin, mode="edge")
    contours, _ = cv2.findContours(mask_padded, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, width_px in lines:
        rgb = tuple(round(255 * share) for share in to_rgb(colour))
        cv2.drawContours(padded, contours, -1, rgb, width_px, cv2.LINE_AA)
    return padded[margin:-margin, margin:-margin].copy()


def probability_bar() -> NDArray[np.uint8]:
    """The colours of `in_colours`, for a sheet's bar."""
    return in_colours(np.linspace(0, 1, 256, dtype=np.float32))


def heat_bar(t_p: float) -> NDArray[np.uint8]:
    """The colours of `heated` on white, for a sheet's bar."""
    white = np.full((1, 256, 3), 255, dtype=np.uint8)
    return heated(white, np.linspace(0, 1, 256, dtype=np.float32)[None], t_p).reshape(256, 3)


def write_sheet(path: Path, sheet: Sheet) -> None:
    """Draw a sheet and write it as PNG, atomically."""
    figure = draw_sheet(sheet)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=_DPI)


def draw_sheet(sheet: Sheet) -> Figure:
    """The figure; an image that is not larger than panels may be is drawn pixel by pixel."""
    width, height = _size_px(sheet)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _write_headings(figure, sheet)
    for row, top in zip(sheet.rows, _tops_px(sheet), strict=True):
        row_height = _height_px(row, sheet)
        _write(figure, _MARGIN_PX + 10, top + row_height / 2, row.heading, rotation=90, ha="center", va="center")
        for column, panel in enumerate(row.panels):
            if panel is not None:
                _draw_panel(figure, panel, sheet, left_px=_left_px(sheet, column), top_px=top)
    if sheet.bar is not None:
        _draw_bar(figure, sheet.bar, left_px=_left_px(sheet, 0))
    return figure


def _size_px(sheet: Sheet) -> tuple[int, int]:
    """Width and height of the figure."""
    width = _left_px(sheet, len(sheet.columns)) - _GAP_PX + _MARGIN_PX
    *_, bottom = _tops_px(sheet, with_end=True)
    return max(_LEAST_WIDTH_PX, width), bottom + (_MARGIN_PX if sheet.bar is None else _BAR_PX)


def _left_px(sheet: Sheet, column: int) -> int:
    """Where a column begins."""
    has_row_headings = any(row.heading for row in sheet.rows)
    return _MARGIN_PX + _ROW_HEADING_PX * has_row_headings + column * (sheet.panel_px[0] + _GAP_PX)


def _tops_px(sheet: Sheet, *, with_end: bool = False) -> Iterator[int]:
    """Where each row begins, and where the last one ends if that is asked for."""
    top = _HEADING_PX + _COLUMN_HEADING_PX * any(sheet.columns)
    for row in sheet.rows:
        yield top
        top += _height_px(row, sheet) + _GAP_PX
        top += _CAPTION_PX * any(panel is not None and panel.caption for panel in row.panels)
    if with_end:
        yield top


def _height_px(row: Row, sheet: Sheet) -> int:
    """Of its highest panel as it is shown."""
    return max((_shown_px(panel.image, sheet)[1] for panel in row.panels if panel is not None), default=0)


def _shown_px(image: NDArray[np.uint8], sheet: Sheet) -> tuple[int, int]:
    """Width and height at which an image is shown."""
    height, width = image.shape[:2]
    scale = min(1.0, sheet.panel_px[0] / width, sheet.panel_px[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _write(figure: Figure, x_px: float, y_px: float, text: str, **options: Any) -> None:
    """A text at a place that counts from the figure's upper left corner."""
    place = (x_px / figure.bbox.width, 1 - y_px / figure.bbox.height)
    figure.text(*place, text, **{"fontsize": 10.5, "va": "top", **options})


def _write_headings(figure: Figure, sheet: Sheet) -> None:
    _write(figure, _MARGIN_PX, 12, sheet.title, fontsize=15, fontweight="bold")
    _write(figure, _MARGIN_PX, 44, sheet.subtitle, fontsize=11, color="#404040")
    if sheet.phantom:
        style = {"fontsize": 11, "fontweight": "bold", "color": "#7b3294", "ha": "right"}
        _write(figure, figure.bbox.width - _MARGIN_PX, 12, PHANTOM_WARNING, **style)
    for column, heading in enumerate(sheet.columns):
        middle = _left_px(sheet, column) + sheet.panel_px[0] / 2
        bottom = _HEADING_PX + _COLUMN_HEADING_PX - 5
        _write(figure, middle, bottom, heading, fontweight="bold", ha="center", va="bottom", linespacing=1.25)


def _draw_panel(figure: Figure, panel: Panel, sheet: Sheet, *, left_px: float, top_px: float) -> None:
    """An image in the middle of its column, with what is written on and below it."""
    width, height = _shown_px(panel.image, sheet)
    left_px += (sheet.panel_px[0] - width) // 2
    total_width, total_height = figure.bbox.width, figure.bbox.height
    bottom = 1 - (top_px + height) / total_height
    axes = figure.add_axes((left_px / total_width, bottom, width / total_width, height / total_height))
    axes.imshow(panel.image, interpolation="antialiased", aspect="auto")
    axes.autoscale(enable=False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_edgecolor("#b0b0b0")
    for mark in panel.marks:
        _draw_mark(axes, mark)
    if panel.um_per_px is not None:
        _draw_scale_bar(axes, panel.um_per_px, panel.image.shape[1])
    _write(figure, left_px + width / 2, top_px + height + 5, panel.caption, fontsize=10, ha="center")


def _draw_mark(axes: Axes, mark: Mark) -> None:
    corner, style = (mark.box.x, mark.box.y), (0, (4, 2)) if mark.dashed else "solid"
    for colour, width in (("white", 4.0), (mark.colour, 2.2)):
        axes.add_patch(
            Rectangle(
                corner,
                mark.box.width,
                mark.box.height,
                fill=False,
                edgecolor=colour,
                linewidth=width,
                linestyle=style if colour == mark.colour else "solid",
            )
        )
    if mark.text:
        box = {"boxstyle": "square,pad=0.25", "facecolor": mark.colour, "edgecolor": mark.colour}
        place: dict[str, Any] = {"xytext": (2, 5), "textcoords": "offset points", "va": "bottom"}
        axes.annotate(mark.text, corner, fontsize=10.5, fontweight="bold", color="white", bbox=box, **place)


def _draw_scale_bar(axes: Axes, um_per_px: float, width_px: int) -> None:
    """A bar with its length at the lower left of an image."""
    length_um = round_length_um(width_px * um_per_px * _SCALE_BAR_SHARE)
    share = length_um / um_per_px / width_px
    text = f"{length_um:g} µm" if length_um < 1000 else f"{length_um / 1000:g} mm"
    halo = [effects.withStroke(linewidth=4, foreground="white")]
    start, y = 10 / axes.bbox.width, 10 / axes.bbox.height
    line: dict[str, Any] = {"color": "black", "linewidth": 3.5, "solid_capstyle": "butt"}
    axes.plot([start, start + share], [y, y], transform=axes.transAxes, path_effects=halo, **line)
    place = (start, 15 / axes.bbox.height)
    axes.text(*place, text, transform=axes.transAxes, va="bottom", fontsize=10, path_effects=halo)


def _draw_bar(figure: Figure, colours: NDArray[np.uint8], *, left_px: float) -> None:
    """The key to the colours, at the lower left."""
    width, height = figure.bbox.width, figure.bbox.height
    _write(figure, left_px, height - _BAR_PX + 21, "tumor probability", va="center")
    axes = figure.add_axes(((left_px + 138) / width, (_BAR_PX - 28) / height, 300 / width, 14 / height))
    axes.imshow(colours[None], aspect="auto", extent=(0, 1, 0, 1))
    axes.set(xticks=[0, 0.25, 0.5, 0.75, 1], yticks=[])
    axes.tick_params(labelsize=9.5)
