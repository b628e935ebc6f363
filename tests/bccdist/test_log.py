"""What is told goes to standard error with time and level, once it is set up, and not by an import."""

import re
import subprocess
import sys

import pytest

TELL = "from bccdist.log import LOG, set_up_logging\n{}\nLOG.info('slide 1 of 2')\nLOG.error('no tissue')"


@pytest.mark.parametrize(
    ("set_up", "told"),
    [
        ("", "no tissue\n"),
        ("set_up_logging()", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO slide 1 of 2\n.* ERROR no tissue\n"),
        ("set_up_logging(); set_up_logging()", r".* INFO slide 1 of 2\n.* ERROR no tissue\n"),
    ],
    ids=["imported", "set up", "set up twice"],
)
def test_lines_have_time_and_level_once_it_is_set_up(set_up: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TELL.format(set_up)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""
    assert re.fullmatch(told, done.stderr)
