"""One launch at a time holds a study; what a dead one left is taken over, by one."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bccdist.errors import ConfigurationError
from jobs.slurm import study_lock as module
from jobs.slurm.study_lock import is_held, launch_lock

HOLD = """
import sys
from pathlib import Path
from bccdist.errors import ConfigurationError
from jobs.slurm.study_lock import launch_lock
print("ready", flush=True)
sys.stdin.readline()
try:
    with launch_lock(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
except ConfigurationError as error:
    print(f"refused {error}", flush=True)
"""


class Launch:
    """A process that tries to get the lock when it is told to."""

    def __init__(self, path: Path) -> None:
        """Ready to try."""
        pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], **pipe)  # type: ignore[call-overload]
        assert self.said() == "ready"

    def said(self) -> str:
        while (line := self.process.stdout.readline().strip()).startswith("the launch of"):
            pass
        return str(line)

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


def holder_in(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def left_by(path: Path, **facts: Any) -> None:
    """A lock as this process would hold it, but for some facts."""
    with launch_lock(path):
        there = holder_in(path)
    path.write_text(json.dumps(there | facts))


def dead_pid() -> int:
    """Of a process that has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def test_the_lock_says_who_holds_it_and_goes_with_them(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_held(path)
    with launch_lock(path):
        there = holder_in(path)
        assert (there["host"], there["pid"], there["command"]) == (socket.gethostname(), os.getpid(), sys.argv)
        assert is_held(path)
    assert list(path.parent.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_an_error_gives_the_lock_back(path: Path) -> None:
    with pytest.raises(RuntimeError, match="sbatch"), launch_lock(path):
        raise RuntimeError("sbatch")
    assert not path.exists()


def test_another_launch_at_work_is_named(path: Path) -> None:
    with launch_lock(path):
        expected = rf"another launch of this study is at work \(pid {os.getpid()} on .*, since 2.*\); wait for it"
        with pytest.raises(ConfigurationError, match=expected), launch_lock(path):
            pytest.fail("both held it")
        assert path.exists()


def test_what_a_killed_launch_left_is_taken_over_with_a_word(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with launches(path, 1) as [first]:
        first.go()
        assert first.said() == "held"
        assert is_held(path)
    assert path.exists()
    assert not is_held(path)
    with launch_lock(path):
        assert holder_in(path)["pid"] == os.getpid()
        said = capsys.readouterr().out
        assert f"(pid {first.process.pid} on {socket.gethostname()}) ended without giving back" in said
    assert list(path.parent.iterdir()) == []


def test_a_number_that_another_process_has_by_now_does_not_keep_the_lock(path: Path) -> None:
    left_by(path, process_start=1)
    assert not is_held(path)
    with launch_lock(path):
        assert holder_in(path)["process_start"] > 1


def test_a_process_that_nobody_waited_for_has_ended(path: Path) -> None:
    ended = subprocess.Popen(["true"], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    ended.stdout.read()
    ended.stdout.close()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    left_by(path, pid=ended.pid, process_start=None)
    assert not is_held(path)
    ended.wait()


def test_a_process_of_another_user_is_alive_even_where_the_system_hides_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    left_by(path, pid=dead_pid())
    with pytest.raises(ConfigurationError, match="is at work"), launch_lock(path):
        pytest.fail("taken from another user")


def test_a_lock_of_another_machine_is_for_the_user_to_judge(path: Path) -> None:
    left_by(path, host="login-2", pid=77)
    assert is_held(path)
    expected = rf"pid 77 on login-2.*whether process 77 still runs.*ps -p 77.*remove {path}$"
    with pytest.raises(ConfigurationError, match=expected), launch_lock(path):
        pytest.fail("taken from another machine")
    assert holder_in(path)["host"] == "login-2"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 3}'])
def test_a_file_that_says_nothing_is_for_the_user_to_judge(
    text: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    path.parent.mkdir()
    path.write_text(text)
    expected = r"does not say which launch made it .* remove the file"
    with pytest.raises(ConfigurationError, match=expected), launch_lock(path):
        pytest.fail("taken")
    assert is_held(path)
    assert path.read_text() == text


def test_a_file_that_is_being_filled_is_waited_for(path: Path) -> None:
    with launch_lock(path):
        whole = path.read_text()
        path.write_text("")
        timer = threading.Timer(0.1, path.write_text, [whole])
        timer.start()
        with pytest.raises(ConfigurationError, match="is at work"), launch_lock(path):
            pytest.fail("both held it")
        timer.join()


def test_a_takeover_that_was_broken_off_is_for_the_user_to_judge(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    left_by(path, pid=dead_pid())
    there = module._read(path)
    assert there is not None
    claim = module._claim(path, there)
    claim.touch()
    with pytest.raises(ConfigurationError, match=rf"remove {path} and {claim}"), launch_lock(path):
        pytest.fail("taken")


def test_who_comes_second_to_a_stale_lock_does_not_replace_the_first(path: Path) -> None:
    left_by(path, pid=dead_pid())
    stale = module._read(path)
    assert stale is not None
    with launch_lock(path):
        first = path.read_text()
        assert not module._take_over(path, stale, module._this_process())
        assert path.read_text() == first
        assert list(path.parent.iterdir()) == [path]


def test_a_lock_that_was_replaced_by_hand_is_not_removed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with launch_lock(path):
        path.unlink()
        left_by(path, host="login-2")
    assert holder_in(path)["host"] == "login-2"
    assert "was removed or replaced while this launch was at work" in capsys.readouterr().out


@pytest.mark.parametrize("is_stale", [False, True], ids=["free", "stale"])
def test_of_many_at_the_same_moment_one_gets_it(is_stale: bool, path: Path) -> None:
    with launches(path, 6) as started:
        if is_stale:
            left_by(path, pid=dead_pid())
        for each in started:
            each.go()
        said = [each.said().split()[0] for each in started]
        assert sorted(said) == ["held", *["refused"] * 5]
        assert holder_in(path)["pid"] == started[said.index("held")].process.pid
        assert list(path.parent.iterdir()) == [path]
