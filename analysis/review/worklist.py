"""Which sections are reviewed, in which order, and which of them blind (paper, section 3.2).

Labels that a model has filled in before lead the reviewer. So a share of the sections is blind: no prediction is shown
before the answer. Which ones, a digest of the seed and the names says: they are the same for every reviewer and at
every start. Nor does their place in the list tell: blind sections come first, in a random order, because in a list by
score the neighbours have the same verdict. For the same reason nothing is shown of the other sections of their slides
before they are answered (standing.py).
"""

import json
import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import pandas as pd

from analysis.review.answers import GivenAnswer
from analysis.review.reviewers import plain_name
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.verdict_table import no_rows
from bccdist.errors import ConfigurationError, first_of
from bccdist.files import atomic_path, digest_of, read_json
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice, choices_of, choose_headline
from bccdist.sections.section_rows import SectionRows, rows_of
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.sections.verdicts import Verdict
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, read_sections
from bccdist.stages.outdated import told_together, why_choices_are_outdated

Order = Literal["slide", "distance", "random"]
ConflictAnswers = Literal["hidden", "shown"]
_Names = tuple[tuple[str | int, ...], tuple[str | int, ...], str]
_DIGEST_HEX_DIGITS = 12
_MOST_UNKNOWN = 5
_BOX_COLUMNS = ["x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px"]


@dataclass(frozen=True, kw_only=True)
class ReviewPlan:
    """What all reviewers of a study share."""

    order: Order = "slide"
    """slide: one slide after the other, by name; distance: sections for review, then the smallest flip shifts; random:
    an order that the seed decides; in all three the blind sections first."""
    blind_share: float = 0.2
    """Share of the sections, 0 to 1, whose predictions are shown only after the answer."""
    seed: int = 0
    readers: tuple[str, ...] = ()
    """To whom the sections are dealt; empty: everybody reads all of them."""
    overlap: float = 1.0
    """Share of the sections, 0 to 1, that all readers read; each of the others is read by one of them."""
    conflict_answers: ConflictAnswers = "hidden"
    """Whether whoever decides between readers sees what they said before."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        if self.order not in get_args(Order):
            raise ConfigurationError(f"order is {self.order!r}, expected one of {', '.join(get_args(Order))}")
        if not 0 <= self.blind_share <= 1:
            raise ConfigurationError(f"blind_share is {self.blind_share}, expected 0 to 1")
        if not 0 <= self.overlap <= 1:
            raise ConfigurationError(f"overlap is {self.overlap}, expected 0 to 1")
        if self.overlap < 1 and len(set(self.readers)) < 2:
            raise ConfigurationError(
                f"overlap is {self.overlap}, but readers are {list(self.readers)}: sections are dealt to two or more"
            )
        if len({plain_name(reader) for reader in self.readers}) < len(self.readers):
            raise ConfigurationError(
                f"readers are {', '.join(self.readers)}: two of these names differ by case, dots or signs alone; name "
                "each reader once"
            )
        if self.conflict_answers not in get_args(ConflictAnswers):
            expected = " or ".join(get_args(ConflictAnswers))
            raise ConfigurationError(f"conflict_answers is {self.conflict_answers!r}, expected {expected}")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The plan of a study.

        Raises:
            ConfigurationError: it has a field that this version does not know, or a value that cannot work.
        """
        content = read_json(path)
        unknown = sorted(content.keys() - {each.name for each in fields(cls)})
        if unknown:
            raise ConfigurationError(f"{path}: unknown fields {', '.join(unknown)}; a later version wrote them")
        return cls(**{**content, "readers": tuple(content.get("readers", ()))})

    @property
    def content(self) -> dict[str, Any]:
        """What is written: order, blind share and seed, and of the others those that are not the default."""
        default = asdict(type(self)())
        always = {"order", "blind_share", "seed"}
        return {name: value for name, value in asdict(self).items() if name in always or value != default[name]}

    def is_blind(self, slide_id: str, section_id: str) -> bool:
        """Whether a section is reviewed blind."""
        return self._fraction("blind", slide_id, section_id) < self.blind_share

    def reads(self, reader: str, slide_id: str, section_id: str) -> bool:
        """Whether a reader is to read a section."""
        if self.is_shared(slide_id, section_id):
            return True
        place = int(self._fraction("reader", slide_id, section_id) * len(self.readers))
        return self.readers[place] == reader

    def is_shared(self, slide_id: str, section_id: str) -> bool:
        """Whether all readers are to read a section."""
        return not self.readers or self._fraction("shared", slide_id, section_id) < self.overlap

    def random_place(self, slide_id: str, section_id: str) -> float:
        """Where a section stands in the random order, 0 to 1."""
        return self._fraction("order", slide_id, section_id)

    def _fraction(self, purpose: str, slide_id: str, section_id: str) -> float:
        # Not a random number: the share stays blind for every reviewer, at every start, whatever sections are added.
        digest = digest_of([purpose, self.seed, slide_id, section_id])
        return int(digest, 16) / float(16**_DIGEST_HEX_DIGITS)


@dataclass(frozen=True, kw_only=True)
class SectionCall:
    """What one setting says about a section."""

    verdict: str
    """Tumor, Normal or review."""
    area_um2: float
    """Area of the largest region at t_p."""
    area_factor: float
    """The same as a multiple of t_A; at least 1 for Tumor."""
    flip_shift: float
    """The smallest shift of probability that would change the verdict; inf where none does."""


@dataclass(frozen=True, kw_only=True)
class WorkSection:
    """A section to review."""

    slide_id: str
    section_id: str
    part: Part
    box_level0_px: Box
    is_blind: bool
    """Whether predictions are hidden until the answer."""
    calls: Mapping[str, SectionCall]
    """What each setting says; empty where the slide was not inferred."""
    coverage: float | None = None
    """Share of the tissue that was read and predicted; None where the slide was not inferred."""
    not_assessable: str = ""
    """Why the model is not to be believed on it; empty where nothing speaks against it, or that was not judged."""
    label: str | None = None
    """The manifest's label: Tumor, Normal or None."""
    prefilled: str = ""
    """The headline's verdict, Tumor or Normal; empty where it gives none."""

    @property
    def key(self) -> str:
        """Names the section on the page."""
        return f"{self.slide_id}/{self.section_id}"


@dataclass(frozen=True, kw_only=True)
class Worklist:
    """The sections under review, and what they were predicted with."""

    paths: StudyPaths
    manifest: Manifest
    plan: ReviewPlan
    choices: Mapping[str, Choice]
    """The chosen model of each setting."""
    headline: Choice
    """The model that orders and pre-fills."""
    rows: SectionRows
    """The ledger's, of the settings' own outputs."""
    sections: tuple[WorkSection, ...]
    """What is reviewed, in this order."""
    all_sections: tuple[WorkSection, ...] = ()
    """Those of all readers."""
    others: Mapping[str, tuple[tuple[str, GivenAnswer], ...]] | None = None
    """Where this reviewer decides between readers: who said what, by section; None where they read."""
    num_unplaced: int = 0
    """Sections of the manifest that have neither a box nor a prediction, so that there is nowhere to look."""

    @cached_property
    def by_key(self) -> Mapping[str, WorkSection]:
        """The sections by `WorkSection.key`."""
        return {section.key: section for section in self.sections}

    @cached_property
    def by_slide(self) -> Mapping[str, list[WorkSection]]:
        """The sections of each slide."""
        found: dict[str, list[WorkSection]] = {}
        for section in self.sections:
            found.setdefault(section.slide_id, []).append(section)
        return found


def outdated_warning(worklist: Worklist) -> str:
    """That the verdicts which the page shows are by thresholds of before; empty where they are of today."""
    outdated = why_choices_are_outdated(worklist.paths, worklist.manifest)
    return f"Verdicts are by thresholds that are out of date ({told_together(outdated)})." if outdated else ""


def claim_plan(
    path: Path,
    *,
    order: Order | None,
    blind_share: float | None,
    seed: int | None,
    readers: Sequence[str] | None = None,
    overlap: float | None = None,
    conflict_answers: ConflictAnswers | None = None,
    dry_run: bool = False,
) -> ReviewPlan:
    """The study's plan: written by the first reviewer, and the same for all that follow.

    Args:
        path: where review.json is, or will be.
        order: None takes what is there, or the default; so do the others.
        blind_share: share of blind sections, 0 to 1.
        seed: decides which sections are blind, whose they are, and the random order.
        readers: to whom the sections are dealt.
        overlap: share that all of them read, 0 to 1.
        conflict_answers: whether whoever decides between readers sees what they said.
        dry_run: write nothing.

    Raises:
        ConfigurationError: the plan that is there is another one, or a value cannot work.
    """
    given = {
        "order": order,
        "blind_share": blind_share,
        "seed": seed,
        "readers": None if readers is None else tuple(readers),
        "overlap": overlap,
        "conflict_answers": conflict_answers,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    if not path.exists():
        if readers is not None and len(set(readers)) < 2:
            raise ConfigurationError(
                f"readers are {list(readers)}, expected two or more names, to whom the sections are dealt; leave "
                "--readers out where everybody reads all sections"
            )
        plan = ReviewPlan(**wanted)  # type: ignore[arg-type]
        if dry_run:
            return plan
        _create(path, plan)
    there = ReviewPlan.read(path)
    different = [
        f"{name} is {getattr(there, name)}, not {value}"
        for name, value in wanted.items()
        if getattr(there, name) != value
    ]
    if different:
        raise ConfigurationError(
            f"{path}: the review of this study was begun otherwise ({'; '.join(different)}); leave these flags out. "
            "Which sections are blind, and their order, must be the same for all reviewers"
        )
    return there


def _create(path: Path, plan: ReviewPlan) -> None:
    """Write the plan unless another reviewer has just done so."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(plan.content, indent=2) + "\n", encoding="utf-8")
        try:
            # A link is made or refused in one step: of two first reviewers one writes the plan, and both read it.
            os.link(partial, path)
        except FileExistsError:
            partial.write_bytes(path.read_bytes())


def read_worklist(
    study_root: Path,
    parts: Sequence[Part],
    plan: ReviewPlan,
    *,
    setting: str | None = None,
    listed: Path | None = None,
) -> Worklist:
    """The sections of some parts in the order of review.

    Args:
        study_root: the study's folder.
        parts: whose slides are reviewed.
        plan: order and blind share.
        setting: the one that orders sections and fills in labels; None is the best by F_beta on Validation I + II.
        listed: a CSV with slide_id and section_id of the sections that are reviewed, and no others; None is all.

    Raises:
        ConfigurationError: the folder is no study, or a listed section is none of these.
        LedgerError: nothing was selected, or not for this setting, or there is no section to review.
    """
    study = Evidence(study_root)
    paths, manifest, selection = study.paths, study.manifest, study.selection
    choices = {choice.setting: choice for choice in choices_of(selection)}
    headline = choose_headline(selection, setting)
    # A ledger row for each setting: the page shows them side by side, but one alone orders and fills in.
    rows = rows_of(study.ledger, parts, final_only=True)
    verdicts = pd.concat([section_verdicts(rows, choice) for choice in choices.values()], ignore_index=True)
    predicted = _predicted(verdicts, plan, headline.setting)
    # Slides without a heatmap are labelled, too: last, and with nothing filled in.
    others, num_unplaced = _not_predicted(
        study.labelled_manifest, parts, plan, {section.slide_id for section in predicted}
    )
    if not predicted and not others:
        raise no_rows(list(parts), list(choices.values()))
    found = [*predicted, *others] if listed is None else _listed(listed, [*predicted, *others])
    sections = in_order(found, plan, headline.setting)
    return Worklist(
        paths=paths,
        manifest=manifest,
        plan=plan,
        choices=choices,
        headline=headline,
        rows=rows,
        sections=sections,
        all_sections=sections,
        num_unplaced=num_unplaced,
    )


def _listed(path: Path, sections: Sequence[WorkSection]) -> list[WorkSection]:
    """The sections that a file names.

    Raises:
        ConfigurationError: it names none, or one that is none of these.
        ManifestError: it has faults.
    """
    rows = [f"{row.slide_id}/{row.section_id}" for row in read_sections(path)]
    there = {section.key: section for section in sections}
    if unknown := [key for key in rows if key not in there]:
        raise ConfigurationError(
            f"{path}: {len(unknown)} of its {len(rows)} sections are not under review: "
            f"{first_of(unknown, _MOST_UNKNOWN)}; make the list anew, or give the --parts that they are of"
        )
    return [there[key] for key in rows]


def _predicted(verdicts: pd.DataFrame, plan: ReviewPlan, headline: str) -> list[WorkSection]:
    """The sections of the slides that the chosen models were applied to."""
    found = []
    for (slide_id, section_id), rows in verdicts.groupby(["slide_id", "section_id"]):
        records = {str(row["setting"]): row for row in rows.to_dict("records")}
        # Box, part and coverage are facts of the section: all settings have the same.
        first = next(iter(records.values()))
        calls = {setting: call_of(row) for setting, row in records.items()}
        found.append(
            WorkSection(
                slide_id=str(slide_id),
                section_id=str(section_id),
                part=Part.parse(first["part"]),
                box_level0_px=Box(*(int(first[name]) for name in _BOX_COLUMNS)),
                is_blind=plan.is_blind(str(slide_id), str(section_id)),
                calls=calls,
                coverage=float(first["coverage"]),
                not_assessable="" if pd.isna(first["not_assessable"]) else str(first["not_assessable"]),
                label=None if pd.isna(first["label"]) else str(first["label"]),
                prefilled=_prefilled(calls.get(headline)),
            )
        )
    return found


def call_of(row: Mapping[Any, Any]) -> SectionCall:
    """What a row of the verdicts says."""
    return SectionCall(
        verdict=str(row["verdict"]),
        area_um2=float(row["area_um2"]),
        area_factor=float(row["area_factor"]),
        flip_shift=float(row["flip_shift"]),
    )


def _prefilled(call: SectionCall | None) -> str:
    return "" if call is None or call.verdict == Verdict.REVIEW else call.verdict


def _not_predicted(
    manifest: Manifest, parts: Sequence[Part], plan: ReviewPlan, predicted: set[str]
) -> tuple[list[WorkSection], int]:
    """The labelled sections of the manifest on other slides, and how many of them have no box."""
    slides = {slide.slide_id: slide for slide in manifest.slides_of(parts) if slide.slide_id not in predicted}
    sections = [section for section in manifest.sections if section.slide_id in slides]
    placed = [
        WorkSection(
            slide_id=section.slide_id,
            section_id=section.section_id,
            part=slides[section.slide_id].part,
            box_level0_px=section.box_level0_px,
            is_blind=plan.is_blind(section.slide_id, section.section_id),
            calls={},
            label=None if section.label is None else section.label.value,
        )
        for section in sections
        if section.box_level0_px is not None
    ]
    return placed, len(sections) - len(placed)


def in_order(
    sections: Iterable[WorkSection], plan: ReviewPlan, headline: str, closed: Container[str] = ()
) -> tuple[WorkSection, ...]:
    """Sections in the order of review: the blind ones first, those without a prediction last.

    Args:
        sections: what is reviewed.
        plan: says which order.
        headline: the setting whose flip shifts order by distance.
        closed: the slides whose verdicts may not be told, by their places neither.
    """
    return tuple(sorted(sections, key=lambda each: _place(each, plan, headline, is_closed=each.slide_id in closed)))


def _place(section: WorkSection, plan: ReviewPlan, headline: str, *, is_closed: bool) -> tuple[int, float, _Names]:
    """What sections are sorted by."""
    names = _in_numbers(section.slide_id), _in_numbers(section.section_id), section.key
    # Nothing that a model said may decide on the place of a blind section.
    if plan.order == "random" or section.is_blind:
        return int(not section.is_blind), plan.random_place(section.slide_id, section.section_id), names
    call = section.calls.get(headline)
    if call is None:
        return 4, 0.0, names
    if plan.order == "slide":
        return 1, 0.0, names
    if is_closed:
        return 3, 0.0, names
    # The smaller a shift changes the verdict, the more a label tells.
    return 1 if call.verdict == Verdict.REVIEW else 2, call.flip_shift, names


def _in_numbers(name: str) -> tuple[str | int, ...]:
    """A name by which slide 9 comes before slide 10: texts and numbers in turn."""
    return tuple(int(piece) if number % 2 else piece for number, piece in enumerate(re.split(r"([0-9]+)", name)))
