"""Freed memory is kept or given back where the C library can."""

import subprocess
import sys

import pytest

from bccdist import freed_memory
from bccdist.freed_memory import give_back_freed_memory, keep_freed_memory

_HOLDS = """
import threading, sys
from bccdist.freed_memory import give_back_freed_memory
if sys.argv[1] == "back":
    assert give_back_freed_memory()
size = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
before, barrier = size(), threading.Barrier(8)
def work():
    blocks = [bytearray(100_000) for _ in range(200)]
    for block in blocks:
        block[::4096] = bytes(len(block[::4096]))
    barrier.wait()
for thread in (threads := [threading.Thread(target=work) for _ in range(8)]):
    thread.start()
for thread in threads:
    thread.join()
print(size() - before)
"""


@pytest.mark.parametrize("change", [keep_freed_memory, give_back_freed_memory])
def test_another_c_library_is_left_as_it_is(change: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _: object())
    assert callable(change)
    assert not change()


def test_what_threads_free_goes_back() -> None:
    held_mib = {}
    for way in ("back", "as it is"):
        done = subprocess.run([sys.executable, "-c", _HOLDS, way], capture_output=True, text=True, check=True)
        held_mib[way] = float(done.stdout)
    assert held_mib["back"] < held_mib["as it is"] / 2
