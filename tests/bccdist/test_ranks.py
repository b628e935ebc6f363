"""Ranks follow from what torchrun, Slurm or submitit say, and a half-set environment is refused."""

import os
from typing import Literal

import pytest

from bccdist.errors import DistributedError
from bccdist.ranks import MARK, Ranks, launched_as, ranks_of_launch, resolve_ranks

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


LEFT_OVER = {
    "RANK": {"RANK": "0"},
    "a torchrun of before": {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"},
    "the shell of srun": {**SLURM, "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"},
    "salloc": {"SLURM_JOB_ID": "78", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "8"},
    "a batch script": {"SLURM_JOB_ID": "78", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "3"},
    "an element": {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "2"},
    "Open MPI": {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"},
    "MPICH": {"PMI_RANK": "7", "PMI_SIZE": "9"},
    "a launch of ours": Ranks(rank=0, world_size=1, job_id="1").as_mark(),
}
"""What shells, profiles and allocations leave behind."""


@pytest.mark.parametrize("left_over", LEFT_OVER.values(), ids=LEFT_OVER)
def test_a_local_launch_is_believed_before_what_is_left_over(left_over: dict[str, str]) -> None:
    ranks = ranks_of_launch("local", nodes=1, ranks_per_node=2, environment={**left_over, **LOCAL})
    assert _numbers(ranks) == (1, 1, 2, 2)
    assert (ranks.cluster, ranks.job_id) == ("local", "4242")
    assert resolve_ranks({**left_over, **LOCAL, **ranks.as_mark()}) == ranks


@pytest.mark.parametrize(
    "name", [name for name in LEFT_OVER if name not in ("the shell of srun", "salloc", "a batch script", "an element")]
)
def test_a_launch_to_slurm_is_believed_before_what_is_left_over(name: str) -> None:
    environment = {**LEFT_OVER[name], **LOCAL, **SLURM}
    ranks = ranks_of_launch("slurm", nodes=2, ranks_per_node=2, environment=environment)
    assert _numbers(ranks) == (3, 1, 4, 2)
    assert (ranks.cluster, ranks.job_id) == ("slurm", "77")
    assert resolve_ranks({**environment, **ranks.as_mark()}) == ranks


def test_an_element_is_named_by_its_array() -> None:
    element = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "2"}
    assert ranks_of_launch("slurm", nodes=2, ranks_per_node=2, environment=SLURM | element).job_id == "70_2"


def test_a_launch_that_got_fewer_nodes_is_as_large_as_these() -> None:
    assert ranks_of_launch("slurm", nodes=3, ranks_per_node=2, environment=SLURM).world_size == 4


@pytest.mark.parametrize(("nodes", "ranks_per_node"), [(1, 2), (1, 3), (2, 3)])
def test_another_number_of_ranks_than_was_launched_is_refused(nodes: int, ranks_per_node: int) -> None:
    with pytest.raises(DistributedError, match=rf"launched with {nodes} x {ranks_per_node} ranks, but 4 were started"):
        ranks_of_launch("slurm", nodes=nodes, ranks_per_node=ranks_per_node, environment=SLURM)


@pytest.mark.parametrize("cluster", ["slurm", "local"])
def test_a_launch_whose_cluster_says_nothing_is_refused(cluster: Literal["slurm", "local"]) -> None:
    """As in a container that is given none of the variables."""
    with pytest.raises(DistributedError, match="is not set"):
        ranks_of_launch(cluster, nodes=1, ranks_per_node=1, environment=TORCHRUN)


def test_the_mark_of_another_process_is_not_believed() -> None:
    mark = {MARK: Ranks(rank=1, world_size=2).as_mark()[MARK].replace(f"{os.getpid()}", f"{os.getppid()}")}
    assert resolve_ranks(mark) == Ranks()
    assert launched_as(mark) is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}, (3, 1, 4, 1)),
        ({"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}, (3, 1, 4, 2)),
        ({**SLURM, "PMI_RANK": "3", "PMI_SIZE": "4"}, (3, 1, 4, 2)),
        ({**SLURM, "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "4"}, (3, 1, 4, 2)),
        ({**SLURM, "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}, (3, 1, 4, 2)),
    ],
    ids=["Open MPI", "MPICH", "srun with PMI", "a step of some tasks", "srun with a meeting place"],
)
def test_ranks_that_were_started_by_hand(environment: dict[str, str], expected: tuple[int, ...]) -> None:
    assert _numbers(resolve_ranks(environment)) == expected


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "1"},
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_ID": str(0xFFFFFFFB)},
    ],
    ids=["a batch script", "of one task", "its step"],
)
def test_a_process_of_a_batch_script_is_alone(environment: dict[str, str]) -> None:
    assert _numbers(resolve_ranks(environment)) == (0, 0, 1, 1)


@pytest.mark.parametrize("step", [{}, {"SLURM_STEP_ID": str(0xFFFFFFFA)}], ids=["no step", "an interactive step"])
def test_a_shell_of_an_allocation_for_several_tasks_is_none_of_them(step: dict[str, str]) -> None:
    environment = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4", **step}
    with pytest.raises(DistributedError, match="start it with srun, or unset these to train in this process alone"):
        resolve_ranks(environment)


@pytest.mark.parametrize(
    "left_over",
    [
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"},
        {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"},
        {"PMI_RANK": "0", "PMI_SIZE": "1"},
    ],
    ids=["RANK", "Open MPI", "MPICH"],
)
def test_variables_that_contradict_each_other_are_refused_with_both(left_over: dict[str, str]) -> None:
    with pytest.raises(DistributedError, match=r"two ranks for this process.*rank . of") as caught:
        resolve_ranks({**SLURM, **left_over})
    assert "rank 0 of 1" in str(caught.value)
    assert "rank 3 of 4" in str(caught.value)


@pytest.mark.parametrize("name", ["MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "LOCAL_WORLD_SIZE"])
def test_what_little_is_set_is_named(name: str) -> None:
    with pytest.raises(
        DistributedError, match=rf"torchrun: found {{'{name}': '1'}}, but .* not set; unset or set all"
    ):
        resolve_ranks({name: "1"})
