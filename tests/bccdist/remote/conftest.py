"""A server and a slide that the tests of remote files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from range_server import QUICK, RangeServer, serving
from remote_slides import tissue_picture, write_pyramid

from bccdist.remote import part_of_file


@pytest.fixture(scope="session")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 20x pyramid of some megabytes."""
    return write_pyramid(tmp_path_factory.mktemp("slides") / "slide.svs", tissue_picture(4096, 3072))


@pytest.fixture
def server(slide_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """A server of the slide's folder; requests are given up after a second."""
    monkeypatch.setattr(part_of_file.PartOfFile.__init__, "__kwdefaults__", {"patience": QUICK})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(slide_path.parent) as state:
        yield state
