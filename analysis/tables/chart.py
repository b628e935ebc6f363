"""How this project's charts look: colours, a frame, and the warning for phantoms."""

from pathlib import Path
from textwrap import wrap

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bccdist.canvas import new_canvas
from bccdist.files import atomic_path

DPI = 100
STYLES = {
    "unet": ("#d55e00", "o"),
    "resnet34": ("#009e73", "s"),
    "resnet34_ds": ("#0072b2", "v"),
    "resnet34_linear": ("#cc79a7", "D"),
}
"""A setting's colour, also told apart by the colour-blind (Okabe and Ito), and a shape for those who print grey."""
BAND_ALPHA = 0.15
"""How dense the colour of a band around a curve is: two that overlap are both seen."""
_LETTERS_PER_INCH = 9.0
"""Of a title: a longer one goes on in the next line."""
FALSE_POSITIVE_HATCH = "//"
"""For those who print grey."""
FALSE_NEGATIVE_COLOUR, FALSE_POSITIVE_COLOUR = "#0072b2", "#e69f00"


def new_figure(width_inch: float, height_inch: float, title: str, *, warning: str) -> Figure:
    """An empty white figure with a title at its upper left, and below it the warning where there is one."""
    figure = new_canvas(width_inch, height_inch, dpi=DPI, layout="constrained").figure
    letters = int(width_inch * _LETTERS_PER_INCH)
    lines = [line for text in (title, warning) for line in wrap(text, letters)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def tidy(axes: Axes) -> None:
    """A grid behind the data, and no frame above and to the right."""
    axes.grid(color="#e0e0e0")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def write_chart(path: Path, figure: Figure) -> None:
    """Write a picture atomically; an SVG where the path ends so, else a PNG."""
    kind = "svg" if path.suffix == ".svg" else "png"
    # Without a date and with fixed identifiers the same data give the same file.
    metadata = {"Date": None} if kind == "svg" else None
    with rc_context({"svg.hashsalt": "bccdist"}), atomic_path(path) as partial:
        figure.savefig(partial, format=kind, dpi=DPI, metadata=metadata)
