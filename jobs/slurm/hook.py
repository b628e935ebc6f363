"""The site's hook: one message for each launch, when something of it first fails or when all of it has ended.

On Slurm nobody of ours stays, so the jobs tell. A batch script that gives its job up claims a file of the launch and
calls the hook; it is there where a process was killed, and not within a container. A small job that waits for all
others calls it where none of them did: at the end, and where a job was cancelled or went down with its node and could
say nothing. Locally the launcher calls it.

The hook is a line of shell. It gets the message as text at its standard input, and as JSON in BCCDIST_SUMMARY. One
that fails, takes longer than `LIMIT_S` or is not there costs a warning and nothing else.
"""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bccdist.log import LOG

LIMIT_S = 60
"""How long a hook may take."""
VARIABLE = "BCCDIST_SUMMARY"
LEAVE = "bccdist_leave"
"""Ends the batch script of a job with an exit code, in the place of `exit`."""
Outcome = Literal["done", "failed", "incomplete", "stopped"]
"""incomplete: some jobs ended without a word. stopped: the launcher was told to end, or could not go on."""
_TRIES, _PAUSE_S = 5, 15
"""How often and how long a file that another node has just written is looked for."""


@dataclass(frozen=True, kw_only=True)
class EndedStage:
    """A stage that was submitted, for the message at the end."""

    name: str
    job_id: str
    num_elements: int
    logs: Path
    """Folder in which each of its jobs leaves a file once it has ended well."""


@dataclass(frozen=True, kw_only=True)
class Hook:
    """The hook of one launch on Slurm."""

    command: str
    """Line of shell, from the site."""
    study: Path
    folder: Path
    """Of this launch alone; it holds who told, and the script of the job at the end."""

    def lines_of_a_job(self, stage: str, logs: Path) -> list[str]:
        """Shell lines that define `LEAVE` for a stage's batch script, which sets bccdist_job and bccdist_counts."""
        content = _content(self.study, "failed", stage=stage, job="@JOB@", logs=str(logs), exit_code="@CODE@")
        line = f"{stage} failed (job @JOB@, exit code @CODE@); logs in {logs}"
        return [
            *self._call_lines(),
            f"{LEAVE}() {{",
            '  if [ "$1" -eq 0 ]; then',
            '    : >"$bccdist_counts.done"',
            f"  elif (set -C; : >{self._quoted('claimed')}) 2>/dev/null; then",  # -C: one job alone can make it
            f"    bccdist_text={shlex.quote(_text(self.study, line))}",
            f"    bccdist_json={shlex.quote(json.dumps(content))}",
            "    bccdist_text=${bccdist_text//@JOB@/$bccdist_job} bccdist_json=${bccdist_json//@JOB@/$bccdist_job}",
            "    bccdist_text=${bccdist_text//@CODE@/$1} bccdist_json=${bccdist_json//@CODE@/$1}",
            '    bccdist_call_hook "$bccdist_text" "$bccdist_json"',
            "  fi",
            '  exit "$1"',
            "}",
        ]

    def script_at_the_end(
        self, stages: Sequence[EndedStage], *, options: Mapping[str, Any], setup: Sequence[str] = ()
    ) -> str:
        """The batch script of the job that waits for all others.

        Args:
            stages: what was submitted by this launch.
            options: of sbatch; True is one without a value.
            setup: the site's lines.
        """
        done, lacks = _content(self.study, "done"), _content(self.study, "incomplete")
        all_well = f"ended, all of it done: {', '.join(each.name for each in stages)}"
        not_well = "ended, and not all of it well. Cancelled, gone with its node, or never begun: "
        lines = [
            "#!/bin/bash",
            *(
                f"#SBATCH --{name}{'' if value is True else f'={shlex.quote(str(value))}'}"
                for name, value in options.items()
            ),
            *setup,
            "set +eu",
            *self._call_lines(),
            "bccdist_look_at() {",  # stage, job, elements, folder
            "  bccdist_num=$(find \"$4\" -maxdepth 1 -name '*.done' 2>/dev/null | wc -l)",
            '  bccdist_one=\'{"stage": "%s", "job": "%s", "num_elements": %d, "num_done": %d}\'',
            '  printf -v bccdist_one "$bccdist_one" "$1" "$2" "$3" "$bccdist_num"',
            '  bccdist_json+="${bccdist_json:+, }$bccdist_one"',
            '  [ "$bccdist_num" -lt "$3" ] || return 0',
            '  bccdist_lacks+="${bccdist_lacks:+; }$1 (job $2), $((bccdist_num)) of $3 ended well"',
            "}",
            f"for bccdist_try in {{1..{_TRIES}}}; do",
            f"  [ ! -e {self._quoted('told')} ] || exit 0",
            "  bccdist_json= bccdist_lacks=",
            *(
                f"  bccdist_look_at {each.name} {each.job_id} {each.num_elements} {shlex.quote(str(each.logs))}"
                for each in stages
            ),
            '  [ -n "$bccdist_lacks" ] || break',
            # What another node has just written is seen late on a shared file system.
            f"  [ $bccdist_try -eq {_TRIES} ] || sleep {_PAUSE_S}",
            "done",
            'if [ -z "$bccdist_lacks" ]; then',
            f"  bccdist_text={shlex.quote(_text(self.study, all_well))}",
            f"  bccdist_start={shlex.quote(_open(done))}",
            "else",
            f"  bccdist_text={shlex.quote(_text(self.study, not_well + '@LACKS@'))}",
            "  bccdist_text=${bccdist_text//@LACKS@/$bccdist_lacks}",
            f"  bccdist_start={shlex.quote(_open(lacks))}",
            "fi",
            'bccdist_call_hook "$bccdist_text" "$bccdist_start[$bccdist_json]}"',
        ]
        return "\n".join(lines) + "\n"

    def _call_lines(self) -> list[str]:
        """Shell lines that define the call of the hook, with the text and the JSON."""
        return [
            "bccdist_call_hook() {",
            "  set +o pipefail",  # a hook need not read its text
            f'  printf \'%s\\n\' "$1" | {VARIABLE}="$2" timeout -k 5 {LIMIT_S} sh -c {shlex.quote(self.command)} ||',
            f'    echo "WARNING: the hook failed, is not there, or took longer than {LIMIT_S} s"',
            f"  : >{self._quoted('told')}",
            "}",
        ]

    def _quoted(self, name: str) -> str:
        return shlex.quote(str(self.folder / name))


def tell(command: str, study: Path, outcome: Outcome, line: str, **more: Any) -> None:
    """Call a hook now.

    Args:
        command: line of shell.
        study: folder of the study.
        outcome: what became of the launch.
        line: the same in words.
        more: further values of the JSON.
    """
    environment = os.environ | {VARIABLE: json.dumps(_content(study, outcome, **more))}
    try:
        process = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, env=environment, process_group=0)
    except OSError as error:
        LOG.warning(f"the hook cannot be started: {error}")
        return
    try:
        process.communicate(f"{_text(study, line)}\n".encode(), timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        LOG.warning(f"the hook has not ended within {LIMIT_S} s and is ended: {command}")
    except OSError as error:
        LOG.warning(f"the hook did not take its message: {error}")
    else:
        if process.returncode:
            LOG.warning(f"the hook failed with exit code {process.returncode}: {command}")
        return
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _content(study: Path, outcome: Outcome, **more: Any) -> dict[str, Any]:
    return {"study": str(study), "outcome": outcome, **more}


def _open(content: Mapping[str, Any]) -> str:
    """JSON up to the value of its last key, `stages`."""
    return f'{json.dumps(content)[:-1]}, "stages": '


def _text(study: Path, line: str) -> str:
    return f"bccdist: {study.name}: {line}\n`python jobs/status.py {study}` says more"
