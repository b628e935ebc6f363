"""What stages took adds up, and energy is measured, or an estimate that is called so, or not known; never nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
from usage_records import USAGE, write_start

from bccdist.paths import StudyPaths
from bccdist.stages.costs import FORMULA, NO_STAGE, NOT_KNOWN, UNENDED, Cost, costs_of, heading_and_rows, notes_on
from bccdist.stages.table import SELECTION
from bccdist.usage import Usage, read_records

HOUR = replace(USAGE, seconds=3600.0, num_cpus=8, watts_per_core=5.0)
WITH_GPUS = replace(HOUR, num_gpus=4, watts_per_gpu=300.0)
"""8 cores at 5 W and 4 GPUs at 300 W: 1.24 kWh."""


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path)


def cost(paths: StudyPaths, *usages: Usage, measured_j: dict[str, float] | None = None) -> Cost:
    """What the shards took."""
    for number, usage in enumerate(usages):
        write_start(paths, replace(usage, job_id=f"17_{number}"))
    return costs_of(read_records(paths), measured_j or {})["shards"]


def test_hours_of_all_starts_add_up_by_stage(paths: StudyPaths) -> None:
    write_start(paths, replace(HOUR, job_id="18", stage=SELECTION.fields))
    shards = cost(paths, WITH_GPUS, replace(WITH_GPUS, seconds=1800, outcome="failed"))
    assert (shards.core_hours, shards.gpu_hours, shards.num_starts) == (12, 6, 2)
    assert set(costs_of(read_records(paths))) == {"select", "shards"}


@pytest.mark.parametrize(
    ("usages", "measured_j", "kwh", "source"),
    [
        ([WITH_GPUS, HOUR], {}, 1.28, "estimate"),
        ([WITH_GPUS, HOUR], {"17_0": 7.2e6, "17_1": 3.6e6}, 3.0, "measured"),
        ([WITH_GPUS, HOUR], {"17_0": 7.2e6}, 2.04, "in part an estimate"),
        ([replace(WITH_GPUS, watts_per_gpu=None)], {}, None, "not known"),
        ([HOUR, replace(HOUR, watts_per_core=None)], {}, None, "not known"),
        ([replace(HOUR, watts_per_core=None)], {"17_0": 0.0}, None, "not known"),
        ([replace(HOUR, watts_per_core=None)], {"17": 3.6e6, "17_10": 3.6e6}, None, "not known"),
    ],
)
def test_energy_says_where_it_is_from(
    usages: list[Usage], measured_j: dict[str, float], kwh: float | None, source: str, paths: StudyPaths
) -> None:
    found = cost(paths, *usages, measured_j=measured_j)
    assert found.energy_kwh == (None if kwh is None else pytest.approx(kwh))
    assert found.energy_from == source
    assert ("estimate" in found.energy_text) == ("estimate" in source)
    assert (found.energy_text == "not known") == (kwh is None)


def test_what_was_measured_of_one_start_is_not_taken_for_all_starts_of_its_job(paths: StudyPaths) -> None:
    write_start(paths, replace(HOUR, job_id="17_0"), is_ended=False)  # killed, and queued again
    found = cost(paths, HOUR, measured_j={"17_0": 3.6e6})
    assert found.energy_from == "estimate"


def test_starts_without_an_end_are_named_and_not_counted_as_nothing(paths: StudyPaths) -> None:
    write_start(paths, is_ended=False)
    costs = costs_of(read_records(paths))
    assert heading_and_rows(costs)[1] == (NO_STAGE, "0", "1", "not known", "not known", "not known")
    assert notes_on(costs.values()) == [NOT_KNOWN, UNENDED]


def test_a_little_is_shown_as_a_little_and_an_estimate_with_its_formula(paths: StudyPaths) -> None:
    costs = {"shards": cost(paths, replace(HOUR, seconds=3.6))}
    assert heading_and_rows(costs)[1] == ("shards", "1", "-", "0.008", "0", "4e-05 kWh, estimate")
    assert notes_on(costs.values()) == [FORMULA]
