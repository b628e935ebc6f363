"""Which start of a job may write into a run's folder: the newest one.

A node that the scheduler has given up may still run: its job is queued again, and the old processes would write
beside the new ones. So each start leaves its name in the folder, and looks before it writes whether it still stands
there.
"""

import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bccdist.errors import DistributedError
from bccdist.files import read_json, write_json
from bccdist.ranks import Ranks
from bccdist.training.distributed import from_all_ranks


@dataclass(frozen=True, kw_only=True)
class Holder:
    """One start of one job, as its first rank."""

    job_key: str
    host: str
    pid: int
    since: str
    """Time of the start in UTC, to the microsecond, so that no two starts of a process are the same."""


def claim(path: Path, ranks: Ranks) -> Holder | None:
    """Make this start the holder, whoever was it before; the first rank writes, the others hold nothing."""
    if not ranks.is_first:
        return None
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    holder = Holder(job_key=ranks.job_key, host=socket.gethostname(), pid=os.getpid(), since=now)
    write_json(path, asdict(holder))
    return holder


def refuse_lost(path: Path, holder: Holder | None) -> None:
    """Stop all ranks if a newer start holds the folder; the first rank looks, and all of them must come here.

    Args:
        path: the file that names the folder's holder.
        holder: what `claim` gave this rank.

    Raises:
        DistributedError: on every rank, so that none waits for one that has gone.
    """
    reasons = [reason for reason in from_all_ranks(_reason_to_stop(path, holder)) if reason]
    if reasons:
        raise DistributedError(reasons[0])


def _reason_to_stop(path: Path, holder: Holder | None) -> str | None:
    """None while the folder is held by this start, and where the first rank alone knows."""
    if holder is None:
        return None
    there = _read(path)
    if there is None or there == holder:
        return None
    return (
        f"{path.parent}: held by another start, job {there.job_key} (process {there.pid} on {there.host}), since "
        f"{there.since}; this start, job {holder.job_key} (process {holder.pid} on {holder.host}), which began "
        f"{holder.since}, ends, and nothing of it is lost up to the last save. If both were started by hand, leave "
        "the newer one to go on"
    )


def _read(path: Path) -> Holder | None:
    """None where nobody stands there, as when the file was removed by hand."""
    try:
        return Holder(**read_json(path))
    except FileNotFoundError:
        return None
