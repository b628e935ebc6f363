"""The check finds each kind of damage to a shard set, and nothing in a whole one."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
from small_study import SmallStudy, write_finished_study

from bccdist.files import read_json, sha256_of_file
from bccdist.paths import ShardSetPaths
from bccdist.seals import write_sealed_json
from shards.check import check_set


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    return write_finished_study(tmp_path_factory.mktemp("finished"), width_px=800, height_px=560)


@pytest.fixture
def paths(finished: SmallStudy, tmp_path: Path) -> ShardSetPaths:
    return ShardSetPaths(shutil.copytree(finished.shards.root, tmp_path / "shards"))


def _flip_byte_of_an_image(paths: ShardSetPaths) -> None:
    row = pq.read_table(paths.index).to_pylist()[2]
    _flip(paths.root / row["tar"], row["image_offset"] + row["image_bytes"] // 2)


def _flip_byte_of_a_header(paths: ShardSetPaths) -> None:
    _flip(paths.tar("train-1"), 0)


def _flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(content)


def _truncate_tar(paths: ShardSetPaths) -> None:
    content = paths.tar("train-1").read_bytes()
    paths.tar("train-1").write_bytes(content[: len(content) // 2])


def _shift_offsets(paths: ShardSetPaths) -> None:
    """An index whose digest is right and whose offsets are wrong."""
    table = pq.read_table(paths.index)
    swapped = table["image_offset"].to_numpy().copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    position = table.schema.get_field_index("image_offset")
    pq.write_table(table.set_column(position, table.schema.field(position), [swapped]), paths.index)
    manifest = read_json(paths.manifest)
    manifest["index"]["sha256"] = sha256_of_file(paths.index)
    write_sealed_json(paths.manifest, manifest)


def _stale_index(paths: ShardSetPaths) -> None:
    pq.write_table(pq.read_table(paths.index).slice(1), paths.index)


class Damage(NamedTuple):
    """What is done to a set, and the beginnings of the faults that must be found."""

    name: str
    do: Callable[[ShardSetPaths], object]
    faults: tuple[str, ...]


DAMAGES = (
    Damage("nothing", lambda _: None, ()),
    Damage("no manifest", lambda paths: paths.manifest.unlink(), ("{root} is unfinished",)),
    Damage("no folder", lambda paths: shutil.rmtree(paths.root), ("{root} is unfinished",)),
    Damage("no JSON", lambda paths: paths.manifest.write_text("{"), ("{root}/manifest.json: not valid JSON",)),
    Damage("no tar", lambda paths: paths.tar("train-0").unlink(), ("tars/train-0.tar: not there",)),
    Damage(
        "flipped byte of an image",
        _flip_byte_of_an_image,
        ("tars/train-0.tar: its SHA-256", "train-0.tar: train-0_x001024_y000000.jpg has other bytes"),
    ),
    Damage(
        "flipped byte of a header",
        _flip_byte_of_a_header,
        ("tars/train-1.tar: its SHA-256", "train-1.tar: not a readable tar"),
    ),
    Damage("truncated tar", _truncate_tar, ("tars/train-1.tar: ", "train-1.tar: ")),
    Damage(
        "wrong offsets",
        _shift_offsets,
        (
            "train-0.tar: train-0_x000000_y000000.jpg is at",
            "train-0.tar: train-0_x000512_y000000.jpg is at",
        ),
    ),
    Damage("stale index", _stale_index, ("index.parquet: stale or damaged",)),
    Damage("no index", lambda paths: paths.index.unlink(), ("index.parquet: not there",)),
    Damage(
        "left-over partial file",
        lambda paths: (paths.root / "tars" / "train-0.tar.partial-0123").write_bytes(b""),
        ("tars/train-0.tar.partial-0123: left by a broken-off writer",),
    ),
    Damage(
        "tar of a slide that is not in the set",
        lambda paths: shutil.copy(paths.tar("train-0"), paths.tar("train-9")),
        ("tars/train-9.tar: not part of the set",),
    ),
)


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.name for damage in DAMAGES])
def test_damage_is_found(damage: Damage, paths: ShardSetPaths) -> None:
    damage.do(paths)
    faults = check_set(paths.root)
    expected = [fault.format(root=paths.root) for fault in damage.faults]
    assert len(faults) == len(expected), faults
    assert all(fault.startswith(start) for fault, start in zip(faults, expected, strict=True)), faults


def test_shallow_check_reads_no_tar_but_knows_its_size(paths: ShardSetPaths) -> None:
    _flip_byte_of_an_image(paths)
    assert check_set(paths.root, deep=False) == []
    _truncate_tar(paths)
    assert len(check_set(paths.root, deep=False)) == 1


def test_command_prints_faults_and_exits_with_1(paths: ShardSetPaths) -> None:
    script = Path(__file__).parents[2] / "shards" / "check.py"
    whole = subprocess.run([sys.executable, script, paths.root], capture_output=True, text=True, check=False)
    assert (whole.returncode, whole.stdout) == (0, f"{paths.root}: whole\n")
    paths.tar("train-0").unlink()
    damaged = subprocess.run([sys.executable, script, paths.root], capture_output=True, text=True, check=False)
    assert (damaged.returncode, damaged.stdout) == (
        1,
        "tars/train-0.tar: not there; run the shards stage again\n",
    )


def test_the_data_stage_does_not_import_torch() -> None:
    modules = "shards.build, shards.finish, shards.check, bccdist.shard_set.index"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
