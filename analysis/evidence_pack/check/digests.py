"""Every file and every row of the ledger against the digests of when the pack was made."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.evidence_pack.check.findings import CURVES, LEDGER, MANIFEST, ROW_KEYS, Findings


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, manifest: Mapping[str, Any], beside: Path | None, found: Findings) -> None:
    """Every file against its digest; those outside of the pack where they are said to lie."""
    expected = manifest["files"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    there = {name for name in there if "__pycache__" not in name}
    changed = {name: sha256_of(folder / name) for name in sorted(there & set(expected))}
    found.fault(
        "files",
        [
            *(f"{name}: is gone; {MANIFEST} names it" for name in sorted(set(expected) - there)),
            *(f"{name}: was added; {MANIFEST} does not name it" for name in sorted(there - set(expected))),
            *(
                f"{name}: its bytes changed: sha256 {digest[:12]}..., expected {expected[name][:12]}..."
                for name, digest in changed.items()
                if digest != expected[name]
            ),
        ],
    )
    found.done.append(f"{len(expected)} files by their digests")
    elsewhere = manifest["elsewhere"]
    for what in dict.fromkeys(entry["what"] for entry in elsewhere.values()) if beside is None else ():
        names = [name for name, entry in elsewhere.items() if entry["what"] == what]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        found.leave("bytes that are not in the pack (--beside STUDY looks at them)", f"{what}: {names[0]}{more}")
    for name, entry in elsewhere.items() if beside is not None else ():
        if not (beside / name).is_file():
            found.faults.append(f"{name}: {entry['what']}: is not below {beside}")
        elif (digest := sha256_of(beside / name)) != entry["sha256"]:
            found.faults.append(
                f"{name}: {entry['what']}: its bytes changed: sha256 {digest[:12]}..., expected "
                f"{entry['sha256'][:12]}..."
            )


def check_weights(folder: Path, manifest: Mapping[str, Any], found: Findings) -> None:
    """Whether the digest of each checkpoint is the one by which the choice names its weights."""
    digests = {**manifest["files"], **{name: entry["sha256"] for name, entry in manifest["elsewhere"].items()}}
    for choice in pq.read_table(folder / "tables" / "selection.parquet").to_pylist():
        name = manifest["weights"].get(choice["setting"], "")
        if not name:
            found.leave("weights", f"{choice['setting']}: its checkpoint was not there when the pack was made")
        elif name.endswith(".safetensors") and not digests[name].startswith(choice["weights_digest"]):
            found.faults.append(
                f"{name}: sha256 {digests[name][:12]}..., but {choice['setting']} was chosen with the weights "
                f"{choice['weights_digest']}"
            )


def row_digests(table: pa.Table) -> Iterator[tuple[str, str]]:
    """The digest and the name of each row of the ledger, in their order."""
    lists = {name: lists_of(table, name) for name in CURVES}
    for number, row in enumerate(table.drop_columns(list(CURVES)).to_pylist()):
        digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode())
        for values in lists.values():
            digest.update(values[number].astype("<f8").tobytes())
        yield digest.hexdigest(), json.dumps([row[name] for name in ROW_KEYS])


def check_rows(table: pa.Table, text: str, found: Findings) -> None:
    """Every row of the ledger against its digest, so that a changed one has a name."""
    expected = {name: digest for digest, _, name in (line.partition(" ") for line in text.splitlines())}
    there = {name: digest for digest, name in row_digests(table)}
    told = {
        "was changed": [name for name, digest in there.items() if expected.get(name, digest) != digest],
        "is gone": [name for name in expected if name not in there],
        "was added": [name for name in there if name not in expected],
    }
    found.fault(
        LEDGER, [f"{LEDGER}: the row {_spoken(name)} {what}" for what, names in told.items() for name in names]
    )
    found.done.append(f"{len(expected)} rows of the ledger by their digests")


def _spoken(name: str) -> str:
    return ", ".join(f"{key} {value}" for key, value in zip(ROW_KEYS, json.loads(name), strict=True))


def lists_of(table: pa.Table, name: str) -> NDArray[Any]:
    """A column of lists of one length as an array [rows, length]."""
    column = table.column(name).combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), -1)
