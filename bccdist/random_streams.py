"""The random numbers of a run: each purpose draws from a stream of its own, and each place of it from its own part.

A stream is named by its purpose and by where in the run it is drawn, and nothing else decides its numbers: no worker,
no rank, and nothing that was drawn before. The name is hashed as a text, because numpy pads short lists of numbers
with zeros and would take those of two purposes for one.
"""

import hashlib
from enum import StrEnum

import numpy as np

STREAMS_VERSION = 2
"""Version of how streams are named. Runs record it: one that was begun with other streams is not gone on with."""


class Purpose(StrEnum):
    """What random numbers are drawn for; the value is part of the stream's name."""

    POOL_DRAWS = "draws of a pool"
    """Which patches of a pool an epoch draws once more than the others; placed by seed, epoch and pool."""
    EPOCH_ORDER = "order of an epoch"
    """In which order an epoch comes; placed by seed and epoch."""
    AUGMENTATION = "augmentation"
    """How a patch is changed; placed by seed, epoch and position in the epoch."""


def random_stream(purpose: Purpose, **place: int | str) -> np.random.Generator:
    """The random numbers of a purpose at a place of the run, such as `seed=0, epoch=1, position=7`."""
    name = "/".join([purpose, *(f"{key}={place[key]}" for key in sorted(place))])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()))
