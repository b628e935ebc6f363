"""Training leaves a whole run folder, goes on bit for bit where it was stopped, and stops before it does harm."""

import json
import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import small_timm
import torch
from safetensors.torch import load_file, save_file
from small_study import SmallStudy, write_finished_study
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from training_outcome import assert_same, outcome
from training_step import GLOBAL_BATCH, gradients, largest_difference

from bccdist.configuration import SETTINGS, InferConfig, Setting, TrainConfig, outputs_of
from bccdist.errors import CheckpointError, ConfigurationError, DistributedError, ShardError
from bccdist.files import read_json, sha256_of_file
from bccdist.networks.encoders import ResNet34Encoder
from bccdist.networks.starting import read_start
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import load_network, weights_digest
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.random_streams import STREAMS_VERSION
from bccdist.ranks import SCHEMES, Ranks
from bccdist.seals import write_sealed_json
from bccdist.sections.ledger import read_rows
from bccdist.shard_set.epoch_plan import EpochPlan
from bccdist.shard_set.index import ShardSet, read_set
from bccdist.slides.manifest import read_manifest
from bccdist.stages.epochs import infer_slides
from bccdist.stages.table import TRAINING
from bccdist.stages.training_pace import read_run
from bccdist.training import loop, step
from bccdist.training import run as run_module
from bccdist.training.checkpoints import Position
from bccdist.training.loop import learning_rate, train
from bccdist.training.losses import losses
from bccdist.training.reporting import opening
from bccdist.training.reporting.metrics import SCHEMA, best_epochs
from bccdist.training.samples import Draw, Patches
from bccdist.training.stop import StopRequest
from bccdist.training.validation import ValidationResult

CONFIG = TrainConfig(width=4, epochs=3, global_batch=2, micro_batch=1, max_steps=1, num_workers=0)
SHORT = replace(CONFIG, epochs=1)


class StoppedError(Exception):
    """Stands for the end of a job's time."""


@pytest.fixture(scope="module", autouse=True)
def _alone(one_torch_thread: None) -> Iterator[None]:
    """One thread, and no launcher's variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name in {name for scheme in SCHEMES for name in scheme[1:]}:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Built and finished; not to be trained in."""
    return write_finished_study(tmp_path_factory.mktemp("shards"), width_px=800, height_px=560)


@pytest.fixture(scope="module")
def trained(shards: SmallStudy, tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    """With a run of `CONFIG` that went through in one go; not to be changed."""
    study = _study_in(shards, tmp_path_factory.mktemp("trained"))
    train(study.root, "resnet34_ds", CONFIG)
    return study


@pytest.fixture
def study(shards: SmallStudy, tmp_path: Path) -> StudyPaths:
    """Not trained yet."""
    return _study_in(shards, tmp_path)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a tiny run's time goes into them; `trained` and every setting's first epoch are drawn."""
    monkeypatch.setattr(opening, "_draw_contact_sheet", lambda *_: None)
    monkeypatch.setattr(loop, "write_summary", lambda *_, **__: None)


def _study_in(shards: SmallStudy, folder: Path) -> StudyPaths:
    return StudyPaths(shards.copied_to(folder).root)


def _run_of(study: StudyPaths) -> RunPaths:
    return study.run("resnet34_ds")


def _content(run: RunPaths) -> dict[str, bytes]:
    """Every file of a run."""
    files = [path for path in run.root.rglob("*") if path.is_file()]
    return {path.relative_to(run.root).as_posix(): path.read_bytes() for path in files}


def _network_of(run: RunPaths) -> dict[str, Tensor]:
    """The newest state."""
    network: dict[str, Tensor] = torch.load(run.last, weights_only=True)["network"]
    return network


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def _events(run: RunPaths, rank: int = 0) -> list[str]:
    return [line.split('"event": "')[1].split('"')[0] for line in run.events(rank).read_text().splitlines()]


def test_a_run_leaves_its_configuration_metrics_weights_and_events(trained: StudyPaths) -> None:
    run = _run_of(trained)
    config = read_json(run.config)
    assert (config["width"], config["setting"]) == (4, "resnet34_ds")
    assert config["shard_set"] == read_set(trained.shards.root).digest
    assert read_json(run.environment)["torch"] == torch.__version__
    expected = ["checkpoints/epoch-001.safetensors", "checkpoints/epoch-002.safetensors"]
    expected += ["checkpoints/epoch-003.safetensors", "checkpoints/last.pt", "config.json", "environment.json"]
    expected += ["events/rank-0.jsonl", "holder.json", "metrics.parquet"]
    found = sorted(name for name in _content(run) if not name.startswith("tensorboard/"))
    assert found == ["augmentation.png", *expected, "training.png"]
    assert len(list(run.tensorboard.iterdir())) == 1
    assert _events(run) == [*["plan", "step", "epoch"] * 3, "done"]


def test_the_metrics_of_a_run_have_their_schema(trained: StudyPaths) -> None:
    table = pq.read_table(_run_of(trained).metrics)
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert [(row["epoch"], row["psi"]) for row in rows] == [
        (e, psi) for e in (1, 2, 3) for psi in outputs_of("resnet34_ds")
    ]
    num_validation = len(read_set(trained.shards.root).part(Part.VALIDATION_1).rows)
    for row in rows:
        side = 32 << int(row["psi"][-1])
        assert sum(row[f"{cell}_px"] for cell in ("tp", "fp", "fn", "tn")) == num_validation * side**2
        assert 0 < row["train_loss"] < 10
        assert row["num_steps"] == 1
        assert 0 <= row["loader_wait_share"] < 1
        assert 0.05 < row["memory_gib"] < 64
        assert row["merge_weight"] is None
        assert not row["phantom"]


def test_kept_weights_are_the_network_of_their_epoch(trained: StudyPaths) -> None:
    run = _run_of(trained)
    network, metadata = load_network(run.weights(3))
    assert _equal(dict(network.state_dict()), _network_of(run))
    assert metadata["epoch"] == "3"
    assert metadata["target_mpp"] == "0.92"
    assert metadata["config_digest"] == read_json(run.config)["digest"]
    assert not _equal(dict(load_network(run.weights(2))[0].state_dict()), _network_of(run))


def _stop_at_call(number: int, function: Callable[..., object]) -> Callable[..., object]:
    """The function, until it is called for the given time."""
    calls = iter(range(1, number))

    def stopping(*arguments: object, **named: object) -> object:
        if next(calls, None) is None:
            raise StoppedError
        return function(*arguments, **named)

    return stopping


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("name", "call", "saved"),
    [
        ("loop._plan", 2, (2, 0)),
        ("step.losses", 4, (2, 0)),
        ("loop.validate", 2, (2, 1)),
        ("loop.write_metrics", 2, (2, 1)),
    ],
    ids=["between epochs", "in a step", "in validation", "in files"],
)
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(
    study: StudyPaths,
    trained: StudyPaths,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: int,
    saved: tuple[int, int],
) -> None:
    module, function = name.split(".")
    with monkeypatch.context() as patch:
        original = getattr({"loop": loop, "step": step}[module], function)
        patch.setattr(f"bccdist.training.{name}", _stop_at_call(call, original))
        with pytest.raises(StoppedError):
            train(study.root, "resnet34_ds", CONFIG)
    position = torch.load(_run_of(study).last, weights_only=True)["position"]
    assert (position["epoch"], position["step"]) == saved
    train(study.root, "resnet34_ds", CONFIG)
    assert _equal(_network_of(_run_of(study)), _network_of(_run_of(trained)))
    assert _events(_run_of(study)).count("done") == 1
    columns = ["epoch", "psi", "iou", "train_loss", "val_loss"]
    metrics = [pq.read_table(_run_of(each).metrics, columns=columns) for each in (study, trained)]
    assert metrics[0].equals(metrics[1])


@pytest.mark.usefixtures("no_pictures")
def test_loader_workers_do_not_change_the_outcome(study: StudyPaths, trained: StudyPaths) -> None:
    train(study.root, "resnet34_ds", replace(CONFIG, num_workers=2))
    assert _equal(_network_of(_run_of(study)), _network_of(_run_of(trained)))


def test_a_run_that_is_done_is_left_alone(trained: StudyPaths, caplog: pytest.LogCaptureFixture) -> None:
    before = _content(_run_of(trained))
    train(trained.root, "resnet34_ds", CONFIG)
    assert caplog.messages[-1].startswith("resnet34_ds: all 3 epochs are done in ")
    after = _content(_run_of(trained))
    assert after.pop("holder.json") != before.pop("holder.json")
    assert after == before


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("setting", ["resnet34_ds", "unet"])
def test_a_run_that_is_done_goes_on_to_more_epochs_as_if_they_had_been_asked_for_at_first(
    shards: SmallStudy, study: StudyPaths, trained: StudyPaths, caplog: pytest.LogCaptureFixture, setting: Setting
) -> None:
    expected = trained.run(setting)
    if not expected.root.exists():
        train(trained.root, setting, CONFIG)
    train(study.root, setting, replace(CONFIG, epochs=1))
    progress = replace(TRAINING, setting=setting)
    manifest = read_manifest(shards.manifest)
    assert progress.progress(study, manifest).is_whole
    more = replace(progress, config=CONFIG).progress(study, manifest)
    assert (more.num_done, more.num_total) == (1, 3), "so that a launch of only what is missing has something to do"
    train(study.root, setting, CONFIG)
    run = study.run(setting)
    assert_same(outcome(run), outcome(expected))
    assert "3 epochs are asked for, and were 1: it goes on in epoch 2" in caplog.text
    assert _events(run)[3:6] == ["done", "more_epochs", "resume"]
    state = read_run(run)
    assert state is not None
    assert state.text.startswith("3 epochs")
    assert read_json(run.config)["digest"] == read_json(expected.config)["digest"]


def test_a_run_is_not_made_shorter(trained: StudyPaths) -> None:
    before = _content(_run_of(trained))
    with pytest.raises(ConfigurationError, match=r"epochs: there 3, here 2, and it can only be raised\); nothing was"):
        train(trained.root, "resnet34_ds", replace(CONFIG, epochs=2))
    assert _content(_run_of(trained)) == before


def test_another_configuration_in_the_same_folder_is_refused(trained: StudyPaths) -> None:
    before = _content(_run_of(trained))
    with pytest.raises(ConfigurationError, match=r"learning_rate: there 0\.0005, here 0\.001.*nothing was changed"):
        train(trained.root, "resnet34_ds", replace(CONFIG, learning_rate=1e-3))
    assert _content(_run_of(trained)) == before


def test_a_run_of_other_random_streams_is_not_gone_on_with(
    trained: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _content(_run_of(trained))
    monkeypatch.setattr(run_module, "STREAMS_VERSION", STREAMS_VERSION + 1)
    with pytest.raises(
        ConfigurationError, match=rf"random_streams: there {STREAMS_VERSION}, here {STREAMS_VERSION + 1}"
    ):
        train(trained.root, "resnet34_ds", CONFIG)
    assert _content(_run_of(trained)) == before


@pytest.mark.parametrize("setting", [setting for setting in SETTINGS if setting != "resnet34_ds"])
def test_every_setting_trains(study: StudyPaths, setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    train(study.root, setting, SHORT)
    network, _ = load_network(study.run(setting).weights(1))
    assert network.setting == setting
    opening, *_, closing = caplog.messages
    assert opening.startswith(f"{setting}, width 4: epochs 1 to 1, ")
    assert opening.endswith(" 1 rank(s) on cpu, float32 eager channels-first fused Adam deterministic")
    merge_weights = [row["merge_weight"] for row in pq.read_table(study.run(setting).metrics).to_pylist()]
    assert [weight is not None for weight in merge_weights] == (
        [True] * 5 + [False] if setting == "resnet34_linear" else [False]
    )
    assert closing.startswith(f"epoch 1/1: Validation I IoU of {outputs_of(setting)[-1]} ")


@pytest.mark.usefixtures("no_pictures")
def test_every_epoch_draws_and_augments_anew_and_validation_is_as_stored(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    training: list[Patches] = []
    validation: list[Patches] = []
    rows: list[list[int]] = []
    read = loop.read_ahead

    def watched(patches: Patches, draws: Iterable[list[Draw]], *, num_threads: int) -> AbstractContextManager[Any]:
        batches = list(draws)
        if patches.epoch > 0:
            training.append(patches)
            rows.append([row for batch in batches for _, row in batch])
        else:
            validation.append(patches)
        return read(patches, batches, num_threads=num_threads)

    monkeypatch.setattr(loop, "read_ahead", watched)
    train(study.root, "resnet34_ds", replace(CONFIG, epochs=2, seed=7))
    assert [(patches.seed, patches.epoch, patches.augment_config.enabled) for patches in training] == [
        (7, 1, True),
        (7, 2, True),
    ]
    assert rows[0] != rows[1]
    assert [patches.augment_config.enabled for patches in validation] == [False, False]


def _no_steps(_: loop.Run, __: EpochPlan, position: Position, ___: StopRequest) -> tuple[Position, None]:
    """An epoch that learns nothing."""
    return position.after_step({"psi_4": 0.5}, seconds=1.0, waited_s=0.1), None


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("ious", "kept"), [((1, 3, 2, 2), {2}), ((3, 3, 1, 0), {1}), ((0, 1, 2, 3), {4})])
def test_only_the_best_weights_are_kept(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch, ious: tuple[int, ...], kept: set[int]
) -> None:
    results = iter(ious)
    monkeypatch.setattr(loop, "_train_steps", _no_steps)
    monkeypatch.setattr(
        loop, "_validate", lambda *_: ValidationResult(confusion_px={"psi_4": (next(results), 0, 9, 9)}, losses={})
    )
    config = replace(CONFIG, epochs=4, keep_best=1)
    train(study.root, "resnet34", config)
    run = study.run("resnet34")
    assert {path.name for path in run.last.parent.iterdir()} == {"last.pt", *(run.weights(e).name for e in kept)}
    assert set(best_epochs(pq.read_table(run.metrics).to_pylist(), 1)) == kept
    assert load_network(run.weights(min(kept)))[1]["epoch"] == str(min(kept))


@pytest.mark.usefixtures("no_pictures")
def test_a_loss_that_is_not_finite_stops_before_the_step(study: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[loop.Run] = []
    after_steps: list[list[Tensor]] = []
    prepare = loop.prepare_run

    def watched(*arguments: object, **named: object) -> loop.Run:
        runs.append(prepare(*arguments, **named))  # type: ignore[arg-type]
        return runs[0]

    def spoilt(*arguments: object, **named: object) -> dict[str, Tensor]:
        after_steps.append([weight.detach().clone() for weight in runs[0].network.parameters()])
        found = losses(*arguments, **named)  # type: ignore[arg-type]
        return found if len(after_steps) < 2 else {psi: loss * math.nan for psi, loss in found.items()}

    monkeypatch.setattr(loop, "prepare_run", watched)
    monkeypatch.setattr(step, "losses", spoilt)
    with pytest.raises(DistributedError, match=r"resnet34_ds, epoch 1, step 2: the loss is not finite.*nan"):
        train(study.root, "resnet34_ds", replace(SHORT, micro_batch=2, max_steps=2))
    start, after_one = after_steps
    assert any(not torch.equal(before, after) for before, after in zip(start, after_one, strict=True))
    now = list(runs[0].network.parameters())
    assert all(torch.equal(before, after) for before, after in zip(after_one, now, strict=True))
    assert _events(_run_of(study)) == ["plan", "step"]
    assert not _run_of(study).last.exists()


@pytest.fixture
def encoder_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """One epoch of no step, from encoder weights in a file, which are as large as ResNet34's."""
    monkeypatch.setattr(loop, "_train_steps", _no_steps)
    result = ValidationResult(confusion_px={"psi_4": (1, 0, 9, 9)}, losses={})
    monkeypatch.setattr(loop, "_validate", lambda *_: result)
    path = tmp_path / "resnet34.safetensors"
    _write_encoder(path, seed=5)
    return replace(CONFIG, width=64, epochs=1, encoder_weights=path)


def _write_encoder(path: Path, *, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    weights = dict(ResNet34Encoder(64).state_dict())
    save_file(weights, path)
    return weights


def _file_of(config: TrainConfig) -> Path:
    assert config.encoder_weights is not None
    return config.encoder_weights


@pytest.mark.usefixtures("no_pictures")
def test_a_run_starts_from_its_encoder_weights(
    study: StudyPaths, encoder_run: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    path = _file_of(encoder_run)
    train(study.root, "resnet34", encoder_run)
    run = study.run("resnet34")
    expected = {f"encoder.{name}": weights for name, weights in _write_encoder(path, seed=5).items()}
    trained = load_network(run.weights(1))[0].state_dict()
    assert _equal({name: trained[name] for name in expected}, expected)
    assert f"the encoder starts from the ResNet34 in {path}: 216 tensors" in caplog.text
    assert _events(run)[0] == "encoder_weights"
    config = read_json(run.config)
    assert (config["encoder_weights"], config["encoder_weights_sha256"]) == (str(path), sha256_of_file(path))


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("encoder", "freeze"), [("small_half", True), ("small_from_4", False)])
def test_an_encoder_of_timm_trains_and_infers_and_stays_to_the_bit_where_it_is_frozen(
    study: StudyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, freeze: bool
) -> None:
    small_timm.install(monkeypatch)
    path = tmp_path / "encoder.safetensors"
    torch.manual_seed(6)
    save_file(DeeplySupervisedUNet("resnet34_ds", encoder=encoder).encoder.features.state_dict(), path)  # type: ignore[union-attr, operator, arg-type]
    expected = {f"encoder.features.{name}": weights for name, weights in load_file(path).items()}
    config = replace(SHORT, width=64, max_steps=2, encoder=encoder, encoder_weights=path, freeze_encoder=freeze)
    train(study.root, "resnet34_ds", config)
    run = _run_of(study)
    assert _events(run) == ["encoder_weights", "plan", "step", "step", "epoch", "done"]
    network, metadata = load_network(run.weights(1))
    assert metadata["encoder"] == encoder
    trained = network.state_dict()
    changed = {name for name in expected if not torch.equal(trained[name], expected[name])}
    assert changed == (set() if freeze else {*expected})
    infer_slides(
        study.root.parent / "data" / "slides.csv",
        ["val1-0"],
        study.root,
        "resnet34_ds",
        [1],
        InferConfig(),
        num_workers=0,
    )
    assert read_rows(study.ledger_rows("resnet34_ds", 1, "val1-0")).num_rows


@pytest.mark.usefixtures("no_pictures")
def test_other_encoder_weights_under_the_same_path_are_refused(study: StudyPaths, encoder_run: TrainConfig) -> None:
    train(study.root, "resnet34", encoder_run)
    before = _content(study.run("resnet34"))
    _write_encoder(_file_of(encoder_run), seed=6)
    with pytest.raises(ConfigurationError, match=r"\(encoder_weights_sha256: there '\w{64}', here '\w{64}'\)"):
        train(study.root, "resnet34", encoder_run)
    assert _content(study.run("resnet34")) == before


@pytest.mark.usefixtures("no_pictures")
def test_encoder_weights_that_do_not_fit_leave_the_folder_to_those_that_do(
    study: StudyPaths, encoder_run: TrainConfig
) -> None:
    path = _file_of(encoder_run)
    save_file({"conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(CheckpointError, match=r"does not fit the ResNet34 encoder: missing: bn1\.weight"):
        train(study.root, "resnet34", encoder_run)
    assert not study.run("resnet34").config.exists()
    _write_encoder(path, seed=5)
    train(study.root, "resnet34", encoder_run)
    assert study.run("resnet34").weights(1).exists()


@pytest.mark.usefixtures("no_pictures")
def test_a_run_that_goes_on_keeps_what_it_learned_from_its_encoder_weights(
    study: StudyPaths, encoder_run: TrainConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def learn(run: loop.Run, plan: EpochPlan, position: Position, request: StopRequest) -> tuple[Position, None]:
        with torch.no_grad():
            run.network.encoder.get_parameter("bn1.bias").add_(1)
        return _no_steps(run, plan, position, request)

    monkeypatch.setattr(loop, "_train_steps", learn)
    encoder_run = replace(encoder_run, epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_plan", _stop_at_call(2, loop._plan))
        with pytest.raises(StoppedError):
            train(study.root, "resnet34", encoder_run)
    caplog.clear()
    train(study.root, "resnet34", encoder_run)
    assert (_network_of(study.run("resnet34"))["encoder.bn1.bias"] == 2).all()
    assert "the encoder starts" not in caplog.text


@pytest.mark.usefixtures("no_pictures")
def test_fewer_ranks_than_asked_for_are_said_and_recorded(
    study: StudyPaths, trained: StudyPaths, caplog: pytest.LogCaptureFixture
) -> None:
    train(study.root, "resnet34_ds", CONFIG, asked_ranks=8)
    said = "8 ranks were asked for, and 1 are there: a step keeps its 2 patches, and takes longer"
    assert said in caplog.messages
    assert _events(_run_of(study))[0] == "fewer_ranks"
    assert _equal(_network_of(_run_of(study)), _network_of(_run_of(trained)))


@pytest.fixture
def tuned(study: StudyPaths, trained: StudyPaths, no_pictures: None) -> tuple[StudyPaths, TrainConfig]:
    """A run that starts from the second epoch of another study's run."""
    config = replace(SHORT, start_from=_run_of(trained).weights(2), seed=5)
    train(study.root, "resnet34_ds", config)
    return study, config


def test_a_run_starts_from_another_run_and_names_it(
    trained: StudyPaths, tuned: tuple[StudyPaths, TrainConfig], caplog: pytest.LogCaptureFixture
) -> None:
    study, config = tuned
    run, source = _run_of(study), _run_of(trained)
    digest, weights = read_json(source.config)["digest"], source.weights(2)
    lineage = f"resnet34_ds, epoch 2 of run {digest}, weights {weights_digest(weights)}"
    said = [record.message for record in caplog.get_records("setup")]
    assert f"the network starts from the weights in {weights} ({lineage}), with a fresh optimiser" in said
    there = read_json(run.config)
    assert there["start"]["sha256"] == sha256_of_file(source.weights(2))
    assert there["start"]["lineage"] == load_network(run.weights(1))[1]["lineage"] == lineage
    assert _events(run)[0] == "start_from"
    # One step of Adam from there moves no weight by more than its rate; a network from chance would be far away.
    before, after = load_network(source.weights(2))[0], load_network(run.weights(1))[0]
    for name, weight in before.named_parameters():
        assert (weight - after.get_parameter(name)).abs().max() <= 1.01 * config.learning_rate, name
    steps = {int(state["step"]) for state in torch.load(run.last, weights_only=True)["optimizer"]["state"].values()}
    assert steps == {1}, "the optimiser is fresh"


def test_what_a_network_came_from_is_named_to_the_first(tuned: tuple[StudyPaths, TrainConfig], tmp_path: Path) -> None:
    run = _run_of(tuned[0])
    start = read_start(run.weights(1), setting="resnet34_ds", width=4)
    lineage = load_network(run.weights(1))[1]["lineage"]
    assert start.lineage.endswith(f"weights {sha256_of_file(run.weights(1))[:12]}, which came from {lineage}")


def test_a_run_goes_on_with_the_start_that_it_had_wherever_its_file_lies(
    trained: StudyPaths, tuned: tuple[StudyPaths, TrainConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study, config = tuned
    config = replace(config, epochs=2)
    other = replace(config, start_from=_run_of(trained).weights(3))
    for refused in (other, replace(config, start_from=None)):
        with pytest.raises(ConfigurationError, match=r"start\..*nothing was changed"):
            train(study.root, "resnet34_ds", refused)
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(_run_of(trained).weights(2).read_bytes())
    train(study.root, "resnet34_ds", replace(config, start_from=moved))
    assert "the network starts from" not in caplog.text.partition("2 epochs are asked for")[2]


def test_a_run_goes_on_without_the_file_that_it_started_from(
    study: StudyPaths, trained: StudyPaths, tmp_path: Path, no_pictures: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "start.safetensors"
    path.write_bytes(_run_of(trained).weights(2).read_bytes())
    config = replace(SHORT, start_from=path)
    train(study.root, "resnet34_ds", config)
    path.unlink()
    train(study.root, "resnet34_ds", replace(config, epochs=2))
    assert f"start_from: {path} is not there any more; the run goes on from its own state" in caplog.text
    assert _run_of(study).weights(2).exists()


class NoStart(NamedTuple):
    """A file that nothing can start from, made of the weights of another run."""

    make: Callable[[RunPaths, Path], object]
    says: str
    setting: Setting = "resnet34_ds"
    width: int = 4


def _flip_a_byte(run: RunPaths, path: Path) -> None:
    data = bytearray(run.weights(2).read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


NO_STARTS = {
    "missing": NoStart(lambda _, __: None, r"is not there, expected the weights of a kept epoch"),
    "another setting": NoStart(
        lambda run, path: path.write_bytes(run.weights(2).read_bytes()),
        r"is resnet34_ds of width 4 with psi_0, .*psi_4, expected resnet34 of width 4 with psi_4",
        setting="resnet34",
    ),
    "another width": NoStart(
        lambda run, path: path.write_bytes(run.weights(2).read_bytes()), "of width 4 .*expected .* of width 8", width=8
    ),
    "a training state": NoStart(lambda run, path: path.write_bytes(run.last.read_bytes()), "no safetensors file"),
    "a text": NoStart(lambda _, path: path.write_text("weights"), "no safetensors file"),
    "nothing": NoStart(lambda _, path: path.touch(), "no safetensors file"),
    "another program's": NoStart(
        lambda _, path: save_file({"a": torch.zeros(1)}, path), "are not those of weights that were trained here"
    ),
    "damaged": NoStart(_flip_a_byte, "damaged on the disk or on the way to it"),
}


@pytest.mark.parametrize("case", NO_STARTS.values(), ids=NO_STARTS.keys())
def test_what_nothing_can_start_from_is_refused_before_the_folder_is_claimed(
    study: StudyPaths, trained: StudyPaths, tmp_path: Path, case: NoStart
) -> None:
    path = tmp_path / "start.safetensors"
    case.make(_run_of(trained), path)
    with pytest.raises(CheckpointError, match=case.says):
        train(study.root, case.setting, replace(SHORT, width=case.width, start_from=path))
    assert not study.run(case.setting).config.exists()


@pytest.mark.parametrize("part", ["Training", "Validation I"])
def test_a_part_without_patches_is_refused_before_anything_is_written(study: StudyPaths, part: str) -> None:
    paths = study.shards
    table = pq.read_table(paths.index)
    pq.write_table(table.filter(pc.not_equal(table["part"], part)), paths.index)
    manifest = read_json(paths.manifest)
    write_sealed_json(paths.manifest, {**manifest, "index": {"sha256": sha256_of_file(paths.index)}})
    with pytest.raises(ShardError, match=rf"{paths.root}: no patches of {part}, expected some to train with"):
        train(study.root, "resnet34_ds", SHORT)
    assert not study.runs.exists()


def test_more_ranks_than_patches_in_a_step_are_refused(study: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="global_batch is 2, expected at least 3: one patch for each rank"):
        train(study.root, "resnet34_ds", SHORT)
    assert not study.runs.exists()


def test_the_balance_of_an_epoch_is_recorded(trained: StudyPaths) -> None:
    first = next(json.loads(line) for line in _run_of(trained).events(0).read_text().splitlines())
    expected = read_json(trained.shards.manifest)["training_epoch"]
    assert first["event"] == "plan"
    assert (first["draws"], first["num_draws"]) == (expected["draws"], expected["num_draws"])
    assert first["unbalance_before"] == pytest.approx(expected["unbalance_before"])
    assert first["unbalance_after"] == pytest.approx(expected["unbalance_after"], rel=0.2)  # as drawn


@pytest.mark.usefixtures("no_pictures")
def test_an_empty_pool_is_said_and_recorded(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = read_set(study.shards.root)
    training = whole.part(Part.TRAINING)
    none = np.zeros(len(training.rows), dtype=np.bool_)
    without = replace(training, members={**training.members, "normal": none})
    parts = {Part.TRAINING: without, Part.VALIDATION_1: whole.part(Part.VALIDATION_1)}
    monkeypatch.setattr(ShardSet, "part", lambda _, part, **__: parts[part])
    train(study.root, "unet", SHORT)
    assert "pool normal of Table 2 holds no training patch, so nothing is drawn from it\n" in caplog.text
    assert _events(study.run("unet"))[0] == "empty_pool"


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGINT, signal.SIGHUP])
@pytest.mark.usefixtures("no_pictures")
def test_a_stop_within_the_validation_is_obeyed_there_and_the_run_goes_on_to_the_same_bits(
    study: StudyPaths, trained: StudyPaths, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.signal(number, lambda *_: None)
    validate = loop.validate

    def told_meanwhile(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), number)
        return validate(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", told_meanwhile)
        with pytest.raises(SystemExit) as end:
            train(study.root, "resnet34_ds", CONFIG)
    signal.signal(number, before)
    assert end.value.code == 128 + number
    run = _run_of(study)
    stop = json.loads(run.events(0).read_text().splitlines()[-1])
    assert (stop["event"], stop["epoch"], stop["step"], stop["signal"]) == ("stop", 1, 1, number.name)
    assert not run.metrics.exists()
    train(study.root, "resnet34_ds", CONFIG)
    assert _events(run).count("step") == CONFIG.epochs, "no step is made twice"
    assert_same(outcome(run), outcome(_run_of(trained)))


def test_the_papers_learning_rates() -> None:
    rates = [5e-4, 4e-4, 3.2e-4, 2.56e-4, 2.048e-4, 1.6384e-4, 1.31072e-4, 1.048576e-4]
    expected = [rate for rate in rates for _ in range(5)]
    assert [learning_rate(TrainConfig(), epoch) for epoch in range(1, 41)] == pytest.approx(expected, rel=1e-12)


def test_every_epoch_is_trained_at_its_rate(trained: StudyPaths) -> None:
    rows = pq.read_table(_run_of(trained).metrics).to_pylist()
    assert {row["learning_rate"] for row in rows} == {5e-4}
    state = torch.load(_run_of(trained).last, weights_only=True)["optimizer"]
    assert [group["lr"] for group in state["param_groups"]] == [5e-4]


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_accumulated_gradients_are_those_of_the_whole_batch(micro_batch: int) -> None:
    """With fixed batch statistics: in training, each micro-batch is normalised by its own."""
    whole, whole_losses = gradients(Ranks(), micro_batch=GLOBAL_BATCH)
    found, losses = gradients(Ranks(), micro_batch=micro_batch)
    assert losses == pytest.approx(whole_losses, rel=1e-5)
    assert largest_difference(found, whole) < 1e-10


def _train_as(rank: int, root: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    train(root, "resnet34_ds", replace(CONFIG, epochs=2, max_steps=2))


@pytest.mark.slow
def test_two_ranks_write_one_run(study: StudyPaths) -> None:
    spawn(_train_as, args=(study.root,), nprocs=2)
    run = _run_of(study)
    assert [len(_events(run, rank)) for rank in range(2)] == [9, 9]
    assert not list(run.root.glob("meeting-*"))
    assert read_json(run.environment)["world_size"] == 2
    rows = pq.read_table(run.metrics).to_pylist()
    num_validation = len(read_set(study.shards.root).part(Part.VALIDATION_1).rows)
    assert sum(rows[-1][f"{cell}_px"] for cell in ("tp", "fp", "fn", "tn")) == num_validation * 512**2
    assert run.weights(2).exists()
