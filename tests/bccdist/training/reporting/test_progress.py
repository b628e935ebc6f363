"""An epoch says every ten seconds, and at its end, how far and how fast it is, and when it and the run will end."""

from datetime import UTC, datetime, timedelta

import pytest

from bccdist.durations import as_duration
from bccdist.training.reporting.progress import Progress

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """Of one moment, as seconds and as time of day; set by hand."""

    now_s = 100.0

    def seconds(self) -> float:
        return self.now_s

    def local_time(self) -> datetime:
        return NOON + timedelta(seconds=self.now_s - 100)


class Epoch:
    """The second of four, with ten steps of eight patches."""

    def __init__(self, *, first_step: int = 0, validation_s: float | None = 20.0) -> None:
        """Its clock starts now."""
        self.clock = Clock()
        self.said: list[str] = []
        self.step = first_step
        self.progress = Progress(
            epoch=2,
            num_epochs=4,
            num_steps=10,
            global_batch=8,
            first_step=first_step,
            validation_s=validation_s,
            say=self.said.append,
            clock=self.clock.seconds,
            local_time=self.clock.local_time,
        )

    def go(self, step_s: float, *, waited_s: float = 0.0) -> str:
        """One step; returns the newest line."""
        self.clock.now_s += step_s
        self.step += 1
        self.progress.report(self.step, 0.75, waited_s)
        return self.said[-1] if self.said else ""


def test_a_quick_epoch_speaks_at_its_last_step_alone() -> None:
    epoch = Epoch()
    for _ in range(10):
        epoch.go(0.5)
    (line,) = epoch.said
    speed = "epoch 2/4 step 10/10: loss 0.7500, 16.0 patches/s, 0 % of the time waiting for patches"
    assert line == f"{speed}, epoch ends in 20 s (12:00), run in 1 min (12:01)"


def test_a_slow_epoch_speaks_every_ten_seconds() -> None:
    epoch = Epoch()
    for _ in range(10):
        epoch.go(4)
    assert [line.split()[3] for line in epoch.said] == ["3/10:", "6/10:", "9/10:", "10/10:"]
    assert "2.0 patches/s, 0 % of the time waiting" in epoch.said[0]
    # 7 steps and a validation; then 2 epochs of 10 steps and a validation each.
    assert epoch.said[0].endswith("epoch ends in 48 s (12:01), run in 3 min (12:03)")


def test_the_speed_is_that_of_the_last_ten_seconds() -> None:
    epoch = Epoch()
    assert "0.8 patches/s" in epoch.go(10)
    for _ in range(4):
        epoch.go(2)
    assert "4.0 patches/s" in epoch.go(2)


def test_the_waiting_is_that_of_the_last_ten_seconds() -> None:
    epoch = Epoch()
    assert " 90 % of the time waiting" in epoch.go(10, waited_s=9)
    assert " 25 % of the time waiting" in epoch.go(10, waited_s=2.5)


def test_the_slow_first_step_is_not_taken_for_the_pace() -> None:
    epoch = Epoch()
    assert "epoch ends in 9 min (12:10)" in epoch.go(60)
    assert "epoch ends in 2 min (12:02)" in epoch.go(10)  # 8 steps of 10 s and the validation


@pytest.mark.parametrize("first_step", [0, 6])
def test_an_epoch_that_goes_on_in_its_middle_has_the_same_pace(first_step: int) -> None:
    epoch = Epoch(first_step=first_step)
    epoch.go(12)
    line = epoch.go(12)
    left_s = (10 - first_step - 2) * 12 + 20
    assert line.startswith(f"epoch 2/4 step {first_step + 2}/10: ")
    assert "0.7 patches/s" in line
    assert f"epoch ends in {as_duration(left_s)} (" in line
    assert f"run in {as_duration(left_s + 2 * (120 + 20))} (" in line


def test_what_is_not_known_yet_is_said() -> None:
    line = Epoch(validation_s=None).go(10)
    assert line.endswith("epoch ends in 2 min (12:01), run in 5 min (12:05), validation not counted")


def test_an_end_on_another_day_has_its_date() -> None:
    assert Epoch().go(3600).endswith("epoch ends in 9 h 0 min (22:00), run in 1 d 5 h (2026-03-02 18:01)")
