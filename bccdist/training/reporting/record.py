"""What a run says of each step: events, TensorBoard, the progress line."""

import time
from collections.abc import Iterator
from signal import Signals

from bccdist.shard_set.epoch_plan import EpochPlan
from bccdist.training.checkpoints import Position
from bccdist.training.loader import Batch
from bccdist.training.reporting.progress import Progress
from bccdist.training.run import Run
from bccdist.training.step import StepResult


class TimedBatches:
    """Batches, and how long they were waited for."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._waited_s = 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        start_s = time.monotonic()
        batch = next(self._batches)
        self._waited_s += time.monotonic() - start_s
        return batch

    def take_waited_s(self) -> float:
        """The time waited since this was asked for last."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s


class StepRecord:
    """Records the steps of one epoch."""

    def __init__(self, run: Run, plan: EpochPlan, position: Position) -> None:
        self._run, self._plan = run, plan
        self._progress = Progress(
            epoch=position.epoch,
            num_epochs=run.config.epochs,
            num_steps=plan.num_steps,
            global_batch=plan.global_batch,
            first_step=position.step,
            validation_s=position.validation_s,
            say=run.say,
        )

    def step(self, position: Position, found: StepResult, *, waited_s: float) -> None:
        """Take note of the step that led to this position."""
        run = self._run
        values = {"losses": found.losses, "gradient_norm": found.gradient_norm, "waited_s": waited_s}
        run.events.write("step", epoch=position.epoch, step=position.step, **values)
        if run.board is not None:
            run.board.step(
                position.num_steps_done(self._plan.num_steps), found.losses, run.optimizer.param_groups[0]["lr"]
            )
        self._progress.report(position.step, sum(found.losses.values()), waited_s)
        if found.stop is not None:
            report_stop(run, position, found.stop, where=f"after step {position.step}")


def report_stop(run: Run, position: Position, stop: Signals, *, where: str) -> None:
    """Take note of a stop somewhere in the position's epoch."""
    run.events.write("stop", epoch=position.epoch, step=position.step, signal=stop.name)
    run.say(f"{stop.name}: stopping {where} of epoch {position.epoch}; the same command goes on from there")
