"""Patients dealt out to the parts of a study: whole, alike in their labels, and the same again for the same seed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bccdist.parts import Part


@dataclass(frozen=True, kw_only=True)
class PatientSlides:
    """What the split needs to know of a patient."""

    patient: str
    num_slides: int
    stratum: str
    """Patients of one stratum are spread over the parts alike: Tumor, Normal, or nothing where it is not known."""
    is_annotated: bool
    """Whether all slides have an annotation, without which they can only be in Validation II or Test."""


def split_by_patient(patients: Sequence[PatientSlides], shares: Mapping[Part, float], *, seed: int) -> dict[str, Part]:
    """The part of each patient.

    Patients are taken stratum by stratum, those without annotations first, then those with most slides, else in an
    order drawn from the seed; each goes to the part that then lacks most slides of its share, of the parts that it may
    be in.

    Args:
        patients: all of them; their order does not matter.
        shares: of the slides, by part; they need not sum to 1.
        seed: of the order.
    """
    total_share = sum(shares.values())
    lacking = dict.fromkeys(shares, 0.0)
    parts: dict[str, Part] = {}
    for stratum in sorted({each.stratum for each in patients}):
        members = [each for each in patients if each.stratum == stratum]
        num_slides = sum(each.num_slides for each in members)
        # What one stratum could not share out exactly, the next one makes up for.
        lacking = {part: left + num_slides * shares[part] / total_share for part, left in lacking.items()}
        for each in sorted(
            members, key=lambda each: (each.is_annotated, -each.num_slides, _drawn(each.patient, seed))
        ):
            able = [part for part in shares if shares[part] > 0 and (each.is_annotated or not part.is_annotated)]
            part = max(able or [Part.TEST], key=lambda part: lacking.get(part, 0.0))
            parts[each.patient] = part
            lacking[part] = lacking.get(part, 0.0) - each.num_slides
    return parts


def _drawn(patient: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{patient}".encode()).digest()
