"""A model's network on this machine, and slides through it: what `Model.predict` does once torch is needed."""

import gc
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bccdist.configuration import InferConfig, outputs_of
from bccdist.errors import ConfigurationError, ModelError, NotFiniteError
from bccdist.freed_memory import keep_freed_memory
from bccdist.heatmaps.store import Heatmap, remove_leftovers
from bccdist.heatmaps.writing import HeatmapOrder
from bccdist.library.found import Found
from bccdist.log import LOG
from bccdist.models.cohort import lacks_of_model
from bccdist.models.description import Description
from bccdist.models.model_file import SPEEDUPS, ModelFile
from bccdist.models.network import load_network_of
from bccdist.models.reference import choice_of, quality_limits
from bccdist.paths import RunPaths
from bccdist.remote.files import fingerprint_of
from bccdist.sections.assessable import QualityLimits
from bccdist.sections.ledger import table_of
from bccdist.sections.marking import SettledOrder, mark_slide
from bccdist.slides.manifest import SlideRecord
from bccdist.speedups.record import MEASURE_HERE
from bccdist.speedups.resolving import ReadyWay
from bccdist.speedups.settled_way import ready_for
from bccdist.stages.inference_identity import InferenceIdentity, inference_digest, is_heatmap_done, sections_digest


@dataclass(frozen=True, kw_only=True)
class ReadyNetwork:
    """A model's network in one way of inference, on the device."""

    description: Description
    config: InferConfig
    way: ReadyWay
    device: torch.device
    limits: QualityLimits
    """What a section may be like to be assessable."""

    def identity(self, record: SlideRecord) -> InferenceIdentity:
        """What names the slide's heatmap, as it does in a study.

        Raises:
            OSError: the slide's file cannot be read.
        """
        facts = self.description.network
        return InferenceIdentity(
            weights_digest=facts.weights_digest,
            config_digest=inference_digest(
                self.way.names_heatmap,
                record,
                target_mpp=facts.target_mpp,
                mpp_tolerance=self.config.mpp_tolerance,
            ),
            slide_fingerprint=fingerprint_of(record.path),
            sections_digest=sections_digest(record, []),
        )


def device_of(name: str | None) -> torch.device:
    """The device of a name such as `cpu`, `cuda` or `cuda:1`; None is a GPU where there is one.

    Raises:
        ConfigurationError: no such device is here.
    """
    num_gpus = torch.cuda.device_count()
    if name is None:
        return torch.device("cuda" if num_gpus else "cpu")
    known = ["cpu", *(["cuda"] if num_gpus else []), *(f"cuda:{number}" for number in range(num_gpus))]
    if name not in known:
        raise ConfigurationError(f"device is {name!r}, expected one of {', '.join(known)}, which are on this machine")
    return torch.device(name)


def ready_network(model: ModelFile, config: InferConfig, device: torch.device, folder: Path) -> ReadyNetwork:
    """Load a model's network for one way of inference.

    Args:
        model: the model.
        config: how.
        device: where.
        folder: for the model's speed-up records and int8 models, as long as the network is used.

    Raises:
        ModelError: the model does not fit this version, or holds no speed-up record of what is asked for.
        ConfigurationError: what is asked for is not possible here, or leaves out the output that decides.
        CheckpointError: the weights are not what this version can read.
        NotFiniteError: the network's numbers are not finite.
    """
    _require_fit(model, config)
    keep_freed_memory()
    facts = model.description.network
    run = RunPaths(folder)
    if config.needs_speedups:
        _unpack_speedups(model, run)
    try:
        way = ready_for(
            load_network_of(model),
            run,
            facts.epoch,
            config,
            device,
            digest=facts.weights_digest,
            choice=choice_of(model.description),
        )
    except NotFiniteError as error:
        raise NotFiniteError(f"{model.path}: {error}") from error
    limits = quality_limits(model)
    if limits.warning:
        LOG.warning(f"{model.path}: {limits.warning}")
    return ReadyNetwork(description=model.description, config=config, way=way, device=device, limits=limits)


def give_back() -> None:
    """Return to the GPU what networks that are gone have used of its memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _require_fit(model: ModelFile, config: InferConfig) -> None:
    """Refuse a model that this version cannot be true to, or a way that leaves out the output that decides."""
    if lacks := lacks_of_model(model):
        raise ModelError("; ".join(lacks))
    facts = model.description
    kept = ("psi_0",) if config.exit == "psi_0" else outputs_of(facts.network.setting)
    if facts.selection.psi not in kept:
        raise ConfigurationError(
            f"exit is {config.exit!r}, which leaves out {facts.selection.psi}, by which {model.path} decides; let the "
            "network run to its end"
        )


def _unpack_speedups(model: ModelFile, run: RunPaths) -> None:
    """Lay a model's speed-up records and int8 models where those of a run lie.

    Raises:
        ModelError: it holds no record.
    """
    names = [name for name in model.names() if name.startswith(SPEEDUPS)]
    if not names:
        raise ModelError(f"{model.path}: holds no speed-up record, which what is asked for needs; {MEASURE_HERE}")
    folder = run.speedups(model.description.network.epoch, "cpu").parent
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name.removeprefix(SPEEDUPS)).write_bytes(model.read(name))


def find_on_slide(
    network: ReadyNetwork, record: SlideRecord, *, out: Path | None, told: Callable[[float], None]
) -> Found:
    """Take a slide through the network: the inference stage's own path (`bccdist.sections.marking`).

    Args:
        network: a model's.
        record: the slide's.
        out: folder of the heatmaps; None is a temporary one. A heatmap of the same slide, weights and method that is
            there already is not made again.
        told: called with the share of the tissue that is done, 0 to 1.

    Raises:
        SlideError: the slide cannot be read, or has no um/px that the network can be shown.
        HeatmapError: the heatmaps cannot be written.
        ConfigurationError: at their place lie others.
        NotFiniteError: the network gave something else than probabilities.
    """
    identity = network.identity(record)
    temporary = Path(tempfile.mkdtemp(prefix="bccdist-found-")) if out is None else None
    try:
        path = (out or temporary or Path()) / f"{record.slide_id}.ozx"
        return _found(network, record, identity, path, temporary=temporary, told=told)
    except BaseException:
        # Also where somebody interrupts: nobody has what would remove it later.
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        raise


def _found(
    network: ReadyNetwork,
    record: SlideRecord,
    identity: InferenceIdentity,
    path: Path,
    *,
    temporary: Path | None,
    told: Callable[[float], None],
) -> Found:
    choice = choice_of(network.description)
    order = HeatmapOrder(
        path=path,
        setting=network.description.network.setting,
        epoch=choice.epoch,
        predictor=network.way.predictor,
        method=network.way.method,
        **identity.of_heatmap,
    )
    is_there = is_heatmap_done(path, identity)
    settling = network.way.settling
    marked = mark_slide(
        record,
        [],
        [] if is_there or settling else [order],
        target_mpp=network.description.network.target_mpp,
        mpp_tolerance=network.config.mpp_tolerance,
        batch=network.config.batch,
        device=network.device,
        settled=SettledOrder(order=order, settling=settling, is_there=is_there) if settling else None,
        told=told,
    )
    rows = marked.rows(Heatmap(path), phantom_weights=choice.phantom_weights, limits=network.limits)
    ledger = table_of(rows, where=path)
    remove_leftovers(path)
    return Found(marked, ledger, choice, network.description.selection.psi, path=path, temporary=temporary)
