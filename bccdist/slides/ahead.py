"""Iterating with one item made ahead, so that reading a slide overlaps with what is done with it."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def one_ahead(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """The items of a generator; a thread makes the next one while the caller works on the one before.

    Close it where it may be left early: then the thread is through, and the generator closed, when it is closed.
    """
    with closing(items), ThreadPoolExecutor(max_workers=1, thread_name_prefix="one-ahead") as thread:
        coming = thread.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, items, _END)
            yield item  # type: ignore[misc]
