"""Batches are the same and in the same order however many threads read them, and errors stay what they are."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np
import pytest
import torch

from bccdist.configuration import PATCH_PX, AugmentConfig
from bccdist.errors import ShardError
from bccdist.training import loader
from bccdist.training.augmentation import Augmentation, draw_augmentation
from bccdist.training.loader import Batch, read_ahead
from bccdist.training.samples import Draw, Patch, Patches


@dataclass
class NumberedPatches:
    """A patch has its row for colour; a row below 0 is damaged."""

    with_changes: bool = False
    slow_row: int | None = None
    read_rows: list[int] = field(default_factory=list)

    def __getitem__(self, draw: Draw) -> Patch:
        position, row = draw
        self.read_rows.append(row)
        if row < 0:
            raise ShardError(f"patch {row} is damaged")
        if row == self.slow_row:
            time.sleep(0.2)
        image = np.full((PATCH_PX, PATCH_PX, 3), row, dtype=np.uint8)
        return Patch(image, image[..., 0] % 2, self._change(position) if self.with_changes else None)

    def _change(self, position: int) -> Augmentation:
        return draw_augmentation(AugmentConfig(), seed=3, epoch=1, position=position)

    @property
    def as_patches(self) -> Patches:
        return cast("Patches", self)


def _draws(*sizes: int) -> Iterator[list[Draw]]:
    """Batches of these sizes; the rows count up."""
    row = 0
    for size in sizes:
        yield [Draw(100 + number, number) for number in range(row, row + size)]
        row += size


def _rows(batch: Batch) -> list[int]:
    rows = batch.images[:, 0, 0, 0]
    assert bool((batch.images == rows[:, None, None, None]).all())
    assert bool((batch.masks == rows[:, None, None] % 2).all())
    return rows.tolist()


def _all(patches: NumberedPatches, draws: Iterator[Sequence[Draw]], num_threads: int) -> list[Batch]:
    with read_ahead(patches.as_patches, draws, num_threads=num_threads) as batches:
        return list(batches)


@pytest.mark.parametrize("num_threads", [0, 1, 2, 5])
def test_batches_come_in_order_and_whole(num_threads: int) -> None:
    found = _all(NumberedPatches(slow_row=1), _draws(3, 1, 2, 2, 1, 3), num_threads)
    assert [_rows(batch) for batch in found] == [[0, 1, 2], [3], [4, 5], [6, 7], [8], [9, 10, 11]]
    assert found[0].images.shape == (3, 512, 512, 3)
    assert (found[0].images.dtype, found[0].masks.dtype) == (torch.uint8, torch.uint8)
    assert all(batch.changes is None for batch in found)


@pytest.mark.parametrize("num_threads", [0, 2])
def test_no_draws_are_no_batches(num_threads: int) -> None:
    assert _all(NumberedPatches(), _draws(), num_threads) == []


@pytest.mark.parametrize("num_threads", [0, 2])
def test_changes_are_stacked_in_the_order_of_their_patches(num_threads: int) -> None:
    found = _all(NumberedPatches(with_changes=True), _draws(2, 1), num_threads)
    angles = [batch.changes.angle_rad.tolist() for batch in found if batch.changes is not None]
    expected = [draw_augmentation(AugmentConfig(), seed=3, epoch=1, position=100 + number) for number in range(3)]
    assert angles[0] + angles[1] == pytest.approx([change.angle_rad for change in expected])


def test_threads_read_ahead_but_not_the_whole_epoch() -> None:
    patches = NumberedPatches()
    with read_ahead(patches.as_patches, _draws(*[1] * 50), num_threads=2) as batches:
        next(batches)
        time.sleep(0.1)
        assert 1 < len(patches.read_rows) <= 2 + loader._BATCHES_AHEAD


def test_without_threads_a_patch_is_read_when_it_is_asked_for() -> None:
    patches = NumberedPatches()
    with read_ahead(patches.as_patches, _draws(1, 1, 1), num_threads=0) as batches:
        next(batches)
        assert patches.read_rows == [0]


@pytest.mark.parametrize("num_threads", [0, 2])
def test_an_error_is_raised_where_its_batch_is_due(num_threads: int) -> None:
    draws = iter([[Draw(0, 0)], [Draw(1, 1), Draw(2, -7)], [Draw(3, 3)]])
    with read_ahead(NumberedPatches().as_patches, draws, num_threads=num_threads) as batches:
        assert _rows(next(batches)) == [0]
        with pytest.raises(ShardError, match="patch -7 is damaged"):
            next(batches)


def test_no_thread_and_no_setting_is_left_behind() -> None:
    before = (threading.active_count(), cv2.getNumThreads())
    with read_ahead(NumberedPatches().as_patches, _draws(*[2] * 20), num_threads=3) as batches:
        next(batches)
        assert threading.active_count() > before[0]
        assert cv2.getNumThreads() == 1
    assert (threading.active_count(), cv2.getNumThreads()) == before


def test_what_goes_to_a_gpu_lies_in_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[tuple[int, ...]] = []
    empty = torch.empty

    def noted(*size: int, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        assert pin_memory
        pinned.append(size)
        return empty(*size, dtype=dtype)

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tuple(tensor.shape))
        return tensor

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", noted)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda _: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    (batch,) = _all(NumberedPatches(with_changes=True), _draws(2), 0)
    assert batch.changes is not None
    assert pinned == [(2, 512, 512, 3), (2, 512, 512), *(tuple(each.shape) for each in batch.changes)]
