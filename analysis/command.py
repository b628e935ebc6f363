"""The command line of a table's or a figure's file."""

import sys
from collections.abc import Callable

import tyro

from bccdist.errors import BccdistError


def run(main: Callable[..., None]) -> None:
    """Call `main` with the arguments of the command line; an error that the user can act on is one message."""
    try:
        tyro.cli(main)
    except BccdistError as error:
        sys.exit(f"error: {error}")
