"""The progress line of an epoch."""

import time
from collections.abc import Callable

from bccdist.training.epoch_plan import EpochPlan

_EVERY_S = 10.0


class Progress:
    """Says every ten seconds, and at the last step, how far an epoch is."""

    def __init__(self, *, epoch: int, num_epochs: int, plan: EpochPlan, say: Callable[[str], None]) -> None:
        """Start the clock."""
        self._head = f"epoch {epoch}/{num_epochs}"
        self._plan = plan
        self._say = say
        self._start_s = self._said_s = time.monotonic()

    def report(self, step: int, step_losses: dict[str, float]) -> None:
        """Take note of a step (the first is 1) that is done."""
        now_s = time.monotonic()
        if now_s - self._said_s < _EVERY_S and step < self._plan.num_steps:
            return
        self._said_s = now_s
        elapsed_s = now_s - self._start_s
        rate = step * self._plan.global_batch / elapsed_s
        left_s = elapsed_s / step * (self._plan.num_steps - step)
        self._say(
            f"{self._head} step {step}/{self._plan.num_steps}: loss {sum(step_losses.values()):.4f}, "
            f"{rate:.1f} patches/s, epoch ends in {left_s:.0f} s"
        )
