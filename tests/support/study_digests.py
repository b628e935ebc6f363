"""Digests of a finished study's results: a change to the code that moves none of them has moved no result.

    python tests/support/study_digests.py STUDY --out before.json
    python tests/support/study_digests.py STUDY_MADE_AGAIN --against before.json

What is digested is values: pixels, tensors and columns, never bytes of files that also hold versions. Times, speeds
and memory are left out, because they are other ones in each run.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import tyro
import zarr
from safetensors.numpy import load_file

from bccdist.files import read_json, write_json
from bccdist.paths import StudyPaths

LEFT_OUT = {"read_s", "network_s", "seconds", "patches_per_s", "loader_wait_share", "memory_gib", "patch_s"}
"""Columns that measure a run instead of stating its results."""


def digests_of(paths: StudyPaths) -> dict[str, str]:
    """The digest of each result, by the path of its file within the study."""
    found = dict(_tables(paths)) | dict(_arrays(paths)) | dict(_tars(paths))
    return dict(sorted(found.items()))


def _tables(paths: StudyPaths) -> Iterator[tuple[str, str]]:
    """The ledger, the shard set's index, metrics, and every table and figure's parquet."""
    folders = (paths.tables, paths.figures, paths.runs, paths.shards.root)
    for path in (paths.sections, *(file for folder in folders for file in sorted(folder.rglob("*.parquet")))):
        frame = pd.read_parquet(path)
        for column in sorted(set(frame.columns) - LEFT_OUT):
            yield f"{_name(paths, path)}:{column}", _digest(frame[column].to_json(double_precision=15).encode())


def _arrays(paths: StudyPaths) -> Iterator[tuple[str, str]]:
    """Tensors of all weights, and pixels of all heatmaps with what they cover."""
    for path in sorted(paths.runs.rglob("*.safetensors")):
        tensors = load_file(path)
        yield _name(paths, path), _digest(*(tensors[name].tobytes() for name in sorted(tensors)))
    for path in sorted(paths.root.glob("heatmaps/**/*.ozx")):
        store = zarr.storage.ZipStore(path, read_only=True)
        arrays = dict(zarr.open_group(store, mode="r").members(max_depth=None))
        for name in sorted(arrays):
            array = arrays[name]
            if isinstance(array, zarr.Array):
                yield f"{_name(paths, path)}:{name}", _digest(np.asarray(array[:]).tobytes())


def _tars(paths: StudyPaths) -> Iterator[tuple[str, str]]:
    """The bytes of the shard set's tars, as its manifest states them; `shards/check.py` holds the two together."""
    for tar in read_json(paths.shards.manifest)["tars"]:
        yield f"shards/{tar['path']}", _digest(tar["sha256"].encode())


def _name(paths: StudyPaths, path: Path) -> str:
    return path.relative_to(paths.root).as_posix()


def _digest(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:16]


def main(
    study: Annotated[Path, tyro.conf.Positional], *, out: Path | None = None, against: Path | None = None
) -> None:
    """Write a study's digests, or hold them against those of another study.

    Args:
        study: The study's folder.
        out: File for the digests, as JSON.
        against: Digests to compare with; the exit code is 1 where any differs.
    """
    found = digests_of(StudyPaths(study.resolve()))
    if out is not None:
        write_json(out, found)
    before = json.loads(against.read_text(encoding="utf-8")) if against is not None else found
    changed = [name for name in sorted({*found, *before}) if found.get(name) != before.get(name)]
    for name in changed:
        print(f"{name}: {before.get(name, 'not there')} before, {found.get(name, 'not there')} now")
    print(f"{len(found)} results, {len(changed)} of them other than before")
    if changed:
        sys.exit(1)


if __name__ == "__main__":
    tyro.cli(main)
