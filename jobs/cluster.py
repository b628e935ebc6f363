"""Where jobs run: Slurm or local processes, through submitit."""

import os
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

import submitit

from bccdist.errors import ConfigurationError
from jobs.task import StageTask

SITES = Path(__file__).resolve().parent.parent / "slurm"
Jobs = list[submitit.Job[None]]
Dependency = Literal["afterok", "afterany"]


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Where and how large; a site file in slurm/ sets the defaults, flags override them."""

    cluster: Literal["auto", "slurm", "local"] = "auto"
    """auto: Slurm where sbatch is found, else local processes."""
    site: str | None = None
    """Name of a file in slurm/, without .toml."""
    partition: str | None = None
    """Slurm's partition."""
    account: str | None = None
    """Slurm's account."""
    qos: str | None = None
    """Slurm's quality of service."""
    constraint: str | None = None
    """Slurm's node features."""
    nodes: int = 1
    """Nodes for training."""
    gpus_per_node: int = 4
    """GPUs, and so ranks, per node for training on Slurm; 0 trains on CPUs. Locally the GPUs that are there."""
    ranks_per_node: int | None = None
    """Training processes per node; None is one per GPU, and one where there is no GPU."""
    cpus_per_rank: int = 8
    """CPU cores for each process."""
    mem_gib_per_rank: int = 32
    """Memory for each process."""
    timeout_min: int = 24 * 60
    """Time limit of a job."""
    max_parallel: int | None = None
    """Elements of an array that run at once; None is 32 on Slurm and one per two cores locally."""

    @property
    def resolved(self) -> Literal["slurm", "local"]:
        """The cluster that is meant."""
        if self.cluster == "auto":
            return "slurm" if shutil.which("sbatch") else "local"
        return self.cluster

    @property
    def array_width(self) -> int:
        """Elements of an array that run at once."""
        default = 32 if self.resolved == "slurm" else max(1, len(os.sched_getaffinity(0)) // 2)
        return self.max_parallel or default

    @property
    def training_ranks_per_node(self) -> int:
        """Training processes per node."""
        gpus = self.gpus_per_node if self.resolved == "slurm" else _num_local_gpus()
        return self.ranks_per_node or max(1, gpus)

    def with_threads(self, task: StageTask, *, num_processes: int) -> StageTask:
        """The task with its share of this machine's cores; on Slurm the scheduler deals them out."""
        if self.resolved == "slurm":
            return task
        return replace(task, threads=max(1, len(os.sched_getaffinity(0)) // num_processes))


def read_site(name: str) -> ClusterConfig:
    """The defaults of slurm/<name>.toml.

    Raises:
        ConfigurationError: there is no such site, or it has unknown keys; the message lists the known ones.
    """
    path = SITES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(site.stem for site in SITES.glob("*.toml")))
        raise ConfigurationError(f"no site {name!r} in {SITES}; known sites: {known}")
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    known_keys = {field.name for field in fields(ClusterConfig)} - {"site"}
    if unknown := sorted(set(values) - known_keys):
        raise ConfigurationError(
            f"{path}: unknown key(s) {', '.join(unknown)}; known: {', '.join(sorted(known_keys))}"
        )
    return ClusterConfig(**values, site=name)


def submit_training(task: StageTask, config: ClusterConfig, logs: Path, *, after: Jobs) -> Jobs:
    """One job of nodes x ranks."""
    ranks = config.training_ranks_per_node
    executor = _executor(config, logs, task.name, after, ranks=ranks, nodes=config.nodes, gpus=config.gpus_per_node)
    return [executor.submit(config.with_threads(task, num_processes=ranks))]


def submit_single(task: StageTask, config: ClusterConfig, logs: Path, *, after: Jobs) -> Jobs:
    """One job of one process without a GPU.

    It runs whatever becomes of the jobs before it: it works on what there is, and refuses if that is not enough.
    """
    return [
        _executor(config, logs, task.name, after, dependency="afterany").submit(
            config.with_threads(task, num_processes=1)
        )
    ]


def submit_array(tasks: Sequence[StageTask], config: ClusterConfig, logs: Path, *, after: Jobs, gpus: int = 0) -> Jobs:
    """One array; each element is a process of its own with `gpus` GPUs."""
    executor = _executor(config, logs, tasks[0].name, after, gpus=gpus)
    threaded = [config.with_threads(task, num_processes=len(tasks)) for task in tasks]
    return cast("Jobs", executor.map_array(_run, threaded))


def _run(task: StageTask) -> None:
    task()


def _executor(
    config: ClusterConfig,
    logs: Path,
    name: str,
    after: Jobs,
    *,
    ranks: int = 1,
    nodes: int = 1,
    gpus: int = 0,
    dependency: Dependency = "afterok",
) -> submitit.AutoExecutor:
    if config.resolved == "slurm" and not shutil.which("srun"):
        raise ConfigurationError(
            "--cluster slurm, but srun is not found: this machine is no part of a Slurm site; "
            "give --cluster local, or log in where sbatch and srun are"
        )
    executor = submitit.AutoExecutor(folder=logs / "%j", cluster=config.resolved)
    parameters: dict[str, Any] = {
        "name": name,
        "nodes": nodes,
        "tasks_per_node": ranks,
        "gpus_per_node": min(gpus, _num_local_gpus()) if config.resolved == "local" else gpus,
        "timeout_min": config.timeout_min,
        "stderr_to_stdout": True,
    }
    if config.resolved == "slurm":
        parameters |= _slurm_parameters(config, after, ranks=ranks, dependency=dependency)
    executor.update_parameters(**parameters)
    return executor


def _slurm_parameters(config: ClusterConfig, after: Jobs, *, ranks: int, dependency: Dependency) -> dict[str, Any]:
    named = {key: getattr(config, key) for key in ("partition", "account", "qos", "constraint")}
    parameters: dict[str, Any] = {f"slurm_{key}": value for key, value in named.items() if value is not None}
    parameters |= {
        "cpus_per_task": config.cpus_per_rank,
        "mem_gb": config.mem_gib_per_rank * ranks,
        "slurm_array_parallelism": config.array_width,
        "slurm_signal_delay_s": 120,
    }
    if after:
        ids = ":".join(sorted({str(job.job_id).split("_")[0] for job in after}))
        parameters["slurm_dependency"] = f"{dependency}:{ids}"
        parameters["slurm_additional_parameters"] = {"kill_on_invalid_dep": "yes"}
    return parameters


def _num_local_gpus() -> int:
    """GPUs of this machine, without importing torch."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
