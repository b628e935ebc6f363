"""Which epochs a heatmap job computes: known only when it runs, after training or selection."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from bccdist.configuration import SETTINGS, InferConfig, Setting
from bccdist.errors import LedgerError
from bccdist.parts import Part
from bccdist.paths import StudyPaths

Epochs = Literal["best", "chosen"]
"""best: the best by IoU on Validation I. chosen: the one that the selection chose."""


def inference_stage(setting: Setting, parts: Sequence[Part], epochs: Epochs) -> str:
    """The name of the stage that makes heatmaps of some parts, as infer-unet-val1-val2 or infer-unet-test."""
    words = ["infer", setting, *(part.short for part in parts)]
    return "-".join(words if epochs == _usual_epochs(parts) else [*words, epochs])


def parse_inference_stage(stage: str) -> tuple[Setting, list[Part], Epochs]:
    """What `inference_stage` made the name of."""
    _, setting, *words = stage.split("-")
    parts = [Part.parse(word) for word in words if word not in get_args(Epochs)]
    given: list[Epochs] = [epochs for epochs in get_args(Epochs) if epochs in words]
    epochs = given[0] if given else _usual_epochs(parts)
    return next(each for each in SETTINGS if each == setting), parts, epochs


def _usual_epochs(parts: Sequence[Part]) -> Epochs:
    return "chosen" if list(parts) == [Part.TEST] else "best"


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
        LedgerError: training, or the selection, has not run yet.
        StageFailedError: some slides failed; the others are done.
    """
    from bccdist.stages import inference as stage

    numbers = resolve_epochs(StudyPaths(study_root), setting, epochs)
    stage.infer_slides(manifest_path, slide_ids, study_root, setting, numbers, config)


def resolve_epochs(paths: StudyPaths, setting: Setting, epochs: Epochs) -> list[int]:
    """The epochs' numbers.

    Raises:
        LedgerError: training, or the selection, has not run yet.
    """
    from bccdist.sections.choices import read_choices
    from bccdist.training.reporting.metrics import read_best_epochs

    if epochs == "best":
        return read_best_epochs(paths.run(setting))
    chosen = [choice.epoch for choice in read_choices(paths) if choice.setting == setting]
    if not chosen:
        raise LedgerError(f"{paths.selection}: no epoch was chosen for {setting}; run the selection on it first")
    return chosen
