"""A flag wins, then the site, then the few things that a profile may say; all else of the shell changes no job."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from counting_slurm import CountingSlurm

from bccdist.errors import ClusterError, ConfigurationError
from bccdist.paths import StudyPaths
from bccdist.stages.table import SHARDS
from jobs.command_line import LauncherArguments
from jobs.slurm import submission
from jobs.slurm.profile import with_profile
from jobs.slurm.sites import ClusterConfig
from jobs.slurm.submission import Launch, Work, submitting
from jobs.slurm.task import StageTask

CLUSTER = ClusterConfig(cluster="slurm", account="lab")
OUTER_JOB = {
    "SLURM_JOB_ID": "41",
    "SLURM_ARRAY_JOB_ID": "40",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_PROCID": "2",
    "SLURM_MEM_PER_CPU": "2048",
    "SLURM_EXPORT_ENV": "NONE",
    "SUBMITIT_EXECUTOR": "slurm",
    "SUBMITIT_PREEMPT_SIGNAL": "USR1",
    "PMI_RANK": "2",
    "PMIX_NAMESPACE": "slurm.pmix.41.0",
    "_SLURM_SPANK_OPTION_pyxis_container_image": "theirs",
    "CUDA_VISIBLE_DEVICES": "3",
}
"""What a shell within an element of an array has."""
PROFILE = {
    "SBATCH_EXPORT": "NONE",
    "SBATCH_TIMELIMIT": "5",
    "SBATCH_ACCOUNT": "somebody-elses",
    "SBATCH_ARRAY_INX": "0-9",
    "SQUEUE_STATES": "PENDING",
    "SACCT_FORMAT": "JobName",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingSlurm:
    """A Slurm whose sbatch keeps its script and its environment."""
    slurm = CountingSlurm.at(tmp_path / "bin")
    monkeypatch.setenv("PATH", slurm.variables["PATH"])
    sbatch_does(slurm, "echo Submitted batch job 7")
    return slurm


def sbatch_does(slurm: CountingSlurm, script: str) -> None:
    keep = f"env >{slurm.folder}/environment\ncp $1 {slurm.folder}/script"
    (slurm.folder / "sbatch").write_text(f"#!/bin/sh\n{keep}\n{script}\n")


def submit(folder: Path, cluster: ClusterConfig = CLUSTER, *, dry_run: bool = False, num_tasks: int = 1) -> list[str]:
    launch = Launch(study=StudyPaths(folder / "study").root, cluster=cluster, dry_run=dry_run)
    task = StageTask(name=SHARDS.name, stage=SHARDS.fields, function="a:b", values={})
    with submitting(launch) as submitter:
        return [each.job_id for each in submitter.submit(Work(stage=SHARDS, tasks=(task,) * num_tasks), after=[])]


def environment(slurm: CountingSlurm) -> dict[str, str]:
    lines = (slurm.folder / "environment").read_text().splitlines()
    return dict(line.split("=", maxsplit=1) for line in lines if "=" in line)


def options(text: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH --")]
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_a_job_gets_nothing_of_the_job_or_profile_that_it_was_submitted_from(
    num_tasks: int, slurm: CountingSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"SLURM_CONF": "/etc/here.conf", "SLURM_SACK_SOCKET": "/run/here.socket", "EDITOR": "vi"}
    for name, value in (OUTER_JOB | PROFILE | kept).items():
        monkeypatch.setenv(name, value)
    assert submit(tmp_path, num_tasks=num_tasks) == ["7"]
    passed_on = environment(slurm)
    assert not passed_on.keys() & {*OUTER_JOB, *PROFILE}
    assert kept.items() <= passed_on.items()


def test_devices_that_no_job_gave_are_the_users_word(
    slurm: CountingSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    submit(tmp_path)
    assert environment(slurm)["CUDA_VISIBLE_DEVICES"] == "3"


def test_the_flags_of_the_launch_stand_in_the_text_whatever_the_profile_says(
    slurm: CountingSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (PROFILE | {"SBATCH_PARTITION": "long", "SUBMITIT_PREEMPT_SIGNAL": "USR1"}).items():
        monkeypatch.setenv(name, value)
    submit(tmp_path)
    found = options((slurm.folder / "script").read_text())
    expected = {"account": "lab", "partition": "long", "time": "1440", "signal": "B:USR2@120"}
    assert {name: found[name] for name in expected} == expected
    assert "array" not in found


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (ClusterConfig(), "profiles"),
        (ClusterConfig(qos="flags"), "flags"),
        (ClusterConfig(sbatch=("qos=sites",)), "sites"),
        (ClusterConfig(sbatch=("--qos=sites",)), "sites"),
        (ClusterConfig(qos="flags", sbatch=("qos=sites",)), "flags"),
    ],
)
def test_the_dry_run_shows_what_runs_and_says_what_of_the_profile_is_used_and_what_not(
    cluster: ClusterConfig,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SBATCH_QOS", "profiles")
    monkeypatch.setenv("SBATCH_NO_REQUEUE", "1")
    submit(tmp_path, cluster, dry_run=True)
    shown = capsys.readouterr().out
    assert options(shown)["qos"] == expected
    used = "# SBATCH_QOS=profiles of your environment is used: neither a flag nor the site says qos"
    assert (used in shown) == (expected == "profiles")
    left = "SBATCH_NO_REQUEUE=1" if expected == "profiles" else "SBATCH_NO_REQUEUE=1, SBATCH_QOS=profiles"
    assert f"left out of your environment, as flags, site and launcher decide: {left};" in shown
    both = "# qos=sites of the site's `sbatch` is left out: qos is flags"
    assert (both in shown) == (cluster.qos is not None and cluster.sbatch != ())


@pytest.mark.parametrize("name", ["reservation", "wckey"])
def test_a_profile_may_say_where_jobs_run_and_who_pays_also_where_the_site_has_no_key_for_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(*further: str) -> str | None:
        submit(tmp_path, ClusterConfig(sbatch=further), dry_run=True)
        return options(capsys.readouterr().out).get(name)

    assert shown() is None, "submitit has a wckey of its own"
    monkeypatch.setenv(f"SBATCH_{name.upper()}", "profiles")
    assert shown("mail-type=FAIL") == "profiles"
    assert shown(f"{name}=sites") == "sites"


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_the_dry_run_shows_the_very_text_that_sbatch_gets(
    num_tasks: int,
    slurm: CountingSlurm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in (OUTER_JOB | PROFILE | {"SBATCH_PARTITION": "long", "SBATCH_WCKEY": "mine"}).items():
        monkeypatch.setenv(name, value)
    submit(tmp_path, dry_run=True, num_tasks=num_tasks)
    shown = capsys.readouterr().out
    submit(tmp_path, num_tasks=num_tasks)
    text = (slurm.folder / "script").read_text()
    (archive,) = (tmp_path / "study" / "code").glob("*.zip")
    unknown = {r"bccdist:[0-9a-f]{12}:\S+:[0-9a-f]{12}": "bccdist:STUDY:STAGE:UNIQUE", r"\b[0-9a-f]{64}\b": "SHA256"}
    unknown |= {rf"{SHARDS.name}-[0-9]{{8}}-[0-9]{{6}}-[0-9a-f]{{4}}": f"{SHARDS.name}-TIME", archive.stem: "CODE"}
    for pattern, word in unknown.items():
        text = re.sub(pattern, word, text)
    assert text in shown
    assert "#SBATCH --partition=long\n" in text


def test_a_launch_within_a_job_says_so(caplog: pytest.LogCaptureFixture) -> None:
    _, said = with_profile(CLUSTER, {"SLURM_JOB_ID": "41", "SLURM_PROCID": "0", "SLURM_CONF": "/etc/here.conf"})
    assert said == ["launched inside Slurm's job 41: 2 variables of that job are not passed on"]
    assert with_profile(CLUSTER, {"SLURM_CONF": "/etc/here.conf"}) == (CLUSTER, [])


@pytest.mark.parametrize("clusters", ["one,other", "all"])
def test_jobs_that_wait_for_one_another_need_one_cluster(clusters: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SLURM_CLUSTERS is '{clusters}', expected one cluster"):
        with_profile(CLUSTER, {"SLURM_CLUSTERS": clusters})
    assert with_profile(CLUSTER, {"SLURM_CLUSTERS": "one"}) == (CLUSTER, [])


EXPORTS = {
    "the sites option": ("export=NONE", {}),
    "another form of it": ("--export=EDITOR", {}),
    "a line that srun obeys": ("", {"SLURM_EXPORT_ENV": "NONE"}),
    "another that srun obeys": ("", {"SRUN_EXPORT_ENV": "NONE"}),
}


@pytest.mark.parametrize(("option", "variables"), EXPORTS.values(), ids=EXPORTS.keys())
def test_tasks_have_what_the_batch_script_has_in_every_form_of_export_none(
    option: str, variables: dict[str, str], slurm: CountingSlurm, tmp_path: Path
) -> None:
    setup = ("export OF_THE_SITE=here", *(f"export {name}={value}" for name, value in variables.items()))
    submit(tmp_path, ClusterConfig(cluster="slurm", setup=setup, sbatch=(option,) if option else ()))
    seen = tmp_path / "seen"
    (slurm.folder / "srun").write_text(f'#!/bin/sh\nenv >{seen}\necho "$@" >{seen}.words\n')
    # Slurm starts the script with nothing but its own variables.
    bare = {"PATH": f"{slurm.folder}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_EXPORT_ENV": "NONE"}
    subprocess.run(["bash", slurm.folder / "script"], env=bare, check=True, timeout=20)
    assert "--export=ALL" in (tmp_path / "seen.words").read_text()
    assert "OF_THE_SITE=here\n" in seen.read_text()
    assert "EXPORT_ENV" not in seen.read_text()


@pytest.mark.parametrize(
    "option", ["comment=mine", "--output=log", "clusters=other", "job_name=mine", "parsable", "no-requeue"]
)
def test_an_option_without_which_jobs_are_not_found_again_is_refused(option: str) -> None:
    name = option.removeprefix("--").partition("=")[0].replace("_", "-")
    with pytest.raises(ConfigurationError, match=f"sbatch has {name}, which the launcher sets itself"):
        ClusterConfig(sbatch=(option,))


@pytest.mark.parametrize(
    ("option", "key"),
    [("time=60", "timeout_min"), ("--nodes=2", "nodes"), ("cpus_per_task=4", "cpus_per_rank")],
)
def test_an_option_that_the_launcher_computes_with_is_asked_for_by_its_key(option: str, key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"which the launcher computes with: set {key}$"):
        ClusterConfig(sbatch=(option,))


def test_the_number_of_the_job_is_found_behind_a_greeting_that_speaks_of_another(
    slurm: CountingSlurm, tmp_path: Path
) -> None:
    sbatch_does(slurm, "echo 'Your job 3 waits. Welcome.'; echo 'Submitted batch job 8 on cluster one'")
    assert submit(tmp_path) == ["8"]


def test_a_job_of_which_sbatch_says_no_number_is_taken_back(slurm: CountingSlurm, tmp_path: Path) -> None:
    sbatch_does(slurm, "echo Thank you")
    cancelled = slurm.folder / "cancelled"
    (slurm.folder / "scancel").write_text(f'#!/bin/sh\necho "$@" >{cancelled}\n')
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(submission.queue, "jobs_with_comment", lambda _: ["9"])
        with pytest.raises(ClusterError, match="did not say which job it submitted, but: Thank you"):
            submit(tmp_path)
    assert cancelled.read_text() == "9\n"


def test_an_sbatch_that_does_not_answer_is_asked_again_after_its_job_was_taken_back(
    slurm: CountingSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = slurm.folder / "asked"
    sbatch_does(slurm, f"[ -e {asked} ] && echo Submitted batch job 8 && exit\ntouch {asked}; sleep 60")
    monkeypatch.setattr(submission, "_SBATCH_LIMIT_S", 0.5)
    monkeypatch.setattr(submission, "_PAUSE_S", 0.01)
    taken_back: list[str] = []
    monkeypatch.setattr(submission.queue, "jobs_with_comment", lambda _: ["7"])
    monkeypatch.setattr(submission.queue, "cancel", taken_back.extend)
    assert submit(tmp_path) == ["8"]
    assert taken_back == ["7"]


def test_jobs_get_the_paths_that_the_user_gave(
    slurm: CountingSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk" / "work").mkdir(parents=True)
    home = tmp_path / "home"
    home.symlink_to(tmp_path / "disk")
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("PWD", str(home / "work"))
    (tmp_path / "disk" / "work" / "python").touch()
    monkeypatch.setattr(sys, "orig_argv", ["./python", "launch.py"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "disk" / "work" / "python"))
    launch = LauncherArguments(study=Path("study"), cluster=CLUSTER).launch
    assert launch.study == home / "work" / "study"
    submit(launch.study.parent)
    script = (slurm.folder / "script").read_text()
    assert options(script)["chdir"] == str(home / "work")
    assert f"{home / 'work' / 'python'} -u {launch.paths.code}" in script
    assert str(tmp_path / "disk") not in script
    logs = Path(options(script)["output"]).parent
    assert logs.is_dir(), "it is there before any job, so that one which cannot start can say why"


def test_the_command_that_a_launch_names_can_be_copied(
    slurm: CountingSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(tmp_path / "it's new")
    named = capsys.readouterr().out.split("`")[1]
    assert shlex.split(named)[-1] == str(tmp_path / "it's new" / "study")


@pytest.mark.parametrize("name", ["100%", "a%jb", "back\\slash", "two\nlines"])
def test_a_path_that_slurm_would_read_as_a_pattern_is_refused(name: str, slurm: CountingSlurm, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="which Slurm does not take in the path of a log"):
        submit(tmp_path / name)
