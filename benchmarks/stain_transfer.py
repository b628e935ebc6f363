"""Colour augmentation and stain normalisation, on slides that are stained otherwise than those of training.

    python -m benchmarks.stain_transfer STUDY FOLDER

STUDY has a finished shard set. A network is trained on its Training with each strength of colour augmentation, and
tried on patches of its Validation I, which chooses nothing here: as they are, and with the densities of haematoxylin
and eosin changed; each with and without normalisation, slide by slide, to the stain of Training. Intervals are of
whole slides drawn anew, for all seeds together. A colour that the network was not trained on is only one of the ways
in which a laboratory differs.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from bccdist.configuration import AugmentConfig, Setting, TrainConfig
from bccdist.freed_memory import keep_freed_memory
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.ranks import Ranks
from bccdist.shard_set.index import ShardSet, read_set
from bccdist.shard_set.reader import PatchReader
from bccdist.training.checkpoints import Position
from bccdist.training.compute import kernels, resolve_compute
from bccdist.training.loader import read_ahead
from bccdist.training.run import Run, prepare_run
from bccdist.training.step import train_step
from bccdist.training.stop import StopRequest
from benchmarks.staining import StainStatistics, normalised, restained, stain_statistics

Way = Literal["no colour", "default", "strong"]
AUGMENTATIONS: dict[Way, AugmentConfig] = {
    "no colour": AugmentConfig(stain=0.0, brightness=0.0),
    "default": AugmentConfig(),
    "strong": AugmentConfig(stain=0.6, brightness=0.15),
}
STAINS = {
    "unchanged": (1.0, 1.0),
    "H x 0.7, E x 1.3": (0.7, 1.3),
    "H x 0.45, E x 0.6": (0.45, 0.6),
}
"""Factors of haematoxylin and eosin."""
_LEAST_TISSUE = 0.25
"""Share of a patch, so that a slide's statistics are of tissue."""
_NUM_RESAMPLES = 2000
_STEPS = 256

Slides = Mapping[str, Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]
"""Images and masks of each slide's patches."""
Counts = NDArray[np.int64]
"""How many pixels of each kind (Normal, Tumor) have each step of probability, [..., slides, 2, 256]."""


def main(  # noqa: PLR0917 - tyro makes flags of them
    study: Annotated[Path, tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional],
    start_from: Path | None = None,
    setting: Setting = "resnet34_ds",
    width: int = 16,
    steps: int = 50,
    batch: int = 4,
    learning_rate: float = 5e-4,
    patches_each: int = 3,
    seeds: tuple[int, ...] = (0,),
    ways: tuple[Way, ...] = get_args(Way),
) -> None:
    """Train, and print a table.

    Args:
        study: Folder of a study with a finished shard set.
        folder: Where the counts of each training are kept; what is there is not trained again.
        start_from: Weights that every training goes on from; None starts at random.
        setting: One of the paper's four.
        width: Filters of the first encoder block.
        steps: Of each training.
        batch: Patches of a step.
        learning_rate: At the start; it falls linearly to nothing.
        patches_each: Most patches of a slide that are tried.
        seeds: Of first weights, draws and augmentation; one training each.
        ways: Strengths of colour augmentation.
    """
    keep_freed_memory()
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    shard_set = read_set(StudyPaths(study).shards.root)
    config = TrainConfig(
        width=width,
        start_from=start_from,
        epochs=1,
        global_batch=batch,
        micro_batch=batch,
        max_steps=steps,
        learning_rate=learning_rate,
        num_workers=0,
    )
    kept = {(seed, way): folder / f"{way.replace(' ', '-')}-{seed}.npy" for seed in seeds for way in ways}
    for (seed, way), file in kept.items():
        if not file.exists():
            own = replace(config, seed=seed, augment=AUGMENTATIONS[way])
            np.save(file, _try_all(shard_set, setting, own, patches_each))
            print(f"seed {seed}, {way}: done after {time.process_time():.0f} s of processor time", flush=True)
    _print_table({way: np.stack([np.load(kept[seed, way]) for seed in seeds]) for way in ways})


def _try_all(shard_set: ShardSet, setting: Setting, config: TrainConfig, patches_each: int) -> Counts:
    """The counts of one training: [stains, not normalised and normalised, slides, 2, 256]."""
    wanted = _mean_statistics(_patches(shard_set, Part.TRAINING, patches_each))
    held_out = _patches(shard_set, Part.VALIDATION_1, patches_each)
    print(f"{len(held_out)} slides, {sum(map(len, held_out.values()))} patches; Training's densities: {wanted}")
    network = _trained(shard_set, setting, config)
    return np.array([[_counts(network, held_out, each, to) for to in (None, wanted)] for each in STAINS.values()])


def iou(counts: Counts) -> float:
    """Tumor IoU at a probability of 0.5, of how many pixels of each kind (Normal, Tumor) have each step, [2, 256]."""
    normal, tumor = counts[0, _STEPS // 2 :].sum(), counts[1, _STEPS // 2 :].sum()
    return float(tumor / max(counts[1].sum() + normal, 1))


def auc(counts: Counts) -> float:
    """The probability that a Tumor pixel has the higher step of a pair, ties counting half; of the same counts."""
    normal, tumor = counts / counts.sum(axis=1, keepdims=True)
    return float((tumor * (normal.cumsum() - normal / 2)).sum())


def _patches(shard_set: ShardSet, part: Part, most: int) -> Slides:
    """Patches of tissue of each slide of a part, the same whatever is trained."""
    codes, slide_ids = shard_set.coded_column("slide_id")
    is_tissue = shard_set.column("tissue_fraction") >= _LEAST_TISSUE
    reader, random = PatchReader(shard_set), np.random.default_rng(0)
    rows = shard_set.part(part).rows
    found = {}
    for code in np.unique(codes[rows]).tolist():
        own = rows[(codes[rows] == code) & is_tissue[rows]]
        if len(own):
            found[slide_ids[code]] = [reader.read(row) for row in random.permutation(own)[:most].tolist()]
    return found


def _mean_statistics(slides: Slides) -> StainStatistics:
    """The mean over slides, each counting once."""
    each = [stain_statistics([image for image, _ in patches]) for patches in slides.values()]
    means, spreads = (np.mean(values, axis=0) for values in zip(*each, strict=True))
    return StainStatistics(means, spreads)


def _trained(shard_set: ShardSet, setting: Setting, config: TrainConfig) -> DeeplySupervisedUNet:
    """A network after one epoch of the product's own steps."""
    ranks, device = Ranks(), torch.device("cpu")
    compute = resolve_compute(config.compute, device, world_size=1)
    with tempfile.TemporaryDirectory() as folder, kernels(compute), StopRequest() as request:
        run = prepare_run(RunPaths(Path(folder) / "run"), setting, config, ranks, compute, shard_set)
        _train_steps(run, request)
        run.close()
    return run.network.eval()


def _train_steps(run: Run, request: StopRequest) -> None:
    plan = run.plan(1)
    with read_ahead(run.patches(1), run.training_draws(plan, Position()), num_threads=0) as batches:
        for step in range(plan.num_steps):
            for group in run.optimizer.param_groups:
                group["lr"] = run.config.learning_rate * (1 - step / plan.num_steps)
            found = train_step(run, batches, request, save_is_due=False, where=f"step {step + 1}")
            if found.stop is not None:
                raise KeyboardInterrupt
            if step % 25 == 0:
                print(f"  step {step}: {found.losses}, {time.process_time():.0f} s", flush=True)


def _counts(
    network: DeeplySupervisedUNet, slides: Slides, factors: tuple[float, float], wanted: StainStatistics | None
) -> Counts:
    """How many pixels of each kind have each step of probability, by slide: [slides, 2, 256]."""
    found = np.zeros((len(slides), 2, _STEPS), dtype=np.int64)
    for place, patches in enumerate(slides.values()):
        images = [restained(image, haematoxylin=factors[0], eosin=factors[1]) for image, _ in patches]
        if wanted is not None:
            here = stain_statistics(images)
            images = [normalised(image, here=here, wanted=wanted) for image in images]
        steps = _steps(network, np.stack(images))
        masks = np.stack([mask for _, mask in patches])
        for kind in (0, 1):
            found[place, kind] = np.bincount(steps[masks == kind], minlength=_STEPS)
    return found


@torch.inference_mode()
def _steps(network: DeeplySupervisedUNet, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The final output's probability of tumor in 256 steps of equal width, [n, h, w]."""
    scores = network(to_network_input(torch.from_numpy(images)))[network.outputs[-1]]
    probability = torch.sigmoid(scores[:, 1] - scores[:, 0])
    return (probability * _STEPS).clamp(max=_STEPS - 1).long().numpy()


def _print_table(counts: Mapping[Way, Counts]) -> None:
    """Means over seeds; and what each changes against the first way without normalisation, with 95 % intervals.

    Args:
        counts: by augmentation [seeds, stains, not normalised and normalised, slides, 2, 256].
    """
    first = next(iter(counts))
    num_slides = counts[first].shape[3]
    draws = np.random.default_rng(0).integers(num_slides, size=(_NUM_RESAMPLES, num_slides))
    print("\n| stain | augmentation of colour | normalised | IoU of each seed | IoU | AUC | change of IoU (95 %) |")
    print("|---|---|---|---|---|---|---|")
    for (at, stain), way, normalise in product(enumerate(STAINS), counts, (0, 1)):
        own, base = counts[way][:, at, normalise], counts[first][:, at, 0]
        more = [_mean_iou(own[:, draw]) - _mean_iou(base[:, draw]) for draw in draws]
        low, high = np.percentile(more, [2.5, 97.5])
        is_base = way == first and not normalise
        gain = "" if is_base else f"{_mean_iou(own) - _mean_iou(base):+.3f} ({low:+.3f} to {high:+.3f})"
        each = " / ".join(f"{iou(seed.sum(0)):.3f}" for seed in own)
        mean_auc = np.mean([auc(seed.sum(0)) for seed in own])
        row = (stain, way, ("no", "yes")[normalise], each, f"{_mean_iou(own):.3f}", f"{mean_auc:.3f}", gain)
        print(f"| {' | '.join(row)} |")


def _mean_iou(counts: Counts) -> float:
    """Of some slides together, over seeds: [seeds, slides, 2, 256]."""
    return float(np.mean([iou(seed.sum(0)) for seed in counts]))


if __name__ == "__main__":
    tyro.cli(main)
