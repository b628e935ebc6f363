"""The way that a configuration means on this machine: what it leaves open, a speed-up record that suits it decides."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

from bccdist.configuration import Engine, InferConfig, Precision, Tiling
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import Predictor
from bccdist.heatmaps.predictors import make_predictor
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.paths import RunPaths
from bccdist.sections.settling import Settling
from bccdist.speedups.machine import Machine, why_unsuited
from bccdist.speedups.probes import machine_of, probe_sha256
from bccdist.speedups.record import (
    MEASURE_HERE,
    MeasuredWay,
    SpeedupRecord,
    int8_digest,
    read_speedups,
    require_some,
)


class ReadyWay(NamedTuple):
    """How heatmaps are made here, and the network that does it."""

    method: Method
    predictor: Predictor
    settling: Settling | None = None
    """What computes exactly where this way leaves a verdict open; None where nothing is certified."""

    @property
    def names_heatmap(self) -> dict[str, Any]:
        """All of it that shapes a heatmap."""
        certificate = {} if self.settling is None else {"certificate": self.settling.certificate.digest}
        return {**self.method.names_heatmap, **certificate}


def ready_way(
    network: DeeplySupervisedUNet,
    run: RunPaths,
    epoch: int,
    config: InferConfig,
    device: torch.device,
    *,
    digest: str,
) -> ReadyWay:
    """Make a network ready by its configuration and, where it needs one, the speed-up record that suits this machine.

    The record of this very machine is the one that counts. Without it, one of its kind counts whose numbers are those
    that are computed here: the probes' heatmap is made, and has to be the same to the bit.

    Args:
        network: in evaluation mode; not changed.
        run: the training run that holds its weights.
        epoch: of the weights.
        config: what is asked for.
        device: where the network runs.
        digest: of the weights.

    Raises:
        ConfigurationError: there is no record, or none suits this machine; or its int8 models are not there or are
            others; or no way that is asked for was measured and left every verdict as it was.
        NotFiniteError: the network's numbers are not finite, or may not stay so.
    """
    predictor_of = partial(make_predictor, network, device=device, int8_file=partial(run.int8_model, epoch))
    if not config.needs_speedups:
        method = Method.of(config, device, encoder=network.encoder_name)
        return ReadyWay(method, predictor_of(method))
    here = machine_of(device)
    faults = []
    for path in records_for(run, epoch, here):
        try:
            record = read_speedups(path, weights_digest=digest)
            method = resolve_method(config, record, device, encoder=network.encoder_name)
            way = _measured(record, method, here, path)
            if method.precision == "int8":
                require_measured_int8(record, run, {*method.pieces, "whole"}, path)
            predictor = predictor_of(method)
            # Whatever pieces the network is run in, the way was measured with all of it at once.
            whole = Method(precision=method.precision, engine=method.engine)
            probed = predictor if method.pieces == whole.pieces else predictor_of(whole)
            require_same_numbers(probed, way, device, path)
        except ConfigurationError as fault:
            faults.append(fault)
        else:
            return ReadyWay(method, predictor)
    raise faults[0] if len(faults) == 1 else ConfigurationError("\n".join(map(str, faults)))


def records_for(run: RunPaths, epoch: int, here: Machine) -> Sequence[Path]:
    """The speed-up records to look at on this machine: its own, or else all that there are.

    Raises:
        ConfigurationError: there are none.
    """
    own = run.speedups(epoch, here.key)
    return require_some([own] if own.exists() else run.all_speedups(epoch), run.speedups(epoch, "cpu").parent)


def _measured(record: SpeedupRecord, method: Method, here: Machine, path: Path) -> MeasuredWay:
    """What the record says of a method, if it says it of machines like this one."""
    way = record.way(method.tiling, method.precision, method.engine)
    if way is None:
        raise ConfigurationError(
            f"{path}: says nothing of tiling {method.tiling} with {method.arithmetic}, measured are "
            f"{', '.join(map(str, record.ways))}; ask for one of these, or for tiling paper (or dense with "
            "--halo-px), precision float32 and no cascade, which need no record"
        )
    require_suited(record, here, method.engine, path)
    return way


def require_suited(record: SpeedupRecord, here: Machine, engine: Engine, path: Path) -> None:
    """A record speaks of machines like this one.

    Raises:
        ConfigurationError: it was measured with other instructions, another GPU or another version of the engine.
    """
    if reason := why_unsuited(record.machine, here, engine):
        raise ConfigurationError(f"{path}: does not suit this machine: {reason}; {MEASURE_HERE}")


def require_same_numbers(predictor: Predictor, way: MeasuredWay, device: torch.device, path: Path) -> None:
    """A way's network gives here what it gave where the record was measured.

    Raises:
        ConfigurationError: it gives other numbers.
    """
    if (found := probe_sha256(predictor, device)) != way.probe_sha256:
        raise ConfigurationError(
            f"{path}: does not suit this machine: the probes' heatmap with {way} has the digest {found[:12]} here, "
            f"expected {way.probe_sha256[:12]} as it was measured; {MEASURE_HERE}"
        )


def require_measured_int8(record: SpeedupRecord, run: RunPaths, pieces: Iterable[str], path: Path) -> None:
    """The record speaks of the int8 weights that were measured, not of any that lie beside it.

    Raises:
        ConfigurationError: an int8 model is not there, or is another one.
    """
    for piece in pieces:
        model = run.int8_model(record.epoch, piece)
        there, expected = int8_digest(model), record.int8_sha256.get(piece, "")
        if there != expected:
            raise ConfigurationError(
                f"{model} or its .bin: damaged, or not the int8 model that was measured: their digest is {there}, "
                f"expected {expected} by {path}; remove the record and run `python jobs/launch_calibrate.py` again"
            )


def resolve_method(config: InferConfig, record: SpeedupRecord, device: torch.device, *, encoder: str = "") -> Method:
    """The method that a configuration means by the record of its weights.

    Raises:
        ConfigurationError: no way that is asked for left every verdict as it was, or none is possible on the device.
    """
    halo_px = record.halo_px if config.halo_px is None else config.halo_px
    config = replace(_without_auto(config, record), halo_px=halo_px)
    method = Method.of(config, device, band=_band(record) if config.cascade else None, encoder=encoder)
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
