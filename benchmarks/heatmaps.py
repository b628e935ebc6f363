"""The way from slide to heatmap: this project against a plain patch loop, MONAI and TIAToolbox, with the same weights.

    python -m benchmarks.heatmaps --width 16 --repeats 3 --peers TIAToolbox=/path/to/python MONAI=/path/to/python

With `--study` it compares whole verdicts instead: a study's chosen network on the slides of a part, or of another
manifest. The ways take turns, each time in a process of its own, on the CPU. What is timed begins when libraries are
imported and weights are loaded, and ends when the heatmaps are on the disk. All are given the same tissue, in cells of
256 px, and the network has to see the same patches.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, Engine, Setting
from bccdist.errors import ConfigurationError
from bccdist.networks.weights import load_network
from bccdist.parts import Part
from benchmarks.heatmap_table import (
    Goal,
    Runs,
    Way,
    difference_over,
    heading,
    table,
    verdicts_table,
    why_uncomparable,
)
from benchmarks.heatmap_task import prepare_int8, prepare_slide, prepare_study, prepare_task
from benchmarks.heatmap_ways import Task, TaskSlide, task_text

CHECKOUT = Path(__file__).resolve().parent.parent
REFERENCE = "patch loop, DataLoader"
EXACT = "bccdist, exact"
CERTIFIED = "bccdist, certified"
TORCH_ENGINES = ("eager", "folded", "compiled")
TOOLS = ("TIAToolbox", "MONAI", "LazySlide")
PAPER_SLIDE_PATCHES = 1900
"""From here on a slide counts as one of the paper's size."""


def main(
    *,
    slide: Path | None = None,
    weights: Path | None = None,
    study: Path | None = None,
    manifest: Path | None = None,
    parts: tuple[Part, ...] = (Part.TEST,),
    setting: Setting = "resnet34_ds",
    width: int = 64,
    size_level0_px: tuple[int, int] = (9216, 6144),
    batch: int = 8,
    workers: tuple[int, ...] = (0, 2),
    repeats: int = 3,
    confidence: float = 0.95,
    peers: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
) -> None:
    """Measure and print a table, and which goals it meets.

    Args:
        slide: A slide with a level at the weights' um per pixel; None draws a phantom.
        weights: File with the weights of a run; None takes random ones, the same in every run.
        study: A study whose chosen epoch and thresholds give verdicts; then its slides are measured.
        manifest: Other slides for the study's network; None takes the study's own.
        parts: Which slides of a study or manifest.
        setting: The setting that random weights are made for, or that of the study.
        width: Filters of the first encoder block of random weights.
        size_level0_px: Width and height of the phantom, multiples of 16.
        batch: Patches per forward pass.
        workers: Numbers of workers that other tools are tried with; the patch loop has the largest.
        repeats: Turns of each way; at least 2 for medians that mean something.
        confidence: Of certified verdicts: 0.95 needs 19 calibrated slides, 0.9 needs 9.
        peers: Interpreters that have other tools, as TOOL=PYTHON with TIAToolbox, MONAI or LazySlide.
        only: Ways whose names contain one of these; heatmaps are compared with those of the first of them.
    """
    pythons = peer_pythons(peers)
    with tempfile.TemporaryDirectory(prefix="bccdist-heatmaps-") as name:
        folder = Path(name)
        if study is None:
            drawn, record = prepare_slide(folder, slide, size_level0_px)
            task, samples = prepare_task(folder, drawn, record, weights, setting=setting, width=width, batch=batch)
            halo_px, reason = prepare_int8(task, samples)
            every = ways(workers, halo_px=halo_px, reason_against_int8=reason)
            weights_text = f"weights of {weights.name}" if weights else "random weights, seed 0"
            what = f"{record.path.name}, dense patches with a halo of {halo_px} px, {weights_text}"
        else:
            task = prepare_study(folder, study, setting=setting, parts=parts, batch=batch, manifest=manifest)
            every = study_ways(workers, confidence=confidence)
            what = f"{(manifest or study).name}, {' and '.join(parts)}, trained weights of epoch {task.epoch}"
        chosen = [way for way in every if any(word in way.name for word in only or ("",))]
        runs = take_turns(chosen, task, folder, repeats=repeats, pythons=pythons)
        for line in report(chosen, runs, task, what):
            print(line)


def report(every: Sequence[Way], runs: Mapping[str, Runs], task: Task, what: str) -> Iterator[str]:
    """Everything that is printed: heading, tables, goals."""
    network, _ = load_network(Path(task.weights))
    yield from heading(
        task, f"{what}, {task.setting} of width {network.width}, {torch.get_num_threads()} threads, no GPU"
    )
    yield ""
    yield from table(every, runs, task)
    is_study = any(way.name in (EXACT, CERTIFIED) for way in every)
    if is_study:
        yield ""
        yield from verdicts_table(every, runs, exact=EXACT)
    yield ""
    for goal in goals(task, is_study=is_study):
        yield goal.judged(every, runs)


def goals(task: Task, *, is_study: bool) -> list[Goal]:
    """What was set for this table."""
    if not is_study:
        return [
            Goal(
                text="float32 in the paper's tiling at least 2.2 times TIAToolbox",
                names=("bccdist, paper, float32",),
                least_times_tiatoolbox=2.2,
            )
        ]
    if len(task.slides) == 1 and task.num_patches >= PAPER_SLIDE_PATCHES:
        return [
            Goal(
                text="a slide of the paper's size certified in at most 120 s and 2 GiB",
                names=(CERTIFIED,),
                most_wall_s=120,
                most_gib=2,
            )
        ]
    return [
        Goal(text="certified verdicts at least 8 times TIAToolbox", names=(CERTIFIED,), least_times_tiatoolbox=8),
    ]


def others(workers: Sequence[int]) -> list[Way]:
    """The other tools."""
    every = [
        Way(
            name=f"{tool}, {num} workers",
            function=function,
            options={"num_workers": num},
            is_other=True,
            peer=tool,
        )
        for tool, function in (("TIAToolbox", "tiatoolbox"), ("LazySlide", "lazyslide"))
        for num in workers
    ]
    return [*every, Way(name="MONAI, PatchInferer", function="monai_inferer", is_other=True, peer="MONAI")]


def ways(workers: Sequence[int], *, halo_px: int, reason_against_int8: str) -> list[Way]:
    """The patch loop, the others; then this project from slow to fast."""
    dense = {"tiling": "dense", "halo_px": halo_px}
    return [
        Way(name=REFERENCE, function="patch_loop", options={"num_workers": max(workers)}, is_other=True),
        *others(workers),
        Way(
            name="TIAToolbox, our export",
            function="tiatoolbox",
            options={"num_workers": 0, "exported": True},
            peer="TIAToolbox",
        ),
        Way(name="bccdist, paper, eager", function="bccdist", options={"engine": "eager"}),
        *(
            Way(name=f"bccdist, paper, float32 {engine}", function="bccdist", options={"engine": engine})
            for engine in get_args(Engine)
            if engine not in TORCH_ENGINES
        ),
        Way(name="bccdist, paper, psi_0", function="bccdist", options={"exit": "psi_0"}),
        Way(
            name="bccdist, paper, int8",
            function="bccdist",
            options={"precision": "int8"},
            reason=reason_against_int8,
        ),
        Way(name="bccdist, dense, float32", function="bccdist", options=dense, sees_all=False),
        Way(
            name="bccdist, dense, int8",
            function="bccdist",
            options={**dense, "precision": "int8"},
            sees_all=False,
            reason=reason_against_int8,
        ),
    ]


def study_ways(workers: Sequence[int], *, confidence: float) -> list[Way]:
    """The others; then this project's verdicts, exact and faster."""
    return [
        Way(name=REFERENCE, function="patch_loop", options={"num_workers": max(workers)}, is_other=True),
        *others(workers),
        Way(name=EXACT, function="bccdist"),
        Way(
            name=CERTIFIED,
            function="bccdist",
            options={"inference": "certified", "confidence": confidence},
            sees_all=False,
        ),
    ]


def peer_pythons(peers: Sequence[str]) -> dict[str, Path]:
    """Interpreters by tool, from TOOL=PYTHON.

    Raises:
        ConfigurationError: one is written otherwise, or the tool is not known.
    """
    pythons = {}
    for peer in peers:
        tool, _, python = peer.partition("=")
        if tool not in TOOLS or not python:
            raise ConfigurationError(f"--peers {peer}: expected TOOL=PYTHON with one of {', '.join(TOOLS)}")
        pythons[tool] = Path(python)
    return pythons


def take_turns(
    every: Sequence[Way], task: Task, folder: Path, *, repeats: int, pythons: Mapping[str, Path]
) -> dict[str, Runs]:
    """Run all ways `repeats` times in turn, the patch loop first; one that breaks is not tried again."""
    task_file = folder / "task.json"
    task_file.write_text(task_text(task))
    runs = {way.name: Runs(reason=way.reason) for way in every}
    reference = folder / "reference"
    for repeat in range(repeats):
        for way in every:
            found = runs[way.name]
            if found.reason:
                continue
            with tempfile.TemporaryDirectory(dir=folder) as name:
                here = Path(name)
                found.reason = run_once(way, task_file, here, pythons.get(way.peer, Path(sys.executable)))
                if not found.reason:
                    _keep(found, way, here, reference, task)
            said = found.reason or f"{found.outcomes[-1]['wall_s']:.1f} s, {found.outcomes[-1]['cpu_s']:.1f} s of CPU"
            load = os.getloadavg()[0]
            print(f"turn {repeat + 1}/{repeats}, {way.name}: {said}; load {load:.1f}", file=sys.stderr, flush=True)
    return runs


def _keep(found: Runs, way: Way, here: Path, reference: Path, task: Task) -> None:
    """What a run left in its folder; the first heatmaps of all are the ones that the others are compared with."""
    outcome = json.loads((here / "outcome.json").read_text())
    found.outcomes.append(outcome)
    found.reason = why_uncomparable(way, outcome, task)
    made = {slide.slide_id: here / f"compared-{slide.slide_id}.npy" for slide in task.slides}
    if not all(path.exists() for path in made.values()):
        return
    if not reference.exists():
        reference.mkdir()
        for path in made.values():
            shutil.copyfile(path, reference / path.name)
    found.difference = difference_over(
        [
            differences(np.load(made[slide.slide_id]), np.load(reference / made[slide.slide_id].name), slide)
            for slide in task.slides
        ]
    )


def run_once(way: Way, task_file: Path, here: Path, python: Path) -> str:
    """Run a way in a process of its own, in a folder of its own; returns why it broke, if so."""
    way_file = here / "way.json"
    way_file.write_text(json.dumps({"function": way.function, "options": dict(way.options)}))
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "CUDA_VISIBLE_DEVICES": ""}
    command = [str(python), "-m", "benchmarks.heatmap_ways", str(task_file), str(way_file), str(here)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=here)
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}, and no word"])[-1]
    return f"not installed: {last}" if last.startswith("ModuleNotFoundError") else f"broke: {last}"


def differences(heatmap: NDArray[np.float32], reference: NDArray[np.float32], slide: TaskSlide) -> NDArray[np.float32]:
    """How far apart two heatmaps are on the tissue of a slide: float32 [n], nan where one has nothing."""
    width, height = slide.size_px
    tissue = np.asarray(slide.cells).repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)[:height, :width]
    apart: NDArray[np.float32] = np.abs(heatmap - reference)[tissue]
    return apart


if __name__ == "__main__":
    tyro.cli(main)
