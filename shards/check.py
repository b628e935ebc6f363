"""Checks that a shard set is whole: `python shards/check.py FOLDER [--no-deep]`."""

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tyro

from bccdist.command import run_command
from bccdist.errors import ShardError
from bccdist.files import sha256_of_file
from bccdist.paths import ShardSetPaths
from bccdist.shard_set.index import read_set_manifest
from shards.coding import member_extensions
from shards.tars import Member, members_of

_ROWS_AT_ONCE = 10_000


def check_set(root: Path, *, deep: bool = True) -> list[str]:
    """The faults of a shard set; none means that it is whole.

    Args:
        root: the set's folder.
        deep: also read every tar: its digest, and each patch where the index says it lies. Else only sizes.
    """
    paths = ShardSetPaths(root)
    faults = [f"{path.relative_to(root)}: left by a broken-off writer; delete it" for path in _partial_files(root)]
    try:
        manifest = read_set_manifest(paths)
    except ShardError as error:
        return [*faults, str(error)]
    index_faults = list(_index_faults(paths, manifest))
    tar_faults = list(_tar_faults(paths, manifest, deep=deep))
    extensions = member_extensions(manifest["config"]["image_coding"])
    sample_faults = list(_sample_faults(paths, extensions)) if deep and not index_faults else []
    return [*faults, *index_faults, *tar_faults, *sample_faults]


def _partial_files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.partial-*"))


def _index_faults(paths: ShardSetPaths, manifest: Mapping[str, Any]) -> Iterator[str]:
    expected = manifest["index"]
    if not paths.index.exists():
        yield f"{paths.index.name}: not there; run the shards stage again"
    elif sha256_of_file(paths.index) != expected["sha256"]:
        yield f"{paths.index.name}: stale or damaged: its SHA-256 is not manifest.json's; run the shards stage again"


def _tar_faults(paths: ShardSetPaths, manifest: Mapping[str, Any], *, deep: bool) -> Iterator[str]:
    known = {expected["path"]: expected for expected in manifest["tars"]}
    for name, expected in known.items():
        path = paths.root / name
        if not path.exists():
            yield f"{name}: not there; run the shards stage again"
        elif path.stat().st_size != expected["bytes"]:
            yield f"{name}: {path.stat().st_size} bytes, expected {expected['bytes']}; run the shards stage again"
        elif deep and sha256_of_file(path) != expected["sha256"]:
            yield f"{name}: its SHA-256 is not manifest.json's; delete it and run the shards stage again"
    for path in sorted(paths.root.rglob("*.tar")):
        if path.relative_to(paths.root).as_posix() not in known:
            yield f"{path.relative_to(paths.root)}: not part of the set; delete it"


def _sample_faults(paths: ShardSetPaths, extensions: Mapping[str, str]) -> Iterator[str]:
    """What the index says of each patch, held against its tar; a part of the index is in memory at a time."""
    with pq.ParquetFile(paths.index) as index:
        for batch in index.iter_batches(_ROWS_AT_ONCE):
            rows = pa.Table.from_batches([batch])
            for tar in rows["tar"].unique().to_pylist():
                path = paths.root / tar
                if path.exists():
                    yield from _faults_in_tar(path, rows.filter(pc.equal(rows["tar"], tar)), extensions)


def _faults_in_tar(path: Path, rows: pa.Table, extensions: Mapping[str, str]) -> Iterator[str]:
    try:
        members = members_of(path)
    except tarfile.TarError as error:
        yield f"{path.name}: not a readable tar: {error}"
        return
    with path.open("rb") as file:
        for row in rows.to_pylist():
            for name, extension in extensions.items():
                member = f"{row['key']}.{extension}"
                place = Member(row[f"{name}_offset"], row[f"{name}_bytes"])
                file.seek(place.offset)
                if members.get(member) != place:
                    yield f"{path.name}: {member} is at {members.get(member)}, the index says {place}"
                elif hashlib.sha256(file.read(place.num_bytes)).hexdigest() != row[f"{name}_sha256"]:
                    yield f"{path.name}: {member} has other bytes than the index says"


def main(folder: Annotated[Path, tyro.conf.Positional], deep: bool = True) -> int:
    """Check a shard set, and print its faults.

    Args:
        folder: The set's folder.
        deep: Also read every tar: its digest, and each patch where the index says it lies.

    Returns:
        1 if there are faults.
    """
    faults = check_set(folder, deep=deep)
    for fault in faults:
        print(fault)
    if not faults:
        print(f"{folder}: whole")
    return int(bool(faults))


if __name__ == "__main__":
    run_command(lambda: tyro.cli(main))
