"""Damage as disks, copies and people do it to files, drawn from a seed."""

import random
from collections.abc import Callable, Iterator
from operator import eq
from pathlib import Path
from typing import Any

import pytest

from bccdist.errors import BccdistError

_BLOCK_BYTES = 512


def damages(data: bytes, *, seed: int, num: int) -> Iterator[bytes]:
    """Damaged copies, in turn: a flipped bit, another byte, a block of zeros, an end that is missing, mixed-up blocks.

    The first few hit the file's begin and end, where headers and directories are.
    """
    draw = random.Random(seed)
    edges = [0, 7, 8, 40, len(data) - 1, len(data) - 9, len(data) - 30]
    for number in range(num):
        place = edges[number] if number < len(edges) else draw.randrange(len(data))
        damaged = _damaged(data, max(0, min(place, len(data) - 1)), draw, number % 5 if number >= len(edges) else 0)
        if damaged != data:
            yield damaged


def _damaged(data: bytes, place: int, draw: random.Random, kind: int) -> bytes:
    if kind == 0:
        return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
    if kind == 1:
        return data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :]
    end = min(len(data), place + _BLOCK_BYTES)
    if kind == 2:
        return data[:place] + bytes(end - place) + data[end:]
    if kind == 3:
        return data[:place]
    other = draw.randrange(max(1, len(data) - _BLOCK_BYTES))
    block = data[other : other + end - place]
    return data[:place] + block + data[place + len(block) :]


def assert_never_used(
    path: Path, read: Callable[[], Any], *, seed: int, num: int = 60, same: Callable[[Any, Any], bool] | None = None
) -> int:
    """Damage a file in many ways: reading it gives what it gave before, or an error that names the file.

    Args:
        path: of the file, which is whole again in the end.
        read: reads all of it.
        seed: of the damage.
        num: how often.
        same: whether two contents are equal; None is `==`.

    Returns:
        How often the damage was an error.
    """
    data, before, refused = path.read_bytes(), read(), 0
    for number, damaged in enumerate(damages(data, seed=seed, num=num)):
        path.write_bytes(damaged)
        fault = _fault_of(path, read, before, same or eq)
        refused += fault is None
        if fault:
            pytest.fail(f"damage {number} of {path.name}: {fault}")
    path.write_bytes(data)
    return refused


def _fault_of(path: Path, read: Callable[[], Any], before: Any, same: Callable[[Any, Any], bool]) -> str | None:
    """What is wrong with how a damaged file was read; empty where it gives the same as before, None for an error."""
    try:
        now = read()
    except BccdistError as error:
        return None if path.stem in str(error) else f"the message does not name it: {error}"
    except Exception as error:  # noqa: BLE001 - the wrong kind of error is what is looked for
        return f"{type(error).__name__}: {error}"
    return "" if same(before, now) else "it was used, and says something else"
