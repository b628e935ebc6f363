"""The server as a process: where it listens, who is refused, what a kill leaves, and fifty clients at once."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from places import REPOSITORY
from review_study import SETTING, copied_study, given, listening, say
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from analysis.review.answers import read_journals
from analysis.review.connections import LONGEST_HEAD_S, MOST_WAITING
from analysis.review.gate import Keys
from analysis.review.serving import access_of, address_of, listen, proxied_at
from bccdist.errors import ConfigurationError
from bccdist.paths import StudyPaths

REVIEW = str(REPOSITORY / "jobs" / "review.py")
NUM_CLIENTS, TILES_EACH = 50, 12
HOST = b"Host: 127.0.0.1\r\n"


@dataclass(frozen=True)
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    """With the token, where there is one."""

    @property
    def base(self) -> str:
        return self.url.split("?")[0].rstrip("/")

    @property
    def num_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @property
    def memory_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def command(paths: StudyPaths, *words: str) -> list[str]:
    flags = ["--setting", SETTING, "--parts", "val1", "test", "--port", "0", *words]
    return [sys.executable, REVIEW, str(paths.root), *flags]


@contextmanager
def running(paths: StudyPaths, *words: str, reviewer: str = "anna") -> Iterator[Running]:
    process = subprocess.Popen(
        command(paths, "--reviewer", reviewer, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if found := re.search(r"open (http://\S+)", line):
                break
        else:
            pytest.fail(said)
        yield Running(process, found[1])
    finally:
        process.kill()
        process.wait(timeout=20)
        process.stdout and process.stdout.close()


def refused(paths: StudyPaths, *words: str) -> str:
    """What a server says that does not start."""
    done = subprocess.run(command(paths, *words), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return copied_study(tmp_path)


def test_a_name_that_differs_by_case_or_dots_is_asked_about(paths: StudyPaths) -> None:
    say(paths, "Dr. A", given())
    asked = refused(paths, "--reviewer", "dr A")
    assert "there is 'Dr. A'" in asked
    assert "--new-reviewer" in asked
    with running(paths, "--new-reviewer", reviewer="dr A"):
        pass


def test_the_printed_address_opens_the_page_and_no_other_does(paths: StudyPaths) -> None:
    with running(paths) as server, httpx.Client() as client:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", server.url)
        assert client.get(f"{server.base}/api/study").status_code == 403
        assert client.get(server.url).status_code == 303
        assert client.get(f"{server.base}/api/study").json()["reviewer"] == "anna"
        host, port = server.base.removeprefix("http://").split(":")
        listening = Path(f"/proc/{server.process.pid}/net/tcp").read_text()
        assert f"0100007F:{int(port):04X} 00000000:0000 0A" in listening, host


def test_no_acknowledged_answer_is_lost_when_the_server_is_killed(paths: StudyPaths) -> None:
    acknowledged = []
    with running(paths, "--no-token") as server, httpx.Client(base_url=server.base) as client:
        for number in range(40):
            content = {"id": "test-0/test-0-left", "answer": "Normal", "comment": str(number), "seconds": 1}
            assert client.post("/api/answers", json=content).status_code == 200
            acknowledged.append(str(number))
        os.kill(server.process.pid, signal.SIGKILL)
    (said,) = read_journals(paths)
    assert [answer.comment for answer in said.answers] == acknowledged
    with running(paths, "--no-token") as server:
        sections = httpx.get(f"{server.base}/api/sections").json()["sections"]
        assert next(each for each in sections if each["id"] == "test-0/test-0-left")["comment"] == "39"


def test_answers_that_are_killed_in_the_middle_leave_a_journal_of_whole_lines(paths: StudyPaths) -> None:
    acknowledged = []
    with running(paths, "--no-token") as server, ThreadPoolExecutor(4) as pool:

        def send(number: int) -> None:
            content = {"id": "test-0/test-0-left", "answer": "Tumor", "comment": str(number) * 500}
            try:
                if httpx.post(f"{server.base}/api/answers", json=content).status_code == 200:
                    acknowledged.append(content["comment"])
            except httpx.TransportError:
                pass  # killed before it could say so

        sent = [pool.submit(send, number) for number in range(100)]
        while len(acknowledged) < 20:
            time.sleep(0.01)
        os.kill(server.process.pid, signal.SIGKILL)
        for each in sent:
            each.result()
    say(paths, "anna", given(comment="after"))
    kept = [answer.comment for answer in read_journals(paths)[0].answers]
    assert set(acknowledged) <= set(kept)
    assert kept[-1] == "after"


def test_a_second_server_of_one_reviewer_is_refused_and_of_another_is_not(paths: StudyPaths) -> None:
    with running(paths), running(paths, reviewer="bert"):
        assert "another server of reviewer 'anna' is at work" in refused(paths, "--reviewer", "anna")


def test_what_was_begun_otherwise_is_refused_and_a_failed_start_claims_nothing(paths: StudyPaths) -> None:
    assert "expected a name" in refused(paths, "--seed", "5")
    assert not paths.review_plan.exists()
    with running(paths, "--blind-share", "0.5"):
        pass
    assert json.loads(paths.review_plan.read_text()) == {"blind_share": 0.5, "order": "slide", "seed": 0}
    assert "blind_share is 0.5, not 0.1" in refused(paths, "--reviewer", "bert", "--blind-share", "0.1")


def test_other_machines_never_come_in_without_a_token(paths: StudyPaths) -> None:
    said = refused(paths, "--reviewer", "anna", "--host", "0.0.0.0", "--no-token")  # noqa: S104 - refused
    assert "--no-token is for 127.0.0.1 alone, not for 0.0.0.0" in said


def test_a_port_that_is_taken_is_named(paths: StudyPaths) -> None:
    with running(paths) as server:
        port = server.base.rsplit(":", 1)[1]
        assert f"port {port}: cannot listen there" in refused(paths, "--reviewer", "bert", "--port", port)
        assert {path.name for path in paths.review.iterdir()} == {"review.json", "journal-anna.jsonl"}


def test_a_start_that_comes_to_nothing_writes_nothing(paths: StudyPaths) -> None:
    assert "cannot listen there" in refused(paths, "--reviewer", "anna", "--host", "192.0.2.1")
    assert "expected two or more names" in refused(paths, "--reviewer", "anna", "--readers", "anna")
    assert not paths.review.exists()


def test_a_part_that_is_none_is_named_with_those_that_are(paths: StudyPaths) -> None:
    assert "unknown part 'val3'; known parts" in refused(paths, "--reviewer", "anna", "--parts", "val3")


def test_a_folder_that_is_no_study_is_an_error(tmp_path: Path) -> None:
    assert "is no study" in refused(StudyPaths(tmp_path), "--reviewer", "anna")


def test_the_export_needs_no_server(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", given())
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, REVIEW, str(paths.root), "--export", str(out)], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith(f"{out}\n")
    assert {file.name for file in out.iterdir()} == {"sections.csv", "conflicts.csv", "answers.csv", "agreement.json"}


def test_an_interrupt_ends_the_server_in_peace(paths: StudyPaths) -> None:
    with running(paths) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=20) == 130
        assert server.process.stdout is not None
        assert "all answers are kept" in server.process.stdout.read()


def test_fifty_clients_exhaust_neither_memory_nor_files(paths: StudyPaths) -> None:
    places = [
        (slide, level, col, row)
        for slide in ("test-0", "test-1", "test-2", "val1-0", "val1-1")
        for level, cols, rows in ((12, 8, 5), (11, 4, 2), (10, 2, 1), (9, 1, 1), (8, 1, 1))
        for col in range(cols)
        for row in range(rows)
    ]

    def client_of(base: str, seed: int) -> list[int]:
        order = np.random.default_rng(seed).permutation(len(places))[:TILES_EACH]
        with httpx.Client(base_url=base, timeout=60) as client:
            asked = [client.get("/tiles/{}/{}/{}_{}.jpeg".format(*places[number])) for number in order]
            asked.append(client.get(f"/api/heatmap/{SETTING}/test-{seed % 2}/psi_{seed % 5}"))
        return [each.status_code for each in asked if "x-tile-error" not in each.headers]

    with running(paths, "--no-token") as server, ThreadPoolExecutor(NUM_CLIENTS) as pool:
        client_of(server.base, 0)
        before_mib, most_files = server.memory_mib, 0
        asked = [pool.submit(client_of, server.base, seed) for seed in range(NUM_CLIENTS)]
        while not all(each.done() for each in asked):
            most_files = max(most_files, server.num_files)
            time.sleep(0.05)
        statuses = [status for each in asked for status in each.result()]
        assert statuses == [200] * (TILES_EACH + 1) * NUM_CLIENTS
        # A connection each, the slides that stay open (two files each), heatmaps, and what Python holds.
        assert most_files < NUM_CLIENTS + 100
        assert server.memory_mib < before_mib + 300
        time.sleep(0.5)
        assert server.num_files < 100


def test_connections_send_what_they_have_at_once() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_names_and_addresses_follow_from_where_it_listens() -> None:
    keys = Keys()
    local = access_of("127.0.0.1", 8765)
    assert address_of("127.0.0.1", local, keys) == f"http://127.0.0.1:8765/?token={keys.token}"
    assert not local.any_address
    everywhere = access_of("0.0.0.0", 1)  # noqa: S104 - not listened on
    assert everywhere.any_address
    assert address_of("::1", access_of("::1", 5), None) == "http://[::1]:5/"


def test_behind_a_proxy_its_address_is_printed_and_its_name_is_known() -> None:
    access = access_of("127.0.0.1", 8765, proxied_at("https://Hub.example:8443/user/anna/review"))
    assert address_of("127.0.0.1", access, None) == "https://Hub.example:8443/user/anna/review/"
    assert access.is_name("hub.example:8443")
    assert access.is_name("127.0.0.1:8765")
    assert [access.within(path) for path in ("/user/anna/review/", "/user/anna/review/api/x", "/api/x", "/")] == [
        "/",
        "/api/x",
        "/api/x",
        "/",
    ]


@pytest.mark.parametrize(
    "address", ["hub.example/review", "ftp://hub/x", "https://", "https://h/x?token=1", "https://[x"]
)
def test_what_is_no_address_of_a_page_is_refused(paths: StudyPaths, address: str) -> None:
    with pytest.raises(ConfigurationError, match="--address is"):
        proxied_at(address)


def test_a_proxy_lets_others_in_so_there_is_a_token(paths: StudyPaths) -> None:
    said = refused(paths, "--reviewer", "anna", "--address", "https://hub.example/", "--no-token")
    assert "--no-token is for 127.0.0.1 alone" in said


def half_sent(port: int, text: bytes, num: int) -> list[socket.socket]:
    """Connections on each of which the same beginning of a request was sent."""
    connections = []
    for _ in range(num):
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        connection.sendall(text)
        connections.append(connection)
    return connections


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"GET /api/study HTTP/1.1\r\n" + HOST + b"X-Slow: ",
        b"POST /api/answers HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_600_half_sent_requests_shut_nobody_out(paths: StudyPaths, text: bytes) -> None:
    with running(paths, "--no-token") as server:
        port = int(server.base.rsplit(":", 1)[1])
        connections = half_sent(port, text, 600)
        try:
            begun_s = time.monotonic()
            # Each request comes on a connection of its own.
            with httpx.Client(base_url=server.base, headers={"connection": "close"}, timeout=20) as client:
                for _ in range(5):
                    assert client.get("/api/study").status_code == 200
                    content = {"id": "test-0/test-0-left", "answer": "Normal"}
                    assert client.post("/api/answers", json=content).status_code == 200
            assert time.monotonic() - begun_s < LONGEST_HEAD_S, "none waits until others are out of time"
            assert server.num_files < MOST_WAITING + 80
        finally:
            for connection in connections:
                connection.close()


def test_a_head_that_comes_a_byte_at_a_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the first of a connection, nor one after a whole request."""
    monkeypatch.setattr("analysis.review.connections.LONGEST_HEAD_S", 0.5)
    whole = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with listening(PlainTextResponse("here")) as port:
        for before in (b"", whole):
            (connection,) = half_sent(port, before, 1)
            with connection:
                received = b""
                while before and b"here" not in received:
                    received += connection.recv(10_000)
                begun_s = time.monotonic()
                while not is_ended(connection, whole[:1]):
                    time.sleep(0.05)
                assert 0.3 < time.monotonic() - begun_s < 5


WHOLE = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LONG = PlainTextResponse("long" * 4_000_000)
"""More than the system takes for a connection on which nobody reads."""


def taken_until_the_end(connection: socket.socket, *, num_bytes: int, pause_s: float) -> int:
    """Read so much at a time, until all of `LONG` is there or the server ends the connection."""
    num = 0
    while num < len(LONG.body):
        time.sleep(pause_s)
        try:
            received = len(connection.recv(num_bytes))
        except ConnectionError:
            return num
        if not received:
            return num
        num += received
    return num


@pytest.mark.parametrize(("num_bytes", "pause_s"), [(1, 0.02), (100, 0.05)], ids=["a byte at a time", "100 at a time"])
@pytest.mark.parametrize("num_requests", [1, 3])
def test_an_answer_that_is_not_taken_is_not_held_for_ever(
    monkeypatch: pytest.MonkeyPatch, num_bytes: int, pause_s: float, num_requests: int
) -> None:
    for name in ("LONGEST_UNTAKEN_S", "LONGEST_UNTAKEN_IN_A_CROWD_S"):
        monkeypatch.setattr(f"analysis.review.connections.{name}", 0.2)
    # What the system has taken is read even after the end, so the end is seen at the server.
    with listening(LONG) as port:
        before = num_connections(port)
        (connection,) = half_sent(port, WHOLE * num_requests, 1)
        with connection:
            begun_s = time.monotonic()
            while num_connections(port) > before or time.monotonic() - begun_s < 0.1:
                connection.recv(num_bytes)
                time.sleep(pause_s)
                assert time.monotonic() - begun_s < 5


def num_connections(port: int) -> int:
    """How many of this process are open at the server's side."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(each[1].endswith(f":{port:04X}") and each[3] == "01" for each in lines)


def test_whoever_reads_slowly_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LONGEST_UNTAKEN_S", "LONGEST_UNTAKEN_IN_A_CROWD_S"):
        monkeypatch.setattr(f"analysis.review.connections.{name}", 0.2)
    with listening(LONG) as port, half_sent(port, WHOLE, 1)[0] as connection:
        assert taken_until_the_end(connection, num_bytes=200_000, pause_s=0.02) >= len(LONG.body)


def test_many_who_do_not_read_give_way_and_who_reads_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before whom it came, and those after whom."""
    monkeypatch.setattr("analysis.review.connections.MOST_WAITING", 8)
    monkeypatch.setattr("analysis.review.connections.LONGEST_UNTAKEN_IN_A_CROWD_S", 1.0)
    with listening(LONG) as port, ExitStack() as stack:

        def asked(num: int) -> list[socket.socket]:
            return [stack.enter_context(each) for each in half_sent(port, WHOLE, num)]

        asked(12)
        (reader,) = asked(1)
        asked(12)
        num = 0
        while num_connections(port) > 8:
            num += len(reader.recv(50_000))
            time.sleep(0.02)
            assert num < len(LONG.body), "they did not give way while it read"
        assert num + taken_until_the_end(reader, num_bytes=1_000_000, pause_s=0) >= len(LONG.body)
        assert len(httpx.get(f"http://127.0.0.1:{port}/", timeout=20).content) == len(LONG.body)


def test_whose_request_is_not_read_yet_is_not_shut_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is busy finds many connections at once, and only then their requests."""
    monkeypatch.setattr("analysis.review.connections.MOST_WAITING", 4)
    all_are_there = threading.Event()

    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        assert all_are_there.wait(20)
        await PlainTextResponse("here", headers={"connection": "close"})(scope, receive, send)

    with listening(Starlette(routes=[Mount("/", busy)])) as port, ExitStack() as stack:
        connections = [stack.enter_context(each) for each in half_sent(port, WHOLE, 24)]
        all_are_there.set()
        for number, connection in enumerate(connections):
            received = b""
            while taken := connection.recv(10_000):
                received += taken
            assert received.endswith(b"here"), number


def is_ended(connection: socket.socket, byte: bytes) -> bool:
    """Whether the server has ended a connection, on which one more byte is sent otherwise."""
    try:
        connection.sendall(byte)
        return bool(select.select([connection], [], [], 0)[0]) and connection.recv(1) == b""
    except ConnectionError:
        return True
