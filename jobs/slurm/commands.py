"""The one place where commands of Slurm are started: in a clean environment, and never for longer than a limit.

Slurm's commands read options from the environment (SQUEUE_STATES hides jobs, SACCT_FORMAT changes columns,
SBATCH_PARTITION overrides what a script says), and a job inherits the SLURM_* of a job that submits it. What we ask
is in our words alone, so nothing of this is passed on, but which Slurm is meant.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from bccdist.errors import ClusterError

LIMIT_S = 20.0
"""How long a command may take, unless told otherwise; Slurm's own patience with its controller is 10 s."""
SLURMS_PREFIXES = (
    *("SLURM_", "SLURMD_", "SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SINFO_"),
    *("SSTAT_", "SUBMITIT_", "PMI_", "PMI2_", "PMIX_", "_SLURM_SPANK_"),
)
"""Names of variables that options of Slurm's commands and facts of a running job begin with."""
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_SACK_SOCKET", "SLURM_SACK_KEY", "SLURM_SACK_JWKS")
"""Which Slurm is meant, and the leave to ask it."""
DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")
"""What Slurm sets for a job that has GPUs: within a job they are that job's."""
_MOST_QUOTED = 200
_FAREWELL_S = 1.0
"""How long we wait for a command that was killed; one that hangs in a dead file system never ends."""


class SlurmCommandError(ClusterError):
    """A command of Slurm is not there, failed, or did not answer in time."""

    def __init__(self, message: str, *, said: str = "", in_time: bool = True) -> None:
        super().__init__(message)
        self.said = said
        """What the command wrote."""
        self.in_time = in_time
        """Whether it ended by itself."""


def is_slurms(name: str) -> bool:
    """Whether a variable gives options to Slurm's commands, or says what a running job is."""
    return name.startswith(SLURMS_PREFIXES) and name not in KEPT


def without_slurms(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what Slurm's commands and jobs would take from it."""
    devices = DEVICES if "SLURM_JOB_ID" in environment else ()
    return {name: value for name, value in environment.items() if not is_slurms(name) and name not in devices}


def ask(*words: str, limit_s: float = LIMIT_S) -> str:
    """What a command of Slurm writes to its standard output, whatever stands in the environment.

    Raises:
        SlurmCommandError: it is not there, failed, or took longer than `limit_s`.
    """
    try:
        process = subprocess.Popen(
            words,
            env=without_slurms(os.environ),
            stdin=subprocess.DEVNULL,  # a site's wrapper that asks something gets no answer
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,  # a site's wrapper ends with what it started
        )
    except FileNotFoundError:
        raise SlurmCommandError(f"{words[0]} is not found: is this machine part of a Slurm site?") from None
    except OSError as error:
        raise SlurmCommandError(f"{words[0]} cannot be started: {error}") from error
    try:
        told, complaint = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        message = f"`{' '.join(words)}` has not answered within {limit_s:g} s"
        raise SlurmCommandError(message, in_time=False) from None
    finally:
        _end(process)
    if process.returncode != 0:
        said = (complaint or told).strip() or f"exit code {process.returncode}"
        raise SlurmCommandError(f"`{' '.join(words)}` failed: {said}", said=said)
    return told


def ask_json(*words: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """What a command of Slurm writes, read as the JSON that `--json` among its words asks for.

    Raises:
        SlurmCommandError: as of `ask`; or what it wrote holds no JSON object, as where Slurm was built without it.
    """
    told = ask(*words, limit_s=limit_s)
    # A site's wrapper may greet before it.
    for brace in re.finditer(r"^\{", told, re.MULTILINE):
        with suppress(ValueError):
            found, _ = json.JSONDecoder().raw_decode(told, brace.start())
            return dict(found)
    said = told[:_MOST_QUOTED].strip()
    raise SlurmCommandError(f"`{' '.join(words)}` wrote something else than JSON: {said or 'nothing'}", said=said)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a command and of what it started, where it was not heard to its end."""
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None and not stream.closed]
    if not streams:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_FAREWELL_S)
    for stream in streams:
        stream.close()
