"""How far a study is: `python jobs/status.py STUDY`, and `--retry-failed` to submit what is missing.

Progress is read from the study's folder, the state of jobs from Slurm: from its queue, and its accounting if any.
"""

import gc
import json
import re
import shlex
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from bccdist.command import run_command
from bccdist.configuration import SETTINGS
from bccdist.durations import as_duration
from bccdist.errors import ClusterError, ConfigurationError, EventLogError, first_of
from bccdist.files import as_given
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import Manifest
from bccdist.stages.costs import Cost, costs_of, heading_and_rows, notes_on
from bccdist.stages.stage import Stage, StageProgress
from bccdist.stages.table import FINISH_SHARDS, SHARDS, TABLE, TRAINING, in_order
from bccdist.study import manifest_of_study, note_on_manifest, refuse_address
from bccdist.usage import read_records
from jobs.slurm import journal, local_processes, marks, queue
from jobs.slurm.answers import UNKNOWN, Accounting, EndedJob, Queue, QueuedJob
from jobs.slurm.commands import SlurmCommandError
from jobs.slurm.study_lock import holder_of, user_name
from jobs.text_columns import in_columns

_MOST_NAMED = 5
_MOST_QUOTED = 120


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
    """One of done, running, queued, waiting, held, failed, stopped, out of date, incomplete, not begun, unknown.

    failed: a job or a slide failed. stopped: somebody or something ended it before its end. incomplete: its jobs
    have ended, or it was never submitted, and something is missing. unknown: who could say it did not answer."""
    entry: journal.JournalEntry | None = None
    live: Mapping[str, int] = field(default_factory=dict)
    """Elements that wait or run, by Slurm's state."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """Elements that have ended, by Slurm's state."""
    reason: str = ""
    """Why it waits, where Slurm says so."""
    cost: Cost | None = None
    """What its tasks took; None where they noted nothing."""
    plan: journal.Plan | None = None
    """The launch that meant to submit it and ended before."""

    @property
    def is_stuck(self) -> bool:
        """Whether it does not go on by itself."""
        return self.state in {"failed", "incomplete", "stopped", "out of date"} or self.plan is not None

    @property
    def is_live(self) -> bool:
        """Whether something of it waits or runs."""
        return self.state in {"running", "queued", "waiting", "held"}


@dataclass(frozen=True, kw_only=True)
class _Jobs:
    """What Slurm and this machine say of the jobs of a study."""

    queued: Mapping[str, Sequence[QueuedJob]]
    """Jobs that wait or run, by the entry's number."""
    ended: Mapping[str, Sequence[EndedJob]]
    unknown: Collection[str]
    """Numbers of entries of which nobody can say whether they still wait or run."""
    working: Collection[str]
    """Numbers of entries whose local processes are at work."""
    endings: Mapping[str, journal.Ending]
    """How local jobs ended."""
    energy_j: Mapping[str, float]
    """Energy that the accounting measured, in joules, by job or ARRAY_ELEMENT."""
    notes: Sequence[str]
    """What could not be asked, and what is to be known of it."""
    is_launching: bool
    """Whether a launch is at work."""


def status_of(study_root: Path, table: Sequence[Stage] = TABLE) -> tuple[list[StageStatus], list[str]]:
    """Every stage that was submitted or meant to be, or of which the folder holds something; and what is not known.

    Slurm is asked while the folder is read, and each question has a time limit.

    Raises:
        ConfigurationError: the folder is no study.
    """
    manifest = manifest_of_study(study_root)
    paths = StudyPaths(study_root)
    submitted = journal.read(paths.journal, table)
    entries = journal.newest(submitted)
    plans = journal.plans(paths.journal, table)
    stages = in_order(dict.fromkeys([*entries, *plans, *_begun_of(paths)]), table)
    with ThreadPoolExecutor(1) as other:
        asked = other.submit(_ask, paths, list(entries.values()), submitted)
        progress = {stage: _progress(paths, manifest, stage, entries.get(stage)) for stage in stages}
        jobs = asked.result()
    found = [_stage_status(stage, progress[stage], entries.get(stage), jobs) for stage in stages]
    costs, further = _costs(paths, jobs.energy_j, [stage.name for stage in stages])
    found = [replace(each, cost=costs.get(each.stage.name)) for each in found]
    left_out = set() if jobs.is_launching else plans.keys() - entries.keys()
    return [
        replace(each, plan=plans[each.stage]) if each.stage in left_out and each.state == "not begun" else each
        for each in found
    ], [*jobs.notes, *further, *filter(None, [note_on_manifest(study_root, manifest)])]


def _costs(
    paths: StudyPaths, energy_j: Mapping[str, float], shown: Collection[str]
) -> tuple[dict[str, Cost], list[str]]:
    """What the stages took, by name, and what is to be known of that."""
    try:
        costs = costs_of(read_records(paths), energy_j)
    except (EventLogError, OSError) as error:
        return {}, [f"what the stages took is not known: {error}"]
    others = [
        f"{name} took {cost.num_starts} start(s) and has no row" for name, cost in costs.items() if name not in shown
    ]
    return costs, others


def _progress(
    paths: StudyPaths, manifest: Manifest, stage: Stage, entry: journal.JournalEntry | None
) -> StageProgress:
    return stage.progress(paths, manifest, since_s=None if entry is None else marks.submitted_s(entry))


def _begun_of(paths: StudyPaths) -> list[Stage]:
    """Stages whose rows do not depend on a launch; a cohort takes its network from a model and has none of them."""
    if paths.model.exists():
        return []
    trained = [replace(TRAINING, setting=setting) for setting in SETTINGS if paths.run(setting).root.exists()]
    return [*trained, SHARDS, FINISH_SHARDS]


def _ask(
    paths: StudyPaths, entries: Sequence[journal.JournalEntry], submitted: Sequence[journal.JournalEntry]
) -> _Jobs:
    """All that Slurm and this machine are asked: of the newest job of each stage, and what all of them have taken."""
    notes: list[str] = []
    copied = [entry for entry in entries if marks.is_of_a_copy(entry, paths.root)]
    if copied:
        notes.append(f"this is a copy of {copied[0].study}: what is queued or runs there is not shown here")
    own = [entry for entry in entries if entry not in copied]
    on_slurm = [entry for entry in own if entry.cluster == "slurm"]
    queued, unknown = _ask_queue(on_slurm, notes)
    earlier = [each for each in submitted if each.cluster == "slurm" and each not in entries]
    ended = _ask_accounting([*on_slurm, *([] if copied else earlier)], notes)
    unknown |= _hidden(on_slurm, queued, ended, notes)
    launching, why = holder_of(paths.launch_lock)
    if why:
        notes.append(why)
    endings = journal.endings(paths.journal)
    local = [entry for entry in own if entry.cluster == "local"]
    working, elsewhere = _ask_machine(local, launching, endings, notes)
    return _Jobs(
        queued=queued,
        ended=ended,
        unknown=unknown | elsewhere,
        working=working,
        endings=endings,
        energy_j=_energy_j(ended),
        notes=notes,
        is_launching=launching == "at work",
    )


def _ask_queue(
    entries: Sequence[journal.JournalEntry], notes: list[str]
) -> tuple[dict[str, list[QueuedJob]], set[str]]:
    """The jobs in the queue, by number, and the numbers of which nothing is known."""
    ids = [entry.job_id for entry in entries]
    try:
        told = queue.queued_jobs(ids, patience_s=0.0) if ids else Queue()
    except ClusterError as error:
        notes.append(_not_asked("squeue", "the queue", error))
        return {}, set(ids)
    notes += marks.notes_on(told.jobs, entries)
    notes += _unread("squeue", told.unread)
    found = {entry.job_id: [job for job in told.jobs if marks.likeness(job, entry) != "other"] for entry in entries}
    unread = {each for each in ids if not found[each] and any(re.search(rf"\b{each}\b", line) for line in told.unread)}
    return {each: jobs for each, jobs in found.items() if jobs}, unread


def _ask_accounting(entries: Sequence[journal.JournalEntry], notes: list[str]) -> dict[str, list[EndedJob]]:
    told = queue.ended_jobs([entry.job_id for entry in entries]) if entries else Accounting()
    if told is None:
        notes.append("the accounting is not known: sacct does not answer, or is not there")
        return {}
    notes += _unread("sacct", told.unread)
    return {entry.job_id: [job for job in told.jobs if marks.likeness(job, entry) != "other"] for entry in entries}


def _energy_j(ended: Mapping[str, Sequence[EndedJob]]) -> dict[str, float]:
    """Energy by job, as the records of tasks name jobs."""
    jobs = [job for found in ended.values() for job in found]
    names = [job.job_id if job.element is None else f"{job.job_id}_{job.element}" for job in jobs]
    return {name: job.energy_j for name, job in zip(names, jobs, strict=True) if job.energy_j is not None}


def _not_asked(command: str, what: str, error: ClusterError) -> str:
    cause = error.__cause__
    if isinstance(cause, SlurmCommandError) and not cause.in_time:
        return f"{what} is not known: {command} did not answer in {queue.LIMIT_S:g} s: states below are from the files"
    return f"{what} is not known: {error}"


def _unread(command: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return [f"{command}: {len(lines)} line(s) are not understood and left out, such as {lines[0][:_MOST_QUOTED]!r}"]


def _hidden(
    entries: Sequence[journal.JournalEntry],
    queued: Mapping[str, Sequence[QueuedJob]],
    ended: Mapping[str, Sequence[EndedJob]],
    notes: list[str],
) -> set[str]:
    """Jobs of others that are not seen, where the site shows nobody the jobs of others."""
    others = [
        entry
        for entry in entries
        if entry.user not in ("", user_name()) and not queued.get(entry.job_id) and not ended.get(entry.job_id)
    ]
    if not others or not queue.hides_jobs_of_others():
        return set()
    named = ", ".join(f"{entry.job_id} of {entry.user}" for entry in others)
    notes.append(f"this site shows nobody the jobs of others (PrivateData), so nothing is known of {named}")
    return {entry.job_id for entry in others}


def _ask_machine(
    entries: Sequence[journal.JournalEntry],
    launching: str,
    endings: Collection[str],
    notes: list[str],
) -> tuple[set[str], set[str]]:
    """The numbers of local jobs that are at work, and of those on another machine, which nobody can ask from here."""
    working: set[str] = set()
    here = socket.gethostname()
    for entry in entries:
        groups = local_processes.still_there(entry.processes) if entry.host == here else {}
        if groups:
            working.add(entry.job_id)
        if groups and launching != "at work":
            notes.append(f"{entry.stage.name} goes on though its launcher is gone: {local_processes.named(groups)}")
    # Its launcher is about to say how it ended; in older journals the launcher is all that is known.
    newest = [entry for entry in entries if entry.host in ("", here) and entry.job_id not in endings][-1:]
    if launching == "at work":
        working.update(entry.job_id for entry in newest)
    elsewhere = {entry.job_id for entry in entries if entry.host not in ("", here)}
    return working, elsewhere


def _stage_status(
    stage: Stage, progress: StageProgress, entry: journal.JournalEntry | None, jobs: _Jobs
) -> StageStatus:
    if entry is None:
        return StageStatus(stage=stage, progress=progress, state=_state_at_rest(progress, became=None))
    live = jobs.queued.get(entry.job_id, []) if entry.cluster == "slurm" else []
    elements = {job.element for job in live}
    # An element that was queued again stands in the accounting, too: what it does now counts.
    ended = [job for job in jobs.ended.get(entry.job_id, []) if job.element not in elements]
    became = jobs.endings.get(entry.job_id) if entry.cluster == "local" else _became(ended)
    if live:
        state = _state_in_queue(live)
    elif entry.job_id in jobs.working and not (entry.cluster == "local" and progress.is_whole):
        state = "running"
    elif progress.is_whole:
        state = "done"
    elif entry.job_id in jobs.unknown and became is None:
        # A job may still be at work, so nothing is said to have failed.
        state = "unknown"
    elif entry.cluster == "local" and entry.processes and became is None:
        state = _state_at_rest(progress, became="stopped")  # it ended without a word, as its launcher did
    else:
        state = _state_at_rest(progress, became=became or "ended")
    return StageStatus(
        stage=stage,
        progress=progress,
        state=state,
        entry=entry,
        live=Counter(job.state for job in live),
        ended=Counter(job.state for job in ended),
        reason=next((job.reason for job in live if job.state == "PENDING"), ""),
    )


def _became(ended: Sequence[EndedJob]) -> str | None:
    """What became of a job all of whose elements have ended, the worst of it; None where nobody says."""
    states = {job.state for job in ended}
    if states - {"COMPLETED", "CANCELLED", "PREEMPTED"}:
        return "failed"
    if states - {"COMPLETED"}:
        return "stopped"
    return "done" if states else None


def _state_in_queue(live: Sequence[QueuedJob]) -> str:
    if all(job.state == UNKNOWN for job in live):
        return "unknown"
    if any(job.state not in {"PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT", UNKNOWN} for job in live):
        return "running"
    if any(job.is_held for job in live):
        return "held"
    return "waiting" if any("Dependency" in job.reason for job in live) else "queued"


def _state_at_rest(progress: StageProgress, *, became: str | None) -> str:
    """The state of a stage of which nothing waits or runs.

    Args:
        progress: what the folder holds.
        became: what became of its newest job: failed, stopped, done, or `ended` where nobody says more; None where it
            was not submitted.
    """
    if progress.is_whole:
        return "done"
    if progress.is_out_of_date:
        return "out of date"
    if progress.failures or became == "failed":
        return "failed"
    if became == "stopped":
        return "stopped"
    if became == "ended" and not progress.num_done:
        return "failed"
    return "incomplete" if became or progress.num_done else "not begun"


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


def cost_lines(stages: Sequence[StageStatus]) -> list[str]:
    """What each stage took, and what is to be known of it."""
    costs = {stage.stage.name: stage.cost for stage in stages if stage.cost is not None}
    if not costs:
        return []
    return ["", *in_columns(heading_and_rows(costs)), *notes_on(costs.values()), ""]


def _jobs_text(stage: StageStatus) -> str:
    if stage.entry is None:
        return "-"
    counts = Counter(stage.live) + Counter(stage.ended)
    words = ", ".join(f"{num} {state}" if stage.entry.num_elements > 1 else state for state, num in counts.items())
    if stage.entry.cluster == "local":
        return "local"
    owner = f" of {stage.entry.user}" if stage.entry.user not in ("", user_name()) else ""
    return f"{stage.entry.job_id} {words}".strip() + owner


def _detail(stage: StageStatus) -> str:
    words = [stage.progress.detail, stage.reason if stage.state in {"queued", "held"} else ""]
    if stage.progress.at_work:
        verb = "at work" if stage.is_live else "left in the middle"
        words.append(f"{verb}: {first_of(stage.progress.at_work, _MOST_NAMED)}")
    return "; ".join(filter(None, words))


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
        lines.append(
            f"`python jobs/status.py {shlex.quote(str(study))} --retry-failed` launches again what is missing"
        )
    return [*lines, *_by_hand(stuck)]


def _by_hand(stuck: Sequence[StageStatus]) -> list[str]:
    """What is to be said of stages that no command line can be repeated for."""
    names = [stage.stage.name for stage in stuck if not _command_of(stage)]
    return [f"not launched from a command line, so launch again as before: {', '.join(names)}"] if names else []


def _command_of(stage: StageStatus) -> tuple[str, ...]:
    """The command line that launched a stage, or meant to; empty where none did, as from Python or by hand."""
    launched = stage.entry or stage.plan
    return () if launched is None else launched.command


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
                "took": None if stage.cost is None else asdict(stage.cost),
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
    plans = [stage.plan for stage in stuck if stage.plan and stage.plan.command]
    commands |= {journal.again_for(plan.command, study): plan.folder for plan in plans}
    by_hand = "\n".join(_by_hand(stuck))
    if by_hand and not commands:
        raise ConfigurationError(by_hand)
    if not commands:
        print("nothing failed that is in no queue; nothing is launched", flush=True)
    elif by_hand:
        print(by_hand, flush=True)
    for words, folder in commands.items():
        print(f"again, for what is missing: {' '.join(words)}", flush=True)
        code = subprocess.run([sys.executable, *words, "--only-missing"], cwd=folder, check=False).returncode
        if code:
            raise ConfigurationError(
                f"the launcher ended with exit code {code}: it refused, or jobs of it failed; it says above which"
            )


def main(arguments: StatusArguments) -> int:
    """Print the status; 1 if something failed that is in no queue."""
    refuse_address(arguments.study)
    study = as_given(arguments.study)
    stages, notes = status_of(study)
    if arguments.json:
        print(json.dumps(as_json(stages, notes), indent=2))
    else:
        lines = [*table_of(stages), *cost_lines(stages), *failure_lines(stages, all_of_them=arguments.all), *notes]
        print("\n".join([*lines, *closing_lines(stages, arguments.study)]))
    if arguments.retry_failed:
        retry(stages, study)
        return 0
    return int(any(stage.is_stuck for stage in stages))


if __name__ == "__main__":
    gc.disable()  # of a study of 100,000 slides looking for garbage among its records took a third of the time
    run_command(lambda: main(tyro.cli(StatusArguments)))
