"""How far a training run is and how fast, from its folder: quick, however long its events are, and without torch."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bccdist.configuration import read_claimed
from bccdist.errors import LedgerError
from bccdist.events import whole_events
from bccdist.paths import RunPaths

_HEAD_BYTES = 1 << 16
"""Bytes read from the begin of the events: the first plan stands there, which says how many steps an epoch has."""
_TAIL_BYTES = 1 << 18
"""Bytes read from the end of the events: some hundred steps, enough for a pace."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Where a run stands, by its newest events, and what a step takes."""

    epoch: int = 1
    """The epoch at hand; the one after the last where all are done."""
    step: int = 0
    """Steps of this epoch that are done."""
    num_steps: int | None = None
    """Steps of an epoch; None before the first plan."""
    loss: float | None = None
    """Loss of the newest step, summed over the outputs that the loss reaches."""
    step_s: float | None = None
    """Mean time of a step of the newest start, saves included."""
    is_done: bool = False
    signal: str | None = None
    """Signal that ended the newest start early."""


@dataclass(frozen=True, kw_only=True)
class EpochTimes:
    """What an epoch that is done took."""

    num_steps: int
    train_s: float
    validation_s: float


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A training run, as its folder tells."""

    num_epochs: int
    pace: Pace
    best: tuple[float, int] | None
    """The highest IoU on Validation I and its epoch."""
    epoch_times: tuple[EpochTimes, ...]
    """What each epoch that is done took, in their order."""

    @property
    def num_done(self) -> int:
        """Epochs whose validation is done, too."""
        return min(self.pace.epoch - 1, self.num_epochs)

    @property
    def is_done(self) -> bool:
        """Whether all epochs are done that are asked for by now; an end of before more were does not count."""
        return self.num_done == self.num_epochs

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the newest pace; a validation that has not run yet counts nothing."""
        if self.is_done:
            return 0.0
        last = self.epoch_times[-1] if self.epoch_times else None
        step_s = self.pace.step_s or (last.train_s / last.num_steps if last else None)
        if step_s is None or self.pace.num_steps is None:
            return None
        epochs_left = self.num_epochs - self.num_done
        steps_left = epochs_left * self.pace.num_steps - self.pace.step
        return steps_left * step_s + epochs_left * (last.validation_s if last else 0.0)

    @property
    def text(self) -> str:
        """How far it is, in a few words."""
        pace = self.pace
        best = "" if self.best is None else f", best IoU {self.best[0]:.2f} (epoch {self.best[1]})"
        if self.is_done:
            return f"{self.num_epochs} epochs{best}"
        loss = "" if pace.loss is None else f", loss {pace.loss:.4f}"
        stopped = "" if pace.signal is None else f", stopped by {pace.signal}"
        return f"epoch {pace.epoch}/{self.num_epochs} {self._within_epoch}{loss}{best}{stopped}"

    @property
    def _within_epoch(self) -> str:
        pace = self.pace
        if pace.num_steps is None:
            return "before its first step"
        return "in validation" if pace.step >= pace.num_steps else f"step {pace.step}/{pace.num_steps}"


def read_run(run: RunPaths) -> RunState | None:
    """The state of a run; None where it has not begun.

    Raises:
        LedgerError: its metrics are damaged.
    """
    if not run.config.exists():
        return None
    config = read_claimed(run.config)
    rows = _final_rows(run.metrics)
    return RunState(
        num_epochs=config["epochs"],
        pace=_read_pace(run.events(0)),
        best=_best_of(rows),
        epoch_times=tuple(_times_of(row, config["global_batch"]) for row in rows if row.get("seconds") is not None),
    )


def _final_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of the setting's own output, in the order of the epochs."""
    from bccdist.parquet import read_table

    if not path.exists():
        return []
    rows = read_table(path, error=LedgerError, advice="the next epoch of the run writes it anew").to_pylist()
    return sorted((row for row in rows if row["is_final"]), key=lambda row: row["epoch"])


def _best_of(rows: Sequence[dict[str, Any]]) -> tuple[float, int] | None:
    """The highest IoU and its epoch; of equal ones the earlier, as the selection has it."""
    known = [(row["iou"], -row["epoch"]) for row in rows if not math.isnan(row["iou"])]
    iou, minus_epoch = max(known, default=(math.nan, 0))
    return (iou, -minus_epoch) if known else None


def _times_of(row: dict[str, Any], global_batch: int) -> EpochTimes:
    train_s = row["num_steps"] * global_batch / row["patches_per_s"]
    return EpochTimes(num_steps=row["num_steps"], train_s=train_s, validation_s=max(0.0, row["seconds"] - train_s))


def read_plan(path: Path) -> dict[str, Any] | None:
    """The first plan of an epoch in a rank's events; None where there is none yet."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return None
    return next((event for event in whole_events(head) if event["event"] == "plan"), None)


def _read_pace(path: Path) -> Pace:
    """The pace, by the first and the newest events of a rank; those between are not read."""
    plan = read_plan(path)
    if plan is None:
        return Pace()
    with path.open("rb") as file:
        start = max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES)
        file.seek(start)
        tail = file.read(_TAIL_BYTES)
    if start:
        tail = tail[tail.find(b"\n") + 1 :]
    return pace_of(whole_events(tail), num_steps=plan["num_steps"])


def pace_of(events: Iterable[Mapping[str, Any]], *, num_steps: int | None) -> Pace:
    """The pace from the newest events in their order.

    Args:
        events: as `bccdist.training` writes them.
        num_steps: of an epoch, if it is known from before.
    """
    pace = Pace(num_steps=num_steps)
    steps_s: list[float] = []
    before: Mapping[str, Any] = {"event": "none"}
    is_resumed = False
    for event in events:
        kind = event["event"]
        if kind in ("resume", "cut_line") or (kind == "plan" and event["epoch"] == 1):
            steps_s.clear()  # a new start, perhaps on another machine
        if kind == "step" and _is_next(before, event):
            steps_s.append(event["time_s"] - before["time_s"])
        if kind == "plan" and is_resumed:
            event = {**event, "step": pace.step}  # noqa: PLW2901 - it goes on within the epoch
        pace = _after(pace, event)
        is_resumed = kind == "resume" or (is_resumed and kind != "plan")
        before = event
    return replace(pace, step_s=sum(steps_s) / len(steps_s) if steps_s else None)


def _is_next(before: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Whether two events are a step and the one after it, without a start or a validation between them."""
    if before["event"] != "step":
        return False
    return bool(before["epoch"] == event["epoch"] and before["step"] + 1 == event["step"])


def _after(pace: Pace, event: Mapping[str, Any]) -> Pace:
    """Where the run stands after one more event."""
    changes: dict[str, Any] = {}
    match event["event"]:
        case "resume":
            changes = {"epoch": event["epoch"], "step": event["step"], "loss": None, "is_done": False, "signal": None}
        case "plan":
            changes = {"epoch": event["epoch"], "step": event.get("step", 0), "num_steps": event["num_steps"]}
            changes |= {"is_done": False, "signal": None}
        case "step":
            losses = event["losses"].values()
            loss = None if None in losses else sum(losses)
            changes = {"epoch": event["epoch"], "step": event["step"], "loss": loss}
        case "epoch":
            changes = {"epoch": event["epoch"] + 1, "step": 0}
        case "stop":
            changes = {"signal": event["signal"]}
        case "done":
            changes = {"is_done": True, "epoch": event["epochs"] + 1, "step": 0}
    return replace(pace, **changes)
