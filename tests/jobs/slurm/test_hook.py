"""A launch tells its site's hook once, of its first failure or of its end; a hook that does not work costs nothing."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from counting_slurm import CountingSlurm

from bccdist.errors import StageFailedError
from bccdist.paths import StudyPaths
from bccdist.stages.table import FINISH_SHARDS, SHARDS
from jobs.slurm import hook as hooks
from jobs.slurm.hook import LEAVE, VARIABLE, EndedStage, Hook, tell
from jobs.slurm.requeue import KILLS_FORGIVEN, lines_after_the_task, lines_before_the_task
from jobs.slurm.sites import ClusterConfig
from jobs.slurm.submission import Launch, Work, submitting
from jobs.slurm.task import StageTask

Ended: TypeAlias = "subprocess.CompletedProcess[str]"
BROKEN = ["exit 3", "no-such-command-anywhere", "true"]
"""Hooks that fail, are not there, or do not read what they get."""


class Site:
    """A hook that writes down what it gets, and jobs of one launch that stand-ins of Slurm run."""

    def __init__(self, folder: Path, command: str | None = None) -> None:
        self.folder = folder / "a study's folder & more"
        self.logs = self.folder / "logs"
        self.logs.mkdir(parents=True)
        self.texts, self.jsons = folder / "texts", folder / "jsons"
        self.command = command or f'cat >>{self.texts}; echo "${VARIABLE}" >>{self.jsons}'
        self.hook = Hook(command=self.command, study=self.folder, folder=self.logs)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name, line in {"squeue": "echo RUNNING", "scontrol": "exit 1", "sleep": "exit 0"}.items():
            (self.bin / name).write_text(f"#!/bin/sh\n{line}\n")
            (self.bin / name).chmod(0o755)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What the hook was told, as JSON."""
        return [json.loads(line) for line in self.jsons.read_text().splitlines()] if self.jsons.exists() else []

    def bash(self, lines: list[str], **variables: str) -> Ended:
        """Run a batch script."""
        environment = os.environ | {"PATH": f"{self.bin}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"} | variables
        script = "\n".join(lines)
        return subprocess.run(["bash"], input=script, env=environment, capture_output=True, text=True, check=False)

    def job(self, ranks: str, *, element: int | None = None, setup: str = "true") -> Ended:
        """A job, or an element of an array, with this shell in the place of its ranks."""
        after = lines_after_the_task(
            self.logs,
            is_array=element is not None,
            timeout_min=600,
            signal_delay_s=40,
            max_timeouts=2,
            leave=LEAVE,
        )
        own = self.hook.lines_of_a_job("shards", self.logs)
        array = {} if element is None else {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(element)}
        return self.bash([*lines_before_the_task(), setup, *own, f"( {ranks} ) &", *after], **array)

    def end(self, num_elements: int) -> Ended:
        """The job that waits for all others."""
        stage = EndedStage(name="shards", job_id="7", num_elements=num_elements, logs=self.logs)
        return self.bash([self.hook.script_at_the_end([stage], options={"time": "5"})])


def test_a_launch_that_goes_through_tells_at_its_end_and_not_before(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert [site.job("true", element=each).returncode for each in range(2)] == [0, 0]
    assert site.messages == []
    site.end(2)
    assert site.messages == [
        {
            "study": str(site.folder),
            "outcome": "done",
            "stages": [{"stage": "shards", "job": "7", "num_elements": 2, "num_done": 2}],
        }
    ]
    assert "ended, all of it done: shards" in site.texts.read_text()


@pytest.mark.parametrize("setup", ["true", "set -eu; set -o pipefail"])
def test_the_first_failure_alone_is_told_and_the_end_no_more(setup: str, tmp_path: Path) -> None:
    site = Site(tmp_path)
    codes = [site.job(ranks, element=each, setup=setup).returncode for each, ranks in enumerate(["true", "exit 3"])]
    codes += [site.job("exit 1", element=2, setup=setup).returncode]
    assert codes == [0, 3, 1]
    site.end(3)
    [message] = site.messages
    assert message == {
        "study": str(site.folder),
        "outcome": "failed",
        "stage": "shards",
        "job": "7_1",
        "logs": str(site.logs),
        "exit_code": "3",
    }
    assert "shards failed (job 7_1, exit code 3); logs in " in site.texts.read_text()


def test_a_job_that_is_queued_again_has_not_failed_until_it_is_given_up(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (site.bin / "scontrol").write_text("#!/bin/sh\nexit 0\n")
    for _ in range(KILLS_FORGIVEN):
        site.job("exit 137")
        assert site.messages == []
    site.job("exit 137")
    assert [message["exit_code"] for message in site.messages] == ["137"]


def test_a_job_that_slurm_does_not_queue_again_has_failed(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.job("exit 137")
    assert [message["outcome"] for message in site.messages] == ["failed"]


def test_what_was_cancelled_or_went_down_with_its_node_is_told_at_the_end(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.job("true", element=0)
    site.end(3)
    [message] = site.messages
    assert message["outcome"] == "incomplete"
    assert message["stages"] == [{"stage": "shards", "job": "7", "num_elements": 3, "num_done": 1}]
    assert "shards (job 7), 1 of 3 ended well" in site.texts.read_text()


def test_a_job_that_went_down_while_it_told_leaves_that_to_the_end(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (site.logs / "claimed").touch()
    site.job("exit 1")
    assert site.messages == []
    site.end(1)
    assert [message["outcome"] for message in site.messages] == ["incomplete"]


@pytest.mark.parametrize("command", BROKEN)
def test_a_hook_that_does_not_work_costs_a_warning_and_nothing_else(command: str, tmp_path: Path) -> None:
    site = Site(tmp_path, command)
    done = site.job("exit 3", setup="set -o pipefail")
    assert done.returncode == 3
    assert ("WARNING: the hook failed" in done.stdout) == (command != "true")
    assert site.job("true").returncode == 0


def test_a_hook_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hooks, "LIMIT_S", 1)
    site = Site(tmp_path, "trap '' TERM; /bin/sleep 60 & wait; /bin/sleep 60")
    begin_s = time.monotonic()
    tell(site.command, site.folder, "done", "ended")
    assert "has not ended within 1 s" in caplog.text
    done = site.job("exit 3")
    assert done.returncode == 3
    assert "WARNING" in done.stdout
    assert time.monotonic() - begin_s < 20


@pytest.mark.parametrize("command", BROKEN)
def test_a_local_launch_goes_on_without_its_hook(
    command: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tell(command, tmp_path, "done", "ended " * 100_000)
    assert bool(caplog.text) or command == "true"


def local(study: StudyPaths, command: str, *functions: str) -> None:
    """Run functions as stages of a local launch."""
    study.root.mkdir(exist_ok=True)
    launch = Launch(study=study.root, cluster=ClusterConfig(cluster="local", hook=command))
    with submitting(launch, [SHARDS, FINISH_SHARDS]) as submitter:
        failed = []
        for stage, function in zip((SHARDS, FINISH_SHARDS), functions, strict=False):
            task = StageTask(name=stage.name, stage=stage.fields, function=function, values={"study_root": study.root})
            try:
                submitter.submit(Work(stage=stage, tasks=(task,)), after=[])
            except StageFailedError as error:
                failed.append(error)
        if failed:
            raise failed[0]


def test_a_local_launch_tells_once_of_its_first_failure_or_of_its_end(tmp_path: Path) -> None:
    site = Site(tmp_path)
    local(StudyPaths(tmp_path / "good"), site.command, "os:getpid")
    with pytest.raises(StageFailedError):
        local(StudyPaths(tmp_path / "bad"), site.command, "os:abort", "os:getpid")
    outcomes = [(message["outcome"], message.get("stage")) for message in site.messages]
    assert outcomes == [("done", None), ("failed", "shards")]
    local(StudyPaths(tmp_path / "bad"), site.command, "os:getpid", "os:getpid")
    assert site.messages[-1]["stages"] == ["shards", "finish-shards"], "another launch tells anew"


def test_a_local_launch_that_is_told_to_end_tells_and_one_that_began_nothing_does_not(tmp_path: Path) -> None:
    site = Site(tmp_path)
    launch = Launch(study=tmp_path, cluster=ClusterConfig(cluster="local", hook=site.command))
    with submitting(launch):
        pass
    assert site.messages == []
    task = StageTask(name="shards", stage=SHARDS.fields, function="os:getpid", values={"study_root": tmp_path})
    with pytest.raises(SystemExit), submitting(launch) as submitter:  # noqa: PT012 - ended within
        submitter.submit(Work(stage=SHARDS, tasks=(task,)), after=[])
        raise SystemExit(143)
    assert [message["outcome"] for message in site.messages] == ["stopped"]


def test_on_slurm_a_small_job_waits_for_all_that_this_launch_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slurm = CountingSlurm.at(tmp_path / "bin")
    monkeypatch.setenv("PATH", slurm.variables["PATH"])
    study = StudyPaths(tmp_path / "study")
    study.root.mkdir()
    task = StageTask(name=SHARDS.name, stage=SHARDS.fields, function="a:b", values={"study_root": study.root})
    launch = Launch(study=study.root, cluster=ClusterConfig(cluster="slurm", hook="true", sbatch=("reservation=r",)))
    for _ in range(2):  # the second finds all of it queued, and adds nothing
        with submitting(launch, [SHARDS]) as submitter:
            submitter.submit(Work(stage=SHARDS, tasks=(task, task)), after=[])
    calls = [call.options for call in slurm.calls() if call.command == "sbatch"]
    assert len(calls) == 2
    last = calls[-1]
    assert last is not None
    assert (last["dependency"], last["ntasks"], last["reservation"]) == ("afterany:101", "1", "r")
    assert last["comment"].startswith("bccdist:")
    assert caplog.text == ""


def test_a_job_at_the_end_that_is_refused_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slurm = CountingSlurm.at(tmp_path / "bin")
    monkeypatch.setenv("PATH", slurm.variables["PATH"])
    real = (slurm.folder / "sbatch").read_text()
    (slurm.folder / "real").write_text(real)
    refusing = '#!/bin/sh\ncase "$*" in *hook.sh) echo no >&2; exit 1 ;; esac\necho Submitted batch job 101\n'
    (slurm.folder / "sbatch").write_text(refusing)
    study = StudyPaths(tmp_path / "study")
    study.root.mkdir()
    task = StageTask(name=SHARDS.name, stage=SHARDS.fields, function="a:b", values={"study_root": study.root})
    launch = Launch(study=study.root, cluster=ClusterConfig(cluster="slurm", hook="true"))
    with submitting(launch, [SHARDS]) as submitter:
        assert submitter.submit(Work(stage=SHARDS, tasks=(task,)), after=[])
    assert "the hook tells of what fails, and not of the end" in caplog.text
