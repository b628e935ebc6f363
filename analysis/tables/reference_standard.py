"""Who labelled the sections, when, and led by what: `python analysis/make.py reference_standard STUDY`.

Every figure of right and wrong rests on this reference standard. A row is the sections of a part that the same reader
or readers labelled, or were unsure of, or differ on; those of which nobody said anything are a row, too.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.review.answers import Said
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.readings import LabelState, blind_labels, journals_of, state_of
from analysis.study_evidence.slide_states import PARTS
from analysis.study_evidence.table import NOT_KNOWN, Table
from bccdist.errors import NothingToShowError
from bccdist.parts import Label, Part
from bccdist.sections.labels import SectionKey, key_of
from bccdist.slides.manifest import SectionRecord

NOBODY = "nobody"
"""Who labelled sections without a label."""
NOT_NAMED = "not named"
"""Who labelled sections whose rows do not say it."""
NUM_OF = {
    LabelState.LABELLED: "num_labelled",
    LabelState.UNSURE: "num_unsure",
    LabelState.CONFLICT: "num_conflict",
    LabelState.UNLABELLED: "num_unlabelled",
}


def build_reference_standard(
    sections: list[SectionRecord], parts: dict[str, Part], journals: list[Said], *, phantom: bool, num_gone: int
) -> Table:
    """One row for each part and who labelled its sections.

    Args:
        sections: with their labels of today.
        parts: the part of each slide.
        journals: of reviews that were held in the study; without one nobody knows what was blind.
        phantom: whether any slide is drawn.
        num_gone: corrected sections that are not there any more.

    Raises:
        NothingToShowError: no part that is judged has a section.
    """
    blind = blind_labels(sections, journals)
    groups: dict[tuple[Part, str], list[SectionRecord]] = {}
    for section in sections:
        part = parts.get(section.slide_id)
        if part in PARTS:
            groups.setdefault((part, _reader(section)), []).append(section)
    if not groups:
        raise NothingToShowError("no section of Validation I, Validation II or Test is known yet")
    ordered = sorted(groups.items(), key=lambda item: (PARTS.index(item[0][0]), item[0][1] == NOBODY, -len(item[1])))
    frame = pd.DataFrame(
        [_row(part, reader, mine, blind if journals else None) for (part, reader), mine in ordered]
    ).assign(phantom=phantom)
    return Table(
        name="reference_standard",
        title="Reference standard: who labelled the sections, when, and led by what.",
        frame=frame,
        printed=_printed(frame),
        notes=tuple(_notes(frame, num_gone=num_gone)),
    )


def _reader(section: SectionRecord) -> str:
    if section.labelled_by:
        return section.labelled_by
    return NOT_NAMED if section.label is not None else NOBODY


def _row(part: Part, reader: str, sections: list[SectionRecord], blind: set[SectionKey] | None) -> dict[str, Any]:
    states = [state_of(section) for section in sections]
    dates = sorted(section.labelled_at for section in sections if section.labelled_at)
    return {
        "part": part.value,
        "labelled_by": reader,
        "num_sections": len(sections),
        **{f"num_{label.lower()}": sum(each.label is label for each in sections) for label in Label},
        **{
            NUM_OF[state]: states.count(state)
            for state in (LabelState.UNSURE, LabelState.CONFLICT, LabelState.UNLABELLED)
        },
        "num_prefilled": sum(bool(section.prefilled) for section in sections),
        "num_blind": None if blind is None else sum(key_of(section) in blind for section in sections),
        "first_labelled_at": dates[0] if dates else "",
        "last_labelled_at": dates[-1] if dates else "",
    }


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    def counted(name: str) -> list[str]:
        return [NOT_KNOWN if pd.isna(num) else f"{int(num):,}" for num in frame[name]]

    return pd.DataFrame(
        {
            "part": frame["part"],
            "labelled by": frame["labelled_by"],
            "sections": counted("num_sections"),
            "Tumor": counted("num_tumor"),
            "Normal": counted("num_normal"),
            "unsure": counted("num_unsure"),
            "in conflict": counted("num_conflict"),
            "no label": counted("num_unlabelled"),
            "pre-filled": counted("num_prefilled"),
            "blind": counted("num_blind"),
            "from": [text or NOT_KNOWN for text in frame["first_labelled_at"]],
            "to": [text or NOT_KNOWN for text in frame["last_labelled_at"]],
        }
    )


def _notes(frame: pd.DataFrame, *, num_gone: int) -> Iterator[str]:
    yield (
        "Pre-filled: a model had filled in a label before the reader saw the section; where that is not noted it is "
        "not known. Blind: every answer that the label rests on came before the review showed the model's verdict; "
        "one that was changed after that is not blind, and of labels from elsewhere it is not known."
    )
    if frame["num_blind"].isna().all():
        yield "No review was held in this study's folder, so it is not known what was labelled blind."
    if frame[["num_unsure", "num_conflict"]].to_numpy().any():
        yield (
            "Sections whose readers are unsure or differ have no label and count in no figure of right and wrong. "
            "Unsure is also what somebody who decided between readers was unsure of."
        )
    if num_gone:
        yield f"{num_gone} corrected label(s) are of no section any more, and count nowhere."


def write_reference_standard(study: Evidence) -> Table:
    """Write who labelled the sections, when, and led by what.

    Args:
        study: The study's folder.

    Raises:
        NothingToShowError: no part that is judged has a section.
        EventLogError: a journal of the review is damaged.
    """
    manifest = study.labelled_manifest
    # Where the manifest names sections of a slide, what was found beside them counts nowhere.
    table = build_reference_standard(
        list(manifest.sections),
        {slide.slide_id: slide.part for slide in manifest.slides},
        journals_of(study),
        phantom=manifest.is_phantom,
        num_gone=len(study.lost_corrections),
    )
    return study.write(table)
