"""The job log: each line against its digest, and the chain that the study wrote."""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.evidence_pack.check.findings import JOBS, MANIFEST, NO_BYTES, Findings, Row


def chain_faults(lines: Sequence[bytes], before: Sequence[str | None]) -> list[int]:
    """The numbers, from 1, of the lines that hold another digest than that of the line before them."""
    digests = [NO_BYTES, *(hashlib.sha256(line).hexdigest() for line in lines)]
    return [number + 1 for number, each in enumerate(before) if each != digests[number]]


def check_log(content: bytes, log: Mapping[str, Any], found: Findings) -> None:
    """The pack's lines by their digests and their chain; then the study's own chain."""
    lines = content.splitlines()
    now, then = [hashlib.sha256(line).hexdigest() for line in lines], log["lines"]
    told = list(_moved_lines(now, then))
    records = [parsed(line) for line in lines]
    if not told:
        broken = chain_faults(lines, [record.get("before") for record in records])
        told += [f"{JOBS}: line {number} was not written behind line {number - 1}" for number in broken]
        if log["head"] != (now[-1] if now else NO_BYTES):
            told.append(f"{JOBS}: its last line is not the head of the chain that {MANIFEST} names")
    found.fault(JOBS, told)
    found.done.append(f"{len(then)} lines of the job log by their chain")
    _check_log_of_study(records, found)


def _moved_lines(now: Sequence[str], then: Sequence[str]) -> Iterator[str]:
    """Which lines are not those that were written, by the digests of all."""
    place = {digest: number for number, digest in enumerate(now, 1)}
    is_cut = len(now) < len(then) and list(now) == list(then[: len(now)])
    if is_cut:
        yield f"{JOBS}: the lines from {len(now) + 1} to {len(then)} were cut off"
        return
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, then, now, autojunk=False).get_opcodes():
        for number in range(i1, i2) if kind != "equal" else ():
            if then[number] in place:
                yield f"{JOBS}: line {number + 1} now stands at line {place[then[number]]}"
            elif number - i1 < j2 - j1:
                yield f"{JOBS}: line {number + 1} was changed"
            else:
                yield f"{JOBS}: line {number + 1} is gone"
        for number in range(j1 + i2 - i1, j2) if kind != "equal" else ():
            if now[number] not in then:
                yield f"{JOBS}: line {number + 1} was added"


def _check_log_of_study(records: Sequence[Row], found: Findings) -> None:
    """The study's own chain, by the digests of its lines that the pack's lines hold."""
    of_study = [record.get("record", {}).get("before") for record in records]
    digests = [NO_BYTES, *(record.get("sha256") for record in records)]
    start = next((number for number, each in enumerate(of_study) if each is not None), len(records))
    found.fault(
        JOBS,
        [
            f"{JOBS}: in the study, line {number + 1} was not written behind line {number}: "
            + ("it names no line before it" if of_study[number] is None else "one of them was changed or taken out")
            for number in range(start, len(records))
            if of_study[number] != digests[number]
        ],
    )
    if start:
        found.leave("job log", f"the study's own chain: unchained until line {start}, as older versions wrote it")


def parsed(line: bytes) -> Row:
    """The record in a line of JSON; an empty one where it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
