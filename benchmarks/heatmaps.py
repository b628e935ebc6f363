"""The way from slide to heatmap: this project against a plain patch loop, MONAI and TIAToolbox, with the same weights.

    python -m benchmarks.heatmaps --width 16 --repeats 3 --peer-python /path/to/python

The ways take turns, each time in a process of its own, on the CPU. What is timed begins when libraries are imported
and weights are loaded, and ends when the heatmap is on the disk. All are given the same tissue, in cells of 256 px.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, Setting
from bccdist.networks.weights import load_network
from bccdist.slides.manifest import SlideRecord
from benchmarks.heatmap_task import prepare_int8, prepare_slide, prepare_task
from benchmarks.heatmap_ways import Task, task_text

CHECKOUT = Path(__file__).resolve().parent.parent
REFERENCE = "patch loop, DataLoader"


@dataclass(frozen=True, kw_only=True)
class Way:
    """One row of the table."""

    name: str
    function: str
    """Its name in `benchmarks.heatmap_ways.WAYS`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    is_other: bool = False
    """Not this project."""
    needs_peer: bool = False
    """Runs in the interpreter that has the other tools."""
    reason: str = ""
    """Why it cannot run here, if so."""

    @property
    def is_tiatoolbox(self) -> bool:
        """Whether it is one of TIAToolbox's ways, of which the fastest counts."""
        return self.function == "tiatoolbox"


@dataclass(kw_only=True)
class Runs:
    """What a way's runs gave."""

    outcomes: list[dict[str, Any]] = field(default_factory=list)
    """`outcome.json` of each."""
    difference: tuple[float, float] | None = None
    """Largest and mean difference to the patch loop's heatmap."""
    reason: str = ""
    """Why there is none, if so."""

    @property
    def seconds(self) -> list[float]:
        """Wall seconds of each run."""
        return [outcome["wall_s"] for outcome in self.outcomes]

    def median(self, name: str) -> float:
        """The median over the runs of a value of the outcomes."""
        return statistics.median(float(outcome[name]) for outcome in self.outcomes)


def main(
    *,
    slide: Path | None = None,
    weights: Path | None = None,
    setting: Setting = "resnet34_ds",
    width: int = 64,
    size_level0_px: tuple[int, int] = (9216, 6144),
    batch: int = 8,
    workers: tuple[int, ...] = (0, 2),
    repeats: int = 3,
    peer_python: Path | None = None,
    only: tuple[str, ...] = (),
) -> None:
    """Measure and print a table.

    Args:
        slide: A slide with a level at the weights' um per pixel; None draws a phantom.
        weights: File with the weights of a run; None takes random ones, the same in every run.
        setting: The setting that random weights are made for.
        width: Filters of the first encoder block of random weights.
        size_level0_px: Width and height of the phantom, multiples of 16.
        batch: Patches per forward pass.
        workers: Numbers of workers that TIAToolbox is tried with; the patch loop has the largest.
        repeats: Turns of each way; at least 3 for medians that mean something.
        peer_python: Interpreter that has MONAI and TIAToolbox; None takes this one.
        only: Ways whose names contain one of these; the patch loop always runs.
    """
    with tempfile.TemporaryDirectory(prefix="bccdist-heatmaps-") as name:
        folder = Path(name)
        manifest, record = prepare_slide(folder, slide, size_level0_px)
        task, samples = prepare_task(folder, manifest, record, weights, setting=setting, width=width, batch=batch)
        halo_px, reason = prepare_int8(task, samples)
        every = ways(workers, halo_px=halo_px, reason_against_int8=reason)
        chosen = [way for way in every if way.name == REFERENCE or any(word in way.name for word in only or ("",))]
        runs = take_turns(chosen, task, folder, repeats=repeats, peer_python=peer_python or Path(sys.executable))
        for line in [*heading(task, record, weights, halo_px=halo_px), "", *table(chosen, runs, task)]:
            print(line)


def ways(workers: Sequence[int], *, halo_px: int, reason_against_int8: str) -> list[Way]:
    """The others first, the patch loop at their head; then this project from slow to fast."""
    dense = {"tiling": "dense", "halo_px": halo_px}
    return [
        Way(name=REFERENCE, function="patch_loop", options={"num_workers": max(workers)}, is_other=True),
        *(
            Way(
                name=f"TIAToolbox, {num} workers",
                function="tiatoolbox",
                options={"num_workers": num},
                is_other=True,
                needs_peer=True,
            )
            for num in workers
        ),
        Way(
            name="TIAToolbox, our export",
            function="tiatoolbox",
            options={"num_workers": 0, "exported": True},
            needs_peer=True,
        ),
        Way(name="MONAI, sliding window", function="monai_window", is_other=True, needs_peer=True),
        Way(name="bccdist, paper, float32 eager", function="bccdist", options={"engine": "eager"}),
        Way(name="bccdist, paper, float32", function="bccdist"),
        Way(name="bccdist, paper, float32, exit psi_0", function="bccdist", options={"exit": "psi_0"}),
        Way(
            name="bccdist, paper, int8",
            function="bccdist",
            options={"precision": "int8"},
            reason=reason_against_int8,
        ),
        Way(name="bccdist, dense, float32", function="bccdist", options=dense),
        Way(
            name="bccdist, dense, int8",
            function="bccdist",
            options={**dense, "precision": "int8"},
            reason=reason_against_int8,
        ),
    ]


def take_turns(every: Sequence[Way], task: Task, folder: Path, *, repeats: int, peer_python: Path) -> dict[str, Runs]:
    """Run all ways `repeats` times in turn, the patch loop first; one that breaks is not tried again."""
    task_file = folder / "task.json"
    task_file.write_text(task_text(task))
    runs = {way.name: Runs(reason=way.reason) for way in every}
    reference = folder / "reference.npy"
    for repeat in range(repeats):
        for way in every:
            found = runs[way.name]
            if found.reason:
                continue
            with tempfile.TemporaryDirectory(dir=folder) as name:
                here = Path(name)
                found.reason = run_once(way, task_file, here, peer_python if way.needs_peer else Path(sys.executable))
                if not found.reason:
                    _keep(found, here, reference, task)
            said = found.reason or f"{found.seconds[-1]:.1f} s"
            print(f"turn {repeat + 1}/{repeats}, {way.name}: {said}", file=sys.stderr, flush=True)
    return runs


def _keep(found: Runs, here: Path, reference: Path, task: Task) -> None:
    """What a run left in its folder; the first heatmap of all is the one that the others are compared with."""
    found.outcomes.append(json.loads((here / "outcome.json").read_text()))
    heatmap = here / "compared.npy"
    if not heatmap.exists():
        return
    if not reference.exists():
        shutil.copyfile(heatmap, reference)
    found.difference = difference(np.load(heatmap), np.load(reference), task)


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


def difference(heatmap: NDArray[np.float32], reference: NDArray[np.float32], task: Task) -> tuple[float, float]:
    """Largest and mean difference on tissue that both cover; nan where there is none."""
    width, height = task.size_px
    tissue = np.asarray(task.cells).repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)[:height, :width]
    apart = np.abs(heatmap - reference)[tissue]
    apart = apart[~np.isnan(apart)]
    return (float(apart.max()), float(apart.mean())) if apart.size else (float("nan"), float("nan"))


def heading(task: Task, record: SlideRecord, weights: Path | None, *, halo_px: int) -> Iterator[str]:
    """What was measured, and what the columns mean."""
    network, metadata = load_network(Path(task.weights))
    of = f"of {weights.name}" if weights else "random, seed 0"
    width, height = task.size_px
    yield (
        f"{record.path.name} ({record.scanner or 'no scanner named'}): {width:,} x {height:,} px at "
        f"{metadata['target_mpp']} um/px, {np.count_nonzero(task.cells)} cells of 256 px with tissue, "
        f"{len(task.places)} patches in the paper's tiling; {task.setting}, width {network.width}, weights {of}; "
        f"batches of {task.batch}, {torch.get_num_threads()} threads, no GPU; halo of dense patches {halo_px} px."
    )
    yield (
        "Patches/s: patches of the paper's tiling, whatever a way computes in its place, over wall seconds from "
        "opening the slide to the heatmap on the disk. Tissue Mpx/s: the cells with tissue, each once. Not counted: "
        "imports, and loading of weights; for bccdist that is what the job takes when it has no slide. Counted for "
        "bccdist alone: finding the tissue, OpenVINO's compiling, all psis, pyramids, the ledger's rows. MONAI takes "
        "no mask and computes the tissue's bounding box. Memory: the process, plus its largest loading worker. "
        "Differences: to the patch loop, on cells with tissue; bccdist and TIAToolbox store steps of 1/255, and "
        "TIAToolbox begins at the slide's edge, so that cells there lie under fewer patches."
    )


def table(every: Sequence[Way], runs: Mapping[str, Runs], task: Task) -> Iterator[str]:
    """The rows in Markdown; ratios are medians over the turns."""
    others = [way for way in every if way.is_other and runs[way.name].seconds]
    tiatoolbox = _fastest([way for way in others if way.is_tiatoolbox], runs)
    best = _fastest(others, runs)
    yield (
        "| way | patches/s | tissue Mpx/s | wall s | times TIAToolbox | times best other | peak GiB | largest diff. "
        "| mean diff. | patches seen | by |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for way in every:
        found = runs[way.name]
        yield f"| {way.name} | " + (
            " | ".join([*_speeds(found, task), _times(found, tiatoolbox), _times(found, best), *_rest(found)]) + " |"
            if found.outcomes and not found.reason
            else f"{found.reason} |" + 9 * " |"
        )


def _fastest(every: Sequence[Way], runs: Mapping[str, Runs]) -> Runs | None:
    able = [runs[way.name] for way in every if not runs[way.name].reason]
    return min(able, key=lambda found: found.median("wall_s"), default=None)


def _speeds(found: Runs, task: Task) -> list[str]:
    wall_s = found.median("wall_s")
    tissue_mpx = np.count_nonzero(task.cells) * CELL_PX**2 / 1e6
    return [f"{len(task.places) / wall_s:.2f}", f"{tissue_mpx / wall_s:.3f}", f"{wall_s:.1f}"]


def _times(found: Runs, other: Runs | None) -> str:
    """How many times as fast, the median over the turns."""
    if other is None:
        return ""
    ratios = [theirs / ours for theirs, ours in zip(other.seconds, found.seconds, strict=True)]
    return f"{statistics.median(ratios):.2f}"


def _rest(found: Runs) -> list[str]:
    last = found.outcomes[-1]
    worker = f" + {found.median('worker_gib'):.2f}" if last["worker_gib"] else ""
    largest, mean = (f"{value:.1e}" for value in found.difference) if found.difference else ("another output", "")
    return [f"{found.median('peak_gib'):.2f}{worker}", largest, mean, str(last["num_patches"]), last["software"]]


if __name__ == "__main__":
    tyro.cli(main)
