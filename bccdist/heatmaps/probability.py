"""Probabilities as heatmaps store them: one byte each, in steps of 1 / 255. 0 is also what no patch covers."""

import math

NUM_STEPS = 255
"""A stored value / 255 is a probability."""


def step_of(threshold: float) -> int:
    """The smallest stored value that counts as at least `threshold` (t_p, 0 to 1)."""
    # A threshold such as 0.2 is 51 / 255 and must not become 52 by a rounding error.
    return math.ceil(threshold * NUM_STEPS - 1e-9)
