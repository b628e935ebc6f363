"""Patches read from shards by offset, in the order that the plan says."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bccdist.configuration import AugmentConfig
from bccdist.errors import ShardError
from bccdist.training.augmentation import augment, draw_augmentation
from bccdist.training.epoch_plan import EpochPlan
from bccdist.training.shard_set import ShardSet

_MOST_OPEN_TARS = 64
Draw = tuple[int, int]
"""(position in the epoch, row of the index)."""


class PatchReader:
    """Reads patches by their offsets in the tars; a process opens its own files."""

    def __init__(self, shard_set: ShardSet) -> None:
        """Take over the index; no file is opened yet."""
        self._root = shard_set.root
        index = shard_set.index
        self._tars: list[str] = index["tar"].tolist()
        self._keys: list[str] = index["key"].tolist()
        self._places = {kind: index[[f"{kind}_offset", f"{kind}_bytes"]].to_numpy() for kind in ("image", "mask")}
        self._digests = {kind: index[f"{kind}_sha256"].to_numpy("S64") for kind in ("image", "mask")}
        self._files: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Open files stay in the process that opened them."""
        return {**self.__dict__, "_files": {}}

    def read(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One patch.

        Returns:
            RGB [h, w, 3] and mask [h, w], 1 where Tumornest.

        Raises:
            ShardError: the tar is not there, or the bytes are not those that the index names.
        """
        image = self._decode(row, "image", cv2.IMREAD_COLOR_RGB)
        mask = self._decode(row, "mask", cv2.IMREAD_GRAYSCALE)
        return image, (mask > 0).astype(np.uint8)

    def _decode(self, row: int, kind: str, flags: int) -> NDArray[np.uint8]:
        offset, num_bytes = (int(value) for value in self._places[kind][row])
        data = os.pread(self._file(self._tars[row]), num_bytes, offset)
        # A JPEG with wrong bytes inside decodes without complaint, to a picture that is grey in part.
        is_whole = hashlib.sha256(data).hexdigest().encode() == self._digests[kind][row]
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if is_whole else None
        if image is None:
            raise ShardError(
                f"{self._root / self._tars[row]}: the {kind} of patch {self._keys[row]} at byte {offset} is damaged; "
                f"run `python shards/check.py {self._root}` and build the slide again"
            )
        return np.asarray(image, dtype=np.uint8)

    def _file(self, tar: str) -> int:
        if tar not in self._files:
            if len(self._files) >= _MOST_OPEN_TARS:
                os.close(self._files.pop(next(iter(self._files))))
            self._files[tar] = _open_tar(self._root / tar)
        return self._files[tar]


def _open_tar(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise ShardError(f"{path} is not there, although the index names it; build the shard set again") from None


@dataclass(frozen=True, kw_only=True)
class Patches(Dataset[tuple[Tensor, Tensor]]):
    """Patches by draw; augmented in an epoch of training, as they are in validation."""

    reader: PatchReader
    augment_config: AugmentConfig
    seed: int
    epoch: int

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """RGB uint8 [h, w, 3] and mask uint8 [h, w] of a draw."""
        position, row = draw
        image, mask = self.reader.read(row)
        if self.augment_config.enabled:
            change = draw_augmentation(self.augment_config, seed=self.seed, epoch=self.epoch, position=position)
            image, mask = augment(image, mask, change)
        return torch.from_numpy(image), torch.from_numpy(mask)


def training_loader(
    patches: Patches,
    plan: EpochPlan,
    rows: NDArray[np.int64],
    *,
    micro_batch: int,
    rank: int,
    world_size: int,
    num_workers: int,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """The micro-batches of one rank, step by step; a step has ceil(rank batch / micro_batch) of them.

    Args:
        patches: where they come from.
        plan: of the epoch.
        rows: the row of the index for each patch that the plan counts.
        micro_batch: patches at most in one of them.
        rank, world_size: which share of each step.
        num_workers: loader processes; the result does not depend on it.
    """
    batches: list[list[Draw]] = []
    for step in range(plan.num_steps):
        positions = plan.positions(step, rank=rank, world_size=world_size)
        draws = [(int(position), int(rows[plan.draws[position]])) for position in positions]
        batches += [draws[start : start + micro_batch] for start in range(0, len(draws), micro_batch)]
    return _loader(patches, batches, num_workers)


def validation_loader(
    patches: Patches, rows: NDArray[np.int64], *, batch: int, rank: int, world_size: int, num_workers: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Every world_size-th row, each once."""
    mine = [(0, int(row)) for row in rows[rank::world_size]]
    return _loader(patches, [mine[start : start + batch] for start in range(0, len(mine), batch)], num_workers)


def _loader(patches: Patches, batches: list[list[Draw]], num_workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(patches, batch_sampler=batches, num_workers=num_workers, pin_memory=torch.cuda.is_available())
