"""What a fault is, what can come of it, and one trial of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from time import process_time
from zlib import crc32

import numpy as np

from bccdist.errors import BccdistError
from benchmarks.faults.scene import Scene


class Outcome(StrEnum):
    """What the product made of a fault; the last two must not be."""

    RIGHT = "right"
    """The results are those of the unharmed input."""
    REFUSED = "refused"
    """An error that names the file."""
    FINDING = "finding"
    """A check before the jobs names it; only where that is what is asked for."""
    REVIEW = "review"
    """Every section whose result differs has a coverage below 1."""
    SILENT = "silent"
    """Another result, and not a word."""
    CRASH = "crash"
    """An error that is not made for the user, or that does not name the file."""


FAILURES = (Outcome.SILENT, Outcome.CRASH)


@dataclass(frozen=True)
class Seen:
    """What came of a trial, and in a few words why it was called so."""

    outcome: Outcome
    text: str = ""
    cpu_s: float = 0.0
    """Processor time of the trial."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a fault works with."""

    scene: Scene
    """The unharmed slide."""
    rng: np.random.Generator
    folder: Path
    """An empty one, for what is made."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that scanners, exporters, disks or spreadsheets do to a study's files."""

    kind: str
    name: str
    run: Callable[[Trial], Seen]
    """Does it to a copy, lets the product read that, and says what came of it."""
    names: str = ""
    """What the message of a refusal has to name; the trial's folder by default, in which all files lie."""


def try_fault(fault: Fault, scene: Scene, folder: Path) -> Seen:
    """One trial; what the fault draws follows from its name and the scene's seed."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([scene.seed, crc32(f"{fault.kind} {fault.name}".encode())])
    started_s = process_time()
    seen = _outcome(fault, Trial(scene=scene, rng=rng, folder=folder))
    return replace(seen, cpu_s=round(process_time() - started_s, 3))


def _outcome(fault: Fault, trial: Trial) -> Seen:
    try:
        return fault.run(trial)
    except BccdistError as error:
        text = first_line(error)
        if (fault.names or trial.folder.name) in str(error):
            return Seen(Outcome.REFUSED, text)
        return Seen(Outcome.CRASH, f"an error that does not name the file: {text}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and told
        return Seen(Outcome.CRASH, f"{type(error).__name__}: {first_line(error)}")


def first_line(error: Exception) -> str:
    """The beginning of an error's message."""
    return " ".join(str(error).split())[:200]
