"""A certificate is of the way that is expected to take least time, or there is none and a reason in words."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from speedup_records import RECORD, calibrated

from bccdist.speedups.certifying import Certificate, NoCertificate, resolve_certificate

_CPU = torch.device("cpu")
_SLIDES = tuple(range(19))


def _certificate(confidence: float = 0.9) -> Certificate:
    found = resolve_certificate(calibrated(RECORD, slide_levels=_SLIDES), confidence, _CPU)
    assert isinstance(found, Certificate)
    return found


def test_the_way_with_the_least_expected_time_is_taken_and_not_the_fastest() -> None:
    record = calibrated(RECORD, slide_levels=_SLIDES)
    assert (best := _certificate()).method.tiling == "dense"
    assert (best.method.precision, best.levels, best.num_slides, best.psi) == ("int8", 17, 19, "psi_4")
    # The exact way has 2 Mpx/s and the fast one 12; 2 of 7 sections are not certified at 17 levels.
    assert best.times_exact == pytest.approx(1 / (2 / 12 + 2 / 7))
    ways = tuple(
        replace(way, slide_levels=(*_SLIDES[:-1], 256, 256)) if way.precision == "int8" else way for way in record.ways
    )
    found = resolve_certificate(replace(record, ways=ways), 0.95, _CPU)
    assert isinstance(found, Certificate)
    assert (found.method.tiling, found.method.precision) == ("dense", "float32")


def test_int8_names_its_weights_and_dense_patches_have_the_measured_halo() -> None:
    method = _certificate().method
    assert (method.halo_px, method.int8_sha256) == (160, "i8")


def test_the_exit_is_certified_on_its_own_output() -> None:
    record = calibrated(RECORD, slide_levels=_SLIDES)
    exits = replace(record.ways[-1], exit="psi_0", psi="psi_0", mpx_per_s=20.0)
    found = resolve_certificate(replace(record, ways=(*record.ways, exits)), 0.9, _CPU)
    assert isinstance(found, Certificate)
    assert (found.psi, found.method.exit, found.method.int8_sha256) == ("psi_0", "psi_0", "i8f")


@pytest.mark.parametrize(
    ("changed", "confidence", "reason"),
    [
        ({}, 0.99, r"19 slides .* needs 99; .* at most 0\.95"),
        ({"slide_levels": (3, 5)}, 0.9, "2 slides .* needs 9"),
        ({"slide_levels": ()}, 0.9, r"no way was calibrated.*launch_calibrate"),
        ({"slide_levels": (256,) * 19}, 0.9, "does not pay .* certifies 0% of the sections at d = 256"),
    ],
)
def test_no_certificate_says_why(changed: dict[str, tuple[int, ...]], confidence: float, reason: str) -> None:
    found = resolve_certificate(calibrated(RECORD, **{"slide_levels": _SLIDES, **changed}), confidence, _CPU)
    assert isinstance(found, NoCertificate)
    assert re.search(reason, found.reason)


def test_a_certificate_tells_certified_sections_and_how_far_they_are() -> None:
    certificate = _certificate()
    steps = np.arange(256)
    curves = np.stack([200 - steps // 2, np.where(steps < 250, 9000, 0)]).astype(np.uint32)
    mpp, pixel_px = np.array([1.0, 1.0]), np.array([1, 1])
    # t_A is 5,120 um2: both verdicts follow, Normal and Tumor.
    assert certificate.certified(curves, mpp=mpp, pixel_px=pixel_px).tolist() == [True, True]
    near = replace(certificate, t_a_um2=float(curves[0, certificate.step]))
    assert near.certified(curves, mpp=mpp, pixel_px=pixel_px).tolist() == [False, True]
    exact_um2 = curves[:, certificate.step - 6].astype(float)
    assert certificate.levels_from(exact_um2, curves, mpp=mpp, pixel_px=pixel_px).tolist() == [6, 0]
