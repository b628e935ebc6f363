"""The patches of training and validation by draw, and which draws make up a batch, in the order of the plan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import AugmentConfig
from bccdist.ranks import Ranks
from bccdist.shard_set.epoch_plan import EpochPlan
from bccdist.shard_set.reader import PatchReader
from bccdist.training.augmentation import Augmentation, augment, draw_augmentation


class Draw(NamedTuple):
    """One draw of an epoch."""

    position: int
    """Its place in the epoch; it decides how the patch is changed."""
    row: int
    """The patch's row of the index."""


class Patch(NamedTuple):
    """One patch."""

    image: NDArray[np.uint8]
    """RGB [h, w, 3]."""
    mask: NDArray[np.uint8]
    """[h, w], 1 where Tumornest."""
    change: Augmentation | None
    """What is still to be done to it; None: it is ready."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Patches by draw: changed in an epoch of training, as they were stored in validation."""

    reader: PatchReader
    augment_config: AugmentConfig
    augment_here: bool = True
    """Whether changes are made at once; if not they are only drawn, and made where the network is."""
    seed: int
    epoch: int

    def __getitem__(self, draw: Draw) -> Patch:
        """The patch of a draw, changed as its position in the epoch says."""
        image, mask = self.reader.read(draw.row)
        if not self.augment_config.enabled:
            return Patch(image, mask, None)
        change = draw_augmentation(self.augment_config, seed=self.seed, epoch=self.epoch, position=draw.position)
        if not self.augment_here:
            return Patch(image, mask, change)
        return Patch(*augment(image, mask, change), None)


def training_draws(
    plan: EpochPlan, rows: NDArray[np.int64], parts: Sequence[range], *, first_step: int = 0
) -> Iterator[list[Draw]]:
    """The micro-batches of one rank, step by step.

    They are made when their turn comes: an epoch of millions is never a list.

    Args:
        plan: what the epoch draws.
        rows: the row of the index for each patch that the plan counts.
        parts: the rank's micro-batches, as places of each step.
        first_step: steps before it are left out; the rest is as it would be with them.
    """
    for step in range(first_step, plan.num_steps):
        for places in parts:
            positions = plan.positions(step, places)
            pairs = zip(positions.tolist(), rows[plan.draws[positions]].tolist(), strict=True)
            yield [Draw(position, row) for position, row in pairs]


def validation_draws(rows: NDArray[np.int64], ranks: Ranks, *, batch: int) -> Iterator[list[Draw]]:
    """One rank's share of the rows: every world_size-th, each once; nothing is changed, so no position counts."""
    draws = [Draw(0, row) for row in rows[ranks.rank :: ranks.world_size].tolist()]
    for start in range(0, len(draws), batch):
        yield draws[start : start + batch]
