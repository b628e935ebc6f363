"""What the names in annotation files and the values in mask images mean: all that mean nothing yet, in one error."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from bccdist.errors import AnnotationError
from bccdist.parts import Kind

Word = TypeVar("Word", str, int)


class UnknownNamesError(AnnotationError):
    """Names or values of one file have no meaning in kinds.toml.

    Attributes:
        path: the annotation file.
        table: the table of kinds.toml in which they are missing.
        unknown: all of them, sorted, so that those of many files can be collected.
    """

    def __init__(self, path: Path, *, table: str, unknown: list[str] | list[int], known: Iterable[str | int]) -> None:
        self.path, self.table, self.unknown = path, table, tuple(unknown)
        super().__init__(
            f"{path}: {unknown} has no meaning in the table [{table}], which knows {sorted(known, key=str)}; "
            f"add it to kinds.toml beside slides.csv as a kind or as 'none'"
        )


def refuse_unknown(path: Path, found: Iterable[Word], known: Mapping[Word, Kind | None], *, table: str) -> None:
    """Refuse names, or values of a mask image, without a meaning in a table of kinds.toml.

    Raises:
        UnknownNamesError: there are some.
    """
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise UnknownNamesError(path, table=table, unknown=unknown, known=known)
