"""What the ways from slide to heatmap took, as tables and goals in Markdown; ratios follow from the printed walls."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bccdist.configuration import CELL_PX
from benchmarks.heatmap_ways import Task


@dataclass(frozen=True, kw_only=True)
class Way:
    """One row of the table."""

    name: str
    function: str
    """Its name in `benchmarks.heatmap_ways.WAYS`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    is_other: bool = False
    """Not this project."""
    peer: str = ""
    """Runs in the interpreter that was named for this tool."""
    sees_all: bool = True
    """Whether the network has to see each patch of the paper's tiling once; else it has others, or some twice."""
    reason: str = ""
    """Why it cannot run here, if so."""

    @property
    def is_tiatoolbox(self) -> bool:
        """Whether it is one of TIAToolbox's ways with the network itself, of which the fastest counts."""
        return self.function == "tiatoolbox" and self.is_other


@dataclass(kw_only=True)
class Runs:
    """What a way's runs gave."""

    outcomes: list[dict[str, Any]] = field(default_factory=list)
    """`outcome.json` of each."""
    difference: tuple[float, float] | None = None
    """Largest and mean difference to the first way's heatmaps."""
    reason: str = ""
    """Why there is none, if so."""

    @property
    def wall_s(self) -> float:
        """Median wall seconds as they are printed; what is computed from them can be computed again by a reader."""
        return round(self.median("wall_s"), 2)

    @property
    def cpu_s(self) -> float:
        """Median seconds of processor time as they are printed."""
        return round(self.median("cpu_s"), 2)

    def median(self, name: str) -> float:
        """The median over the runs of a value of the outcomes."""
        return statistics.median(float(outcome[name]) for outcome in self.outcomes)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What was set to be reached, and by which ways: the best of them counts."""

    text: str
    names: tuple[str, ...]
    """How the names of ways begin that may reach it."""
    least_times_tiatoolbox: float = 0
    most_wall_s: float = 0
    most_gib: float = 0

    def judged(self, every: Sequence[Way], runs: Mapping[str, Runs]) -> str:
        """The goal, its figure from the same run and whether it is met, in one line."""
        able = [
            way
            for way in every
            if way.name.startswith(self.names) and runs[way.name].outcomes and not runs[way.name].reason
        ]
        if not able:
            return f"- {self.text}: not measured in this run."
        best = min(able, key=lambda way: runs[way.name].wall_s)
        found, figures, is_met = runs[best.name], [], True
        if self.least_times_tiatoolbox:
            tiatoolbox = fastest([way for way in every if way.is_tiatoolbox], runs)
            if tiatoolbox is None:
                return f"- {self.text}: not measured in this run, TIAToolbox is not there."
            times = tiatoolbox.wall_s / found.wall_s
            figures.append(f"{tiatoolbox.wall_s:.2f} s / {found.wall_s:.2f} s = {times:.2f} times")
            is_met &= times >= self.least_times_tiatoolbox
        if self.most_wall_s:
            figures.append(f"{found.wall_s:.1f} s")
            is_met &= found.wall_s <= self.most_wall_s
        if self.most_gib:
            figures.append(f"{found.median('peak_gib'):.2f} GiB")
            is_met &= found.median("peak_gib") <= self.most_gib
        return f"- {self.text}: {', '.join(figures)} ({best.name}): **{'met' if is_met else 'missed'}**."


def table(every: Sequence[Way], runs: Mapping[str, Runs], task: Task) -> Iterator[str]:
    """The rows in Markdown; a ratio is that of the two medians that are printed."""
    tiatoolbox = fastest([way for way in every if way.is_tiatoolbox], runs)
    best = fastest([way for way in every if way.is_other], runs)
    yield (
        "| way | wall s (all turns) | CPU s | patches/s | times TIAToolbox | by CPU s | times best other | peak GiB "
        "| largest diff. | mean diff. | patches seen | by |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for way in every:
        found = runs[way.name]
        yield f"| {way.name} | " + (
            " | ".join([*_speeds(found, task), *_ratios(found, tiatoolbox, best), *_rest(found)]) + " |"
            if found.outcomes and not found.reason
            else f"{found.reason} |" + 10 * " |"
        )


def heading(task: Task, what: str) -> Iterator[str]:
    """What was measured, and what the columns mean."""
    tissue_mpx = task.num_cells * CELL_PX**2 / 1e6
    num = len(task.slides)
    yield (
        f"{what}: {num} slide{'s' if num > 1 else ''}, {task.num_cells} cells of 256 px with tissue "
        f"({tissue_mpx:.1f} Mpx), {task.num_patches} patches in the paper's tiling; batches of {task.batch}."
    )
    yield (
        "Wall: from opening the first slide to the last heatmap on the disk, the median of the turns, each in a "
        "process of its own; ratios are those of the medians as printed. CPU s: processor time of the process and "
        "its workers. Patches/s: patches of the paper's tiling, whatever a way computes in its place. Not counted: "
        "imports, and loading of weights; for bccdist that is what the job takes when it has no slide. Counted for "
        "bccdist alone: finding the tissue, compiling for each size of patches, all psis, pyramids, the ledger's "
        "rows. Memory: the process, plus its largest loading worker. Differences: to the first way, on cells with "
        "tissue; bccdist and TIAToolbox store steps of 1/255. Tools whose patches keep to the slide are "
        "given the same compressed tiles with a cell of glass around, so that all see the same patches; how many the "
        "network saw is counted and checked."
    )


def fastest(every: Sequence[Way], runs: Mapping[str, Runs]) -> Runs | None:
    """The runs of the fastest of these ways, if any of them ran."""
    able = [runs[way.name] for way in every if runs[way.name].outcomes and not runs[way.name].reason]
    return min(able, key=lambda found: found.wall_s, default=None)


def _speeds(found: Runs, task: Task) -> list[str]:
    turns = ", ".join(f"{outcome['wall_s']:.1f}" for outcome in found.outcomes)
    return [f"{found.wall_s:.2f} ({turns})", f"{found.cpu_s:.2f}", f"{task.num_patches / found.wall_s:.2f}"]


def _ratios(found: Runs, tiatoolbox: Runs | None, best: Runs | None) -> list[str]:
    return [
        f"{tiatoolbox.wall_s / found.wall_s:.2f}" if tiatoolbox else "",
        f"{tiatoolbox.cpu_s / found.cpu_s:.2f}" if tiatoolbox else "",
        f"{best.wall_s / found.wall_s:.2f}" if best else "",
    ]


def _rest(found: Runs) -> list[str]:
    last = found.outcomes[-1]
    worker = f" + {found.median('worker_gib'):.2f}" if last["worker_gib"] else ""
    largest, mean = (f"{value:.1e}" for value in found.difference) if found.difference else ("no heatmap of it", "")
    return [f"{found.median('peak_gib'):.2f}{worker}", largest, mean, str(last["num_patches"]), last["software"]]


def why_uncomparable(way: Way, outcome: Mapping[str, Any], task: Task) -> str:
    """Why what a way did is not the others' work, if so."""
    seen, expected = outcome["num_patches"], task.num_patches
    if way.sees_all and seen != expected:
        return f"not comparable: its network saw {seen} patches, expected {expected}"
    return ""


def verdicts_table(every: Sequence[Way], runs: Mapping[str, Runs], *, exact: str) -> Iterator[str]:
    """How each way's verdicts were reached, and how many are others than the exact way's, if that ran, too."""
    expected = runs[exact].outcomes[-1]["verdicts"] if exact in runs and runs[exact].outcomes else None
    yield "| way | sections | reached | other verdicts than the exact way |"
    yield "|---|---|---|---|"
    for way in every:
        if not runs[way.name].outcomes or not (verdicts := runs[way.name].outcomes[-1]["verdicts"]):
            continue
        reached = runs[way.name].outcomes[-1]["reached"]
        counts = ", ".join(f"{num} {how}" for how, num in sorted(reached.items())) or "not said"
        yield f"| {way.name} | {len(verdicts)} | {counts} | {_changed(verdicts, expected)} |"


def _changed(verdicts: Mapping[str, str], expected: Mapping[str, str] | None) -> str:
    """How many verdicts are others, with their names where these are few; a missing one is another."""
    if expected is None:
        return "not compared"
    changed = sorted(name for name in expected if verdicts.get(name) != expected[name])
    return f"{len(changed)}" + (f" ({', '.join(changed)})" if 0 < len(changed) <= 5 else "")


def difference_over(apart: Sequence[np.ndarray[Any, np.dtype[np.float32]]]) -> tuple[float, float]:
    """Largest and mean of differences on several slides; nan where there are none."""
    every = np.concatenate([each[~np.isnan(each)] for each in apart]) if apart else np.zeros(0, dtype=np.float32)
    return (float(every.max()), float(every.mean())) if every.size else (float("nan"), float("nan"))
