"""The curves of a run for TensorBoard: `tensorboard --logdir STUDY/runs`.

The x axis is the number of optimiser steps since the run began. TensorBoard allows no spaces in names, so a chart is
called `group/quantity`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from bccdist.training.reporting.metrics import MetricsRow

_FLUSH_S = 30
"""Most seconds of curves that a killed process leaves unwritten."""


class Board:
    """Writes the curves of a run; one process per run, the first rank's."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        """Open a new file in the folder beside those of earlier starts.

        Args:
            folder: the folder that TensorBoard reads.
            first_step: optimiser steps of the run that are done. What earlier files hold of later ones vanishes from
                TensorBoard, because those are done again.
        """
        self._writer = SummaryWriter(folder, purge_step=first_step + 1, flush_secs=_FLUSH_S)

    def step(self, global_step: int, losses: Mapping[str, float], learning_rate: float) -> None:
        """Add a step.

        Args:
            global_step: its number since the run began; the first is 1.
            losses: the loss of each supervised output.
            learning_rate: the rate that the step was made with.
        """
        self._add("step_loss/total", sum(losses.values()), global_step)
        for psi, loss in losses.items():
            self._add(f"step_loss/{psi}", loss, global_step)
        self._add("step/learning_rate", learning_rate, global_step)

    def epoch(self, rows: Sequence[MetricsRow]) -> None:
        """Add an epoch at its last step, from its rows of metrics.parquet, and write everything to the disk."""
        for row in rows:
            for name, value in _scalars(row):
                self._add(name, value, row["epoch"] * row["num_steps"])
        self.flush()

    def flush(self) -> None:
        """Write everything to the disk; without it that happens twice a minute."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.close()

    def _add(self, name: str, value: float, global_step: int) -> None:
        self._writer.add_scalar(name, value, global_step)


def _scalars(row: MetricsRow) -> Iterator[tuple[str, float]]:
    """Names and values; an unknown IoU stays NaN, which TensorBoard marks; what does not exist is absent."""
    yield f"iou_validation_1/{row['psi']}", row["iou"]
    for group in ("train_loss", "val_loss", "merge_weight"):
        if row[group] is not None:
            yield f"{group}/{row['psi']}", row[group]
    if row["is_final"]:
        for name in ("patches_per_s", "loader_wait_share", "memory_gib", "seconds"):
            yield f"epoch/{name}", row[name]
