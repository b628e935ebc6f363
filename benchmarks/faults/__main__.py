"""Faults run through a finished phantom study, and what came of each: `python -m benchmarks.faults STUDY --seeds 3`.

A folder that is not there is made into a small phantom study first. The exit code is 0 only if no fault was passed in
silence and none ended in an error that is not made for the user.
"""

import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import tyro

from bccdist.files import write_json
from bccdist.log import LOG
from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.fault import FAILURES, Fault, Outcome, Seen, try_fault
from benchmarks.faults.scene import FinishedStudy, make_scene
from benchmarks.faults.small_study import make_small_study, open_study

Outcomes = dict[Fault, list[Seen]]


def try_all(study: FinishedStudy, faults: Sequence[Fault], seeds: Sequence[int], folder: Path) -> Outcomes:
    """Every fault with every seed, each in a folder of its own below `folder`."""
    found: Outcomes = {fault: [] for fault in faults}
    for seed in seeds:
        scene = make_scene(study, seed, folder / f"scene-{seed}")
        for number, fault in enumerate(faults):
            found[fault].append(try_fault(fault, scene, folder / f"trial-{seed}-{number}"))
    return found


def table(found: Outcomes) -> Iterator[str]:
    """A row for each fault, and one for all, in Markdown."""
    yield "| kind | fault | seeds | " + " | ".join(Outcome) + " |"
    yield "|---|---|" + (1 + len(Outcome)) * "---:|"
    for fault, seen in found.items():
        yield _row(fault.kind, fault.name, seen)
    yield _row("all", f"{len(found)} faults", [each for seen in found.values() for each in seen])


def _row(kind: str, name: str, seen: Sequence[Seen]) -> str:
    counts = Counter(each.outcome for each in seen)
    return f"| {kind} | {name} | {len(seen)} | " + " | ".join(str(counts[each] or "") for each in Outcome) + " |"


def failure_lines(found: Outcomes) -> list[str]:
    """What was passed in silence or crashed, with what was seen."""
    return [
        f"{each.outcome.value.upper()}: {fault.kind}, {fault.name}: {each.text}"
        for fault, seen in found.items()
        for each in seen
        if each.outcome in FAILURES
    ]


def main(
    study: Annotated[Path, tyro.conf.Positional],
    *,
    seeds: int = 3,
    kind: tuple[str, ...] = (),
    only: str = "",
    json: Path | None = None,
    verbose: bool = False,
) -> int:
    """Run faults through a finished phantom study.

    Args:
        study: The study's folder; a small study is made where there is none.
        seeds: How often each fault is done, each time to another slide or at another place.
        kind: Only faults of these kinds.
        only: Only faults whose name holds this text.
        json: Where to write what came of each, with its reason.
        verbose: Print the reason of every outcome.
    """
    for name in (LOG.name, "tifffile"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    started_s = time.perf_counter()
    if not study.exists():
        make_small_study(study)
    faults = [fault for fault in FAULTS if (not kind or fault.kind in kind) and only in fault.name]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        found = try_all(open_study(study), faults, range(seeds), Path(folder))
    print("\n".join(table(found)))
    for fault, seen in found.items() if verbose else ():
        print(*(f"{fault.kind}, {fault.name}: {each.outcome}: {each.text}" for each in seen), sep="\n")
    failures = failure_lines(found)
    print(f"\n{time.perf_counter() - started_s:.0f} s", *failures, sep="\n")
    if json is not None:
        rows = [
            {
                "kind": fault.kind,
                "fault": fault.name,
                "seed": seed,
                "outcome": each.outcome,
                "text": each.text,
                "cpu_s": each.cpu_s,
            }
            for fault, seen in found.items()
            for seed, each in enumerate(seen)
        ]
        write_json(json, rows)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
