"""What the names in annotation files and the values in mask images mean: all that mean nothing yet, in one error."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from bccdist.errors import AnnotationError
from bccdist.parts import Kind


class UnknownNamesError(AnnotationError):
    """Names or values of one file have no meaning in kinds.toml.

    Attributes:
        path: the annotation file.
        table: the table of kinds.toml in which they are missing.
        unknown: all of them, sorted, so that those of many files can be collected.
    """

    def __init__(self, path: Path, *, table: str, unknown: list[str] | list[int], known: Iterable[str | int]) -> None:
        """Name them all, and what is known."""
        self.path, self.table, self.unknown = path, table, tuple(unknown)
        super().__init__(
            f"{path}: {unknown} has no meaning in the table [{table}], which knows {sorted(known, key=str)}; "
            f"add it to kinds.toml beside slides.csv as a kind or as 'none'"
        )


def refuse_unknown_names(path: Path, found: Iterable[str], known: Mapping[str, Kind | None]) -> None:
    """Refuse names without a meaning.

    Raises:
        UnknownNamesError: there are some.
    """
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise UnknownNamesError(path, table="names", unknown=unknown, known=known)


def refuse_unknown_values(path: Path, found: Iterable[int], known: Mapping[int, Kind | None]) -> None:
    """Refuse values of a mask image without a meaning.

    Raises:
        UnknownNamesError: there are some.
    """
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise UnknownNamesError(path, table="mask_values", unknown=unknown, known=known)
