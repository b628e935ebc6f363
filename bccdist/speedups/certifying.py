"""The certificate that a speed-up record gives: the fast way whose curves prove most verdicts, and by which bound.

What a certificate proves is in `bccdist.sections.certificate`. Here the record's scores of slides become d for a
confidence, and of all calibrated ways the one is taken that is expected to take the least time, with the exact way's
for the sections that it leaves open.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bccdist.configuration import AreaUnit, InferConfig, Psi
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import Predictor
from bccdist.heatmaps.predictors import make_predictor
from bccdist.heatmaps.probability import step_of
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.paths import RunPaths
from bccdist.sections.certificate import bound_levels, is_certified, levels_apart
from bccdist.sections.verdicts import areas_at_all_steps
from bccdist.speedups.machine import Machine
from bccdist.speedups.probes import machine_of
from bccdist.speedups.record import MeasuredWay, Range, SpeedupRecord, read_speedups
from bccdist.speedups.resolving import records_for, require_measured_int8, require_same_numbers, require_suited


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A fast way, and within how many levels its curves hold the exact verdicts."""

    way: MeasuredWay
    """The fast way, as it was measured."""
    method: Method
    """The same as heatmaps are made with it."""
    psi: Psi
    """Its output whose curves are looked at; the exact verdicts are the final output's in any case."""
    t_p: float
    """Prediction threshold, 0 to 1."""
    t_a_um2: float
    """Area threshold."""
    area_unit: AreaUnit
    levels: int
    """d: with `confidence` no section of a further slide lies further from the exact curve."""
    confidence: float
    num_slides: int
    """How many slides of Validation I and II d rests on."""
    ranges: Mapping[str, Range]
    """What these were like; a slide outside (`bccdist.speedups.traits.why_outside`) is to be computed exactly."""
    certified_share: float
    """Share of their sections that d certifies."""
    times_exact: float
    """How many times as fast as the exact way alone this is expected to be, in the network."""

    @property
    def step(self) -> int:
        """The probability step of t_p."""
        return step_of(self.t_p)

    def certified(
        self, curves: NDArray[np.uint32], *, mpp: NDArray[np.float64], pixel_px: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether the exact verdict of each section follows from its fast curve.

        Args:
            curves: uint32 [n, 256], of `psi`, made with `method`: heatmap pixels in the largest region at each step.
            mpp: float [n], um per target-frame pixel.
            pixel_px: int [n], edge of a heatmap pixel in target-frame pixels.
        """
        areas_um2 = self._areas_um2(curves, mpp, pixel_px)
        return is_certified(areas_um2, self.step, self.levels, self.t_a_um2)

    def levels_from(
        self,
        exact_um2: NDArray[np.float64],
        curves: NDArray[np.uint32],
        *,
        mpp: NDArray[np.float64],
        pixel_px: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """How many levels each section's exact area lies from its fast curve: int64 [n]; above `levels` is outside.

        Args:
            exact_um2: float64 [n], the exact final output's largest region at t_p, in `area_unit`.
            curves: as for `certified`.
            mpp: as for `certified`.
            pixel_px: as for `certified`.
        """
        return levels_apart(exact_um2, self._areas_um2(curves, mpp, pixel_px), self.step)

    def _areas_um2(
        self, curves: NDArray[np.uint32], mpp: NDArray[np.float64], pixel_px: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        return areas_at_all_steps(curves, mpp=mpp, pixel_px=pixel_px, area_unit=self.area_unit)


class NoCertificate(NamedTuple):
    """Nothing can be certified, or it does not pay."""

    reason: str
    """Why, and what to do, in words."""


class ReadyCertificate(NamedTuple):
    """A certificate, and the network ready to make the fast way's heatmaps."""

    certificate: Certificate
    predictor: Predictor


def ready_certificate(
    network: DeeplySupervisedUNet, run: RunPaths, epoch: int, confidence: float, device: torch.device, *, digest: str
) -> ReadyCertificate | NoCertificate:
    """The certificate of an epoch's weights on this machine, with its predictor.

    Args:
        network: with these weights, in evaluation mode; not changed.
        run: the training run that holds the weights.
        epoch: of the weights.
        confidence: that a slide lies within d, above 0 and below 1.
        device: where the network runs.
        digest: of the weights.

    Returns:
        Where there is no record, or a damaged one, or none that suits this machine, that is the reason for none.

    Raises:
        NotFiniteError: the network's numbers are not finite, or may not stay so.
    """
    here = machine_of(device)
    reasons = []
    try:
        for path in records_for(run, epoch, here):
            found = _ready_by(network, run, path, epoch, confidence, device, here=here, digest=digest)
            if isinstance(found, ReadyCertificate):
                return found
            reasons.append(found.reason)
    except ConfigurationError as fault:
        reasons.append(str(fault))
    return NoCertificate("; ".join(reasons))


def _ready_by(
    network: DeeplySupervisedUNet,
    run: RunPaths,
    path: Path,
    epoch: int,
    confidence: float,
    device: torch.device,
    *,
    here: Machine,
    digest: str,
) -> ReadyCertificate | NoCertificate:
    """The certificate by one record."""
    try:
        record = read_speedups(path, weights_digest=digest)
        found = resolve_certificate(record, confidence, device)
        if isinstance(found, NoCertificate):
            return NoCertificate(f"{path}: {found.reason}")
        way, method = found.way, found.method
        require_suited(record, here, method.engine, path)
        if method.precision == "int8":
            require_measured_int8(record, run, method.pieces, path)
        predictor = make_predictor(network, method, device=device, int8_file=partial(run.int8_model, epoch))
        require_same_numbers(predictor, way, device, path)
    except ConfigurationError as fault:
        return NoCertificate(str(fault))
    return ReadyCertificate(found, predictor)


def resolve_certificate(record: SpeedupRecord, confidence: float, device: torch.device) -> Certificate | NoCertificate:
    """The certificate with the least expected time that a record bears for a confidence.

    The expected time is that of the fast way, and for the share of sections that it would not certify that of the
    exact one.

    Args:
        record: what was measured.
        confidence: that a slide lies within d, above 0 and below 1.
        device: where the network runs.
    """
    calibrated = [way for way in record.ways if way.slide_levels]
    if not calibrated:
        return NoCertificate("no way was calibrated; run `python jobs/launch_calibrate.py` again")
    if reason := record.why_too_few_slides(confidence):
        return NoCertificate(reason)
    found = [
        certificate for way in calibrated if (certificate := _certificate(record, way, confidence, device)) is not None
    ]
    best = max(found, key=lambda certificate: certificate.times_exact)
    if best.times_exact <= 1:
        return NoCertificate(
            f"certifying does not pay with a confidence of {confidence:g}: the best way, {best.method.tiling} "
            f"{best.method.arithmetic}, certifies {best.certified_share:.0%} of the sections at d = {best.levels} "
            f"and would be {best.times_exact:.2f} times as fast as computing all exactly"
        )
    return best


def _certificate(
    record: SpeedupRecord, way: MeasuredWay, confidence: float, device: torch.device
) -> Certificate | None:
    """The certificate by one way; None where it has too few slides."""
    levels = bound_levels(way.slide_levels, confidence)
    if levels is None:
        return None
    share = way.certified_share(levels)
    exact_mpx_per_s = max(each.mpx_per_s for each in record.ways if each.is_exact)
    return Certificate(
        way=way,
        method=method_of(record, way, device),
        psi=way.psi,
        t_p=record.thresholds.t_p,
        t_a_um2=record.thresholds.t_a_um2,
        area_unit=record.thresholds.area_unit,
        levels=levels,
        confidence=confidence,
        num_slides=len(way.slide_levels),
        ranges=way.ranges,
        certified_share=share,
        times_exact=1 / (exact_mpx_per_s / way.mpx_per_s + 1 - share),
    )


def method_of(record: SpeedupRecord, way: MeasuredWay, device: torch.device) -> Method:
    """The method of a measured way."""
    config = InferConfig(
        tiling=way.tiling,
        halo_px=record.halo_px if way.tiling == "dense" else None,
        precision=way.precision,
        engine=way.engine,
        exit=way.exit,
    )
    method = Method.of(config, device)
    if method.precision != "int8":
        return method
    return replace(method, int8_sha256=" ".join(record.int8_sha256.get(piece, "") for piece in method.pieces))
