"""Which epochs a heatmap job computes: known only when it runs, after training or selection."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from analysis.choices import read_choices
from analysis.selection import best_epochs
from bccdist.configuration import InferConfig, Setting
from bccdist.errors import LedgerError
from bccdist.files import read_json
from bccdist.paths import StudyPaths

Epochs = Literal["best", "chosen"]
"""best: the best by IoU on Validation I. chosen: the one that the selection chose."""


def infer_slides(
    manifest_path: Path,
    slide_ids: Sequence[str],
    study_root: Path,
    setting: Setting,
    epochs: Epochs,
    config: InferConfig,
) -> None:
    """Heatmaps of some slides; the job's entry point.

    Raises:
        LedgerError: training, or the selection, has not been there yet.
        StageFailedError: some slides failed; the others are done.
    """
    from bccdist.heatmaps import stage

    numbers = resolve_epochs(StudyPaths(study_root), setting, epochs)
    stage.infer_slides(manifest_path, slide_ids, study_root, setting, numbers, config)


def resolve_epochs(paths: StudyPaths, setting: Setting, epochs: Epochs) -> list[int]:
    """The epochs' numbers.

    Raises:
        LedgerError: training, or the selection, has not been there yet.
    """
    if epochs == "best":
        run = paths.run(setting)
        if not run.config.exists():
            raise LedgerError(f"{run.root}: {setting} is not trained; run `python jobs/launch_train.py` first")
        return best_epochs(run, read_json(run.config)["keep_best"])
    chosen = [choice.epoch for choice in read_choices(paths) if choice.setting == setting]
    if not chosen:
        raise LedgerError(f"{paths.selection}: no epoch was chosen for {setting}; run the selection on it first")
    return chosen
