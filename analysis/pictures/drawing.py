"""Pictures in rows and columns with headings: the paper's figures, overlays of slides, small pictures for the report.

Nothing is read here: arrays in, a PNG or a JPEG out. Places are pixels that count from the upper left corner. Whatever
is written shrinks to the room that it has, so that long names run into nothing.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from numpy.typing import NDArray

from analysis.pictures.colours import BRIGHT, DARK, ColourBar, LineStyle
from analysis.pictures.picture_state import STATE
from analysis.study_evidence.table import Table, warning_of
from bccdist.canvas import new_canvas
from bccdist.files import atomic_path
from bccdist.paths import StudyPaths

_DPI = 100
_POINTS_PER_PX = 72 / _DPI
_GAP_PX, _MARGIN_PX, _ROW_HEADING_PX = 10, 24, 34
_WARNING_PX, _TITLE_PX, _COLUMN_HEADING_PX = 24, 70, 42
_LINE_PX = 24
"""A line below a panel: its scale bar, or its caption."""
_COLOUR_BAR_PX, _KEYS_PX = 66, 28
_LEAST_WIDTH_PX = 940
_SCALE_BAR_SHARE = 0.3
"""The longest scale bar, of its image's width."""
_JPEG_QUALITY = 80
_LEAST_FONT_POINTS = 6.5
_DASHES: Mapping[LineStyle, Any] = {"solid": "solid", "dashed": (0, (4, 2)), "dotted": (0, (1, 1.5))}
_FRAME_COLOUR, _WARNING_COLOUR, _ALARM_COLOUR = "#b0b0b0", "#7b3294", "#ffe135"


class PictureBox(NamedTuple):
    """A box in pixels of a picture, not always whole."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A box on a panel, with a tag at its upper left corner where there is a text."""

    box: PictureBox
    """Where it lies, in pixels of the panel's image."""
    colour: str
    text: str = ""
    line: LineStyle = "solid"
    alarming: bool = False
    """A thick box with a black tag: somebody has to look here."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a sheet."""

    image: NDArray[np.uint8]
    """RGB [h, w, 3]; shown as large as the sheet's panels may be, at most pixel by pixel."""
    um_per_px: float | None = None
    """Scale of the image, for a scale bar below it; None is without."""
    caption: str = ""
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels side by side; None is an empty place."""

    panels: tuple[Panel | None, ...]
    heading: str = ""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What a sign on the panels means."""

    sign: Literal["box", "line", "tag"]
    colour: str
    text: str
    line: LineStyle = "solid"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """All that is drawn of a picture. Without a title it has no margins: it is part of a page then."""

    title: str = ""
    subtitle: str = ""
    """A line or two below the title."""
    columns: tuple[str, ...]
    """Headings, of two lines at most; empty ones where no column needs a name."""
    rows: tuple[Row, ...]
    panel_px: tuple[int, int]
    """The greatest width and height of a panel."""
    bar: ColourBar | None = None
    keys: tuple[Key, ...] = ()
    warning: str = ""
    """What is not real about it, from `phantom_warning`."""
    state: str = ""
    """Of the labels and verdicts that it shows (`picture_state`), kept in its file; nothing where it shows none."""

    @property
    def margin_px(self) -> int:
        """White space at the edges."""
        return _MARGIN_PX if self.title else 0


def write_sheet(path: Path, sheet: Sheet) -> None:
    """Draw a sheet and write it as PNG, atomically."""
    figure = draw_sheet(sheet)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=_DPI, metadata={STATE: sheet.state} if sheet.state else None)


def sheet_as_jpeg(sheet: Sheet) -> bytes:
    """Draw a sheet as a JPEG."""
    file = io.BytesIO()
    draw_sheet(sheet).savefig(file, format="jpeg", dpi=_DPI, pil_kwargs={"quality": _JPEG_QUALITY})
    return file.getvalue()


def write_figure(
    paths: StudyPaths,
    table: Table,
    *,
    subtitle: str,
    columns: tuple[str, ...],
    rows: tuple[Row, ...],
    panel_px: tuple[int, int],
    bar: ColourBar | None = None,
    state: str = "",
) -> Table:
    """Draw a figure of the paper and write its table beside it; both have one title and one warning.

    Args:
        paths: the study's.
        table: what the figure shows.
        subtitle, columns, rows, panel_px, bar, state: see `Sheet`.

    Returns:
        The table.
    """
    sheet = Sheet(
        title=table.title.removesuffix("."),
        subtitle=subtitle,
        columns=columns,
        rows=rows,
        panel_px=panel_px,
        bar=bar,
        state=state,
        warning=warning_of(table.frame),
    )
    write_sheet(paths.figure(table.name), sheet)
    return table.write(paths.figures)


def draw_sheet(sheet: Sheet) -> Figure:
    """The figure; an image that is not larger than panels may be is drawn pixel by pixel."""
    width_px, height_px = _size_px(sheet)
    figure = new_canvas(width_px / _DPI, height_px / _DPI, dpi=_DPI).figure
    _write_headings(figure, sheet)
    for row, top_px in zip(sheet.rows, _tops_px(sheet), strict=False):
        row_px = _height_px(row, sheet)
        place_px = (sheet.margin_px + 10, top_px + row_px / 2)
        _write(figure, *place_px, row.heading, most_px=row_px, rotation=90, ha="center", va="center")
        for column, panel in enumerate(row.panels):
            if panel is not None:
                caption_px = _LINE_PX * _has_both_lines(row)
                _draw_panel(figure, panel, sheet, corner_px=(_left_px(sheet, column), top_px), caption_px=caption_px)
    *_, foot_px = _tops_px(sheet)
    if sheet.bar is not None:
        _draw_colour_bar(figure, sheet.bar, left_px=_left_px(sheet, 0), top_px=foot_px)
        foot_px += _COLOUR_BAR_PX
    if sheet.keys:
        _draw_keys(figure, sheet.keys, left_px=_left_px(sheet, 0), top_px=foot_px)
    return figure


def _size_px(sheet: Sheet) -> tuple[int, int]:
    """Width and height of the figure."""
    width_px = _left_px(sheet, len(sheet.columns)) - _GAP_PX + sheet.margin_px
    *_, end_px = _tops_px(sheet)
    end_px += _COLOUR_BAR_PX * (sheet.bar is not None) + _KEYS_PX * bool(sheet.keys)
    # With a title there is room for a line of words, however narrow the panels are.
    return max(_LEAST_WIDTH_PX if sheet.title else 1, width_px), end_px + sheet.margin_px // 2


def _left_px(sheet: Sheet, column: int) -> int:
    """Where a column begins."""
    has_row_headings = any(row.heading for row in sheet.rows)
    return sheet.margin_px + _ROW_HEADING_PX * has_row_headings + column * (sheet.panel_px[0] + _GAP_PX)


def _title_top_px(sheet: Sheet) -> int:
    """Where the title begins: the warning has a line of its own above it."""
    return sheet.margin_px // 2 + _WARNING_PX * bool(sheet.warning)


def _tops_px(sheet: Sheet) -> Iterator[int]:
    """Where each row begins, and at last where the foot does."""
    top_px = _title_top_px(sheet) + _TITLE_PX * bool(sheet.title) + _COLUMN_HEADING_PX * any(sheet.columns)
    for row in sheet.rows:
        yield top_px
        panels = [panel for panel in row.panels if panel is not None]
        has_line = any(panel.caption or panel.um_per_px for panel in panels)
        top_px += _height_px(row, sheet) + _LINE_PX * (has_line + _has_both_lines(row)) + _GAP_PX
    yield top_px


def _has_both_lines(row: Row) -> bool:
    """Whether a panel has a caption below its scale bar; all captions of the row stand in one line then."""
    return any(panel is not None and panel.caption and panel.um_per_px is not None for panel in row.panels)


def _height_px(row: Row, sheet: Sheet) -> int:
    """The height of a row's highest panel as it is shown."""
    return max((_shown_px(panel.image, sheet)[1] for panel in row.panels if panel is not None), default=0)


def _shown_px(image: NDArray[np.uint8], sheet: Sheet) -> tuple[int, int]:
    """Width and height at which an image is shown."""
    height_px, width_px = image.shape[:2]
    scale = min(1.0, sheet.panel_px[0] / width_px, sheet.panel_px[1] / height_px)
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def _write(figure: Figure, x_px: float, y_px: float, text: str, *, most_px: float, **options: Any) -> None:
    """A text at a place, in smaller letters where it is longer than `most_px`, and if need be without its middle."""
    place = (x_px / figure.bbox.width, 1 - y_px / figure.bbox.height)
    written = figure.text(*place, text, **{"fontsize": 10.5, "va": "top", **options})
    length_px = _length_px(written)
    if length_px > most_px:
        written.set_fontsize(max(_LEAST_FONT_POINTS, float(written.get_fontsize()) * most_px / length_px))
    kept = len(text)
    while kept > 2 and _length_px(written) > most_px:
        # Smaller letters could not be read: both ends of a name tell more than its middle.
        kept -= 1
        written.set_text(f"{text[: kept // 2]}\u2026{text[-(kept - kept // 2) :]}")


def _length_px(written: Text) -> float:
    """The length of a text; of a turned one that is its height."""
    drawn = written.get_window_extent()
    return max(drawn.width, drawn.height)


def _write_headings(figure: Figure, sheet: Sheet) -> None:
    top_px, width_px = _title_top_px(sheet), figure.bbox.width - 2 * sheet.margin_px
    if sheet.warning:
        style: dict[str, Any] = {"fontsize": 11, "fontweight": "bold", "color": _WARNING_COLOUR}
        _write(figure, sheet.margin_px, sheet.margin_px // 2, sheet.warning, most_px=width_px, **style)
    _write(figure, sheet.margin_px, top_px, sheet.title, most_px=width_px, fontsize=15, fontweight="bold")
    _write(figure, sheet.margin_px, top_px + 32, sheet.subtitle, most_px=width_px, fontsize=11, color="#404040")
    bottom_px = top_px + _TITLE_PX * bool(sheet.title) + _COLUMN_HEADING_PX - 5
    style = {"most_px": sheet.panel_px[0], "fontweight": "bold", "ha": "center", "va": "bottom", "linespacing": 1.25}
    for column, heading in enumerate(sheet.columns):
        _write(figure, _left_px(sheet, column) + sheet.panel_px[0] / 2, bottom_px, heading, **style)


def _add_axes(figure: Figure, left_px: float, top_px: float, width_px: float, height_px: float) -> Axes:
    """Axes without ticks in a place of the figure."""
    total_px = (figure.bbox.width, figure.bbox.height)
    bottom = 1 - (top_px + height_px) / total_px[1]
    axes = figure.add_axes((left_px / total_px[0], bottom, width_px / total_px[0], height_px / total_px[1]))
    axes.set(xticks=[], yticks=[])
    return axes


def _draw_panel(
    figure: Figure, panel: Panel, sheet: Sheet, *, corner_px: tuple[float, float], caption_px: float
) -> None:
    """An image in the middle of its column, with what is written on and below it."""
    width_px, height_px = _shown_px(panel.image, sheet)
    (column_px, top_px), panel_px = corner_px, sheet.panel_px[0]
    axes = _add_axes(figure, column_px + (panel_px - width_px) // 2, top_px, width_px, height_px)
    # Places on the image count from its corner, not from the middle of its first pixel.
    extent = (0, panel.image.shape[1], panel.image.shape[0], 0)
    axes.imshow(panel.image, interpolation="antialiased", aspect="auto", extent=extent)
    axes.autoscale(enable=False)
    axes.spines[:].set_edgecolor(_FRAME_COLOUR)
    for mark in panel.marks:
        _draw_mark(axes, mark)
    if panel.um_per_px is not None:
        _draw_scale_bar(axes, panel.um_per_px, panel.image.shape[1])
    place_px = (column_px + panel_px / 2, top_px + height_px + caption_px + 5)
    _write(figure, *place_px, panel.caption, most_px=panel_px, fontsize=10, ha="center")


def _draw_mark(axes: Axes, mark: Mark) -> None:
    """A box with white edges, which is seen on any colour, and its tag."""
    width = 3.5 if mark.alarming else 2.2
    lines: tuple[tuple[str, float, Any], ...] = (
        (BRIGHT, width + 1.8, "solid"),
        (mark.colour, width, _DASHES[mark.line]),
    )
    for colour, linewidth, linestyle in lines:
        style = {"fill": False, "edgecolor": colour, "linewidth": linewidth, "linestyle": linestyle, "clip_on": False}
        axes.add_patch(Rectangle((mark.box.x, mark.box.y), mark.box.width, mark.box.height, **style))
    if mark.text:
        _draw_tag(axes, mark)


def _draw_tag(axes: Axes, mark: Mark) -> None:
    """The text of a mark, above its box, and where there is no room inside the picture, over it."""
    ground, letters = (DARK, _ALARM_COLOUR) if mark.alarming else (mark.colour, BRIGHT)
    tag = axes.annotate(
        mark.text,
        (mark.box.x, mark.box.y),
        xytext=(2, 5),
        textcoords="offset points",
        va="bottom",
        fontsize=10.5,
        fontweight="bold",
        color=letters,
        bbox={"boxstyle": "square,pad=0.25", "facecolor": ground, "edgecolor": mark.colour},
    )
    drawn, image, edge_px = tag.get_window_extent(), axes.bbox, 5
    left_px = min(max(0.0, drawn.x1 + edge_px - image.x1), max(0.0, drawn.x0 - edge_px - image.x0))
    down_px = max(0.0, drawn.y1 + edge_px - image.y1)
    tag.xyann = (2 - left_px * _POINTS_PER_PX, 5 - down_px * _POINTS_PER_PX)


def round_length_um(longest_um: float) -> float:
    """The longest of 1, 2, 5, 10, 20, 50 ... um that is not longer than `longest_um`."""
    power = 10.0 ** np.floor(np.log10(longest_um))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest_um * (1 + 1e-9)))


def _draw_scale_bar(axes: Axes, um_per_px: float, width_px: int) -> None:
    """A bar with its length, in the line below an image, where it hides nothing."""
    length_um = round_length_um(width_px * um_per_px * _SCALE_BAR_SHARE)
    share = length_um / um_per_px / width_px
    text = f"{length_um:g} µm" if length_um < 1000 else f"{length_um / 1000:g} mm"
    y = -_LINE_PX / 2 / axes.bbox.height
    line: dict[str, Any] = {"color": "black", "linewidth": 3.5, "solid_capstyle": "butt", "clip_on": False}
    axes.plot([0, share], [y, y], transform=axes.transAxes, **line)
    axes.text(share + 6 / axes.bbox.width, y, text, transform=axes.transAxes, va="center", fontsize=10)


def _draw_colour_bar(figure: Figure, bar: ColourBar, *, left_px: float, top_px: float) -> None:
    """The key to the colours that are there, with t_p above it."""
    _write(figure, left_px, top_px + 29, "tumor probability", most_px=130, va="center")
    axes = _add_axes(figure, left_px + 138, top_px + 22, 300, 14)
    if len(bar.colours):
        axes.imshow(bar.colours[None], aspect="auto", extent=(*bar.shown, 0, 1))
    else:
        _write(figure, left_px + 450, top_px + 29, "no probability reaches t_p", most_px=200, va="center")
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(labelsize=9.5)
    if bar.t_p is not None:
        axes.axvline(bar.t_p, color=DARK, linewidth=2)
        axes.annotate(f"t_p {bar.t_p:.2f}", (bar.t_p, 1), xytext=(0, 3), textcoords="offset points", ha="center")


def _draw_keys(figure: Figure, keys: tuple[Key, ...], *, left_px: float, top_px: float) -> None:
    """What the signs mean, in one line."""
    handles = [_handle_of(key) for key in keys]
    place = (left_px / figure.bbox.width, 1 - top_px / figure.bbox.height)
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=place,
        ncols=len(keys),
        frameon=False,
        borderpad=0,
        fontsize=10,
    )


def _handle_of(key: Key) -> Artist:
    if key.sign == "line":
        edges = [withStroke(linewidth=4, foreground=DARK)] if key.colour == BRIGHT else []
        return Line2D([], [], color=key.colour, linewidth=2, label=key.text, path_effects=edges)
    ground = key.colour if key.sign == "tag" else "none"
    style: Any = _DASHES[key.line]
    return Patch(facecolor=ground, edgecolor=key.colour, linewidth=2, linestyle=style, label=key.text)
