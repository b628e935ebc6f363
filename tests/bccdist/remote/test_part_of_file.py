"""Bytes of a remote file come as they are there, or not at all: every fault ends in an error, never in a mixture."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from range_server import QUICK, RangeServer, Request, serving

from bccdist.addresses import parse_address
from bccdist.errors import RemoteError
from bccdist.remote import part_of_file
from bccdist.remote.files import fingerprint_of, read_bytes
from bccdist.remote.part_of_file import PartOfFile

FAR = 1 << 20
"""A byte that is not fetched when a file is opened."""


def opened(server: RangeServer, name: str = "slide.svs", *, total_s: float = QUICK.total_s) -> PartOfFile:
    return PartOfFile(parse_address(f"{server.url}/{name}"), patience=replace(QUICK, total_s=total_s))


def failing(fault: Callable[[Request], bool], *, times: int) -> Callable[[Request], bool]:
    """A fault of the first so many requests."""
    left = [times]

    def once(request: Request) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        return fault(request)

    return once


def answers(status: int) -> Callable[[Request], bool]:
    def fault(request: Request) -> bool:
        request.answer(status, b"no")
        return True

    return fault


def cut_off(request: Request) -> bool:
    start, end = (int(each) for each in request.headers["Range"].removeprefix("bytes=").split("-"))
    path = request.state.folder / urlsplit(request.path).path.lstrip("/")
    request.send_file(path, start, end + 1, status=206, stop_after=(end + 1 - start) // 2)
    return True


def short(request: Request) -> bool:
    """An answer of fewer bytes than asked for, which says so."""
    start, end = (int(each) for each in request.headers["Range"].removeprefix("bytes=").split("-"))
    path = request.state.folder / urlsplit(request.path).path.lstrip("/")
    request.send_file(path, start, end - 5, status=206)
    return True


def shifted(request: Request) -> bool:
    """An answer with other bytes than those that were asked for."""
    start, end = (int(each) for each in request.headers["Range"].removeprefix("bytes=").split("-"))
    path = request.state.folder / urlsplit(request.path).path.lstrip("/")
    request.send_file(path, start + 3, end + 4, status=206)
    return True


def stalls(request: Request) -> bool:
    time.sleep(2 * QUICK.stall_s)
    return False


def hangs_up(request: Request) -> bool:
    request.close_connection = True
    request.connection.close()
    return True


PASSING = {
    "500": answers(500),
    "503": answers(503),
    "429": answers(429),
    "cut off in the middle": cut_off,
    "short": short,
    "shifted": shifted,
    "stalled": stalls,
    "hung up": hangs_up,
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_costs_time_alone(server: RangeServer, slide_path: Path, name: str) -> None:
    part = opened(server, total_s=30)  # as on a busy machine a good answer may stall, too
    server.fault = failing(PASSING[name], times=2)
    assert part.read(FAR, FAR + 5000) == slide_path.read_bytes()[FAR : FAR + 5000]
    part.close()


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_stays_is_an_error_within_the_time_that_is_stated(server: RangeServer, name: str) -> None:
    part = opened(server)
    server.fault = PASSING[name]
    started_s = time.monotonic()
    with pytest.raises(RemoteError, match=r"asked again and again for 0.8 s"):
        part.read(FAR, FAR + 5000)
    assert time.monotonic() - started_s < QUICK.total_s + 3 * QUICK.stall_s
    part.close()


@pytest.mark.parametrize(
    ("status", "says"),
    [(404, "not there"), (410, "not there"), (403, "no right"), (401, "no right"), (416, "ends before"), (400, "400")],
)
def test_what_does_not_pass_is_told_at_once(server: RangeServer, status: int, says: str) -> None:
    part = opened(server)
    server.reset()
    server.fault = answers(status)
    with pytest.raises(RemoteError, match=says):
        part.read(FAR, FAR + 5000)
    assert server.num_requests == 1
    part.close()


def test_a_link_that_expires_meanwhile_says_so(server: RangeServer) -> None:
    part = PartOfFile(parse_address(f"{server.url}/slide.svs?expires=1&sig=Hidden1"))
    server.fault = answers(403)
    with pytest.raises(RemoteError, match="a link may have expired") as caught:
        part.read(FAR, FAR + 5000)
    assert "Hidden1" not in str(caught.value)
    part.close()


def test_a_file_that_changes_is_never_mixed(server: RangeServer) -> None:
    part = opened(server)
    part.read(FAR, FAR + 5000)
    server.etags["/slide.svs"] = '"another"'
    with pytest.raises(RemoteError, match="another one than when it was opened: its ETag"):
        part.read(FAR // 2, FAR // 2 + 5000)
    part.close()


def test_a_file_that_grows_or_shrinks_is_never_mixed(tmp_path: Path, server: RangeServer) -> None:
    path = server.folder / "changing.bin"
    for size in (3 * FAR, FAR + FAR // 2):
        path.write_bytes(os.urandom(2 * FAR))
        server.etags["/changing.bin"] = '"one for all"'
        part = opened(server, path.name)
        path.write_bytes(os.urandom(size))
        with pytest.raises(RemoteError, match=f"it has {size} bytes, and had {2 * FAR}"):
            part.read(FAR, FAR + 5000)
        part.close()
    path.unlink()


def test_a_server_without_ranges_sends_all_once_and_is_named(
    server: RangeServer, slide_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.has_ranges = False
    part = opened(server)
    server.reset()
    assert part.is_whole
    assert part.read(FAR, FAR + 5000) == slide_path.read_bytes()[FAR : FAR + 5000]
    assert server.num_requests == 0
    assert "gives whole files only" in caplog.text
    part.close()


def test_ranges_that_end_meanwhile_are_an_error(server: RangeServer) -> None:
    part = opened(server)
    server.has_ranges = False
    with pytest.raises(RemoteError, match="gave ranges before, and gives none now"):
        part.read(FAR, FAR + 5000)
    part.close()


def test_a_whole_file_that_breaks_off_begins_again(server: RangeServer, slide_path: Path) -> None:
    server.has_ranges = False

    def half(request: Request) -> bool:
        size = slide_path.stat().st_size
        request.send_file(slide_path, 0, size, status=200, stop_after=size // 2)
        return True

    server.fault = failing(half, times=3)
    part = opened(server)
    assert part.read(0, part.size_bytes) == slide_path.read_bytes()
    part.close()


def test_a_redirect_to_another_host_is_refused_by_name(server: RangeServer) -> None:
    def lead_on(request: Request) -> bool:
        request.answer(302, b"", {"Location": "https://elsewhere.example/slide.svs?sig=Hidden1"})
        return True

    server.fault = lead_on
    with pytest.raises(RemoteError, match=r"another host, https://elsewhere.example, which was not named") as caught:
        opened(server)
    assert "Hidden1" not in str(caught.value)


def test_a_redirect_on_the_same_host_is_followed(server: RangeServer, slide_path: Path) -> None:
    def lead_on(request: Request) -> bool:
        if not request.path.startswith("/old"):
            return False
        request.answer(301, b"", {"Location": "/slide.svs"})
        return True

    server.fault = lead_on
    part = opened(server, "old/name.svs")
    assert part.read(FAR, FAR + 10) == slide_path.read_bytes()[FAR : FAR + 10]
    part.close()


def test_redirects_in_a_circle_end(server: RangeServer) -> None:
    def lead_on(request: Request) -> bool:
        request.answer(302, b"", {"Location": "/slide.svs"})
        return True

    server.fault = lead_on
    with pytest.raises(RemoteError, match="leads on more than 5 times"):
        opened(server)


def test_a_server_that_is_gone_for_a_while_is_waited_for(slide_path: Path, server: RangeServer) -> None:
    part = opened(server, total_s=30)
    port = int(server.url.rpartition(":")[2])
    is_gone = threading.Event()

    def drop(request: Request) -> bool:
        return hangs_up(request) if not is_gone.is_set() else False

    server.fault = drop
    threading.Timer(0.4, is_gone.set).start()
    assert port
    assert part.read(FAR, FAR + 10) == slide_path.read_bytes()[FAR : FAR + 10]
    part.close()


def test_a_host_that_no_name_server_knows_is_asked_for_again_and_then_told(server: RangeServer) -> None:
    with pytest.raises(RemoteError, match=r"http://no-such-host.invalid/a.svs: .*asked again and again"):
        PartOfFile(parse_address("http://no-such-host.invalid/a.svs"))


def test_an_empty_file_is_told(server: RangeServer) -> None:
    (server.folder / "empty.svs").touch()
    with pytest.raises(RemoteError, match="empty"):
        opened(server, "empty.svs")
    (server.folder / "empty.svs").unlink()


def test_what_lies_near_is_one_request_and_nothing_is_asked_for_twice(server: RangeServer) -> None:
    part = opened(server)
    server.reset()
    part.need([(FAR, FAR + 1000), (FAR + 1000, FAR + 2000), (FAR + 3000, FAR + 4000)])
    part.need([(FAR + 100, FAR + 3900)])
    assert server.num_requests == 1
    assert server.num_bytes == 4000
    part.close()


def test_many_threads_that_need_the_same_ask_once(server: RangeServer, slide_path: Path) -> None:
    part, found = opened(server), []
    server.reset()
    server.latency_s = 0.05
    threads = [
        threading.Thread(target=lambda: found.append(part.read(FAR, FAR + 5000)), daemon=True) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {slide_path.read_bytes()[FAR : FAR + 5000]}
    assert server.num_requests == 1
    part.close()


def test_what_is_expected_comes_before_it_is_needed(server: RangeServer) -> None:
    part = opened(server)
    part.expect([(FAR + 100_000 * each, FAR + 100_000 * each + 1000) for each in range(5)])
    deadline_s = time.monotonic() + 5
    while server.num_requests < 6 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.05)
    server.reset()
    part.need([(FAR + 400_000, FAR + 401_000)])
    assert server.num_requests == 0
    part.close()


def test_nothing_stays_on_the_disk(server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_of_file.tempfile, "tempdir", str(tmp_path))
    part = opened(server)
    part.read(FAR, FAR + 5000)
    assert list(tmp_path.iterdir()) == []
    part.close()


def test_a_copy_that_finds_no_room_is_refused_with_figures(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = opened(server)
    free = part_of_file.shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(part_of_file.shutil, "disk_usage", lambda _: free)
    with pytest.raises(RemoteError, match=r"has 0\.0 MB free.*TMPDIR"):
        part.need_all("it is a test")
    part.close()


def test_a_fingerprint_is_of_the_content_wherever_it_lies(server: RangeServer, slide_path: Path) -> None:
    address = parse_address(f"{server.url}/slide.svs")
    assert fingerprint_of(address) == fingerprint_of(slide_path)
    assert read_bytes(address) == slide_path.read_bytes()


def test_a_password_is_sent_and_never_told(slide_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(slide_path.parent) as server:
        part = PartOfFile(parse_address(server.url.replace("//", "//reader:Hidden1@") + "/slide.svs"), patience=QUICK)
        assert all(each.get("Authorization", "").startswith("Basic ") for each in server.headers)
        server.fault = answers(503)
        with pytest.raises(RemoteError) as caught:
            part.read(FAR, FAR + 10)
        part.close()
    assert "Hidden1" not in str(caught.value) + caplog.text
