"""A shard set comes through webdataset whole, once, checked, and shared out without overlap."""

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from bccdist.configuration import BalanceConfig
from bccdist.errors import ShardError
from bccdist.parts import Part
from bccdist.paths import ShardSetPaths
from bccdist.shard_set.epoch_plan import draw_epoch
from bccdist.shard_set.index import ShardSet
from bccdist.shard_set.pipeline import webdataset_pipeline
from bccdist.shard_set.reader import PatchReader

BOTH = (Part.TRAINING, Part.VALIDATION_1)


def _keys(shard_set: ShardSet, *parts: Part) -> list[str]:
    index = pq.read_table(ShardSetPaths(shard_set.root).index).to_pylist()
    return [row["key"] for row in index if row["part"] in parts]


def _keys_of(items: Iterator[dict[str, Any]]) -> list[str]:
    return [item["key"] for item in items]


def test_every_patch_comes_once_with_the_pixels_that_our_own_reader_sees(shard_set: ShardSet) -> None:
    keys, reader = _keys(shard_set, *BOTH), PatchReader(shard_set)
    items = list(webdataset_pipeline(shard_set, parts=BOTH))
    assert sorted(_keys_of(iter(items))) == sorted(keys)
    row_of = {shard_set.key(row): row for row in range(len(keys))}
    for item in items:
        image, mask = reader.read(row_of[item["key"]])
        assert np.array_equal(item["image"], image)
        assert np.array_equal(item["mask"], mask)
        assert item["key"].startswith(item["about"]["slide_id"])
    assert any(item["mask"].any() for item in items)


def test_a_part_comes_alone_and_in_the_order_of_the_index(shard_set: ShardSet) -> None:
    assert _keys_of(webdataset_pipeline(shard_set, parts=[Part.VALIDATION_1])) == _keys(shard_set, Part.VALIDATION_1)
    assert _keys_of(webdataset_pipeline(shard_set)) == _keys(shard_set, Part.TRAINING)


def test_a_seed_and_an_epoch_decide_the_order(shard_set: ShardSet) -> None:
    pipeline = webdataset_pipeline(shard_set, shuffle_buffer=50, seed=7, epoch=2)
    first = _keys_of(pipeline)
    assert sorted(first) == sorted(_keys(shard_set, Part.TRAINING))
    assert first != _keys(shard_set, Part.TRAINING)
    assert _keys_of(pipeline) == first
    assert _keys_of(webdataset_pipeline(shard_set, shuffle_buffer=50, seed=7, epoch=3)) != first


def test_a_balance_draws_what_training_draws(shard_set: ShardSet) -> None:
    training, balance = shard_set.part(Part.TRAINING), BalanceConfig(tumor_free=0.5)
    drawn = draw_epoch(training.members, balance, seed=3, epoch=2)
    expected = Counter(shard_set.key(int(training.rows[number])) for number in drawn)
    found = Counter(_keys_of(webdataset_pipeline(shard_set, balance=balance, shuffle_buffer=9, seed=3, epoch=2)))
    assert found == expected
    assert max(found.values()) > 1


@pytest.mark.parametrize("world_size", [2, 5])
def test_nodes_share_out_the_patches(shard_set: ShardSet, world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setenv("WORLD_SIZE", str(world_size))
    for rank in range(world_size):
        monkeypatch.setenv("RANK", str(rank))
        found += _keys_of(webdataset_pipeline(shard_set, parts=BOTH, shuffle_buffer=5, seed=1))
    assert sorted(found) == sorted(_keys(shard_set, *BOTH))


def test_workers_of_a_loader_share_out_the_patches(shard_set: ShardSet) -> None:
    pipeline = webdataset_pipeline(shard_set, parts=BOTH, shuffle_buffer=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        batches = list(DataLoader(pipeline, batch_size=4, num_workers=2))
    assert sorted(key for batch in batches for key in batch["key"]) == sorted(_keys(shard_set, *BOTH))
    assert tuple(batches[0]["image"].shape) == (4, 512, 512, 3)
    assert len(batches[0]["about"]["slide_id"]) == 4


def test_a_damaged_patch_is_named(changeable: ShardSet) -> None:
    tar, offset = changeable.root / "tars/train-0.tar", int(changeable.column("image_offset")[3])
    content = bytearray(tar.read_bytes())
    content[offset + 2000] ^= 255
    tar.write_bytes(content)
    with pytest.raises(ShardError, match=f"the image of patch {changeable.key(3)} is missing or damaged"):
        list(webdataset_pipeline(changeable))


@pytest.mark.parametrize("num_left", [0, 3])
def test_a_tar_that_was_cut_between_two_samples_is_noticed(changeable: ShardSet, num_left: int) -> None:
    """WebDataset itself reads it without complaint; 512 bytes before an image is its header."""
    tar, offset = changeable.root / "tars/train-0.tar", int(changeable.column("image_offset")[num_left]) - 512
    tar.write_bytes(tar.read_bytes()[:offset] + bytes(10_240))
    with pytest.raises(ShardError, match=r"train-0\.tar: it has not the .* samples of the index"):
        list(webdataset_pipeline(changeable))


def test_a_missing_tar_is_named(changeable: ShardSet) -> None:
    (changeable.root / "tars/train-1.tar").unlink()
    with pytest.raises(ShardError, match=r"train-1\.tar: missing or damaged"):
        list(webdataset_pipeline(changeable))
