"""What the calibration measured, and the way of inference that follows from it and the configuration.

A calibration belongs to the weights of one epoch and to a kind of device. It holds, for each way of inference, how it
differs from float32 eager with the paper's tiling on Validation I, and how fast it was. `auto` is resolved by it: the
fastest way that changed no verdict there.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import AreaUnit, Blending, Engine, InferConfig, Precision, Tiling
from bccdist.errors import ConfigurationError
from bccdist.files import digest_of, read_json, sha256_of_file, write_json
from bccdist.heatmaps.layout import PAPER, Layout, dense_layout

SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """At which verdicts are compared; the selection's (paper, section 2.5)."""

    t_p: float
    """Prediction threshold, 0 to 1."""
    t_a_um2: float
    """Area threshold."""
    area_unit: AreaUnit = "physical"


@dataclass(frozen=True, kw_only=True)
class MeasuredWay:
    """One way of inference against float32 eager with the paper's tiling, over Validation I."""

    tiling: Tiling
    precision: Precision
    engine: Engine
    mpx_per_s: float
    """Distinct tissue pixels of the target frame, in millions, per second in the network."""
    max_difference: float
    """Of a stored probability of any output; they are stored in steps of 1 / 255."""
    mean_difference: float
    """Of the final output's stored probabilities, over covered tissue."""
    crossing_share: float
    """Pixels of the final output's covered tissue that change their side of t_p."""
    changed_verdicts: tuple[str, ...]
    """section_id/psi of each verdict that is another one."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From what JSON made of it."""
        return cls(**{**values, "changed_verdicts": tuple(values["changed_verdicts"])})


@dataclass(frozen=True, kw_only=True)
class MeasuredBand:
    """One band of the psi cascade: where psi_0 lies in it, the later blocks are computed."""

    low: float
    high: float
    undecided_share: float
    """Of the patches."""
    saved_share: float
    """Of the whole network's multiply-accumulates."""
    changed_verdicts: tuple[str, ...]
    """section_id of each section whose verdict by the final output is another one."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From what JSON made of it."""
        return cls(**{**values, "changed_verdicts": tuple(values["changed_verdicts"])})


@dataclass(frozen=True, kw_only=True)
class MeasuredOutput:
    """One output of the network on the calibration's sample patches (paper, section 3.1)."""

    psi: str
    patch_s: float
    """Seconds a patch of 512 px takes up to this output, float32 eager."""
    score_std: float
    """Standard deviation of Tumor's score minus Normal's."""


@dataclass(frozen=True, kw_only=True)
class SpeedupRecord:
    """The record of one calibration."""

    setting: str
    epoch: int
    weights_digest: str
    thresholds: Thresholds
    device: str
    """The processor's or GPU's name."""
    num_threads: int
    software: str
    slide_ids: tuple[str, ...]
    num_sections: int
    num_patches: int
    """Of the paper's tiling."""
    receptive_field_px: dict[str, dict[str, int]]
    """For each output the half-width that holds 99 and 99.9 % of what an input pixel does to it."""
    halo_px: int
    """Of dense patches: 99.9 % of the widest output's, rounded up to a multiple of 32."""
    ways: tuple[MeasuredWay, ...]
    bands: tuple[MeasuredBand, ...]
    outputs: tuple[MeasuredOutput, ...]
    """Of the whole network in float32 eager, in its own order."""
    int8_sha256: dict[str, str]
    """Of the int8 weights of each piece of the network."""

    def fastest(self, *, tilings: Sequence[str], precisions: Sequence[str]) -> MeasuredWay | None:
        """The fastest way among these that changed no verdict."""
        able = [way for way in self.ways if way.tiling in tilings and way.precision in precisions]
        return max((way for way in able if not way.changed_verdicts), key=lambda way: way.mpx_per_s, default=None)

    @property
    def band(self) -> MeasuredBand | None:
        """The band that saves most and changed no verdict."""
        return max((band for band in self.bands if not band.changed_verdicts), key=_saved, default=None)


def _saved(band: MeasuredBand) -> float:
    return band.saved_share


def write_speedups(path: Path, calibration: SpeedupRecord) -> None:
    """Write a record atomically."""
    write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(calibration)})


def read_speedups(path: Path, *, weights_digest: str) -> SpeedupRecord:
    """The record at `path`.

    Raises:
        ConfigurationError: there is none, or it belongs to other weights or another version.
    """
    if not path.exists():
        raise ConfigurationError(
            f"{path}: no calibration there, which what is asked for needs; run `python jobs/launch_calibrate.py` "
            "on the same kind of machine first, or ask for tiling paper, precision float32 and no cascade"
        )
    values = read_json(path)
    version = values.pop("schema_version", None)
    if version != SCHEMA_VERSION or values["weights_digest"] != weights_digest:
        raise ConfigurationError(
            f"{path}: it is of version {version} and weights {values.get('weights_digest')}, expected version "
            f"{SCHEMA_VERSION} and {weights_digest}; remove it and run `python jobs/launch_calibrate.py` again"
        )
    return SpeedupRecord(
        **{
            **values,
            "thresholds": Thresholds(**values["thresholds"]),
            "slide_ids": tuple(values["slide_ids"]),
            "ways": tuple(MeasuredWay.from_json(way) for way in values["ways"]),
            "bands": tuple(MeasuredBand.from_json(band) for band in values["bands"]),
            "outputs": tuple(MeasuredOutput(**output) for output in values["outputs"]),
        }
    )


def int8_digest(path: Path) -> str:
    """Names an int8 model by its two files.

    Raises:
        ConfigurationError: they are not there.
    """
    files = [path, path.with_suffix(".bin")]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)}: no int8 model there; run `python jobs/launch_calibrate.py` on a CPU with the "
            "extra bccdist[openvino] installed, or ask for another precision"
        )
    return digest_of([sha256_of_file(file) for file in files])


@dataclass(frozen=True, kw_only=True)
class Method:
    """How the heatmaps of one epoch are made, nothing left to `auto`."""

    tiling: Tiling
    halo_px: int
    blending: Blending
    precision: Precision
    engine: Literal["auto"] | Engine
    """Gives the same numbers but for rounding, so it does not name the heatmap; auto is the fastest installed."""
    exit: Literal["psi_0"] | None
    band: tuple[float, float] | None
    """Of psi_0's probability, in which the later blocks are computed; None computes them everywhere."""
    int8_sha256: str | None
    """Of the int8 weights, which follow from the calibration's patches."""

    def layout(self, cells: NDArray[np.bool_]) -> Layout:
        """Where patches lie on a slide with tissue in these cells, bool [rows, cols]."""
        return PAPER if self.tiling == "paper" else dense_layout(self.halo_px, cells)

    @property
    def names_heatmap(self) -> dict[str, Any]:
        """All of it that shapes a heatmap."""
        return {name: value for name, value in asdict(self).items() if name != "engine"}

    @property
    def pieces(self) -> tuple[str, ...]:
        """The pieces of the network that it runs (`bccdist.heatmaps.predictors`)."""
        if self.exit:
            return ("first",)
        return ("first-with-features", "later") if self.band else ("whole",)


def resolve_method(config: InferConfig, calibration: SpeedupRecord | None) -> Method:
    """The method that a configuration means.

    Args:
        config: what is asked for.
        calibration: of the weights; None is enough unless `config.needs_speedups`.

    Raises:
        ConfigurationError: no way that is asked for left every verdict as it was, or there is no calibration.
    """
    if not config.needs_speedups:
        calibration = None
    elif calibration is None:
        raise ConfigurationError(f"{config} needs a calibration; run `python jobs/launch_calibrate.py` first")
    tiling, precision, engine = _way_of(config, calibration)
    method = Method(
        tiling=tiling,
        halo_px=_halo_px(config, calibration) if tiling == "dense" else 0,
        blending=config.blending if tiling == "paper" else "mean",
        precision=precision,
        engine=engine,
        exit=config.exit,
        band=_band(calibration) if config.cascade and calibration else None,
        int8_sha256=None,
    )
    if precision != "int8" or calibration is None:
        return method
    return replace(method, int8_sha256=" ".join(calibration.int8_sha256.get(piece, "") for piece in method.pieces))


def _way_of(
    config: InferConfig, calibration: SpeedupRecord | None
) -> tuple[Tiling, Precision, Literal["auto"] | Engine]:
    """Tiling, precision and engine; where one of the first two is `auto`, the fastest sound way."""
    if config.tiling != "auto" and config.precision != "auto":
        return config.tiling, config.precision, config.engine
    way = calibration and calibration.fastest(
        tilings=get_args(Tiling) if config.tiling == "auto" else (config.tiling,),
        precisions=get_args(Precision) if config.precision == "auto" else (config.precision,),
    )
    if not way:
        raise ConfigurationError(
            f"no way with tiling {config.tiling} and precision {config.precision} left every verdict on Validation I "
            "as it was, by the calibration of these weights; ask for tiling paper and precision float32"
        )
    return way.tiling, way.precision, way.engine if config.engine == "auto" else config.engine


def _halo_px(config: InferConfig, calibration: SpeedupRecord | None) -> int:
    if config.halo_px is not None or calibration is None:
        return config.halo_px or 0
    return calibration.halo_px


def _band(calibration: SpeedupRecord) -> tuple[float, float]:
    band = calibration.band
    if band is None:
        raise ConfigurationError(
            "cascade is True, but every band of psi_0 changed a verdict on Validation I, by the calibration of "
            f"{calibration.setting}, epoch {calibration.epoch}; run without it"
        )
    return band.low, band.high
