"""A task that crashes, hangs or fails is one casualty; every other one gives its result."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from bccdist.processes import Casualty, run_each

TIMEOUT_S = 1.0


def act(word: str) -> str:
    """Do what the word says; runs in a worker."""
    if word == "hang":
        time.sleep(600)
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "exit":
        os._exit(3)
    if word == "fail":
        raise ValueError("no such thing")
    return f"{word} {os.getpid()}"


def outcomes(*words: str, num_workers: int = 2) -> Mapping[int, str | Casualty]:
    return dict(run_each(act, words, num_workers=num_workers, timeout_s=TIMEOUT_S))


def test_casualties_cost_no_other_task() -> None:
    words = ("good", "hang", "killed", "segfault", "exit", "fail", "good")
    found = outcomes(*words)
    assert sorted(found) == list(range(len(words)))
    assert all(str(found[index]).startswith("good ") for index in (0, 6))
    assert found[1] == Casualty(is_timeout=True, reason="not done after 1 s")
    reasons = {words[index]: outcome.reason for index, outcome in found.items() if isinstance(outcome, Casualty)}
    assert "SIGKILL, as the system does where memory runs out" in reasons["killed"]
    assert reasons["segfault"] == "its process was ended by SIGSEGV"
    assert reasons["exit"] == "its process ended with exit code 3"
    assert reasons["fail"] == "ValueError: no such thing"


def test_a_worker_serves_many_tasks_and_is_gone_afterwards() -> None:
    found = outcomes("a", "b", "c", "d", num_workers=1)
    pids = {int(str(outcome).split()[1]) for outcome in found.values()}
    (pid,) = pids
    assert pid != os.getpid()
    assert [str(found[index]).split()[0] for index in range(4)] == ["a", "b", "c", "d"]
    assert not any(Path(f"/proc/{each}").exists() for each in pids)


def test_no_task_needs_no_process() -> None:
    assert outcomes() == {}


def test_workers_end_with_the_one_who_asks() -> None:
    results = run_each(act, ["a", "hang", "hang"], num_workers=2, timeout_s=600)
    _, first = next(results)
    results.close()  # type: ignore[attr-defined]
    assert not Path(f"/proc/{str(first).split()[1]}").exists()
