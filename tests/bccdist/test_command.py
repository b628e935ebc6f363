"""Every command line ends with an exit code that says how, and without a traceback that helps nobody."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

COMMANDS = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for folder in ("jobs", "analysis", "shards")
    for path in (REPOSITORY / folder).glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
ENDINGS = r"^    (run_command|run_launcher|moved)\("
DOES = """
import time
from bccdist.command import run_command
from bccdist.errors import ManifestError

def main():
    print("begun", flush=True)
    {does}

run_command(main)
"""


def start(does: str) -> subprocess.Popen[str]:
    """A command that says `begun` and then does something."""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", DOES.format(does=does)]
    return subprocess.Popen(command, **pipe)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("does", "code", "says"),
    [
        ("return None", 0, ""),
        ("return 3", 3, ""),
        ("return 'a path'", 0, ""),
        ("raise ManifestError('line 3 has no label')", 1, "error: line 3 has no label\n"),
        ("raise SystemExit('error: wrong word')", 1, "error: wrong word\n"),
        (
            "raise OSError(28, 'No space left on device', 'x')",
            1,
            "error: [Errno 28] No space left on device: 'x'; make room, and the same command goes on from there\n",
        ),
        (
            "__import__('pathlib').Path('/dev/null/study').mkdir()",
            1,
            (
                "error: [Errno 20] Not a directory: '/dev/null/study'; a part of this path is a file; give a folder, "
                "or one that is not there yet\n"
            ),
        ),
        (
            "raise PermissionError(13, 'Permission denied', 'x')",
            1,
            (
                "error: [Errno 13] Permission denied: 'x'; your user must be allowed to read it or, where it is "
                "written, to write to it and its folder\n"
            ),
        ),
    ],
)
def test_the_exit_code_is_what_the_command_returns_or_that_of_its_error(does: str, code: int, says: str) -> None:
    said, error = (command := start(does)).communicate(timeout=60)
    assert (command.returncode, said, error) == (code, "begun\n", says)


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    _, error = (command := start("1 / 0")).communicate(timeout=60)
    assert command.returncode == 1
    assert "Traceback" in error


def test_an_interrupt_is_one_line_and_exit_code_130() -> None:
    command = start("time.sleep(60)")
    assert command.stdout is not None
    assert command.stdout.readline() == "begun\n"
    command.send_signal(signal.SIGINT)
    _, error = command.communicate(timeout=60)
    assert command.returncode == 130
    assert re.fullmatch("interrupted; .*\n", error)


@pytest.mark.parametrize(
    "does",
    ["time.sleep(0.2); print('more')", "time.sleep(0.2); print('more', flush=True)", "print('x\\n' * 1_000_000)"],
    ids=["at the end", "in the middle", "much"],
)
def test_a_reader_that_goes_away_ends_the_command_without_a_word(does: str) -> None:
    command = start(does)
    assert command.stdout is not None
    assert command.stdout.readline() == "begun\n"
    command.stdout.close()
    assert command.stderr is not None
    assert command.stderr.read() == ""
    command.stderr.close()
    assert command.wait(timeout=60) == 141


def test_a_broken_pipe_of_our_own_keeps_its_traceback() -> None:
    _, error = (command := start("raise BrokenPipeError('to a worker')")).communicate(timeout=60)
    assert command.returncode == 1
    assert "BrokenPipeError: to a worker" in error


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_ends_here(path: str) -> None:
    main = (REPOSITORY / path).read_text(encoding="utf-8").partition('if __name__ == "__main__":\n')[2]
    assert re.search(ENDINGS, main, re.MULTILINE)


@pytest.mark.parametrize("words", [["jobs/launch_train.py", "--help"], ["analysis/make.py", "--help"]])
def test_help_that_is_cut_ends_without_a_word(words: list[str], tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with errors.open("w") as file:
        command = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=file, cwd=REPOSITORY)
        assert command.stdout is not None
        command.stdout.close()
        assert command.wait(timeout=60) == 141
    assert errors.read_text() == ""


def other_checkout(folder: Path) -> Path:
    """The commands of this one, and packages that nobody is to import."""
    for command in COMMANDS:
        (folder / command).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / command, folder / command)
    (folder / "bccdist").mkdir()
    (folder / "bccdist" / "__init__.py").write_text("raise SystemExit('imported')\n")
    return folder


@pytest.mark.parametrize("command", ["jobs/launch_train.py", "jobs/status.py", "analysis/make.py"])
def test_a_command_of_one_checkout_does_not_run_the_code_of_another(command: str, tmp_path: Path) -> None:
    folder = other_checkout(tmp_path / "other")
    linked = tmp_path / "link"
    linked.symlink_to(folder)
    for place in (folder, linked):
        words = [sys.executable, place / command, "--help"]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 1
        assert f"is of {folder}, but Python imports bccdist from {REPOSITORY}" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_link_to_this_checkout_is_this_checkout(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(REPOSITORY)
    command = [sys.executable, tmp_path / "link" / "jobs" / "launch_train.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
