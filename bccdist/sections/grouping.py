"""Things that are joined two by two become groups (union-find), many pairs at a time."""

import numpy as np
from numpy.typing import NDArray


class Grouping:
    """Things from 0 on, in groups. Each names another one of its group, whose root names itself."""

    def __init__(self, num_things: int) -> None:
        self._parent = np.arange(num_things, dtype=np.int32)

    def roots(self, things: NDArray[np.int32]) -> NDArray[np.int32]:
        """The root of each thing's group; things of one group have the same."""
        while True:
            parents = self._parent[things]
            further = self._parent[parents]
            if np.array_equal(parents, further):
                return parents
            # Paths are shortened as they are followed, so that the next question finds its root in a step or two.
            self._parent[things] = further

    def join(self, one: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.int32]:
        """Make one group of the two that each pair belongs to.

        Returns:
            The roots that are roots no more, each once.
        """
        former = [np.zeros(0, dtype=np.int32)]
        one, other = self.roots(one), self.roots(other)
        while (differ := one != other).any():
            upper, lower = np.maximum(one, other)[differ], np.minimum(one, other)[differ]
            # A root that is given several others at once takes the last; the others come again.
            self._parent[upper] = lower
            former.append(upper)
            one, other = self.roots(upper), self.roots(lower)
        return np.unique(np.concatenate(former))
