"""What the model selection chose: the rows of selection.parquet as values (paper, section 2.5)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Protocol, Self, TypeVar

import pandas as pd

from bccdist.configuration import SETTINGS, AreaUnit
from bccdist.errors import LedgerError, NothingToShowError
from bccdist.parquet import read_frame
from bccdist.paths import StudyPaths
from bccdist.training.reporting.metrics import num_epochs_done

SITE_CHOICE = "site_choice"
"""Column of selection.parquet in a cohort whose site chose thresholds of its own."""
_AGAIN = "run the selection again, which takes seconds"

T = TypeVar("T")


class _WithThresholds(Protocol):
    """A choice, or a certificate, which holds for one."""

    @property
    def t_p(self) -> float: ...

    @property
    def t_a_um2(self) -> float: ...

    @property
    def area_unit(self) -> AreaUnit: ...


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The thresholds of verdicts (paper, section 2.5): those that were chosen, or that something was made for."""

    t_p: float
    """Prediction threshold, 0 to 1."""
    t_a_um2: float
    """Area threshold."""
    area_unit: AreaUnit = "physical"

    @classmethod
    def of(cls, source: _WithThresholds) -> Self:
        """Those of a choice or a certificate."""
        return cls(t_p=source.t_p, t_a_um2=source.t_a_um2, area_unit=source.area_unit)

    def why_others(self, choice: "Choice") -> str:
        """Why what was measured at these says nothing of the chosen ones, and what to do; empty where they are."""
        chosen = Thresholds.of(choice)
        if self == chosen:
            return ""
        return f"was made for {self}, but {chosen} were chosen since; run `python jobs/launch_calibrate.py` again"

    def __str__(self) -> str:
        """The thresholds in words."""
        return f"t_p {self.t_p:g}, t_A {self.t_a_um2:g} um2 ({self.area_unit})"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen for one setting."""

    setting: str
    epoch: int
    psi: str
    """The final output, on which the thresholds were chosen."""
    t_p: float
    """Prediction threshold, 0 to 1."""
    t_a_um2: float
    """Area threshold."""
    beta: float
    """beta of the F_beta that chose: 1.5 favours sensitivity."""
    area_unit: AreaUnit
    weights_digest: str
    phantom_weights: bool = False
    """Whether the network was trained on drawn slides."""
    site_choice: str = ""
    """The digest of the site's own choice (bccdist/sections/site_choice.py); empty where the thresholds are the
    model's."""


def read_selection(paths: StudyPaths) -> pd.DataFrame:
    """The rows of selection.parquet.

    Raises:
        LedgerError: nothing was selected yet, or by a version that did not say all that is needed; or a run has gone
            on since.
    """
    if not paths.selection.exists():
        raise NothingToShowError(f"{paths.selection}: no thresholds were selected yet; run the selection first")
    selection = read_frame(paths.selection, error=LedgerError, advice=_AGAIN)
    # Only where a site chose is there the column that says so.
    missing = [field.name for field in fields(Choice) if field.name not in {*selection, SITE_CHOICE}]
    if missing:
        raise LedgerError(
            f"{paths.selection}: it has no {', '.join(missing)}, as it was made by an older version; {_AGAIN}"
        )
    if outdated := settings_outdated(paths):
        raise LedgerError(f"{paths.selection}: {'; '.join(outdated.values())}")
    return selection


def settings_outdated(paths: StudyPaths) -> dict[str, str]:
    """The settings whose runs have more epochs by now than the selection knew, each with what to do about it.

    The best epochs may be others then, and the weights of the chosen one may not be kept any more. Selections of older
    versions do not say what they knew.

    Raises:
        LedgerError: a file is damaged.
    """
    selection = read_frame(paths.selection, error=LedgerError, advice=_AGAIN)
    if "epochs_done" not in selection:
        return {}
    known = {
        str(setting): int(num) for setting, num in zip(selection["setting"], selection["epochs_done"], strict=True)
    }
    return {
        setting: f"out of date: {setting} was trained for {num} epochs when it was made, and for {now} by now; make "
        "the heatmaps of Validation of its best epochs, then run the selection again"
        for setting, num in known.items()
        if (now := num_epochs_done(paths.run(setting))) > num
    }


def chosen_epochs(paths: StudyPaths) -> dict[str, int]:
    """The epoch that was chosen for each setting, by any version: what the inference needs, and no more.

    Raises:
        LedgerError: nothing was selected yet.
    """
    if not paths.selection.exists():
        raise LedgerError(f"{paths.selection}: no thresholds were selected yet; run the selection first")
    columns = ["setting", "epoch"]
    selection = read_frame(paths.selection, columns=columns, error=LedgerError, advice=_AGAIN)
    return {str(setting): int(epoch) for setting, epoch in zip(selection["setting"], selection["epoch"], strict=True)}


def read_choices(paths: StudyPaths) -> list[Choice]:
    """What was chosen for each setting.

    Raises:
        LedgerError: nothing was selected yet.
    """
    return choices_of(read_selection(paths))


def choice_for(paths: StudyPaths, setting: str) -> Choice | None:
    """What was chosen for one setting; None where nothing was, or not by today's version, or training has gone on."""
    try:
        return next((each for each in read_choices(paths) if each.setting == setting), None)
    except LedgerError:
        return None


def of_setting(chosen: Mapping[str, T], setting: str, paths: StudyPaths) -> T:
    """What was chosen for one setting, by its name.

    Raises:
        LedgerError: the selection left this setting out.
    """
    if setting not in chosen:
        raise LedgerError(f"{paths.selection}: no epoch was chosen for {setting}; run the selection on it first")
    return chosen[setting]


def choices_of(selection: pd.DataFrame) -> list[Choice]:
    """The rows of the selection as values."""
    names = [field.name for field in fields(Choice) if field.name in selection]
    return [Choice(**{name: record[name] for name in names}) for record in selection.to_dict("records")]


def choose_headline(
    selection: pd.DataFrame, setting: str | None = None, *, among: Collection[str] = SETTINGS
) -> Choice:
    """The setting that comes first: the one that is asked for, or that with the best F_beta on Validation I + II.

    Args:
        selection: the rows of selection.parquet.
        setting: the one that is asked for; None is the best.
        among: the settings that may come first where none is asked for.

    Raises:
        LedgerError: nothing was selected for the setting, or for none that may come first.
    """
    wanted = among if setting is None else [setting]
    able = selection[selection["setting"].isin(list(wanted))]
    if able.empty:
        raise NothingToShowError(
            f"nothing was selected for {' or '.join(wanted)}; selected were {', '.join(selection['setting'])}"
        )
    # The first of equals comes first; an F_beta that is not known ranks last.
    best = int(able["f_beta"].fillna(-1.0).to_numpy().argmax())
    return choices_of(able)[best]
