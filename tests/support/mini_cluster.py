"""The cluster of slurm/mini-cluster.sh, for tests: a real Slurm with two nodes on this machine."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "slurm" / "mini-cluster.sh"
_DAEMONS = 5
"""Ports that are used."""


def reason_against() -> str | None:
    """Why there can be no Slurm here, if so."""
    if all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("slurmctld", "mariadbd", "munged")):
        return None
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return "needs Slurm, or root on Debian to install it (slurm/mini-cluster.sh install)"
    return None


@dataclass
class MiniCluster:
    """Starts and stops it, breaks it, and asks it."""

    folder: Path
    port: int
    start_s: float = float("inf")
    """How long its start took."""

    @classmethod
    def prepared(cls) -> "MiniCluster":
        """Installed, in a new folder; not started."""
        subprocess.run([SCRIPT, "install"], check=True)
        return cls(Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")), _free_ports(_DAEMONS))

    def start(self) -> None:
        """Start all of it for the first time."""
        begin_s = time.monotonic()
        self.script("start")
        self.start_s = time.monotonic() - begin_s

    @property
    def variables(self) -> dict[str, str]:
        """With them the script and Slurm's commands mean this cluster."""
        return {
            "MINI_CLUSTER_FOLDER": str(self.folder),
            "MINI_CLUSTER_PORT": str(self.port),
            "MINI_CLUSTER_GRACE_S": "8",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }

    def script(self, *words: str) -> None:
        """Run the script."""
        done = subprocess.run(
            [SCRIPT, *words], env=os.environ | self.variables, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr

    def ask(self, *words: str) -> str:
        """What a command of Slurm says."""
        done = subprocess.run(
            words, env=os.environ | self.variables, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def launch(self, script: str, *words: str | Path, code: int = 0) -> str:
        """Call a launcher as a user would; what it says."""
        command = [sys.executable, str(REPOSITORY / script), *map(str, words)]
        done = subprocess.run(
            command, env=os.environ | self.variables, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def states(self, job_id: str) -> list[str]:
        """Of the elements of a job that are queued or running."""
        return [line.split()[0] for line in self._queue() if line.split()[1] == job_id]

    def _queue(self) -> list[str]:
        return self.ask("squeue", "--noheader", "--array", "--format=%T %F").splitlines()

    def restarts(self, job_id: str) -> int:
        """How often a queued job has been queued again."""
        shown = self.ask("scontrol", "show", "job", job_id)
        return int(shown.split("Restarts=")[1].split()[0])

    def outcomes(self, job_id: str) -> list[str]:
        """What the accounting says of a job's elements."""
        words = ["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={job_id}", "--format=State"]
        return [line.split()[0] for line in self.ask(*words).splitlines()]

    def wait_until_gone(self, *job_ids: str, within_s: float = 120) -> None:
        """Wait until jobs have left the queue."""
        wait_for(lambda: not any(self.states(job_id) for job_id in job_ids), within_s=within_s, what=str(job_ids))

    def wait_for_outcome(self, job_id: str, *expected: str, within_s: float = 120) -> None:
        """Wait until a job has left the queue, and the accounting says what became of its elements."""
        self.wait_until_gone(job_id, within_s=within_s)
        what = f"{job_id} {expected}"
        wait_for(lambda: sorted(self.outcomes(job_id)) == sorted(expected), within_s=20, what=what)

    @contextmanager
    def configured(self, before: str, after: str) -> Iterator[None]:
        """A line of slurm.conf changed for a while."""
        path = self.folder / "slurm.conf"
        text = path.read_text()
        assert before in text
        try:
            path.write_text(text.replace(before, after))
            self.ask("scontrol", "reconfigure")
            yield
        finally:
            path.write_text(text)
            self.ask("scontrol", "reconfigure")

    def cancel_all(self) -> None:
        """Leave an empty queue, and all daemons alive, whatever a test has done to them."""
        self.script("start")
        if self._queue():
            self.ask("scancel", f"--user={os.environ.get('USER', 'root')}")
            wait_for(lambda: not self._queue(), within_s=30, what="an empty queue")


def wait_for(condition: Callable[[], object], *, within_s: float, what: str) -> None:
    """Wait until something holds."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.1)


def job_ids(said: str) -> dict[str, str]:
    """The jobs in a launcher's table, by stage."""
    rows = [line.split() for line in said.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) > 2 and row[1].isdecimal()}


def _free_ports(num: int) -> int:
    """The first of some neighbouring ports that nobody listens at."""
    for first in range(17900, 18900, 10):
        if all(_is_free(port) for port in range(first, first + num + 1)):
            return first
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
