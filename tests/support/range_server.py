"""A real HTTP server of files on the loopback address: it serves ranges, counts, waits, and fails on demand."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bccdist.remote.patience import Patience

COUNTS = "/-counts"
"""Asked for this, a server tells its requests and bytes since the last time."""
QUICK = Patience(total_s=0.8, first_pause_s=0.02, longest_pause_s=0.1, connect_s=0.5, stall_s=0.25)
"""For requests of tests, that are given up within a second."""


@dataclass
class RangeServer:
    """What the server does, and what it was asked for; a test changes it while it runs."""

    folder: Path
    url: str = ""
    latency_s: float = 0.0
    bytes_per_s: float = 0.0
    """Of all connections together; 0 is as fast as it goes."""
    num_requests: int = 0
    num_bytes: int = 0
    """Of bodies."""
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    fault: Callable[["Request"], bool] | None = None
    """Asked at each request for a file; true where it has answered, or broken off, itself."""
    has_ranges: bool = True
    etags: dict[str, str] = field(default_factory=dict)
    """By path, in place of the one that follows from the file's time and size."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    line: threading.Lock = field(default_factory=threading.Lock)
    """Held while bytes are on their way."""

    def reset(self) -> None:
        """Count from 0."""
        self.num_requests = self.num_bytes = 0
        self.paths.clear()
        self.headers.clear()


class Request(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    state: RangeServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer with a file, or with a stretch of it."""
        state = self.state
        if self.path == COUNTS:
            self.answer(200, json.dumps([state.num_requests, state.num_bytes]).encode())
            state.reset()
            return
        with state.lock:
            state.num_requests += 1
            state.paths.append(self.path)
            state.headers.append(dict(self.headers.items()))
        time.sleep(state.latency_s)
        if state.fault is not None and state.fault(self):
            return
        path = state.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if path.is_dir():
            names = sorted(each.name for each in path.iterdir())
            links = "".join(f'<a href="{name}">{name}</a>' for name in names)
            self.answer(200, links.encode(), {"Content-Type": "text/html"})
            return
        if not path.is_file():
            self.answer(404, b"no such file")
            return
        size = path.stat().st_size
        said = self.headers.get("Range")
        if said is None or not state.has_ranges:
            self.send_file(path, 0, size, status=200)
            return
        first, last = said.removeprefix("bytes=").split("-")
        start, end = int(first), min(int(last) + 1, size)
        if start >= size:
            self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        self.send_file(path, start, end, status=206)

    def send_file(self, path: Path, start: int, end: int, *, status: int, stop_after: int | None = None) -> None:
        """Send a stretch of a file; `stop_after` so many bytes the connection breaks."""
        found = path.stat()
        etag = self.state.etags.get(urlsplit(self.path).path, f'"{found.st_mtime_ns:x}-{found.st_size:x}"')
        self.send_response(status)
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{found.st_size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        if stop_after is not None:
            data = data[:stop_after]
        self.send(data)
        if stop_after is not None:
            self.close_connection = True

    def send(self, data: bytes) -> None:
        """Send bytes of a body, at the server's speed."""
        for at in range(0, len(data), 1 << 16):
            piece = data[at : at + (1 << 16)]
            if self.state.bytes_per_s:
                with self.state.line:
                    time.sleep(len(piece) / self.state.bytes_per_s)
            with self.state.lock:  # before the client has it, and may count anew
                self.state.num_bytes += len(piece)
            self.wfile.write(piece)

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a whole short answer."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes is none."""


@contextmanager
def serving(folder: Path) -> Iterator[RangeServer]:
    """Serve the files of a folder while the context lasts."""
    state = RangeServer(folder)
    server = _Server(("127.0.0.1", 0), type("Bound", (Request,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    # A process of its own, for measurements: FOLDER LATENCY_S BYTES_PER_S; it ends when its input does.
    with serving(Path(sys.argv[1])) as own:
        own.latency_s, own.bytes_per_s = float(sys.argv[2]), float(sys.argv[3])
        sys.stdout.write(f"{own.url}\n")
        sys.stdout.flush()
        sys.stdin.read()
