"""How far readers agree with one another on each part: `python analysis/make.py agreement STUDY`.

Two readers are compared on the sections to which both said Tumor or Normal; one of whom a reader was unsure is counted
beside them. What they said stands in the journals of a review and in the labels of today
(`analysis.study_evidence.readings`).
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pandas as pd

from analysis.review.agreement import anchoring, cohens_kappa, kappa_interval
from analysis.review.answers import Answer
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.readings import BlindReadings, Readings, blind_readings, journals_of, readings_of
from analysis.study_evidence.resampling import LEVEL, NUM_RESAMPLES, Interval, few_slides_notes
from analysis.study_evidence.slide_states import PARTS
from analysis.study_evidence.table import NOT_KNOWN, Table
from analysis.tables.intervals import interval_text
from bccdist.errors import NothingToShowError
from bccdist.parts import Part


def build_agreement(
    readings: Readings,
    parts: dict[str, Part],
    *,
    blind: BlindReadings | None,
    phantom: bool,
    notes: tuple[str, ...],
) -> Table:
    """One row for each part and pair of readers with a section that both answered.

    Args:
        readings: what each reader said.
        parts: the part of each slide.
        blind: from `blind_readings`; None where no review was held in the study.
        phantom: whether any slide is drawn.
        notes: to be said below the table.

    Raises:
        NothingToShowError: no section was answered by two readers.
    """
    rows = [
        row
        for part in PARTS
        for one, other in combinations(sorted(readings), 2)
        for row in _rows(readings, one, other, part, parts, blind)
    ]
    if not rows:
        raise NothingToShowError(
            "no section was answered by two readers; have a second one answer, each alone "
            "(`python jobs/review.py STUDY --reviewer NAME`), and give their exports to "
            "`python analysis/make.py relabel STUDY` at once"
        )
    frame = pd.DataFrame(rows).astype({"num_blind": "Int64"}).assign(phantom=phantom)
    return Table(
        name="agreement",
        title=f"Agreement of readers: Cohen's kappa with {LEVEL:.0%} intervals.",
        frame=frame,
        printed=_printed(frame),
        notes=(
            (
                "Of sections to which both said Tumor or Normal, by the answers that count; unsure ones are beside "
                "them. Both blind: of these, to how many both said it before the model's verdict was shown."
            ),
            (
                f"{NUM_RESAMPLES:,} resamples of whole slides; where both agree on all sections, Clopper and "
                "Pearson's bound of their agreement, each slide one trial."
            ),
            *notes,
            *few_slides_notes({str(row["part"]): int(row["num_slides"]) for row in rows if row["num_sections"]}),
        ),
    )


def _rows(
    readings: Readings,
    one: str,
    other: str,
    part: Part,
    parts: dict[str, Part],
    blind: BlindReadings | None,
) -> Iterator[dict[str, Any]]:
    """The row of a pair; none where they share no section of the part."""
    mine, theirs = readings[one], readings[other]
    shared = sorted(key for key in mine.keys() & theirs.keys() if parts.get(key[0]) is part)
    if not shared:
        return
    blind_to_one, blind_to_other = (set() if blind is None else blind.get(reader, ()) for reader in (one, other))
    answers = pd.DataFrame(
        {"slide_id": [key[0] for key in shared], "one": [mine[key] for key in shared]}
        | {"other": [theirs[key] for key in shared]}
        | {"is_blind": [key in blind_to_one and key in blind_to_other for key in shared]}
    )
    is_unsure = (answers["one"] == Answer.UNSURE.value) | (answers["other"] == Answer.UNSURE.value)
    decided = answers[~is_unsure]
    num_agreed = int((decided["one"] == decided["other"]).sum())
    yield {
        "part": part.value,
        "one": one,
        "other": other,
        "num_sections": len(decided),
        "num_slides": int(decided["slide_id"].nunique()),
        "num_unsure": int(is_unsure.sum()),
        "num_agreed": num_agreed,
        "num_blind": None if blind is None else int(decided["is_blind"].sum()),
        "agreement": num_agreed / len(decided) if len(decided) else float("nan"),
        **_kappa(decided).columns("kappa"),
    }


def _kappa(decided: pd.DataFrame) -> Interval:
    """Kappa of the sections that both decided; NaN where it is not defined."""
    pairs = list(zip(decided["one"], decided["other"], strict=True))
    kappa = cohens_kappa(pairs)
    if kappa is None:
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"))
    low, high = kappa_interval(list(zip(decided["slide_id"], pairs, strict=True)))
    return Interval(value=kappa, low=low, high=high)


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame.to_dict("records")
    return pd.DataFrame(
        {
            "part": frame["part"],
            "readers": frame["one"] + " and " + frame["other"],
            "kappa": [interval_text(Interval.from_columns(row, "kappa")) for row in rows],
            "agreement": [NOT_KNOWN if pd.isna(share) else f"{share:.1%}" for share in frame["agreement"]],
            "agreed": frame["num_agreed"].astype(str),
            "sections": frame["num_sections"].astype(str),
            "slides": frame["num_slides"].astype(str),
            "one unsure": frame["num_unsure"].astype(str),
            "both blind": [NOT_KNOWN if pd.isna(num) else str(num) for num in frame["num_blind"]],
        }
    )


def _led_notes(study: Evidence) -> Iterator[str]:
    """How far the verdict that was shown led first answers, where a review was held in the study."""
    found = anchoring(journals_of(study))
    shown, blind = found["shown"], found["blind"]
    if shown["num"] or blind["num"]:
        yield (
            f"First answers that say what the model said: {shown['num_agreed']} of {shown['num']} where its verdict "
            f"was shown before, {blind['num_agreed']} of {blind['num']} where it was not."
        )


def write_agreement(study: Evidence) -> Table:
    """Write how far readers agree with one another.

    Args:
        study: The study's folder.

    Raises:
        NothingToShowError: no section was answered by two readers.
        EventLogError: a journal of the review is damaged.
    """
    manifest, journals = study.manifest, journals_of(study)
    parts = {slide.slide_id: slide.part for slide in manifest.slides}
    return study.write(
        build_agreement(
            readings_of(study),
            parts,
            blind=blind_readings(journals) if journals else None,
            phantom=manifest.is_phantom,
            notes=tuple(_led_notes(study)),
        )
    )
