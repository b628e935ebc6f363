"""Slides and weights to heatmaps and ledger rows (paper, section 2.4): the work of the inference job's process."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from bccdist.configuration import InferConfig, Setting
from bccdist.errors import ConfigurationError, NotFiniteError
from bccdist.freed_memory import keep_freed_memory
from bccdist.heatmaps.predict import PredictionTally
from bccdist.heatmaps.predictors import CascadePredictor, load_for_heatmaps
from bccdist.heatmaps.store import Heatmap, remove_leftovers
from bccdist.heatmaps.writing import HeatmapOrder
from bccdist.log import LOG
from bccdist.models.model_file import read_model
from bccdist.models.reference import quality_limits
from bccdist.networks.weights import weights_digest
from bccdist.paths import StudyPaths
from bccdist.remote.files import fingerprint_of
from bccdist.sections.assessable import QualityLimits
from bccdist.sections.choices import Choice, Thresholds, choice_for
from bccdist.sections.ledger import write_rows
from bccdist.sections.marking import MarkedSlide, SettledOrder, mark_slide
from bccdist.sections.verdicts import ReachedBy
from bccdist.slide_runner import SlideDone, SlideWork
from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord, read_manifest
from bccdist.speedups.resolving import ReadyWay
from bccdist.speedups.settled_way import ready_for
from bccdist.stages.inference_identity import (
    InferenceIdentity,
    are_rows_done,
    fingerprint_in_rows,
    inference_digest,
    is_heatmap_done,
    sections_digest,
)


@dataclass(frozen=True, kw_only=True)
class _Network:
    """The weights of one epoch, ready to make heatmaps."""

    way: ReadyWay
    weights_digest: str
    phantom: bool
    """Whether it was trained on drawn slides."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What all slides of one call share."""

    manifest: Manifest
    paths: StudyPaths
    setting: Setting
    config: InferConfig
    networks: Mapping[int, _Network]
    """Networks by epoch; all see the same patches."""
    target_mpp: float
    """Resolution that the networks were trained at, in um per pixel."""
    device: torch.device
    choice: Choice | None
    """What is chosen for the setting; None where nothing is."""
    limits: QualityLimits | None
    """Of a cohort: what a section may be like to be assessable by its model; None in a study."""


@dataclass(frozen=True, kw_only=True)
class _SlideWork:
    """What is asked for, and what of it is still to be done, for one slide."""

    record: SlideRecord
    sections: Sequence[SectionRecord]
    identities: Mapping[int, InferenceIdentity]
    """What names each epoch's results."""
    epochs_to_predict: Sequence[int]
    epochs_to_enter: Sequence[int]
    """Epochs whose rows are missing in the ledger; also those whose heatmap is there already."""
    epochs_to_forget: Sequence[int]
    """Epochs whose heatmap was certified for other thresholds than those that are chosen now."""


def open_inference(
    manifest_path: Path,
    slide_ids: Sequence[str],
    study_root: Path,
    setting: Setting,
    epochs: Sequence[int],
    config: InferConfig,
) -> SlideWork:
    """The work of one process: networks are loaded once, and each slide is read once for all epochs.

    Args:
        manifest_path: the study's slides.csv.
        slide_ids: the slides that may be asked for.
        study_root: the study's folder.
        setting: whose weights.
        epochs: which of the kept ones.
        config: how.

    Returns:
        From a slide_id to what was done: heatmaps and ledger rows; what is done already is left as it is.

    Raises:
        ManifestError: a slide is unknown.
        CheckpointError: weights are missing or damaged.
        ConfigurationError: the weights belong to another setting; what is asked for needs a speed-up record that is
            not there, or is not possible here; or a result that is there was made from something else.
    """
    keep_freed_memory()
    job = _open_job(manifest_path, StudyPaths(study_root), setting, epochs, config)
    # All slides, before work on the first: a result that was made from something else stops all of it.
    plan = {slide_id: _plan_slide(job, job.manifest.slide(slide_id)) for slide_id in slide_ids}

    def infer(slide_id: str) -> str | SlideDone:
        work = plan[slide_id]
        if isinstance(work, OSError):
            raise work
        return _infer_slide(job, work)

    return infer


def _open_job(
    manifest_path: Path, paths: StudyPaths, setting: Setting, epochs: Sequence[int], config: InferConfig
) -> _Job:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = paths.run(setting)
    networks, resolutions = {}, {}
    choice = choice_for(paths, setting)
    for epoch in epochs:
        network, resolutions[epoch], phantom = load_for_heatmaps(run.weights(epoch), setting)
        digest = weights_digest(run.weights(epoch))
        try:
            way = ready_for(network, run, epoch, config, device, digest=digest, choice=choice)
        except NotFiniteError as error:
            raise NotFiniteError(f"{run.weights(epoch)}: {error}") from error
        networks[epoch] = _Network(way=way, weights_digest=digest, phantom=phantom)
    return _Job(
        manifest=read_manifest(manifest_path, files_must_exist=False),
        paths=paths,
        setting=setting,
        config=config,
        networks=_with_same_patches(networks),
        target_mpp=_same_target_mpp(resolutions),
        device=device,
        choice=choice,
        limits=_limits(paths),
    )


def _limits(paths: StudyPaths) -> QualityLimits | None:
    """What a cohort's model says of assessable sections; None for a study, whose sections are the reference."""
    if not paths.model.exists():
        return None
    limits = quality_limits(read_model(paths.model))
    if limits.warning:
        LOG.warning(limits.warning)
    return limits


def _with_same_patches(networks: Mapping[int, _Network]) -> Mapping[int, _Network]:
    """All networks see the same patches, since a slide is read once for all of them."""
    methods = {epoch: network.way.method for epoch, network in networks.items()}
    if len({(method.tiling, method.halo_px) for method in methods.values()}) > 1:
        raise ConfigurationError(
            f"the epochs' speed-up records give them different patches: {methods}; name one epoch"
        )
    return networks


def _same_target_mpp(by_epoch: Mapping[int, float]) -> float:
    """The one resolution of all networks, which share the patches."""
    first, *others = set(by_epoch.values())
    if others:
        raise ConfigurationError(f"the epochs were trained at different um per pixel: {dict(by_epoch)}")
    return first


def _plan_slide(job: _Job, record: SlideRecord) -> _SlideWork | OSError:
    """What is to be done for a slide, or why its file or its results cannot be read.

    Raises:
        ConfigurationError: a result that is there was made from something else.
    """
    try:
        return _work_of(job, record)
    except OSError as error:
        return error


def _work_of(job: _Job, record: SlideRecord) -> _SlideWork:
    sections = job.manifest.sections_of(record.slide_id)
    fingerprint, why_gone = _fingerprint(job, record)
    identities = {
        epoch: InferenceIdentity(
            weights_digest=network.weights_digest,
            config_digest=inference_digest(
                network.way.names_heatmap, record, target_mpp=job.target_mpp, mpp_tolerance=job.config.mpp_tolerance
            ),
            slide_fingerprint=fingerprint,
            sections_digest=sections_digest(record, sections),
        )
        for epoch, network in job.networks.items()
    }
    to_predict, to_enter, to_forget = [], [], []
    for epoch, identity in identities.items():
        heatmap = job.paths.heatmap(job.setting, epoch, record.slide_id)
        try:
            has_rows = are_rows_done(job.paths.ledger_rows(job.setting, epoch, record.slide_id), identity)
            # Rows are written after their heatmap: where there are some, the file is whole, if nobody removed it.
            has_heatmap = heatmap.exists() if has_rows else is_heatmap_done(heatmap, identity)
        except ConfigurationError:
            if not _is_for_other_thresholds(heatmap, identity, job.choice):
                raise
            has_rows = has_heatmap = False
            to_forget.append(epoch)
        if not has_heatmap:
            to_predict.append(epoch)
        if not (has_rows and has_heatmap):
            to_enter.append(epoch)
    if to_enter and why_gone is not None:
        raise why_gone
    return _SlideWork(
        record=record,
        sections=sections,
        identities=identities,
        epochs_to_predict=to_predict,
        epochs_to_enter=to_enter,
        epochs_to_forget=to_forget,
    )


def _is_for_other_thresholds(path: Path, identity: InferenceIdentity, choice: Choice | None) -> bool:
    """Whether a heatmap of these weights and this slide was certified for thresholds that are not chosen any more.

    Nothing is claimed of it then, and what is asked for may take its place. One that was made with another confidence
    or in another way holds what it promised, and stays.
    """
    if choice is None or choice.weights_digest != identity.weights_digest or not path.exists():
        return False
    there = Heatmap(path).attributes
    if there.certificate is None or there.weights_digest != identity.weights_digest:
        return False
    is_same_slide = there.slide_fingerprint == identity.slide_fingerprint
    return is_same_slide and Thresholds.of(there.certificate) != Thresholds.of(choice)


def _forget(job: _Job, work: _SlideWork) -> None:
    """Remove what was certified for other thresholds, rows first, so that none is left without its heatmap."""
    for epoch in work.epochs_to_forget:
        job.paths.ledger_rows(job.setting, epoch, work.record.slide_id).unlink(missing_ok=True)
        job.paths.heatmap(job.setting, epoch, work.record.slide_id).unlink(missing_ok=True)
        LOG.info(
            f"{work.record.slide_id}: epoch {epoch} was certified for thresholds that are not chosen any more; it is "
            "made anew"
        )


def _fingerprint(job: _Job, record: SlideRecord) -> tuple[str, OSError | None]:
    """What names a slide's file; of one that has gone what its rows say, with the error.

    Raises:
        OSError: the file cannot be read, or has gone and nothing was made of it.
    """
    try:
        return fingerprint_of(record.path), None
    except FileNotFoundError as error:
        for epoch in job.networks:
            path = job.paths.ledger_rows(job.setting, epoch, record.slide_id)
            if (fingerprint := fingerprint_in_rows(path)) is not None:
                return fingerprint, error
        raise


def _infer_slide(job: _Job, work: _SlideWork) -> str | SlideDone:
    """Heatmaps, then ledger rows of one slide.

    Returns:
        what was done, with its time where heatmaps were made.
    """
    started = perf_counter()
    if not work.epochs_to_enter:
        return "done before"
    record, config, seen_before = work.record, job.config, _undecided(job)
    _forget(job, work)
    plain = [epoch for epoch in work.epochs_to_predict if job.networks[epoch].way.settling is None]
    marked = mark_slide(
        record,
        work.sections,
        [_order(job, work, epoch) for epoch in plain],
        target_mpp=job.target_mpp,
        mpp_tolerance=config.mpp_tolerance,
        batch=config.batch,
        device=job.device,
        settled=_settled_order(job, work),
    )
    reached: Counter[str] = Counter()
    # The rows come from the files, so that rows of a heatmap that was there before are made in the same way.
    for epoch in work.epochs_to_enter:
        heatmap = Heatmap(job.paths.heatmap(job.setting, epoch, record.slide_id))
        rows = list(marked.rows(heatmap, phantom_weights=job.networks[epoch].phantom, limits=job.limits))
        reached.update(row["reached_by"] for row in rows if row["is_final"])
        write_rows(
            job.paths.ledger_rows(job.setting, epoch, record.slide_id),
            rows,
            metadata=work.identities[epoch].as_metadata,
        )
        remove_leftovers(heatmap.path)
    patches, undecided = (now - before for now, before in zip(_undecided(job), seen_before, strict=True))
    total_s = perf_counter() - started
    return _outcome(marked, total_s, reached, patches=patches, undecided=undecided)


def _order(job: _Job, work: _SlideWork, epoch: int) -> HeatmapOrder:
    network = job.networks[epoch]
    return HeatmapOrder(
        path=job.paths.heatmap(job.setting, epoch, work.record.slide_id),
        setting=job.setting,
        epoch=epoch,
        predictor=network.way.predictor,
        method=network.way.method,
        **work.identities[epoch].of_heatmap,
    )


def _settled_order(job: _Job, work: _SlideWork) -> SettledOrder | None:
    """The heatmap that is made in a fast way and settled, of the one epoch that was chosen; None where none is."""
    for epoch in work.epochs_to_enter:
        if (settling := job.networks[epoch].way.settling) is not None:
            is_there = epoch not in work.epochs_to_predict
            return SettledOrder(order=_order(job, work, epoch), settling=settling, is_there=is_there)
    return None


def _undecided(job: _Job) -> tuple[int, int]:
    """Patches that cascades have seen so far, and those of them whose later blocks were computed."""
    predictors = [network.way.predictor for network in job.networks.values()]
    cascades = [predictor for predictor in predictors if isinstance(predictor, CascadePredictor)]
    return sum(each.num_patches for each in cascades), sum(each.num_undecided for each in cascades)


def _outcome(
    marked: MarkedSlide, total_s: float, reached: Mapping[str, int], *, patches: int, undecided: int
) -> str | SlideDone:
    """What a slide took, in one line; patches of cascades, and the undecided ones among them."""
    num_sections, tally = len(marked.sections), marked.tally
    if marked.exact_tally is not None:
        return _settled_outcome(marked, marked.exact_tally, reached, total_s)
    num_networks = len(tally.network_s)
    if not num_networks:
        return f"{_told(num_sections)} from heatmaps that were there, {total_s:.1f} s"
    times = f" x {num_networks} epochs" if num_networks > 1 else ""
    cascade = f", {undecided / patches:.0%} of the patches undecided by psi_0" if patches else ""
    unread = f", {tally.reading.num_unread_cells} cells UNREADABLE" if tally.reading.num_unread_cells else ""
    text = (
        f"{_told(num_sections)}, {tally.num_patches} patches{times}, {total_s:.1f} s "
        f"({tally.reading.read_s:.1f} s reading), {tally.num_patches * num_networks / total_s:.0f} patches/s"
        f"{cascade}{unread}{marked.log_of_reading}"
    )
    return SlideDone(text, read_s=tally.reading.read_s, num_epochs=num_networks)


def _settled_outcome(
    marked: MarkedSlide, exact: PredictionTally, reached: Mapping[str, int], total_s: float
) -> str | SlideDone:
    """What a slide took whose verdicts were certified; `reached` counts sections by how their verdict was reached."""
    ways = ", ".join(f"{num} {name}" for name in ReachedBy if (num := reached.get(name.value, 0)))
    fast = marked.tally
    read_s = fast.reading.read_s + exact.reading.read_s
    unread = max(fast.reading.num_unread_cells, exact.reading.num_unread_cells)
    lost = f", {unread} cells UNREADABLE" if unread else ""
    text = (
        f"{_told(len(marked.sections))}{f' ({ways})' if ways else ''}, {fast.num_patches} patches in the fast way, "
        f"{exact.num_patches} exactly, {total_s:.1f} s ({sum(fast.network_s):.1f} s fast, "
        f"{sum(exact.network_s):.1f} s exact, {read_s:.1f} s reading){lost}{marked.log_of_reading}"
    )
    is_new = bool(fast.num_patches or exact.num_patches)
    return SlideDone(text, read_s=read_s) if is_new else text


def _told(num_sections: int) -> str:
    """The number of sections; a slide that will have no row in any table is told aloud."""
    return f"{num_sections} sections" if num_sections else "NO SECTION: no tissue was found; look at the slide"
