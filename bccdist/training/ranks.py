"""Who am I, and how many are we: resolved here and nowhere else, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from bccdist.errors import DistributedError

_SCHEMES = {
    "torchrun": ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    "Slurm": ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"),
    "submitit on local processes": (
        "SUBMITIT_LOCAL_GLOBALID",
        "SUBMITIT_LOCAL_LOCALID",
        "SUBMITIT_LOCAL_NTASKS",
        "SUBMITIT_LOCAL_NTASKS",
    ),
}
_JOB_VARIABLES = (
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_RESTART_COUNT",
    "SUBMITIT_LOCAL_JOB_ID",
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

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks and writes for all."""
        return self.rank == 0


def resolve_ranks(environment: Mapping[str, str]) -> Ranks:
    """Ranks from the variables that torchrun, Slurm or submitit set; one process where none did.

    Raises:
        DistributedError: a scheme is half set or makes no sense; the message names what was found.
    """
    # In their order: within a Slurm job both are set, and the processes that torchrun started are those that train.
    for scheme, names in _SCHEMES.items():
        found = {name: environment[name] for name in names if name in environment}
        if not {names[0], names[2]} & set(found):
            continue
        if not set(names[:3]) <= set(found):
            missing = sorted(set(names[:3]) - set(found))
            raise DistributedError(f"{scheme}: found {found}, but {', '.join(missing)} is not set; unset or set all")
        if not all(value.isdecimal() for value in found.values()):
            raise DistributedError(f"{scheme}: found {found}, expected whole numbers")
        rank, local_rank, world_size = (int(found[name]) for name in names[:3])
        if not 0 <= rank < world_size:
            raise DistributedError(f"{scheme}: rank is {rank}, expected 0 to {world_size - 1}: {found}")
        return Ranks(
            rank=rank,
            local_rank=local_rank,
            world_size=world_size,
            local_world_size=int(found.get(names[3], 1)),
            job_key="-".join(environment.get(name, "") for name in _JOB_VARIABLES),
        )
    return Ranks()
