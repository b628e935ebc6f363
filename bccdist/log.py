"""One logger for what happens while a command or a job is at work; what a command was asked for is printed."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bccdist.addresses import without_secrets

LOG = logging.getLogger("bccdist")
NOTE = {"is_note": True}
"""Marks a message that says how a file is read, and asks for nothing."""
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_TIME = "%Y-%m-%d %H:%M:%S"
"""Local time, with the day: a job may take several."""


def set_up_logging() -> None:
    """Write what is told from now on to standard error; for commands and jobs, not for who imports the library."""
    handler = _StandardError()
    handler.setFormatter(logging.Formatter(_FORMAT, _TIME))
    LOG.handlers = [handler]
    LOG.setLevel(logging.INFO)


@contextmanager
def notes_apart() -> Iterator[list[str]]:
    """Collect the notes (`extra=NOTE`) that are told of what is at hand, for whoever shows it, and write none."""
    notes: list[str] = []

    def is_to_be_written(record: logging.LogRecord) -> bool:
        if is_note := hasattr(record, "is_note"):
            notes.append(record.getMessage())
        return not is_note

    LOG.addFilter(is_to_be_written)
    try:
        yield notes
    finally:
        LOG.removeFilter(is_to_be_written)


class _StandardError(logging.Handler):
    """Writes a line to what standard error is at the time.

    Unlike the handler of Python's own library it lets errors through, so that a command whose reader is gone ends.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        # Libraries' errors may quote an address with its password.
        sys.stderr.write(without_secrets(self.format(record)) + "\n")
        sys.stderr.flush()
