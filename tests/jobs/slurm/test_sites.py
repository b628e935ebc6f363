"""Sites: what is settled before anything is submitted, and what a wrong file is told."""

from pathlib import Path
from typing import NamedTuple

import pytest

from bccdist.errors import ConfigurationError
from jobs.slurm.sites import SITES, ClusterConfig, CpuJobs, read_site


@pytest.mark.parametrize("site", sorted(path.stem for path in SITES.glob("*.toml")))
def test_every_site_file_can_be_read(site: str) -> None:
    assert read_site(site).site == site


def test_a_four_gpu_site_trains_with_four_ranks_and_cuts_slides_on_its_cpu_partition() -> None:
    site = read_site("gpu4")
    assert (site.training_ranks_per_node, site.partition, site.for_cpu_jobs().partition) == (4, "gpu", "cpu")


def test_a_site_without_gpus_says_how_many_ranks_a_node_has() -> None:
    assert read_site("cpu").training_ranks_per_node == 2


class Wrong(NamedTuple):
    """A site file, and what its message has to say."""

    text: str
    says: str


@pytest.mark.parametrize(
    "case",
    [
        Wrong('partiton = "gpu"', r"partiton; known: .*partition"),
        Wrong('[cpu]\npartitions = "gpu"', r"\[cpu\] unknown key\(s\) partitions; known: .*partition"),
        Wrong('timeout_min = "1 day"', r"timeout_min is '1 day', expected a whole number"),
        Wrong("partition = 7", r"partition is 7, expected a text"),
        Wrong('setup = "module load cuda"', r"setup is 'module load cuda', expected a list of texts"),
        Wrong("timeout_min = 3", r"signal_delay_s is 120, expected at most half of the time limit of 3 min"),
        Wrong('gpu_request = "per_core"', r"gpu_request is 'per_core', expected one of per_node, per_task"),
        Wrong("nodes = 2\nmin_nodes = 3", r"min_nodes is 3, expected at most 2, which nodes is"),
        Wrong(
            'container = "podman run \'image"', r"container is \"podman run 'image\", expected words of a shell: No c"
        ),
        Wrong("nodes = 0", r"nodes is 0, expected at least 1"),
        Wrong('cluster = "lsf"', r"cluster is 'lsf', expected one of auto, slurm, local"),
        Wrong("partition = ", r"here.toml: .*line 1"),
    ],
    ids=lambda case: case.text,
)
def test_a_wrong_site_file_is_told_what_and_what_is_known(case: Wrong, tmp_path: Path) -> None:
    path = tmp_path / "here.toml"
    path.write_text(case.text + "\n")
    with pytest.raises(ConfigurationError, match=case.says):
        read_site(str(path))


def test_lists_and_tables_of_a_site_become_configuration(tmp_path: Path) -> None:
    path = tmp_path / "here.toml"
    path.write_text('setup = ["module load cuda"]\nsbatch = ["exclusive"]\n[cpu]\ntimeout_min = 60\n')
    site = read_site(str(path))
    assert (site.setup, site.sbatch, site.cpu) == (("module load cuda",), ("exclusive",), CpuJobs(timeout_min=60))
    assert (site.timeout_min, site.for_cpu_jobs().timeout_min) == (1440, 60)


def test_without_sbatch_jobs_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert ClusterConfig(partition="gpu").resolved == "local"


def test_with_sbatch_jobs_go_to_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert ClusterConfig().resolved == "slurm"


@pytest.mark.parametrize("watts", ["400", "6.5"])
def test_a_power_may_be_a_whole_number_or_not(watts: str, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f"watts_per_core = {watts}")
    assert read_site(str(site)).watts.per_core == float(watts)


@pytest.mark.parametrize("watts", ["0", "-3", "nan", "inf", "'much'", "true"])
def test_a_power_that_cannot_be_is_refused(watts: str, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f"watts_per_gpu = {watts}")
    with pytest.raises(ConfigurationError, match="watts_per_gpu is"):
        read_site(str(site))
