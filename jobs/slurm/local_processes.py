"""Local jobs found again after their launcher is gone: by number, time of start and group of processes."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_PROC = Path("/proc")


def identity(pid: int) -> str:
    """Names a process for good: numbers are given again, and begin anew with the machine.

    Returns:
        NUMBER@START, with the start as the machine's boot and its clock's ticks since then; without a start where the
        process has ended already.
    """
    found = _stat(pid)
    return f"{pid}@{_boot()}-{found[2]}" if found else f"{pid}@"


def still_there(identities: Sequence[str]) -> dict[int, list[int]]:
    """Of processes that lead groups, those of whose group something still runs here: its members, by the leader."""
    leaders = dict(_leader(each) for each in identities)
    members: dict[int, list[int]] = {}
    for pid, (state, group, _) in _all_processes():
        if group in leaders and state != "Z":
            members.setdefault(group, []).append(pid)
    # No new process gets the number of a group that is there, so a leader of another start leads another group.
    return {leader: found for leader, found in members.items() if _is_same(leader, leaders[leader])}


def named(groups: Mapping[int, Sequence[int]]) -> str:
    """Groups of processes for a message, and what ends them."""
    members = ", ".join(str(pid) for found in groups.values() for pid in found)
    ends = " ".join(f"-{leader}" for leader in groups)
    return f"process(es) {members} on {socket.gethostname()}; `kill -INT -- {ends}` ends them, or wait for them"


def _leader(identity_of_it: str) -> tuple[int, str]:
    number, _, start = identity_of_it.partition("@")
    return int(number), start


def _is_same(pid: int, start: str) -> bool:
    found = _stat(pid)
    if not start or not start.startswith(f"{_boot()}-"):
        return False
    return found is None or f"{_boot()}-{found[2]}" == start


def _all_processes() -> Iterator[tuple[int, tuple[str, int, int]]]:
    for folder in _PROC.iterdir():
        if folder.name.isdecimal() and (found := _stat(int(folder.name))) is not None:
            yield int(folder.name), found


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, group and start of a process; None where there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold anything.
    words = text.rpartition(")")[2].split()
    return words[0], int(words[2]), int(words[19])


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return "boot"
