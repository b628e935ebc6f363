"""What the answers of all readers to a section come to, and where that comes from (paper, section 3.2).

Readers answer by themselves. Where they differ, somebody who is none of them decides; what readers agree on needs no
decision, and one that was made before they agreed counts no more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from analysis.review.answers import Answer, GivenAnswer, GivenAs, Said
from bccdist.parts import Label


class Origin(StrEnum):
    """Where the label of a section comes from; analysis/study_evidence/relabel.py counts by it."""

    ONE = "one reader"
    AGREED = "readers agree"
    DECIDED = "decided"
    """Somebody decided between readers, be it that nobody can say."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What the answers of all reviewers to one section come to."""

    answers: Mapping[str, GivenAnswer]
    """The readings that count, by reviewer; at least one."""
    decisions: Mapping[str, GivenAnswer] = field(default_factory=dict)
    """The decisions between them that count, by reviewer."""

    @property
    def conflict(self) -> str:
        """Which reader said what, where readers differ; else nothing."""
        if len({answer.answer for answer in self.answers.values()}) < 2:
            return ""
        return "; ".join(f"{reviewer}: {answer.answer}" for reviewer, answer in sorted(self.answers.items()))

    @property
    def is_open(self) -> bool:
        """Whether readers differ and nobody has decided, or those who did differ, too.

        A decision "unsure" is one: it closes the conflict, and the section has no label.
        """
        return bool(self.conflict) and len({answer.answer for answer in self.decisions.values()}) != 1

    @property
    def may_be_decided(self) -> bool:
        """Whether a decision may give a label yet: readers differ, and whoever decided was unsure, or differs, too."""
        return bool(self.conflict) and self.label is None

    @property
    def came_blind(self) -> bool:
        """Whether all that the label rests on, decisions and what they were between, came before the verdict."""
        decisions = self.decisions if self.conflict else {}
        return all(answer.came_blind for answer in (*self.answers.values(), *decisions.values()))

    @property
    def counted(self) -> Mapping[str, GivenAnswer]:
        """The answers that the label rests on, by reviewer."""
        return self.decisions if self.conflict and self.decisions else self.answers

    @property
    def all_answers(self) -> list[tuple[str, GivenAnswer]]:
        """Readings and decisions, with who gave them."""
        return [*sorted(self.answers.items()), *sorted(self.decisions.items())]

    @property
    def newest(self) -> GivenAnswer:
        """The answer that was given last, of those that the label rests on."""
        return max(self.counted.values(), key=lambda answer: answer.at)

    @property
    def label(self) -> Label | None:
        """What all readers say, or who decided between them; None where that is nothing, or unsure."""
        said = {answer.answer for answer in self.counted.values()}
        if len(said) > 1 or Answer.UNSURE in said:
            return None
        return Label(said.pop().value)

    @property
    def origin(self) -> Origin | None:
        """Where the label comes from, or the decision that there is none; None where nothing is decided."""
        if self.conflict:
            return None if self.is_open else Origin.DECIDED
        if self.label is None:
            return None
        return Origin.AGREED if len(self.answers) > 1 else Origin.ONE

    @property
    def labelled_by(self) -> str:
        """All whose answers the label rests on."""
        return "; ".join(sorted(self.counted))


def resolve(journals: Iterable[Said]) -> dict[str, Resolved]:
    """The answers that count, by section; a decision about a section that nobody reads any more is none."""
    readings: dict[str, dict[str, GivenAnswer]] = {}
    decisions: dict[str, dict[str, GivenAnswer]] = {}
    for said in journals:
        for key, answer in said.latest.items():
            found = decisions if answer.given_as == GivenAs.DECISION else readings
            found.setdefault(key, {})[said.reviewer] = answer
    return {key: Resolved(answers=answers, decisions=decisions.get(key, {})) for key, answers in readings.items()}
