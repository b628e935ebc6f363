"""A task that crashes, hangs or fails is one failure; every other one gives its result."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bccdist.errors import ConfigurationError, SlideError
from bccdist.processes import TIMED_OUT, Failure, num_cores, run_each

TIMEOUT_S = 1.0


def open_worker() -> Callable[[str], str]:
    return act


def act(word: str) -> str:
    """Do what the word says; runs in a worker."""
    if word.startswith("hang"):
        time.sleep(600)
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "exit":
        os._exit(3)
    if word == "fail":
        raise ValueError("no such thing")
    if word == "foreseen":
        raise SlideError("no such slide")
    if word == "cores":
        return str(num_cores())
    return f"{word} {os.getpid()}"


def outcomes(*words: str, num_workers: int = 2) -> Mapping[str, str | Failure]:
    return dict(run_each(open_worker, words, num_workers=num_workers, timeout_s=TIMEOUT_S))


def pid_of(outcome: str | Failure) -> int:
    return int(str(outcome).split()[1])


def test_failures_cost_no_other_task() -> None:
    words = ("good", "hang", "killed", "segfault", "exit", "fail", "foreseen", "last")
    found = outcomes(*words)
    assert sorted(found) == sorted(words)
    assert all(str(found[word]).startswith(word) for word in ("good", "last"))
    assert found["hang"] == Failure(reason="not done after 1 s", error=TIMED_OUT)
    reasons = {word: outcome.reason for word, outcome in found.items() if isinstance(outcome, Failure)}
    assert "SIGKILL, as the system does where memory runs out" in reasons["killed"]
    assert reasons["segfault"] == "its process was ended by SIGSEGV"
    assert reasons["exit"] == "its process ended with exit code 3"
    assert reasons["fail"] == "ValueError: no such thing"
    assert found["foreseen"] == Failure(reason="no such slide", error="SlideError", is_foreseen=True)


def test_a_worker_serves_many_tasks_and_is_gone_afterwards() -> None:
    found = outcomes("a", "foreseen", "b", "c", num_workers=1)
    assert list(found) == ["a", "foreseen", "b", "c"]
    (pid,) = {pid_of(found[word]) for word in "abc"}
    assert pid != os.getpid()
    assert not Path(f"/proc/{pid}").exists()


def test_a_worker_that_failed_in_a_way_nobody_foresaw_is_replaced() -> None:
    found = outcomes("a", "fail", "b", num_workers=1)
    assert pid_of(found["a"]) != pid_of(found["b"])


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert outcomes("cores", "a", "b", num_workers=2)["cores"] == "3"
    assert num_cores() == 6


def test_no_task_needs_no_process() -> None:
    assert outcomes() == {}


def test_without_workers_this_process_does_the_work() -> None:
    found = outcomes("a", "fail", "b", num_workers=0)
    assert [pid_of(found[word]) for word in "ab"] == [os.getpid()] * 2
    assert isinstance(found["fail"], Failure)
    with pytest.raises(ConfigurationError, match="-1 workers, expected 1 or more"):
        outcomes("a", num_workers=-1)


def open_nothing() -> Callable[[str], str]:
    raise ConfigurationError("there are no weights")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_the_set_up_raises_ends_everything(num_workers: int) -> None:
    with pytest.raises(ConfigurationError, match="there are no weights"):
        list(run_each(open_nothing, ["a", "b"], num_workers=num_workers))


def test_workers_end_with_the_one_who_asks() -> None:
    results = run_each(open_worker, ["a", "hang", "hang 2"], num_workers=2, timeout_s=600)
    _, first = next(results)
    results.close()
    assert not Path(f"/proc/{pid_of(first)}").exists()


HANG = """
from bccdist.processes import run_each
from tests.bccdist.test_processes import open_worker
if __name__ == "__main__":
    for _, outcome in run_each(open_worker, ["a", "hang"], num_workers=1):
        print(outcome, flush=True)
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_a_parent_that_is_killed(by: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANG], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = pid_of(parent.stdout.readline())
        parent.send_signal(by)
    give_up_s = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


LEAVE = """
import sys
from bccdist.processes import run_each
from tests.bccdist.test_processes import open_worker
if __name__ == "__main__":
    outcomes = run_each(open_worker, ["hang", "a"], num_workers=2)
    print(next(outcomes))
    sys.exit(3)
"""


def test_a_program_that_ends_while_a_worker_is_at_work_does_not_wait_for_it() -> None:
    finished = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, check=False, timeout=60)
    assert finished.returncode == 3


def test_what_slurm_sends_to_all_processes_of_a_job_is_for_the_parent() -> None:
    results = run_each(open_worker, ["a", "b", "c", "d"], num_workers=1)
    _, first = next(results)
    for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        os.kill(pid_of(first), each)
    assert {pid_of(outcome) for _, outcome in results} == {pid_of(first)}
