"""Where jobs run and how large they are: a site file in slurm/ gives the defaults, flags override them."""

import os
import shlex
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from bccdist.errors import ConfigurationError
from bccdist.remote.block_cache import FOLDER_VARIABLE, GIB_VARIABLE
from bccdist.usage import Watts

SITES = Path(__file__).resolve().parents[2] / "slurm"
Cluster = Literal["auto", "slurm", "local"]
GpuRequest = Literal["per_node", "per_task"]
_CPU_TABLE = "cpu"
_LAUNCHERS_OWN = frozenset(
    {
        *("array", "clusters", "comment", "dependency", "error", "job-name", "open-mode", "output", "parsable"),
        *("no-requeue", "quiet", "signal", "test-only", "wait", "wrap"),
    }
)
"""Options of sbatch without which jobs would not be known, waited for, warned or found in their logs."""
_WITH_A_KEY = {
    "time": "timeout_min",
    "nodes": "nodes",
    "ntasks-per-node": "ranks_per_node",
    "cpus-per-task": "cpus_per_rank",
    "gpus-per-node": "gpus_per_node",
    "gpus-per-task": "gpu_request",
}
"""Options of sbatch that the launcher computes with, and the keys that it knows them by."""


@dataclass(frozen=True, kw_only=True)
class CpuJobs:
    """What differs for jobs without a GPU (shards, selection, tables); None is as for the others."""

    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    constraint: str | None = None
    cpus_per_rank: int | None = None
    mem_gib_per_rank: int | None = None
    timeout_min: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The keys that are set."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Where jobs run and how large they are."""

    cluster: Cluster = "auto"
    """auto: Slurm where sbatch is found, else local processes."""
    site: str | None = None
    """Name of a file in slurm/, without .toml, or the path of such a file."""
    partition: str | None = None
    """Slurm's partition; several with commas between them."""
    account: str | None = None
    """Slurm's account."""
    qos: str | None = None
    """Slurm's quality of service."""
    constraint: str | None = None
    """Slurm's node features."""
    nodes: int = 1
    """Nodes for training."""
    min_nodes: int | None = None
    """Fewest nodes that training begins with where not all of `nodes` are free; None waits for all."""
    gpus_per_node: int = 4
    """GPUs, and so ranks, per node for training on Slurm; a job for heatmaps takes one; 0 leaves all to CPUs.
    Locally the GPUs that are there."""
    gpu_request: GpuRequest = "per_node"
    """How GPUs are asked for: per_node (--gpus-per-node), or per_task (--gpus-per-task=1), where a site wants it."""
    gpu_type: str | None = None
    """Kind of GPU as the site names it, such as h100; None takes any."""
    ranks_per_node: int | None = None
    """Training processes per node; None is one per GPU, and one where there is no GPU."""
    cpus_per_rank: int = 8
    """CPU cores for each process."""
    mem_gib_per_rank: int = 32
    """Memory for each process; 0 leaves it to the site."""
    timeout_min: int = 24 * 60
    """Time limit of a job; one that runs into it is queued again and goes on."""
    signal_delay_s: int = 120
    """Warning before the time limit, to save and to be queued again."""
    max_timeouts: int = 50
    """Time limits that a job may run into before it is given up."""
    max_parallel: int | None = None
    """Elements of an array that run at once; None is 32 on Slurm and one per two cores locally."""
    slides_per_element: int | None = None
    """Slides of an array's element; None makes as many elements as may run at once."""
    setup: tuple[str, ...] = ()
    """Shell lines before each job, such as `module load cuda`."""
    container: str | None = None
    """What stands before `python` in a job, such as `apptainer exec --nv image.sif`; with python of the image."""
    scratch: str | None = None
    """Folder for temporary files on the node (TMPDIR); shell variables of the job may stand in it."""
    remote_cache: str | None = None
    """Folder on the node's own disk that keeps what is fetched of remote slides; None keeps nothing. Variables of the
    job may stand in it."""
    remote_cache_gib: float = 50.0
    """What it may hold; what was not used for longest goes first."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch, such as `mail-type=FAIL` or `exclusive`."""
    hook: str | None = None
    """Line of shell that gets one message for each launch, when it first fails or has ended (jobs.slurm.hook)."""
    watts_per_core: float | None = None
    """Power of a core, memory and the node's rest included, for an estimate of energy where Slurm measures none."""
    watts_per_gpu: float | None = None
    """Power of a GPU, for the same."""
    cpu: CpuJobs = field(default_factory=CpuJobs)
    """What differs for jobs without a GPU."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        for name in ("nodes", "cpus_per_rank", "timeout_min", "signal_delay_s"):
            _require_at_least(1, name, getattr(self, name))
        for name in ("gpus_per_node", "mem_gib_per_rank", "max_timeouts"):
            _require_at_least(0, name, getattr(self, name))
        for name in ("max_parallel", "slides_per_element", "ranks_per_node", "min_nodes"):
            if getattr(self, name) is not None:
                _require_at_least(1, name, getattr(self, name))
        if not 0 < self.remote_cache_gib < float("inf"):
            raise ConfigurationError(f"remote_cache_gib is {self.remote_cache_gib}, expected above 0")
        _require_powers(watts_per_core=self.watts_per_core, watts_per_gpu=self.watts_per_gpu)
        if (self.min_nodes or 0) > self.nodes:
            raise ConfigurationError(f"min_nodes is {self.min_nodes}, expected at most {self.nodes}, which nodes is")
        if self.signal_delay_s > 30 * self.timeout_min:
            raise ConfigurationError(
                f"signal_delay_s is {self.signal_delay_s}, expected at most half of the time limit of "
                f"{self.timeout_min} min: a job would be told to stop before it has begun"
            )
        for name, known in (("gpu_request", get_args(GpuRequest)), ("cluster", get_args(Cluster))):
            if getattr(self, name) not in known:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        _require_free(self.sbatch_options)
        _require_words("container", self.container or "")

    @property
    def sbatch_options(self) -> dict[str, str]:
        """The further options of sbatch by name, without leading dashes; the value is empty where there is none."""
        pairs = [text.removeprefix("--").partition("=") for text in self.sbatch]
        return {name.replace("_", "-"): value for name, _, value in pairs}

    @property
    def resolved(self) -> Literal["slurm", "local"]:
        """The cluster that is meant."""
        if self.cluster == "auto":
            return "slurm" if shutil.which("sbatch") else "local"
        return self.cluster

    @property
    def watts(self) -> Watts:
        """Power of its machines."""
        return Watts(per_core=self.watts_per_core, per_gpu=self.watts_per_gpu)

    @property
    def variables(self) -> dict[str, str]:
        """What its jobs find in their environment."""
        if self.remote_cache is None:
            return {}
        return {FOLDER_VARIABLE: self.remote_cache, GIB_VARIABLE: str(self.remote_cache_gib)}

    @property
    def python(self) -> str | None:
        """Words of the shell that start Python in a job; None is the Python that launches."""
        return f"{self.container} python" if self.container else None

    @property
    def array_width(self) -> int:
        """Elements of an array that run at once."""
        default = 32 if self.resolved == "slurm" else max(1, len(os.sched_getaffinity(0)) // 2)
        return self.max_parallel or default

    @property
    def training_ranks_per_node(self) -> int:
        """Training processes per node."""
        gpus = self.gpus_per_node if self.resolved == "slurm" else num_local_gpus()
        return self.ranks_per_node or max(1, gpus)

    def for_cpu_jobs(self) -> Self:
        """The same site for jobs without a GPU."""
        return replace(self, **self.cpu.given)


def read_site(name: str) -> ClusterConfig:
    """The defaults of slurm/<name>.toml, or of the file at the path `name`.

    Raises:
        ConfigurationError: there is no such site, or it has unknown keys or values of another type; the message lists
            the known ones.
    """
    path = Path(name) if name.endswith(".toml") else SITES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(site.stem for site in SITES.glob("*.toml")))
        raise ConfigurationError(f"no site {name!r}: {path} is not there; known sites: {known}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    _require_known(path, values, kind=ClusterConfig, where="")
    cpu = values.pop(_CPU_TABLE, {})
    _require_known(path, cpu, kind=CpuJobs, where=f"[{_CPU_TABLE}] ")
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    try:
        return ClusterConfig(**values | lists, cpu=CpuJobs(**cpu), site=name)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _require_known(path: Path, values: Any, *, kind: type[ClusterConfig | CpuJobs], where: str) -> None:
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: {where.strip()} is {values!r}, expected a table")
    known = {each.name: each for each in fields(kind) if each.name != "site"}
    if unknown := sorted(set(values) - set(known)):
        raise ConfigurationError(
            f"{path}: {where}unknown key(s) {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    for key, value in values.items():
        expected = _toml_type(known[key].type)
        if type(value) is not expected and not (expected is float and type(value) is int) and key != _CPU_TABLE:
            raise ConfigurationError(f"{path}: {where}{key} is {value!r}, expected a {_TYPE_NAMES[expected]}")


_TYPE_NAMES = {int: "whole number", float: "number", str: "text", list: "list of texts"}


def _toml_type(annotation: Any) -> type:
    """What a TOML value of a field has to be."""
    if int in (annotation, *get_args(annotation)):
        return int
    if float in get_args(annotation):
        return float
    return list if annotation == tuple[str, ...] else str


def _require_at_least(least: int, name: str, got: int) -> None:
    if got < least:
        raise ConfigurationError(f"{name} is {got}, expected at least {least}")


def _require_free(options: Mapping[str, str]) -> None:
    """Refuse options of sbatch that are decided elsewhere."""
    if own := sorted(_LAUNCHERS_OWN & options.keys()):
        raise ConfigurationError(
            f"sbatch has {', '.join(own)}, which the launcher sets itself; leave it out (for another cluster set "
            "SLURM_CLUSTERS, which all of Slurm's commands obey)"
        )
    if keyed := sorted(_WITH_A_KEY.keys() & options.keys()):
        keys = ", ".join(_WITH_A_KEY[name] for name in keyed)
        raise ConfigurationError(f"sbatch has {', '.join(keyed)}, which the launcher computes with: set {keys}")


def _require_powers(**powers: float | None) -> None:
    for name, got in powers.items():
        if got is not None and not 0 < got < float("inf"):
            raise ConfigurationError(f"{name} is {got}, expected a power in watts above 0")


def _require_words(name: str, got: str) -> None:
    try:
        shlex.split(got)
    except ValueError as error:
        raise ConfigurationError(f"{name} is {got!r}, expected words of a shell: {error}") from None


def num_local_gpus() -> int:
    """GPUs of this machine, without importing torch."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
