"""One launch at a time holds a study, and says who it is; one that was killed holds nothing."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pytest

from bccdist.errors import ConfigurationError
from jobs.slurm.study_lock import is_held, launch_lock

HOLD = """
import os
import sys
from pathlib import Path
from bccdist.errors import ConfigurationError
from jobs.slurm.study_lock import launch_lock
if len(sys.argv) > 2:
    os.seteuid(int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
try:
    with launch_lock(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
except (ConfigurationError, OSError) as error:
    print(f"refused {error}", flush=True)
"""


class Launch:
    """A process that tries to get the lock when it is told to."""

    def __init__(self, path: Path, *user: str) -> None:
        """Ready to try."""
        pipe: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), *user], **pipe)
        assert self.said() == "ready"

    def said(self) -> str:
        return str(self.process.stdout.readline().strip())

    def go(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def launches(path: Path, num: int) -> Iterator[list[Launch]]:
    started = [Launch(path) for _ in range(num)]
    try:
        yield started
    finally:
        for each in started:
            each.end()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "launch.lock"


def note(path: Path) -> Path:
    return path.with_suffix(".json")


def holder_at(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(note(path).read_text())
    return found


def left_by(path: Path, **facts: Any) -> None:
    """What a launch that was killed leaves, but for some facts."""
    with launch_lock(path):
        there = holder_at(path)
    note(path).write_text(json.dumps(there | facts))


def test_the_lock_says_who_holds_it_as_long_as_it_is_held(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not is_held(path)
    with launch_lock(path):
        there = holder_at(path)
        assert (there["host"], there["pid"], there["command"]) == (socket.gethostname(), os.getpid(), sys.argv)
        assert set(there) == {"host", "pid", "user", "command", "since"}
        assert is_held(path)
    assert not note(path).exists()
    assert not is_held(path)
    assert caplog.messages == []


def test_an_error_gives_the_lock_back(path: Path) -> None:
    with pytest.raises(RuntimeError, match="sbatch"), launch_lock(path):
        raise RuntimeError("sbatch")
    with launch_lock(path):
        assert is_held(path)


def test_another_launch_at_work_is_named(path: Path) -> None:
    with launches(path, 1) as [first]:
        first.go()
        assert first.said() == "held"
        expected = (
            rf"another launch of this study is at work \(pid {first.process.pid} of \S+ on {socket.gethostname()}, "
            r"since 2.*: -c .*launch.lock\); wait for it, or stop it"
        )
        with pytest.raises(ConfigurationError, match=expected), launch_lock(path):
            pytest.fail("both held it")
        assert is_held(path)


def test_a_launch_that_was_killed_holds_nothing_and_is_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with launches(path, 1) as [first]:
        first.go()
        assert first.said() == "held"
    assert note(path).exists()
    assert not is_held(path)
    with launch_lock(path):
        assert holder_at(path)["pid"] == os.getpid()
        assert f"killed before its end (pid {first.process.pid} of" in caplog.text


def test_what_another_machine_left_is_for_the_user_to_judge(path: Path) -> None:
    left_by(path, host="login-2", pid=77)
    assert is_held(path)
    expected = rf"pid 77 .*on login-2.*whether process 77 still runs.*ps -p 77.*remove {path} and {note(path)}$"
    with pytest.raises(ConfigurationError, match=expected), launch_lock(path):
        pytest.fail("taken from another machine")
    assert holder_at(path)["host"] == "login-2"
    path.unlink()
    note(path).unlink()
    with launch_lock(path):
        assert is_held(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pids": 3}'])
def test_a_note_that_says_nothing_is_for_the_user_to_judge(text: str, path: Path) -> None:
    path.parent.mkdir()
    note(path).write_text(text)
    with pytest.raises(ConfigurationError, match=r"launch.json is damaged .* remove it"), launch_lock(path):
        pytest.fail("taken")
    assert is_held(path)


def test_a_look_at_the_lock_does_not_turn_a_launch_away(path: Path) -> None:
    left_by(path)
    with launches(path, 1) as [launch], filelock.FileLock(path):
        launch.go()
        with pytest.raises(subprocess.TimeoutExpired):
            launch.process.wait(0.3)
        assert not is_held(path.with_name("other.lock"))
    with launch_lock(path):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a launch of another user")
@pytest.mark.parametrize(("mode", "says"), [(None, "held"), (0o644, r"refused .*Permission denied: '.*launch.lock'")])
def test_a_lock_whose_file_another_user_made_can_be_taken(mode: int | None, says: str) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    with launch_lock(folder / "launch.lock"):
        pass
    if mode is not None:
        (folder / "launch.lock").chmod(mode)
    launch = Launch(folder / "launch.lock", "65534")
    try:
        launch.go()
        assert re.match(says, launch.said())
    finally:
        launch.end()
        shutil.rmtree(folder)


def test_of_many_at_the_same_moment_one_gets_it(path: Path) -> None:
    with launches(path, 6) as started:
        for each in started:
            each.go()
        said = [each.said().split()[0] for each in started]
        assert sorted(said) == ["held", *["refused"] * 5]
        assert holder_at(path)["pid"] == started[said.index("held")].process.pid
