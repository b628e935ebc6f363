"""A run's folder tells where it stands and how fast it is, from the ends of its events and its metrics."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from study_folders import write_claimed

from bccdist.errors import LedgerError
from bccdist.paths import RunPaths
from bccdist.stages.training_pace import Pace, pace_of, read_run
from bccdist.training.reporting.metrics import write_metrics

NUM_STEPS = 4


def plan(epoch: int, *, time_s: float = 0.0) -> dict[str, Any]:
    return {"event": "plan", "epoch": epoch, "num_steps": NUM_STEPS, "time_s": time_s}


def step(epoch: int, number: int, *, time_s: float = 0.0) -> dict[str, Any]:
    return {"event": "step", "epoch": epoch, "step": number, "time_s": time_s, "losses": {"psi_0": 0.25, "psi_4": 0.5}}


def event(kind: str, **values: Any) -> dict[str, Any]:
    return {"event": kind, "time_s": 0.0, **values}


class Case(NamedTuple):
    events: list[dict[str, Any]]
    epoch: int
    step: int
    step_s: float | None = None
    is_done: bool = False


CASES = {
    "nothing yet": Case([], 1, 0),
    "planned": Case([plan(1)], 1, 0),
    "within an epoch": Case([plan(1), step(1, 1, time_s=10), step(1, 2, time_s=12), step(1, 3, time_s=16)], 1, 3, 3.0),
    "the tail begins in an epoch": Case([step(7, 2, time_s=1), step(7, 3, time_s=2)], 7, 3, 1.0),
    "validated": Case([step(1, 4), event("epoch", epoch=1)], 2, 0),
    "a validation is no step": Case(
        [step(1, 3, time_s=1), step(1, 4, time_s=2), event("epoch", epoch=1), plan(2), step(2, 1, time_s=99)],
        2,
        1,
        1.0,
    ),
    "resumed within an epoch": Case(
        [step(2, 2, time_s=1), step(2, 3, time_s=9), event("resume", epoch=2, step=1), plan(2)], 2, 1, None
    ),
    "the pace is of the newest start": Case(
        [
            step(1, 1, time_s=0),
            step(1, 2, time_s=50),
            event("resume", epoch=1, step=1),
            event("arithmetic"),
            plan(1),
            step(1, 2, time_s=100),
            step(1, 3, time_s=102),
        ],
        1,
        3,
        2.0,
    ),
    "begun anew without a state": Case([step(3, 2, time_s=0), step(3, 3, time_s=5), plan(1)], 1, 0, None),
    "done": Case([step(2, 4), event("epoch", epoch=2), event("done", epochs=2)], 3, 0, None, is_done=True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_newest_events_say_where_a_run_stands_and_what_a_step_takes(case: Case) -> None:
    pace = pace_of(case.events, num_steps=NUM_STEPS)
    assert (pace.epoch, pace.step, pace.is_done) == (case.epoch, case.step, case.is_done)
    assert pace.step_s == case.step_s
    assert pace.num_steps == NUM_STEPS


def test_the_loss_is_the_sum_over_outputs_and_none_where_it_was_no_number() -> None:
    assert pace_of([step(1, 1)], num_steps=None).loss == 0.75
    assert pace_of([{**step(1, 2), "losses": {"psi_4": None}}], num_steps=None).loss is None


def test_a_stop_is_told_until_the_run_goes_on() -> None:
    stop = event("stop", epoch=1, step=1, signal="SIGUSR2")
    assert pace_of([plan(1), step(1, 1), stop], num_steps=None).signal == "SIGUSR2"
    assert pace_of([plan(1), step(1, 1), stop, event("resume", epoch=1, step=1)], num_steps=None).signal is None


def write_run(root: Path, events: Iterator[dict[str, Any]], *, ious: dict[int, float] | None = None) -> RunPaths:
    run = RunPaths(root / "run")
    run.events(0).parent.mkdir(parents=True)
    write_claimed(run.config, {"epochs": 40, "global_batch": 64, "keep_best": 5})
    run.events(0).write_text("".join(json.dumps(each) + "\n" for each in events))
    shared = {"is_final": True, "num_steps": NUM_STEPS, "patches_per_s": 128.0, "seconds": 5.0}
    if ious:
        write_metrics(run.metrics, [{"epoch": epoch, "iou": iou, **shared} for epoch, iou in ious.items()])
    return run


def test_a_run_that_has_not_begun_has_no_state(tmp_path: Path) -> None:
    assert read_run(RunPaths(tmp_path / "run")) is None


def test_the_time_that_is_left_counts_steps_and_validations(tmp_path: Path) -> None:
    events = [plan(3), step(3, 1, time_s=0), step(3, 2, time_s=10)]
    state = read_run(write_run(tmp_path, iter(events), ious={1: 0.5, 2: 0.61}))
    assert state is not None
    # 38 epochs of 4 steps without the 2 that are done, and 38 validations of 5 s - 4 x 64 / 128 s.
    assert state.eta_s == pytest.approx((38 * 4 - 2) * 10 + 38 * 3)
    assert state.num_done == 2
    assert state.text == "epoch 3/40 step 2/4, loss 0.7500, best IoU 0.61 (epoch 2)"


def test_without_two_steps_the_pace_is_that_of_the_last_epoch(tmp_path: Path) -> None:
    state = read_run(write_run(tmp_path, iter([plan(3)]), ious={1: 0.5, 2: 0.5}))
    assert state is not None
    assert state.eta_s == pytest.approx(38 * 4 * 0.5 + 38 * 3)
    assert state.text.endswith("best IoU 0.50 (epoch 1)"), "the earlier of two equal ones"


def test_before_the_first_plan_no_time_is_known(tmp_path: Path) -> None:
    state = read_run(write_run(tmp_path, iter([event("empty_pool", pool="normal")])))
    assert state is not None
    assert state.eta_s is None
    assert state.text == "epoch 1/40 before its first step"


def test_after_the_last_step_the_epoch_is_in_validation_and_not_done(tmp_path: Path) -> None:
    state = read_run(write_run(tmp_path, iter([plan(40), step(40, 4)])))
    assert state is not None
    assert state.num_done == 39
    assert "epoch 40/40 in validation" in state.text


def test_of_long_events_only_the_ends_are_read_and_a_cut_line_is_no_event(tmp_path: Path) -> None:
    long = [plan(1), *(step(1, number, time_s=2.0 * number) for number in range(1, 20_001))]
    run = write_run(tmp_path, iter(long))
    with run.events(0).open("a") as file:
        file.write('{"time_s": 1, "event": "st')
    state = read_run(run)
    assert state is not None
    assert state.pace == Pace(
        epoch=1, step=20_000, num_steps=NUM_STEPS, loss=0.75, step_s=2.0, is_done=False, signal=None
    )
    # What lies between is not looked at: with the middle blanked the answer is the same.
    content = run.events(0).read_bytes()
    run.events(0).write_bytes(
        content[: 1 << 16] + b"?" * (len(content) - (1 << 16) - (1 << 18)) + content[-(1 << 18) :]
    )
    assert read_run(run) == state


def test_damaged_metrics_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    run = write_run(tmp_path, iter([plan(1)]))
    run.metrics.write_bytes(b"no parquet")
    with pytest.raises(LedgerError, match=r"metrics.parquet: damaged"):
        read_run(run)
