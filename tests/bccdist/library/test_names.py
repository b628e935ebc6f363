"""`import bccdist` offers the library and loads nothing of it."""

import subprocess
import sys

import pytest

import bccdist

MOST_START_S = 0.3
LOADED = """
import sys, time
started_s = time.process_time()
import bccdist
took_s = time.process_time() - started_s
others = {name.split(".")[0] for name in sys.modules} & {"torch", "numpy", "pandas", "zarr", "pyarrow", "cv2"}
print(took_s, sorted(others))
"""


def test_importing_takes_no_time_and_brings_nothing_along() -> None:
    said = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout.split(
        " ", 1
    )
    assert float(said[0]) < MOST_START_S
    assert said[1] == "[]\n"


@pytest.mark.parametrize("name", bccdist.__all__)
def test_every_name_that_is_offered_is_there(name: str) -> None:
    assert getattr(bccdist, name) is not None
    assert name in dir(bccdist)


def test_a_name_that_is_not_offered_is_no_attribute() -> None:
    assert not hasattr(bccdist, "open_sesame")
