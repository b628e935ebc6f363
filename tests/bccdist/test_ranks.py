"""Ranks follow from what torchrun, Slurm or submitit say, and a half-set environment is refused."""

import pytest

from bccdist.errors import DistributedError
from bccdist.ranks import Ranks, resolve_ranks

TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "abc"}
SLURM = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
}
LOCAL = {
    "SUBMITIT_LOCAL_GLOBALID": "1",
    "SUBMITIT_LOCAL_LOCALID": "1",
    "SUBMITIT_LOCAL_NTASKS": "2",
    "SUBMITIT_LOCAL_JOB_ID": "4242",
}


def _numbers(ranks: Ranks) -> tuple[int, int, int, int]:
    return ranks.rank, ranks.local_rank, ranks.world_size, ranks.local_world_size


def test_without_a_launcher_there_is_one_rank() -> None:
    assert resolve_ranks({"HOME": "/root", "SLURM_JOB_ID": "77"}) == Ranks()
    assert Ranks().is_first


@pytest.mark.parametrize(
    ("environment", "expected"),
    [(TORCHRUN, (5, 1, 8, 4)), (SLURM, (3, 1, 4, 2)), (LOCAL, (1, 1, 2, 2)), (TORCHRUN | SLURM, (5, 1, 8, 4))],
    ids=["torchrun", "Slurm", "submitit", "torchrun in Slurm"],
)
def test_ranks_of_each_scheme(environment: dict[str, str], expected: tuple[int, ...]) -> None:
    ranks = resolve_ranks(environment)
    assert _numbers(ranks) == expected
    assert not ranks.is_first


@pytest.mark.parametrize("environment", [TORCHRUN, SLURM, LOCAL], ids=["torchrun", "Slurm", "submitit"])
def test_all_ranks_of_a_start_share_a_key_and_no_other_start_has_it(environment: dict[str, str]) -> None:
    rank_name = next(iter(environment))
    key = resolve_ranks(environment).job_key
    assert resolve_ranks(environment | {rank_name: "0"}).job_key == key
    for name, value in {"TORCHELASTIC_RUN_ID": "abd", "SLURM_JOB_ID": "78", "SUBMITIT_LOCAL_JOB_ID": "4243"}.items():
        assert resolve_ranks(environment | {name: value}).job_key != key
    for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"):
        assert resolve_ranks(environment | {name: "1"}).job_key != key


def test_unknown_ranks_per_node_are_not_taken_for_one_node() -> None:
    without = {name: value for name, value in SLURM.items() if name != "SLURM_NTASKS_PER_NODE"}
    assert resolve_ranks(without).local_world_size < resolve_ranks(without).world_size


@pytest.mark.parametrize("environment", [TORCHRUN, SLURM, LOCAL], ids=["torchrun", "Slurm", "submitit"])
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_half_set_environment_is_refused_with_what_was_found(environment: dict[str, str], missing: int) -> None:
    names = list(environment)[:3]
    half = {name: value for name, value in environment.items() if name != names[missing]}
    with pytest.raises(DistributedError) as caught:
        resolve_ranks(half)
    found = next(name for name in names if name != names[missing])
    assert f"{names[missing]} is not set; unset or set all" in str(caught.value)
    assert f"'{found}': '{half[found]}'" in str(caught.value)


@pytest.mark.parametrize(("rank", "size"), [("8", "8"), ("9", "8"), ("0", "0")])
def test_a_rank_outside_the_world_is_refused(rank: str, size: str) -> None:
    with pytest.raises(DistributedError, match=rf"torchrun: rank is {rank}, expected 0 to {int(size) - 1}: "):
        resolve_ranks(TORCHRUN | {"RANK": rank, "WORLD_SIZE": size})


@pytest.mark.parametrize("value", ["-1", "first", "", "1.5"])
def test_a_rank_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(DistributedError, match=rf"torchrun: found .*'{value}'.*, expected whole numbers"):
        resolve_ranks(TORCHRUN | {"RANK": value})
