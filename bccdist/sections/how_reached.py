"""How the verdicts in ledger files were reached, and for which thresholds: a few columns of each file, for status."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bccdist.errors import LedgerError
from bccdist.parquet import open_table
from bccdist.sections.choices import Choice, Thresholds
from bccdist.sections.verdicts import ReachedBy

_COLUMNS = ("is_final", "reached_by", "certificate_t_p", "certificate_t_a_um2", "certificate_area_unit")


@dataclass(kw_only=True)
class HowReached:
    """What some ledger files say."""

    sections: Counter[str] = field(default_factory=Counter)
    """Verdicts by the final output, by how they were reached."""
    outdated: list[str] = field(default_factory=list)
    """Slides with verdicts that were certified for other thresholds than those that are chosen."""
    certified_for: Thresholds | None = None
    """Those of one of these."""

    @property
    def text(self) -> str:
        """The counts in a few words; nothing where all verdicts are exact."""
        if not set(self.sections) - {ReachedBy.EXACT}:
            return ""
        counts = (f"{self.sections[each]} {each}" for each in ReachedBy if self.sections[each])
        return f"{self.sections.total()} sections: {', '.join(counts)}"


def how_reached(files: Iterable[Path], choice: Choice | None) -> HowReached:
    """Read how the verdicts of some slides were reached.

    Exact verdicts rest on no thresholds: the recomputed and checked ones beside certified ones do not, either.

    Args:
        files: ledger files of single slides; a damaged one is told by whoever reads it whole.
        choice: the thresholds that are chosen; None where nobody knows.
    """
    found = HowReached()
    for path in files:
        try:
            rows = open_table(path, error=LedgerError, advice="").read(columns=_COLUMNS).to_pylist()
        except (LedgerError, KeyError, FileNotFoundError):
            continue
        final = [row for row in rows if row["is_final"]]
        found.sections.update(row["reached_by"] for row in final)
        others = [
            row
            for row in final
            if row["reached_by"] == ReachedBy.CERTIFIED
            and choice is not None
            and _thresholds(row) != Thresholds.of(choice)
        ]
        if others:
            found.outdated.append(path.stem)
            found.certified_for = _thresholds(others[0])
    return found


def _thresholds(row: Mapping[str, Any]) -> Thresholds:
    t_p, t_a_um2, area_unit = (row[name] for name in _COLUMNS[2:])
    return Thresholds(t_p=t_p, t_a_um2=t_a_um2, area_unit=area_unit)
