"""Trials of changed slide files: inference on them against inference on the unharmed ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import openslide

from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide
from benchmarks.faults.fault import Fault, Outcome, Seen, Trial
from benchmarks.faults.results import NEAR, SlideResult, Tolerance, differences
from benchmarks.faults.scene import check, infer
from benchmarks.faults.slide_files import MPP

_MOST_UNLIKE = 0.002
_LARGEST_DIFFERENCE = 12
"""Of 255, in the mean over 16 px."""


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A changed slide, and what it has to be like."""

    path: Path
    like: Path | SlideResult | None
    """The unharmed slide, or what is right for the changed one; None is what OpenSlide shows of the changed one."""
    tolerance: Tolerance = NEAR
    mpp: float | None = None
    """As the manifest says it."""
    boxes: Sequence[Box] = ()
    """Of sections.csv, in level-0 px."""


def slide_fault(kind: str, name: str, make: Callable[[Trial], Changed], *, by_finding: bool = False) -> Fault:
    """A fault of a slide file.

    Args:
        kind: the fault's kind.
        name: the fault's name.
        make: writes the changed slide into the trial's folder.
        by_finding: whether it is enough that the doctor names it.
    """

    def run(trial: Trial) -> Seen:
        return judge(trial, make(trial), by_finding=by_finding)

    return Fault(kind=kind, name=name, run=run)


def judge(trial: Trial, changed: Changed, *, by_finding: bool) -> Seen:
    """Let the product read a changed slide."""
    found = infer(trial.scene.study, changed.path, trial.folder / "inference", mpp=changed.mpp, boxes=changed.boxes)
    wrong = _wrong(trial, changed, found)
    text = "; ".join(what for what, _ in wrong)
    if not wrong:
        return Seen(Outcome.RIGHT)
    if all(coverage < 1 for _, coverage in wrong):
        return Seen(Outcome.REVIEW, text)
    if by_finding and (codes := new_findings(trial, changed)):
        return Seen(Outcome.FINDING, f"{', '.join(codes)}; {text}")
    return Seen(Outcome.SILENT, text)


def _wrong(trial: Trial, changed: Changed, found: SlideResult) -> list[tuple[str, float]]:
    """What is not as it has to be, with the coverage that was given there."""
    if isinstance(changed.like, SlideResult):
        return differences(found, changed.like, changed.tolerance)
    if changed.like is not None:
        return differences(found, trial.scene.unharmed(changed.like), changed.tolerance)
    share = _share_unlike_openslide(changed.path)
    coverage = min((section.coverage for section in found.sections), default=1.0)
    return [(f"{share:.2%} of the pixels are not as OpenSlide shows them", coverage)] if share > _MOST_UNLIKE else []


def _share_unlike_openslide(path: Path) -> float:
    """The share of a slide's pixels around which the product's and OpenSlide's colours differ."""
    with Slide(path, target_mpp=2 * MPP) as slide:
        ours = slide.read(Box(0, 0, slide.width_px, slide.height_px))
        level = slide.resolution.level
    with openslide.OpenSlide(path) as handle:
        theirs = np.asarray(handle.read_region((0, 0), level, handle.level_dimensions[level]))
    size = (ours.shape[1], ours.shape[0])
    shown = cv2.resize(np.ascontiguousarray(theirs), size, interpolation=cv2.INTER_AREA)
    difference = cv2.blur(ours, (16, 16)).astype(np.int16) - cv2.blur(shown[..., :3], (16, 16))
    return float((np.abs(difference).max(axis=2)[shown[..., 3] == 255] > _LARGEST_DIFFERENCE).mean())


def new_findings(trial: Trial, changed: Changed) -> list[str]:
    """What the doctor finds on the changed slide, and not on the scene's own."""
    found = check(changed.path, trial.folder / "checked", mpp=changed.mpp, boxes=changed.boxes)
    usual = check(trial.scene.jpeg, trial.folder / "usual")
    return sorted(code for _, code in found.keys() - usual.keys())
