"""Patches come from the tars as they were stored, in the plan's order, whatever the workers and ranks."""

import pickle
import tarfile
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from small_study import SmallStudy, write_study
from torch import Tensor
from torch.utils.data import DataLoader

from bccdist.configuration import AugmentConfig
from bccdist.errors import ShardError
from bccdist.paths import ShardSetPaths
from bccdist.training import samples
from bccdist.training.epoch_plan import EpochPlan
from bccdist.training.samples import Patches, PatchReader, training_loader, validation_loader
from bccdist.training.shard_set import ShardSet, read_set

AS_STORED = AugmentConfig(enabled=False)
Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Built and finished; not to be changed."""
    study = write_study(tmp_path_factory.mktemp("study"))
    study.build()
    study.finish()
    return study


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


def _training(
    patches: Patches,
    plan: EpochPlan,
    *,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    micro_batch: int = 2,
    first_step: int = 0,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Of the rows from 3 on."""
    rows = np.arange(3, 30)
    numbers = {"rank": rank, "world_size": world_size, "num_workers": num_workers, "first_step": first_step}
    return training_loader(patches, plan, rows, micro_batch=micro_batch, **numbers)


def _equal(first: Batches, second: Batches) -> bool:
    pairs = list(zip(first, second, strict=True))
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


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


def test_a_batch_is_uint8_with_channels_last(shard_set: ShardSet) -> None:
    images, masks = next(iter(_training(_patches(shard_set), _plan(27))))
    assert (images.shape, images.dtype) == ((2, 512, 512, 3), torch.uint8)
    assert (masks.shape, masks.dtype) == ((2, 512, 512), torch.uint8)
    assert set(masks.unique().tolist()) <= {0, 1}


def test_micro_batches_follow_the_plan(shard_set: ShardSet) -> None:
    plan = _plan(27)
    loader = _training(_patches(shard_set), plan, micro_batch=3)
    assert [len(images) for images, _ in loader] == [3, 1] * plan.num_steps
    reader = PatchReader(shard_set)
    images = torch.cat([images for images, _ in loader])
    for position in range(plan.num_steps * plan.global_batch):
        assert np.array_equal(images[position].numpy(), reader.read(3 + int(plan.draws[position]))[0])


@pytest.mark.parametrize("augment_config", [AS_STORED, AugmentConfig()], ids=["stored", "augmented"])
def test_workers_do_not_change_the_batches(shard_set: ShardSet, augment_config: AugmentConfig) -> None:
    patches, plan = _patches(shard_set, augment_config), _plan(27)
    alone, helped = (list(_training(patches, plan, num_workers=number)) for number in (0, 2))
    assert _equal(alone, helped)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_out_each_step(shard_set: ShardSet, world_size: int) -> None:
    patches, plan = _patches(shard_set, AugmentConfig()), _plan(27)
    whole = list(_training(patches, plan, micro_batch=4))
    ranks = [list(_training(patches, plan, rank=rank, world_size=world_size)) for rank in range(world_size)]
    joined = [tuple(map(torch.cat, zip(*shares, strict=True))) for shares in zip(*ranks, strict=True)]
    assert _equal(whole, joined)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("first_step", [0, 3, 5, 6])
def test_a_loader_that_starts_later_gives_the_rest_of_the_epoch(
    shard_set: ShardSet, first_step: int, num_workers: int
) -> None:
    patches, plan = _patches(shard_set, AugmentConfig()), _plan(27)
    loader = _training(patches, plan, micro_batch=3, first_step=first_step, num_workers=num_workers)
    rest = list(_training(patches, plan, micro_batch=3))[2 * first_step :]
    assert len(loader) == len(rest)
    assert _equal(list(loader), rest)


def test_the_batches_of_an_epoch_are_made_one_by_one(shard_set: ShardSet) -> None:
    plan = EpochPlan(draws=np.zeros(10_000_000, dtype=np.int32), global_batch=10, num_steps=1_000_000)
    loader = _training(_patches(shard_set), plan, micro_batch=3)
    tracemalloc.start()
    batches = iter(loader.batch_sampler)  # type: ignore[arg-type]
    first = [next(batches) for _ in range(4)]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(loader) == 4_000_000
    assert [position for batch in first for position, _ in batch] == list(range(10))
    assert peak_bytes < 100_000


def test_a_patch_is_changed_by_its_position(shard_set: ShardSet) -> None:
    patches = _patches(shard_set, AugmentConfig())
    assert torch.equal(patches[0, 4][0], patches[0, 4][0])
    assert not torch.equal(patches[0, 4][0], patches[1, 4][0])
    assert torch.equal(_patches(shard_set)[0, 4][0], _patches(shard_set)[1, 4][0])


@pytest.mark.parametrize("world_size", [1, 2, 5, 7])
def test_validation_covers_every_row_once(shard_set: ShardSet, world_size: int) -> None:
    rows = np.arange(30, 36)
    seen: list[int] = []
    for rank in range(world_size):
        loader = validation_loader(_patches(shard_set), rows, batch=2, rank=rank, world_size=world_size, num_workers=0)
        assert all(0 < len(images) <= 2 for images, _ in loader)
        seen += [row for batch in loader.batch_sampler for _, row in batch]  # type: ignore[union-attr]
    assert sorted(seen) == rows.tolist()


def test_a_copied_reader_opens_its_own_files(shard_set: ShardSet) -> None:
    reader = PatchReader(shard_set)
    image, _ = reader.read(0)
    copied = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert copied._files == {}
    assert np.array_equal(copied.read(0)[0], image)


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


@pytest.mark.slow  # torch waits five seconds for a worker that has failed
def test_an_error_in_a_worker_stays_what_it_is(changeable: ShardSet) -> None:
    _overwrite(changeable, 3, "image", share=0.1, num_bytes=50)
    plan = EpochPlan(draws=np.zeros(2, dtype=np.int64), global_batch=2, num_steps=1)
    with pytest.raises(ShardError, match="is damaged"):
        list(_training(_patches(changeable), plan, num_workers=1))


def test_a_missing_tar_is_an_error(changeable: ShardSet) -> None:
    tar = changeable.root / "tars" / "val1-0.tar"
    tar.unlink()
    with pytest.raises(ShardError, match=rf"{tar} is not there, although the index names it"):
        PatchReader(changeable).read(30)
