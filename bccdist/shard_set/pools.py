"""The pools of Table 2: which patches are drawn how often (paper, section 2.3).

The pools overlap: the first two partition the patches, the third lies in the second, the last two overlap all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

POOLS = ("tumor_free", "tumor", "tumor_dense", "stroma", "normal")
"""The pools in the order of Table 2; their names are those of `BalanceConfig`."""
SPARSE_FRACTION = 0.0005
"""0.05 % of a patch: 131.07 of 512 x 512 px."""
DENSE_FRACTION = 0.1


def pool_members(
    tumornest: NDArray[np.float64], stroma: NDArray[np.float64], normal: NDArray[np.float64]
) -> dict[str, NDArray[np.bool_]]:
    """Which patches belong to which pool.

    Args:
        tumornest, stroma, normal: shares of each patch's pixels under each kind of annotation, 0 to 1, [n].

    Returns:
        For each name in `POOLS` a bool [n].
    """
    return {
        "tumor_free": tumornest < SPARSE_FRACTION,
        "tumor": tumornest >= SPARSE_FRACTION,
        "tumor_dense": tumornest >= DENSE_FRACTION,
        "stroma": stroma >= SPARSE_FRACTION,
        "normal": normal >= SPARSE_FRACTION,
    }


@dataclass(frozen=True, kw_only=True)
class PoolTotals:
    """How large the pools of some patches are, and how much tumor they show; totals of disjoint patches add up.

    Attributes:
        num_patches: number of patches, for each name in `POOLS`.
        tumornest_sum: for each name in `POOLS` the sum of the Tumornest fractions: its tumor area, in patches.
    """

    num_patches: Mapping[str, int]
    tumornest_sum: Mapping[str, float]

    def __add__(self, other: "PoolTotals") -> "PoolTotals":
        return PoolTotals(
            num_patches={pool: self.num_patches[pool] + other.num_patches[pool] for pool in POOLS},
            tumornest_sum={pool: self.tumornest_sum[pool] + other.tumornest_sum[pool] for pool in POOLS},
        )

    @property
    def num_distinct(self) -> int:
        """The patches, each once: `tumor_free` and `tumor` partition them."""
        return self.num_patches["tumor_free"] + self.num_patches["tumor"]

    @property
    def distinct_tumornest_sum(self) -> float:
        """The tumor area of the patches, each once."""
        return self.tumornest_sum["tumor_free"] + self.tumornest_sum["tumor"]


NO_PATCHES = PoolTotals(num_patches=dict.fromkeys(POOLS, 0), tumornest_sum=dict.fromkeys(POOLS, 0.0))


def pool_totals(members: Mapping[str, NDArray[np.bool_]], tumornest: NDArray[np.floating[Any]]) -> PoolTotals:
    """The totals of some patches.

    Args:
        members: for each name in `POOLS` a bool [n].
        tumornest: share of each patch's pixels in Tumornest, 0 to 1, [n].
    """
    return PoolTotals(
        num_patches={pool: int(np.count_nonzero(members[pool])) for pool in POOLS},
        tumornest_sum={pool: float(tumornest.sum(where=members[pool], dtype=np.float64)) for pool in POOLS},
    )
