"""Patches come from the tars as they were stored, in the plan's order, whatever the threads and ranks."""

import tarfile
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from small_study import SmallStudy, write_finished_study

from bccdist.configuration import AugmentConfig
from bccdist.errors import ShardError
from bccdist.paths import ShardSetPaths
from bccdist.shard_set.index import ShardSet, read_set
from bccdist.training import samples
from bccdist.training.augmentation import augment
from bccdist.training.epoch_plan import EpochPlan
from bccdist.training.samples import Draw, Patches, PatchReader, training_draws, validation_draws

AS_STORED = AugmentConfig(enabled=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Built and finished; not to be changed."""
    return write_finished_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def shard_set(study: SmallStudy) -> ShardSet:
    return read_set(study.shards.root)


@pytest.fixture
def changeable(study: SmallStudy, tmp_path: Path) -> ShardSet:
    return read_set(study.copied_to(tmp_path).shards.root)


def _patches(shard_set: ShardSet, augment_config: AugmentConfig = AS_STORED) -> Patches:
    return Patches(reader=PatchReader(shard_set), augment_config=augment_config, seed=5, epoch=2)


def _plan(num_patches: int, *, global_batch: int = 4) -> EpochPlan:
    draws = np.random.default_rng(0).permutation(np.repeat(np.arange(num_patches), 2))[:20]
    return EpochPlan(draws=draws, global_batch=global_batch, num_steps=len(draws) // global_batch)


def _draws(
    plan: EpochPlan, *, rank: int = 0, world_size: int = 1, micro_batch: int = 2, first_step: int = 0
) -> Iterator[list[Draw]]:
    """Of the rows from 3 on."""
    numbers = {"rank": rank, "world_size": world_size, "first_step": first_step}
    return training_draws(plan, np.arange(3, 30), micro_batch=micro_batch, **numbers)


def _from_tars(shard_set: ShardSet) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Image and mask by key, read as any other tool would."""
    members: dict[str, bytes] = {}
    for path in (shard_set.root / "tars").iterdir():
        with tarfile.open(path) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    keys = {name.split(".")[0] for name in members}
    return {key: (_decoded(members[f"{key}.jpg"])[..., ::-1], _decoded(members[f"{key}.mask.png"])) for key in keys}


def _keys(shard_set: ShardSet) -> list[str]:
    keys: list[str] = pq.read_table(ShardSetPaths(shard_set.root).index)["key"].to_pylist()
    return keys


def _decoded(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def test_reading_by_offset_equals_plain_tar_reading(shard_set: ShardSet) -> None:
    reader, by_key = PatchReader(shard_set), _from_tars(shard_set)
    fractions = shard_set.column("tumornest_fraction")
    assert len(by_key) == len(fractions)
    for row, key in enumerate(_keys(shard_set)):
        image, mask = reader.read(row)
        assert np.array_equal(image, by_key[key][0])
        assert np.array_equal(mask * 255, by_key[key][1])
        assert mask.mean() == pytest.approx(fractions[row])


def test_patches_without_tumor_share_no_mask(shard_set: ShardSet) -> None:
    """Their PNG is decoded once; who changes one mask must not change the next."""
    reader, fractions = PatchReader(shard_set), shard_set.column("tumornest_fraction")
    rows = np.flatnonzero(fractions == 0)[:3].tolist()
    assert len(rows) == 3
    for row in rows:
        _, mask = reader.read(row)
        assert mask.shape == (512, 512)
        assert not mask.any()
        mask[:] = 1


def test_micro_batches_follow_the_plan() -> None:
    plan = _plan(27)
    draws = list(_draws(plan, micro_batch=3))
    assert [len(batch) for batch in draws] == [3, 1] * plan.num_steps
    expected = [(position, 3 + int(plan.draws[position])) for position in range(plan.num_steps * plan.global_batch)]
    assert [draw for batch in draws for draw in batch] == expected


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_out_each_step(world_size: int) -> None:
    plan = _plan(27)
    whole = list(_draws(plan, micro_batch=4))
    ranks = [list(_draws(plan, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert [[draw for share in shares for draw in share] for shares in zip(*ranks, strict=True)] == whole


@pytest.mark.parametrize("first_step", [0, 3, 5, 6])
def test_draws_that_begin_later_are_the_rest_of_the_epoch(first_step: int) -> None:
    plan = _plan(27)
    rest = list(_draws(plan, micro_batch=3))[2 * first_step :]
    assert list(_draws(plan, micro_batch=3, first_step=first_step)) == rest


def test_the_batches_of_an_epoch_are_made_one_by_one() -> None:
    plan = EpochPlan(draws=np.zeros(10_000_000, dtype=np.int32), global_batch=10, num_steps=1_000_000)
    tracemalloc.start()
    batches = _draws(plan, micro_batch=3)
    first = [next(batches) for _ in range(4)]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [position for batch in first for position, _ in batch] == list(range(10))
    assert peak_bytes < 100_000


def test_a_patch_is_changed_by_its_position(shard_set: ShardSet) -> None:
    changed, stored = _patches(shard_set, AugmentConfig()), _patches(shard_set)
    assert np.array_equal(changed[0, 4].image, changed[0, 4].image)
    assert not np.array_equal(changed[0, 4].image, changed[1, 4].image)
    assert np.array_equal(stored[0, 4].image, stored[1, 4].image)


def test_changes_that_are_made_elsewhere_are_those_that_are_made_here(shard_set: ShardSet) -> None:
    here = _patches(shard_set, AugmentConfig())
    image, mask, change = replace(here, augment_here=False)[7, 4]
    assert change is not None
    changed_image, changed_mask = augment(image, mask, change)
    assert np.array_equal(changed_image, here[7, 4].image)
    assert np.array_equal(changed_mask, here[7, 4].mask)
    assert here[7, 4].change is None
    assert np.array_equal(image, here.reader.read(4)[0])


@pytest.mark.parametrize("world_size", [1, 2, 5, 7])
def test_validation_covers_every_row_once(world_size: int) -> None:
    rows = np.arange(30, 36)
    seen: list[int] = []
    for rank in range(world_size):
        draws = list(validation_draws(rows, batch=2, rank=rank, world_size=world_size))
        assert all(0 < len(batch) <= 2 for batch in draws)
        seen += [row for batch in draws for _, row in batch]
    assert sorted(seen) == rows.tolist()


def test_threads_that_share_a_reader_do_not_disturb_each_other(
    shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer tars open than are read at once: each of them is closed again and again under the others."""
    monkeypatch.setattr(samples, "_MOST_OPEN_TARS", 1)
    reader = PatchReader(shard_set)
    rows = [0, 16, 31, 1, 17, 32] * 20
    expected = {row: reader.read(row)[0] for row in set(rows)}
    with ThreadPoolExecutor(6) as pool:
        for row, (image, _) in zip(rows, pool.map(reader.read, rows), strict=True):
            assert np.array_equal(image, expected[row])
    assert len(reader._files) == 1


def test_more_tars_than_may_be_open(shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (0, 16, 31, 1, 17, 32, 2, 0)  # three tars in turn
    unlimited = PatchReader(shard_set)
    expected = [unlimited.read(row)[0] for row in rows]
    assert len(unlimited._files) == 3
    monkeypatch.setattr(samples, "_MOST_OPEN_TARS", 2)
    limited = PatchReader(shard_set)
    for row, image in zip(rows, expected, strict=True):
        assert np.array_equal(limited.read(row)[0], image)
        assert len(limited._files) <= 2


def _overwrite(shard_set: ShardSet, row: int, kind: str, *, share: float, num_bytes: int) -> Path:
    """Put zeros into a stored image or mask; its tar."""
    record = pq.read_table(ShardSetPaths(shard_set.root).index).to_pylist()[row]
    tar = shard_set.root / str(record["tar"])
    with tar.open("r+b") as file:
        file.seek(int(record[f"{kind}_offset"] + share * record[f"{kind}_bytes"]))
        file.write(b"\0" * num_bytes)
    return tar


@pytest.mark.parametrize("kind", ["image", "mask"])
@pytest.mark.parametrize("share", [0.0, 0.5], ids=["head", "inside"])
def test_damaged_bytes_are_an_error_that_names_tar_and_key(changeable: ShardSet, kind: str, share: float) -> None:
    tar = _overwrite(changeable, 17, kind, share=share, num_bytes=20)
    reader, key = PatchReader(changeable), changeable.key(17)
    with pytest.raises(ShardError, match=rf"{tar}: the {kind} of patch {key} at byte \d+ is damaged; run `python sh"):
        reader.read(17)
    reader.read(16)


def test_a_truncated_tar_is_an_error(changeable: ShardSet) -> None:
    tar = changeable.root / "tars" / "train-1.tar"
    tar.write_bytes(tar.read_bytes()[:200_000])
    with pytest.raises(ShardError, match=r"train-1.tar: the image of patch train-1_x000512_y001024"):
        PatchReader(changeable).read(26)


def test_a_missing_tar_is_an_error(changeable: ShardSet) -> None:
    tar = changeable.root / "tars" / "val1-0.tar"
    tar.unlink()
    with pytest.raises(ShardError, match=rf"{tar} is not there, although the index names it"):
        PatchReader(changeable).read(30)
