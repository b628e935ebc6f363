"""Changed bytes in what a study stores, and numbers that are none in its weights."""

import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
from torch import nn

from bccdist.configuration import InferConfig, TrainConfig
from bccdist.files import read_json
from bccdist.networks.inputs import to_network_input
from bccdist.networks.weights import load_network, save_network, weights_digest
from bccdist.sections.choices import Thresholds
from bccdist.sections.ledger import merge, read_rows
from bccdist.shard_set.index import read_set
from bccdist.speedups.machine import cpu_here
from bccdist.speedups.record import SpeedupRecord, int8_digest, write_speedups
from bccdist.stages.inference import open_inference
from bccdist.training.loop import train
from benchmarks.faults.fault import Fault, Outcome, Seen, Trial
from benchmarks.faults.scene import CONFIG, FinishedStudy, infer
from benchmarks.faults.slide_files import Picture

KIND = "bytes"
Change = Callable[[bytes, np.random.Generator], bytes]


def _flipped(low: float = 0.0, high: float = 1.0, *, num: int = 1) -> Change:
    """Some bits between two fractions of the file are others."""

    def change(content: bytes, rng: np.random.Generator) -> bytes:
        body = bytearray(content)
        for place in rng.integers(int(low * len(body)), max(1, int(high * len(body))), num).tolist():
            body[place] ^= 1 << int(rng.integers(8))
        return bytes(body)

    return change


def _zeroed(num_bytes: int) -> Change:
    """A block of the disk is zeros."""

    def change(content: bytes, rng: np.random.Generator) -> bytes:
        start = int(rng.integers(max(1, len(content) - num_bytes)))
        return content[:start] + bytes(min(num_bytes, len(content) - start)) + content[start + num_bytes :]

    return change


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(len(content) * rng.uniform(0.2, 0.98))]


def _last_byte_lost(content: bytes, rng: np.random.Generator) -> bytes:
    del rng
    return content[:-1]


def _emptied(content: bytes, rng: np.random.Generator) -> bytes:
    del content, rng
    return b""


_CHANGES: dict[str, Change] = {
    "a flipped bit": _flipped(),
    "a flipped bit near its begin": _flipped(0.0, 0.03),
    "a flipped bit near its end": _flipped(0.97, 1.0),
    "eight flipped bits": _flipped(num=8),
    "a block of zeros": _zeroed(512),
    "its end lost": _cut,
    "its last byte lost": _last_byte_lost,
    "nothing in it": _emptied,
}


def _changed(path: Path, change: Change, rng: np.random.Generator) -> None:
    """Change a file; a draw that leaves it as it was is drawn again."""
    before = path.read_bytes()
    after = before
    while after == before:
        after = change(before, rng)
    path.write_bytes(after)


def _copy(trial: Trial) -> FinishedStudy:
    """The study's stored files, without its slides, in the trial's folder."""
    study = trial.scene.study
    root = trial.folder / "copy"
    for name in ("runs", "shards", "ledger", "heatmaps"):
        if (study.root / name).is_dir():
            shutil.copytree(study.root / name, root / name)
    return replace(study, root=root)


def _weights(change: Change) -> Callable[[Trial], Seen]:
    def run(trial: Trial) -> Seen:
        study = _copy(trial)
        _changed(study.run.weights(study.epoch), change, trial.rng)
        infer(study, trial.scene.jpeg, trial.folder)
        return Seen(Outcome.SILENT, "inference used the changed weights")

    return run


def _state(change: Change) -> Callable[[Trial], Seen]:
    def run(trial: Trial) -> Seen:
        study = _copy(trial)
        config = _config_of(TrainConfig, read_json(study.run.config))
        _changed(study.run.last, change, trial.rng)
        train(study.root, study.setting, config)
        return Seen(Outcome.SILENT, "training went on from the changed state")

    return run


def _config_of(kind: Any, values: dict[str, Any]) -> Any:
    """A configuration from what a run's folder holds of it."""
    hints = get_type_hints(kind)
    known = {field.name: values[field.name] for field in fields(kind) if field.init and field.name in values}
    return kind(
        **{
            name: _config_of(hints[name], value)
            if is_dataclass(hints[name])
            else tuple(value)
            if isinstance(value, list)
            else value
            for name, value in known.items()
        }
    )


def _index(change: Change) -> Callable[[Trial], Seen]:
    def run(trial: Trial) -> Seen:
        study = _copy(trial)
        _changed(study.paths.shards.index, change, trial.rng)
        shard_set = read_set(study.paths.shards.root)
        shard_set.column("tumornest_fraction")
        return Seen(Outcome.SILENT, "the changed index was read")

    return run


def _rows(change: Change) -> Callable[[Trial], Seen]:
    """One slide's rows of the ledger, gathered with the others."""

    def run(trial: Trial) -> Seen:
        study = _copy(trial)
        files = sorted(study.paths.ledger.rglob("*.parquet"))
        before = str(merge(study.paths.ledger, trial.folder / "before.parquet").to_pylist())
        _changed(files[int(trial.rng.integers(len(files)))], change, trial.rng)
        found = merge(study.paths.ledger, trial.folder / "after.parquet")
        return (
            Seen(Outcome.RIGHT)
            if str(found.to_pylist()) == before
            else Seen(Outcome.SILENT, "other rows were gathered")
        )

    return run


def _gathered(change: Change) -> Callable[[Trial], Seen]:
    """The gathered ledger, read again."""

    def run(trial: Trial) -> Seen:
        study = _copy(trial)
        before = str(merge(study.paths.ledger, study.paths.sections).to_pylist())
        _changed(study.paths.sections, change, trial.rng)
        found = read_rows(study.paths.sections)
        return (
            Seen(Outcome.RIGHT) if str(found.to_pylist()) == before else Seen(Outcome.SILENT, "other rows were read")
        )

    return run


def _rows_again(change: Change) -> Callable[[Trial], Seen]:
    """One slide's rows of the ledger, with the inference stage run again."""

    def run(trial: Trial) -> Seen:
        study = _copy(trial)
        slide_id, rows = _some_rows(study, trial.rng)
        before = _told(rows)
        _changed(rows, change, trial.rng)
        _infer_again(study, slide_id)
        return _same(_told(rows), before)

    return run


def _heatmap(change: Change) -> Callable[[Trial], Seen]:
    """A heatmap from which the ledger's rows are made again."""

    def run(trial: Trial) -> Seen:
        study = _copy(trial)
        slide_id, rows = _some_rows(study, trial.rng)
        before = _told(rows)
        rows.unlink()
        _changed(study.paths.heatmap(study.setting, study.epoch, slide_id), change, trial.rng)
        _infer_again(study, slide_id)
        return _same(_told(rows), before)

    return run


def _same(found: str, before: str) -> Seen:
    return Seen(Outcome.RIGHT) if found == before else Seen(Outcome.SILENT, "other rows came out")


def _told(rows: Path) -> str:
    """A file's rows in words, in which NaN is equal to NaN, without the times that making them took."""
    return str(read_rows(rows).drop_columns(["read_s", "network_s"]).to_pylist())


def _some_rows(study: FinishedStudy, rng: np.random.Generator) -> tuple[str, Path]:
    """A slide that was inferred, and its rows."""
    folder = study.paths.ledger_rows(study.setting, study.epoch, "any").parent
    files = sorted(folder.glob("*.parquet"))
    chosen = files[int(rng.integers(len(files)))]
    return chosen.stem, chosen


def _infer_again(study: FinishedStudy, slide_id: str, config: InferConfig | None = None) -> None:
    recorded = CONFIG if config is None else config
    open_inference(study.manifest.path, [slide_id], study.root, study.setting, [study.epoch], recorded)(slide_id)


def _int8(file: str, change: Change) -> Callable[[Trial], Seen]:
    """An int8 model beside its speed-up record; what is in it does not matter before its digest is looked at."""

    def run(trial: Trial) -> Seen:
        study = _copy(trial)
        model = study.run.int8_model(study.epoch, "whole")
        model.parent.mkdir(parents=True, exist_ok=True)
        model.write_bytes(b"<net>" + bytes(trial.rng.integers(32, 120, 4000, dtype=np.uint8)) + b"</net>")
        model.with_suffix(".bin").write_bytes(trial.rng.bytes(40_000))
        write_speedups(study.run.speedups(study.epoch, "cpu"), _record(study, int8_digest(model)))
        _changed(model.with_suffix(file), change, trial.rng)
        slide_id, rows = _some_rows(study, trial.rng)
        shutil.rmtree(study.paths.ledger)
        shutil.rmtree(study.paths.root / "heatmaps")
        del rows
        _infer_again(study, slide_id, InferConfig(precision="int8"))
        return Seen(Outcome.SILENT, "inference used the changed model")

    return run


def _record(study: FinishedStudy, digest: str) -> SpeedupRecord:
    return SpeedupRecord(
        setting=study.setting,
        epoch=study.epoch,
        weights_digest=weights_digest(study.run.weights(study.epoch)),
        thresholds=Thresholds(t_p=0.5, t_a_um2=5000.0),
        machine=cpu_here(1),
        slide_ids=(),
        num_sections=0,
        num_patches=0,
        receptive_field_px={},
        halo_px=32,
        ways=(),
        bands=(),
        outputs=(),
        int8_sha256={"whole": digest},
        int8_origin="",
    )


def _numbers(value: float, layer: str, *, engine: str = "eager", share: float = 0.0) -> Callable[[Trial], Seen]:
    """Weights that were written well, with numbers from which nothing can be computed."""

    def run(trial: Trial) -> Seen:
        study = _copy(trial)
        path = study.run.weights(study.epoch)
        network, metadata = load_network(path)
        names = [name for name, each in network.state_dict().items() if layer in name and each.is_floating_point()]
        name = names[int(trial.rng.integers(len(names)))]
        with torch.no_grad():
            values = network.state_dict()[name].view(-1)
            places = trial.rng.random(len(values)) < share
            places[int(trial.rng.integers(len(values)))] = True
            values[torch.from_numpy(places)] = value
        save_network(path, network, {key: text for key, text in metadata.items() if key not in ("setting", "width")})
        config = InferConfig(engine=engine)  # type: ignore[arg-type]
        found = infer(study, trial.scene.jpeg, trial.folder, config=config)
        if _stays_finite(network, trial.scene.picture):
            return Seen(Outcome.RIGHT, f"{value} in {name} gives no number that is none")
        coverage = [section.coverage for section in found.sections]
        if coverage and max(coverage) < 1:
            return Seen(Outcome.REVIEW, f"{name}: coverage {coverage}")
        return Seen(Outcome.SILENT, f"{value} in {name} was computed with")

    return run


def _stays_finite(network: nn.Module, picture: Picture) -> bool:
    """Whether all that the network computes on a part of a picture are numbers."""
    faults: list[bool] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: faults.append(not bool(output.isfinite().all())))
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    with torch.inference_mode():
        network(to_network_input(torch.from_numpy(picture[None, :512, :512].copy())))
    for hook in hooks:
        hook.remove()
    return not any(faults)


def _of_each(what: str, run: Callable[[Change], Callable[[Trial], Seen]], *changes: str) -> list[Fault]:
    return [Fault(kind=KIND, name=f"{what}: {name}", run=run(_CHANGES[name])) for name in changes or tuple(_CHANGES)]


FAULTS: tuple[Fault, ...] = (
    *_of_each("weights", _weights),
    *_of_each("training state", _state),
    *_of_each("shard set's index", _index),
    *_of_each("ledger rows", _rows),
    *_of_each("ledger rows, stage run again", _rows_again),
    *_of_each("gathered ledger", _gathered),
    *_of_each("heatmap", _heatmap),
    *_of_each("int8 model", lambda change: _int8(".xml", change), "a flipped bit", "its end lost"),
    *_of_each("int8 model's weights", lambda change: _int8(".bin", change), "a flipped bit", "a block of zeros"),
    *(
        Fault(
            kind=KIND, name=f"{name}, {engine}", run=_numbers(value, layer, engine=engine, share=share), names="layer"
        )
        for engine in ("eager", "folded", "openvino")
        for name, value, layer, share in (
            ("nan in a convolution", float("nan"), "convs.0.0.weight", 0.0),
            ("nan in a head", float("nan"), "heads", 0.0),
            ("infinity in a bias", float("inf"), "1.bias", 0.0),
            ("minus infinity in a head", float("-inf"), "heads", 0.0),
            ("nan in running statistics", float("nan"), "running_var", 0.0),
            ("minus one as a variance", -1.0, "running_var", 1.0),
            ("weights at the end of float32", 3e38, "convs.0.0.weight", 1.0),
            ("biases at the end of float32", 3e38, "1.bias", 1.0),
        )
    ),
)
