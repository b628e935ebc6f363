"""Events are strict JSON, one whole line each; a later start appends, whatever a killed one left."""

import hashlib
import json
import math
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bccdist.errors import EventLogError
from bccdist.events import EventLog, append_chained, append_event, read_events


def _events(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def _write(path: Path, *epochs: int) -> None:
    log = EventLog(path)
    for epoch in epochs:
        log.write("epoch", epoch=epoch)
    log.close()


def _without_time(path: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in event.items() if name != "time_s"} for event in read_events(path)]


def test_an_event_is_a_line_with_its_time(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events" / "rank-0.jsonl")
    log.write("step", epoch=1, losses={"psi_0": 0.5})
    (event,) = _events(tmp_path / "events" / "rank-0.jsonl")  # whole before the file is closed
    log.close()
    assert abs(event.pop("time_s") - time.time()) < 60
    assert event == {"event": "step", "epoch": 1, "losses": {"psi_0": 0.5}}


def test_a_later_start_appends(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.jsonl"
    _write(path, 1)
    _write(path, 2)
    assert [event["epoch"] for event in _events(path)] == [1, 2]
    assert read_events(path) == _events(path)


def test_what_is_no_number_becomes_null(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "rank-0.jsonl")
    log.write("epoch", iou=math.nan, unbalance=math.inf, seconds=1.5)
    log.close()
    (event,) = _events(tmp_path / "rank-0.jsonl")
    assert (event["iou"], event["unbalance"], event["seconds"]) == (None, None, 1.5)


@given(kept=st.integers(0, 200))
def test_a_half_line_costs_no_other_event(kept: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("events") / "rank-0.jsonl"
    _write(path, 1, 2, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])  # as a process killed within its write leaves it
    before = _without_time(path)
    num_whole = whole[:kept].count(b"\n")
    assert before[:num_whole] == [{"event": "epoch", "epoch": epoch} for epoch in range(1, num_whole + 1)]
    _write(path, 8)
    is_cut = whole[:kept][-1:] not in {b"", b"\n"}
    assert _without_time(path) == [*before, *[{"event": "cut_line"}] * is_cut, {"event": "epoch", "epoch": 8}]


def test_a_process_killed_while_it_goes_on_from_a_half_line_is_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.jsonl"
    path.write_text('{"time_s": 1, "event": "epo\n{"time_s": 2, "eve')
    assert read_events(path) == []
    _write(path, 4)
    assert _without_time(path) == [{"event": "cut_line"}, {"event": "epoch", "epoch": 4}]


@pytest.mark.parametrize("broken", ['{"time_s": 1, "eve', "[1, 2]", '{"time_s": 1}', ""])
def test_damage_where_no_process_was_killed_is_an_error(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "rank-0.jsonl"
    _write(path, 1)
    with path.open("a") as file:
        file.write(broken + "\n")
    _write(path, 2)
    with pytest.raises(
        EventLogError, match=r"rank-0\.jsonl, line 2: expected a record as JSON with the key 'event', got b'"
    ):
        read_events(path)


def test_a_file_without_events_has_none(tmp_path: Path) -> None:
    EventLog(tmp_path / "rank-0.jsonl").close()
    assert read_events(tmp_path / "rank-0.jsonl") == []


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_whom_the_umask_lets_may_append(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        append_event(tmp_path / "events.jsonl", "first")
    finally:
        os.umask(before)
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == mode


def _broken_links(path: Path) -> list[int]:
    """The numbers of the lines that name another line before them than the one that is there."""
    lines = path.read_bytes().splitlines()
    before = [hashlib.sha256(line).hexdigest() for line in [b"", *lines]]
    return [number for number, line in enumerate(lines, 1) if json.loads(line)["before"] != before[number - 1]]


def _append_many(path: Path, writer: int) -> None:
    for number in range(20):
        append_chained(path, "ended", job_id=f"{writer}-{number}")


def test_each_line_of_a_chained_log_holds_the_digest_of_the_line_before(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    _append_many(path, 0)
    assert _broken_links(path) == []
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], lines[4].replace(b"0-4", b"0-9"), *lines[5:]]))
    assert _broken_links(path) == [6]


def test_processes_that_append_at_once_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    started = [multiprocessing.get_context("spawn").Process(target=_append_many, args=(path, each)) for each in (1, 2)]
    for process in started:
        process.start()
    _append_many(path, 0)
    for process in started:
        process.join()
    assert len(read_events(path)) == 60
    assert _broken_links(path) == []


def test_a_chain_goes_on_behind_lines_of_before_and_behind_one_that_a_kill_cut(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    append_event(path, "ended", job_id="of an older version")
    append_chained(path, "ended", job_id="1")
    with path.open("ab") as file:
        file.write(b'{"event": "subm')
    append_chained(path, "ended", job_id="2")
    assert [event["event"] for event in read_events(path)] == ["ended", "ended", "cut_line", "ended"]
    lines = path.read_bytes().splitlines()
    for number in (1, 3, 4):
        assert json.loads(lines[number])["before"] == hashlib.sha256(lines[number - 1]).hexdigest()
