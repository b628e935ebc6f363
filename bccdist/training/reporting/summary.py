"""The picture of a run so far: what it learned, and how fast.

Nothing is read here: rows of metrics.parquet in, a PNG out.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from bccdist.canvas import new_canvas
from bccdist.configuration import PHANTOM_WARNING
from bccdist.files import atomic_path
from bccdist.training.reporting.metrics import MetricsRow, best_epochs

_DPI = 100
_SIZE_INCH = (14.0, 8.5)


class _Style(NamedTuple):
    """Colours that also differ for the colour-blind (Okabe and Ito), and a shape for those who print grey."""

    colour: str
    marker: str


_STYLES = {
    "psi_0": _Style("#56b4e9", "o"),
    "psi_1": _Style("#009e73", "s"),
    "psi_2": _Style("#e69f00", "^"),
    "psi_3": _Style("#cc79a7", "D"),
    "psi_4": _Style("#0072b2", "v"),
    "merged": _Style("#d55e00", "P"),
}
_PLAIN = _Style("#404040", ".")


def write_summary(path: Path, rows: Sequence[MetricsRow], *, title: str, num_best: int = 5) -> None:
    """Draw the epochs of a run and write them as PNG, atomically.

    Args:
        path: where the picture is written.
        rows: rows of metrics.parquet, one epoch or more.
        title: stands above the picture; a warning is added if the slides are phantoms.
        num_best: number of the best epochs that are marked (section 2.5).
    """
    figure = draw(rows, title=title, num_best=num_best)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=_DPI)


def draw(rows: Sequence[MetricsRow], *, title: str, num_best: int) -> Figure:
    """IoU and losses at the left, what they came about with at the right."""
    figure = new_canvas(*_SIZE_INCH, dpi=_DPI).figure
    is_merged = any(row["merge_weight"] is not None for row in rows)
    left = figure.add_gridspec(2, 1, left=0.06, right=0.6, top=0.88, bottom=0.07, hspace=0.08, height_ratios=(3, 2))
    right = figure.add_gridspec(4 if is_merged else 3, 1, left=0.68, right=0.98, top=0.88, bottom=0.07, hspace=0.12)
    iou, loss = (figure.add_subplot(left[row]) for row in range(2))
    small = [figure.add_subplot(right[row]) for row in range(right.nrows)]
    _draw_iou(iou, rows, num_best)
    _draw_losses(loss, rows)
    _draw_pace(small, rows)
    if is_merged:
        _draw_merge_weights(small[3], rows)
    for axes in (iou, loss, *small):
        _finish(axes, rows, is_lowest=axes in {loss, small[-1]})
    _draw_heading(figure, title, rows)
    return figure


def _draw_iou(axes: Axes, rows: Sequence[MetricsRow], num_best: int) -> None:
    axes.set_ylabel("IoU of tumor, Validation I")
    for psi in _psis(rows):
        _draw_line(axes, rows, psi, "iou", is_strong=psi == _final(rows))
    known = [row for row in rows if row["is_final"] and not math.isnan(row["iou"])]
    if known:
        _mark_best(axes, known, num_best)
    elif not any(math.isfinite(row["iou"]) for row in rows):
        axes.set_ylim(0, 1)
        axes.text(0.5, 0.5, "unknown: no tumor there, and none found", transform=axes.transAxes, ha="center")
    axes.legend(loc="lower right", fontsize=9, ncols=2)


def _mark_best(axes: Axes, final: Sequence[MetricsRow], num: int) -> None:
    """A ring around the final output's best epochs, and the best one in words."""
    iou = {row["epoch"]: row["iou"] for row in final}
    best = best_epochs(final, num)
    axes.plot(best, [iou[epoch] for epoch in best], "o", ms=13, mfc="none", mec="black", label=f"best {len(best)}")
    text = f"{final[0]['psi']} is best in epoch {best[0]}: {iou[best[0]]:.4f}"
    axes.set_title(text, fontsize=11, loc="left")


def _draw_losses(axes: Axes, rows: Sequence[MetricsRow]) -> None:
    """Solid and filled in training, dashed and hollow on Validation I; on a logarithmic scale, if they allow it."""
    axes.set_ylabel("focal loss")
    supervised = [row for row in rows if row["train_loss"] is not None]
    for psi in _psis(supervised):
        is_strong = psi == _final(rows)
        _draw_line(axes, rows, psi, "train_loss", is_strong=is_strong)
        _draw_line(axes, rows, psi, "val_loss", is_strong=is_strong, is_dashed=True)
    if all(0 < (row[name] or 0) < math.inf for row in supervised for name in ("train_loss", "val_loss")):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    kinds = [Line2D([], [], color="black", linestyle=line) for line in ("-", "--")]
    axes.legend(kinds, ["training", "Validation I"], loc="upper right", fontsize=9)


def _draw_pace(small: Sequence[Axes], rows: Sequence[MetricsRow]) -> None:
    """What all outputs share: one row an epoch."""
    final = [row for row in rows if row["is_final"]]
    labels = {
        "learning_rate": "learning rate",
        "patches_per_s": "patches/s",
        "loader_wait_share": "waiting for patches",
    }
    for axes, (name, label) in zip(small, labels.items(), strict=False):
        _plot(axes, final, name, _PLAIN, width=1.5)
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.15 * max(row[name] for row in final) or None)
    small[2].yaxis.set_major_formatter(PercentFormatter(xmax=1))


def _draw_merge_weights(axes: Axes, rows: Sequence[MetricsRow]) -> None:
    axes.set_ylabel("merge weight w (eq. 2)")
    for psi in _psis(rows):
        if psi != "merged":
            _draw_line(axes, rows, psi, "merge_weight", is_strong=False)
    axes.axhline(0, color="#808080", linewidth=0.8)


def _draw_line(
    axes: Axes, rows: Sequence[MetricsRow], psi: str, column: str, *, is_strong: bool, is_dashed: bool = False
) -> None:
    """One column of one output over the epochs."""
    mine = [row for row in rows if row["psi"] == psi]
    _plot(axes, mine, column, _STYLES[psi], width=3.0 if is_strong else 1.3, is_dashed=is_dashed, label=psi)


def _plot(
    axes: Axes,
    rows: Sequence[MetricsRow],
    column: str,
    style: _Style,
    *,
    width: float,
    is_dashed: bool = False,
    label: str = "",
) -> None:
    axes.plot(
        [row["epoch"] for row in rows],
        [math.nan if row[column] is None else row[column] for row in rows],
        linestyle="--" if is_dashed else "-",
        linewidth=width,
        color=style.colour,
        marker=style.marker,
        markersize=4.5,
        markerfacecolor="white" if is_dashed else style.colour,
        label=label,
    )


def _finish(axes: Axes, rows: Sequence[MetricsRow], *, is_lowest: bool) -> None:
    """The same epochs below all axes, named under the lowest of a column."""
    last = max(row["epoch"] for row in rows)
    axes.set_xlim(0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelbottom=is_lowest)
    axes.set_xlabel("epoch" if is_lowest else "")
    axes.grid(color="#e0e0e0")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_heading(figure: Figure, title: str, rows: Sequence[MetricsRow]) -> None:
    last = max(row["epoch"] for row in rows)
    memory_gib = max(row["memory_gib"] for row in rows)
    figure.text(0.06, 0.975, title, fontsize=15, fontweight="bold", va="top")
    figure.text(
        0.98,
        0.975,
        f"after epoch {last}; peak memory of a rank {memory_gib:.1f} GiB",
        fontsize=11,
        ha="right",
        va="top",
    )
    if any(row["phantom"] for row in rows):
        figure.text(0.98, 0.94, PHANTOM_WARNING, fontsize=11, fontweight="bold", color="#7b3294", ha="right", va="top")


def _psis(rows: Sequence[MetricsRow]) -> list[str]:
    """The outputs in the order of the rows, the final one last."""
    return list(dict.fromkeys(row["psi"] for row in rows))


def _final(rows: Sequence[MetricsRow]) -> str:
    return next(str(row["psi"]) for row in rows if row["is_final"])
