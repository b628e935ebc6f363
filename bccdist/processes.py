"""Runs a function over tasks in processes, each task for itself: one that crashes or hangs costs no other."""

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Casualty:
    """A task that gave no result."""

    is_timeout: bool
    reason: str


@dataclass(frozen=True)
class _Ready:
    """A worker's first word, when its imports are done: the time limit is for the task alone."""


def run_each(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, num_workers: int, timeout_s: float
) -> Iterator[tuple[int, Result | Casualty]]:
    """The result of every task with its index, in the order in which they finish.

    A worker that dies or takes too long is replaced; its task is a casualty, and no task is tried twice.

    Args:
        function: of a module, so that another process can import it.
        tasks: what it is called with, one after the other; they and the results can be pickled.
        num_workers: processes.
        timeout_s: for one task.
    """
    # Started anew instead of forked: a fork copies the locks of libraries' threads, and may wait for them forever.
    context = multiprocessing.get_context("spawn")
    waiting = deque(enumerate(tasks))
    workers: list[_Worker[Task, Result]] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < num_workers:
                workers.append(_Worker(context.Process, function, waiting.popleft(), timeout_s=timeout_s))
            soonest_s = min(worker.deadline_s for worker in workers)
            wait([worker.connection for worker in workers], timeout=min(60.0, max(0.0, soonest_s - time.monotonic())))
            for worker in list(workers):
                index = worker.index
                outcome = worker.outcome()
                if outcome is None:
                    continue
                yield index, outcome
                if waiting and not isinstance(outcome, Casualty):
                    worker.give(waiting.popleft())
                else:
                    worker.stop()
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.stop()


class _Worker(Generic[Task, Result]):
    """A process that works on one task at a time."""

    def __init__(
        self,
        process: Callable[..., Any],
        function: Callable[[Task], Result],
        first: tuple[int, Task],
        *,
        timeout_s: float,
    ) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        self._timeout_s = timeout_s
        self._process = process(target=_serve, args=(theirs, function), daemon=True)
        self._process.start()
        # With the other end open here, too, the death of the process would not end the connection.
        theirs.close()
        self.index, self._first = first[0], first[1]
        self.deadline_s = float("inf")

    def give(self, task: tuple[int, Task]) -> None:
        """Hand over a task; its time runs from now on."""
        self.index = task[0]
        self.deadline_s = time.monotonic() + self._timeout_s
        try:
            self.connection.send(task[1])
        except (BrokenPipeError, ConnectionResetError):
            # It died between two tasks; the next look at it finds that out.
            return

    def outcome(self) -> Result | Casualty | None:
        """What came of the task; None while it is at work."""
        if not self.connection.poll():
            if time.monotonic() < self.deadline_s:
                return None
            return Casualty(is_timeout=True, reason=f"not done after {self._timeout_s:g} s")
        try:
            said: Result | Casualty | _Ready = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return Casualty(is_timeout=False, reason=_cause_of_death(self._process.exitcode or 0))
        if isinstance(said, _Ready):
            self.give((self.index, self._first))
            return None
        return said

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _cause_of_death(exit_code: int) -> str:
    if exit_code >= 0:
        return f"its process ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = ", as the system does where memory runs out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """A worker's life: tasks come, results go, until the other end is closed."""
    # Ctrl-C is for the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection.send(_Ready())
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            connection.send(function(task))
        except Exception as error:  # noqa: BLE001 - whatever went wrong is the casualty of this task alone
            connection.send(Casualty(is_timeout=False, reason=f"{type(error).__name__}: {error}"))
