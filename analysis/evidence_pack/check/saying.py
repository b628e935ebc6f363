"""How the page writes numbers, and whether a text says a value."""

import math
import re
from collections.abc import Sequence
from typing import Any

NUMBER = re.compile(
    r"<?\s*(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?|\bn/a\b|\bnever\b|-?\binf\b|\bunlabelled\b"
)
WORDS = {"n/a": math.nan, "never": math.inf, "inf": math.inf, "-inf": -math.inf, "unlabelled": 0.0}
_WITH_ENDS = 3
"""A figure is followed by its two ends, or by nothing where they are not known."""


def says(text: str, values: Sequence[Any], *, is_cut: bool = False) -> bool:
    """Whether a text shows these values, rounded to the digits that it has."""
    if any(isinstance(each, str) for each in values):
        return text == str(values[0])
    if values == [None] and text == "none":
        return True
    tokens = [token.group().replace(",", "").replace(" ", "") for token in NUMBER.finditer(text)]
    if len(tokens) < len(values) <= _WITH_ENDS and any(math.isnan(_float(each)) for each in values):
        values = values[: len(tokens)]
    return len(tokens) >= len(values) > 0 and all(
        shows(token, _float(value), is_cut=is_cut) for token, value in zip(tokens, values, strict=False)
    )


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def shows(token: str, value: float, *, is_cut: bool = False) -> bool:
    """Whether a number of the page is this value, rounded or cut to its digits."""
    if token in WORDS:
        return WORDS[token] == value or (math.isnan(WORDS[token]) and math.isnan(value))
    is_below, token = token.startswith("<"), token.lstrip("<")
    scale, digits = (100, token.rstrip("%")) if token.endswith("%") else (1, token)
    unit = 10.0 ** -len(digits.partition(".")[2]) if "e" not in digits else abs(float(digits)) * 1e-2
    if is_below:
        return value * scale < float(digits)
    return abs(float(digits) - value * scale) <= unit * (1 if is_cut else 0.5) + 1e-9 * max(1.0, abs(value * scale))
