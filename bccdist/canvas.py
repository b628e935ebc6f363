"""The empty figure that every picture of this product is drawn into, whatever style the user's matplotlib has."""

from typing import Literal

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def new_canvas(
    width_inch: float, height_inch: float, *, dpi: int, layout: Literal["constrained"] | None = None
) -> FigureCanvasAgg:
    """A white figure for files, on its canvas.

    Fonts, sizes and LaTeX of a matplotlibrc, which the working folder may have, do not count: the process's settings
    are matplotlib's own from then on.
    """
    matplotlib.rcdefaults()
    figure = Figure(figsize=(width_inch, height_inch), dpi=dpi, facecolor="white", layout=layout)
    return FigureCanvasAgg(figure)
