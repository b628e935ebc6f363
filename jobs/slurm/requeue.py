"""When a job on Slurm is queued again, so that it goes on from what is on disk.

The batch script decides, and nothing else does: it is the job, by the number that Slurm gave to it, it is there where
a rank hangs or was killed, and it has Slurm's commands where a container has none. A task saves its work and ends.

- Slurm sends USR2 to the batch script before the time limit or a preemption, and the script hands it on to the ranks.
  They end with `WARNED` once their work is saved; who has not ended shortly before the end comes is given up. The job
  is queued again, until it has met its time limit `max_timeouts` times.
- Slurm announces a preemption by TERM alone. The ranks end with `SAVED`, and the job is queued again.
- A process is killed, as where memory runs out, and srun ends the others by TERM. The job is queued again, a few
  times.

A job that does not count as running anymore was cancelled by somebody, and is not queued again.
"""

import shlex
import signal
from pathlib import Path

WARNED = 128 + signal.SIGUSR2
"""Exit code of a task that ended because of the warning before a time limit or a preemption."""
SAVED = 200
"""Exit code of a task that saved its work and ended because it got TERM.

Of several ranks srun gives the largest code, so this one is above all that stand for a signal: a rank that srun itself
ends, because another one was killed, gives 143.
"""
KILLS_FORGIVEN = 3
"""How often a job of which a process is killed is queued again."""
_BY_A_PERSON = (128 + signal.SIGINT, 128 + signal.SIGHUP)
"""Exit codes of tasks that somebody interrupted."""
_EARLIER_S = 90
"""Slurm's warning comes up to a minute early, and the script begins a little after its time limit."""
_LONGEST_MARGIN_S = 30
_TRIES = 12
_PAUSE_S = 5


def lines_before_the_task() -> list[str]:
    """Shell lines at the beginning of the batch script: a warning may come before there is a task to tell."""
    return [
        "bccdist_told= bccdist_ranks= bccdist_timer= bccdist_kind=",
        "bccdist_tell() {",
        "  bccdist_told=$1",
        '  [ -z "$bccdist_ranks" ] || kill -s "$1" "$bccdist_ranks" 2>/dev/null',
        "}",
        "trap 'bccdist_tell USR2' USR2",
        "trap 'bccdist_tell TERM' TERM",
    ]


def lines_after_the_task(
    logs: Path, *, is_array: bool, timeout_min: int, signal_delay_s: int, max_timeouts: int, leave: str = "exit"
) -> list[str]:
    """Shell lines at the end of the batch script; the line before them started the ranks in the background.

    Args:
        logs: folder of the counts of what ended the job so far.
        is_array: whether this is an element of an array.
        timeout_min: time limit of the job.
        signal_delay_s: how long before it the warning comes.
        max_timeouts: how often it may run into it.
        leave: what ends the script with a code where the job is done or given up (jobs.slurm.hook).
    """
    # The variables of an array are also those of the element that somebody may have submitted this from.
    job = '"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"' if is_array else '"$SLURM_JOB_ID"'
    patience_s = signal_delay_s - min(_LONGEST_MARGIN_S, max(1, signal_delay_s // 4))
    by_a_person = " || ".join(f"[ $code -eq {code} ]" for code in _BY_A_PERSON)
    return [
        "bccdist_ranks=$!",
        "set +eu",  # a site's setup lines may have set them
        f"bccdist_job={job}",
        f'bccdist_counts={shlex.quote(str(logs))}/"$bccdist_job"',
        # It came before there were ranks, and one that has only just been started does not hear it.
        '[ -z "$bccdist_told" ] || { sleep 1; kill -s "$bccdist_told" "$bccdist_ranks" 2>/dev/null; }',
        'while kill -0 "$bccdist_ranks" 2>/dev/null; do',
        '  if [ "$bccdist_told" = USR2 ] && [ -z "$bccdist_timer" ]; then',
        f"    (sleep {patience_s}",
        f'      echo "the ranks have not ended within {patience_s} s after the warning: they are given up"',
        '      kill -s KILL "$bccdist_ranks") 2>/dev/null &',
        "    bccdist_timer=$!",
        "  fi",
        '  wait "$bccdist_ranks"',  # a signal that was trapped ends it, too
        "done",
        'wait "$bccdist_ranks"',
        "code=$?",
        '[ -z "$bccdist_timer" ] || kill "$bccdist_timer" 2>/dev/null',
        f"if [ $code -le 128 ] || {by_a_person}; then {leave} $code; fi",
        f'if [ "$bccdist_told" = USR2 ] || [ $code -eq {WARNED} ]; then',
        '  bccdist_why="it was warned that its time ends"',
        f"  if [ $SECONDS -ge {60 * timeout_min - signal_delay_s - _EARLIER_S} ]; then",
        f'    bccdist_kind=timeouts bccdist_most={max_timeouts} bccdist_why="it met its time limit"',
        "  fi",
        f'elif [ "$bccdist_told" = TERM ] || [ $code -eq {SAVED} ]; then',
        '  bccdist_why="it was told to end"',
        "else",
        f'  bccdist_kind=killed bccdist_most={KILLS_FORGIVEN} bccdist_why="a process was killed (exit code $code)"',
        "fi",
        "unset ${!SQUEUE_*} ${!SCONTROL_*}",  # a profile's, which change what these commands say
        f"for bccdist_try in {{1..{_TRIES}}}; do",
        '  bccdist_state=$(squeue --noheader --states=all --format=%T --job="$bccdist_job") && break',
        f"  sleep {_PAUSE_S}",
        "done",
        'if [ "$bccdist_state" != RUNNING ]; then',
        '  echo "$bccdist_why; not queued again: its state is ${bccdist_state:-unknown}, not RUNNING"',
        "  exit $code",
        "fi",
        'if [ -n "$bccdist_kind" ]; then',
        '  echo "$bccdist_why" >>"$bccdist_counts.$bccdist_kind"',
        '  if [ "$(wc -l <"$bccdist_counts.$bccdist_kind")" -gt "$bccdist_most" ]; then',
        '    echo "$bccdist_why, more often than $bccdist_most times: not queued again"',
        f"    {leave} $code",
        "  fi",
        "fi",
        'echo "$bccdist_why: the job is queued again"',
        "trap - USR2 TERM",  # Slurm ends this script now
        f"for bccdist_try in {{1..{_TRIES}}}; do",
        '  scontrol requeue "$bccdist_job" && sleep 60 && exit $code',
        f"  sleep {_PAUSE_S}",
        "done",
        f"{leave} $code",
    ]
