"""Patches read from shards by offset, and which of them make up a batch, in the order that the plan says."""

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import AugmentConfig
from bccdist.errors import ShardError
from bccdist.shard_set.index import DIGEST_BYTES, ShardSet
from bccdist.training.augmentation import Augmentation, augment, draw_augmentation
from bccdist.training.epoch_plan import EpochPlan

_MOST_OPEN_TARS = 64
Draw = tuple[int, int]
"""(position in the epoch, row of the index)."""


class _Members(NamedTuple):
    """Where the images, or the masks, of all patches lie in their tars, and what they must be."""

    offsets: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    digests: NDArray[np.uint64]


class PatchReader:
    """Reads patches by their offsets in the tars, in as many threads as like to.

    What it knows of millions of patches lies in arrays of numbers.
    """

    def __init__(self, shard_set: ShardSet) -> None:
        """Take over what the index says of places; no tar is opened yet."""
        self._shard_set = shard_set
        self._tar_codes, self._tars = shard_set.coded_column("tar")
        self._members = {kind: _members(shard_set, kind) for kind in ("image", "mask")}
        self._files: dict[int, int] = {}
        self._files_lock = threading.Lock()
        self._empty_mask: tuple[bytes, NDArray[np.uint8]] | None = None
        """Its PNG and its pixels, once it was seen: most patches have it, and it need not be decoded again."""

    def read(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One patch.

        Returns:
            RGB [h, w, 3] and mask [h, w], 1 where Tumornest.

        Raises:
            ShardError: the tar is not there, or the bytes are not those that the index names.
        """
        return self._decode(row, "image", self._bytes(row, "image"), cv2.IMREAD_COLOR_RGB), self._mask(row)

    def _mask(self, row: int) -> NDArray[np.uint8]:
        data = self._bytes(row, "mask")
        if self._empty_mask is not None and data == self._empty_mask[0]:
            return self._empty_mask[1].copy()
        mask = (self._decode(row, "mask", data, cv2.IMREAD_GRAYSCALE) > 0).view(np.uint8)
        if not mask.any():
            self._empty_mask = (data, mask.copy())
        return mask

    def _bytes(self, row: int, kind: str) -> bytes:
        """What lies in the tar, if it is what the index says."""
        members = self._members[kind]
        file = self._file(int(self._tar_codes[row]))
        try:
            data = os.pread(file, int(members.num_bytes[row]), int(members.offsets[row]))
        finally:
            os.close(file)
        # An image with wrong bytes inside can decode without complaint: a JPEG then is a picture that is grey in part.
        if int.from_bytes(hashlib.sha256(data).digest()[:DIGEST_BYTES]) != int(members.digests[row]):
            raise self._damage(row, kind)
        return data

    def _decode(self, row: int, kind: str, data: bytes, flags: int) -> NDArray[np.uint8]:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is None:
            raise self._damage(row, kind)
        return np.asarray(image, dtype=np.uint8)

    def _damage(self, row: int, kind: str) -> ShardError:
        offset = int(self._members[kind].offsets[row])
        return ShardError(
            f"{self._path(row)}: the {kind} of patch {self._shard_set.key(row)} at byte {offset} is damaged; "
            f"run `python shards/check.py {self._shard_set.root}` and build the slide again"
        )

    def _path(self, row: int) -> Path:
        return self._shard_set.root / self._tars[int(self._tar_codes[row])]

    def _file(self, code: int) -> int:
        """A descriptor of the caller's own: another thread may drop the tar from those kept open meanwhile."""
        with self._files_lock:
            if code not in self._files:
                if len(self._files) >= _MOST_OPEN_TARS:
                    os.close(self._files.pop(next(iter(self._files))))
                self._files[code] = _open_tar(self._shard_set.root / self._tars[code])
            return os.dup(self._files[code])


def _members(shard_set: ShardSet, kind: str) -> _Members:
    return _Members(
        offsets=shard_set.column(f"{kind}_offset"),
        num_bytes=shard_set.column(f"{kind}_bytes"),
        digests=shard_set.digest_column(f"{kind}_sha256"),
    )


def _open_tar(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise ShardError(f"{path} is not there, although the index names it; build the shard set again") from None


class Sample(NamedTuple):
    """One patch."""

    image: NDArray[np.uint8]
    """RGB [h, w, 3]."""
    mask: NDArray[np.uint8]
    """[h, w], 1 where Tumornest."""
    change: Augmentation | None
    """What is still to be done to it; None: it is ready."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Patches by draw; augmented in an epoch of training, as they are in validation."""

    reader: PatchReader
    augment_config: AugmentConfig
    augment_here: bool = True
    """Else the changes are drawn only, and made where the network is."""
    seed: int
    epoch: int

    def __getitem__(self, draw: Draw) -> Sample:
        """The patch of a draw, changed as its position in the epoch says."""
        position, row = draw
        image, mask = self.reader.read(row)
        if not self.augment_config.enabled:
            return Sample(image, mask, None)
        change = draw_augmentation(self.augment_config, seed=self.seed, epoch=self.epoch, position=position)
        if not self.augment_here:
            return Sample(image, mask, change)
        return Sample(*augment(image, mask, change), None)


def training_draws(
    plan: EpochPlan, rows: NDArray[np.int64], *, micro_batch: int, rank: int, world_size: int, first_step: int = 0
) -> Iterator[list[Draw]]:
    """The micro-batches of one rank, step by step; a step has ceil(rank's share / micro_batch) of them.

    They are made when their turn comes: an epoch of millions is never a list.

    Args:
        plan: of the epoch.
        rows: the row of the index for each patch that the plan counts.
        micro_batch: patches at most in one of them.
        rank, world_size: which share of each step.
        first_step: steps before it are left out; the rest is as it would be with them.
    """
    for step in range(first_step, plan.num_steps):
        positions = plan.positions(step, rank=rank, world_size=world_size)
        draws = list(zip(positions.tolist(), rows[plan.draws[positions]].tolist(), strict=True))
        for start in range(0, len(draws), micro_batch):
            yield draws[start : start + micro_batch]


def validation_draws(rows: NDArray[np.int64], *, batch: int, rank: int, world_size: int) -> Iterator[list[Draw]]:
    """Every world_size-th row, each once."""
    mine = rows[rank::world_size].tolist()
    for start in range(0, len(mine), batch):
        yield [(0, row) for row in mine[start : start + batch]]
