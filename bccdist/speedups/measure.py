"""The job that measures how faster ways of inference differ from the paper's, on Validation I.

The reference is float32 eager with the paper's tiling. Every other way makes the same slides' heatmaps in the same
run; what is compared are stored probabilities and the verdicts at the selection's thresholds.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bccdist.configuration import CELL_PX, Setting, SpeedupsConfig
from bccdist.heatmaps.layout import PAPER, Layout, place_patches
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import Predictor
from bccdist.heatmaps.predictors import load_for_heatmaps, make_predictor
from bccdist.heatmaps.store import Heatmap
from bccdist.heatmaps.writing import HeatmapOrder, cells_of, write_heatmaps
from bccdist.log import LOG
from bccdist.machine import keep_freed_memory
from bccdist.networks.block_costs import first_block_share, output_costs
from bccdist.networks.engines import candidates
from bccdist.networks.receptive_field import effective_receptive_field
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import weights_digest
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.slides.manifest import Manifest, SlideRecord, read_manifest
from bccdist.slides.sections import have_boxes, sections_of
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask
from bccdist.speedups.bands import BandView, Remembered, bands
from bccdist.speedups.comparing import Comparison, verdicts_by_name
from bccdist.speedups.probes import machine_of, probe_sha256
from bccdist.speedups.record import (
    MeasuredBand,
    MeasuredOutput,
    MeasuredWay,
    SpeedupRecord,
    Thresholds,
    report_lines,
    write_speedups,
)
from bccdist.speedups.samples import halo_of, int8_origin, kept_int8_models, make_int8_models, sample_patches


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What all slides share."""

    manifest: Manifest
    records: Sequence[SlideRecord]
    run: RunPaths
    epoch: int
    network: DeeplySupervisedUNet
    target_mpp: float
    thresholds: Thresholds
    config: SpeedupsConfig
    device: torch.device

    def open(self, record: SlideRecord) -> Slide:
        return Slide(record.path, target_mpp=self.target_mpp, tolerance=self.config.mpp_tolerance, mpp=record.mpp)

    def predictor(self, method: Method) -> Predictor:
        int8_file = partial(self.run.int8_model, self.epoch)
        return make_predictor(self.network, method, device=self.device, int8_file=int8_file)


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """A way or a band that is tried, and what was found of it so far."""

    method: Method
    predictor: Predictor
    found: Comparison = field(default_factory=Comparison)


@dataclass(kw_only=True)
class _Counts:
    """What the slides hold, whatever the way."""

    num_patches: int = 0
    """Patches of the paper's tiling."""
    num_sections: int = 0
    tissue_mpx: float = 0.0


def measure_speedups(
    manifest_path: Path,
    study_root: Path,
    setting: Setting,
    epoch: int,
    thresholds: Thresholds,
    config: SpeedupsConfig,
) -> SpeedupRecord:
    """Measure every way of inference that is possible here, and write the record beside the weights.

    Args:
        manifest_path: the study's slides.csv.
        study_root: the study's folder.
        setting: whose weights.
        epoch: the one that the selection chose.
        thresholds: at which verdicts are compared.
        config: how many slides and patches.

    Returns:
        The record, which is written to `RunPaths.speedups` in the end.

    Raises:
        ConfigurationError: no slide of Validation I has tissue.
        SlideError: a slide of Validation I cannot be read.
        CheckpointError: the weights are missing or damaged.
    """
    keep_freed_memory()
    work = _open_work(manifest_path, StudyPaths(study_root).run(setting), setting, epoch, thresholds, config)
    record = _measure(work)
    write_speedups(work.run.speedups(epoch, record.machine.key), record)
    for line in report_lines(record):
        LOG.info(line)
    return record


def _measure(work: _Work) -> SpeedupRecord:
    network, config = work.network, work.config
    spread = sample_patches(work.records, work.open, config.num_samples, sections=work.manifest.sections_of)
    samples = spread.to(work.device)
    fields = effective_receptive_field(network, samples[: config.num_field_samples])
    halo_px = halo_of(fields)
    LOG.info(
        f"{network.setting}, epoch {work.epoch}: 99.9 % of what {fields} see; dense patches get {halo_px} px of halo"
    )
    # float32 eager comes first: it is the reference of all others, and the bands of the cascade look at it.
    paper = [Method(precision=way.precision, engine=way.engine) for way in candidates(work.device)]
    methods = [*paper, *(replace(method, tiling="dense", halo_px=halo_px) for method in paper)]
    origin = int8_origin(samples)
    int8_sha256 = _int8_models(work, methods, samples, origin)
    ways, reference = _ways(work, methods)
    views = [BandView(reference, band) for band in (bands() if "psi_0" in reference.outputs else [])]
    cascades = [_Tried(method=replace(methods[0], band=view.band), predictor=view) for view in views]
    counts = _measure_slides(work, [*ways, *cascades])
    return SpeedupRecord(
        setting=network.setting,
        epoch=work.epoch,
        weights_digest=weights_digest(work.run.weights(work.epoch)),
        thresholds=work.thresholds,
        machine=machine_of(work.device),
        slide_ids=tuple(record.slide_id for record in work.records),
        num_sections=counts.num_sections,
        num_patches=counts.num_patches,
        receptive_field_px=fields,
        halo_px=halo_px,
        ways=tuple(_as_way(way, counts, work.device) for way in ways),
        bands=_as_bands(network, views, cascades, counts),
        outputs=_outputs(network, samples, batch=config.batch),
        int8_sha256=int8_sha256,
        int8_origin=origin,
    )


def _open_work(
    manifest_path: Path, run: RunPaths, setting: Setting, epoch: int, thresholds: Thresholds, config: SpeedupsConfig
) -> _Work:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, target_mpp, _ = load_for_heatmaps(run.weights(epoch), setting)
    manifest = read_manifest(manifest_path, files_must_exist=False)
    return _Work(
        manifest=manifest,
        records=manifest.slides_of([Part.VALIDATION_1])[: config.max_slides],
        run=run,
        epoch=epoch,
        network=network.to(device),
        target_mpp=target_mpp,
        thresholds=thresholds,
        config=config,
        device=device,
    )


def _int8_models(work: _Work, methods: Sequence[Method], samples: Tensor, origin: str) -> dict[str, str]:
    """Make the int8 models where a way needs them and another machine has not; returns a digest of each."""
    if not any(method.precision == "int8" for method in methods):
        return {}
    digest = weights_digest(work.run.weights(work.epoch))
    if kept := kept_int8_models(work.run, work.epoch, weights_digest=digest, origin=origin):
        LOG.info(f"int8 models are there, of the same patches: {', '.join(kept)}")
        return kept
    digests = make_int8_models(work.run, work.epoch, work.network, samples)
    LOG.info(f"int8 models are made: {', '.join(digests)}")
    return digests


def _ways(work: _Work, methods: Sequence[Method]) -> tuple[list[_Tried], Remembered]:
    """The ways that are tried; the first one is the reference, which the bands of the cascade look at."""
    reference = Remembered(work.predictor(methods[0]))
    predictors = [reference, *(work.predictor(method) for method in methods[1:])]
    return [_Tried(method=way, predictor=each) for way, each in zip(methods, predictors, strict=True)], reference


def _measure_slides(work: _Work, tried: Sequence[_Tried]) -> _Counts:
    """Make the heatmaps of all slides in every way, and compare them with the first one's."""
    counts = _Counts()
    for number, record in enumerate(work.records, start=1):
        with tempfile.TemporaryDirectory(prefix="bccdist-speedups-") as folder, work.open(record) as slide:
            _measure_slide(work, record, slide, tried, counts, folder=Path(folder))
        changed = sum(len(each.found.changed_verdicts) for each in tried if each.method.band is None)
        LOG.info(
            f"slide {number}/{len(work.records)} {record.slide_id}: {changed} verdicts changed in all ways so far"
        )
    return counts


def _measure_slide(
    work: _Work, record: SlideRecord, slide: Slide, tried: Sequence[_Tried], counts: _Counts, *, folder: Path
) -> None:
    records = work.manifest.sections_of(record.slide_id)
    tissue = tissue_mask(slide, for_sections=not have_boxes(records))
    cells = cells_of(slide, tissue)
    counts.num_patches += sum(len(row.cols) for row in place_patches(cells, PAPER))
    counts.tissue_mpx += int(cells.sum()) * CELL_PX**2 / 1e6
    orders = [
        HeatmapOrder(
            path=folder / f"{number}.ozx",
            setting=work.network.setting,
            epoch=work.epoch,
            predictor=each.predictor,
            method=each.method,
        )
        for number, each in enumerate(tried)
    ]
    # One pass for each tiling: the ways of a pass share what is read, so that only the network is compared.
    for tiling in ("paper", "dense"):
        here = [number for number, each in enumerate(tried) if each.method.tiling == tiling]
        together = [orders[number] for number in here]
        _warm_up(together, together[0].method.layout(cells), work)
        tally = write_heatmaps(slide, record, tissue, together, batch=work.config.batch, device=work.device)
        for number, network_s in zip(here, tally.network_s, strict=True):
            tried[number].found.network_s += network_s
    sections = sections_of(slide, record.slide_id, tissue, records)
    counts.num_sections += len(sections)
    heatmaps = [Heatmap(order.path) for order in orders]
    verdicts = [
        verdicts_by_name(heatmap, sections, tissue, part=record.part, thresholds=work.thresholds)
        for heatmap in heatmaps
    ]
    for each, heatmap, said in zip(tried, heatmaps, verdicts, strict=True):
        each.found.add(heatmaps[0], heatmap, t_p=work.thresholds.t_p)
        each.found.changed_verdicts += [name for name, verdict in said.items() if verdict != verdicts[0][name]]


def _warm_up(orders: Sequence[HeatmapOrder], layout: Layout, work: _Work) -> None:
    """Let engines do what they do once for patches of this size, so that it is not taken for their pace."""
    # On GPUs networks are compiled for a number of patches: for the one of a pass, where that costs next to nothing.
    num = layout.batch(work.config.batch) if work.device.type == "cuda" else 1
    patches = torch.zeros((num, layout.patch_px, layout.patch_px, 3), dtype=torch.uint8, device=work.device)
    for order in orders:
        if not isinstance(order.predictor, BandView):
            order.predictor(patches)


def _as_way(way: _Tried, counts: _Counts, device: torch.device) -> MeasuredWay:
    return MeasuredWay(
        tiling=way.method.tiling,
        precision=way.method.precision,
        engine=way.method.engine,
        mpx_per_s=counts.tissue_mpx / way.found.network_s,
        changed_verdicts=tuple(way.found.changed_verdicts),
        probe_sha256=probe_sha256(way.predictor, device),
        exit=way.method.exit,
        psi=way.predictor.outputs[-1],
        slide_levels=(),
        flip_levels=(),
        ranges={},
        **way.found.differences,
    )


def _as_bands(
    network: DeeplySupervisedUNet, views: Sequence[BandView], cascades: Sequence[_Tried], counts: _Counts
) -> tuple[MeasuredBand, ...]:
    # Once for all bands: counting runs a network.
    later_share = 1 - first_block_share(network) if views else 0.0
    undecided = [view.num_undecided / counts.num_patches for view in views]
    return tuple(
        MeasuredBand(
            low=view.band[0],
            high=view.band[1],
            undecided_share=share,
            saved_share=(1 - share) * later_share,
            changed_verdicts=tuple(cascade.found.changed_verdicts),
        )
        for view, cascade, share in zip(views, cascades, undecided, strict=True)
    )


def _outputs(network: DeeplySupervisedUNet, samples_NPP3: Tensor, *, batch: int) -> tuple[MeasuredOutput, ...]:
    costs = output_costs(network, samples_NPP3, batch=batch)
    return tuple(
        MeasuredOutput(psi=psi, patch_s=cost.patch_s, score_std=cost.score_std) for psi, cost in costs.items()
    )
