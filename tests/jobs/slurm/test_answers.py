"""The answers of Slurm's versions are read alike, and what is not understood is kept and not guessed.

The samples are written by hand after Slurm's documentation, with made-up jobs.
"""

import json
from typing import Any

import pytest

from jobs.slurm.answers import SEPARATOR, UNKNOWN, read_accounting, read_queue

MARK = "bccdist:0123456789ab:shards:ba9876543210"
SUBMITTED_S = 1_767_225_600


def wrapped(number: int | None) -> dict[str, Any]:
    """A number as versions since 23.02 write it."""
    return {"set": number is not None, "infinite": False, "number": number or 0}


def of_22_05(**facts: Any) -> dict[str, Any]:
    plain = {"job_id": 7, "array_job_id": 0, "array_task_id": None, "array_task_string": "", "user_name": "alice"}
    return plain | {"submit_time": SUBMITTED_S, "comment": MARK, "state_reason": "None", "name": "shards@s"} | facts


def of_23_02(**facts: Any) -> dict[str, Any]:
    numbers = {name: value for name, value in of_22_05(**facts).items() if name != "job_id"}
    return {"job_id": of_22_05(**facts)["job_id"]} | {
        name: wrapped(value) if name in {"array_job_id", "array_task_id", "submit_time"} else value
        for name, value in numbers.items()
    }


def of_23_11(**facts: Any) -> dict[str, Any]:
    state = facts.pop("job_state")
    return of_23_02(**facts) | {"job_state": state.split("+")}


@pytest.mark.parametrize("version", [of_22_05, of_23_02, of_23_11])
def test_each_versions_json_says_the_same(version: Any) -> None:
    records = [
        version(job_state="RUNNING"),
        version(job_id=12, array_job_id=11, array_task_id=0, job_state="RUNNING"),
        version(job_id=11, array_job_id=11, array_task_string="2-4,7,10-14:2%2", job_state="PENDING"),
        version(job_id=13, job_state="COMPLETED"),
        version(job_id=14, job_state="CANCELLED"),
    ]
    found = read_queue("Welcome to the cluster!\n" + json.dumps({"meta": {}, "jobs": records}))
    assert found.unread == ()
    assert [(job.job_id, job.element, job.state) for job in found.jobs] == [
        ("7", None, "RUNNING"),
        ("11", 0, "RUNNING"),
        *[("11", element, "PENDING") for element in (2, 3, 4, 7, 10, 12, 14)],
    ]
    assert {(job.user, job.comment, job.submitted_s) for job in found.jobs} == {("alice", MARK, SUBMITTED_S)}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["CANCELLED", "COMPLETING"], "COMPLETING"),
        (["RUNNING", "COMPLETING"], "RUNNING"),
        (["PENDING", "REQUEUED"], "PENDING"),
        (["COMPLETED", "REQUEUE_HOLD"], "REQUEUE_HOLD"),
        (["PREEMPTED"], None),
        ([], UNKNOWN),
        (None, UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_flags_beside_a_state_say_whether_the_job_is_still_there(states: Any, expected: str | None) -> None:
    record = of_23_11(job_state="RUNNING") | {"job_state": states}
    jobs = read_queue(json.dumps({"jobs": [record]})).jobs
    assert [job.state for job in jobs] == ([] if expected is None else [expected])


def test_lines_with_a_greeting_and_an_empty_state_lose_no_job() -> None:
    lines = [
        "*** Maintenance on Sunday ***",
        SEPARATOR.join(("7", "N/A", "", "4711", "2026-01-01T00:00:00", "/a|b", "(None)", "a|b", f"x|{MARK}")),
        SEPARATOR.join(("9", "3", "RUNNING", "", "N/A", "/a", "None", "n", "(null)")),
        SEPARATOR.join(("10", "RUNNING", "a")),
    ]
    found = read_queue("\n".join(lines))
    assert [(job.job_id, job.element, job.state, job.user) for job in found.jobs] == [
        ("7", None, UNKNOWN, "4711"),
        ("9", 3, "RUNNING", ""),
    ]
    assert (found.jobs[0].comment, found.jobs[1].comment) == (f"x|{MARK}", "")
    assert found.unread == (lines[0], lines[3])


@pytest.mark.parametrize(
    "record", [{"job_state": "RUNNING"}, {"job_id": "seven"}, {"job_id": 7, "array_job_id": []}, 7, None]
)
def test_a_record_of_another_shape_costs_no_other(record: Any) -> None:
    found = read_queue(json.dumps({"jobs": [record, of_22_05(job_state="RUNNING")]}))
    assert [job.job_id for job in found.jobs] == ["7"]
    assert len(found.unread) == 1


def test_the_accounting_is_read_with_less_or_more_columns_than_asked_for() -> None:
    lines = [
        "Slurm accounting, best effort",
        "7|COMPLETED|0:0|61|alice|2026-01-01T00:00:00|shards@a|b",
        "8|OUT_OF_ME+|0:125|5",
        "9_1|CANCELLED by 1000|0:15||nobody|Unknown|x",
        "9_[2-5%2]|PENDING|0:0|0|alice|Unknown|x",
        "12_[3,5-6%2]|CANCELLED by 1000|0:0|0|alice|Unknown|x",
        "10||0:0|0|alice|Unknown|x",
        "11|RUNNING",
    ]
    found = read_accounting("\n".join(lines))
    assert [(job.job_id, job.element, job.state) for job in found.jobs] == [
        ("7", None, "COMPLETED"),
        ("8", None, "OUT_OF_MEMORY"),
        ("9", 1, "CANCELLED"),
        *[("12", element, "CANCELLED") for element in (3, 5, 6)],
    ]
    assert found.jobs[0].name == "shards@a|b"
    assert found.unread == (lines[0], lines[6], lines[7])


@pytest.mark.parametrize(
    ("column", "energy_j"), [("3600", 3600.0), ("0", None), ("", None), ("18446744073709551614", None), ("1.5K", None)]
)
def test_energy_that_nobody_measured_is_not_nothing(column: str, energy_j: float | None) -> None:
    (job,) = read_accounting(f"7|COMPLETED|0:0|5|alice|Unknown|shards@a|b|{column}").jobs
    assert job.energy_j == energy_j
    assert job.name.startswith("shards@a|b")
