"""Memory of the review page's server with many browsers: `python -m benchmarks.review_memory STUDY [--browsers N]`.

The server runs as a user starts it. Each browser has six connections and works as the page does: the list, then for
each section its slide, regions, annotations and heatmap, the tiles of a screen around it at two magnifications, an
answer, and what came since. They work at the same time, each on other sections. Journals go to a copy of the study's
results. The peak is what the system says of the server's process (VmHWM).
"""

import http.client
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import local
from typing import Annotated, Any
from urllib.parse import quote

import tyro

from analysis.review.serving import LOCAL
from analysis.review.tiles import TILE_PX

_REPOSITORY = Path(__file__).resolve().parents[1]
_CONNECTIONS = 6
_SEEN_TILES = (6, 4)
"""Columns and rows of a screen of 1366 x 768 px."""
_TIMEOUT_S = 300.0


def main(study: Annotated[Path, tyro.conf.Positional], browsers: int = 50, sections: int = 3) -> None:
    """Measure and print.

    Args:
        study: Folder of a study whose thresholds are selected; its Test is reviewed.
        browsers: That work at the same time.
        sections: That each of them answers.
    """
    with ExitStack() as stack:
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / study.name
        shutil.copytree(study, copy, ignore=shutil.ignore_patterns("checkpoints", "shards", "review"))
        process, port = stack.enter_context(_server(copy))
        _print_size("started", process.pid)
        first = Browser(port)
        listed = first.json("/api/sections")["sections"]
        print(f"{len(listed)} sections on {len({each['slide_id'] for each in listed})} slides")
        first.work(listed[:1])
        _print_size("one browser", process.pid)
        start_s = time.perf_counter()
        with ThreadPoolExecutor(browsers) as pool:
            shares = [
                [listed[(number * sections + each) % len(listed)] for each in range(sections)]
                for number in range(browsers)
            ]
            statuses = sum(pool.map(lambda share: Browser(port).work(share), shares), Counter())
        wall_s = time.perf_counter() - start_s
        print(f"{browsers} browsers, {sum(statuses.values())} requests in {wall_s:.0f} s: {dict(statuses)}")
        _print_size(f"{browsers} browsers", process.pid)


@contextmanager
def _server(study: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    words = ["--reviewer", "bench", "--port", "0", "--no-token", "--blind-share", "0"]
    process = subprocess.Popen(
        [sys.executable, str(_REPOSITORY / "jobs" / "review.py"), str(study), *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = next(filter(None, (re.match(r"open http://[^:]+:(\d+)/", line) for line in process.stdout)))
        yield process, int(found[1])
    finally:
        process.terminate()
        process.wait()


def _print_size(when: str, pid: int) -> None:
    kib = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()))
    mib = {name: int(value) / 1024 for name, value in kib.items()}
    print(f"{when}: {mib['VmRSS']:.0f} MiB, at most {mib['VmHWM']:.0f} MiB", flush=True)


class Browser:
    """Six connections to the server, and the work of a page."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._threads = ThreadPoolExecutor(_CONNECTIONS)
        self._mine = local()
        self._statuses: Counter[int] = Counter()

    def work(self, sections: Sequence[dict[str, Any]]) -> Counter[int]:
        """Answer some sections; returns how many answers came by status."""
        study = self.json("/api/study")
        self.json("/api/sections")
        since = 0
        for section in sections:
            self._look(study, section)
            answer = {"id": section["id"], "answer": "Normal", "seconds": 1.0}
            self._threads.submit(self._ask, "/api/answers", answer).result()
            since = self.json(f"/api/history?since={since}")["num"]
        self._threads.shutdown()
        return self._statuses

    def json(self, path: str) -> Any:
        """What the server says at a path."""
        return json.loads(self._threads.submit(self._ask, path).result())

    def _look(self, study: dict[str, Any], section: dict[str, Any]) -> None:
        """Ask for all that the page shows of a section."""
        setting = next(each for each in study["settings"] if each["setting"] == study["headline"])
        name, slide_id = setting["setting"], quote(section["slide_id"], safe="")
        slide = self.json(f"/api/slides/{slide_id}")
        x, y, width, height = section["box_level0_px"]
        heat = f"/api/heatmap/{name}/{slide_id}/{setting['final']}"
        paths = [
            f"/api/regions/{name}/{slide_id}?psi={setting['final']}&t_p={setting['t_p']}",
            f"/api/annotations/{slide_id}",
            f"/api/regions/{slide_id}",
            f"{heat}?max_px=2048",
            f"{heat}?max_px=2048&x={x}&y={y}&width={width}&height={height}",
        ]
        for level in (slide["max_level"], slide["max_level"] - 3):
            step = TILE_PX << (slide["max_level"] - level)
            col, row = int((x + width / 2) // step), int((y + height / 2) // step)
            paths += [
                f"/tiles/{slide_id}/{level}/{c}_{r}.jpeg"
                for r in range(max(0, row - _SEEN_TILES[1] // 2), row + _SEEN_TILES[1] // 2)
                for c in range(max(0, col - _SEEN_TILES[0] // 2), col + _SEEN_TILES[0] // 2)
            ]
        list(self._threads.map(self._ask, paths))

    def _ask(self, path: str, content: dict[str, Any] | None = None) -> bytes:
        """The body of an answer; a connection that the server has ended is opened again, as a browser does."""
        method, body = ("GET", None) if content is None else ("POST", json.dumps(content))
        for attempt in range(3):
            if not hasattr(self._mine, "connection"):
                self._mine.connection = http.client.HTTPConnection(LOCAL, self._port, timeout=_TIMEOUT_S)
            try:
                self._mine.connection.request(method, path, body, {"content-type": "application/json"} if body else {})
                got = self._mine.connection.getresponse()
                answer: bytes = got.read()
            except (http.client.HTTPException, ConnectionError):
                self._mine.connection.close()
                del self._mine.connection
                if attempt == 2:
                    raise
            else:
                self._statuses[got.status] += 1
                return answer
        raise AssertionError("unreachable")


if __name__ == "__main__":
    tyro.cli(main)
