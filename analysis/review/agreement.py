"""How far reviewers agree with one another, and how far what was filled in before leads them (paper, section 3.2).

Between two reviewers it is Cohen's kappa over the sections to which both said Tumor or Normal, by the answers that
count. Anchoring compares the share of answers that agree with the model where its verdict was shown before and where
it was not. First answers alone tell: the answer to a blind section reveals it, so a correction has seen it. Decisions
between the answers of others are no readings of their own, and count in neither.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.review.answers import Answer, GivenAnswer, GivenAs, Said
from analysis.study_evidence.resampling import (
    are_alike,
    draw_slides,
    exact_bounds,
    few_slides_notes,
    interval_of,
)
from bccdist.parts import Label

_Z_95 = 1.96
_LEAST_ROOM = 1e-12
_DECIDED = (Answer.TUMOR, Answer.NORMAL)
_LABELS = frozenset(label.value for label in Label)


@dataclass(frozen=True, kw_only=True)
class PairAgreement:
    """Two reviewers on the sections that both decided."""

    one: str
    other: str
    num: int
    """Sections to which both said Tumor or Normal."""
    num_unsure: int
    """Sections that both answered, at least one of them with unsure; left out."""
    num_agreed: int
    kappa: float | None
    """Cohen's kappa; None where it is not defined."""
    num_blind: int = 0
    """Of `num`, the sections to which both said it before the model's verdict was shown."""
    num_slides: int = 0
    """Slides with a section that both decided; the interval rests on them."""
    interval: tuple[float, float] | None = None
    """Of kappa, over resampled slides; None where there is no kappa."""
    note: str = ""
    """Why there is no kappa."""

    @property
    def agreement(self) -> float | None:
        """Share of sections to which both said the same."""
        return self.num_agreed / self.num if self.num else None


@dataclass(frozen=True, kw_only=True)
class Led:
    """First answers to sections for which the model gave a verdict, under one condition."""

    num: int
    """Answers that were Tumor or Normal."""
    num_agreed: int
    """Answers that say what the model said."""
    num_unsure: int
    """Answers that were unsure; left out."""

    @property
    def agreement(self) -> float | None:
        """Share that agrees with the model."""
        return self.num_agreed / self.num if self.num else None


def _none(_: GivenAnswer) -> bool:
    return False


def readings(
    answers: Mapping[str, GivenAnswer], is_hidden: Callable[[GivenAnswer], bool] = _none
) -> dict[str, GivenAnswer]:
    """Those of some answers by section that are readings of their own and may be counted."""
    return {
        key: answer for key, answer in answers.items() if answer.given_as != GivenAs.DECISION and not is_hidden(answer)
    }


def pair_agreement(one: Said, other: Said, is_hidden: Callable[[GivenAnswer], bool] = _none) -> PairAgreement:
    """The agreement of two reviewers, but for hidden answers."""
    mine, theirs = readings(one.latest, is_hidden), readings(other.latest, is_hidden)
    keys = sorted(mine.keys() & theirs.keys())
    both = [(mine[key].answer, theirs[key].answer) for key in keys]
    decided_keys = [key for key, pair in zip(keys, both, strict=True) if set(pair) <= set(_DECIDED)]
    pairs = [(mine[key].slide_id, (mine[key].answer, theirs[key].answer)) for key in decided_keys]
    decided = [pair for _, pair in pairs]
    kappa = cohens_kappa(decided)
    notes = {0: "no section was decided by both"}
    return PairAgreement(
        one=one.reviewer,
        other=other.reviewer,
        num=len(decided),
        num_unsure=len(both) - len(decided),
        num_agreed=sum(first == second for first, second in decided),
        num_blind=sum(mine[key].came_blind and theirs[key].came_blind for key in decided_keys),
        kappa=kappa,
        num_slides=len({slide_id for slide_id, _ in pairs}),
        interval=None if kappa is None else kappa_interval(pairs),
        note="" if kappa is not None else notes.get(len(decided), "both gave every section the same one label"),
    )


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement beyond chance; None without pairs, and where chance alone agrees always: all are of one label."""
    num = len(pairs)
    if not num:
        return None
    labels = {label for pair in pairs for label in pair}
    by_chance = sum(
        sum(first == label for first, _ in pairs) * sum(second == label for _, second in pairs) for label in labels
    )
    # Both gave all sections one label: they could not but agree.
    if by_chance == num * num:
        return None
    agreed = sum(first == second for first, second in pairs)
    return (agreed * num - by_chance) / (num * num - by_chance)


def kappa_interval(pairs: Sequence[tuple[str, tuple[str, str]]]) -> tuple[float, float]:
    """The 95% interval of kappa over resampled slides, by the one rule of all intervals (resampling.py).

    Where every resample has the same kappa, its ends are those at the exact bounds of the share that agrees, each
    slide one trial.

    Args:
        pairs: slide and the two answers, for each section; kappa is defined over all of them.
    """
    slides = sorted({slide_id for slide_id, _ in pairs})
    counts = np.zeros((len(slides), len(_DECIDED) ** 2), dtype=np.int64)
    for slide_id, pair in pairs:
        first, second = (_DECIDED.index(Answer(answer)) for answer in pair)
        counts[slides.index(slide_id), first * len(_DECIDED) + second] += 1
    agreed, by_chance = _shares(counts.sum(axis=0, keepdims=True))
    kappa = float(_kappa(agreed, by_chance)[0])
    samples = _kappa(*_shares(draw_slides(len(slides)) @ counts))
    if not are_alike(samples):
        found = interval_of(kappa, samples, num_trials=len(slides))
        return found.low, found.high
    ends = np.array(exact_bounds(float(agreed[0]), len(slides)))
    low, high = _kappa(ends, by_chance)
    return float(low), float(high)


def _shares(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The shares [n] that agree, and that would by chance, of counts [n, first answer and second answer]."""
    table = counts.reshape(len(counts), len(_DECIDED), len(_DECIDED)).astype(np.float64)
    # A resample without a section has no share.
    total = np.maximum(table.sum(axis=(1, 2)), 1)
    by_chance = (table.sum(axis=2) * table.sum(axis=1)).sum(axis=1) / total**2
    return np.trace(table, axis1=1, axis2=2) / total, by_chance


def _kappa(agreed: NDArray[np.float64], by_chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kappa [n]; NaN where chance alone agrees always."""
    room = 1 - by_chance
    is_defined = room > _LEAST_ROOM
    return np.where(is_defined, (agreed - by_chance) / np.where(is_defined, room, 1), np.nan)


def led_by_model(answers: Iterable[GivenAnswer]) -> Led:
    """How many of some first answers agree with the model's verdict; those without one do not count."""
    judged = [answer for answer in answers if answer.prediction in _LABELS]
    decided = [answer for answer in judged if answer.answer in _DECIDED]
    return Led(
        num=len(decided),
        num_agreed=sum(answer.answer == answer.prediction for answer in decided),
        num_unsure=len(judged) - len(decided),
    )


def _first_decided(said: Said) -> dict[str, GivenAnswer]:
    """The first answer to each section that says Tumor or Normal; where there is none, the first.

    Unsure reveals nothing, so the answer after it is as blind as it was.
    """
    first = said.first
    decided = {each.key: each for each in reversed(said.answers) if each.answer in _DECIDED and each.key in first}
    return {**first, **decided}


def anchoring(journals: Iterable[Said], is_hidden: Callable[[GivenAnswer], bool] = _none) -> dict[str, Any]:
    """Agreement with the model where its verdict was shown before the answer, and where not.

    Returns:
        `shown` and `blind` with counts and shares, `difference` of the shares (None where one is missing), its 95%
        interval (normal approximation, as if answers were independent), and a note.
    """
    first = [answer for said in journals for answer in readings(_first_decided(said), is_hidden).values()]
    shown = led_by_model(answer for answer in first if not answer.came_blind)
    blind = led_by_model(answer for answer in first if answer.came_blind)
    difference = interval = None
    note = "no blind answers to compare with" if not blind.num else "no answers with a shown verdict to compare with"
    if shown.agreement is not None and blind.agreement is not None:
        difference = shown.agreement - blind.agreement
        interval = _interval(shown, blind)
        note = "above 0: reviewers agree with the model more often where they see what it says"
    return {
        "shown": _as_json(shown),
        "blind": _as_json(blind),
        "difference": difference,
        "interval": interval,
        "note": note,
    }


def _interval(shown: Led, blind: Led) -> tuple[float, float]:
    """The 95% interval of a difference of shares; one more on either side, so that 0 of 3 is not certain (Agresti)."""
    shares = [(led.num_agreed + 1) / (led.num + 2) for led in (shown, blind)]
    variance = sum(share * (1 - share) / (led.num + 2) for share, led in zip(shares, (shown, blind), strict=True))
    middle, half = shares[0] - shares[1], _Z_95 * math.sqrt(variance)
    return max(-1.0, middle - half), min(1.0, middle + half)


def _as_json(led: Led) -> dict[str, Any]:
    return {
        "num": led.num,
        "num_agreed": led.num_agreed,
        "num_unsure": led.num_unsure,
        "agreement": led.agreement,
    }


def agreement_report(journals: Sequence[Said], is_hidden: Callable[[GivenAnswer], bool] = _none) -> dict[str, Any]:
    """All pairs of reviewers, and the anchoring over all of them and by reviewer.

    Args:
        journals: what all reviewers said.
        is_hidden: whether an answer may not be counted, as what is counted of it would tell of a blind section.
    """
    # Who has but decided between others, or opened the page, is no reader.
    readers = [said for said in journals if readings(said.latest)]
    pairs = [pair_agreement(one, other, is_hidden) for one, other in combinations(readers, 2)]
    few = {f"{pair.one} and {pair.other}": pair.num_slides for pair in pairs if pair.interval}
    by_reviewer = {said.reviewer: anchoring([said], is_hidden) for said in readers}
    withheld = {answer.key for said in journals for answer in said.answers if is_hidden(answer)}
    return {
        "pairs": [_pair_as_json(pair) for pair in pairs],
        "notes": list(few_slides_notes(few)),
        "num_hasty": sum(answer.is_hasty for said in journals for answer in said.answers),
        "num_withheld": len(withheld),
        "anchoring": {**anchoring(journals, is_hidden), "by_reviewer": by_reviewer},
    }


def _pair_as_json(pair: PairAgreement) -> Mapping[str, Any]:
    counts = ("one", "other", "num", "num_agreed", "num_unsure", "num_blind", "num_slides")
    names = (*counts, "agreement", "kappa", "interval", "note")
    return {name: getattr(pair, name) for name in names}
