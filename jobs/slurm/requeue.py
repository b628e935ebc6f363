"""When a job on Slurm is queued again, so that it goes on from what is on disk.

A job ends before its work is done in one of three ways, and all that we decide about it is here:

- Slurm sends USR2 before the time limit or a preemption. Submitit queues the job again (`StageTask.checkpoint`), until
  it has met its time limit `max_timeouts` times.
- Slurm announces a preemption by TERM alone. The stage saves its work and ends with `TERMINATED`; Slurm takes that for
  done, so the first rank queues the job again (`queue_again`).
- A process is killed, as where memory runs out. No Python of ours may be left then, so the batch script's last lines,
  which also run outside a container, queue the job again, a few times (`lines_after_the_task`).

The last two ask first whether the job still counts as running: one that somebody cancelled does not.
"""

import os
import shlex
import signal
from pathlib import Path

from bccdist.errors import ClusterError
from bccdist.log import LOG
from jobs.slurm import commands

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a stage that saved its work because it was told to end."""
KILLS_FORGIVEN = 3
"""How often a job of which a process is killed is queued again."""
_STATE_OF = ("squeue", "--noheader", "--format=%T")


def queue_again() -> None:
    """Queue this job again after TERM, or say why not."""
    if reason := no_requeue_reason():
        LOG.info(f"not queued again: {reason}")
        return
    job_id = os.environ["SLURM_JOB_ID"]
    LOG.warning(f"job {job_id} was told to end while it ran: it is queued again")
    try:
        commands.ask("scontrol", "requeue", job_id)
    except ClusterError as error:
        LOG.error(f"job {job_id} is not queued again: {error}")


def no_requeue_reason() -> str:
    """Why this job, which was told to end by TERM, is not to be queued again by this process; empty if it is to be."""
    job_id = os.environ.get("SLURM_JOB_ID")
    if job_id is None:
        return "this is no job of Slurm"
    if (rank := os.environ.get("SLURM_PROCID", "0")) != "0":
        return f"rank 0 does so for all, and this is rank {rank}"
    try:
        told = commands.ask(*_STATE_OF, f"--job={job_id}")
    except ClusterError as error:
        return f"nobody can say whether it was cancelled: {error}"
    if (state := told.strip()) != "RUNNING":
        return f"its state is {state or 'unknown'}, not RUNNING: somebody ended it"
    return ""


def lines_after_the_task(logs: Path) -> list[str]:
    """Shell lines at the end of the batch script: Slurm would give a job up of which one process is killed."""
    return [
        "code=$?",
        "id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}",
        f"kills={shlex.quote(str(logs))}/$id.killed",
        f'if [ $code -gt 128 ] && [ "$({shlex.join(_STATE_OF)} --job="$SLURM_JOB_ID")" = RUNNING ]; then',
        '  echo "a process was killed: exit code $code" >>"$kills"',
        f'  if [ "$(wc -l <"$kills")" -le {KILLS_FORGIVEN} ]; then',
        '    echo "a process was killed (exit code $code): the job is queued again"',
        '    scontrol requeue "$id" && sleep 60',
        "  fi",
        "fi",
        "exit $code",
    ]
