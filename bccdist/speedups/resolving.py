"""The method that a configuration means: what it leaves open, a speed-up record decides."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from bccdist.configuration import InferConfig, Precision, Tiling
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.method import Method
from bccdist.paths import RunPaths
from bccdist.speedups.record import SpeedupRecord, int8_digest, read_speedups


def method_of_run(run: RunPaths, epoch: int, config: InferConfig, device: torch.device, *, digest: str) -> Method:
    """How the heatmaps of an epoch are made, by the configuration and, where it needs one, the epoch's record.

    Args:
        run: the training run that holds the weights.
        epoch: of the weights.
        config: what is asked for.
        device: where the network runs; each kind of device has a record of its own.
        digest: of the weights.

    Raises:
        ConfigurationError: there is no record, or its int8 models are not there or are others; or no way that is
            asked for left every verdict as it was, or none is possible on the device.
    """
    if not config.needs_speedups:
        return Method.of(config, device)
    path = run.speedups(epoch, device.type)
    record = read_speedups(path, weights_digest=digest)
    method = resolve_method(config, record, device)
    if method.int8_sha256 is not None:
        _require_measured(record, {piece: run.int8_model(epoch, piece) for piece in method.pieces}, path)
    return method


def _require_measured(record: SpeedupRecord, int8_models: Mapping[str, Path], path: Path) -> None:
    """The record speaks of the int8 weights that were measured, not of any that lie beside it."""
    for piece, model in int8_models.items():
        there, expected = int8_digest(model), record.int8_sha256.get(piece, "")
        if there != expected:
            raise ConfigurationError(
                f"{model} or its .bin: damaged, or not the int8 model that was measured: their digest is {there}, "
                f"expected {expected} by {path}; remove the record and run `python jobs/launch_calibrate.py` again"
            )


def resolve_method(config: InferConfig, record: SpeedupRecord, device: torch.device) -> Method:
    """The method that a configuration means by the record of its weights.

    Raises:
        ConfigurationError: no way that is asked for left every verdict as it was, or none is possible on the device.
    """
    halo_px = record.halo_px if config.halo_px is None else config.halo_px
    config = replace(_without_auto(config, record), halo_px=halo_px)
    method = Method.of(config, device, band=_band(record) if config.cascade else None)
    if method.precision != "int8":
        return method
    return replace(method, int8_sha256=" ".join(record.int8_sha256.get(piece, "") for piece in method.pieces))


def _without_auto(config: InferConfig, record: SpeedupRecord) -> InferConfig:
    """The configuration with tiling and precision settled; where one of them is `auto`, by the fastest sound way."""
    if "auto" not in (config.tiling, config.precision):
        return config
    way = record.fastest(tilings=_asked(config.tiling, Tiling), precisions=_asked(config.precision, Precision))
    if not way:
        raise ConfigurationError(
            f"no way with tiling {config.tiling} and precision {config.precision} left every verdict on Validation I "
            "as it was, by the speed-up record of these weights; ask for tiling paper and precision float32"
        )
    engine = way.engine if config.engine == "auto" else config.engine
    return replace(config, tiling=way.tiling, precision=way.precision, engine=engine)


def _asked(choice: str, every: object) -> Sequence[str]:
    return get_args(every) if choice == "auto" else (choice,)


def _band(record: SpeedupRecord) -> tuple[float, float]:
    band = record.band
    if band is None:
        raise ConfigurationError(
            "cascade is True, but every band of psi_0 changed a verdict on Validation I, by the speed-up record of "
            f"{record.setting}, epoch {record.epoch}; run without it"
        )
    return band.low, band.high
