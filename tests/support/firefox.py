"""Debian's Firefox without a screen, for tests: driven by WebDriver BiDi, which it speaks by itself."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

_PROGRAM = "firefox-esr"
_LONGEST_WAIT_S = 40.0


def reason_against() -> str | None:
    """Why there can be no Firefox here, if so."""
    return None if shutil.which(_PROGRAM) else f"needs Firefox, and {_PROGRAM} is not there: make browser"


class Firefox:
    """One window, and what a hand or an eye does with it."""

    def __init__(self, address: str) -> None:
        """Take over the window of a browser that listens at an address."""
        self._socket = websocket.create_connection(f"{address}/session", suppress_origin=True, timeout=_LONGEST_WAIT_S)
        self._num = 0
        self.faults: list[str] = []
        """Errors of scripts, in the order in which they came."""
        self._ask("session.new", capabilities={})
        self._ask("session.subscribe", events=["log.entryAdded"])
        self._window = self._ask("browsingContext.getTree")["contexts"][0]["context"]

    def open(self, address: str) -> None:
        self._ask("browsingContext.navigate", context=self._window, url=address, wait="complete")

    def run(self, expression: str) -> Any:
        """The value of an expression, text, number or truth value; it may be a promise."""
        target = {"context": self._window}
        answer = self._ask("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Type keys to whatever has the focus."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keys", "actions": strokes})

    def drag(self, *places: tuple[int, int]) -> None:
        """Press the mouse at the first place in px of the window, move it, and let it go at the last."""
        moves = [{"type": "pointerMove", "x": x, "y": y, "duration": 60} for x, y in places]
        down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        self._act({"type": "pointer", "id": "mouse", "actions": [moves[0], down, *moves[1:], up]})

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """The first value of a condition that is true."""
        end_s = time.monotonic() + _LONGEST_WAIT_S
        while time.monotonic() < end_s:
            if value := condition():
                return value
            time.sleep(0.1)
        raise AssertionError(f"in {_LONGEST_WAIT_S:.0f} s it did not come about that {what}")

    def close(self) -> None:
        self._socket.close()

    def _act(self, actions: dict[str, Any]) -> None:
        self._ask("input.performActions", context=self._window, actions=[actions])

    def _ask(self, method: str, **given: Any) -> Any:
        self._num += 1
        self._socket.send(json.dumps({"id": self._num, "method": method, "params": given}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("method") == "log.entryAdded" and said["params"]["level"] == "error":
                self.faults.append(said["params"]["text"])
            if said.get("id") == self._num:
                assert said["type"] == "success", said
                return said["result"]


@contextmanager
def running_firefox(profile: Path) -> Iterator[Firefox]:
    """A browser with a profile of its own."""
    profile.mkdir(parents=True, exist_ok=True)
    words = [_PROGRAM, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with subprocess.Popen(
        [*words, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            found = next(filter(None, (re.search(r"ws://\S+", line) for line in process.stderr)), None)
            assert found is not None, "Firefox ended before it listened"
            window = Firefox(found[0])
            yield window
            window.close()
        finally:
            process.terminate()
            process.stderr.close()
