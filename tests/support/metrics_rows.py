"""Rows of metrics.parquet for the tests of what is made of them."""

from collections.abc import Mapping

from bccdist.configuration import Psi, Setting
from bccdist.training.reporting.metrics import EpochFacts, MetricsRow, epoch_rows
from bccdist.training.validation import PixelCounts, ValidationResult


def rows_of_epoch(
    setting: Setting,
    epoch: int,
    confusion_px: dict[Psi, tuple[int, int, int, int]],
    *,
    merge_weights: Mapping[str, float],
    train_loss: float = 0.5,
    phantom: bool = True,
) -> list[MetricsRow]:
    """Of an epoch of four steps; the merge weights are those of `resnet34_linear` alone."""
    psis = list(confusion_px)
    supervised = psis if setting == "resnet34_ds" else psis[-1:]
    return epoch_rows(
        EpochFacts(
            setting=setting,
            epoch=epoch,
            learning_rate=5e-4,
            seconds=2.0,
            patches_per_s=8.0,
            num_steps=4,
            loader_wait_share=0.125,
            memory_gib=1.5,
            phantom=phantom,
        ),
        ValidationResult(
            confusion_px={psi: PixelCounts(*counts) for psi, counts in confusion_px.items()},
            losses=dict.fromkeys(supervised, 0.25),
        ),
        dict.fromkeys(supervised, train_loss),
        merge_weights=merge_weights if setting == "resnet34_linear" else None,
    )
