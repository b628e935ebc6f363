"""How the settings learn (paper, section 2.5): `python analysis/make.py learning_curves STUDY [--out PICTURE]`.

The IoU of each setting's final output on Validation I over the epochs, as a picture and as a table.
"""

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import NOT_KNOWN, Table, rounded, warning_of
from analysis.tables.chart import STYLES, new_figure, tidy, write_chart
from bccdist.configuration import SETTINGS
from bccdist.errors import LedgerError, NothingToShowError
from bccdist.paths import RunPaths, StudyPaths
from bccdist.training.reporting.metrics import read_metrics


def read_curves(paths: StudyPaths) -> pd.DataFrame:
    """The curves of all runs that have metrics: setting, epoch, iou and phantom; a run without is named.

    Raises:
        LedgerError: no run has metrics, or an epoch stands twice in one.
    """
    curves = []
    for setting in SETTINGS:
        if paths.run(setting).metrics.exists():
            curves.append(_read_curve(paths.run(setting)).assign(setting=setting))
        elif paths.run(setting).root.exists():
            print(f"note: {paths.run(setting).root}: no metrics there yet, so {setting} is left out")
    if not curves:
        raise NothingToShowError(f"{paths.runs}: no run with metrics there; train a setting for an epoch first")
    return pd.concat(curves, ignore_index=True)


def _read_curve(paths: RunPaths) -> pd.DataFrame:
    """The final output's epochs in their order."""
    metrics = read_metrics(paths.metrics)
    final = metrics.loc[metrics["is_final"], ["epoch", "iou", "phantom"]]
    if final["epoch"].duplicated().any():
        raise LedgerError(f"{paths.metrics}: an epoch stands there twice; the run's folder was mixed with another")
    return final.sort_values("epoch")


def build_table(curves: pd.DataFrame, name: str) -> Table:
    """One row an epoch, one column a setting, from the rows of `read_curves`."""
    settings = list(curves["setting"].unique())
    wide = curves.pivot_table(index="epoch", columns="setting", values="iou", dropna=False)[settings]
    frame = wide.reset_index().rename_axis(columns=None)
    printed = pd.DataFrame(
        {"epoch": frame["epoch"].astype(str), **{setting: rounded(frame[setting], 4) for setting in settings}}
    )
    return Table(
        name=name,
        schema="learning_curves",
        title="Learning curves. IoU of the final output on Validation I after each epoch.",
        frame=frame.assign(phantom=bool(curves["phantom"].any())),
        printed=printed,
        notes=(*(_best_note(curves, setting) for setting in settings), *_unknown_notes(wide)),
    )


def _best_note(curves: pd.DataFrame, setting: str) -> str:
    best = _best(curves[curves["setting"] == setting])
    if best is None:
        return f"{setting}: no epoch has an IoU."
    epoch, iou = best
    return f"{setting}: best in epoch {epoch} with {iou:.4f}."


def _unknown_notes(wide: pd.DataFrame) -> tuple[str, ...]:
    if not wide.isna().to_numpy().any():
        return ()
    return (
        f"{NOT_KNOWN}: an epoch that the setting does not have so far, or one with no tumor there and none found.",
    )


def _best(curve: pd.DataFrame) -> tuple[int, float] | None:
    """Epoch and IoU; the earlier epoch where two are equal."""
    known = curve.dropna(subset=["iou"]).sort_values(["iou", "epoch"], ascending=[False, True])
    if known.empty:
        return None
    return int(known["epoch"].iloc[0]), float(known["iou"].iloc[0])


def draw(curves: pd.DataFrame) -> Figure:
    """The picture, a line a setting and a ring around its best epoch."""
    figure = new_figure(10, 6, "IoU of the final output on Validation I", warning=warning_of(curves))
    axes = figure.subplots()
    for setting in curves["setting"].unique():
        _draw_curve(axes, curves[curves["setting"] == setting], str(setting))
    _finish(axes, num_epochs=int(curves["epoch"].max()))
    return figure


def _draw_curve(axes: Axes, curve: pd.DataFrame, setting: str) -> None:
    colour, marker = STYLES[setting]
    best = _best(curve)
    epoch, iou = best or (math.nan, math.nan)
    label = f"{setting}: {iou:.4f} in epoch {epoch}" if best else f"{setting}: unknown"
    axes.plot(curve["epoch"], curve["iou"], color=colour, marker=marker, linewidth=2, markersize=5, label=label)
    axes.plot([epoch], [iou], "o", markersize=13, markerfacecolor="none", markeredgecolor="black")


def _finish(axes: Axes, *, num_epochs: int) -> None:
    axes.set_xlim(0.5, num_epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("IoU of tumor on Validation I")
    axes.legend(loc="lower right", title="best")
    tidy(axes)


def write_learning_curves(study: Evidence, out: Path | None = None) -> Table:
    """Draw how the settings learn, and write the table beside the picture.

    Args:
        study: The study's folder.
        out: The picture, a PNG or an SVG; default is learning_curves.png in the study's tables.

    Raises:
        LedgerError: no run has metrics, or an epoch stands twice in one.
    """
    picture = out or study.paths.tables / "learning_curves.png"
    curves = read_curves(study.paths)
    write_chart(picture, draw(curves))
    return build_table(curves, picture.stem).write(picture.parent)
