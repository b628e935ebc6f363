"""Rows of texts as columns, for a terminal."""

from collections.abc import Sequence


def in_columns(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """A line per row, its cells below those of the row before.

    Args:
        rows: of equal length.
        numbers: all columns but the first are numbers, and end below one another.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    place = str.rjust if numbers else str.ljust
    return ["  ".join([row[0].ljust(widths[0]), *map(place, row[1:], widths[1:])]).rstrip() for row in rows]
