"""The defaults are the paper's, what cannot work is refused by name, and a folder keeps to one configuration."""

import ast
import json
import operator
import re
from dataclasses import asdict, fields, replace
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import tyro
from damage import assert_never_used
from study_folders import write_claimed

from bccdist import configuration
from bccdist.configuration import (
    CELL_PX,
    NUM_BLOCKS,
    PATCH_PX,
    SETTINGS,
    AugmentConfig,
    BalanceConfig,
    ComputeConfig,
    DrawCounts,
    InferConfig,
    SelectConfig,
    Setting,
    ShardConfig,
    SpeedupsConfig,
    StageConfig,
    TrainConfig,
    claim_config,
    config_digest,
    outputs_of,
    pixel_px,
    psi_name,
    read_claimed,
)
from bccdist.errors import ConfigurationError
from bccdist.files import digest_of, read_json, write_json
from bccdist.seals import write_sealed_json

Config = StageConfig | AugmentConfig | BalanceConfig | ComputeConfig


class Refused(NamedTuple):
    """A value that cannot work."""

    kind: type[Config]
    key: str
    value: Any
    expected: str


REFUSED = [
    Refused(ShardConfig, "target_mpp", 0.0, "above 0"),
    Refused(ShardConfig, "target_mpp", float("inf"), "above 0"),
    Refused(ShardConfig, "mpp_tolerance", -0.1, "at least 0 and below 0.5"),
    Refused(ShardConfig, "mpp_tolerance", 0.5, "at least 0 and below 0.5"),
    Refused(ShardConfig, "stride_px", 0, "1 to 512"),
    Refused(ShardConfig, "stride_px", 513, "1 to 512"),
    Refused(ShardConfig, "validation_stride_px", 0, "1 to 512"),
    Refused(ShardConfig, "min_tissue_fraction", 1.1, "0 to 1"),
    Refused(ShardConfig, "jpeg_quality", 0, "1 to 100"),
    Refused(ShardConfig, "jpeg_quality", 101, "1 to 100"),
    Refused(BalanceConfig, "tumor_dense", -1.0, "at least 0"),
    Refused(BalanceConfig, "stroma", float("nan"), "at least 0"),
    Refused(AugmentConfig, "place", "gpu", "one of ('auto', 'loader', 'device')"),
    Refused(AugmentConfig, "rotation_deg", 361.0, "0 to 360"),
    Refused(AugmentConfig, "scale", (0.0, 1.0), "two numbers above 0, the smaller one first"),
    Refused(AugmentConfig, "scale", (1.2, 0.8), "two numbers above 0, the smaller one first"),
    Refused(AugmentConfig, "blur_sigma_px", -1.0, "at least 0"),
    Refused(AugmentConfig, "stain", 1.0, "at least 0 and below 1"),
    Refused(AugmentConfig, "brightness", -0.1, "at least 0"),
    Refused(AugmentConfig, "elastic_px", float("nan"), "at least 0"),
    Refused(AugmentConfig, "elastic_grid", 0, "at least 1"),
    Refused(ComputeConfig, "precision", "fp16", "one of ('auto', 'float32', 'tf32', 'bf16')"),
    Refused(ComputeConfig, "compile", True, "one of ('auto', 'on', 'off')"),
    Refused(TrainConfig, "width", 6, "a multiple of 4"),
    Refused(TrainConfig, "width", 0, "a multiple of 4"),
    Refused(TrainConfig, "focal_gamma", -1.0, "at least 0"),
    Refused(TrainConfig, "mask_downsampling", "nearest", "one of ('nearest-exact', 'majority', 'max')"),
    Refused(TrainConfig, "merge_weight_std", -0.1, "at least 0"),
    Refused(TrainConfig, "iou_probability", 1.0, "above 0 and below 1"),
    Refused(TrainConfig, "learning_rate", 0.0, "above 0"),
    Refused(TrainConfig, "learning_rate", float("nan"), "above 0"),
    Refused(TrainConfig, "lr_factor", 0.0, "above 0"),
    Refused(TrainConfig, "lr_every_epochs", 0, "at least 1"),
    Refused(TrainConfig, "epochs", 0, "at least 1"),
    Refused(TrainConfig, "global_batch", 0, "at least 1"),
    Refused(TrainConfig, "micro_batch", 0, "at least 1"),
    Refused(TrainConfig, "max_steps", 0, "at least 1 or None"),
    Refused(TrainConfig, "keep_best", 0, "at least 1"),
    Refused(TrainConfig, "num_workers", -1, "at least 0"),
    Refused(TrainConfig, "save_every_min", -1.0, "at least 0"),
    Refused(TrainConfig, "save_every_min", float("inf"), "at least 0"),
    Refused(TrainConfig, "save_every_min", float("nan"), "at least 0"),
    Refused(TrainConfig, "seed", -1, "at least 0"),
    Refused(InferConfig, "mpp_tolerance", 0.5, "at least 0 and below 0.5"),
    Refused(InferConfig, "batch", 0, "at least 1"),
    Refused(InferConfig, "tiling", "wide", "one of ('auto', 'paper', 'dense')"),
    Refused(InferConfig, "blending", "max", "one of ('mean', 'hann', 'centre')"),
    Refused(InferConfig, "precision", "fp8", "one of ('auto', 'float32', 'bf16', 'int8')"),
    Refused(InferConfig, "engine", "tensorrt", "one of ('auto', 'eager', 'folded', 'compiled', 'openvino', 'mnn')"),
    Refused(InferConfig, "exit", "psi_1", "one of ('psi_0', None)"),
    Refused(InferConfig, "halo_px", 72, "a multiple of 32 up to 256, or None"),
    Refused(InferConfig, "halo_px", 288, "a multiple of 32 up to 256, or None"),
    Refused(SpeedupsConfig, "max_slides", 0, "at least 1 or None"),
    Refused(SpeedupsConfig, "num_samples", 0, "at least 1"),
    Refused(SpeedupsConfig, "num_field_samples", 0, "at least 1"),
    Refused(SpeedupsConfig, "batch", 0, "at least 1"),
    Refused(SpeedupsConfig, "mpp_tolerance", 0.5, "at least 0 and below 0.5"),
    Refused(SelectConfig, "beta", 0.0, "above 0"),
    Refused(SelectConfig, "probability_step", 0.0, "above 0, at most 0.5"),
    Refused(SelectConfig, "probability_step", 0.6, "above 0, at most 0.5"),
    Refused(SelectConfig, "area_step_um2", 0.0, "above 0"),
    Refused(SelectConfig, "num_area_steps", 0, "at least 1"),
    Refused(SelectConfig, "area_unit", "um2", "one of ('physical', 'nominal')"),
]
PACE = ["num_workers", "save_every_min"]
STAGES: list[StageConfig] = [ShardConfig(), TrainConfig(), InferConfig(), SelectConfig(), SpeedupsConfig()]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.key}={case.value}")
def test_what_cannot_work_is_refused_with_key_got_and_expected(case: Refused) -> None:
    with pytest.raises(ConfigurationError) as error:
        case.kind(**{case.key: case.value})
    assert str(error.value) == f"{case.key} is {case.value!r}, expected {case.expected}"


def test_a_cascade_cannot_end_at_psi_0() -> None:
    with pytest.raises(ConfigurationError, match="cascade is True, expected False, because exit is psi_0"):
        InferConfig(cascade=True, exit="psi_0")


@pytest.mark.parametrize("width", [4, 60, 128])
def test_encoder_weights_want_the_width_that_they_have(width: int) -> None:
    assert TrainConfig(width=64, encoder_weights=Path("resnet34.pth")).width == 64
    with pytest.raises(ConfigurationError) as error:
        TrainConfig(width=width, encoder_weights=Path("resnet34.pth"))
    assert str(error.value) == f"width is {width}, expected 64, which the encoder_weights have"


def test_the_defaults_of_training_are_the_papers() -> None:
    config = TrainConfig()
    assert (config.learning_rate, config.lr_factor, config.lr_every_epochs) == (5e-4, 0.8, 5)
    assert (config.epochs, config.global_batch, config.micro_batch, config.keep_best) == (40, 64, 16, 5)
    assert (config.width, config.focal_gamma, config.mask_downsampling) == (64, 2.0, "nearest-exact")
    assert config.max_steps is None
    assert config.augment.enabled
    assert (config.augment.rotation_deg, config.augment.scale, config.augment.blur_sigma_px) == (360, (0.8, 1.25), 1.5)


def test_the_defaults_of_the_other_stages_are_the_papers() -> None:
    assert (PATCH_PX, CELL_PX, NUM_BLOCKS) == (512, 256, 5)
    assert (ShardConfig().target_mpp, ShardConfig().mpp_tolerance, ShardConfig().stride_px) == (0.92, 0.1, 256)
    assert InferConfig().mpp_tolerance == ShardConfig().mpp_tolerance
    assert (SelectConfig().beta, SelectConfig().probability_step) == (1.5, 0.05)
    assert (SelectConfig().area_step_um2, SelectConfig().area_unit) == (1280, "physical")


def test_the_balance_gives_the_draws_of_table_2() -> None:
    before = {"tumor_free": 175_771, "tumor": 9_537, "tumor_dense": 5_528, "stroma": 9_096, "normal": 9_458}
    draws = {pool: BalanceConfig().num_draws(pool, num_members=size) for pool, size in before.items()}
    assert draws == {
        "tumor_free": 175_771, "tumor": 30_000, "tumor_dense": 10_000, "stroma": 20_000, "normal": 20_000
    }  # fmt: skip
    assert sum(draws.values()) == 255_771


@pytest.mark.parametrize(
    ("setting", "outputs"),
    [
        ("unet", ("psi_4",)),
        ("resnet34", ("psi_4",)),
        ("resnet34_ds", ("psi_0", "psi_1", "psi_2", "psi_3", "psi_4")),
        ("resnet34_linear", ("psi_0", "psi_1", "psi_2", "psi_3", "psi_4", "merged")),
    ],
)
def test_a_setting_yields_the_outputs_that_its_loss_reaches(setting: Setting, outputs: tuple[str, ...]) -> None:
    assert outputs_of(setting) == outputs


def test_the_four_settings_are_the_papers() -> None:
    assert get_args(Setting) == SETTINGS == ("unet", "resnet34", "resnet34_ds", "resnet34_linear")


def test_a_pixel_of_an_output_is_as_large_as_its_lattice_is_coarse() -> None:
    assert [pixel_px(psi_name(block)) for block in range(NUM_BLOCKS)] == [16, 8, 4, 2, 1]
    assert [PATCH_PX // pixel_px(psi_name(block)) for block in range(NUM_BLOCKS)] == [32, 64, 128, 256, 512]
    assert pixel_px("merged") == 1
    assert all(CELL_PX % pixel_px(psi_name(block)) == 0 for block in range(NUM_BLOCKS))


@pytest.mark.parametrize("world_size", [1, 3, 64])
def test_any_number_of_ranks_up_to_the_global_batch_is_accepted(world_size: int) -> None:
    TrainConfig().check_ranks(world_size)


def test_more_ranks_than_patches_in_a_step_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="global_batch is 64, expected at least 65: one patch for each rank"):
        TrainConfig().check_ranks(65)


def test_a_pool_is_drawn_by_its_ratio_or_by_its_count() -> None:
    balance = BalanceConfig(stroma=1.5, draws=DrawCounts(tumor=30, normal=0))
    sizes = {"tumor_free": 9, "tumor": 4, "tumor_dense": 2, "stroma": 3, "normal": 5}
    draws = {pool: balance.num_draws(pool, num_members=size) for pool, size in sizes.items()}
    assert draws == {"tumor_free": 9, "tumor": 30, "tumor_dense": 4, "stroma": 4, "normal": 0}


def test_a_pool_with_both_a_ratio_and_a_count_is_refused() -> None:
    with pytest.raises(ConfigurationError) as error:
        BalanceConfig(tumor=2.0, draws=DrawCounts(tumor=30_000))
    assert str(error.value) == "tumor is 2.0, expected no ratio of its own, because draws.tumor is 30000"


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"draws.normal is -1, expected at least 0 or None"):
        DrawCounts(normal=-1)


def test_a_count_is_given_on_the_command_line() -> None:
    words = ["--balance.draws.tumor", "30000", "--balance.stroma", "1.5"]
    expected = BalanceConfig(stroma=1.5, draws=DrawCounts(tumor=30_000))
    assert tyro.cli(TrainConfig, args=words).balance == expected


def test_arithmetic_and_encoder_weights_are_given_on_the_command_line() -> None:
    words = ["--compute.precision", "bf16", "--compute.compile", "off", "--compute.channels-last", "off"]
    config = tyro.cli(TrainConfig, args=[*words, "--encoder-weights", "resnet34.pth", "--augment.place", "device"])
    assert config.compute == ComputeConfig(precision="bf16", compile="off", channels_last="off")
    assert config.encoder_weights == Path("resnet34.pth")
    assert config.augment == AugmentConfig(place="device")


def test_a_count_for_an_empty_pool_is_refused() -> None:
    balance = BalanceConfig(draws=DrawCounts(stroma=10, normal=0))
    assert balance.num_draws("normal", num_members=0) == balance.num_draws("tumor", num_members=0) == 0
    with pytest.raises(ConfigurationError, match=r"draws.stroma is 10, expected 0 or None, because no training patch"):
        balance.num_draws("stroma", num_members=0)


def another_value(key: str, value: Any) -> Any:
    """A valid value of the key that is not `value`."""
    others = {
        "mask_downsampling": "max",
        "area_unit": "nominal",
        "image_coding": "png",
        "jpeg_chroma": "420",
        "max_steps": 7,
        "encoder_weights": Path("resnet34.pth"),
        "start_from": Path("epoch-003.safetensors"),
        "balance": BalanceConfig(stroma=1.0),
        "augment": AugmentConfig(scale=(0.9, 1.25)),
        "compute": ComputeConfig(precision="float32"),
        "place": "loader",
        "precision": "bf16",
        "tiling": "dense",
        "halo_px": 64,
        "blending": "hann",
        "engine": "folded",
        "exit": "psi_0",
        "inference": "certified",
        "max_slides": 7,
        "compile": "off",
        "channels_last": "on",
        "scale": (0.9, 1.25),
        "draws": DrawCounts(stroma=7),
        "enabled": False,
        "encoder": "convnext_tiny",
    }
    if key in others:
        return others[key]
    if isinstance(value, bool):
        return not value
    return value / 2 if isinstance(value, float) else value // 2 or 1


@pytest.mark.parametrize("config", STAGES, ids=lambda config: type(config).__name__)
def test_a_digest_is_the_same_for_equal_values_and_changes_with_each_key(config: StageConfig) -> None:
    digest = config_digest(config)
    assert config_digest(type(config)()) == digest
    # Freezing needs weights beside it.
    keys = [field.name for field in fields(config) if field.name != "freeze_encoder"]
    changed = {key: replace(config, **{key: another_value(key, getattr(config, key))}) for key in keys}
    same = [key for key in keys if config_digest(changed[key]) == digest]
    assert same == (["start_from", "epochs", *PACE] if isinstance(config, TrainConfig) else [])


def test_freezing_names_another_run_and_a_run_of_before_it_goes_on(tmp_path: Path) -> None:
    trained = TrainConfig(encoder_weights=Path("a.safetensors"))
    assert config_digest(replace(trained, freeze_encoder=True)) != config_digest(trained)
    path = tmp_path / "run" / "config.json"
    digest = claim_config(path, trained)
    values = {key: value for key, value in read_claimed(path).items() if key not in ("encoder", "freeze_encoder")}
    write_sealed_json(path, values)
    assert claim_config(path, trained) == digest
    with pytest.raises(ConfigurationError, match="encoder: there not set, here 'convnext_tiny'"):
        claim_config(path, replace(trained, encoder="convnext_tiny"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze_encoder": True}, "freeze_encoder is True, expected False without encoder_weights or start_from"),
        ({"encoder": "small", "width": 32}, "width is 32, expected 64, because the encoder small has a width"),
        ({"encoder": "small", "compute": ComputeConfig(sync_batch_norm=True)}, "sync_batch_norm is True, expected"),
    ],
)
def test_an_encoder_that_cannot_be_trained_so_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TrainConfig(**changes)


@pytest.mark.parametrize("part", ["balance", "augment", "compute"])
def test_a_digest_changes_with_each_key_of_a_part(part: str) -> None:
    whole = TrainConfig()
    default = getattr(whole, part)
    keys = [field.name for field in fields(default)]
    changed = [replace(default, **{key: another_value(key, getattr(default, key))}) for key in keys]
    digests = {config_digest(replace(whole, **{part: each})) for each in changed}
    assert len(digests - {config_digest(whole)}) == len(keys)


@pytest.mark.parametrize("config", STAGES, ids=lambda config: type(config).__name__)
def test_the_digest_in_the_folder_names_the_values_in_the_folder(config: StageConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    digest = claim_config(path, config)
    assert digest == config_digest(config)
    written = read_claimed(path)
    assert written.pop("digest") == digest
    assert written == json.loads(json.dumps(asdict(config)))


def test_runs_may_differ_in_pace(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    digest = claim_config(path, TrainConfig(num_workers=4, save_every_min=10))
    assert claim_config(path, TrainConfig(num_workers=0, save_every_min=1)) == digest
    assert [read_json(path)[key] for key in PACE] == [4, 10]


def test_a_folder_from_before_a_key_of_pace_existed_is_still_its_own(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    claim_config(path, TrainConfig())
    _without(path, "save_every_min")
    assert claim_config(path, TrainConfig()) == read_json(path)["digest"]


def test_a_folder_accepts_its_own_configuration_again(tmp_path: Path) -> None:
    path = tmp_path / "run" / "config.json"
    digest = claim_config(path, TrainConfig(seed=3), setting="unet")
    content = path.read_bytes()
    assert claim_config(path, TrainConfig(seed=3), setting="unet") == digest
    assert path.read_bytes() == content
    assert read_json(path)["digest"] == digest
    assert read_json(path)["seed"] == 3
    assert read_json(path)["setting"] == "unet"


def _without(path: Path, *keys: str) -> None:
    """Take keys, dotted ones too, out of a folder's configuration, as if they had not existed when it was made.

    Versions of then counted the epochs in the digest, and had no seal.
    """
    values = read_claimed(path)
    for key in (*keys, "start_from"):
        *parts, last = key.split(".")
        reduce(operator.getitem, parts, values).pop(last, None)
    decisive = {key: value for key, value in values.items() if key not in (*PACE, "digest")}
    write_json(path, {**values, "digest": digest_of(decisive)})


def _refusal(path: Path, config: StageConfig, **context: Any) -> str:
    """The differences in the message with which a folder of another configuration is refused."""
    content = path.read_bytes()
    with pytest.raises(ConfigurationError) as error:
        claim_config(path, config, **context)
    assert path.read_bytes() == content
    found = re.fullmatch(
        rf"{re.escape(str(path.parent))} was made with another configuration \((.+)\); "
        "nothing was changed: give the same configuration or another folder",
        str(error.value),
    )
    assert found, str(error.value)
    return found[1]


class Difference(NamedTuple):
    """A change of the configuration, and how the refusal names it."""

    here: TrainConfig
    says: str


@pytest.mark.parametrize(
    "case",
    [
        Difference(TrainConfig(epochs=2, num_workers=0), "epochs: there 40, here 2, and it can only be raised"),
        Difference(TrainConfig(encoder_weights=Path("a.pth")), "encoder_weights: there None, here 'a.pth'"),
        Difference(
            TrainConfig(compute=ComputeConfig(precision="bf16")), "compute.precision: there 'auto', here 'bf16'"
        ),
        Difference(
            TrainConfig(augment=AugmentConfig(scale=(0.9, 1.1))), "augment.scale: there [0.8, 1.25], here [0.9, 1.1]"
        ),
        Difference(
            TrainConfig(balance=BalanceConfig(draws=DrawCounts(normal=3)), seed=1),
            "balance.draws.normal: there None, here 3; seed: there 0, here 1",
        ),
        Difference(TrainConfig(focal_gamma=2), "focal_gamma: there 2.0, here 2"),
    ],
    ids=lambda case: case.says,
)
def test_another_configuration_is_refused_with_what_differs_and_nothing_else(case: Difference, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    claim_config(path, TrainConfig(), setting="unet", shards="abc")
    assert _refusal(path, case.here, setting="unet", shards="abc") == case.says


def test_what_else_names_the_work_is_compared_too(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    claim_config(path, InferConfig(), setting="unet", weights="abc")
    assert _refusal(path, InferConfig(), setting="resnet34") == (
        "setting: there 'unet', here 'resnet34'; weights: there 'abc', here not set"
    )


class Older(NamedTuple):
    """Keys that did not exist when a folder was made, and how the refusal names them."""

    keys: tuple[str, ...]
    says: str


@pytest.mark.parametrize(
    "case",
    [
        Older(("encoder_weights",), "encoder_weights: there not set, here None"),
        Older(("compute.precision",), "compute.precision: there not set, here 'auto'"),
        Older(
            ("augment.place", "seed"),
            "augment.place: there not set, here 'auto'; seed: there not set, here 0",
        ),
        Older(
            ("balance.draws",),
            "; ".join(
                f"balance.draws.{pool}: there not set, here None"
                for pool in ("normal", "stroma", "tumor", "tumor_dense", "tumor_free")
            ),
        ),
    ],
    ids=lambda case: ", ".join(case.keys),
)
def test_a_folder_from_before_a_key_existed_is_refused_by_that_key(case: Older, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    claim_config(path, TrainConfig())
    _without(path, *case.keys)
    assert _refusal(path, TrainConfig()) == case.says


def test_a_key_that_no_longer_exists_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    claim_config(path, InferConfig())
    values = {**read_claimed(path), "old": None}
    del values["digest"]
    write_claimed(path, values)
    assert _refusal(path, InferConfig()) == "old: there None, here not set"


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_configuration_is_named_and_never_used(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "config.json"
    claim_config(path, TrainConfig(), setting="unet")
    decisive = [field.name for field in fields(TrainConfig) if field.name not in PACE]

    def read() -> list[Any]:
        values = read_claimed(path)
        return [values[name] for name in decisive]

    assert assert_never_used(path, read, seed=seed) > 30


def test_a_digest_that_is_not_that_of_its_values_is_said(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_json(path, {**asdict(InferConfig()), "digest": "0" * 12})
    with pytest.raises(ConfigurationError, match=r"its content has the digest \w{12}, and it says 000000000000"):
        claim_config(path, InferConfig())


def test_a_value_changed_by_hand_is_never_taken_for_what_was_claimed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    claim_config(path, TrainConfig(epochs=3))
    path.write_text(path.read_text(encoding="utf-8").replace('"epochs": 3', '"epochs": 2'), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"damaged on the disk or on the way to it.*changed by hand"):
        claim_config(path, TrainConfig(epochs=3))


def test_epochs_are_raised_and_the_work_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    digest = claim_config(path, TrainConfig(epochs=3, num_workers=2), setting="unet")
    assert claim_config(path, TrainConfig(epochs=5, num_workers=1), setting="unet") == digest
    assert claim_config(tmp_path / "other.json", TrainConfig(epochs=5), setting="unet") == digest
    there = read_claimed(path)
    assert (there["epochs"], there["num_workers"], there["digest"]) == (5, 2, digest)
    assert _refusal(path, TrainConfig(epochs=3), setting="unet").startswith("epochs: there 5, here 3")


def test_a_folder_of_a_version_that_counted_the_epochs_keeps_its_name_and_may_grow(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    claim_config(path, TrainConfig(epochs=3))
    _without(path)
    digest = read_json(path)["digest"]
    assert digest != config_digest(TrainConfig(epochs=3))
    assert claim_config(path, TrainConfig(epochs=3)) == digest
    assert claim_config(path, TrainConfig(epochs=4)) == digest
    assert claim_config(path, TrainConfig(epochs=4)) == digest == read_claimed(path)["digest"]


def _field_texts() -> dict[str, str]:
    """What `--help` says of each field of each configuration."""
    module = ast.parse(Path(configuration.__file__).read_text(encoding="utf-8"))
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    return {
        f"{each.name}.{ast.unparse(before.target)}": _text_of(after)
        for each in classes
        for before, after in pairwise(each.body)
        if isinstance(before, ast.AnnAssign)
    }


def _text_of(node: ast.stmt) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return str(node.value.value) if is_text else ""  # type: ignore[attr-defined]


def test_what_the_help_says_of_a_flag_needs_no_name_above_it() -> None:
    texts = _field_texts()
    kinds = (ShardConfig, TrainConfig, BalanceConfig, DrawCounts, AugmentConfig, ComputeConfig, InferConfig)
    kinds += (SelectConfig, SpeedupsConfig)
    assert {f"{kind.__name__}.{each.name}" for kind in kinds for each in fields(kind)} <= set(texts)
    lean_on_the_name = re.compile(r"(Of|By|That|As|In)\b|\W*$")
    assert {name: text for name, text in texts.items() if lean_on_the_name.match(text) or "..." in text} == {}
