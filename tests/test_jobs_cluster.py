"""Sites, threads and chunks: what is settled before anything is submitted."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bccdist.errors import ConfigurationError
from jobs import cluster
from jobs.cluster import SITES, ClusterConfig, read_site
from jobs.stages import chunks
from jobs.task import StageTask

TASK = StageTask(name="n", function="os:getcwd", arguments=())


@pytest.mark.parametrize("site", sorted(path.stem for path in SITES.glob("*.toml")))
def test_every_site_file_can_be_read(site: str) -> None:
    assert read_site(site).site == site


def test_a_four_gpu_site_trains_with_four_ranks() -> None:
    assert read_site("gpu4").training_ranks_per_node == 4


def test_an_unknown_key_names_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SITES", tmp_path)
    (tmp_path / "here.toml").write_text('partiton = "gpu"\n')
    with pytest.raises(ConfigurationError, match=r"partiton; known: .*partition"):
        read_site("here")


def test_without_sbatch_jobs_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert ClusterConfig(partition="gpu").resolved == "local"


def test_with_sbatch_jobs_go_to_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert ClusterConfig().resolved == "slurm"


def test_local_processes_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    local = ClusterConfig(cluster="local")
    assert local.with_threads(TASK, num_processes=1).threads == cores
    assert local.with_threads(TASK, num_processes=cores * 3).threads == 1
    assert ClusterConfig(cluster="slurm").with_threads(TASK, num_processes=2).threads is None


@given(st.lists(st.text(), unique=True, min_size=1), st.integers(1, 40))
def test_chunks_hold_every_slide_once_and_are_nearly_equal(slide_ids: list[str], num: int) -> None:
    parts = chunks(slide_ids, num)
    assert sorted(slide_id for part in parts for slide_id in part) == sorted(slide_ids)
    assert len(parts) == min(num, len(slide_ids))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
