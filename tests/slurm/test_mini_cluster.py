"""The cluster of slurm/mini-cluster.sh is a Slurm of two nodes with four GPUs each, and is there in seconds."""

import shutil

import mini_cluster as this
import pytest
from mini_cluster import MiniCluster


@pytest.mark.slurm
def test_it_starts_in_under_thirty_seconds(mini_cluster: MiniCluster) -> None:
    assert mini_cluster.start_s < 30


@pytest.mark.slurm
def test_it_has_two_nodes_with_four_gpus_each(mini_cluster: MiniCluster) -> None:
    told = mini_cluster.ask("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%N %G").splitlines()
    assert {" ".join(line.split()) for line in told} == {"node1 gpu:4", "node2 gpu:4"}


@pytest.mark.slurm
def test_a_job_sees_the_gpus_that_it_asked_for(mini_cluster: MiniCluster) -> None:
    assert mini_cluster.ask("srun", "--gpus-per-node=2", "printenv", "CUDA_VISIBLE_DEVICES") == "0,1\n"


@pytest.mark.slurm
def test_starting_it_again_changes_nothing(mini_cluster: MiniCluster) -> None:
    before = {path.name: path.read_text() for path in (mini_cluster.folder / "run").glob("*.pid")}
    mini_cluster.script("start")
    assert {path.name: path.read_text() for path in (mini_cluster.folder / "run").glob("*.pid")} == before
    assert len(before) == 6


def test_without_slurm_and_without_root_it_is_said_why_its_tests_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "needs Slurm, or root on Debian" in str(this.reason_against())
