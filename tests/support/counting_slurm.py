"""A Slurm that only counts: it takes jobs, says that all of them run or wait, and notes how it was called."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from jobs.slurm.answers import SEPARATOR

LONGEST_STRING_BYTES = 128 * 1024
"""Linux: the longest single argument or variable of a new process (MAX_ARG_STRLEN)."""
MOST_BYTES = 2 * 1024 * 1024
"""Linux, with a stack of 8 MiB: all arguments and variables of a new process together (ARG_MAX)."""
_SCRIPT = """#!{python} -S
import json, os, sys
folder = {folder!r}
words = sys.argv
strings = [*words, *(f"{{name}}={{value}}" for name, value in os.environ.items())]
call = {{
    "command": os.path.basename(words[0]),
    "words": words[1:],
    "longest": max(map(len, strings)),
    "total": sum(len(each) + 9 for each in strings),
}}
if call["command"] == "sbatch":
    text = open(words[-1]).read()
    call["script_bytes"] = len(text)
    call["options"] = dict(
        line.removeprefix("#SBATCH --").strip().partition("=")[::2]
        for line in text.splitlines() if line.startswith("#SBATCH --")
    )
with open(folder + "/calls.jsonl", "a") as file:
    file.write(json.dumps(call) + "\\n")
calls = [json.loads(line) for line in open(folder + "/calls.jsonl")]
jobs = [each["options"] for each in calls if each["command"] == "sbatch"]
def elements(options):
    if "array" not in options:
        return ["N/A"]
    return [str(each) for each in range(int(options["array"].partition("%")[0].partition("-")[2]) + 1)]
if call["command"] == "sbatch":
    print(f"Submitted batch job {{100 + len(jobs)}}")
elif call["command"] == "squeue":
    for number, options in enumerate(jobs, 101):
        for place, element in enumerate(elements(options)):
            state = "RUNNING" if place < 400 else "PENDING"
            facts = [str(number), element, state, "alice", "2026-01-01T00:00:00", "/users", "None"]
            print({separator!r}.join([*facts, options["job-name"], options["comment"]]))
elif call["command"] == "sacct":
    for number, options in enumerate(jobs, 101):
        for element in elements(options):
            job = str(number) if element == "N/A" else f"{{number}}_{{element}}"
            print(f"{{job}}|COMPLETED|0:0|60|alice|Unknown|{{options['job-name']}}")
elif words[1:] == ["show", "config"]:
    print("MaxArraySize = 1001")
elif words[1:] == ["--version"]:
    print("slurm 22.05.8")
"""
_COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scontrol", "scancel")


@dataclass(frozen=True)
class Call:
    """One call of a command."""

    command: str
    longest: int
    """Bytes of its longest argument or variable."""
    total: int
    """Bytes of all of them, each with its pointer."""
    script_bytes: int = 0
    options: dict[str, str] | None = None


@dataclass(frozen=True)
class CountingSlurm:
    """Its commands lie in `folder`."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "CountingSlurm":
        """Make it."""
        folder.mkdir(parents=True)
        text = _SCRIPT.format(python=sys.executable, folder=str(folder), separator=SEPARATOR)
        for name in _COMMANDS:
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return cls(folder)

    @property
    def variables(self) -> dict[str, str]:
        """With them a command means this Slurm."""
        return {"PATH": f"{self.folder}:{os.environ['PATH']}"}

    def calls(self) -> list[Call]:
        """All calls so far."""
        path = self.folder / "calls.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [Call(**{name: value for name, value in record.items() if name != "words"}) for record in records]
