"""A manifest that lies on a server is fetched for a launch, and a dry run writes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from range_server import serving
from small_study import write_unbuilt_study

from bccdist.addresses import parse_address
from jobs import launch_shards
from jobs.launch_shards import ShardsArguments
from jobs.launch_study import StudyArguments, launch_study
from jobs.slurm.sites import ClusterConfig

SECTIONS = [
    f"{slide_id},{slide_id}-{label},{label},{x},0,600,1000"
    for slide_id in "cd"
    for label, x in (("Tumor", 0), ("Normal", 700))
]


@pytest.mark.parametrize("launch", [launch_shards.main, launch_study])
def test_a_dry_run_with_a_manifest_on_a_server_writes_nothing(
    launch: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    study = write_unbuilt_study(
        tmp_path / "served", [("a", "train"), ("b", "val1"), ("c", "val2"), ("d", "test")], SECTIONS
    )
    kind = StudyArguments if launch is launch_study else ShardsArguments
    cluster = ClusterConfig(cluster="local")
    with serving(study.data) as server:
        given = parse_address(f"{server.url}/slides.csv")
        launch(kind(study=tmp_path / "study", manifest=given, cluster=cluster, dry_run=True))
        assert "/slides.csv" in server.paths
    assert not (tmp_path / "study").exists()
