"""The job log as it leaves the laboratory: what ran and when, without people, machines, folders and names of files.

Each line of the pack holds the record, the SHA-256 of the study's own line, and the SHA-256 of the pack's line before.
So a changed line of the pack has a name, and whoever has the study can prove each line by its digest.
"""

import hashlib
import json
import re
from typing import Any

from bccdist.events import BEFORE, digest_of_line, json_line

_LEFT_OUT = ("user", "host", "folder", "study", "processes")
_FILE = re.compile(r".*[/\\].*|.*\.[A-Za-z]\w{0,7}")
"""A word of a command that names a file or folder."""
_COMMAND = "command"


def packed_log(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """The pack's lines, and the digest of each with that of the last one, the head.

    Args:
        content: the bytes of the study's jobs.jsonl.
    """
    lines, digests, before = [], [], hashlib.sha256(b"").hexdigest()
    for line in content.split(b"\n"):
        if line:
            packed = json_line({BEFORE: before, "sha256": digest_of_line(line), "record": _record(line)})
            before = digest_of_line(packed)
            digests.append(before)
            lines.append(packed)
    return b"".join(lines), {"head": before, "lines": digests}


def _record(line: bytes) -> dict[str, Any]:
    """A line without what names people, machines and files."""
    try:
        record = json.loads(line)
    except ValueError:
        return {"event": "a line that was cut, or damaged"}
    if not isinstance(record, dict):
        return {"event": "a line that is no record"}
    kept = {name: value for name, value in record.items() if name not in _LEFT_OUT}
    if isinstance(kept.get(_COMMAND), list):
        kept[_COMMAND] = [_word(str(word)) for word in kept[_COMMAND]]
    return kept


def _word(word: str) -> str:
    flag, is_flag, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{flag}{is_flag}{'(a path)' if _FILE.fullmatch(value) else value}" if value else word
