"""Runs a function over tasks in processes, each task for itself: one that crashes or hangs costs no other."""

import atexit
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from bccdist.addresses import without_secrets
from bccdist.errors import BccdistError, ConfigurationError

Task = TypeVar("Task")
Result = TypeVar("Result")

KILLED, TIMED_OUT = "Killed", "TimedOut"
"""Kinds of failure that no exception names."""
_FOR_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C and what Slurm sends to all processes of a job before it ends it."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a task gave no result."""

    reason: str
    error: str
    """The kind of error: the exception's name, `KILLED` or `TIMED_OUT`."""
    is_foreseen: bool = False
    """Whether the work itself says what is wrong; after anything else its process is not trusted any more."""


def num_cores() -> int:
    """Cores that are for this process: those of its job, or its share of them if it is a worker."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def run_each(
    setup: Callable[[], Callable[[Task], Result]],
    tasks: Sequence[Task],
    *,
    num_workers: int | None = None,
    timeout_s: float = float("inf"),
) -> Generator[tuple[Task, Result | Failure], None, None]:
    """Every task with its result, in the order in which they finish.

    A worker that dies, takes too long or fails in a way that its work does not foresee is replaced. Its task is a
    failure, and no task is tried twice. Close the generator where it may be left early: that ends the workers.

    Args:
        setup: called once in each worker; what it returns is called with one task after the other. Another process
            can import it, and what it closes over can be pickled.
        tasks: they and the results can be pickled; a result is not None.
        num_workers: processes, which share the cores of the job; None is one for each core. 0 is this process: then
            a crash costs all tasks, and there is no time limit.
        timeout_s: for one task.

    Raises:
        ConfigurationError: `num_workers` is below 0.
        Exception: whatever `setup` raised, as no task can be done then.
    """
    if num_workers is None:
        num_workers = num_cores()
    if num_workers < 0:
        raise ConfigurationError(f"{num_workers} workers, expected 1 or more, or 0 for the process itself")
    if num_workers == 0:
        work = setup()
        for task in tasks:
            yield task, _attempt(work, task)
    elif tasks:
        yield from _run_in_workers(setup, deque(tasks), num_workers=min(num_workers, len(tasks)), timeout_s=timeout_s)


def _run_in_workers(
    setup: Callable[[], Callable[[Task], Result]], waiting: deque[Task], *, num_workers: int, timeout_s: float
) -> Generator[tuple[Task, Result | Failure], None, None]:
    num_threads = max(1, num_cores() // num_workers)
    workers: list[_Worker[Task, Result]] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < num_workers:
                workers.append(_Worker(setup, waiting.popleft(), num_threads=num_threads, timeout_s=timeout_s))
            soonest_s = min(worker.deadline_s for worker in workers)
            wait([worker.connection for worker in workers], timeout=min(60.0, max(0.0, soonest_s - time.monotonic())))
            for worker in list(workers):
                task, outcome = worker.task, worker.outcome()
                if outcome is None:
                    continue
                yield task, outcome
                if waiting and (not isinstance(outcome, Failure) or outcome.is_foreseen):
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
        self, setup: Callable[[], Callable[[Task], Result]], first: Task, *, num_threads: int, timeout_s: float
    ) -> None:
        # Started anew instead of forked: a fork copies the locks of libraries' threads, and may wait for them forever,
        # and it cannot use a GPU that its parent has used.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._timeout_s = timeout_s
        self._process = context.Process(target=_serve, args=(theirs, setup, num_threads), daemon=True)
        self._process.start()
        # Before multiprocessing asks by SIGTERM, which workers do not hear, and waits for what they are at.
        atexit.register(self._process.kill)
        # With the other end open here, too, the death of the process would not end the connection.
        theirs.close()
        self.task = first
        self.deadline_s = float("inf")

    def give(self, task: Task) -> None:
        """Hand over a task; its time runs from now on."""
        self.task = task
        self.deadline_s = time.monotonic() + self._timeout_s
        try:
            self.connection.send(task)
        except (BrokenPipeError, ConnectionResetError):
            # It died between two tasks; the next look at it finds that out.
            return

    def outcome(self) -> Result | Failure | None:
        """What came of the task; None while it is at work."""
        if not self.connection.poll():
            if time.monotonic() < self.deadline_s:
                return None
            return Failure(reason=f"not done after {self._timeout_s:g} s", error=TIMED_OUT)
        try:
            said: Result | Failure | Exception | None = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return Failure(reason=_cause_of_death(self._process.exitcode or 0), error=KILLED)
        if isinstance(said, Exception):
            raise said
        if said is None:
            # The set-up is done only now: the time limit is for the task alone.
            self.give(self.task)
        return said

    def stop(self) -> None:
        """End the process, whatever it does."""
        atexit.unregister(self._process.kill)
        self._process.kill()
        self._process.join()
        self.connection.close()


def _cause_of_death(exit_code: int) -> str:
    if exit_code >= 0:
        return f"its process ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = ", as the system does where memory runs out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"


def _serve(connection: Connection, setup: Callable[[], Callable[[Any], Any]], num_threads: int) -> None:
    """A worker's life: its first word is None, or why there can be no work at all; then tasks come and results go."""
    for each in _FOR_THE_PARENT:
        signal.signal(each, signal.SIG_IGN)
    # The parent ends its workers; one that is killed cannot, and they would go on beside those of its next start.
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _limit_threads(num_threads)
    try:
        work = setup()
    except Exception as error:  # noqa: BLE001 - the parent raises it
        if not isinstance(error, BccdistError):
            traceback.print_exception(error)
        connection.send(error)
        return
    connection.send(None)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(_attempt(work, task))


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _limit_threads(num: int) -> None:
    """Workers share the cores: without a limit each would start a thread for every one of them."""
    import cv2

    os.environ["OMP_NUM_THREADS"] = str(num)
    cv2.setNumThreads(num)


def _attempt(work: Callable[[Task], Result], task: Task) -> Result | Failure:
    """The result of a task, or why there is none; whatever it is poisoned with, the others go on."""
    try:
        return work(task)
    except (BccdistError, OSError) as error:
        return Failure(reason=without_secrets(str(error)), error=type(error).__name__, is_foreseen=True)
    except Exception as error:  # noqa: BLE001 - nobody foresaw it
        traceback.print_exception(error)
        return Failure(reason=without_secrets(f"{type(error).__name__}: {error}"), error=type(error).__name__)
