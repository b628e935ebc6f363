"""Folds of the Training slides for cross-fitting: each slide is scored by a network that saw nobody of its fold.

Slides of one patient are in one fold; a slide whose patient is not known counts as a patient of its own. Which fold a
slide is in follows from the shard set and the manifest alone, and is written down before the first fold is trained.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bccdist.errors import ConfigurationError
from bccdist.parts import Part
from bccdist.seals import read_sealed_json, write_sealed_json
from bccdist.shard_set.index import ShardSet
from bccdist.slides.manifest import Manifest

FEWEST_FOLDS = 2
_ADVICE = "remove the folder that it lies in, and launch the audit again"


class SlidePatches(NamedTuple):
    """What a Training slide adds to a fold."""

    slide_id: str
    patient: str
    """Names the patient, or the slide where the patient is not known."""
    num_patches: int
    num_tumor: int
    """Patches with Tumornest (Table 2)."""


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Which Training slides are left out of which training."""

    num: int
    shard_set: str
    """Digest of the shard set that is trained on."""
    slides: Mapping[int, tuple[str, ...]]
    """The slides of each fold, sorted; the first fold is 1."""

    def left_out(self, fold: int) -> frozenset[str]:
        """The slides that the training of a fold does not see."""
        return frozenset(self.slides[fold])

    def fold_of(self, slide_id: str) -> int:
        """The fold that a slide is in.

        Raises:
            ConfigurationError: it is in none: it came after the folds were dealt.
        """
        for fold, slide_ids in self.slides.items():
            if slide_id in slide_ids:
                return fold
        raise ConfigurationError(f"slide {slide_id} is in none of the {self.num} folds; {_ADVICE}")


def deal_folds(shard_set: ShardSet, manifest: Manifest, num: int) -> Folds:
    """Deal the Training slides of a shard set out to folds.

    Raises:
        ConfigurationError: there are fewer patients than folds, or a training would see no tumor.
        ShardError: the set has no patches of Training.
    """
    return Folds(num=num, shard_set=shard_set.digest, slides=deal(_slides_in(shard_set, manifest), num))


def deal(slides: Iterable[SlidePatches], num: int) -> dict[int, tuple[str, ...]]:
    """Deal slides out to folds, patient by patient, so that all folds have about as much tumor.

    Returns:
        The slides of each fold, the first being 1; the same whatever the order of `slides`.

    Raises:
        ConfigurationError: there are fewer patients than folds, or all tumor is in one fold.
    """
    patients = defaultdict(list)
    for slide in slides:
        patients[slide.patient].append(slide)
    if not FEWEST_FOLDS <= num <= len(patients):
        raise ConfigurationError(
            f"folds is {num}, expected {FEWEST_FOLDS} to {len(patients)}: Training has slides of {len(patients)} "
            "patient(s) (a slide without patient_id counts as one), and nobody's slides are divided"
        )
    folds = _dealt(list(patients.values()), num)
    tumor = [sum(slide.num_tumor for slide in fold) for fold in folds]
    if max(tumor) == sum(tumor):
        raise ConfigurationError(
            f"all tumor of Training lies in one of {num} folds, so that its training would see none: annotate tumor "
            "of more patients"
        )
    return {number: tuple(sorted(slide.slide_id for slide in fold)) for number, fold in enumerate(folds, start=1)}


def _dealt(patients: Sequence[Sequence[SlidePatches]], num: int) -> list[list[SlidePatches]]:
    """Patients, those with most tumor first, each to the fold that has least of it; ties go by patches, then names."""

    def weight(slides: Sequence[SlidePatches]) -> tuple[int, int]:
        return sum(slide.num_tumor for slide in slides), sum(slide.num_patches for slide in slides)

    folds: list[list[SlidePatches]] = [[] for _ in range(num)]
    for slides in sorted(patients, key=lambda each: (*(-part for part in weight(each)), each[0].patient)):
        # No fold stays empty while another gets its second patient.
        min(folds, key=lambda fold: (bool(fold) and not all(folds), *weight(fold))).extend(slides)
    return folds


def _slides_in(shard_set: ShardSet, manifest: Manifest) -> list[SlidePatches]:
    rows = shard_set.part(Part.TRAINING)
    codes, names = shard_set.coded_column("slide_id")
    own = codes[rows.rows]
    patches, tumor = (np.bincount(each, minlength=len(names)) for each in (own, own[rows.members["tumor"]]))
    return [
        SlidePatches(names[code], _patient_of(manifest, names[code]), int(patches[code]), int(tumor[code]))
        for code in sorted(np.unique(own).tolist(), key=lambda code: names[code])
    ]


def _patient_of(manifest: Manifest, slide_id: str) -> str:
    patient = manifest.slide(slide_id).patient_id
    return f"patient {patient}" if patient else f"slide {slide_id}"


def claim_folds(path: Path, folds: Folds) -> None:
    """Write folds down, or check that those which are there are the same.

    Raises:
        ConfigurationError: they are others, or damaged.
    """
    if not path.exists():
        write_sealed_json(path, asdict(folds))
    elif difference := difference_to(path, folds):
        raise ConfigurationError(difference)


def difference_to(path: Path, folds: Folds) -> str:
    """Why folds are not those that were written down, in a sentence; empty where they are, or none were."""
    if not path.exists() or (there := read_folds(path)) == folds:
        return ""
    if there.num != folds.num:
        what = f"with {there.num} folds, and {folds.num} are asked for: give --folds {there.num}"
    elif there.shard_set != folds.shard_set:
        what = f"on the shard set {there.shard_set}, and it is {folds.shard_set} now"
    else:
        what = "with other slides in the folds: patient_id has changed in the manifest"
    return f"{path.parent}: this audit was begun {what}; to audit anew, remove that folder"


def read_folds(path: Path) -> Folds:
    """The folds that were written down.

    Raises:
        ConfigurationError: there are none, or the file is damaged.
    """
    if not path.exists():
        raise ConfigurationError(f"{path} is not there: begin with `python jobs/launch_audit.py`")
    values = read_sealed_json(path, error=ConfigurationError, advice=_ADVICE)
    slides = {int(fold): tuple(slide_ids) for fold, slide_ids in values["slides"].items()}
    return Folds(num=values["num"], shard_set=values["shard_set"], slides=slides)
