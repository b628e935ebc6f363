"""Who am I, and how many are we: resolved here and nowhere else, without torch.

A process that a launcher of ours started carries a mark that says so, and the mark is believed before anything else:
shells, profiles, salloc, srun, batch scripts and MPI leave variables that look like those of a rank. Only where there
is no mark, in a process that somebody started by hand, do the variables of torchrun, srun, submitit and MPI count.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from bccdist.errors import DistributedError

MARK = "BCCDIST_RANKS"
"""The variable with what a launcher of ours started this process as."""
_FIRST_SPECIAL_STEP = 0xFFFFFFF0
"""Slurm's numbers of steps from here on are batch scripts, interactive shells and the like, not tasks of srun."""


class _Scheme(NamedTuple):
    """The variables in which one kind of launcher says who is who."""

    launcher: str
    rank: str
    local_rank: str
    world_size: str
    local_world_size: str
    """It may be missing."""

    @property
    def needed(self) -> tuple[str, str, str]:
        """Without these nothing is said."""
        return self.rank, self.local_rank, self.world_size

    def found_in(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What is set of it."""
        return {name: environment[name] for name in self[1:] if name in environment}


_TORCHRUN = _Scheme("torchrun", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_SLURM = _Scheme("Slurm", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")
_SUBMITIT = _Scheme(
    "submitit on local processes",
    "SUBMITIT_LOCAL_GLOBALID",
    "SUBMITIT_LOCAL_LOCALID",
    "SUBMITIT_LOCAL_NTASKS",
    "SUBMITIT_LOCAL_NTASKS",
)
_OPEN_MPI = _Scheme(
    "Open MPI",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
)
_MPICH = _Scheme("MPICH or Intel MPI", "PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE", "MPI_LOCALNRANKS")
SCHEMES = (_TORCHRUN, _SLURM, _SUBMITIT, _OPEN_MPI, _MPICH)
_MEETING_PLACE = ("MASTER_ADDR", "MASTER_PORT")
"""Set by torchrun, and by hand in many scripts; they say nothing of ranks, but that somebody means to have some."""
_JOB_VARIABLES = (
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_RESTART_COUNT",
    "SUBMITIT_LOCAL_JOB_ID",
    "PMIX_NAMESPACE",
)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The place of this process among its peers."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    """Ranks on this machine; 1 where nobody says how many."""
    job_key: str = "single"
    """The same for all ranks of one start of one job, and for no other."""
    cluster: Literal["slurm", "local"] | None = None
    """Where a launcher of ours started it; None where somebody did by hand."""
    job_id: str | None = None
    """The job of Slurm, ARRAY_ELEMENT for an element, or the number of a local job's process; None by hand."""

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks and writes for all."""
        return self.rank == 0

    def as_mark(self) -> dict[str, str]:
        """The variable that marks this process, and no process that it starts, as this rank."""
        return {MARK: json.dumps({"pid": os.getpid(), **asdict(self)})}


def launched_as(environment: Mapping[str, str]) -> Ranks | None:
    """What a launcher of ours started this process as; None where it did not."""
    if MARK not in environment:
        return None
    values = json.loads(environment[MARK])
    # A variable is handed down to whatever this process starts; the process itself is not.
    return Ranks(**values) if values.pop("pid") == os.getpid() else None


def ranks_of_launch(
    cluster: Literal["slurm", "local"], *, nodes: int, ranks_per_node: int, environment: Mapping[str, str]
) -> Ranks:
    """Ranks of a process that a launcher of ours has had started, from the variables of that cluster alone.

    Args:
        cluster: where the launcher sent it.
        nodes, ranks_per_node: what the launcher asked for; Slurm may give fewer nodes, where that was allowed.
        environment: of the process.

    Raises:
        DistributedError: the cluster does not say which rank this is, or started another number than was asked for.
    """
    ranks = _read(_SLURM if cluster == "slurm" else _SUBMITIT, environment)
    num_nodes, others = divmod(ranks.world_size, ranks_per_node)
    if others or num_nodes > nodes:
        raise DistributedError(
            f"this job was launched with {nodes} x {ranks_per_node} ranks, but {ranks.world_size} were started; take "
            "what changes the number of tasks out of the site's options and setup lines"
        )
    if cluster == "local":
        job_id, start = environment["SUBMITIT_LOCAL_JOB_ID"], ""
    else:
        names = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
        element = [environment[name] for name in names if name in environment]
        job_id, start = "_".join(element) or environment["SLURM_JOB_ID"], environment.get("SLURM_RESTART_COUNT", "0")
    return Ranks(
        rank=ranks.rank,
        local_rank=ranks.local_rank,
        world_size=ranks.world_size,
        local_world_size=ranks_per_node,
        job_key="-".join(filter(None, [cluster, job_id, start])),
        cluster=cluster,
        job_id=job_id,
    )


def resolve_ranks(environment: Mapping[str, str]) -> Ranks:
    """Ranks as our own launcher, else torchrun, srun, submitit or MPI started them; one process where none did.

    Raises:
        DistributedError: variables are half set, make no sense, or contradict each other; the message names them.
    """
    if (ours := launched_as(environment)) is not None:
        return ours
    # Within a job both are set, and the processes that torchrun started are those that train.
    if "TORCHELASTIC_RUN_ID" in environment and _TORCHRUN.found_in(environment):
        return _read(_TORCHRUN, environment)
    said = {scheme: _read(scheme, environment) for scheme in _schemes_in(environment)}
    if len({(ranks.rank, ranks.world_size) for ranks in said.values()}) > 1:
        each = "; ".join(
            f"{scheme.launcher}: rank {ranks.rank} of {ranks.world_size}, from {scheme.found_in(environment)}"
            for scheme, ranks in said.items()
        )
        raise DistributedError(f"the environment names two ranks for this process, so unset what is left over: {each}")
    if said:
        return next(iter(said.values()))
    if meeting := {name: environment[name] for name in _MEETING_PLACE if name in environment}:
        raise DistributedError(
            f"torchrun: found {meeting}, but {', '.join(_TORCHRUN.needed)} are not set; unset or set all"
        )
    return Ranks()


def _schemes_in(environment: Mapping[str, str]) -> Iterator[_Scheme]:
    """The launchers that say something of this process."""
    for scheme in SCHEMES:
        if scheme is _SLURM and not _is_step(environment) and _is_alone(environment):
            continue
        if {scheme.rank, scheme.world_size} & set(environment) or (
            scheme is _TORCHRUN and scheme.found_in(environment)
        ):
            yield scheme


def _is_step(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process; batch scripts and the shells of salloc have variables of Slurm, too."""
    step = environment.get("SLURM_STEP_ID", "")
    return step.isdecimal() and int(step) < _FIRST_SPECIAL_STEP


def _is_alone(environment: Mapping[str, str]) -> bool:
    """Whether nothing of Slurm speaks of a second process."""
    return environment.get(_SLURM.rank, "0") == "0" and environment.get(_SLURM.world_size, "1") == "1"


def _read(scheme: _Scheme, environment: Mapping[str, str]) -> Ranks:
    """What one launcher says of this process."""
    found = scheme.found_in(environment)
    if scheme is _MPICH:
        # Where srun stands in for mpirun it does not say this; it matters for the choice among a node's GPUs alone.
        found.setdefault(scheme.local_rank, found.get(scheme.rank, ""))
    if scheme is _SLURM and (of_step := environment.get("SLURM_STEP_NUM_TASKS")):
        found[scheme.world_size] = of_step  # a step of some of the job's tasks
    if missing := sorted(set(scheme.needed) - set(found)):
        lacking = ", ".join(missing)
        raise DistributedError(f"{scheme.launcher}: found {found}, but {lacking} is not set; unset or set all")
    if not all(found[name].isdecimal() for name in scheme.needed):
        raise DistributedError(f"{scheme.launcher}: found {found}, expected whole numbers")
    rank, local_rank, world_size = (int(found[name]) for name in scheme.needed)
    if not 0 <= rank < world_size:
        raise DistributedError(f"{scheme.launcher}: rank is {rank}, expected 0 to {world_size - 1}: {found}")
    if scheme is _SLURM and not _is_step(environment) and world_size > 1:
        raise DistributedError(
            f"Slurm: found {found}, but SLURM_STEP_ID is not that of a step: srun starts ranks, a batch script or the "
            "shell of an allocation is none; start it with srun, or unset these to train in this process alone"
        )
    local_world_size = found.get(scheme.local_world_size, "1")
    return Ranks(
        rank=rank,
        local_rank=local_rank,
        world_size=world_size,
        local_world_size=int(local_world_size) if local_world_size.isdecimal() else 1,
        job_key="-".join(environment.get(name, "") for name in _JOB_VARIABLES),
    )
