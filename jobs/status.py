"""How far a study is: `python jobs/status.py STUDY`, and `--retry-failed` to submit what is missing.

Progress is read from the study's folder, the state of jobs from Slurm: from its queue, and its accounting if any.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import tyro

from bccdist.command import run_command
from bccdist.configuration import SETTINGS
from bccdist.durations import as_duration
from bccdist.errors import ClusterError, ConfigurationError
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import Manifest
from bccdist.stages.stage import Stage, StageProgress
from bccdist.stages.table import FINISH_SHARDS, SHARDS, TABLE, TRAINING, in_order
from bccdist.study import manifest_of_study
from jobs.slurm import journal, queue
from jobs.slurm.study_lock import is_held
from jobs.text_columns import in_columns

_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class StatusArguments:
    """Say how far each stage of a study is."""

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of the study."""
    retry_failed: bool = False
    """Let held jobs go, and launch again what is missing and in no queue."""
    json: bool = False
    """Print everything as JSON instead of a table."""
    all: bool = False
    """Name all failures instead of the first few."""


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """One stage: what the folder holds of it, and what its newest job does."""

    stage: Stage
    progress: StageProgress
    state: str
    """done, running, queued, waiting, held, failed, incomplete or not begun."""
    entry: journal.JournalEntry | None = None
    live: Mapping[str, int] = field(default_factory=dict)
    """Elements that wait or run, by Slurm's state."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """Elements that have ended, by Slurm's state."""
    reason: str = ""
    """Why it waits, where Slurm says so."""

    @property
    def is_stuck(self) -> bool:
        """Whether it does not go on by itself."""
        return self.state in {"failed", "incomplete"}

    @property
    def is_live(self) -> bool:
        """Whether something of it waits or runs."""
        return self.state in {"running", "queued", "waiting", "held"}


@dataclass(frozen=True, kw_only=True)
class _Jobs:
    """What Slurm says of the jobs of a study."""

    queued: Sequence[queue.QueuedJob]
    ended: Sequence[queue.EndedJob]
    notes: Sequence[str]
    """What could not be asked."""
    local_launch: bool
    """Whether a launch on local processes is at work."""


def status_of(study_root: Path, table: Sequence[Stage] = TABLE) -> tuple[list[StageStatus], list[str]]:
    """Every stage that was submitted, or of which the folder holds something; and what could not be found out.

    Raises:
        ConfigurationError: the folder is no study.
    """
    manifest = manifest_of_study(study_root)
    paths = StudyPaths(study_root)
    entries = journal.newest(journal.read(paths.journal, table))
    jobs = _ask_slurm(paths, list(entries.values()))
    trained = [replace(TRAINING, setting=setting) for setting in SETTINGS if paths.run(setting).root.exists()]
    stages = in_order(dict.fromkeys([*entries, *trained, SHARDS, FINISH_SHARDS]), table)
    return [_stage_status(paths, manifest, stage, entries.get(stage), jobs) for stage in stages], list(jobs.notes)


def _ask_slurm(paths: StudyPaths, entries: Sequence[journal.JournalEntry]) -> _Jobs:
    ids = [entry.job_id for entry in entries if entry.cluster == "slurm"]
    notes: list[str] = []
    queued: list[queue.QueuedJob] = []
    ended: list[queue.EndedJob] = []
    if ids:
        try:
            queued = [job for job in queue.queued_jobs(patience_s=0.0) if job.job_id in ids]
        except ClusterError as error:
            notes.append(f"the queue is not known: {error}")
        told = queue.ended_jobs(ids)
        if told is None:
            notes.append("the accounting is not known: sacct does not answer, or is not there")
        ended = told or []
    return _Jobs(queued=queued, ended=ended, notes=notes, local_launch=is_held(paths.launch_lock))


def _stage_status(
    paths: StudyPaths, manifest: Manifest, stage: Stage, entry: journal.JournalEntry | None, jobs: _Jobs
) -> StageStatus:
    since_s = None if entry is None else datetime.fromisoformat(entry.submitted_at).timestamp()
    progress = stage.progress(paths, manifest, since_s=since_s)
    if entry is None:
        return StageStatus(stage=stage, progress=progress, state=_state_at_rest(progress, was_submitted=False))
    is_ours = entry.cluster == "slurm"
    live = [job for job in jobs.queued if is_ours and job.job_id == entry.job_id]
    elements = {job.element for job in live}
    # An element that was queued again stands in the accounting, too: what it does now counts.
    ended = [job for job in jobs.ended if is_ours and job.job_id == entry.job_id and job.element not in elements]
    if live:
        state = _state_in_queue(live)
    elif entry.cluster == "local" and jobs.local_launch and not progress.is_whole:
        state = "running"
    # Without the queue's word a job may still be at work, so nothing is said to have failed.
    elif any(note.startswith("the queue") for note in jobs.notes) and not progress.is_whole:
        state = "unknown"
    else:
        state = _state_at_rest(progress, was_submitted=True)
    return StageStatus(
        stage=stage,
        progress=progress,
        state=state,
        entry=entry,
        live=Counter(job.state for job in live),
        ended=Counter(job.state for job in ended),
        reason=next((job.reason for job in live if job.state == "PENDING"), ""),
    )


def _state_in_queue(live: Sequence[queue.QueuedJob]) -> str:
    if any(job.state != "PENDING" for job in live):
        return "running"
    if any(job.is_held for job in live):
        return "held"
    return "waiting" if any("Dependency" in job.reason for job in live) else "queued"


def _state_at_rest(progress: StageProgress, *, was_submitted: bool) -> str:
    """The state of a stage of which nothing waits or runs."""
    if progress.is_whole:
        return "done"
    if progress.failures or (was_submitted and not progress.num_done):
        return "failed"
    return "incomplete" if was_submitted or progress.num_done else "not begun"


def table_of(stages: Sequence[StageStatus]) -> list[str]:
    """A line per stage."""
    rows = [("stage", "state", "done", "failed", "ends in", "jobs", "")]
    for stage in stages:
        progress = stage.progress
        total = "?" if progress.num_total is None else str(progress.num_total)
        eta = as_duration(progress.eta_s) if stage.state == "running" and progress.eta_s else "-"
        failed = str(len(progress.failures)) if progress.failures else "-"
        rows.append(
            (
                stage.stage.name,
                stage.state,
                f"{progress.num_done}/{total}",
                failed,
                eta,
                _jobs_text(stage),
                _detail(stage),
            )
        )
    return in_columns(rows)


def _jobs_text(stage: StageStatus) -> str:
    if stage.entry is None:
        return "-"
    counts = Counter(stage.live) + Counter(stage.ended)
    words = ", ".join(f"{num} {state}" if stage.entry.num_elements > 1 else state for state, num in counts.items())
    return f"{stage.entry.job_id} {words}".strip() if stage.entry.cluster == "slurm" else "local"


def _detail(stage: StageStatus) -> str:
    words = [stage.progress.detail, stage.reason if stage.state in {"queued", "held"} else ""]
    if stage.progress.at_work:
        verb = "at work" if stage.is_live else "left in the middle"
        words.append(f"{verb}: {_some(stage.progress.at_work)}")
    return "; ".join(filter(None, words))


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + rest


def failure_lines(stages: Sequence[StageStatus], *, all_of_them: bool) -> list[str]:
    """Why slides failed, the first few of each stage."""
    lines = []
    for stage in stages:
        failures = list(stage.progress.failures.items())
        shown = failures if all_of_them else failures[:_MOST_NAMED]
        lines += [f"  {stage.stage.name}, {slide_id}: {reason}" for slide_id, reason in shown]
        if len(shown) < len(failures):
            lines.append(f"  {stage.stage.name}: {len(failures) - len(shown)} more; --all names them")
    return ["failures:", *lines] if lines else []


def closing_lines(stages: Sequence[StageStatus], study: Path) -> list[str]:
    """What to do about what does not go on by itself."""
    lines = []
    if held := [stage.entry.job_id for stage in stages if stage.state == "held" and stage.entry]:
        lines.append(f"held by Slurm, as after a node that failed: {', '.join(held)}; --retry-failed lets them go")
    stuck = [stage for stage in stages if stage.is_stuck]
    lines += [f"logs of {stage.stage.name}: {study / stage.entry.logs}" for stage in stuck if stage.entry]
    if stuck and any(map(_command_of, stuck)):
        lines.append(f"`python jobs/status.py {study} --retry-failed` launches again what is missing")
    return [*lines, *_by_hand(stuck)]


def _by_hand(stuck: Sequence[StageStatus]) -> list[str]:
    """What is to be said of stages that no command line can be repeated for."""
    names = [stage.stage.name for stage in stuck if not _command_of(stage)]
    return [f"not launched from a command line, so launch again as before: {', '.join(names)}"] if names else []


def _command_of(stage: StageStatus) -> tuple[str, ...]:
    """The command line that launched a stage; empty where none did, as from Python or by hand."""
    return () if stage.entry is None else stage.entry.command


def as_json(stages: Sequence[StageStatus], notes: Sequence[str]) -> dict[str, Any]:
    """All that is known of a study's stages, for programs."""
    return {
        "stages": [
            {
                **asdict(stage.progress),
                "stage": stage.stage.name,
                "fields": stage.stage.fields,
                "state": stage.state,
                "job": None if stage.entry is None else stage.entry.as_json,
                "live_elements": dict(stage.live),
                "ended_elements": dict(stage.ended),
                "reason": stage.reason,
            }
            for stage in stages
        ],
        "notes": list(notes),
    }


def retry(stages: Sequence[StageStatus], study: Path) -> None:
    """Let held jobs go, and call again, for what is missing, the launchers of stages that do not go on by themselves.

    Raises:
        ConfigurationError: nobody knows how a stage was launched, or a launcher refuses.
    """
    if held := [stage.entry.job_id for stage in stages if stage.state == "held" and stage.entry]:
        queue.release(held)
        print(f"let go: {', '.join(held)}", flush=True)
    stuck = [stage for stage in stages if stage.is_stuck]
    entries = sorted((stage.entry for stage in stuck if stage.entry), key=lambda entry: entry.submitted_at)
    commands = {journal.again_for(entry.command, study): entry.folder for entry in entries if entry.command}
    by_hand = "\n".join(_by_hand(stuck))
    if by_hand and not commands:
        raise ConfigurationError(by_hand)
    if not commands:
        print("nothing failed that is in no queue; nothing is launched", flush=True)
    elif by_hand:
        print(by_hand, flush=True)
    for words, folder in commands.items():
        print(f"again, for what is missing: {' '.join(words)}", flush=True)
        if subprocess.run([sys.executable, *words, "--only-missing"], cwd=folder, check=False).returncode:
            raise ConfigurationError("the launcher refused; see above")


def main(arguments: StatusArguments) -> int:
    """Print the status; 1 if something failed that is in no queue."""
    study = arguments.study.resolve()
    stages, notes = status_of(study)
    if arguments.json:
        print(json.dumps(as_json(stages, notes), indent=2))
    else:
        lines = [*table_of(stages), *failure_lines(stages, all_of_them=arguments.all), *notes]
        print("\n".join([*lines, *closing_lines(stages, arguments.study)]))
    if arguments.retry_failed:
        retry(stages, study)
        return 0
    return int(any(stage.is_stuck for stage in stages))


if __name__ == "__main__":
    run_command(lambda: main(tyro.cli(StatusArguments)))
