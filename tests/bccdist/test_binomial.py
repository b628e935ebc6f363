"""Binomial probabilities and limits, against SciPy's."""

import pytest
from scipy.stats import beta, binom

from bccdist.binomial import at_least, at_most, greatest_share

CASES = [(0, 1), (0, 59), (3, 120), (57, 60), (40, 5000)]


@pytest.mark.parametrize(("count", "num"), CASES)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 1.0])
def test_the_probability_of_so_few_is_scipys(count: int, num: int, share: float) -> None:
    assert at_most(count, num, share) == pytest.approx(binom.cdf(count, num, share), abs=1e-10)


@pytest.mark.parametrize(("count", "num"), [*CASES, (0, 7), (9, 9)])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 1.0])
def test_the_probability_of_so_many_is_scipys(count: int, num: int, share: float) -> None:
    assert at_least(count, num, share) == pytest.approx(binom.sf(count - 1, num, share), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("count", "num"), CASES)
def test_the_upper_limit_is_clopper_and_pearsons(count: int, num: int) -> None:
    assert greatest_share(count, num, 0.95) == pytest.approx(beta.ppf(0.95, count + 1, num - count), abs=1e-9)


def test_what_always_came_and_what_was_never_tried_have_no_upper_limit_below_1() -> None:
    assert greatest_share(7, 7, 0.9) == greatest_share(0, 0, 0.9) == 1.0
    assert at_most(-1, 5, 0.2) == 0.0
    assert at_most(5, 5, 0.2) == 1.0
