"""Signals are noted while training, obeyed by all ranks, and handed on to whoever waited for them before."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from bccdist.training.stop import SIGNALS, StopRequest, asked_to_stop, leave

TERM, USR2 = signal.SIGTERM, signal.SIGUSR2


class HandledError(Exception):
    """Raised by the handler that was there before."""


@pytest.fixture
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _raise_handled(*_: object) -> None:
    raise HandledError


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_nothing_else(number: signal.Signals) -> None:
    signal.signal(number, _raise_handled)
    with StopRequest() as request:
        assert asked_to_stop(request.as_counts) is None
        os.kill(os.getpid(), number)
        assert asked_to_stop(request.as_counts) == number
    with pytest.raises(HandledError):
        os.kill(os.getpid(), number)


@pytest.mark.usefixtures("_handlers")
def test_the_first_signal_counts() -> None:
    with StopRequest() as request:
        os.kill(os.getpid(), USR2)
        os.kill(os.getpid(), TERM)
        assert asked_to_stop(request.as_counts) == USR2


@pytest.mark.parametrize(
    ("summed", "expected"),
    [
        ({"SIGTERM": 0, "SIGUSR2": 0}, None),
        ({"SIGTERM": 1, "SIGUSR2": 0}, TERM),
        ({"SIGTERM": 0, "SIGUSR2": 1}, USR2),
        ({"SIGTERM": 1, "SIGUSR2": 1}, USR2),
        ({"SIGTERM": 2, "SIGUSR2": 0}, TERM),
        ({"SIGINT": 1, "SIGHUP": 0, "SIGTERM": 0, "SIGUSR2": 0}, signal.SIGINT),
        ({"SIGINT": 1, "SIGHUP": 1, "SIGTERM": 0, "SIGUSR2": 0}, signal.SIGHUP),
        ({"SIGINT": 1, "SIGHUP": 0, "SIGTERM": 0, "SIGUSR2": 1}, USR2),
    ],
)
def test_what_one_rank_was_told_all_obey(summed: dict[str, float], expected: signal.Signals | None) -> None:
    assert asked_to_stop(summed) == expected


def test_outside_the_main_thread_no_handler_is_set() -> None:
    before = signal.getsignal(USR2)
    found: list[object] = []

    def enter() -> None:
        with StopRequest() as request:
            found.extend((signal.getsignal(USR2), request.as_counts))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before, dict.fromkeys(("SIGINT", "SIGHUP", "SIGTERM", "SIGUSR2"), 0.0)]


@pytest.mark.usefixtures("_handlers")
def test_a_second_interrupt_is_obeyed_at_once() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had us ignore it
    with StopRequest() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert asked_to_stop(request.as_counts) == TERM


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_ignored_stays_so(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    with StopRequest() as request:
        os.kill(os.getpid(), number)
        assert asked_to_stop(request.as_counts) is None


def _must_not_wait() -> None:
    raise AssertionError


@pytest.mark.usefixtures("_handlers")
def test_the_first_rank_hands_the_signal_on() -> None:
    signal.signal(USR2, _raise_handled)
    with pytest.raises(HandledError):
        leave(USR2, is_first=True, wait_for_the_first=_must_not_wait)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize(("number", "code"), [(TERM, 143), (USR2, 140)])
def test_a_handler_that_returns_is_followed_by_an_exit(number: signal.Signals, code: int) -> None:
    signal.signal(number, lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        leave(number, is_first=True, wait_for_the_first=_must_not_wait)
    assert caught.value.code == code


@pytest.mark.usefixtures("_handlers")
def test_the_other_ranks_wait_for_the_first_and_exit() -> None:
    signal.signal(TERM, _raise_handled)
    waited: list[bool] = []
    wait: Callable[[], None] = lambda: waited.append(True)  # noqa: E731
    with pytest.raises(SystemExit) as caught:
        leave(TERM, is_first=False, wait_for_the_first=wait)
    assert (caught.value.code, waited) == (143, [True])
