"""The command line of a table's or a figure's file."""

import sys
from collections.abc import Callable, Sequence

import tyro

from bccdist.errors import BccdistError


def run(main: Callable[..., None], words: Sequence[str] | None = None, *, name: str | None = None) -> None:
    """Call `main` with the words of the command line; an error that the user can act on is one message."""
    try:
        tyro.cli(main, args=words, prog=name)
    except BccdistError as error:
        sys.exit(f"error: {error}")
