"""Events are strict JSON, one whole line each, and a later start appends."""

import json
import math
import time
from pathlib import Path
from typing import Any

from bccdist.training.events import EventLog


def _events(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_an_event_is_a_line_with_its_time(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events" / "rank-0.jsonl")
    log.write("step", epoch=1, losses={"psi_0": 0.5})
    (event,) = _events(tmp_path / "events" / "rank-0.jsonl")  # whole before the file is closed
    log.close()
    assert abs(event.pop("time_s") - time.time()) < 60
    assert event == {"event": "step", "epoch": 1, "losses": {"psi_0": 0.5}}


def test_a_later_start_appends(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.jsonl"
    for epoch in (1, 2):
        log = EventLog(path)
        log.write("epoch", epoch=epoch)
        log.close()
    assert [event["epoch"] for event in _events(path)] == [1, 2]


def test_what_is_no_number_becomes_null(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "rank-0.jsonl")
    log.write("epoch", iou=math.nan, unbalance=math.inf, seconds=1.5)
    log.close()
    (event,) = _events(tmp_path / "rank-0.jsonl")
    assert (event["iou"], event["unbalance"], event["seconds"]) == (None, None, 1.5)
