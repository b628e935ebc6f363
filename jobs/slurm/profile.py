"""What the shell's environment says to Slurm, against what flags and site say.

sbatch lets its environment (SBATCH_PARTITION, SBATCH_EXPORT, ...) override what a script says, so a line in somebody's
profile would override the flags of a launch. Here a flag wins, then the site, then the profile where it names the few
things below; all else of the profile is left out, and said aloud.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bccdist.errors import ConfigurationError
from jobs.slurm.commands import without_slurms
from jobs.slurm.sites import ClusterConfig

_TAKEN = {
    "SBATCH_PARTITION": "partition",
    "SBATCH_ACCOUNT": "account",
    "SBATCH_QOS": "qos",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_RESERVATION": "reservation",
    "SBATCH_WCKEY": "wckey",
}
"""What a profile may say where neither a flag nor the site does: where jobs run, and who pays."""


def with_profile(cluster: ClusterConfig, environment: Mapping[str, str]) -> tuple[ClusterConfig, list[str]]:
    """The cluster with what the profile adds to it, and a sentence for each thing that is or is not taken from there.

    Raises:
        ConfigurationError: SLURM_CLUSTERS names more than one cluster.
    """
    _require_one_cluster(environment.get("SLURM_CLUSTERS", ""))
    given = {name: environment[name] for name in sorted(environment) if name.startswith("SBATCH_")}
    free = {
        name: option
        for name, option in _TAKEN.items()
        if given.get(name) and getattr(cluster, option, None) is None and option not in cluster.sbatch_options
    }
    said = [
        f"{option}={value} of the site's `sbatch` is left out: {option} is {getattr(cluster, option)}"
        for option, value in cluster.sbatch_options.items()
        if option in _TAKEN.values() and getattr(cluster, option, None) is not None
    ]
    said += [
        f"{name}={given[name]} of your environment is used: neither a flag nor the site says {free[name]}"
        for name in free
    ]
    if left := [f"{name}={value}" for name, value in given.items() if name not in free]:
        said.append(
            f"left out of your environment, as flags, site and launcher decide: {', '.join(left)}; what jobs need of "
            "it belongs into a flag or the site's file"
        )
    if job_id := environment.get("SLURM_JOB_ID"):
        num = len(environment.keys() - without_slurms(environment).keys() - given.keys())
        said.append(f"launched inside Slurm's job {job_id}: {num} variables of that job are not passed on")
    taken = {option: given[name] for name, option in free.items()}
    keys: dict[str, Any] = {option: value for option, value in taken.items() if hasattr(cluster, option)}
    others = (f"{option}={value}" for option, value in taken.items() if option not in keys)
    return replace(cluster, sbatch=(*cluster.sbatch, *others), **keys), said


def _require_one_cluster(clusters: str) -> None:
    if "," in clusters or clusters.strip().lower() == "all":
        raise ConfigurationError(
            f"SLURM_CLUSTERS is {clusters!r}, expected one cluster: jobs of a study wait for one another, and those "
            "of several clusters cannot; set it to one, or unset it"
        )
