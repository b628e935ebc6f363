"""A run that is killed and started again, wherever it was, ends with the bits of the run that was left alone."""

import json
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import torch
from small_study import SmallStudy, write_finished_study
from training_outcome import assert_same, outcome
from training_starts import start_training

from bccdist.configuration import Setting, TrainConfig
from bccdist.events import read_events
from bccdist.paths import RunPaths, StudyPaths

SETTING: Setting = "resnet34_linear"
EPOCHS, STEPS = 2, 5
_DEADLINE_S = 60.0
CONFIG = TrainConfig(width=4, epochs=EPOCHS, global_batch=2, micro_batch=1, max_steps=STEPS, keep_best=1)


class Stop(NamedTuple):
    """How a start of the run ends."""

    signal: signal.Signals
    after_s: float
    """After the first step that it makes."""
    num_workers: int = 0
    save_every_min: float = 0.0
    """0 saves at each step; else only at the end of an epoch and when asked to."""
    num_steps: int = 1
    """It is stopped once it has made so many."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Built and finished; not to be trained in."""
    return write_finished_study(tmp_path_factory.mktemp("shards"), width_px=800, height_px=560)


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["one rank", "two ranks"])
def undisturbed(
    request: pytest.FixtureRequest, shards: SmallStudy, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunPaths, int]:
    """The run that was left alone, and its number of ranks."""
    study = StudyPaths(shards.copied_to(tmp_path_factory.mktemp("undisturbed")).root)
    _finish(study, num_ranks=request.param)
    return study.run(SETTING), request.param


class _started:  # noqa: N801 - reads as a verb
    """The processes of all ranks of one start; none outlives the block."""

    def __init__(
        self,
        study: StudyPaths,
        *,
        num_ranks: int,
        num_workers: int = 0,
        save_every_min: float = 10.0,
        config: TrainConfig = CONFIG,
    ) -> None:
        self._study = study
        self._config = replace(config, num_workers=num_workers, save_every_min=save_every_min)
        self._num_ranks = num_ranks

    def __enter__(self) -> list[BaseProcess]:
        self._processes = [self._start(rank) for rank in range(self._num_ranks)]
        return self._processes

    def _start(self, rank: int) -> BaseProcess:
        launcher = {}
        if self._num_ranks > 1:
            size = str(self._num_ranks)
            launcher = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        said = _said(self._study, rank)
        return start_training(self._study.root, SETTING, self._config, launcher=launcher, said=said)

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()
            process.close()


def _said(study: StudyPaths, rank: int) -> Path:
    """What a rank of the newest start printed."""
    return study.root.parent / f"rank-{rank}.log"


def _wait(study: StudyPaths, processes: list[BaseProcess], *, accepted: set[int]) -> None:
    """Wait for all ranks, and refuse exit codes other than these; None is a rank that does not end."""
    for rank, process in enumerate(processes):
        process.join(timeout=_DEADLINE_S)
        assert process.exitcode in accepted, (process.exitcode, _said(study, rank).read_text(encoding="utf-8"))


def _num_steps(run: RunPaths) -> int:
    """Lines of steps that the first rank has written, over all starts."""
    path = run.events(0)
    return path.read_text(encoding="utf-8").count('"event": "step"') if path.exists() else 0


def _stop(study: StudyPaths, stop: Stop, *, num_ranks: int) -> None:
    """Start, let it make some steps, and stop one of its ranks a while later."""
    before = _num_steps(study.run(SETTING))
    with _started(
        study, num_ranks=num_ranks, num_workers=stop.num_workers, save_every_min=stop.save_every_min
    ) as processes:
        deadline_s = time.monotonic() + _DEADLINE_S
        while _num_steps(study.run(SETTING)) < before + stop.num_steps and processes[0].is_alive():
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        time.sleep(stop.after_s)
        if processes[-1].is_alive():
            assert processes[-1].pid is not None
            os.kill(processes[-1].pid, stop.signal)
        if stop.signal == signal.SIGKILL:
            return
        # 0: it was done before. A rank that hands USR2 or TERM on, with nobody waiting for it, is ended by it.
        accepted = {0, -stop.signal, 128 + stop.signal}
        _wait(study, processes, accepted=accepted)


def _finish(study: StudyPaths, *, num_ranks: int, num_workers: int = 0, config: TrainConfig = CONFIG) -> RunPaths:
    with _started(study, num_ranks=num_ranks, num_workers=num_workers, config=config) as processes:
        _wait(study, processes, accepted={0})
    return study.run(SETTING)


@pytest.fixture
def study(shards: SmallStudy, tmp_path: Path) -> StudyPaths:
    return StudyPaths(shards.copied_to(tmp_path).root)


def test_a_run_that_is_killed_and_stopped_at_random_ends_as_if_it_had_been_left_alone(
    study: StudyPaths, undisturbed: tuple[RunPaths, int]
) -> None:
    expected, num_ranks = undisturbed
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    chance = random.Random(seed)
    for stop in (
        Stop(signal.SIGKILL, chance.uniform(0, 1.0)),
        Stop(signal.SIGUSR2, chance.uniform(0, 0.5), num_workers=2, save_every_min=10),
        Stop(signal.SIGKILL, chance.uniform(0, 1.0), num_workers=1, save_every_min=10),
    ):
        _stop(study, stop, num_ranks=num_ranks)
    run = _finish(study, num_ranks=num_ranks, num_workers=1)
    assert_same(outcome(run), outcome(expected))


def test_a_stop_is_obeyed_at_the_next_edge_and_nothing_is_computed_twice(
    study: StudyPaths, undisturbed: tuple[RunPaths, int]
) -> None:
    expected, num_ranks = undisturbed
    _stop(study, Stop(signal.SIGTERM, 0.0, save_every_min=10), num_ranks=num_ranks)
    run = study.run(SETTING)
    events = [json.loads(line) for line in run.events(0).read_text(encoding="utf-8").splitlines()]
    assert (events[-1]["event"], events[-1]["signal"]) == ("stop", "SIGTERM")
    position = torch.load(run.last, weights_only=True)["position"]
    assert (position["epoch"], position["step"]) == (events[-1]["epoch"], events[-1]["step"]) == (1, _num_steps(run))
    assert position["step"] < STEPS
    assert not list(run.root.glob("**/*.partial-*"))
    _finish(study, num_ranks=num_ranks)
    assert _num_steps(run) == EPOCHS * STEPS
    assert_same(outcome(run), outcome(expected))


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_stop_once_the_steps_are_done_comes_in_the_validation_and_costs_no_step(
    study: StudyPaths, undisturbed: tuple[RunPaths, int], number: signal.Signals
) -> None:
    expected, num_ranks = undisturbed
    _stop(study, Stop(number, 0.0, save_every_min=10, num_steps=STEPS), num_ranks=num_ranks)
    run = study.run(SETTING)
    stop = json.loads(run.events(0).read_text(encoding="utf-8").splitlines()[-1])
    assert (stop["event"], stop["signal"]) == ("stop", number.name)
    assert (stop["epoch"], stop["step"]) in {(1, STEPS), (2, 1)}, "a validation may be over before the signal comes"
    _finish(study, num_ranks=num_ranks)
    assert _num_steps(run) == EPOCHS * STEPS
    assert_same(outcome(run), outcome(expected))


class OtherRanks(NamedTuple):
    """A run that goes on with other ranks."""

    began: int
    now: int
    same_micro_batches: bool
    says: str


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            OtherRanks(1, 2, same_micro_batches=True, says="sees the same 2 patches at a time as before"),
            marks=pytest.mark.slow,
        ),
        OtherRanks(2, 1, same_micro_batches=True, says="sees the same 2 patches at a time as before"),
        pytest.param(
            OtherRanks(3, 2, same_micro_batches=True, says="sees the same 2 patches at a time as before"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            OtherRanks(2, 4, same_micro_batches=False, says="sees 1 patches at a time, and saw 2 before"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda case: f"{case.began} then {case.now}",
)
def test_a_run_goes_on_with_another_number_of_ranks_with_the_same_losses(
    study: StudyPaths, tmp_path: Path, case: OtherRanks
) -> None:
    config = replace(CONFIG, global_batch=4, micro_batch=2, epochs=1, max_steps=2)
    _finish(study, num_ranks=case.began, config=config)
    other = StudyPaths(tmp_path / "other" / study.root.name)
    shutil.copytree(study.root, other.root)
    config = replace(config, epochs=2)
    expected = _losses(_finish(study, num_ranks=case.began, config=config))
    run = _finish(other, num_ranks=case.now, config=config)
    found = _losses(run)
    assert [place for place, _ in found] == [place for place, _ in expected] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    if case.same_micro_batches:
        # The first step has the weights of before; then rounding grows, since Adam makes a step of any gradient.
        assert found[2][1] == pytest.approx(expected[2][1], rel=1e-5)
        assert found[3][1] == pytest.approx(expected[3][1], rel=1e-2)
    events = {event["event"]: event for event in _events(run)}
    resumed = events["resume"]
    assert (resumed["saved_ranks"], resumed["ranks"], resumed["global_batch"]) == (case.began, case.now, 4)
    said = events["other_ranks"]["text"]
    assert f"is of {case.began} rank(s), now there are {case.now}: a step has the same 4 patches" in said
    assert case.says in said


def _losses(run: RunPaths) -> list[tuple[tuple[int, int], float]]:
    """Epoch and step with the loss of all ranks."""
    steps = [event for event in _events(run) if event["event"] == "step"]
    return [((each["epoch"], each["step"]), sum(each["losses"].values())) for each in steps]


def _events(run: RunPaths) -> list[dict[str, Any]]:
    return read_events(run.events(0))


@pytest.mark.slow
def test_a_run_of_fewer_ranks_goes_on_within_an_epoch(study: StudyPaths) -> None:
    _stop(study, Stop(signal.SIGUSR2, 0.0), num_ranks=2)
    run = _finish(study, num_ranks=1)
    assert _num_steps(run) == EPOCHS * STEPS
    assert {row["epoch"] for row in pq.read_table(run.metrics).to_pylist()} == {1, 2}
