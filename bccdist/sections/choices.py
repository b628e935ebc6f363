"""What the model selection chose: the rows of selection.parquet as values (paper, section 2.5)."""

from dataclasses import dataclass, fields

import pandas as pd

from bccdist.configuration import AreaUnit
from bccdist.errors import LedgerError
from bccdist.paths import StudyPaths


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen for one setting."""

    setting: str
    epoch: int
    t_p: float
    """Prediction threshold, 0 to 1."""
    t_a_um2: float
    """Area threshold."""
    beta: float
    """Of the F_beta that chose."""
    area_unit: AreaUnit
    weights_digest: str


def read_selection(paths: StudyPaths) -> pd.DataFrame:
    """The rows of selection.parquet.

    Raises:
        LedgerError: nothing was selected yet.
    """
    if not paths.selection.exists():
        raise LedgerError(f"{paths.selection}: no thresholds were selected yet; run the selection first")
    return pd.read_parquet(paths.selection)


def read_choices(paths: StudyPaths) -> list[Choice]:
    """What was chosen for each setting.

    Raises:
        LedgerError: nothing was selected yet.
    """
    return choices_of(read_selection(paths))


def choices_of(selection: pd.DataFrame) -> list[Choice]:
    """The rows of the selection as values."""
    names = [field.name for field in fields(Choice)]
    return [Choice(**{name: record[name] for name in names}) for record in selection.to_dict("records")]


def choose_headline(selection: pd.DataFrame, setting: str | None) -> Choice:
    """The setting that comes first: the one that is asked for, or that with the best F_beta on Validation I + II.

    Raises:
        LedgerError: nothing was selected for the setting.
    """
    choices = {choice.setting: choice for choice in choices_of(selection)}
    if setting is None:
        best = int(selection["f_beta"].to_numpy().argmax()) if "f_beta" in selection else 0
        return list(choices.values())[best]
    if setting not in choices:
        raise LedgerError(f"--setting {setting}: nothing was selected for it; selected were {', '.join(choices)}")
    return choices[setting]
