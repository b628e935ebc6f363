"""The preset `paper` is the method, number by number, and `quick` is a valid, smaller run."""

from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from bccdist.configuration import AugmentConfig, BalanceConfig, ComputeConfig, TrainConfig, config_digest
from bccdist.presets import PRESETS

METHOD: dict[str, Any] = {
    "width": 64,
    "encoder": "",
    "encoder_weights": None,
    "freeze_encoder": False,
    "focal_gamma": 2.0,
    "mask_downsampling": "nearest-exact",
    "merge_weight_std": 0.1,
    "learning_rate": 5e-4,
    "lr_factor": 0.8,
    "lr_every_epochs": 5,
    "epochs": 40,
    "global_batch": 64,
    "micro_batch": 16,
    "max_steps": None,
    "iou_probability": 0.5,
    "keep_best": 5,
}
"""Sections 2.2 to 2.5; 4 GPUs x 16 patches, and five epochs for the selection."""
DRAWS_PER_PATCH = {
    "tumor_free": 175_771 / 175_771,
    "tumor": 30_000 / 9_537,
    "tumor_dense": 10_000 / 5_528,
    "stroma": 20_000 / 9_096,
    "normal": 20_000 / 9_458,
}
"""Table 2."""
AUGMENTATION: dict[str, Any] = {"enabled": True, "rotation_deg": 360.0, "scale": (0.8, 1.25), "blur_sigma_px": 1.5}
"""Section 2.3, as far as the method gives numbers."""
MODERATE = {"stain": 0.15, "brightness": 0.05, "elastic_px": 8.0, "elastic_grid": 8}
"""Moderate colour variation and elastic deformation: our reading."""
NOT_THE_METHOD = {"start_from", "balance", "augment", "compute", "num_workers", "save_every_min", "seed"}
"""Read apart from the others, or without a meaning for the method."""


def _values(config: TrainConfig | AugmentConfig, keys: dict[str, Any]) -> dict[str, Any]:
    return {key: getattr(config, key) for key in keys}


def test_paper_is_the_method_in_every_key() -> None:
    assert _values(PRESETS["paper"], METHOD) == METHOD
    assert {each.name for each in fields(TrainConfig)} == METHOD.keys() | NOT_THE_METHOD


def test_paper_draws_as_table_2() -> None:
    assert asdict(PRESETS["paper"].balance) == {**DRAWS_PER_PATCH, "draws": dict.fromkeys(DRAWS_PER_PATCH)}
    assert [each.name for each in fields(BalanceConfig)] == [*DRAWS_PER_PATCH, "draws"]


def test_paper_augments_in_the_ranges_of_the_method() -> None:
    ranges = {**AUGMENTATION, **MODERATE}
    assert _values(PRESETS["paper"].augment, ranges) == ranges
    assert {each.name for each in fields(AugmentConfig)} == ranges.keys() | {"place"}


def test_paper_is_plain_float32_and_repeatable() -> None:
    assert PRESETS["paper"].compute == ComputeConfig(
        precision="float32",
        channels_last="off",
        compile="off",
        fused_adam=False,
        sync_batch_norm=False,
        deterministic=True,
    )


def test_paper_differs_from_the_defaults_in_its_arithmetic_alone() -> None:
    assert replace(PRESETS["paper"], compute=ComputeConfig()) == TrainConfig()


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_quick_is_a_valid_smaller_run_of_the_same_method(world_size: int) -> None:
    quick, paper = PRESETS["quick"], PRESETS["paper"]
    quick.check_ranks(world_size)
    for key in ("width", "epochs", "global_batch", "micro_batch", "lr_every_epochs"):
        assert getattr(quick, key) < getattr(paper, key), key
    assert quick.max_steps is not None
    same = (
        "focal_gamma",
        "mask_downsampling",
        "merge_weight_std",
        "balance",
        "augment",
        "encoder_weights",
        "iou_probability",
        "keep_best",
    )
    assert all(getattr(quick, key) == getattr(paper, key) for key in same)


def test_every_preset_names_another_run() -> None:
    assert list(PRESETS) == ["paper", "quick"]
    assert len({config_digest(config) for config in [*PRESETS.values(), TrainConfig()]}) == len(PRESETS) + 1
