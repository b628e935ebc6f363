"""Certified inference finds its fast way in the speed-up record, for the thresholds in force, or says why not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from speedup_records import measured_way

from bccdist.configuration import InferConfig
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predictors import EarlyPredictor, make_predictor
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.paths import RunPaths
from bccdist.sections.choices import Choice
from bccdist.speedups.certifying import Certificate, NoCertificate, ReadyCertificate
from bccdist.speedups.resolving import ReadyWay
from bccdist.speedups.settled_way import ready_for

_CPU = torch.device("cpu")
_CERTIFIED = InferConfig(inference="certified", engine="eager", check_share=0.1)
_CHOICE = Choice(
    setting="resnet34_ds",
    epoch=3,
    psi="psi_4",
    t_p=0.6,
    t_a_um2=5120.0,
    beta=1.5,
    area_unit="physical",
    weights_digest="w",
    phantom_weights=False,
)
_CERTIFICATE = Certificate(
    way=measured_way("dense", "float32", "eager", 2.0),
    method=Method(engine="eager", tiling="dense", halo_px=64),
    psi="psi_4",
    t_p=0.6,
    t_a_um2=5120.0,
    area_unit="physical",
    levels=9,
    confidence=0.95,
    num_slides=30,
    ranges={},
    certified_share=0.9,
    times_exact=4.0,
)


@pytest.fixture(scope="module")
def network() -> DeeplySupervisedUNet:
    return DeeplySupervisedUNet("resnet34_ds", width=4).eval()


def ready(
    network: DeeplySupervisedUNet, choice: Choice | None = _CHOICE, config: InferConfig = _CERTIFIED
) -> ReadyWay:
    return ready_for(network, RunPaths(Path("run")), 3, config, _CPU, digest="w", choice=choice)


def with_certificate(monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    """Let the record give this certificate, or the reason for none."""

    def stand_in(network: DeeplySupervisedUNet, *_: Any, **__: Any) -> Any:
        if isinstance(found, NoCertificate):
            return found
        return ReadyCertificate(found, make_predictor(network, found.method, device=_CPU, int8_file=Path))

    monkeypatch.setattr("bccdist.speedups.settled_way.ready_certificate", stand_in)


def test_exact_inference_needs_neither_record_nor_choice(network: DeeplySupervisedUNet) -> None:
    way = ready(network, None, InferConfig(engine="eager"))
    assert way.settling is None
    assert way.names_heatmap == way.method.names_heatmap


def test_certified_inference_is_the_fast_way_with_the_exact_one_beside_it(
    network: DeeplySupervisedUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_certificate(monkeypatch, _CERTIFICATE)
    way = ready(network)
    assert way.method.tiling == "dense"
    assert way.settling is not None
    assert way.settling.exact.layout.full_coverage == 4
    promise = way.settling.certificate
    assert (promise.levels, promise.confidence, promise.check_share) == (9, 0.95, 0.1)
    assert promise.way == "dense float32 eager"


@pytest.mark.parametrize("engine", ["mnn", "folded"])
def test_the_engine_that_is_asked_for_computes_what_is_left_open_and_the_log_names_both(
    network: DeeplySupervisedUNet, monkeypatch: pytest.MonkeyPatch, engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    asked, make = [], make_predictor
    monkeypatch.setattr(
        "bccdist.speedups.settled_way.make_predictor",
        lambda network, method, **how: (asked.append(method.engine), make(network, method, **how))[1],
    )
    with_certificate(monkeypatch, _CERTIFICATE)
    assert ready(network, config=replace(_CERTIFIED, engine=engine)).method.engine == "eager"
    assert asked == [engine]
    assert "the fast way is dense float32 eager, certified within d = 9 with confidence 0.95; what is computed " in (
        caplog.text
    )
    assert f"exactly is so by float32 {engine}" in caplog.text


@pytest.mark.parametrize(
    "change", [{"levels": 10}, {"confidence": 0.9}, {"t_p": 0.65}, {"t_a_um2": 3840.0}, {"psi": "psi_0"}]
)
def test_what_is_promised_names_the_heatmap(
    network: DeeplySupervisedUNet, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    names = []
    for certificate in (_CERTIFICATE, replace(_CERTIFICATE, **change)):
        with_certificate(monkeypatch, certificate)
        choice = replace(_CHOICE, t_p=certificate.t_p, t_a_um2=certificate.t_a_um2)
        names.append(ready(network, choice).names_heatmap["certificate"])
    assert names[0] != names[1]
    other_share = ready(network, choice, replace(_CERTIFIED, check_share=0.2)).names_heatmap["certificate"]
    assert other_share != names[1]


def test_a_way_that_ends_early_gives_the_final_output_too(
    network: DeeplySupervisedUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = replace(_CERTIFICATE, method=Method(engine="eager", exit="psi_0"), psi="psi_0")
    with_certificate(monkeypatch, early)
    way = ready(network)
    assert isinstance(way.predictor, EarlyPredictor)
    assert way.predictor.outputs == ("psi_0", "psi_4")
    found = way.predictor(torch.zeros((1, 512, 512, 3), dtype=torch.uint8))
    assert torch.equal(found["psi_4"][:, ::16, ::16], found["psi_0"])


def test_without_a_choice_nothing_can_be_certified(network: DeeplySupervisedUNet) -> None:
    for choice in (None, replace(_CHOICE, epoch=2)):
        with pytest.raises(
            ConfigurationError, match="nothing was chosen for epoch 3 of resnet34_ds; run the selection"
        ):
            ready(network, choice)


def test_why_nothing_can_be_certified_is_said(network: DeeplySupervisedUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    with_certificate(monkeypatch, NoCertificate("5 slides were calibrated"))
    with pytest.raises(ConfigurationError, match="5 slides were calibrated; or ask for inference exact"):
        ready(network)


def test_a_missing_record_is_the_reason(network: DeeplySupervisedUNet) -> None:
    with pytest.raises(ConfigurationError, match=r"launch_calibrate\.py"):
        ready(network)


@pytest.mark.parametrize("change", [{"t_p": 0.5}, {"t_a_um2": 3840.0}, {"area_unit": "nominal"}])
def test_a_record_for_other_thresholds_certifies_nothing(
    network: DeeplySupervisedUNet, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    with_certificate(monkeypatch, _CERTIFICATE)
    with pytest.raises(ConfigurationError, match=r"were chosen since; run `python jobs/launch_calibrate\.py` again"):
        ready(network, replace(_CHOICE, **change))
