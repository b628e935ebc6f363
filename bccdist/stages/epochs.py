"""Which epochs a heatmap job computes: known only when it runs, after training or selection."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bccdist.configuration import InferConfig, Setting
from bccdist.errors import LedgerError
from bccdist.paths import StudyPaths
from bccdist.slide_runner import SlideWork, run_stage
from bccdist.stages.stage import Epochs, failures_name


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
    run_stage(
        failures_name("infer", setting), setup, slide_ids, paths, slides_csv=manifest_path, num_workers=num_workers
    )


def open_worker(*arguments: Any) -> SlideWork:
    """What a worker imports before its first slide."""
    from bccdist.stages.inference import open_inference

    return open_inference(*arguments)


def resolve_epochs(paths: StudyPaths, setting: Setting, epochs: Epochs) -> list[int]:
    """The epochs' numbers.

    Raises:
        LedgerError: training, or the selection, has not run yet, or training has gone on since the selection.
    """
    from bccdist.sections.choices import chosen_epochs, of_setting, settings_outdated
    from bccdist.training.reporting.metrics import read_best_epochs

    if epochs == "best":
        return read_best_epochs(paths.run(setting))
    epoch = of_setting(chosen_epochs(paths), setting, paths)
    if (outdated := settings_outdated(paths).get(setting)) is not None:
        raise LedgerError(f"{paths.selection}: {outdated}")
    return [epoch]
