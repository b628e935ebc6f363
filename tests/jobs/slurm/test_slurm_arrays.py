"""Arrays on a real Slurm, whatever happens to an element: the others finish, a retry does what is missing."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mini_cluster import MiniCluster, job_ids, wait_for
from places import REPOSITORY
from slurm_study import NUM_TEST, SITE, TRAIN, write_slurm_study
from small_study import SmallStudy

from bccdist.configuration import Setting
from bccdist.failures import BEGUN
from bccdist.files import read_json
from bccdist.models.packing import pack_model
from bccdist.paths import StudyPaths
from jobs.slurm import journal

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
SETTING: Setting = "resnet34_ds"
STAGE = f"infer-{SETTING}-test-best"
STUDY = ("--settings", SETTING, "--train.epochs", "1", "--train.max-steps", "3", *SITE)
STUDY += tuple(word.replace("--", "--train.") if word.startswith("--") else word for word in TRAIN)
INFER = ("--setting", SETTING, "--parts", "test", "--epochs", "best", *SITE)
WHOLE_NODES = ("--cpus-per-rank", "4")
"""Each element has a node of its own."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """With finished shards."""
    return write_slurm_study(tmp_path_factory.mktemp("slurm"))


@pytest.fixture(scope="module")
def finished(drawn: SmallStudy, mini_cluster: MiniCluster, tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    """Taken through all stages on the cluster by one command."""
    # A path that no PYTHONPATH can hold, and that a shell would take apart.
    study = StudyPaths(tmp_path_factory.mktemp("finished") / "a lab's: new" / "study")
    hook = ("--hook", f'echo "$BCCDIST_SUMMARY" >>{shlex.quote(str(study.root / "told"))}')
    words = ("--manifest", drawn.manifest, "--study", study.root, *STUDY, *hook)
    said = mini_cluster.launch("jobs/launch_study.py", *words)
    ids = job_ids(said)
    assert len(ids) == 7, said
    mini_cluster.wait_until_gone(*ids.values(), within_s=240)
    return study


@pytest.fixture
def study(finished: StudyPaths, tmp_path: Path, mini_cluster: MiniCluster) -> Iterator[StudyPaths]:
    """Trained; nothing of the Test part is there, and nothing was submitted."""
    root = tmp_path / "study"
    shutil.copytree(finished.root, root, ignore=shutil.ignore_patterns("test-*", "jobs.jsonl", "logs", "failures"))
    yield StudyPaths(root)
    mini_cluster.cancel_all()


def launch(cluster: MiniCluster, study: StudyPaths, *words: str) -> str:
    """Launch the inference; the id of its array."""
    return job_ids(cluster.launch("jobs/launch_infer.py", "--study", study.root, *INFER, *words))[STAGE]


def status(cluster: MiniCluster, study: StudyPaths, stage: str = STAGE) -> dict[str, Any]:
    return all_stages(cluster, study)[stage]


def all_stages(cluster: MiniCluster, study: StudyPaths) -> dict[str, dict[str, Any]]:
    command = [sys.executable, REPOSITORY / "jobs" / "status.py", study.root, "--json"]
    said = subprocess.run(command, env=os.environ | cluster.variables, capture_output=True, text=True, check=False)
    assert said.stdout, said.stderr
    return {stage["stage"]: stage for stage in json.loads(said.stdout)["stages"]}


def rows(study: StudyPaths) -> dict[str, int]:
    """When the ledger rows of each Test slide were written."""
    return {path.stem: path.stat().st_mtime_ns for path in study.ledger.rglob("test-*.parquet")}


def retry(cluster: MiniCluster, study: StudyPaths) -> str:
    return job_ids(cluster.launch("jobs/status.py", study.root, "--retry-failed"))[STAGE]


def assert_whole(cluster: MiniCluster, study: StudyPaths, before: dict[str, int]) -> None:
    """All slides are done, and those that were done before were left alone."""
    found = status(cluster, study)
    assert (found["state"], found["num_done"], found["failures"]) == ("done", NUM_TEST, {})
    after = rows(study)
    assert {slide_id: after[slide_id] for slide_id in before} == before
    assert not list(study.root.rglob("*.partial-*"))


def test_a_study_goes_through_by_one_command_and_the_status_says_so(
    mini_cluster: MiniCluster, finished: StudyPaths
) -> None:
    stages = all_stages(mini_cluster, finished)
    assert {stage: found["state"] for stage, found in stages.items()} == dict.fromkeys(stages, "done")
    assert len(stages) == 7
    assert (finished.tables / "table4.parquet").exists()
    archive = next(finished.code.glob("*.zip"))
    for log in finished.logs.glob("*/*_0_log.out"):
        assert f"code {archive.stem}\n" in log.read_text(), "code that runs is code that was submitted"
    table = subprocess.run(
        [sys.executable, REPOSITORY / "jobs" / "status.py", finished.root],
        env=os.environ | mini_cluster.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert table.returncode == 0
    assert "train-resnet34_ds" in table.stdout
    told = finished.root / "told"
    wait_for(told.exists, within_s=30, what="the message at the end")
    [message] = map(json.loads, told.read_text().splitlines())
    assert (message["outcome"], len(message["stages"])) == ("done", 7)


def test_a_packed_model_gives_an_array_of_new_slides_the_verdicts_of_the_study(
    mini_cluster: MiniCluster, finished: StudyPaths, drawn: SmallStudy, tmp_path: Path
) -> None:
    model = pack_model(finished.root, tmp_path / "bcc.model")
    names, cohort = ("test-0", "test-3"), StudyPaths(tmp_path / "cohort")
    slides = tmp_path / "slides.csv"
    slides.write_text("slide_id,path\n" + "".join(f"{name},{drawn.data / name}.tif\n" for name in names))
    sections = (drawn.data / "sections.csv").read_text().splitlines()
    kept = [sections[0], *(line for line in sections if line.startswith(names))]
    slides.with_name("sections.csv").write_text("\n".join(kept) + "\n")
    words = ("--model", model.path, "--slides", slides, "--out", cohort.root, *SITE)
    ids = job_ids(mini_cluster.launch("jobs/launch_apply.py", *words))
    assert list(ids) == [f"infer-{SETTING}-test", "tables"]
    mini_cluster.wait_until_gone(*ids.values(), within_s=120)
    stages = all_stages(mini_cluster, cohort)
    assert {stage: found["state"] for stage, found in stages.items()} == dict.fromkeys(ids, "done")
    epoch = model.description.network.epoch
    for name in names:
        inside, outside = (
            pd.read_parquet(each.ledger_rows(SETTING, epoch, name)).drop(
                columns=["read_s", "network_s", "not_assessable"]  # a study judges none: its own are the reference
            )
            for each in (finished, cohort)
        )
        pd.testing.assert_frame_equal(inside, outside, check_exact=True)


def test_a_dry_run_prints_what_sbatch_gets(mini_cluster: MiniCluster, study: StudyPaths) -> None:
    printed = mini_cluster.launch("jobs/launch_infer.py", "--study", study.root, *INFER, "--dry-run")
    assert not study.journal.exists()
    job_id = launch(mini_cluster, study)
    (submitted,) = study.logs.glob(f"*/{job_id}_submission.sh")
    code = next(study.code.glob("*.zip")).stem
    text = re.sub(r"bccdist:[0-9a-f]{12}:\S+:[0-9a-f]{12}", "bccdist:STUDY:STAGE:UNIQUE", submitted.read_text())
    text = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", text)
    text = text.replace(submitted.parent.name, f"{STAGE}-TIME").replace(code, "CODE")
    assert text in printed


def test_an_element_that_is_cancelled_leaves_its_siblings_alone(mini_cluster: MiniCluster, study: StudyPaths) -> None:
    job_id = launch(mini_cluster, study)
    wait_for(lambda: mini_cluster.states(job_id) == ["RUNNING"] * 2, within_s=30, what="both elements running")
    mini_cluster.ask("scancel", f"{job_id}_1")
    mini_cluster.wait_for_outcome(job_id, "CANCELLED", "COMPLETED")
    found = status(mini_cluster, study)
    assert (found["state"], found["num_done"]) == ("stopped", NUM_TEST // 2)
    assert found["ended_elements"] == {"COMPLETED": 1, "CANCELLED": 1}
    before = rows(study)
    again = retry(mini_cluster, study)
    mini_cluster.wait_until_gone(again)
    assert_whole(mini_cluster, study, before)


@pytest.mark.slow
def test_a_node_that_is_set_down_gives_its_element_to_another_start(
    mini_cluster: MiniCluster, study: StudyPaths
) -> None:
    job_id = launch(mini_cluster, study, *WHOLE_NODES)
    wait_for(lambda: mini_cluster.states(job_id) == ["RUNNING"] * 2, within_s=30, what="both elements running")
    # It comes back by itself once its daemon registers again.
    mini_cluster.ask("scontrol", "update", "nodename=node1", "state=down", "reason=test")
    wait_for(lambda: mini_cluster.states(job_id) != ["RUNNING"] * 2, within_s=30, what="the element requeued")
    wait_for(
        lambda: not mini_cluster.states(job_id) or status(mini_cluster, study)["state"] == "held",
        within_s=120,
        what="the array done, or held",
    )
    if status(mini_cluster, study)["state"] == "held":
        assert "let go" in mini_cluster.launch("jobs/status.py", study.root, "--retry-failed")
    mini_cluster.wait_until_gone(job_id)
    assert_whole(mini_cluster, study, {})


def test_a_damaged_slide_fails_alone_and_is_made_up_for_once_it_is_mended(
    mini_cluster: MiniCluster, study: StudyPaths, drawn: SmallStudy
) -> None:
    slide = drawn.data / "test-3.tif"
    content = slide.read_bytes()
    slide.write_bytes(content[:5000])
    try:
        job_id = launch(mini_cluster, study)
        mini_cluster.wait_for_outcome(job_id, "COMPLETED", "FAILED")
    finally:
        slide.write_bytes(content)
    found = status(mini_cluster, study)
    assert (found["state"], found["num_done"], found["missing"]) == ("failed", NUM_TEST - 1, ["test-3"])
    assert "test-3.tif" in found["failures"]["test-3"]
    before = rows(study)
    mini_cluster.wait_until_gone(retry(mini_cluster, study))
    assert_whole(mini_cluster, study, before)


@pytest.mark.slow
def test_a_slide_that_kills_its_process_costs_only_itself(mini_cluster: MiniCluster, study: StudyPaths) -> None:
    """The test is the poison: it kills the worker that begins the slide; the job goes on with another one."""
    begun = study.failure(f"infer-{SETTING}", "test-0")
    job_id = launch(mini_cluster, study, "--max-parallel", "1")
    num_kills = 0
    while mini_cluster.states(job_id):
        if begun.exists() and (pid := _pid_that_began(begun)) is not None:
            os.kill(pid, signal.SIGKILL)
            num_kills += 1
            wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists(), within_s=30, what="the process gone")
    mini_cluster.wait_for_outcome(job_id, "FAILED")
    assert num_kills == 1, "no start is lost"
    found = status(mini_cluster, study)
    assert (found["state"], found["missing"], found["at_work"]) == ("failed", ["test-0"], [])
    assert "SIGKILL" in found["failures"]["test-0"]
    before = rows(study)
    mini_cluster.wait_until_gone(retry(mini_cluster, study))
    assert_whole(mini_cluster, study, before)


def _pid_that_began(begun: Path) -> int | None:
    """The process that works on a slide, if it lives."""
    try:
        facts = read_json(begun)
    except FileNotFoundError:  # ended at this moment
        return None
    pid = int(facts["process"])
    # Once the slide has failed, the file names the process that wrote so.
    return pid if facts["error"] == BEGUN and Path(f"/proc/{pid}").exists() else None


@pytest.mark.slow
def test_a_controller_that_restarts_costs_neither_a_launch_nor_an_array(
    mini_cluster: MiniCluster, study: StudyPaths
) -> None:
    mini_cluster.script("kill", "slurmctld")
    command = [sys.executable, REPOSITORY / "jobs" / "launch_infer.py", "--study", study.root, *INFER]
    with subprocess.Popen(
        command, env=os.environ | mini_cluster.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as launcher:
        assert launcher.stdout is not None
        said = ""
        while "trying again" not in said:
            said += launcher.stdout.readline()
        mini_cluster.script("daemon", "slurmctld")
        said += launcher.stdout.read()
    assert launcher.returncode == 0, said
    job_id = job_ids(said)[STAGE]
    wait_for(lambda: "RUNNING" in mini_cluster.states(job_id), within_s=60, what="an element running")
    mini_cluster.script("restart", "slurmctld")
    mini_cluster.wait_for_outcome(job_id, "COMPLETED", "COMPLETED")
    assert_whole(mini_cluster, study, {})


def test_two_launches_at_once_do_no_double_work(mini_cluster: MiniCluster, drawn: SmallStudy, tmp_path: Path) -> None:
    study = StudyPaths(tmp_path / "study")
    command = [sys.executable, REPOSITORY / "jobs" / "launch_study.py", "--manifest", drawn.manifest]
    # Held, so that none ends between two launches: a stage that has ended is submitted again.
    held = ("--study", study.root, *STUDY, "--sbatch", "hold")
    words = [*command, *held]
    launchers = [
        subprocess.Popen(
            words,
            env=os.environ | mini_cluster.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [launcher.communicate(timeout=120)[0] for launcher in launchers]
    try:
        codes = sorted(launcher.returncode for launcher in launchers)
        told = said[[launcher.returncode for launcher in launchers].index(codes[-1])]
        assert codes in ([0, 0], [0, 1]), said
        assert "not submitted again" in "".join(said) if codes == [0, 0] else "another launch" in told
        again = mini_cluster.launch("jobs/launch_study.py", "--manifest", drawn.manifest, *held)
        assert again.count("not submitted again") == len(job_ids(again)) == 7
        assert "ANOTHER COMMAND" not in again
        other = mini_cluster.launch("jobs/launch_study.py", "--manifest", drawn.manifest, *held, "--train.seed", "7")
        # What waits or runs does not pass for what was asked for.
        assert other.count("BY ANOTHER COMMAND") == other.count("not submitted again") == 7
        assert len(journal.read(study.journal)) == 7, "each stage was submitted once"
    finally:
        mini_cluster.cancel_all()
