"""A manifest that lies on a server is fetched for a launch, and a dry run writes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from range_server import serving
from small_study import write_unbuilt_study

from bccdist.addresses import parse_address
from bccdist.errors import BccdistError
from jobs import launch_shards
from jobs.given_manifest import FETCHED
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


@pytest.mark.parametrize("launch", [launch_shards.main, launch_study])
def test_of_a_launch_that_is_refused_nothing_stays_of_what_was_fetched(
    launch: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of a new study, nor in place of what an earlier launch fetched."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # Without a slide of Validation I nothing can be launched.
    data = write_unbuilt_study(tmp_path / "served", [("a", "train"), ("c", "val2"), ("d", "test")], SECTIONS).data
    for name in "acd":
        (data / f"{name}.tif").unlink()
    kind = StudyArguments if launch is launch_study else ShardsArguments
    earlier = tmp_path / "earlier" / FETCHED / "slides.csv"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("of an earlier launch")
    with serving(data) as server:
        given = parse_address(f"{server.url}/slides.csv")
        for study in (tmp_path / "new" / "study", tmp_path / "earlier"):
            with pytest.raises(BccdistError):
                launch(kind(study=study, manifest=given, cluster=ClusterConfig(cluster="local")))
        assert "/slides.csv" in server.paths
    assert not (tmp_path / "new").exists()
    assert [path.name for path in earlier.parent.iterdir()] == ["slides.csv"]
    assert earlier.read_text() == "of an earlier launch"
