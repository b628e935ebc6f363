"""What a process does with memory that it has freed, where the C library is glibc."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
"""Parameters of glibc's mallopt."""
_SMALL_BYTES = 1 << 16


def keep_freed_memory() -> bool:
    """Let this process keep what it frees for its next step; returns whether it does.

    Feature maps of a step are hundreds of MiB. glibc gives each back to the system and asks for it again in the next
    step, and the system fills every page with zeros first. Results stay the same to the bit.
    """
    return _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1})


def give_back_freed_memory() -> bool:
    """Let this process give back what it frees, before it starts threads; returns whether it does.

    A server's threads each free tiles of their own; glibc would keep for each thread what it once needed.
    """
    return _set({_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: _SMALL_BYTES, _M_TRIM_THRESHOLD: _SMALL_BYTES})


def _set(values: dict[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(bool(mallopt(parameter, value)) for parameter, value in values.items())
