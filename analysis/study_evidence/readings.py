"""What readers said about sections, and what became of it: who labelled, who was unsure, where readers differ.

The review's export (`jobs/review.py --export`) and `relabel` with several readers' files write it into the columns of
sections.csv: `labelled_by` names all readers who answered, `conflict` says who said what where they differ, and a row
with readers and without a label is one of which all were unsure. Where somebody decided between readers `labelled_by`
names who decided, beside the conflict, and a decision without a label is "unsure". Journals of reviews that were held
in the study say it, too.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from analysis.review.answers import Answer, GivenAs, Said, read_journals
from analysis.review.consensus import resolve
from analysis.study_evidence.evidence import Evidence
from bccdist.parts import Label
from bccdist.sections.labels import CONFLICT, ORIGIN, SectionKey, key_of
from bccdist.slides.manifest import SectionRecord

_BETWEEN = "; "
"""Stands between readers, and between what each of them said."""
_ANSWERS = frozenset(answer.value for answer in Answer)
Readings = Mapping[str, Mapping[SectionKey, str]]
"""What each reader said of each section: Tumor, Normal or unsure."""
BlindReadings = Mapping[str, Collection[SectionKey]]
"""The sections of which each reader said it before the model's verdict was shown."""


class LabelState(StrEnum):
    """Whether a section has a label, and why it has none."""

    LABELLED = "labelled"
    UNSURE = "unsure"
    """Somebody looked and could not say, or decided between readers that nobody can."""
    CONFLICT = "conflict"
    """Readers differ, and nobody has decided."""
    UNLABELLED = "no label"
    """Nobody said anything."""


def state_of(section: SectionRecord) -> LabelState:
    """Whether a section has a label, and why it has none."""
    if section.label is not None:
        return LabelState.LABELLED
    if section.extra.get(CONFLICT) and not is_decided(section):
        return LabelState.CONFLICT
    return LabelState.UNSURE if section.labelled_by else LabelState.UNLABELLED


def is_decided(section: SectionRecord) -> bool:
    """Whether somebody has decided between readers who differ, be it that nobody can say."""
    if not section.extra.get(CONFLICT):
        return False
    if section.label is not None:
        return True
    readers = said_in(section)
    deciders = [name for name in section.labelled_by.split(_BETWEEN) if name and name not in readers]
    # Of several the review says whether they agree; without a label one alone can have said but one thing.
    return bool(readers) and (len(deciders) == 1 or (len(deciders) > 1 and bool(section.extra.get(ORIGIN))))


def label_states(study: Evidence) -> dict[SectionKey, LabelState]:
    """Why sections have no label, for all that the study knows; one of another state than its label says is older."""
    known = [*study.sections_in_ledger.values(), *study.labelled_manifest.sections]
    return {key_of(section): state_of(section) for section in known}


def said_in(section: SectionRecord) -> dict[str, str]:
    """What each reader said of a section; nothing where its row does not tell readers apart."""
    if CONFLICT not in section.extra or not section.labelled_by:
        return {}
    if text := section.extra[CONFLICT]:
        pairs = [each.rpartition(": ") for each in text.split(_BETWEEN)]
        is_known = all(name and answer in _ANSWERS for name, _, answer in pairs)
        return {name: answer for name, _, answer in pairs} if is_known else {}
    return dict.fromkeys(section.labelled_by.split(_BETWEEN), answer_of(section))


def answer_of(section: SectionRecord) -> str:
    """What the one reader of a row said."""
    return Answer.UNSURE.value if section.label is None else section.label.value


def agreed(said: Mapping[str, str]) -> tuple[Label | None, str]:
    """The label that several readers' answers come to, and who said what where they differ.

    There is none where they differ, or all are unsure.
    """
    answers = set(said.values())
    if len(answers) > 1:
        return None, _BETWEEN.join(f"{reader}: {answer}" for reader, answer in sorted(said.items()))
    (answer,) = answers
    return (None if answer == Answer.UNSURE else Label(answer)), ""


def names_of(readers: Iterable[str]) -> str:
    """Readers as `labelled_by` names them."""
    return _BETWEEN.join(sorted(readers))


def journals_of(study: Evidence) -> list[Said]:
    """What was said in reviews that were held in the study itself.

    Raises:
        EventLogError: a journal is damaged.
    """
    return read_journals(study.paths)


def readings_of(study: Evidence) -> Readings:
    """What each reader said, by the answers that count: the journals' before those in the labels of today.

    Raises:
        EventLogError: a journal is damaged.
    """
    found: defaultdict[str, dict[SectionKey, str]] = defaultdict(dict)
    for section in study.labelled_manifest.sections:
        for reader, answer in said_in(section).items():
            found[reader][key_of(section)] = answer
    for said in journals_of(study):
        for given in said.latest.values():
            # Who decides between readers is none of them.
            if given.given_as != GivenAs.DECISION:
                found[said.reviewer][given.slide_id, given.section_id] = given.answer.value
    return found


def blind_readings(journals: Iterable[Said]) -> BlindReadings:
    """The sections to which each reader's answer that counts came before the model's verdict was shown.

    An answer that was changed after the reveal is not blind, however the first one came about; where the change was
    taken back the first one counts, and is.
    """
    return {
        said.reviewer: {(each.slide_id, each.section_id) for each in said.latest.values() if each.came_blind}
        for said in journals
    }


def blind_labels(sections: Iterable[SectionRecord], journals: Iterable[Said]) -> set[SectionKey]:
    """The sections whose label, or whose want of one, is known to rest on blind readings alone.

    The readers whom the section's row names have to have said so in journals of the study, each blind; of a decision
    that holds for the readers that it was between, too. Of what came from elsewhere nobody knows it.
    """
    resolved = resolve(journals)
    return {
        key_of(section)
        for section in sections
        if (found := resolved.get("/".join(key_of(section)))) is not None
        and found.came_blind
        and (found.label, found.labelled_by) == (section.label, section.labelled_by)
    }
