"""A study under review, servers and a browser, for the tests of the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, running_browser
from picture_study import write_picture_study
from review_browser import Server, Start


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom slides with heatmaps; the file of test-2 is damaged."""
    written = write_picture_study(tmp_path_factory.mktemp("review"))
    slide = written.manifest.slide("test-2").path
    slide.write_bytes(b"this is no slide" * (slide.stat().st_size // 16))
    return written.root


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(window: Browser, start: Start) -> Iterator[Browser]:
    """The window on an empty page, which must not have complained of anything by the end."""
    # It depends on `start`, so that the servers stop after it: what is asked for until then is answered.
    del start
    window.faults()
    yield window
    assert window.faults() == []
    window.open("about:blank")


@pytest.fixture
def start(study: Path) -> Iterator[Start]:
    """Starts servers; they end with the test."""
    servers: list[Server] = []

    def starting(reviewer: str, *more: str, study: Path = study, port: int = 0) -> Server:
        servers.append(Server(study, reviewer, port, *more))
        return servers[-1]

    yield starting
    for server in servers:
        server.stop()
