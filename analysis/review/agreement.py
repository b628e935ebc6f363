"""How far reviewers agree with one another, and how far what was filled in before leads them (paper, section 3.2).

Between two reviewers it is Cohen's kappa over the sections to which both said Tumor or Normal, by the answers that
count. Anchoring compares the share of answers that agree with the model where its verdict was shown before and where
it was not. First answers alone tell: the answer to a blind section reveals it, so a correction has seen it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from analysis.review.answers import Answer, GivenAnswer, Said
from bccdist.parts import Label

_Z_95 = 1.96
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


def pair_agreement(one: Said, other: Said) -> PairAgreement:
    """The agreement of two reviewers."""
    mine, theirs = one.latest, other.latest
    both = [(mine[key].answer, theirs[key].answer) for key in sorted(mine.keys() & theirs.keys())]
    decided = [pair for pair in both if set(pair) <= set(_DECIDED)]
    kappa = cohens_kappa(decided)
    notes = {0: "no section was decided by both"}
    return PairAgreement(
        one=one.reviewer,
        other=other.reviewer,
        num=len(decided),
        num_unsure=len(both) - len(decided),
        num_agreed=sum(first == second for first, second in decided),
        kappa=kappa,
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


def led_by_model(answers: Iterable[GivenAnswer]) -> Led:
    """How many of some first answers agree with the model's verdict; those without one do not count."""
    judged = [answer for answer in answers if answer.prediction in _LABELS]
    decided = [answer for answer in judged if answer.answer in _DECIDED]
    return Led(
        num=len(decided),
        num_agreed=sum(answer.answer == answer.prediction for answer in decided),
        num_unsure=len(judged) - len(decided),
    )


def anchoring(journals: Iterable[Said]) -> dict[str, Any]:
    """Agreement with the model where its verdict was shown before the answer, and where not.

    Returns:
        `shown` and `blind` with counts and shares, `difference` of the shares (None where one is missing), its 95%
        interval (normal approximation, as if answers were independent), and a note.
    """
    first = [answer for said in journals for answer in said.first.values()]
    shown = led_by_model(answer for answer in first if answer.was_shown)
    blind = led_by_model(answer for answer in first if not answer.was_shown)
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


def agreement_report(journals: Sequence[Said]) -> dict[str, Any]:
    """All pairs of reviewers, and the anchoring over all of them and by reviewer."""
    return {
        "pairs": [_pair_as_json(pair_agreement(one, other)) for one, other in combinations(journals, 2)],
        "anchoring": {**anchoring(journals), "by_reviewer": {said.reviewer: anchoring([said]) for said in journals}},
    }


def _pair_as_json(pair: PairAgreement) -> Mapping[str, Any]:
    names = ("one", "other", "num", "num_agreed", "num_unsure", "agreement", "kappa", "note")
    return {name: getattr(pair, name) for name in names}
