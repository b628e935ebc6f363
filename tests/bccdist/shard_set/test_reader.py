"""Patches come from the tars as they were stored, whatever the threads, and damage is named."""

import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from damage import assert_never_used
from numpy.typing import NDArray

from bccdist.errors import ShardError
from bccdist.paths import ShardSetPaths
from bccdist.shard_set import reader as reader_module
from bccdist.shard_set.index import ShardSet
from bccdist.shard_set.reader import PatchReader


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


def test_threads_that_share_a_reader_do_not_disturb_each_other(
    shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer tars open than are read at once: each of them is closed again and again under the others."""
    monkeypatch.setattr(reader_module, "_MOST_OPEN_TARS", 1)
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
    monkeypatch.setattr(reader_module, "_MOST_OPEN_TARS", 2)
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


def _patches(shard_set: ShardSet) -> list[tuple[bytes, bytes]]:
    reader = PatchReader(shard_set)
    found = [reader.read(row) for row in range(len(shard_set.column("image_offset")))]
    return [(image.tobytes(), mask.tobytes()) for image, mask in found]


def test_a_damaged_tar_is_never_used(changeable: ShardSet) -> None:
    for seed, tar in enumerate(sorted((changeable.root / "tars").iterdir())):
        assert assert_never_used(tar, lambda: _patches(changeable), seed=seed, num=15) > 3
