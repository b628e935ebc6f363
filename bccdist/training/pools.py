"""The pools of Table 2: which patches are drawn how often (paper, section 2.3).

The pools overlap: the first two partition the patches, the third lies in the second, the last two overlap all.
"""

import numpy as np
from numpy.typing import NDArray

POOLS = ("tumor_free", "tumor", "tumor_dense", "stroma", "normal")
"""In the order of Table 2; the names are those of `BalanceConfig`."""
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
