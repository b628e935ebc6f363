"""The speed-up record: what faster ways of inference change, and how fast they are.

A record belongs to the weights of one epoch and to the machine that it was measured on. It holds, for each way of
inference, how it differs from float32 eager with the paper's tiling on Validation I, and how fast it was. `auto` is
resolved by it (`bccdist.speedups.resolving`): the fastest way that changed no verdict there. Of the ways that may be
certified it holds how far each slide of Validation I and II lies from the exact curves
(`bccdist.speedups.certifying`); these numbers name no slide, because a record leaves the lab in a model file.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bccdist.configuration import Engine, Precision, Psi, Tiling
from bccdist.errors import ConfigurationError
from bccdist.files import digest_of, sha256_of_file
from bccdist.seals import read_sealed_json, write_sealed_json
from bccdist.sections.certificate import bound_levels, slides_needed
from bccdist.sections.choices import Thresholds
from bccdist.speedups.machine import Machine

Range = tuple[float, float]
"""The lowest and the highest value."""
SCHEMA_VERSION = 4
_CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.99)
"""For which the log says what would be certified."""
_AGAIN = "remove it and run `python jobs/launch_calibrate.py` again"
MEASURE_HERE = (
    "run `python jobs/launch_calibrate.py` on this kind of machine (of a model, in its study, and pack it again), or "
    "ask for tiling paper, precision float32 and no cascade"
)
"""What to do where no record suits."""


@dataclass(frozen=True, kw_only=True)
class MeasuredWay:
    """One way of inference against float32 eager with the paper's tiling, on Validation I and II."""

    tiling: Tiling
    precision: Precision
    engine: Engine
    mpx_per_s: float
    """Distinct tissue pixels of the target frame, in millions, per second in the network."""
    max_difference: float
    """Largest difference of a stored probability of any output; they are stored in steps of 1 / 255."""
    mean_difference: float
    """Mean difference of the final output's stored probabilities, over covered tissue."""
    crossing_share: float
    """Pixels of the final output's covered tissue that change their side of t_p."""
    changed_verdicts: tuple[str, ...]
    """Verdicts that are other ones, as section_id/psi."""
    probe_sha256: str
    """Names the heatmap that this way's network makes of the probes (`bccdist.speedups.probes`)."""
    exit: Literal["psi_0"] | None = None
    """Where the network ends, as in `Method`."""
    psi: Psi
    """The output whose curves are held against those of the exact final output; it is psi_0 where that is the exit."""
    slide_levels: tuple[int, ...] = ()
    """Of each calibrated slide, in rising order, the largest distance of its sections' curves (`levels_apart`); none
    where the way was not calibrated."""
    flip_levels: tuple[int, ...] = ()
    """Of each section on these slides, in rising order, the smallest d that does not certify it (`flip_levels`)."""
    ranges: dict[str, Range] = field(default_factory=dict)
    """What the calibrated slides are like (`bccdist.speedups.traits`): the lowest and highest value of each trait."""

    def __str__(self) -> str:
        """The way in words, such as `dense int8 openvino`."""
        return f"{self.tiling} {self.precision} {self.engine}{f' to {self.exit}' if self.exit else ''}"

    @property
    def is_exact(self) -> bool:
        """Whether it is the exact way but for the rounding of its engine: the paper's tiling in float32."""
        return self.tiling == "paper" and self.precision == "float32" and self.exit is None

    def certified_share(self, levels: int) -> float:
        """The share of the calibrated slides' sections that d = `levels` certifies, 0 to 1."""
        return sum(flip > levels for flip in self.flip_levels) / max(1, len(self.flip_levels))


@dataclass(frozen=True, kw_only=True)
class MeasuredBand:
    """One band of the psi cascade: where psi_0 lies in it, the later blocks are computed."""

    low: float
    high: float
    undecided_share: float
    """Share of the patches whose later blocks are computed."""
    saved_share: float
    """Share of the whole network's multiply-accumulates that is not needed."""
    changed_verdicts: tuple[str, ...]
    """Sections whose verdict by the final output is another one, as section_id/psi."""


@dataclass(frozen=True, kw_only=True)
class MeasuredOutput:
    """One output of the network on some patches of Validation I (paper, section 3.1)."""

    psi: str
    patch_s: float
    """Seconds a patch of 512 px takes up to this output, float32 eager."""
    score_std: float
    """Standard deviation of Tumor's score minus Normal's."""


@dataclass(frozen=True, kw_only=True)
class SpeedupRecord:
    """What was measured with the weights of one epoch on one machine."""

    setting: str
    epoch: int
    weights_digest: str
    thresholds: Thresholds
    machine: Machine
    slide_ids: tuple[str, ...]
    num_sections: int
    num_patches: int
    """Patches of the paper's tiling."""
    receptive_field_px: dict[str, dict[str, int]]
    """Half-width around a pixel of each output that holds 99 and 99.9 % of what input pixels do to it."""
    halo_px: int
    """Halo of dense patches: 99.9 % of the widest output's field, rounded up to a multiple of 32."""
    ways: tuple[MeasuredWay, ...]
    bands: tuple[MeasuredBand, ...]
    outputs: tuple[MeasuredOutput, ...]
    """Outputs of the whole network in float32 eager, in its own order."""
    int8_sha256: dict[str, str]
    """Names the int8 weights of each piece of the network."""
    int8_origin: str
    """Names what they were made from beside the network: recipe and patches (`bccdist.speedups.samples`)."""

    def way(self, tiling: Tiling, precision: Precision, engine: Engine) -> MeasuredWay | None:
        """What was measured of one way of the whole network."""
        asked = (tiling, precision, engine, None)
        return next((way for way in self.ways if (way.tiling, way.precision, way.engine, way.exit) == asked), None)

    def fastest(self, *, tilings: Sequence[str], precisions: Sequence[str]) -> MeasuredWay | None:
        """The fastest way of the whole network among these that changed no verdict.

        What is not the exact way counts only where it was compared on all slides, as one engine of each kind was.
        """
        asked = [
            way
            for way in self.ways
            if way.tiling in tilings
            and way.precision in precisions
            and way.exit is None
            and (way.is_exact or way.slide_levels)
        ]
        return max((way for way in asked if not way.changed_verdicts), key=lambda way: way.mpx_per_s, default=None)

    def why_too_few_slides(self, confidence: float) -> str:
        """Why no way bears this confidence, by the number of calibrated slides; empty where it is enough."""
        num_slides = max((len(way.slide_levels) for way in self.ways), default=0)
        if num_slides >= slides_needed(confidence):
            return ""
        # Rounded down, since what is named must be enough itself.
        most = math.floor(1000 * num_slides / (num_slides + 1)) / 1000
        return (
            f"{num_slides} slides of Validation I and II were calibrated, and a confidence of {confidence:g} needs "
            f"{slides_needed(confidence)}; calibrate more slides, or ask for a confidence of at most {most:g}"
        )

    @property
    def band(self) -> MeasuredBand | None:
        """The band that saves most and changed no verdict."""
        sound = [band for band in self.bands if not band.changed_verdicts]
        return max(sound, key=lambda band: band.saved_share, default=None)


def write_speedups(path: Path, record: SpeedupRecord) -> None:
    """Write a record atomically, with the SHA-256 of its bytes."""
    write_sealed_json(path, {"schema_version": SCHEMA_VERSION, **asdict(record)})


def read_speedups(path: Path, *, weights_digest: str) -> SpeedupRecord:
    """The record at `path`.

    Raises:
        ConfigurationError: it is damaged, or it belongs to other weights or another version.
        FileNotFoundError: there is none.
    """
    # A record of other weights would promise verdicts that nobody compared.
    values = read_sealed_json(path, error=ConfigurationError, advice=_AGAIN)
    version = values.pop("schema_version", None)
    if version != SCHEMA_VERSION or values.get("weights_digest") != weights_digest:
        raise ConfigurationError(
            f"{path}: it is of version {version} and weights {values.get('weights_digest')}, expected version "
            f"{SCHEMA_VERSION} and {weights_digest}; {_AGAIN}"
        )
    return SpeedupRecord(
        **{
            **values,
            "thresholds": Thresholds(**values["thresholds"]),
            "machine": Machine(**values["machine"]),
            "slide_ids": tuple(values["slide_ids"]),
            "ways": tuple(MeasuredWay(**_with_tuples(way)) for way in values["ways"]),
            "bands": tuple(MeasuredBand(**_with_tuples(band)) for band in values["bands"]),
            "outputs": tuple(MeasuredOutput(**output) for output in values["outputs"]),
        }
    )


def machine_in(data: bytes) -> Machine | None:
    """The machine of a record's bytes, which are known to be sound; None in a record of another version."""
    values = json.loads(data)
    return Machine(**values["machine"]) if values.get("schema_version") == SCHEMA_VERSION else None


def require_some(records: Sequence[Path], folder: Path) -> Sequence[Path]:
    """These paths of speed-up records, if there are any.

    Raises:
        ConfigurationError: there are none.
    """
    if not records:
        raise ConfigurationError(f"{folder}: no speed-up record there, which what is asked for needs; {MEASURE_HERE}")
    return records


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a way or a band, of which JSON made lists."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if "ranges" in values:
        values["ranges"] = {trait: tuple(ends) for trait, ends in values["ranges"].items()}
    return values


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


def report_lines(record: SpeedupRecord) -> Iterator[str]:
    """The record as a table for the log."""
    yield (
        f"against float32 eager with the paper's tiling, {record.num_sections} sections of "
        f"{len(record.slide_ids)} slides of Validation I and II, at t_p {record.thresholds.t_p:g} and t_A "
        f"{record.thresholds.t_a_um2:g} um2, on {record.machine}:"
    )
    yield "tiling precision engine     exit    Mpx/s  times  largest  mean      crossing  verdicts changed"
    slowest = record.ways[0].mpx_per_s
    for way in record.ways:
        yield (
            f"{way.tiling:6} {way.precision:9} {way.engine:10} {way.exit or '-':5} {way.mpx_per_s:8.3f} "
            f"{way.mpx_per_s / slowest:6.2f}  {way.max_difference:.3f}    {way.mean_difference:.1e}   "
            f"{way.crossing_share:.1e}   {len(way.changed_verdicts)}"
        )
    yield from _certificate_lines(record)
    for output in record.outputs:
        yield f"up to {output.psi}: {output.patch_s:.3f} s a patch, float32 eager"
    for band in record.bands:
        yield (
            f"cascade, psi_0 within {band.low:g} to {band.high:g}: {band.undecided_share:.1%} of patches undecided, "
            f"{band.saved_share:.1%} of the computation saved, {len(band.changed_verdicts)} verdicts changed"
        )


def _certificate_lines(record: SpeedupRecord) -> Iterator[str]:
    """What each calibrated way would certify, for the confidences that so many slides bear."""
    for way in record.ways:
        shares = [
            f"{confidence:g}: {way.certified_share(levels):.0%} (d = {levels})"
            for confidence in _CONFIDENCES
            if (levels := bound_levels(way.slide_levels, confidence)) is not None
        ]
        if shares:
            yield f"sections certified by {way}, with confidence {', '.join(shares)}"
