"""Checks an evidence pack and computes the numbers of its report anew: `python verify.pyz [FOLDER]`.

Stands alone: Python 3.11 or newer with numpy and pyarrow; no study and no bccdist. Bytes are compared with the digests
that were taken when the pack was made, the job log with its chain, and every number with what follows from the raw
rows of the ledger by the formulas of these files: none of the code that made the report is used. What is not computed
anew is named, never left out in silence. It proves nothing about who made the pack: whoever makes all of it anew can
say anything, unless the head digest was kept elsewhere (`--head`).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from analysis.evidence_pack.check.comparing import compute
from analysis.evidence_pack.check.digests import check_files, check_rows, check_weights, sha256_of
from analysis.evidence_pack.check.findings import JOBS, LEDGER, MANIFEST, PAGE, PAGE_TEXTS, ROW_DIGESTS, Findings, Row
from analysis.evidence_pack.check.job_chain import check_log, parsed
from analysis.evidence_pack.check.page_texts import Page, check_page_texts
from analysis.evidence_pack.check.raw_rows import Pack
from analysis.evidence_pack.check.shown import check_page_numbers


def verify(folder: Path, *, head: str = "", beside: Path | None = None) -> Findings:
    """All checks of a pack.

    Args:
        folder: the pack.
        head: the digest that was printed when it was made, or its first digits.
        beside: the folder of the study, where files that the pack names and does not hold are looked at.
    """
    found = Findings()
    path = folder / MANIFEST
    if not path.is_file():
        found.faults.append(f"{folder} holds no {MANIFEST}: it is no evidence pack, or that file is gone")
        return found
    digest = sha256_of(path)
    if head and not digest.startswith(head.lower()):
        found.faults.append(f"{MANIFEST}: its bytes changed: sha256 {digest}, expected {head}")
    manifest = parsed(path.read_bytes())
    if not {"files", "elsewhere", "job_log"} <= set(manifest):
        found.faults.append(f"{MANIFEST}: cannot be read, or names no files")
        return found
    found.guarded("digests", lambda: check_files(folder, manifest, beside, found))
    found.guarded("weights", lambda: check_weights(folder, manifest, found))
    rows = folder / ROW_DIGESTS
    found.guarded(LEDGER, lambda: check_rows(pq.read_table(folder / LEDGER), rows.read_text("utf-8"), found))
    if manifest["job_log"]:
        found.guarded(JOBS, lambda: check_log((folder / JOBS).read_bytes(), manifest["job_log"], found))
    else:
        found.leave("job log", "the study has none")
    pack = found.guarded("the pack", lambda: Pack(folder))
    computed = {} if pack is None else compute(pack, found)
    found.guarded(PAGE, lambda: _check_page(folder, pack, computed, found))
    for name, reason in manifest.get("left_out", {}).items():
        found.leave("not in the pack", f"{name}: {reason}")
    return found


def _check_page(folder: Path, pack: Pack | None, computed: Mapping[str, list[Row]], found: Findings) -> None:
    page = Page((folder / PAGE).read_text("utf-8"))
    check_page_texts(page, json.loads((folder / PAGE_TEXTS).read_text("utf-8")), found)
    if pack is not None:
        check_page_numbers(page, pack, computed, found)


def told(folder: Path, found: Findings) -> str:
    """The findings as lines."""
    manifest = folder / MANIFEST
    lines = [f"head digest {sha256_of(manifest)}"] if manifest.is_file() else []
    lines += [f"checked: {each}" for each in found.done]
    for where, what in found.left.items():
        lines += [f"not computed anew, {where}:", *(f"  - {each}" for each in what)]
    lines += [f"FAULT: {each}" for each in found.faults]
    num = len(found.faults)
    lines.append(f"{num} fault(s)" if num else "no fault found; compare the head digest with the one that was kept")
    return "\n".join(lines)


def check(folder: Path, *, head: str = "", beside: Path | None = None) -> int:
    """Make all checks and print what they found; 0 where nothing is wrong, else 1."""
    found = verify(folder, head=head, beside=beside)
    sys.stdout.write(told(folder, found) + "\n")
    return 1 if found.faults else 0


def main(words: Sequence[str] | None = None, *, default: Path = Path()) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="verify", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("folder", nargs="?", type=Path, default=default, help="the evidence pack")
    parser.add_argument("--head", default="", help="the digest that was printed when the pack was made")
    parser.add_argument("--beside", type=Path, help="the study's folder, for files that the pack does not hold")
    asked = parser.parse_args(words)
    return check(asked.folder, head=asked.head, beside=asked.beside)
