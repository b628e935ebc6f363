"""An epoch says every ten seconds, and at its end, how far and how fast it is."""

import numpy as np
import pytest

from bccdist.training import progress
from bccdist.training.epoch_plan import EpochPlan
from bccdist.training.progress import Progress

PLAN = EpochPlan(draws=np.arange(80), global_batch=8, num_steps=10)


class Clock:
    """A monotonic clock that is set by hand."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def _said(clock: Clock, *, step_s: float) -> list[str]:
    said: list[str] = []
    report = Progress(epoch=2, num_epochs=40, plan=PLAN, say=said.append)
    for step in range(1, PLAN.num_steps + 1):
        clock.now_s += step_s
        report.report(step, {"psi_3": 0.25, "psi_4": 0.5})
    return said


def test_a_quick_epoch_speaks_at_its_last_step_alone(clock: Clock) -> None:
    assert _said(clock, step_s=0.5) == [
        "epoch 2/40 step 10/10: loss 0.7500, 16.0 patches/s, epoch ends in 0 s",
    ]


def test_a_slow_epoch_speaks_every_ten_seconds(clock: Clock) -> None:
    said = _said(clock, step_s=4)
    assert [line.split()[3] for line in said] == ["3/10:", "6/10:", "9/10:", "10/10:"]
    assert said[0] == "epoch 2/40 step 3/10: loss 0.7500, 2.0 patches/s, epoch ends in 28 s"
