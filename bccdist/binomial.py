"""Exact statements on shares that were counted, by the binomial distribution alone."""

import math


def at_most(count: int, num: int, share: float) -> float:
    """The probability that at most `count` of `num` independent cases come, each with a probability of `share`.

    Args:
        count: below 0 nothing can come.
        num: of cases.
        share: 0 to 1.
    """
    if count < 0:
        return 0.0
    if count >= num or share == 0:
        return 1.0
    if share == 1:
        return 0.0
    # By logarithms, since neither the number of choices nor the powers of many cases are floats.
    terms = (
        math.lgamma(num + 1)
        - math.lgamma(k + 1)
        - math.lgamma(num - k + 1)
        + k * math.log(share)
        + (num - k) * math.log1p(-share)
        for k in range(count + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))


def at_least(count: int, num: int, share: float) -> float:
    """The probability that at least `count` of `num` independent cases come, each with a probability of `share`."""
    # By those that do not come, since 1 less a probability near 1 would lose its digits.
    return at_most(num - count, num, 1 - share)


def greatest_share(count: int, num: int, confidence: float) -> float:
    """The one-sided upper limit of a share of which `count` of `num` cases came (Clopper and Pearson 1934).

    It is at least the true share with a probability of at least `confidence`; 1 where there is no case.
    """
    low, high = 0.0, 1.0
    if count >= num:
        return 1.0
    # The probability of so few falls with the share: halved until floats no longer tell the ends apart.
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (low, middle) if at_most(count, num, middle) <= 1 - confidence else (middle, high)
    return high
