"""What int8 changes by NNCF's own ranges and by this project's recipe: `python -m benchmarks.int8_recipe --help`.

Both are made of patches of Validation I and compared with OpenVINO's float32 on patches of Validation II: stored
probabilities of every output, and pixels that change their side of t_p. Patches are cut smaller, so that it takes
minutes; a network sees the same textures in them.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from bccdist.configuration import Setting
from bccdist.heatmaps.predictors import load_for_heatmaps
from bccdist.heatmaps.probability import step_of
from bccdist.heatmaps.stitching import to_steps
from bccdist.networks import openvino_engine
from bccdist.networks.folding import folded
from bccdist.networks.inference import WholeNetwork
from bccdist.networks.openvino_engine import OpenVinoRunner, make_int8_model
from bccdist.parts import Part
from bccdist.slides.manifest import read_manifest
from bccdist.slides.slide import Slide
from bccdist.speedups.samples import sample_patches


def main(
    *,
    weights: Path,
    manifest: Path,
    setting: Setting = "resnet34_ds",
    t_p: float = 0.5,
    num_samples: int = 64,
    num_compared: int = 48,
    edge_px: int = 256,
) -> None:
    """Measure and print a table.

    Args:
        weights: Of an epoch.
        manifest: slides.csv, whose Validation I and II are read.
        setting: Of the weights.
        t_p: Prediction threshold.
        num_samples: Patches that ranges are taken from.
        num_compared: Patches of the comparison.
        edge_px: Edge of the patches.
    """
    torch.set_num_threads(1)
    network, target_mpp, _ = load_for_heatmaps(weights, setting)
    module, slides = WholeNetwork(network), read_manifest(manifest)

    def patches(part: Part, num: int) -> Tensor:
        spread = sample_patches(
            slides.slides_of([part]),
            lambda record: Slide(record.path, target_mpp=target_mpp, mpp=record.mpp),
            num,
            sections=slides.sections_of,
        )
        return spread[:, :edge_px, :edge_px].contiguous()

    samples: list[tuple[Tensor, ...]] = [(patch[None],) for patch in patches(Part.VALIDATION_1, num_samples)]
    compared = patches(Part.VALIDATION_2, num_compared)
    exact = OpenVinoRunner(folded(module))(compared)
    print(f"{len(samples)} samples, {len(compared)} patches of {edge_px} px\n")
    print(
        "| recipe | output | largest | mean | crossing t_p | made in, s of a core | computed in |\n" + "|---" * 7 + "|"
    )
    for name, make in (("NNCF's ranges", _make_by_default), ("this project's", make_int8_model)):
        with tempfile.TemporaryDirectory() as folder:
            path, started = Path(folder) / "int8.xml", time.process_time()
            make(module, samples, path)
            made = time.process_time()
            found = OpenVinoRunner(path)(compared)
            times = f"{made - started:.1f} | {time.process_time() - made:.2f}"
        for psi, ours, theirs in zip(network.outputs, found, exact, strict=True):
            print(f"| {name} | {psi} | {_differences(ours, theirs, step_of(t_p))} | {times} |", flush=True)


def _differences(ours: Tensor, theirs: Tensor, threshold: int) -> str:
    """Largest and mean difference in steps of 1 / 255, and the share of pixels on another side."""
    here, there = (to_steps(each).numpy().astype(np.int16) for each in (ours, theirs))
    steps, crossing = np.abs(here - there), (here >= threshold) != (there >= threshold)
    return f"{steps.max()} | {steps.mean():.2f} | {crossing.mean():.2e}"


def _make_by_default(module: torch.nn.Module, samples: list[tuple[Tensor, ...]], path: Path) -> None:
    """All layers in int8, by ranges that are means of the samples' largest values; weights use half of theirs."""
    openvino_engine._openvino()  # noqa: SLF001 - before NNCF, which would report its use
    import nncf
    from nncf.quantization.advanced_parameters import OverflowFix

    model = openvino_engine._converted(folded(module), list(samples[0]))  # noqa: SLF001
    inputs = [tuple(each.numpy() for each in sample) for sample in samples]
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE)
    quantised = nncf.quantize(model, nncf.Dataset(inputs, list), subset_size=len(inputs), advanced_parameters=advanced)
    openvino_engine._save(quantised, path)  # noqa: SLF001


if __name__ == "__main__":
    tyro.cli(main)
