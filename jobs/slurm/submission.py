"""Submits work: to Slurm, to local processes, or, as a dry run, to nobody; through submitit."""

import os
import re
import shlex
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol
from unittest import mock

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from bccdist.errors import ClusterError, ConfigurationError, StageFailedError
from bccdist.files import as_called, as_given
from bccdist.log import LOG
from bccdist.paths import StudyPaths
from bccdist.stages.stage import Stage
from bccdist.stages.table import TABLE
from jobs.slurm import commands, journal, local_processes, marks, queue
from jobs.slurm.commands import SlurmCommandError
from jobs.slurm.follow import GroupExecutor, ended_with_us, follow
from jobs.slurm.hook import LEAVE, EndedStage, Hook, Outcome, tell
from jobs.slurm.profile import with_profile
from jobs.slurm.requeue import lines_after_the_task, lines_before_the_task
from jobs.slurm.sites import ClusterConfig, num_local_gpus
from jobs.slurm.snapshot import Snapshot, take_snapshot
from jobs.slurm.study_lock import launch_lock, user_name
from jobs.slurm.task import Launched, StageTask
from jobs.text_columns import in_columns

_PAUSE_S = 5.0
_SBATCH_LIMIT_S = 60.0
"""How long sbatch may take: a site's plugin may think about each job."""
_SUBMITTED = re.compile(r"Submitted batch job [0-9]+")
_UNSET = "unset ${!SBATCH_@} ${!SRUN_@} ${!SQUEUE_@} ${!SACCT_@} ${!SCONTROL_@} ${!SUBMITIT_@} SLURM_EXPORT_ENV"
"""What the node's own profile or a line of the site may have set, and srun or a task would obey."""
_HOOK_TIME_MIN = 10
_HOOK_MEMORY = "512M"
"""Of the job that calls the hook at the end."""
_SOME_MARK = "bccdist:STUDY:STAGE:UNIQUE"
"""What a dry run prints for a mark."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is submitted at once: a job, or the elements of an array."""

    stage: Stage
    tasks: tuple[StageTask, ...]
    """The job's task, or one for each element of an array."""
    nodes: int = 1
    ranks_per_node: int = 1
    gpus_per_node: int = 0

    def launched(self, cluster: Literal["slurm", "local"]) -> Launched:
        """What its processes are told that they are."""
        return Launched(cluster=cluster, nodes=self.nodes, ranks_per_node=self.ranks_per_node)


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A job, or an array, that waits or runs."""

    stage: Stage
    job_id: str
    num_elements: int
    logs: Path
    after: tuple[str, ...]
    """Jobs that it waits for."""
    earlier: journal.JournalEntry | None = None
    """The entry of the earlier launch that submitted it; None if this one did."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What all stages of one launch share."""

    study: Path
    """Absolute, because jobs run in other folders."""
    cluster: ClusterConfig
    dry_run: bool = False
    only_missing: bool = False
    """Leave out what is done already."""
    command: tuple[str, ...] = ()
    """Command line of the launcher."""

    @property
    def paths(self) -> StudyPaths:
        """The files of the study."""
        return StudyPaths(self.study)


class Submitter(Protocol):
    """Takes work."""

    launch: Launch

    def submit(self, work: Work, *, after: Sequence[Submitted]) -> list[Submitted]:
        """Submit it to run after some jobs; what was submitted, or nothing where it is done by now.

        Raises:
            ClusterError: Slurm does not take it.
            StageFailedError: a local job failed.
        """


@contextmanager
def submitting(launch: Launch, stages: Sequence[Stage] = ()) -> Iterator[Submitter]:
    """A submitter for the launch; while it is at work no other launch can submit for this study.

    Args:
        launch: where and how.
        stages: all that is going to be submitted, for the journal: what is not begun of it has a row in the status.

    Raises:
        ConfigurationError: another launch is at work, or this machine is no part of a Slurm site.
    """
    with ExitStack() as stack:
        if launch.dry_run and launch.cluster.cluster == "local":
            yield _DryLocalRun(launch)
        elif launch.dry_run:
            cluster, said = with_profile(replace(launch.cluster, cluster="slurm"), os.environ)
            for sentence in said:
                print(f"# {sentence}")
            dry = _DryRun(replace(launch, cluster=cluster))
            yield dry
            dry.print_job_at_the_end()
        elif launch.cluster.resolved == "local":
            _require_container_program(launch.cluster)
            local = _LocalSubmitter(launch, stack, tuple(stages))
            with local.telling():
                yield local
        else:
            _require_srun()
            _require_usable_path(launch.study)
            cluster, said = with_profile(launch.cluster, os.environ)
            for sentence in said:
                LOG.warning(sentence)
            submitter = _SlurmSubmitter(replace(launch, cluster=cluster), stack, tuple(stages))
            # Also if a later job is refused: those before it are queued.
            stack.callback(submitter.report)
            stack.callback(submitter.submit_job_at_the_end)
            yield submitter


def _require_usable_path(study: Path) -> None:
    """Slurm reads a percent sign and a backslash in the path of a log as a pattern."""
    if found := sorted(set(str(study)) & set("%\\\n")):
        raise ConfigurationError(
            f"the study's path {str(study)!r} has {' and '.join(map(repr, found))} in it, which Slurm does not take "
            "in the path of a log: give another --study"
        )


def _require_srun() -> None:
    if not shutil.which("srun"):
        raise ConfigurationError(
            "--cluster slurm, but srun is not found: this machine is no part of a Slurm site; "
            "give --cluster local, or log in where sbatch and srun are"
        )


def _require_container_program(cluster: ClusterConfig) -> None:
    """On Slurm only the nodes need to have it."""
    program = shlex.split(cluster.container or "")[:1]
    if program and not shutil.which(program[0]):
        raise ConfigurationError(
            f"container is {cluster.container!r}, but {program[0]} is not found on this machine, where the jobs of a "
            "local launch run; install it, or take container out of the site"
        )


@dataclass
class _Opened:
    """What is done once, before the first job: so that a launch that refuses leaves nothing behind."""

    launch: Launch
    stack: ExitStack
    stages: tuple[Stage, ...] = ()
    """All that this launch is going to submit."""
    _code: Snapshot | None = None

    def code(self) -> Snapshot:
        """The lock, then the code that all jobs of this launch run."""
        if self._code is None:
            paths = self.launch.paths
            self.stack.enter_context(launch_lock(paths.launch_lock))
            _refuse_beside_local_jobs(paths.journal, self.stages)
            self._code = take_snapshot(paths.code)
            # Before the first job, also to see that the journal can be written: jobs that are not in it are nobody's.
            plan = journal.Plan(
                stages=self.stages, command=self.launch.command, folder=str(Path.cwd()), planned_at=journal.now()
            )
            journal.append_plan(paths.journal, plan)
        return self._code

    def write_journal(
        self,
        work: Work,
        job_id: str,
        logs: Path,
        after: Sequence[Submitted],
        *,
        mark: str = "",
        processes: Sequence[str] = (),
    ) -> None:
        """What was submitted."""
        launch = self.launch
        entry = journal.JournalEntry(
            stage=work.stage,
            job_id=job_id,
            cluster=launch.cluster.resolved,
            num_elements=len(work.tasks),
            logs=logs.relative_to(launch.study).as_posix(),
            after=tuple(each.job_id for each in after),
            code=self.code().id,
            command=launch.command,
            folder=str(Path.cwd()),
            submitted_at=journal.now(),
            mark=mark,
            user=user_name(),
            study=str(launch.study),
            host=socket.gethostname(),
            processes=tuple(processes),
        )
        journal.append(launch.paths.journal, entry)

    def new_logs(self, name: str) -> Path:
        """A folder for the logs of a stage, made before any job can look for it."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        logs = self.launch.paths.logs / f"{name}-{stamp}-{uuid.uuid4().hex[:4]}"
        logs.mkdir(parents=True)
        return logs


def _refuse_beside_local_jobs(path: Path, stages: Sequence[Stage]) -> None:
    """Refuse while local jobs of an earlier launch, which was killed, still work on this study here.

    Raises:
        ConfigurationError: they do; it names them.
    """
    entries = journal.read(path, (*TABLE, *stages))
    here = [each for each in entries if each.cluster == "local" and each.host == socket.gethostname()]
    if left := local_processes.still_there([process for each in here for process in each.processes]):
        raise ConfigurationError(
            "local jobs of an earlier launch, which was killed, still work on this study: "
            f"{local_processes.named(left)}"
        )


class _LocalSubmitter:
    """Runs each piece of work at once, as processes of this machine, and stays until it is done."""

    def __init__(self, launch: Launch, stack: ExitStack, stages: tuple[Stage, ...]) -> None:
        self.launch = launch
        self._opened = _Opened(launch, stack, stages)
        self._begun: list[str] = []
        self._has_told = False

    @contextmanager
    def telling(self) -> Iterator[None]:
        """The site's hook is told at the end, unless something failed before."""
        try:
            yield
        except BaseException:
            self._tell("stopped", f"stopped; begun until then: {', '.join(self._begun)}")
            raise
        self._tell("done", f"ended, all of it done: {', '.join(self._begun)}")

    def _tell(self, outcome: Outcome, line: str, **more: Any) -> None:
        """Once, and only where something was begun."""
        hook = self.launch.cluster.hook
        if hook is not None and self._begun and not self._has_told:
            self._has_told = True
            tell(hook, self.launch.study, outcome, line, stages=self._begun, **more)

    def submit(self, work: Work, *, after: Sequence[Submitted]) -> list[Submitted]:
        try:
            return self._run(work, after=after)
        except StageFailedError as error:
            self._tell("failed", str(error), stage=work.stage.name)
            raise

    def _run(self, work: Work, *, after: Sequence[Submitted]) -> list[Submitted]:
        code = self._opened.code()
        self._begun.append(work.stage.name)
        logs = self._opened.new_logs(work.stage.name)
        cluster = self.launch.cluster
        # No shell is between, which would put values in place of variables, as on Slurm.
        python = os.path.expandvars(cluster.python) if cluster.python else None
        executor = GroupExecutor(logs, cluster.max_timeouts, python=python, code=code)
        executor.update_parameters(
            nodes=work.nodes,
            tasks_per_node=work.ranks_per_node,
            gpus_per_node=min(work.gpus_per_node, num_local_gpus()),
            timeout_min=cluster.timeout_min,
            stderr_to_stdout=True,
        )
        num_processes = len(work.tasks) * work.ranks_per_node
        threads = max(1, len(os.sched_getaffinity(0)) // num_processes)
        tasks = [replace(task, threads=threads, launched=work.launched("local")) for task in work.tasks]
        # Local jobs are no tasks of a job of Slurm in which the launch may have been called.
        outer = dict.fromkeys(filter(commands.is_slurms, os.environ))
        with self._noted_ending(executor), ended_with_us(executor.started):
            with _environment({**outer, "PYTHONSAFEPATH": "1"}):
                jobs = _submit_all(executor, tasks)
            processes = [local_processes.identity(int(job.job_id)) for job in jobs]
            self._opened.write_journal(work, jobs[0].job_id, logs, after, processes=processes)
            follow(work.stage.name, jobs, logs)
        return []

    @contextmanager
    def _noted_ending(self, executor: GroupExecutor) -> Iterator[None]:
        """How the jobs ended, in the journal: the status must not take what was stopped for what failed."""
        ending: journal.Ending = "stopped"
        try:
            yield
            ending = "done"
        except StageFailedError:
            ending = "failed"
            raise
        finally:
            if executor.started:
                journal.append_ending(self.launch.paths.journal, executor.started[0].job_id, ending)


class _SlurmSubmitter:
    """Hands work to sbatch; what an earlier launch has queued is not queued again."""

    def __init__(self, launch: Launch, stack: ExitStack, stages: tuple[Stage, ...]) -> None:
        self.launch = launch
        self._opened = _Opened(launch, stack, stages)
        self._submitted: list[Submitted] = []
        self._live: dict[Stage, journal.JournalEntry] | None = None
        self._hook: Hook | None = None

    def submit(self, work: Work, *, after: Sequence[Submitted]) -> list[Submitted]:
        code = self._opened.code()
        there = self._live_entries().get(work.stage)
        if there is not None:
            submitted = Submitted(
                stage=work.stage,
                job_id=there.job_id,
                num_elements=there.num_elements,
                logs=self.launch.study / there.logs,
                after=there.after,
                earlier=there,
            )
        else:
            submitted = self._submit_new(work, code, after)
        self._submitted.append(submitted)
        return [submitted]

    def _live_entries(self) -> dict[Stage, journal.JournalEntry]:
        """The newest job of each stage that waits or runs."""
        if self._live is None:
            self._live = _live_entries(self.launch, self._opened.stages)
        return self._live

    def _submit_new(self, work: Work, code: Snapshot, after: Sequence[Submitted]) -> Submitted:
        logs = self._opened.new_logs(work.stage.name)
        mark = marks.new_mark(journal.study_id(self.launch.paths.journal), work.stage)
        hook = self._hook_of_launch()
        executor = slurm_executor(self.launch, work, logs, code=code, after=after, comment=mark, hook=hook)
        tasks = [replace(task, launched=work.launched("slurm")) for task in work.tasks]
        job_id = _patiently(lambda: _submit_all(executor, tasks), mark)
        self._opened.write_journal(work, job_id, logs, after, mark=mark)
        ids = tuple(each.job_id for each in after)
        return Submitted(stage=work.stage, job_id=job_id, num_elements=len(work.tasks), logs=logs, after=ids)

    def _hook_of_launch(self) -> Hook | None:
        """The site's hook, with a folder of this launch's own: another launch tells anew."""
        command = self.launch.cluster.hook
        if command is not None and self._hook is None:
            self._hook = Hook(command=command, study=self.launch.study, folder=self._opened.new_logs("hook"))
        return self._hook

    def submit_job_at_the_end(self) -> None:
        """The job that waits for all others and calls the hook, where there is one; also if a later job is refused."""
        mine = [each for each in self._submitted if each.earlier is None]
        if self._hook is None or not mine:
            return
        comment = marks.mark_of_hook(journal.study_id(self.launch.paths.journal))
        script = self._hook.folder / "hook.sh"
        try:
            script.write_text(_script_at_the_end(self.launch, self._hook, mine, comment), encoding="utf-8")
            commands.ask("sbatch", str(script), limit_s=_SBATCH_LIMIT_S)
        except (OSError, SlurmCommandError) as error:
            LOG.warning(f"the hook tells of what fails, and not of the end, because its job was refused: {error}")

    def report(self) -> None:
        """What was submitted, as a table."""
        rows = [("stage", "job", "elements", "waits for", "")]
        for each in self._submitted:
            after = ", ".join(each.after) or "-"
            rows.append((each.stage.name, each.job_id, str(each.num_elements), after, self._remark(each)))
        if len(rows) == 1:
            print("nothing was submitted")
            return
        print("\n".join(in_columns(rows)))
        status = f"python jobs/status.py {shlex.quote(str(self.launch.study))}"
        print(f"logs in {self.launch.paths.logs}; `{status}` says how far it is")

    def _remark(self, submitted: Submitted) -> str:
        if submitted.earlier is None:
            return "submitted"
        earlier = submitted.earlier
        both = (earlier.command, self.launch.command)
        words = [journal.again_for(each, self.launch.study) if each else () for each in both]
        other = "" if words[0] == words[1] else f", BY ANOTHER COMMAND: {' '.join(words[0]) or 'from Python'}"
        owner = f" of {earlier.user}" if earlier.user not in ("", user_name()) else ""
        return f"queued by an earlier launch{owner}{other}, not submitted again"


def _live_entries(launch: Launch, stages: Sequence[Stage]) -> dict[Stage, journal.JournalEntry]:
    """The newest job of each stage that waits or runs, whoever submitted it.

    Raises:
        ClusterError: the queue cannot be read, so nobody knows what is in it.
    """
    newest = journal.newest(journal.read(launch.paths.journal, (*TABLE, *stages)))
    entries = {
        stage: each
        for stage, each in newest.items()
        if each.cluster == "slurm" and not marks.is_of_a_copy(each, launch.study)
    }
    told = queue.queued_jobs([each.job_id for each in entries.values()])
    for note in marks.notes_on(told.jobs, list(entries.values())):
        LOG.warning(note)
    live = {}
    for stage, each in entries.items():
        if any(marks.likeness(job, each) != "other" for job in told.jobs):
            live[stage] = each
        elif any(re.search(rf"\b{each.job_id}\b", line) for line in told.unread):
            raise ClusterError(
                f"squeue says something of job {each.job_id} ({stage.name}) that is not understood, so nothing is "
                f"submitted: {told.unread[0][:200]}; look with `squeue --jobs={each.job_id}`"
            )
        elif each.user not in ("", user_name()):
            _require_gone(each)
    return live


def _require_gone(entry: journal.JournalEntry) -> None:
    """Refuse where a job of somebody else may be there and is not shown to us."""
    if not queue.hides_jobs_of_others():
        return
    told = queue.ended_jobs([entry.job_id])
    if told is None or not any(marks.likeness(job, entry) != "other" for job in told.jobs):
        raise ClusterError(
            f"job {entry.job_id} ({entry.stage.name}) is of {entry.user}, and this site shows nobody the jobs of "
            f"others (PrivateData), so it may still be queued: let {entry.user} launch, or, if it has ended, take its "
            "line out of jobs.jsonl in the study, which an evidence pack will tell"
        )


def _submit_all(executor: submitit.Executor, tasks: Sequence[StageTask]) -> list[submitit.Job[None]]:
    """A job for each task; several are an array."""
    # Submitit has no way to start sbatch in another environment than ours, or with a time limit.
    with mock.patch.object(submitit.core.utils, "CommandFunction", _Sbatch), executor.batch():
        return [executor.submit(task) for task in tasks]


class _Sbatch:
    """Submitit's call of sbatch, made as all commands of Slurm are made here."""

    def __init__(self, command: Sequence[str], *, verbose: bool) -> None:  # noqa: ARG002 - as submitit calls it
        self._command = command

    def __call__(self) -> str:
        """The one line of what sbatch says that names the job."""
        try:
            told = commands.ask(*self._command, limit_s=_SBATCH_LIMIT_S)
        except SlurmCommandError as error:
            raise FailedJobError(error.said or str(error)) from error
        # A site's wrapper may greet before it, and speak of other jobs.
        if (named := _SUBMITTED.search(told)) is None:
            raise FailedSubmissionError(f"it did not say which job it submitted, but: {told.strip() or 'nothing'}")
        return named[0]


def _patiently(submit: Callable[[], Sequence[submitit.Job[None]]], comment: str) -> str:
    """Submit; while the controller is away, as during its restart, again.

    A controller that took the job and could not say so anymore is found out by the job's comment: that job lacks its
    files, so it is cancelled before the next try.

    Returns:
        The id of the job, or of the whole array.

    Raises:
        ClusterError: sbatch refuses it, or the controller stays away.
    """
    deadline_s = time.monotonic() + queue.PATIENCE_S
    while True:
        try:
            return str(submit()[0].job_id).split("_", maxsplit=1)[0]
        except (FailedJobError, FailedSubmissionError) as error:
            said, why = str(error).strip(), error.__cause__
            is_late = isinstance(why, SlurmCommandError) and not why.in_time
            if not (is_late or queue.is_transient(said)) or time.monotonic() > deadline_s:
                if is_late or isinstance(error, FailedSubmissionError):
                    queue.cancel(queue.jobs_with_comment(comment))
                raise ClusterError(f"sbatch refused the job: {said}{queue.advice(said)}") from error
            LOG.warning(f"sbatch: {said.splitlines()[-1]}; trying again")
        time.sleep(_PAUSE_S)
        queue.cancel(queue.jobs_with_comment(comment))


class _DryRun:
    """Prints what sbatch would get; touches nothing."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        command, folder = launch.cluster.hook, launch.paths.logs / "hook-TIME"
        self._hook = None if command is None else Hook(command=command, study=launch.study, folder=folder)
        self._submitted: list[Submitted] = []

    def submit(self, work: Work, *, after: Sequence[Submitted]) -> list[Submitted]:
        logs = self.launch.paths.logs / f"{work.stage.name}-TIME"
        code = Snapshot(id="CODE", archive=self.launch.paths.code / "CODE.zip", is_dirty=False, digest="SHA256")
        executor = slurm_executor(self.launch, work, logs, code=code, after=after, comment=_SOME_MARK, hook=self._hook)
        print(
            f"# {'-' * 20} {work.stage.name}: sbatch would get this; TIME, CODE, SHA256 and ids are not known before"
        )
        print(sbatch_text(executor, work))
        ids = tuple(each.job_id for each in after)
        job_id = f"JOB-{work.stage.name}"
        submitted = Submitted(stage=work.stage, job_id=job_id, num_elements=len(work.tasks), logs=logs, after=ids)
        self._submitted.append(submitted)
        return [submitted]

    def print_job_at_the_end(self) -> None:
        if self._hook is not None and self._submitted:
            print(f"# {'-' * 20} hook: sbatch would get this")
            print(_script_at_the_end(self.launch, self._hook, self._submitted, _SOME_MARK))


class _DryLocalRun:
    """Prints what this machine would do, where local processes are asked for by name; touches nothing."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch

    def submit(self, work: Work, *, after: Sequence[Submitted]) -> list[Submitted]:  # noqa: ARG002 - as all take it
        counts = [task.num_slides for task in work.tasks if task.num_slides is not None]
        slides = f" for {sum(counts)} slide(s)" if counts else ""
        processes = len(work.tasks) * work.ranks_per_node
        print(f"{work.stage.name}: would run here as {processes} local process(es){slides}")
        return []


def sbatch_text(executor: submitit.SlurmExecutor, work: Work) -> str:
    """The text that the executor gives to sbatch for this work."""
    if len(work.tasks) > 1:
        executor.parameters["map_count"] = len(work.tasks)
    return str(executor._make_submission_file_text(executor._submitit_command_str, ""))  # noqa: SLF001 - no public way


class _Executor(submitit.SlurmExecutor):
    """Submitit's executor, which a dry run can use where there is no srun.

    The batch script does not wait in srun but beside it, where signals reach it (see jobs.slurm.requeue).
    """

    def __init__(self, folder: Path, max_num_timeout: int, *, python: str, code: Snapshot) -> None:
        super().__init__(folder, max_num_timeout=max_num_timeout, python=python)
        self._code = code

    @property
    def _submitit_command_str(self) -> str:
        return f"{self._code.command(self.python, self.folder)} &"

    @classmethod
    def affinity(cls) -> int:
        return 2


def slurm_executor(
    launch: Launch,
    work: Work,
    logs: Path,
    *,
    code: Snapshot,
    after: Sequence[Submitted],
    comment: str,
    hook: Hook | None = None,
) -> submitit.SlurmExecutor:
    """Submitit's executor with all that the site and the work ask for."""
    cluster = launch.cluster if work.gpus_per_node else launch.cluster.for_cpu_jobs()
    python = cluster.python or shlex.quote(str(as_called()))
    executor = _Executor(logs, cluster.max_timeouts, python=python, code=code)
    executor.update_parameters(
        job_name=marks.job_name(work.stage, launch.study),
        nodes=work.nodes,
        ntasks_per_node=work.ranks_per_node,
        cpus_per_task=cluster.cpus_per_rank,
        time=cluster.timeout_min,
        signal_delay_s=cluster.signal_delay_s,
        array_parallelism=cluster.array_width,
        stderr_to_stdout=True,
        comment=comment,
        wckey=None,  # submitit's own, which a site that counts by such keys refuses
        # All that the batch script has, whatever --export the job was submitted with; and all cores of a task, which
        # srun of some versions does not take from the job.
        srun_args=["--kill-on-bad-exit=1", "--export=ALL", f"--cpus-per-task={cluster.cpus_per_rank}"],
        setup=[
            *lines_before_the_task(),
            *_setup_lines(cluster),
            *(hook.lines_of_a_job(work.stage.name, logs) if hook else ()),
        ],
        teardown=lines_after_the_task(
            logs,
            is_array=len(work.tasks) > 1,
            timeout_min=cluster.timeout_min,
            signal_delay_s=cluster.signal_delay_s,
            max_timeouts=cluster.max_timeouts,
            leave=LEAVE if hook else "exit",
        ),
        additional_parameters={
            "signal": f"B:USR2@{cluster.signal_delay_s}",
            **_fewest_nodes(cluster, work),
            **_further_options(cluster),
        },
        **_named(cluster),
        **_memory(cluster, work),
        **_gpus(cluster, work),
        **_dependency(work, after),
    )
    return executor


def _script_at_the_end(launch: Launch, hook: Hook, submitted: Sequence[Submitted], comment: str) -> str:
    """The batch script of the job that calls the hook once all others have ended."""
    cluster = launch.cluster.for_cpu_jobs()
    stages = [
        EndedStage(name=each.stage.name, job_id=each.job_id, num_elements=each.num_elements, logs=each.logs)
        for each in submitted
    ]
    options = {
        **({"mem": _HOOK_MEMORY} if cluster.mem_gib_per_rank else {}),
        **_further_options(cluster),
        "job-name": f"hook@{launch.study.name}",
        "output": str(hook.folder / "%j.log"),
        "comment": comment,
        "dependency": f"afterany:{':'.join(each.job_id for each in submitted)}",
        "ntasks": "1",
        "time": str(_HOOK_TIME_MIN),
        **_named(cluster),
    }
    return hook.script_at_the_end(stages, options=options, setup=_setup_lines(cluster))


def _named(cluster: ClusterConfig) -> dict[str, str]:
    values = {name: getattr(cluster, name) for name in ("partition", "account", "qos", "constraint")}
    return {name: value for name, value in values.items() if value is not None}


def _memory(cluster: ClusterConfig, work: Work) -> dict[str, str]:
    if not cluster.mem_gib_per_rank:
        return {}
    return {"mem": f"{cluster.mem_gib_per_rank * work.ranks_per_node}G"}


def _gpus(cluster: ClusterConfig, work: Work) -> dict[str, str]:
    if not work.gpus_per_node:
        return {}
    kind = f"{cluster.gpu_type}:" if cluster.gpu_type else ""
    if cluster.gpu_request == "per_task":
        return {"gpus_per_task": f"{kind}{max(1, work.gpus_per_node // work.ranks_per_node)}"}
    return {"gpus_per_node": f"{kind}{work.gpus_per_node}"}


def _dependency(work: Work, after: Sequence[Submitted]) -> dict[str, str]:
    if not after:
        return {}
    kind = "afterok" if work.stage.needs_success else "afterany"
    return {"dependency": f"{kind}:{':'.join(sorted({each.job_id for each in after}))}"}


def _fewest_nodes(cluster: ClusterConfig, work: Work) -> dict[str, str]:
    """Slurm gives as many nodes as are free, between both numbers; the ranks come from what it gave."""
    if cluster.min_nodes is None or cluster.min_nodes >= work.nodes:
        return {}
    return {"nodes": f"{cluster.min_nodes}-{work.nodes}"}


def _further_options(cluster: ClusterConfig) -> dict[str, Any]:
    """A dependency that cannot be met anymore ends the job, and a lost node brings it back into the queue.

    Jobs start in the folder of the launch by the user's name for it: sbatch would give it the name without links.
    """
    options: dict[str, Any] = {"kill-on-invalid-dep": "yes", "requeue": True, "chdir": str(as_given(Path()))}
    further = cluster.sbatch_options.items()
    return options | {name: value or True for name, value in further if name not in _named(cluster)}


def _setup_lines(cluster: ClusterConfig) -> list[str]:
    lines = [
        "export PYTHONSAFEPATH=1",  # else processes of a task look in the working folder first
        "export PYTHONUTF8=1",  # paths of a study are UTF-8 whatever the node's locale
    ]
    if cluster.scratch:
        lines += [f'export TMPDIR="{cluster.scratch}"', 'mkdir -p "$TMPDIR"']
    return [*lines, *cluster.setup, _UNSET]


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Variables of this process for a while; None takes one away."""
    before = {name: os.environ.get(name) for name in values}
    _set_variables(values)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
