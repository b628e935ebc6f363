"""Batches read ahead in threads.

Decoding, hashing and resampling leave Python's lock, so threads do what loader processes do: without a fork beside
threads that hold locks, without copies between processes, and with nothing left over when a rank is killed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

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
        draws: those of each batch; taken when their turn comes.
        num_threads: they read the next batches while the last one is used; 0 reads each when it is asked for.

    Raises:
        ShardError: a patch cannot be read; it is raised where its batch is due.
    """
    if num_threads == 0:
        yield _finished(_begun(patches, draws, _at_once))
        return
    num_cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the patches are read beside each other already
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="loader")
    try:
        yield _finished(_ahead(_begun(patches, draws, pool.submit)))
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(num_cv2_threads)


class _BegunBatch(NamedTuple):
    """A batch that threads are filling, each patch in its place."""

    images: Tensor
    masks: Tensor
    changes: "list[Future[Augmentation | None]]"
    """For each patch what is still to be done to it, once it was read."""


def _begun(
    patches: Patches, draws: Iterable[Sequence[Draw]], start: "Callable[..., Future[Augmentation | None]]"
) -> Iterator[_BegunBatch]:
    """First, each batch is begun: room for it, and a task for each of its patches."""
    pin = torch.cuda.is_available()  # pinned memory is copied to a GPU while it computes
    for each in draws:
        images = torch.empty(len(each), PATCH_PX, PATCH_PX, 3, dtype=torch.uint8, pin_memory=pin)
        masks = torch.empty(len(each), PATCH_PX, PATCH_PX, dtype=torch.uint8, pin_memory=pin)
        tasks = [start(_read, patches, draw, images[at], masks[at]) for at, draw in enumerate(each)]
        yield _BegunBatch(images, masks, tasks)


def _ahead(begun: Iterable[_BegunBatch]) -> Iterator[_BegunBatch]:
    """Then some more are begun before the first of them is handed on."""
    waiting: deque[_BegunBatch] = deque()
    for batch in begun:
        waiting.append(batch)
        if len(waiting) > _BATCHES_AHEAD:
            yield waiting.popleft()
    yield from waiting


def _finished(begun: Iterable[_BegunBatch]) -> Iterator[Batch]:
    """Last, each is waited for."""
    for batch in begun:
        changes = [change for task in batch.changes if (change := task.result()) is not None]
        yield Batch(batch.images, batch.masks, _stacked(changes, pin=batch.images.is_pinned()) if changes else None)


def _stacked(changes: Sequence[Augmentation], *, pin: bool) -> Changes:
    stacked = Changes.stack(changes)
    return stacked.pin_memory() if pin else stacked


def _read(patches: Patches, draw: Draw, image: Tensor, mask: Tensor) -> Augmentation | None:
    """Read a patch into its place; returns what is still to be done to it."""
    patch = patches[draw]
    image.numpy()[:] = patch.image
    mask.numpy()[:] = patch.mask
    return patch.change


def _at_once(read: Callable[..., Augmentation | None], *arguments: Any) -> "Future[Augmentation | None]":
    """Read a patch in place of a pool of threads."""
    future: Future[Augmentation | None] = Future()
    future.set_result(read(*arguments))
    return future
