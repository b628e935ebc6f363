"""One logger for what happens while a command or a job is at work; what a command was asked for is printed."""

import logging
import sys

from bccdist.addresses import without_secrets

LOG = logging.getLogger("bccdist")
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_TIME = "%Y-%m-%d %H:%M:%S"
"""Local time, with the day: a job may take several."""


def set_up_logging() -> None:
    """Write what is told from now on to standard error; for commands and jobs, not for who imports the library."""
    handler = _StandardError()
    handler.setFormatter(logging.Formatter(_FORMAT, _TIME))
    LOG.handlers = [handler]
    LOG.setLevel(logging.INFO)


class _StandardError(logging.Handler):
    """Writes a line to what standard error is at the time.

    Unlike the handler of Python's own library it lets errors through, so that a command whose reader is gone ends.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        # Libraries' errors may quote an address with its password.
        sys.stderr.write(without_secrets(self.format(record)) + "\n")
        sys.stderr.flush()
