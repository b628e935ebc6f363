"""Batches read ahead in threads.

Decoding, hashing and resampling leave Python's lock, so threads do what loader processes do: without a fork beside
threads that hold locks, without copies between processes, and with nothing left over when a rank is killed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import torch
from torch import Tensor

from bccdist.configuration import PATCH_PX
from bccdist.training.augmentation import Augmentation
from bccdist.training.device_augmentation import Changes
from bccdist.training.samples import Draw, Patches

_BATCHES_AHEAD = 3


class Batch(NamedTuple):
    """Patches of one forward pass."""

    images: Tensor
    """RGB uint8 [n, h, w, 3]."""
    masks: Tensor
    """uint8 [n, h, w], 1 where Tumornest."""
    changes: Changes | None
    """What is still to be done to them where the network is; None: they are ready."""


@contextmanager
def read_ahead(patches: Patches, draws: Iterable[Sequence[Draw]], *, num_threads: int) -> Iterator[Iterator[Batch]]:
    """The batches of these draws, in their order; they do not depend on the number of threads.

    Args:
        patches: where they come from.
        draws: of each batch; taken when their turn comes.
        num_threads: they read the next batches while the last one is used; 0 reads each when it is asked for.

    Raises:
        ShardError: a patch cannot be read; it is raised where its batch is due.
    """
    if num_threads == 0:
        yield (_begun(patches, each, _now)() for each in draws)
        return
    num_cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the patches are read beside each other already
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="loader")
    try:
        yield _ahead(_begun(patches, each, pool.submit) for each in draws)
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(num_cv2_threads)


def _ahead(begun: Iterable[Callable[[], Batch]]) -> Iterator[Batch]:
    """Begin some batches before the first of them is waited for."""
    waiting: deque[Callable[[], Batch]] = deque()
    for finish in begun:
        waiting.append(finish)
        if len(waiting) > _BATCHES_AHEAD:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()


_Start = Callable[[Callable[[], Augmentation | None]], "Future[Augmentation | None]"]


def _begun(patches: Patches, draws: Sequence[Draw], start: _Start) -> Callable[[], Batch]:
    """Begin to read a batch, each patch into its place; the result waits for all of them."""
    pin = torch.cuda.is_available()
    images = torch.empty(len(draws), PATCH_PX, PATCH_PX, 3, dtype=torch.uint8, pin_memory=pin)
    masks = torch.empty(len(draws), PATCH_PX, PATCH_PX, dtype=torch.uint8, pin_memory=pin)

    def read(place: int) -> Augmentation | None:
        image, mask, change = patches[draws[place]]
        images[place].numpy()[:] = image
        masks[place].numpy()[:] = mask
        return change

    futures = [start(lambda place=place: read(place)) for place in range(len(draws))]  # type: ignore[misc]

    def finish() -> Batch:
        changes = [change for future in futures if (change := future.result()) is not None]
        return Batch(images, masks, Changes.stack(changes) if changes else None)

    return finish


def _now(read: Callable[[], Augmentation | None]) -> "Future[Augmentation | None]":
    """As a pool of threads would, but at once."""
    future: Future[Augmentation | None] = Future()
    future.set_result(read())
    return future
