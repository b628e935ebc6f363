"""Slurm's commands are asked in our words alone, and never for longer than a limit; stand-ins answer here."""

import time
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.slurm import commands
from jobs.slurm.commands import SlurmCommandError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which Slurm's commands are found."""
    found = tmp_path / "bin"
    found.mkdir()
    monkeypatch.setenv("PATH", f"{found}:/usr/bin:/bin")
    return found


def stand_in(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    "name",
    [
        *("SQUEUE_STATES", "SQUEUE_FORMAT", "SACCT_FORMAT", "SCONTROL_ALL", "SCANCEL_STATE", "SINFO_FORMAT"),
        *("SBATCH_PARTITION", "SLURM_TIME_FORMAT", "SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SUBMITIT_EXECUTOR"),
        *("PMI_RANK", "PMIX_RANK", "SRUN_EXPORT_ENV", "SALLOC_PARTITION"),
    ],
)
def test_what_the_profile_or_an_outer_job_sets_changes_no_answer(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(folder, "squeue", "env")
    monkeypatch.setenv(name, "PENDING")
    assert f"{name}=" not in commands.ask("squeue")


@pytest.mark.parametrize("name", ["SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "HOME", "SSH_AGENT_PID"])
def test_which_slurm_is_meant_and_all_that_is_not_slurms_stays(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(folder, "squeue", "env")
    monkeypatch.setenv(name, "/of/the/site")
    assert f"{name}=/of/the/site\n" in commands.ask("squeue")


def living_in_group(group: int) -> list[str]:
    """Commands of a process group that are no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            command, _, rest = path.read_text().rpartition(")")
            state, _, its_group, *_ = rest.split()
            found += [command] if int(its_group) == group and state not in "ZX" else []
    return found


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 &", "trap '' TERM; sleep 60; true", "cat; sleep 60"])
def test_a_command_that_does_not_answer_is_given_up_with_all_that_it_started(script: str, folder: Path) -> None:
    stand_in(folder, "squeue", f"echo $$ >{folder}/pid; {script}")
    start_s = time.monotonic()
    with pytest.raises(SlurmCommandError, match=r"`squeue --me` has not answered within 0.5 s") as late:
        commands.ask("squeue", "--me", limit_s=0.5)
    assert time.monotonic() - start_s < 5
    assert not late.value.in_time
    group, patience_s = int((folder / "pid").read_text()), time.monotonic() + 10
    # What was killed may take a moment to go on a busy machine.
    while (living := living_in_group(group)) and time.monotonic() < patience_s:
        time.sleep(0.05)
    assert not living


def test_a_command_that_is_not_there_or_cannot_be_started_is_an_error_that_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(SlurmCommandError, match="squeueue is not found: is this machine part of a Slurm site"):
        commands.ask("squeueue")
    (folder / "squeue").write_text("no program")
    (folder / "squeue").chmod(0o755)
    with pytest.raises(SlurmCommandError, match="squeue cannot be started"):
        commands.ask("squeue")


def test_a_failure_says_what_the_command_wrote_wherever_it_did(folder: Path) -> None:
    for script, said in {"echo oh >&2; exit 1": "oh", "echo no; exit 1": "no", "exit 7": "exit code 7"}.items():
        stand_in(folder, "scontrol", script)
        with pytest.raises(SlurmCommandError, match=rf"^`scontrol show config` failed: {said}$") as failed:
            commands.ask("scontrol", "show", "config")
        assert (failed.value.said, failed.value.in_time) == (said, True)


def test_bytes_that_are_no_text_do_not_end_it(folder: Path) -> None:
    stand_in(folder, "squeue", r"printf 'job\377\n'")
    assert commands.ask("squeue") == "job\ufffd\n"


@pytest.mark.parametrize("banner", ["", "echo 'Welcome to {the} cluster';", "echo '{maintenance} on Monday';"])
def test_json_is_read_behind_a_greeting(banner: str, folder: Path) -> None:
    stand_in(folder, "squeue", f"{banner} echo '{{\"jobs\": [1]}}'; echo bye")
    assert commands.ask_json("squeue", "--json") == {"jobs": [1]}


@pytest.mark.parametrize("script", ["echo 'JOBID ST'", "true", "echo '{\"jobs\": ['", "echo '[1]'"])
def test_what_is_no_json_is_an_error_that_quotes_it(script: str, folder: Path) -> None:
    stand_in(folder, "squeue", script)
    with pytest.raises(SlurmCommandError, match=r"`squeue --json` wrote something else than JSON: \S+"):
        commands.ask_json("squeue", "--json")
