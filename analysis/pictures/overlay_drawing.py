"""The picture of one slide: tissue, probability of Tumor, mask, and what was said about each section (Figures 2, 6).

Nothing is read here: arrays in, a PNG out. All positions are pixels of the picture's tissue image.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from bccdist.configuration import PHANTOM_WARNING
from bccdist.files import atomic_path
from bccdist.parts import Label
from bccdist.sections.verdicts import Verdict

SHOWN_FROM = 0.5
"""Probabilities below this share of t_p leave the tissue as it is."""
_DPI = 100
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 24, 122, 100, 70
_LEAST_WIDTH_PX = 900
LABEL_COLOURS = {Label.TUMOR.value: "#d7191c", Label.NORMAL.value: "#1a9641", None: "#6b6b6b"}
_HEAT_STOPS = ("#2c3e9e", "#1fa6c9", "#7fd34e", "#ffe135", "#ff8c1a")
_MASK_COLOUR = "#101010"
_MOST_OPAQUE = 0.62
_LEAST_OPAQUE = 0.28
_SCALE_BAR_SHARE = 0.2


class PictureBox(NamedTuple):
    """A box in picture pixels, not always whole."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class SectionMark:
    """A section with what a person and the model say about it."""

    box: PictureBox
    label: str | None
    verdict: str
    correct: bool | None
    """None where nobody labelled the section, or it is up for review."""

    @property
    def text(self) -> str:
        """What stands at the section's box."""
        result = {True: "\u2713", False: "\u2717 WRONG", None: ""}[self.correct]
        return f"{self.label or 'no label'} / {self.verdict} {result}".strip()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All that is drawn of one slide."""

    tissue: NDArray[np.uint8]
    """RGB [h, w, 3]."""
    probability: NDArray[np.float32]
    """[h, w], 0 to 1."""
    mask_share: NDArray[np.float32]
    """[h, w]: the share of each pixel with a probability of at least t_p, 0 to 1."""
    um_per_px: float
    t_p: float
    sections: tuple[SectionMark, ...]
    title: str
    subtitle: str
    phantom: bool


def write_picture(path: Path, picture: Picture) -> None:
    """Draw a slide and write it as PNG, atomically."""
    figure = draw(picture)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=_DPI)


def draw(picture: Picture) -> Figure:
    """The picture, with one pixel for each pixel of the tissue image."""
    height, width = picture.probability.shape
    figure, axes = _tissue_axes(width, height)
    axes.imshow(picture.tissue, interpolation="nearest")
    axes.imshow(heat_layer(picture.probability, picture.t_p), interpolation="nearest")
    if picture.mask_share.max(initial=0) > 0.5:
        axes.contour(picture.mask_share, levels=[0.5], colors=_MASK_COLOUR, linewidths=1.1)
    for section in picture.sections:
        _draw_section(axes, section)
    _draw_scale_bar(axes, picture.um_per_px, width)
    _draw_heading(figure, picture)
    _draw_colour_bar(figure, axes, picture.t_p)
    _draw_legend(figure, picture.t_p)
    return figure


def _tissue_axes(width: int, height: int) -> tuple[Figure, Axes]:
    """A figure with margins around axes that fit the tissue image pixel by pixel."""
    inner_width = max(width, _LEAST_WIDTH_PX)
    total_width, total_height = inner_width + _LEFT_PX + _RIGHT_PX, height + _TOP_PX + _BOTTOM_PX
    figure = Figure(figsize=(total_width / _DPI, total_height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    left = _LEFT_PX + (inner_width - width) / 2
    axes = figure.add_axes((left / total_width, _BOTTOM_PX / total_height, width / total_width, height / total_height))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_edgecolor("#b0b0b0")
    return figure, axes


def _colours() -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("tumor probability", _HEAT_STOPS)


def _opacity(probability: NDArray[np.float32], lowest: float) -> NDArray[np.float32]:
    """How much a probability hides the tissue."""
    strength = np.clip((probability - lowest) / (1 - lowest), 0, 1)
    opacity = _LEAST_OPAQUE + (_MOST_OPAQUE - _LEAST_OPAQUE) * strength
    return np.where(probability >= lowest, opacity, 0).astype(np.float32)


def heat_layer(probability: NDArray[np.float32], t_p: float) -> NDArray[np.float32]:
    """RGBA [h, w, 4], transparent where no tumor is suspected."""
    layer = _colours()(probability).astype(np.float32)
    layer[..., 3] = _opacity(probability, SHOWN_FROM * t_p)
    return np.asarray(layer, dtype=np.float32)


def _draw_section(axes: Axes, section: SectionMark) -> None:
    """The box in the label's colour; a wrong verdict is a thick dashed box with a black tag."""
    box, colour = section.box, LABEL_COLOURS.get(section.label, LABEL_COLOURS[None])
    is_wrong = section.correct is False
    needs_a_look = is_wrong or section.verdict == Verdict.REVIEW
    corner = (box.x, box.y)
    axes.add_patch(
        Rectangle(
            corner,
            box.width,
            box.height,
            fill=False,
            edgecolor=colour,
            linewidth=3.5 if needs_a_look else 2.0,
            linestyle=(0, (4, 2)) if needs_a_look else "solid",
        )
    )
    axes.annotate(
        section.text,
        corner,
        xytext=(2, 5),
        textcoords="offset points",
        verticalalignment="bottom",
        fontsize=10.5,
        fontweight="bold",
        color="#ffe135" if needs_a_look else "white",
        bbox={"boxstyle": "square,pad=0.25", "facecolor": "#101010" if needs_a_look else colour, "edgecolor": colour},
    )


def round_length_um(longest_um: float) -> float:
    """The longest of 1, 2, 5, 10, 20, 50 ... um that is not longer than `longest_um`."""
    power = 10.0 ** np.floor(np.log10(longest_um))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest_um * (1 + 1e-9)))


def _draw_scale_bar(axes: Axes, um_per_px: float, width_px: int) -> None:
    length_um = round_length_um(width_px * um_per_px * _SCALE_BAR_SHARE)
    length_px = length_um / um_per_px
    text = f"{length_um:g} \u00b5m" if length_um < 1000 else f"{length_um / 1000:g} mm"
    transform = axes.get_xaxis_transform()
    start, y, gap = 0.0, -14 / axes.bbox.height, 8
    axes.plot(
        [start, start + length_px],
        [y, y],
        transform=transform,
        color="black",
        linewidth=4,
        solid_capstyle="butt",
        clip_on=False,
    )
    axes.text(start + length_px + gap, y, text, transform=transform, verticalalignment="center", fontsize=10.5)


def _draw_heading(figure: Figure, picture: Picture) -> None:
    height, width = figure.bbox.height, figure.bbox.width
    x = _LEFT_PX / width
    figure.text(x, 1 - 12 / height, picture.title, fontsize=15, fontweight="bold", verticalalignment="top")
    figure.text(x, 1 - 44 / height, picture.subtitle, fontsize=11, color="#404040", verticalalignment="top")
    if picture.phantom:
        figure.text(
            1 - _LEFT_PX / width,
            1 - 12 / height,
            PHANTOM_WARNING,
            fontsize=11,
            fontweight="bold",
            color="#7b3294",
            horizontalalignment="right",
            verticalalignment="top",
        )


def _draw_colour_bar(figure: Figure, axes: Axes, t_p: float) -> None:
    """The colours, blank where the tissue is left as it is, with t_p marked."""
    probability = np.linspace(0, 1, 256)
    seen = _colours()(probability)
    seen[probability < SHOWN_FROM * t_p] = 1
    place = axes.get_position()
    bar_height = min(place.height, 360 / figure.bbox.height)
    left = 1 - (_RIGHT_PX - 42) / figure.bbox.width
    bar_axes = figure.add_axes((left, place.y1 - bar_height, 16 / figure.bbox.width, bar_height))
    bar = figure.colorbar(ScalarMappable(cmap=ListedColormap(seen)), cax=bar_axes)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1])
    bar.set_label("tumor probability", fontsize=10.5)
    bar.ax.tick_params(labelsize=9.5)
    bar.ax.axhline(t_p, color=_MASK_COLOUR, linewidth=2)
    bar.ax.text(-0.25, t_p, "t_p", fontsize=9.5, horizontalalignment="right", verticalalignment="center")


def _draw_legend(figure: Figure, t_p: float) -> None:
    """What lines and tags mean, in one line at the bottom."""
    entries = [
        ("\u25a1", LABEL_COLOURS[Label.TUMOR.value], "label Tumor"),
        ("\u25a1", LABEL_COLOURS[Label.NORMAL.value], "label Normal"),
        ("\u2014", _MASK_COLOUR, f"probability \u2265 {t_p:.2f}"),
        ("\u25a0", "#101010", "tag: label / verdict, black if wrong or for review"),
    ]
    width, height = figure.bbox.width, figure.bbox.height
    x = width - _RIGHT_PX
    for symbol, colour, text in reversed(entries):
        x -= 7.0 * len(text)
        figure.text(x / width, 20 / height, text, fontsize=10, verticalalignment="center")
        x -= 20
        figure.text(
            x / width,
            20 / height,
            symbol,
            fontsize=13,
            fontweight="bold",
            color=colour,
            verticalalignment="center",
            path_effects=[effects.withStroke(linewidth=0.8, foreground=colour)],
        )
        x -= 14
