"""The calibration job: how faster ways of inference differ from the paper's, on Validation I.

The reference is float32 eager with the paper's tiling. Every other way makes the same slides' heatmaps in the same
run; what is compared are stored probabilities and the verdicts at the selection's thresholds.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bccdist import __version__
from bccdist.configuration import CELL_PX, PATCH_PX, Engine, Psi, Setting, SpeedupsConfig, pixel_px
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.layout import PAPER, Layout, place_patches
from bccdist.heatmaps.predict import PredictionTally, Predictor
from bccdist.heatmaps.predictors import is_undecided, make_predictor, piece_of, repeated
from bccdist.heatmaps.probability import NUM_STEPS, step_of
from bccdist.heatmaps.store import Heatmap
from bccdist.heatmaps.writing import attributes_of, cells_of, write_heatmaps
from bccdist.machine import keep_freed_memory
from bccdist.networks.block_costs import first_block_share, output_costs
from bccdist.networks.engines import candidates, make_int8_model
from bccdist.networks.inference import FirstBlock
from bccdist.networks.receptive_field import effective_receptive_field
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import weights_digest
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.sections.curve import CURVE_LENGTH
from bccdist.sections.rows import section_rows
from bccdist.sections.verdicts import has_tumor, region_area_um2, verdicts_of
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, SlideRecord, read_manifest
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import sections_of, tissue_mask
from bccdist.speedups.record import (
    MeasuredBand,
    MeasuredOutput,
    MeasuredWay,
    Method,
    SpeedupRecord,
    Thresholds,
    int8_digest,
    write_speedups,
)
from bccdist.stages.inference import load_for_heatmaps

LOWS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
"""Lower ends of the bands of psi_0 that are tried; each is tried with 1 minus itself, and with 1, as the upper end."""
_LARGEST_HALO_PX = CELL_PX
_ROWS_AT_ONCE_PX = 2048
_NUM_FEATURE_SAMPLES = 16
"""Patches whose features are held at once; at width 64 each takes 24 MiB."""


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
        return make_predictor(
            self.network,
            method,
            device=self.device,
            int8_file=partial(self.run.int8_model, self.epoch),
        )


@dataclass(kw_only=True)
class _Comparison:
    """One way against the reference, counted over the slides."""

    network_s: float = 0.0
    max_steps: int = 0
    """Largest difference of stored values of any output."""
    sum_steps: int = 0
    num_crossing: int = 0
    num_pixels: int = 0
    """Of the final output's covered tissue."""
    changed: list[str] = field(default_factory=list)


def calibrate(
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
        The record, which is written to `RunPaths.calibration` in the end.

    Raises:
        ConfigurationError: no slide of Validation I has tissue.
        SlideError: a slide of Validation I cannot be read.
        CheckpointError: the weights are missing or damaged.
    """
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = StudyPaths(study_root).run(setting)
    network, target_mpp = load_for_heatmaps(run.weights(epoch), setting)
    network.to(device)
    manifest = read_manifest(manifest_path, files_must_exist=False)
    work = _Work(
        manifest=manifest,
        records=manifest.slides_of([Part.VALIDATION_1])[: config.max_slides],
        run=run,
        epoch=epoch,
        network=network,
        target_mpp=target_mpp,
        thresholds=thresholds,
        config=config,
        device=device,
    )
    samples = sample_patches(work.records, work.open, config.num_samples).to(device)
    fields = effective_receptive_field(network, samples[: config.num_field_samples])
    halo_px = halo_of(fields)
    _say(f"{setting}, epoch {epoch}: 99.9 % of what {fields} see; dense patches get a halo of {halo_px} px")
    arithmetics = candidates(device)
    int8_sha256 = _make_int8_models(work, samples) if any(way.precision == "int8" for way in arithmetics) else {}
    methods = [
        _method(tiling=tiling, halo_px=halo_px, precision=way.precision, engine=way.engine)
        for tiling in ("paper", "dense")
        for way in arithmetics
    ]
    measured = _measure(work, methods)
    calibration = SpeedupRecord(
        setting=setting,
        epoch=epoch,
        weights_digest=weights_digest(run.weights(epoch)),
        thresholds=thresholds,
        device=_device_name(device),
        num_threads=torch.get_num_threads(),
        software=f"bccdist {__version__}, torch {torch.__version__}",
        slide_ids=tuple(record.slide_id for record in work.records),
        num_sections=measured.num_sections,
        num_patches=measured.num_patches,
        receptive_field_px=fields,
        halo_px=halo_px,
        ways=tuple(_as_way(method, measured, found) for method, found in zip(methods, measured.ways, strict=True)),
        bands=tuple(_as_band(work, band, measured, found) for band, found in measured.bands.items()),
        outputs=_outputs(network, samples, batch=config.batch),
        int8_sha256=int8_sha256,
    )
    write_speedups(run.calibration(epoch, device.type), calibration)
    for line in report_lines(calibration):
        _say(line)
    return calibration


def _outputs(network: DeeplySupervisedUNet, samples_NPP3: Tensor, *, batch: int) -> tuple[MeasuredOutput, ...]:
    costs = output_costs(network, samples_NPP3, batch=batch)
    return tuple(
        MeasuredOutput(psi=psi, patch_s=cost.patch_s, score_std=cost.score_std) for psi, cost in costs.items()
    )


def _say(line: str) -> None:
    # The job's log is its standard output.
    print(line, flush=True)  # noqa: T201


def halo_of(receptive_field_px: Mapping[str, Mapping[str, int]]) -> int:
    """The halo of dense patches: what holds 99.9 % of the widest output's field, a multiple of 32, at most a cell."""
    widest = max(shares["99.9"] for shares in receptive_field_px.values())
    return min(-(-widest // 32) * 32, _LARGEST_HALO_PX)


def sample_patches(
    records: Sequence[SlideRecord], open_slide: Callable[[SlideRecord], Slide], num_samples: int
) -> Tensor:
    """Patches that are evenly spread over the tissue of some slides: uint8 RGB [n, 512, 512, 3].

    Raises:
        ConfigurationError: there is no tissue.
        SlideError: a slide cannot be read.
    """
    places: list[tuple[SlideRecord, Box]] = []
    for record in records:
        with open_slide(record) as slide:
            cells = cells_of(slide, tissue_mask(slide))
        places += [
            (record, Box(int(col) * CELL_PX, int(row) * CELL_PX, PATCH_PX, PATCH_PX))
            for row, col in np.argwhere(cells)
        ]
    if not places:
        raise ConfigurationError("no slide of Validation I has tissue; there is nothing to calibrate on")
    chosen = [places[index] for index in np.linspace(0, len(places) - 1, min(num_samples, len(places)), dtype=int)]
    images = []
    for record, here in groupby(chosen, key=lambda place: place[0]):
        with open_slide(record) as slide:
            images += [torch.from_numpy(slide.read(box_px)) for _, box_px in here]
    return torch.stack(images)


def _make_int8_models(work: _Work, samples: Tensor) -> dict[str, str]:
    """Make the int8 models of all pieces; returns a digest of each."""
    patches: list[tuple[Tensor, ...]] = [(patch[None],) for patch in samples]
    pieces: dict[str, list[tuple[Tensor, ...]]] = {"whole": patches}
    if "psi_0" in work.network.outputs:
        first = FirstBlock(work.network, with_features=True)
        with torch.inference_mode():
            some = samples[:_NUM_FEATURE_SAMPLES, None]
            features = [tuple(feature.clone() for feature in first(patch)[1:]) for patch in some]
        pieces |= {"first": patches, "first-with-features": patches, "later": features}
    digests = {}
    for piece, inputs in pieces.items():
        path = work.run.int8_model(work.epoch, piece)
        make_int8_model(piece_of(work.network, piece), inputs, path)
        digests[piece] = int8_digest(path)
        _say(f"int8 model of {piece}: {path.name}")
    return digests


def _method(**how: Any) -> Method:
    return Method(**{"blending": "mean", "exit": None, "band": None, "int8_sha256": None, **how})


@dataclass(kw_only=True)
class _Measured:
    """Everything that is counted over the slides."""

    ways: list[_Comparison]
    bands: dict[tuple[float, float], _Comparison]
    num_undecided: dict[tuple[float, float], int]
    num_patches: int = 0
    num_sections: int = 0
    tissue_mpx: float = 0.0


class _Remembered:
    """The reference, which keeps what it gave last, so that every band can look at it."""

    def __init__(self, predictor: Predictor) -> None:
        self.outputs = predictor.outputs
        self._predictor = predictor
        self.last: Mapping[Psi, Tensor] = {}

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        self.last = self._predictor(patches_NPP3)
        return self.last


class _BandView:
    """What a cascade with this band would have given, by what the reference gave on the same patches."""

    def __init__(self, reference: _Remembered, band: tuple[float, float]) -> None:
        self.outputs: tuple[Psi, ...] = (reference.outputs[-1],)
        self.num_undecided = 0
        self._reference = reference
        self._band = band

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:  # noqa: ARG002 - the reference had them before
        found = self._reference.last
        undecided = is_undecided(found["psi_0"], self._band)
        self.num_undecided += int(undecided.sum())
        early = repeated(found["psi_0"], pixel_px("psi_0"))
        return {psi: torch.where(undecided[:, None, None], found[psi], early) for psi in self.outputs}


def bands() -> list[tuple[float, float]]:
    """The bands that are tried."""
    return [(low, high) for low in LOWS for high in (1 - low, 1.0)]


def _measure(work: _Work, methods: Sequence[Method]) -> _Measured:
    """Make the heatmaps of all slides in every way, and compare them."""
    reference = _Remembered(work.predictor(methods[0]))
    predictors: list[Predictor] = [reference, *(work.predictor(method) for method in methods[1:])]
    views = {band: _BandView(reference, band) for band in (bands() if "psi_0" in reference.outputs else [])}
    measured = _Measured(
        ways=[_Comparison() for _ in methods],
        bands={band: _Comparison() for band in views},
        num_undecided={},
    )
    for number, record in enumerate(work.records, start=1):
        with tempfile.TemporaryDirectory(prefix="bccdist-calibration-") as folder, work.open(record) as slide:
            _measure_slide(
                work,
                record,
                slide,
                Path(folder),
                methods=methods,
                predictors=predictors,
                views=views,
                measured=measured,
            )
        changed = sum(len(found.changed) for found in measured.ways)
        _say(f"slide {number}/{len(work.records)} {record.slide_id}: {changed} verdicts changed in all ways so far")
    measured.num_undecided = {band: view.num_undecided for band, view in views.items()}
    return measured


def _measure_slide(
    work: _Work,
    record: SlideRecord,
    slide: Slide,
    folder: Path,
    *,
    methods: Sequence[Method],
    predictors: Sequence[Predictor],
    views: Mapping[tuple[float, float], _BandView],
    measured: _Measured,
) -> None:
    tissue = tissue_mask(slide)
    by_tiling: dict[str, list[tuple[Predictor, _Comparison]]] = {}
    for method, predictor, found in zip(methods, predictors, measured.ways, strict=True):
        by_tiling.setdefault(method.tiling, []).append((predictor, found))
    by_tiling["paper"] += [(view, measured.bands[band]) for band, view in views.items()]
    cells = cells_of(slide, tissue)
    layouts: dict[str, Layout] = {method.tiling: method.layout(cells) for method in methods}
    heatmaps: list[tuple[Heatmap, _Comparison]] = []
    for tiling, ways in by_tiling.items():
        _warm_up([predictor for predictor, _ in ways], layouts[tiling], work.device)
        tally = PredictionTally(network_s=[0.0] * len(ways))
        paths = [folder / f"{tiling}-{number}.ozx" for number in range(len(ways))]
        attributes = [
            attributes_of(
                slide,
                record,
                setting=work.network.setting,
                epoch=work.epoch,
                outputs=predictor.outputs,
                layout=layouts[tiling],
            )
            for predictor, _ in ways
        ]
        write_heatmaps(
            slide,
            cells,
            [predictor for predictor, _ in ways],
            paths,
            attributes,
            layout=layouts[tiling],
            blending="mean",
            batch=work.config.batch,
            device=work.device,
            tally=tally,
        )
        for (_, found), network_s in zip(ways, tally.network_s, strict=True):
            found.network_s += network_s
        heatmaps += [(Heatmap(path), found) for path, (_, found) in zip(paths, ways, strict=True)]
    measured.num_patches += sum(len(row.cols) for row in place_patches(cells, PAPER))
    measured.tissue_mpx += int(cells.sum()) * CELL_PX**2 / 1e6
    sections = sections_of(slide, record.slide_id, tissue, work.manifest.sections_of(record.slide_id))
    measured.num_sections += len(sections)
    verdicts = [_verdicts(heatmap, sections, tissue, record, work.thresholds) for heatmap, _ in heatmaps]
    for (heatmap, found), said in zip(heatmaps, verdicts, strict=True):
        _compare(heatmaps[0][0], heatmap, found, t_p=work.thresholds.t_p)
        found.changed += [name for name, verdict in said.items() if verdict != verdicts[0][name]]


def _warm_up(predictors: Sequence[Predictor], layout: Layout, device: torch.device) -> None:
    """Let engines do what they do once for patches of this size, so that it is not taken for their pace."""
    patch = torch.zeros((1, layout.patch_px, layout.patch_px, 3), dtype=torch.uint8, device=device)
    for predictor in predictors:
        if not isinstance(predictor, _BandView):
            predictor(patch)


def _verdicts(
    heatmap: Heatmap, sections: Sequence[Any], tissue: NDArray[np.bool_], record: SlideRecord, thresholds: Thresholds
) -> dict[str, str]:
    """The verdict by each output on each section, by section_id/psi."""
    rows = list(section_rows(heatmap, sections, tissue, part=record.part))
    if not rows:
        return {}
    area_um2 = region_area_um2(
        np.array([row["largest_region_px"] for row in rows], dtype=np.uint32).reshape(-1, CURVE_LENGTH),
        step_of(thresholds.t_p),
        mpp=np.array([row["mpp"] for row in rows]),
        pixel_px=np.array([row["pixel_px"] for row in rows]),
        area_unit=thresholds.area_unit,
    )
    called = has_tumor(area_um2, thresholds.t_a_um2)
    verdicts = verdicts_of(called, np.array([row["coverage"] for row in rows]))
    names = [f"{row['section_id']}/{row['psi']}" for row in rows]
    return dict(zip(names, map(str, verdicts), strict=True))


def _compare(reference: Heatmap, other: Heatmap, found: _Comparison, *, t_p: float) -> None:
    """Count how far stored probabilities are apart on covered tissue."""
    final, step = reference.outputs[-1], step_of(t_p)
    width, height = reference.attributes.size_target_px
    covered = (reference.coverage == reference.attributes.full_coverage) & reference.tissue_cells
    covered &= other.coverage == other.attributes.full_coverage
    for top in range(0, height, _ROWS_AT_ONCE_PX):
        box_px = Box(0, top, width, min(_ROWS_AT_ONCE_PX, height - top))
        for psi in other.outputs:
            ours, theirs = (heatmap.read(psi, box_px).astype(np.int16) for heatmap in (other, reference))
            edge = CELL_PX // pixel_px(psi)
            rows = covered[top // CELL_PX : -(-box_px.y_end // CELL_PX)]
            inside = rows.repeat(edge, axis=0).repeat(edge, axis=1)[: ours.shape[0], : ours.shape[1]]
            steps = np.abs(ours - theirs)[inside]
            found.max_steps = max(found.max_steps, int(steps.max(initial=0)))
            if psi == final:
                found.sum_steps += int(steps.sum())
                found.num_pixels += steps.size
                found.num_crossing += int(((ours >= step) != (theirs >= step))[inside].sum())


def _as_way(method: Method, measured: _Measured, found: _Comparison) -> MeasuredWay:
    return MeasuredWay(
        tiling=method.tiling,
        precision=method.precision,
        engine=cast("Engine", method.engine),
        mpx_per_s=measured.tissue_mpx / found.network_s,
        max_difference=found.max_steps / NUM_STEPS,
        mean_difference=found.sum_steps / found.num_pixels / NUM_STEPS,
        crossing_share=found.num_crossing / found.num_pixels,
        changed_verdicts=tuple(found.changed),
    )


def _as_band(work: _Work, band: tuple[float, float], measured: _Measured, found: _Comparison) -> MeasuredBand:
    undecided = measured.num_undecided[band] / measured.num_patches
    return MeasuredBand(
        low=band[0],
        high=band[1],
        undecided_share=undecided,
        saved_share=(1 - undecided) * (1 - first_block_share(work.network)),
        changed_verdicts=tuple(found.changed),
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return named[0].split(":", 1)[1].strip() if named else "cpu"


def report_lines(calibration: SpeedupRecord) -> Iterator[str]:
    """The record as a table for the log."""
    yield (
        f"against float32 eager with the paper's tiling, {calibration.num_sections} sections of "
        f"{len(calibration.slide_ids)} slides of Validation I, at t_p {calibration.thresholds.t_p:g} and t_A "
        f"{calibration.thresholds.t_a_um2:g} um2, on {calibration.device}, {calibration.num_threads} threads:"
    )
    yield "tiling precision engine       Mpx/s  times  largest  mean      crossing  verdicts changed"
    slowest = calibration.ways[0].mpx_per_s
    for way in calibration.ways:
        yield (
            f"{way.tiling:6} {way.precision:9} {way.engine:10} {way.mpx_per_s:8.3f} {way.mpx_per_s / slowest:6.2f}  "
            f"{way.max_difference:.3f}    {way.mean_difference:.1e}   {way.crossing_share:.1e}   "
            f"{len(way.changed_verdicts)}"
        )
    for output in calibration.outputs:
        yield f"up to {output.psi}: {output.patch_s:.3f} s a patch, float32 eager"
    for band in calibration.bands:
        yield (
            f"cascade, psi_0 within {band.low:g} to {band.high:g}: {band.undecided_share:.1%} of patches undecided, "
            f"{band.saved_share:.1%} of the computation saved, {len(band.changed_verdicts)} verdicts changed"
        )
