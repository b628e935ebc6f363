"""Which epochs a heatmap job computes: known only when it runs, after training or selection."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from bccdist.configuration import SETTINGS, InferConfig, Setting
from bccdist.errors import LedgerError
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.slide_runner import run_stage

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


def failure_stage(setting: Setting) -> str:
    """The name under which failures of inference are kept: settings may be at work at the same time."""
    return f"infer-{setting}"


def infer_slides(
    manifest_path: Path,
    slide_ids: Sequence[str],
    study_root: Path,
    setting: Setting,
    epochs: Epochs | Sequence[int],
    config: InferConfig,
    *,
    num_workers: int = 1,
) -> None:
    """Heatmaps and ledger rows of some slides; the job's entry point. What is done already is left as it is.

    The networks, and with them the GPU, live in one worker for all slides. A slide that kills it fails alone; then
    another worker loads them again. This process needs no torch.

    Args:
        manifest_path: the study's slides.csv.
        slide_ids: which slides.
        study_root: the study's folder.
        setting: whose weights.
        epochs: which of the kept ones.
        config: how.
        num_workers: 1, or 0 for this process itself.

    Raises:
        LedgerError: training, or the selection, has not run yet.
        BccdistError: the weights, the configuration or a result that is there does not fit; see `open_inference`.
            Then nothing is done.
        StageFailedError: some slides failed; the others are done.
    """
    paths = StudyPaths(study_root)
    numbers = resolve_epochs(paths, setting, epochs) if isinstance(epochs, str) else epochs
    setup = partial(open_worker, manifest_path, slide_ids, study_root, setting, numbers, config)
    run_stage(failure_stage(setting), setup, slide_ids, paths, num_workers=num_workers)


def open_worker(*arguments: Any) -> Callable[[str], str]:
    """What a worker imports before its first slide."""
    from bccdist.stages.inference import open_inference

    return open_inference(*arguments)


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
