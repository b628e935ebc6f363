"""Several readers of one study: whose sections are whose, how far each is, what is left to a third (section 3.2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.review.answers import Answer, GivenAnswer, GivenAs, Said, file_name_of, read_journals
from analysis.review.consensus import resolve
from analysis.review.worklist import ReviewPlan, Worklist, WorkSection, read_worklist
from bccdist.errors import ConfigurationError
from bccdist.parts import Part
from bccdist.paths import StudyPaths


def assigned(worklist: Worklist, reviewer: str) -> Worklist:
    """The sections that a reader is to read.

    Raises:
        ConfigurationError: sections are dealt to others, or none of those asked for is this reader's.
    """
    plan = worklist.plan
    if plan.readers and reviewer not in plan.readers:
        raise ConfigurationError(
            f"{worklist.paths.review_plan}: the sections of this study are dealt to {', '.join(plan.readers)}, and "
            f"{reviewer!r} is none of them; give one of these as --reviewer, or --conflicts to decide between them"
        )
    mine = tuple(each for each in worklist.all_sections if plan.reads(reviewer, each.slide_id, each.section_id))
    if not mine:
        raise ConfigurationError(
            f"none of the {len(worklist.all_sections)} sections of these parts is dealt to {reviewer!r}; give other "
            "--parts"
        )
    return replace(worklist, sections=mine)


def in_conflict(worklist: Worklist, journals: Sequence[Said], reviewer: str) -> Worklist:
    """The sections on which others differ, and on which nobody else has decided.

    Raises:
        ConfigurationError: there are none. It says on how many this reviewer is one of those who differ.
    """
    resolved = resolve(journals)
    open_ones = {
        key: each
        for key, each in resolved.items()
        if key in worklist.by_key and (each.may_be_decided or (each.conflict and reviewer in each.decisions))
    }
    others = {key: tuple(each.answers.items()) for key, each in open_ones.items() if reviewer not in each.answers}
    if not open_ones:
        raise ConfigurationError(
            f"{worklist.paths.review}: there is no conflict: readers differ on no undecided section"
        )
    if not others:
        raise ConfigurationError(
            f"{worklist.paths.review}: there is no conflict for {reviewer!r} to decide: readers differ on "
            f"{len(open_ones)} undecided section(s) of these parts, and {reviewer!r} is one of the readers of all of "
            "them; a conflict is decided by somebody who did not read the section"
        )
    return replace(worklist, sections=tuple(each for each in worklist.sections if each.key in others), others=others)


class Conflicts:
    """What there is to decide for somebody, read again whenever another one's journal has changed."""

    def __init__(self, worklist: Worklist, reviewer: str) -> None:
        """Find it for the first time.

        Raises:
            ConfigurationError: there is no conflict for this reviewer to decide.
            EventLogError: a journal is damaged.
        """
        self._all, self._reviewer = worklist, reviewer
        self._state = self._state_now()
        self.worklist = in_conflict(worklist, read_journals(worklist.paths), reviewer)

    def is_changed(self) -> bool:
        """Whether `worklist` is another one now.

        Raises:
            EventLogError: a journal is damaged.
        """
        state = self._state_now()
        if state == self._state:
            return False
        try:
            self.worklist = in_conflict(self._all, read_journals(self._all.paths), self._reviewer)
        except ConfigurationError:
            # All are settled. What was there stays, so that the page has a section to show.
            return False
        finally:
            self._state = state
        return True

    def _state_now(self) -> set[tuple[str, int, int]]:
        """What a change of the journals of others changes."""
        own = self._all.paths.review_journal(file_name_of(self._reviewer))
        others = (path for path in self._all.paths.review.glob("journal-*.jsonl") if path != own)
        return {(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in others}


def progress_by_reader(worklist: Worklist, journals: Iterable[Said]) -> list[dict[str, Any]]:
    """How far each reader is with the sections of the worklist's parts, those of the plan who have not begun too."""
    by_name = {said.reviewer: said for said in journals}
    names = [*worklist.plan.readers, *sorted(by_name.keys() - set(worklist.plan.readers))]
    return [_progress(worklist, name, by_name.get(name, Said(reviewer=name))) for name in names]


def _progress(worklist: Worklist, name: str, said: Said) -> dict[str, Any]:
    plan, latest = worklist.plan, said.latest
    is_reader = not plan.readers or name in plan.readers
    mine = [each for each in worklist.all_sections if is_reader and plan.reads(name, each.slide_id, each.section_id)]
    read = {key: answer for key, answer in latest.items() if answer.given_as != GivenAs.DECISION}
    return {
        "reader": name,
        "num": len(mine),
        "num_answered": _num_in(mine, read),
        "num_blind": sum(each.is_blind for each in mine),
        "num_blind_answered": _num_in((each for each in mine if each.is_blind), read),
        "num_unsure": sum(answer.answer is Answer.UNSURE for answer in read.values()),
        "num_hasty": sum(answer.is_hasty for answer in latest.values()),
        "num_rest": sum(answer.given_as == GivenAs.REST for answer in latest.values()),
        "num_decisions": len(latest) - len(read),
        "last_at": max((answer.at for answer in said.answers), default=None),
    }


def _num_in(sections: Iterable[WorkSection], answers: Mapping[str, GivenAnswer]) -> int:
    return sum(section.key in answers for section in sections)


def progress_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The progress of all readers as lines; what each said is not told, so that nobody is led by it."""
    if not rows:
        return "nobody has begun"
    lines = []
    for row in rows:
        counts = (
            f"{row['num_answered']} of {row['num']} sections answered, {row['num_blind_answered']} of "
            f"{row['num_blind']} blind ones; {row['num_unsure']} unsure, {row['num_hasty']} within half a second, "
            f"{row['num_rest']} confirmed with the rest of a slide, {row['num_decisions']} decisions"
        )
        lines.append(f"{row['reader']}: {counts}; last at {row['last_at'] or 'no time yet'}")
    return "\n".join(lines)


def study_progress(study_root: Path, parts: Sequence[Part], *, setting: str | None = None) -> str:
    """How far each reader of a study is with the sections of some parts, as lines.

    Raises:
        ConfigurationError: the folder is no study, or nobody has begun to review it.
        LedgerError: nothing was selected, or there is nothing to review.
        EventLogError: a journal is damaged.
    """
    paths = StudyPaths(study_root)
    if not paths.review_plan.exists():
        raise ConfigurationError(
            f"{paths.review_plan} is not there: nobody has begun to review this study; begin with `python "
            f'jobs/review.py {study_root} --reviewer "NAME"`'
        )
    worklist = read_worklist(study_root, parts, ReviewPlan.read(paths.review_plan), setting=setting)
    journals = read_journals(paths)
    num_open = sum(each.may_be_decided for each in resolve(journals).values())
    text = progress_text(progress_by_reader(worklist, journals))
    return f"{text}\n{num_open} section(s) on which readers differ are undecided (--conflicts)"
