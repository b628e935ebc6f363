"""How much the choice of thresholds matters: `python analysis/make.py stability STUDY`.

A map of F_beta over t_p and t_A for the chosen epoch of each setting, from the grid that the selection keeps. The
plateau is what hangs together with the chosen cell and is at most `tolerance` worse: on a wide one the choice is
stable, and a lone peak is likely to be chance.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table, phantom_marks, rounded, warning_of
from analysis.tables.chart import new_figure, write_chart
from bccdist.errors import LedgerError, NothingToShowError
from bccdist.parquet import read_frame
from bccdist.sections.choices import Choice, choices_of

TOLERANCE = 0.005
_EDGE_NEIGHBOURS = 4
_MARK_COLOUR = "#d7191c"


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """F_beta over the grid for the chosen epoch of a setting.

    Attributes:
        choice: what was chosen.
        t_p: float [n], rising.
        t_a_um2: float [m], rising.
        f_beta: float [n, m]; NaN where it is not known.
        chosen: row and column of the choice.
    """

    choice: Choice
    t_p: NDArray[np.float64]
    t_a_um2: NDArray[np.float64]
    f_beta: NDArray[np.float64]
    chosen: tuple[int, int]

    @property
    def best(self) -> float:
        """F_beta of the choice."""
        return float(self.f_beta[self.chosen])

    def plateau(self, tolerance: float) -> NDArray[np.bool_]:
        """Which cells hang together with the chosen one and are at most `tolerance` worse: bool [n, m]."""
        good = np.nan_to_num(self.f_beta, nan=-1.0) >= self.best - tolerance - 1e-12
        _, piece = cv2.connectedComponents(good.astype(np.uint8), connectivity=_EDGE_NEIGHBOURS)
        return np.asarray(piece == piece[self.chosen], dtype=bool)


def score_map(grid: pd.DataFrame, choice: Choice) -> ScoreMap:
    """The map of what was chosen.

    Raises:
        LedgerError: the grid does not hold what was chosen.
    """
    mine = grid[(grid["setting"] == choice.setting) & (grid["epoch"] == choice.epoch)]
    wide = mine.pivot_table(index="t_p", columns="t_a_um2", values="f_beta", dropna=False)
    t_p, t_a_um2 = (np.asarray(axis, dtype=np.float64) for axis in (wide.index, wide.columns))
    row, col = np.flatnonzero(t_p == choice.t_p), np.flatnonzero(t_a_um2 == choice.t_a_um2)
    if not row.size or not col.size:
        raise LedgerError(
            f"the selection's grid has no cell for {choice.setting}, epoch {choice.epoch}, t_p {choice.t_p}, "
            f"t_A {choice.t_a_um2}; run the selection again"
        )
    return ScoreMap(
        choice=choice, t_p=t_p, t_a_um2=t_a_um2, f_beta=wide.to_numpy(np.float64), chosen=(int(row[0]), int(col[0]))
    )


def build_stability(grid: pd.DataFrame, selection: pd.DataFrame, *, tolerance: float) -> Table:
    """One row per setting: how far its plateau reaches."""
    choices = choices_of(selection)
    rows = [_row(score_map(grid, choice), tolerance) for choice in choices]
    frame = pd.DataFrame(rows).assign(**phantom_marks(selection))
    printed = pd.DataFrame(
        {
            "setting": frame["setting"],
            f"F_{choices[0].beta:g}": rounded(frame["f_beta"], 3),
            "t_p": rounded(frame["t_p"], 2),
            "plateau t_p": _ranges(frame, "t_p", 2),
            "t_A um2": rounded(frame["t_a_um2"], 0),
            "plateau t_A": _ranges(frame, "t_a_um2", 0),
            "share of the grid": [f"{share:.0%}" for share in frame["plateau_share"]],
            "reaches the grid's edge": [edges or "no" for edges in frame["edges"]],
        }
    )
    return Table(
        name="stability",
        title=f"Plateau around the chosen thresholds: at most {tolerance:g} below, on Validation I + II.",
        frame=frame,
        printed=printed,
    )


def _row(scores: ScoreMap, tolerance: float) -> dict[str, Any]:
    inside = scores.plateau(tolerance)
    t_p, t_a_um2 = scores.t_p[inside.any(axis=1)], scores.t_a_um2[inside.any(axis=0)]
    return {
        "setting": scores.choice.setting,
        "epoch": scores.choice.epoch,
        "t_p": scores.choice.t_p,
        "t_a_um2": scores.choice.t_a_um2,
        "f_beta": scores.best,
        "tolerance": tolerance,
        "plateau_share": float(inside.mean()),
        "t_p_low": float(t_p.min()),
        "t_p_high": float(t_p.max()),
        "t_a_um2_low": float(t_a_um2.min()),
        "t_a_um2_high": float(t_a_um2.max()),
        "edges": ", ".join(
            f"{name} {extreme:g}"
            for name, reached, tried in (("t_p", t_p, scores.t_p), ("t_A", t_a_um2, scores.t_a_um2))
            for extreme in sorted({float(reached.min()), float(reached.max())} & {float(tried[0]), float(tried[-1])})
        ),
    }


def _ranges(frame: pd.DataFrame, name: str, digits: int) -> list[str]:
    low, high = frame[f"{name}_low"], frame[f"{name}_high"]
    return [f"{least:.{digits}f} to {most:.{digits}f}" for least, most in zip(low, high, strict=True)]


def draw(grid: pd.DataFrame, selection: pd.DataFrame, *, tolerance: float) -> Figure:
    """A map a setting, all in one scale of colours; the plateau is outlined and the chosen cell marked."""
    choices = choices_of(selection)
    maps = [score_map(grid, choice) for choice in choices]
    values = np.concatenate([scores.f_beta.ravel() for scores in maps])
    low, high = float(np.nanquantile(values, 0.1)), float(np.nanmax(values))
    title = (
        f"F_{choices[0].beta:g} on Validation I + II by thresholds; outlined: at most {tolerance:g} below the choice"
    )
    figure = new_figure(3.6 * len(choices) + 1.2, 4.6, title, warning=warning_of(selection))
    every = figure.subplots(1, len(choices), squeeze=False, sharey=True)[0]
    for axes, scores in zip(every, maps, strict=True):
        image = _draw_map(axes, scores, tolerance, limits=(low, max(high, low + 1e-3)))
    every[0].set_ylabel("t_p")
    figure.colorbar(image, ax=every, extend="min", label=f"F_{choices[0].beta:g}")
    return figure


def _draw_map(axes: Axes, scores: ScoreMap, tolerance: float, *, limits: tuple[float, float]) -> AxesImage:
    """One setting's map; x and y are numbers of cells."""
    low, high = limits
    image = axes.imshow(scores.f_beta, origin="lower", aspect="auto", cmap="cividis", vmin=low, vmax=high)
    axes.add_collection(LineCollection(_outline(scores.plateau(tolerance)), colors=_MARK_COLOUR, linewidths=1.6))
    row, col = scores.chosen
    axes.plot([col], [row], "o", markersize=9, markerfacecolor="none", markeredgecolor=_MARK_COLOUR, markeredgewidth=2)
    axes.set_title(f"{scores.choice.setting}, epoch {scores.choice.epoch}", fontsize=10)
    axes.set_xlabel("t_A in 1,000 \u00b5m\u00b2")
    cols, rows = range(0, len(scores.t_a_um2), 4), range(1, len(scores.t_p), 4)
    axes.set_xticks(list(cols), [f"{scores.t_a_um2[place] / 1000:.1f}" for place in cols])
    axes.set_yticks(list(rows), [f"{scores.t_p[place]:.2f}" for place in rows])
    return image


def _outline(inside: NDArray[np.bool_]) -> list[list[tuple[float, float]]]:
    """The edges of cells behind which the plateau ends, as lines between points (x, y)."""
    padded = np.pad(inside, 1)
    lines = []
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        beside = np.roll(padded, (-down, -right), axis=(0, 1))[1:-1, 1:-1]
        for row, col in np.argwhere(inside & ~beside).tolist():
            x, y, along_x, along_y = col + right / 2, row + down / 2, abs(down) / 2, abs(right) / 2
            lines.append([(x - along_x, y - along_y), (x + along_x, y + along_y)])
    return lines


def _read_grid(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise NothingToShowError(f"{path}: the selection's grid is not there, as where thresholds came with a model")
    advice = "run the selection again, which takes seconds"
    return read_frame(path, error=LedgerError, advice=advice)


def write_stability(study: Evidence, tolerance: float = TOLERANCE) -> Table:
    """Draw how F_beta depends on the thresholds, and write how far the plateau around the choice reaches.

    Args:
        study: The study's folder.
        tolerance: How much lower F_beta may be on the plateau.

    Raises:
        LedgerError: nothing was selected.
    """
    selection, grid = study.selection, _read_grid(study.paths.grid)
    # Another plateau than the report's does not take its place.
    table = build_stability(grid, selection, tolerance=tolerance).asked("" if tolerance == TOLERANCE else "asked")
    write_chart(study.paths.figure(table.name), draw(grid, selection, tolerance=tolerance))
    return study.write(table)
