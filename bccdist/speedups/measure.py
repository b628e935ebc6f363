"""The job that measures how faster ways of inference differ from the paper's, on Validation I and II.

Every way is timed on a few slides of Validation I, where its pixels are compared with float32 eager and the paper's
tiling, made in the same run. What a certificate rests on is measured on all slides of Validation I and II: how far the
curves of their sections lie from the exact ones. That is done for one way of each kind (tiling, precision, exit), the
engine that was fastest; and the exact curves are those that the selection was made with, where they stand in the
ledger, so that the exact network, which takes most of the time, runs again on the few slides alone.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from bccdist.configuration import CELL_PX, Engine, InferConfig, Psi, Setting, SpeedupsConfig
from bccdist.durations import as_duration
from bccdist.errors import SlideError
from bccdist.freed_memory import keep_freed_memory
from bccdist.heatmaps.layout import PAPER, Layout, place_patches
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import Predictor
from bccdist.heatmaps.predictors import load_for_heatmaps, make_predictor
from bccdist.heatmaps.store import Heatmap
from bccdist.heatmaps.writing import HeatmapOrder, cells_of, write_heatmaps
from bccdist.log import LOG
from bccdist.networks.block_costs import first_block_share, output_costs
from bccdist.networks.engines import candidates
from bccdist.networks.receptive_field import effective_receptive_field
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import weights_digest
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.sections.choices import Thresholds
from bccdist.sections.rows import section_rows
from bccdist.slides.colours import tissue_colours
from bccdist.slides.manifest import Manifest, SlideRecord, read_manifest
from bccdist.slides.sections import have_boxes, sections_of
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask
from bccdist.speedups.bands import BandView, Remembered, bands
from bccdist.speedups.comparing import Comparison, SlideScore, score_of, verdicts_by_name
from bccdist.speedups.probes import machine_of, probe_sha256
from bccdist.speedups.record import (
    MeasuredBand,
    MeasuredOutput,
    MeasuredWay,
    SpeedupRecord,
    report_lines,
    write_speedups,
)
from bccdist.speedups.samples import halo_of, int8_origin, kept_int8_models, make_int8_models, sample_patches
from bccdist.speedups.telling import PassTold, text_of_fields, text_of_paces, text_of_rest
from bccdist.speedups.traits import ranges_of, traits_of

LedgerRow = Mapping[str, Any]
_SLOW: tuple[Engine, ...] = ("eager", "folded")
"""Engines that others outrun wherever these run."""
ExactRows = Callable[[SlideRecord, float], Sequence[LedgerRow] | None]
"""From a slide and the um/px of the network to its exact ledger rows; None where they have to be computed."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What all slides share."""

    manifest: Manifest
    run: RunPaths
    epoch: int
    network: DeeplySupervisedUNet
    target_mpp: float
    thresholds: Thresholds
    config: SpeedupsConfig
    device: torch.device
    exact_rows: ExactRows

    def slides_of(self, *parts: Part) -> list[SlideRecord]:
        """The slides of some parts that can be opened; the others are named in the log."""
        found = []
        for record in self.manifest.slides_of(list(parts)):
            try:
                self.open(record).close()
            except SlideError as error:
                LOG.warning(f"left out: {error}")
            else:
                found.append(record)
        return found

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
    scores: dict[str, SlideScore] = field(default_factory=dict)
    """By slide."""
    traits: list[dict[str, float]] = field(default_factory=list)

    def __str__(self) -> str:
        """The way in words, such as `dense int8 openvino`."""
        end = f" to {self.method.exit}" if self.method.exit else ""
        return f"{self.method.tiling} {self.method.arithmetic}{end}"

    @property
    def psi(self) -> Psi:
        """The output whose curves are held against the exact final one's."""
        return self.predictor.outputs[-1]

    @property
    def kind(self) -> tuple[str, str, str | None]:
        """What it is but for its engine, between whose ways only rounding and speed differ."""
        return self.method.tiling, self.method.precision, self.method.exit

    @property
    def is_exact(self) -> bool:
        """Whether it is the exact way but for its engine's rounding."""
        return self.kind == ("paper", "float32", None)


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What was made of one slide, by each way that was tried, in their order."""

    heatmaps: Sequence[Heatmap]
    rows: Sequence[Sequence[LedgerRow]]
    network_s: Sequence[float]
    colours: Mapping[str, float]
    num_sections: int
    num_patches: int
    """Patches of the paper's tiling."""
    tissue_mpx: float


@dataclass(kw_only=True)
class _Counts:
    """What the slides hold, whatever the way."""

    num_patches: int = 0
    """Patches of the paper's tiling, on the slides on which all is timed."""
    tissue_mpx: float = 0.0
    """On the same slides."""
    num_sections: int = 0
    """On all slides."""
    slide_ids: list[str] = field(default_factory=list)


def measure_speedups(
    manifest_path: Path,
    study_root: Path,
    setting: Setting,
    epoch: int,
    thresholds: Thresholds,
    config: SpeedupsConfig,
    *,
    exact_rows: ExactRows = lambda *_: None,
) -> SpeedupRecord:
    """Measure every way of inference that is possible here, and write the record beside the weights.

    Args:
        manifest_path: the study's slides.csv.
        study_root: the study's folder.
        setting: whose weights.
        epoch: the one that the selection chose.
        thresholds: at which verdicts are compared.
        config: how many slides and patches.
        exact_rows: where ledger rows are that were made exactly; slides without are computed exactly here.

    Returns:
        The record, which is written to `RunPaths.speedups` in the end.

    Raises:
        ConfigurationError: no slide of Validation I can be read and has tissue.
        SlideError: a slide's pixels cannot be read.
        CheckpointError: the weights are missing or damaged.
    """
    keep_freed_memory()
    run = StudyPaths(study_root).run(setting)
    work = _open_work(manifest_path, run, setting, epoch, thresholds=thresholds, config=config, exact_rows=exact_rows)
    record = _measure(work)
    write_speedups(work.run.speedups(epoch, record.machine.key), record)
    for line in report_lines(record):
        LOG.info(line)
    return record


def _measure(work: _Work) -> SpeedupRecord:
    network, config = work.network, work.config
    slides = work.slides_of(Part.VALIDATION_1)
    spread = sample_patches(slides, work.open, config.num_samples, sections=work.manifest.sections_of)
    samples = spread.to(work.device)
    fields = effective_receptive_field(network, samples[: config.num_field_samples])
    halo_px = halo_of(fields)
    LOG.info(
        f"{network.setting}, epoch {work.epoch}: 99.9 % of what an output sees lies within {text_of_fields(fields)}; "
        f"dense patches get {halo_px} px of halo"
    )
    methods = _methods(work, halo_px)
    origin = int8_origin(samples)
    int8_sha256 = _int8_models(work, methods, samples, origin)
    ways, reference = _ways(work, methods)
    views = [BandView(reference, band) for band in (bands() if "psi_0" in reference.outputs else [])]
    cascades = [_Tried(method=replace(methods[0], band=view.band), predictor=view) for view in views]
    counts = _Counts()
    first = slides[: config.max_slides]
    further = [*slides[len(first) :], *work.slides_of(Part.VALIDATION_2)]
    _say_what_comes(ways, num_first=len(first), num_further=len(further))
    _time_and_compare(work, first, [*ways, *cascades], counts)
    fastest = _fastest_of_each_kind(ways)
    _say_what_is_calibrated(fastest, num_first=len(first), num_further=len(further))
    _calibrate(work, further, fastest, counts)
    return SpeedupRecord(
        setting=network.setting,
        epoch=work.epoch,
        weights_digest=weights_digest(work.run.weights(work.epoch)),
        thresholds=work.thresholds,
        machine=machine_of(work.device),
        slide_ids=tuple(counts.slide_ids),
        num_sections=counts.num_sections,
        num_patches=counts.num_patches,
        receptive_field_px=fields,
        halo_px=halo_px,
        ways=tuple(_as_way(way, counts, work.device, is_calibrated=way in fastest) for way in ways),
        bands=_as_bands(network, views, cascades, counts),
        outputs=_outputs(network, samples, batch=config.batch),
        int8_sha256=int8_sha256,
        int8_origin=origin,
    )


def _open_work(
    manifest_path: Path,
    run: RunPaths,
    setting: Setting,
    epoch: int,
    *,
    thresholds: Thresholds,
    config: SpeedupsConfig,
    exact_rows: ExactRows,
) -> _Work:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, target_mpp, _ = load_for_heatmaps(run.weights(epoch), setting)
    return _Work(
        manifest=read_manifest(manifest_path, files_must_exist=False),
        run=run,
        epoch=epoch,
        network=network.to(device),
        target_mpp=target_mpp,
        thresholds=thresholds,
        config=config,
        device=device,
        exact_rows=exact_rows,
    )


def _methods(work: _Work, halo_px: int) -> list[Method]:
    """Every way that is tried, float32 eager first: all others and the cascade's bands are compared with it."""
    paper = [
        Method(precision=way.precision, engine=way.engine)
        for way in candidates(work.device, encoder=work.network.encoder_name)
    ]
    if "psi_0" in work.network.outputs:
        # What ends at psi_0 is there for its speed, so that slow engines do it only where there is no other.
        fast = {way.precision for way in paper if way.engine not in _SLOW}
        paper += [replace(way, exit="psi_0") for way in paper if way.engine not in _SLOW or way.precision not in fast]
    return [*paper, *(replace(method, tiling="dense", halo_px=halo_px) for method in paper)]


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


def _say_what_comes(ways: Sequence[_Tried], *, num_first: int, num_further: int) -> None:
    kinds = {way.kind for way in ways if not way.is_exact}
    LOG.info(
        f"first {num_first} slide(s) of Validation I go through all {len(ways)} ways, which are timed and compared; "
        f"most of the time goes to float32 eager, to which all are compared. Then one way of each of {len(kinds)} "
        f"kinds goes over the {num_further} other slides of Validation I and II, and the exact way, too, over those "
        "whose exact rows are not in the ledger. What makes it shorter: a smaller --max-slides, --num-samples (int8) "
        "and --num-field-samples, and the exact inference of Validation beforehand"
    )


def _say_what_is_calibrated(fastest: Sequence[_Tried], *, num_first: int, num_further: int) -> None:
    if num_further:
        pace_s = sum(way.found.network_s for way in fastest) / num_first
        LOG.info(
            f"{num_further} further slide(s) are calibrated in {', '.join(map(str, fastest))}: about "
            f"{as_duration(num_further * pace_s)} in these networks, if the slides are as large"
        )


def _time_and_compare(work: _Work, slides: Sequence[SlideRecord], tried: Sequence[_Tried], counts: _Counts) -> None:
    """Make the heatmaps of some slides in every way, and compare them with the first one's."""
    took_s: list[float] = []
    for number, record in enumerate(slides, start=1):
        started, what = perf_counter(), f"slide {number}/{len(slides)} {record.slide_id}"
        with tempfile.TemporaryDirectory(prefix="bccdist-speedups-") as folder:
            made = _make(work, record, tried, folder=Path(folder), what=what)
            for each, heatmap, network_s in zip(tried, made.heatmaps, made.network_s, strict=True):
                each.found.network_s += network_s
                each.found.add(made.heatmaps[0], heatmap, t_p=work.thresholds.t_p)
            counts.num_patches += made.num_patches
            counts.tissue_mpx += made.tissue_mpx
            _judge(work, record, tried, made, made.rows[0], counts)
        changed = sum(len(each.found.changed_verdicts) for each in tried if each.method.band is None)
        took_s.append(perf_counter() - started)
        rest = text_of_rest(took_s, len(slides) - number)
        LOG.info(f"{what}: {changed} verdicts changed in all ways so far{rest}")


def _fastest_of_each_kind(ways: Sequence[_Tried]) -> list[_Tried]:
    """The ways that a certificate may rest on: of each kind but the exact one, the engine that took least time."""
    kinds: dict[tuple[str, str, str | None], _Tried] = {}
    for way in sorted(ways, key=lambda way: way.found.network_s):
        if not way.is_exact:
            kinds.setdefault(way.kind, way)
    return list(kinds.values())


def _calibrate(work: _Work, slides: Sequence[SlideRecord], ways: Sequence[_Tried], counts: _Counts) -> None:
    """Make the heatmaps of further slides in these ways, and hold their curves against the exact ones."""
    method = Method.of(InferConfig(), work.device, encoder=work.network.encoder_name)
    exact = _Tried(method=method, predictor=work.predictor(method))
    took_s: list[float] = []
    for number, record in enumerate(slides, start=1):
        started, what = perf_counter(), f"slide {number}/{len(slides)} {record.slide_id}"
        known = work.exact_rows(record, work.target_mpp)
        tried = [*ways, *([] if known is not None else [exact])]
        try:
            with tempfile.TemporaryDirectory(prefix="bccdist-speedups-") as folder:
                made = _make(work, record, tried, folder=Path(folder), what=what)
                exact_rows = made.rows[-1] if known is None else known
                _judge(work, record, tried, made, exact_rows, counts)
        except SlideError as error:
            LOG.warning(f"left out: {error}")
            continue
        told = "from the ledger" if known is not None else "computed"
        took_s.append(perf_counter() - started)
        rest = text_of_rest(took_s, len(slides) - number)
        LOG.info(f"{what}: calibrated, the exact curves are {told}{rest}")


def _make(work: _Work, record: SlideRecord, tried: Sequence[_Tried], *, folder: Path, what: str) -> _Made:
    """One slide's heatmaps in these ways, and the ledger's rows of each; `what` it is stands in the log."""
    sections = work.manifest.sections_of(record.slide_id)
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
    network_s = dict.fromkeys(range(len(tried)), 0.0)
    with work.open(record) as slide:
        tissue = tissue_mask(slide, for_sections=not have_boxes(sections))
        cells = cells_of(slide, tissue)
        # One pass for each tiling: the ways of a pass share what is read, so that only the network is compared.
        for tiling in ("paper", "dense"):
            here = [number for number, each in enumerate(tried) if each.method.tiling == tiling]
            if here:
                together = [orders[number] for number in here]
                _warm_up(together, together[0].method.layout(cells), work)
                told = PassTold(f"{what}, tiling {tiling}, {len(here)} ways at once")
                tally = write_heatmaps(
                    slide,
                    record,
                    tissue,
                    together,
                    batch=work.config.batch,
                    device=work.device,
                    told=told,
                    with_quality=False,
                )
                network_s.update(zip(here, tally.network_s, strict=True))
                # Bands of the cascade look at what was computed, and take nothing.
                paces = {str(tried[number]): network_s[number] for number in here if tried[number].method.band is None}
                LOG.info(f"{what}, tiling {tiling}: {text_of_paces(paces)}")
        found = sections_of(slide, record.slide_id, tissue, sections)
        colours = tissue_colours(slide, tissue)
    heatmaps = [Heatmap(order.path) for order in orders]
    return _Made(
        heatmaps=heatmaps,
        rows=[
            list(section_rows(heatmap, found, tissue, part=record.part, phantom_weights=False)) for heatmap in heatmaps
        ],
        network_s=list(network_s.values()),
        colours=colours,
        num_sections=len(found),
        num_patches=sum(len(row.cols) for row in place_patches(cells, PAPER)),
        tissue_mpx=int(cells.sum()) * CELL_PX**2 / 1e6,
    )


def _judge(
    work: _Work,
    record: SlideRecord,
    tried: Sequence[_Tried],
    made: _Made,
    exact_rows: Sequence[LedgerRow],
    counts: _Counts,
) -> None:
    """Hold the verdicts and curves of a slide's ways against the exact ones."""
    expected = verdicts_by_name(exact_rows, work.thresholds)
    for each, heatmap, rows in zip(tried, made.heatmaps, made.rows, strict=True):
        said = verdicts_by_name(rows, work.thresholds)
        each.found.changed_verdicts += [name for name, verdict in said.items() if verdict != expected[name]]
        if each.method.band is not None:
            continue
        score = score_of(exact_rows, rows, each.psi, work.thresholds)
        # A slide without sections has nothing to certify, and is no draw of those that have.
        if score is not None:
            each.scores[record.slide_id] = score
            each.traits.append(traits_of(heatmap, each.psi, made.colours))
    counts.num_sections += made.num_sections
    counts.slide_ids.append(record.slide_id)


def _warm_up(orders: Sequence[HeatmapOrder], layout: Layout, work: _Work) -> None:
    """Let engines do what they do once for patches of this size, so that it is not taken for their pace."""
    # On GPUs networks are compiled for a number of patches: for the one of a pass, where that costs next to nothing.
    num = layout.batch(work.config.batch) if work.device.type == "cuda" else 1
    patches = torch.zeros((num, layout.patch_px, layout.patch_px, 3), dtype=torch.uint8, device=work.device)
    for order in orders:
        if not isinstance(order.predictor, BandView):
            order.predictor(patches)


def _as_way(way: _Tried, counts: _Counts, device: torch.device, *, is_calibrated: bool) -> MeasuredWay:
    scores = list(way.scores.values()) if is_calibrated else []
    return MeasuredWay(
        tiling=way.method.tiling,
        precision=way.method.precision,
        engine=way.method.engine,
        mpx_per_s=counts.tissue_mpx / way.found.network_s,
        changed_verdicts=tuple(way.found.changed_verdicts),
        exit=way.method.exit,
        psi=way.psi,
        # In rising order, so that nobody can tell which slide or section a number is of.
        slide_levels=tuple(sorted(score.levels for score in scores)),
        flip_levels=tuple(sorted(flip for score in scores for flip in score.flip_levels)),
        ranges=ranges_of(way.traits) if is_calibrated else {},
        probe_sha256=probe_sha256(way.predictor, device),
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
