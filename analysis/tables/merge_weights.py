"""What each block adds to the linear merge (eq. 2; paper, section 3.1): `python analysis/make.py merge_weights STUDY`.

A weight by itself says little, since score maps differ in scale: a large weight on a flat map does nothing. So beside
w stands w times the standard deviation of the block's scores, which the speed-up record holds.
"""

from collections.abc import Mapping

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import NOT_KNOWN, Table
from analysis.tables.table5 import measured_outputs
from bccdist.configuration import Setting
from bccdist.errors import LedgerError
from bccdist.sections.choices import Choice
from bccdist.speedups.record import MeasuredOutput
from bccdist.training.reporting.metrics import read_metrics

SETTING: Setting = "resnet34_linear"


def build_merge_weights(metrics: pd.DataFrame, choice: Choice, costs: Mapping[str, MeasuredOutput]) -> Table:
    """The table of the chosen epoch.

    Args:
        metrics: the rows of the run's metrics.parquet.
        choice: the model.
        costs: what the speed-up record says of each output; empty without one.

    Raises:
        LedgerError: the metrics hold no weights of this epoch.
    """
    mine = metrics[(metrics["epoch"] == choice.epoch) & metrics["merge_weight"].notna()].sort_values("psi")
    if mine.empty:
        raise LedgerError(f"{choice.setting}: its metrics hold no merge weights of epoch {choice.epoch}")
    frame = pd.DataFrame(
        {
            "setting": choice.setting,
            "epoch": choice.epoch,
            "psi": mine["psi"],
            "merge_weight": mine["merge_weight"],
            "score_std": pd.array([costs[psi].score_std if psi in costs else None for psi in mine["psi"]], "Float64"),
            "phantom": mine["phantom"],
        }
    ).reset_index(drop=True)
    frame.insert(5, "effect", frame["merge_weight"] * frame["score_std"])
    return Table(
        name="merge_weights",
        title=f"Linear merge: what was learned for each block of {choice.setting}, epoch {choice.epoch}.",
        frame=frame,
        printed=pd.DataFrame(
            {
                "block": frame["psi"],
                "w": _signed(frame["merge_weight"]),
                "deviation of its scores": [text.lstrip("+") for text in _signed(frame["score_std"])],
                "w times deviation": _signed(frame["effect"]),
            }
        ),
        notes=()
        if costs
        else ("The deviations are not known: run `python jobs/launch_calibrate.py` for this setting.",),
    )


def _signed(values: pd.Series) -> list[str]:
    return [NOT_KNOWN if pd.isna(value) else f"{value:+.4f}" for value in values]


def write_merge_weights(study: Evidence) -> Table:
    """Write what the linear merge learned for each decoder block.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected for the linear merge, or it has no metrics.
    """
    choice, run = study.headline(SETTING), study.paths.run(SETTING)
    return study.write(build_merge_weights(read_metrics(run.metrics), choice, measured_outputs(run, choice)))
