"""What every way from slide to heatmap is given in benchmarks/heatmaps.py: a slide, weights, an int8 model."""

import csv
import io
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bccdist.addresses import on_this_machine
from bccdist.configuration import CELL_PX, Setting, Tiling
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.layout import PAPER, place_patches
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predictors import make_predictor
from bccdist.heatmaps.writing import cells_of
from bccdist.installed import has_openvino
from bccdist.networks.inference import WholeNetwork
from bccdist.networks.inputs import to_network_input
from bccdist.networks.openvino_engine import make_int8_model
from bccdist.networks.receptive_field import effective_receptive_field
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import load_network, save_network, weights_digest
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.phantom.config import PhantomConfig
from bccdist.phantom.slides import make_phantom
from bccdist.sections.choices import Thresholds
from bccdist.slides.manifest import SlideRecord, read_manifest
from bccdist.slides.slide import Resolution, Slide
from bccdist.slides.tissue import tissue_mask
from bccdist.speedups.probes import machine_of, probe_sha256
from bccdist.speedups.record import MeasuredWay, SpeedupRecord, int8_digest, write_speedups
from bccdist.speedups.samples import halo_of, int8_origin, sample_patches
from bccdist.stages.epochs import resolve_epochs
from benchmarks.heatmap_ways import FRAME_CELLS, Task, TaskSlide
from benchmarks.pasting import Piece, paste

EPOCH = 1
NUM_SAMPLES = 16
"""Patches of the slide that int8 and random weights take their ranges from."""
NUM_FIELD_SAMPLES = 2
"""Number of these patches on which the receptive field is measured."""


def prepare_slide(folder: Path, slide: Path | None, size_level0_px: tuple[int, int]) -> tuple[Path, SlideRecord]:
    """The manifest of one slide, given or drawn."""
    if slide is None:
        width, height = size_level0_px
        config = PhantomConfig(
            num_train=0,
            num_val1=0,
            num_val2=0,
            num_test=1,
            slide_width_level0_px=width,
            slide_height_level0_px=height,
        )
        manifest = make_phantom(folder / "phantom", config, report=lambda _: None)
    else:
        manifest = folder / "slides.csv"
        text = io.StringIO()
        csv.writer(text).writerows([("slide_id", "part", "path"), (slide.stem, "test", slide.resolve())])
        manifest.write_text(text.getvalue())
    return manifest, read_manifest(manifest).slides[0]


def prepare_task(
    folder: Path,
    manifest: Path,
    record: SlideRecord,
    weights: Path | None,
    *,
    setting: Setting,
    width: int,
    batch: int,
) -> tuple[Task, Tensor]:
    """What all ways are given, the weights in a study, and some patches of the slide: uint8 RGB [n, 512, 512, 3].

    Raises:
        ConfigurationError: the slide would have to be resampled, which not every way can do, or has no tissue.
    """
    target_mpp = 0.92
    if weights is not None:
        network, metadata = load_network(weights)
        setting, target_mpp = network.setting, float(metadata["target_mpp"])
    slide = task_slide(folder, record, target_mpp=target_mpp)
    samples = sample_patches([record], lambda each: Slide(each.path, target_mpp=target_mpp, mpp=each.mpp), NUM_SAMPLES)
    study = StudyPaths(folder / "prepared")
    path = study.run(setting).weights(EPOCH)
    path.parent.mkdir(parents=True)
    if weights is None:
        save_network(
            path, random_network(setting, width, samples), {"target_mpp": str(target_mpp), "phantom": "false"}
        )
    else:
        shutil.copyfile(weights, path)
    task = Task(
        slides=(slide,),
        batch=batch,
        manifest=str(manifest),
        study=str(study.root),
        weights=str(path),
        setting=setting,
        epoch=EPOCH,
    )
    return task, samples


def task_slide(folder: Path, record: SlideRecord, *, target_mpp: float) -> TaskSlide:
    """A slide as all ways are given it, with its framed copy in the folder.

    Raises:
        ConfigurationError: the slide would have to be resampled, which not every way can do.
    """
    with Slide(record.path, target_mpp=target_mpp, mpp=record.mpp) as slide:
        resolution, size_px = slide.resolution, (slide.width_px, slide.height_px)
        cells = cells_of(slide, tissue_mask(slide))
    if resolution.resize != 1:
        raise ConfigurationError(
            f"{record.path}: none of its levels has {target_mpp} um/px; take a slide that has one, so that every way "
            "reads the same pixels"
        )
    return TaskSlide(
        slide_id=record.slide_id,
        path=str(record.path),
        framed=framed_copy(folder, record, resolution),
        level=resolution.level,
        downsample=resolution.downsample,
        mpp=resolution.mpp,
        size_px=size_px,
        cells=cells.tolist(),
        places=[(row.row, col) for row in place_patches(cells, PAPER) for col in row.cols],
    )


def framed_copy(folder: Path, record: SlideRecord, resolution: Resolution) -> str:
    """A file of the folder with the slide's compressed tiles down to this level, and a frame of glass around them.

    Returns:
        its path; "" where the tiles are of a kind that cannot be pasted.
    """
    # By a name for TIFF, TIAToolbox decodes all of level 0 at once.
    framed = folder / f"{record.slide_id}.svs"
    frame_px = round(FRAME_CELLS * CELL_PX * resolution.downsample)
    try:
        piece = Piece(path=on_this_machine(record.path), x_level0_px=frame_px, y_level0_px=frame_px)
        paste(framed, [piece], margin_level0_px=frame_px, num_exact=resolution.level + 1)
    except ConfigurationError:
        return ""
    return str(framed)


def prepare_study(
    folder: Path, study: Path, *, setting: Setting, parts: Sequence[Part], batch: int, manifest: Path | None = None
) -> Task:
    """The slides of some parts with a study's chosen weights: what verdicts are compared on.

    Args:
        folder: for the framed copies.
        study: after its selection, and its speed-up record where a way needs one.
        setting: whose weights.
        parts: which slides.
        batch: patches per forward pass.
        manifest: of other slides; None takes the study's own.

    Raises:
        BccdistError: no epoch was chosen, or a slide would have to be resampled.
    """
    paths = StudyPaths(study.resolve())
    (epoch,) = resolve_epochs(paths, setting, "chosen")
    weights = paths.run(setting).weights(epoch)
    _, metadata = load_network(weights)
    slides_csv = manifest or paths.kept_manifest
    records = read_manifest(slides_csv).slides_of(parts)
    return Task(
        slides=tuple(task_slide(folder, record, target_mpp=float(metadata["target_mpp"])) for record in records),
        batch=batch,
        manifest=str(slides_csv.resolve()),
        study=str(paths.root),
        weights=str(weights),
        setting=setting,
        epoch=epoch,
    )


def random_network(setting: Setting, width: int, samples_NPP3: Tensor) -> DeeplySupervisedUNet:
    """A network with the same random weights each time, normalised by these patches: its values are not all 0 or 1."""
    torch.manual_seed(0)
    network = DeeplySupervisedUNet(setting, width=width).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over all batches
    with torch.no_grad():
        for batch in torch.split(samples_NPP3, 4):
            network(to_network_input(batch))
    return network.eval()


def prepare_int8(task: Task, samples: Tensor) -> tuple[int, str]:
    """An int8 model from patches of the slide itself, with a speed-up record that no verdict was checked for.

    Returns:
        the halo of dense patches, and why there is no int8 model, if so.
    """
    network, _ = load_network(Path(task.weights))
    fields = effective_receptive_field(network, samples[:NUM_FIELD_SAMPLES])
    halo_px = halo_of(fields)
    if not has_openvino():
        return halo_px, "not available: openvino and nncf are not installed"
    run = StudyPaths(Path(task.study)).run(task.setting)
    model = run.int8_model(task.epoch, "whole")
    make_int8_model(WholeNetwork(network), [(patch[None],) for patch in samples], model)
    device = torch.device("cpu")
    method = Method(precision="int8", engine="openvino")
    predictor = make_predictor(network, method, device=device, int8_file=partial(run.int8_model, task.epoch))
    record = SpeedupRecord(
        setting=task.setting,
        epoch=task.epoch,
        weights_digest=weights_digest(Path(task.weights)),
        thresholds=Thresholds(t_p=0.5, t_a_um2=0),
        machine=machine_of(device),
        slide_ids=tuple(slide.slide_id for slide in task.slides),
        num_sections=0,
        num_patches=0,
        receptive_field_px=fields,
        halo_px=halo_px,
        ways=tuple(_unmeasured(tiling, probe_sha256(predictor, device)) for tiling in ("paper", "dense")),
        bands=(),
        outputs=(),
        int8_sha256={"whole": int8_digest(model)},
        int8_origin=int8_origin(samples),
    )
    write_speedups(run.speedups(task.epoch, record.machine.key), record)
    return halo_px, ""


def _unmeasured(tiling: Tiling, digest: str) -> MeasuredWay:
    """int8 as a way that was compared with nothing."""
    return MeasuredWay(
        tiling=tiling,
        precision="int8",
        engine="openvino",
        mpx_per_s=0.0,
        max_difference=0.0,
        mean_difference=0.0,
        crossing_share=0.0,
        changed_verdicts=(),
        psi="psi_4",
        probe_sha256=digest,
    )
