"""The way that a configuration means, with the exact way beside a fast one whose verdicts are certified."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from bccdist.configuration import InferConfig
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.certificate import HeatmapCertificate
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import SlidePass
from bccdist.heatmaps.predictors import EarlyPredictor, make_predictor
from bccdist.heatmaps.store import Heatmap
from bccdist.log import LOG
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.paths import RunPaths
from bccdist.sections.choices import Choice, Thresholds
from bccdist.sections.settling import Settling
from bccdist.slides.colours import tissue_colours
from bccdist.slides.slide import Slide
from bccdist.speedups.certifying import Certificate, NoCertificate, ready_certificate
from bccdist.speedups.resolving import ReadyWay, ready_way
from bccdist.speedups.traits import traits_of, why_outside


def ready_for(
    network: DeeplySupervisedUNet,
    run: RunPaths,
    epoch: int,
    config: InferConfig,
    device: torch.device,
    *,
    digest: str,
    choice: Choice | None,
) -> ReadyWay:
    """Make a network ready by its configuration: in one way, or in a fast one with the exact one beside it.

    Args:
        network: in evaluation mode; not changed.
        run: the training run that holds its weights.
        epoch: of the weights.
        config: what is asked for.
        device: where the network runs.
        digest: of the weights.
        choice: the thresholds that verdicts are to be certified for; None where there are none yet.

    Raises:
        ConfigurationError: what is asked for needs thresholds or a speed-up record that are not there, that do not
            suit this machine, or that certify nothing.
        NotFiniteError: the network's numbers are not finite, or may not stay so.
    """
    if not config.is_certified:
        return ready_way(network, run, epoch, config, device, digest=digest)
    if choice is None or choice.epoch != epoch:
        raise ConfigurationError(
            f"inference is certified, which is for the epoch and thresholds that the selection chose, but nothing was "
            f"chosen for epoch {epoch} of {network.setting}; run the selection first, or ask for inference exact"
        )
    found = ready_certificate(network, run, epoch, config.confidence, device, digest=digest)
    if isinstance(found, NoCertificate):
        raise ConfigurationError(f"inference is certified, but {found.reason}; or ask for inference exact")
    certificate = found.certificate
    _require_thresholds(certificate, choice)
    exact = Method.of(config, device, encoder=network.encoder_name)
    settling = Settling(
        certificate=HeatmapCertificate(
            way=" ".join(
                filter(None, (certificate.method.tiling, str(certificate.method.arithmetic), _end(certificate)))
            ),
            psi=certificate.psi,
            t_p=certificate.t_p,
            t_a_um2=certificate.t_a_um2,
            area_unit=certificate.area_unit,
            levels=certificate.levels,
            confidence=certificate.confidence,
            num_slides=certificate.num_slides,
            check_share=config.check_share,
        ),
        exact=SlidePass(
            predictors=[make_predictor(network, exact, device=device, int8_file=partial(run.int8_model, epoch))],
            blending=exact.blending,
            batch=config.batch,
            device=device,
        ),
        why_outside=partial(_why_outside, certificate),
    )
    LOG.info(
        f"epoch {epoch}: the fast way is {settling.certificate.way}, certified within d = {certificate.levels} with "
        f"confidence {certificate.confidence:g}; what is computed exactly is so by {exact.arithmetic}"
    )
    predictor = found.predictor
    if certificate.method.exit:
        predictor = EarlyPredictor(predictor, final=network.outputs[-1])
    return ReadyWay(certificate.method, predictor, settling)


def _end(certificate: Certificate) -> str:
    return f"to {certificate.method.exit}" if certificate.method.exit else ""


def _require_thresholds(certificate: Certificate, choice: Choice) -> None:
    """Refuse a calibration at other thresholds than those that are in force: it certifies other verdicts."""
    if reason := Thresholds.of(certificate).why_others(choice):
        raise ConfigurationError(
            f"the speed-up record of {choice.setting}, epoch {choice.epoch}, {reason}; or ask for inference exact"
        )


def _why_outside(certificate: Certificate, slide: Slide, tissue: NDArray[np.bool_], heatmap: Heatmap) -> str:
    """Why a slide is unlike those that were calibrated; empty where it is like them."""
    traits = traits_of(heatmap, certificate.psi, tissue_colours(slide, tissue))
    return why_outside(traits, certificate.ranges)
