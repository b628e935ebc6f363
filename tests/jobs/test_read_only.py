"""In a study that nothing can be written to what is done is done, what can be shown is shown; a line says the rest."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from picture_study import write_picture_study
from places import REPOSITORY
from small_study import SmallStudy, write_finished_study

from bccdist.configuration import ShardConfig
from bccdist.errors import ConfigurationError
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import merge
from bccdist.study import claim_study
from jobs.launch_shards import ShardsArguments
from jobs.launch_shards import main as launch_shards
from jobs.slurm.sites import ClusterConfig
from jobs.status import status_of
from shards.finish import finish_set

Mount = Callable[[Path], Path]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )


@pytest.fixture
def study(tmp_path: Path) -> SmallStudy:
    """Three slides in finished shards."""
    study = write_finished_study(tmp_path / "own", width_px=800, height_px=560)
    claim_study(study.root, study.manifest)
    return study


def launch(folder: Path, **changes: float) -> None:
    """Launch the shards of the study in a folder."""
    local = ClusterConfig(cluster="local")
    config = replace(ShardConfig(), **changes)
    manifest = folder / "data" / "slides.csv"
    launch_shards(ShardsArguments(study=folder / "study", cluster=local, manifest=manifest, config=config))


def test_a_finished_study_is_done_and_nothing_is_launched(
    study: SmallStudy, read_only: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    there = read_only(study.root.parent)
    caplog.set_level("INFO")
    launch(there)
    assert "is read-only, and all is done: shards, finish-shards" in caplog.text
    stages, _ = status_of(there / "study")
    assert [stage.state for stage in stages] == ["done", "done"]
    with pytest.raises(
        ConfigurationError, match=r"another configuration \(min_tissue_fraction: there 0.01, here 0.5\)"
    ):
        launch(there, min_tissue_fraction=0.5)


@pytest.mark.parametrize("removed", ["rows", "manifest"])
def test_what_is_not_done_is_told_in_one_line(study: SmallStudy, read_only: Mount, removed: str) -> None:
    path = study.shards.rows("train-1") if removed == "rows" else study.shards.manifest
    path.unlink()
    expected = "shards" if removed == "rows" else "finish-shards"
    there = read_only(study.root.parent)
    with pytest.raises(ConfigurationError, match=f"is read-only, and not all is done: {expected}"):
        launch(there)


def test_a_read_only_shard_set_in_a_study_of_ones_own_is_done(study: SmallStudy, read_only: Mount) -> None:
    there = read_only(study.shards.root)
    own = study.root.parent / "another"
    own.mkdir()
    (own / "shards").symlink_to(there)
    replace(study, root=own).build()
    finish_set(study.manifest, own, study.config, num_workers=0)
    assert not list((own / "failures").rglob("*.json"))


def test_tables_and_pictures_are_made_elsewhere(tmp_path: Path, read_only: Mount) -> None:
    folder = read_only(write_picture_study(tmp_path / "own").root.parent)
    there, slides = folder / "study", folder / "data" / "slides.csv"
    made = tmp_path / "made"
    refused = run("analysis/make.py", "table4", there)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].endswith("--into FOLDER makes it in a folder of yours")
    for words in (["table4", there], ["figure2", there], ["regions", there, slides], ["overlays", there, slides]):
        done = run("analysis/make.py", *words, "--into", made)
        assert done.returncode == 0, done.stderr
    assert (made / "tables" / "table4.parquet").exists()
    assert (made / "figures" / "figure2.png").exists()
    assert {path.name for path in made.iterdir()} == {"tables", "figures", "regions", "overlays"}
    no_place = run("analysis/make.py", "selection", there, "--into", made)
    assert "selection has no --into" in no_place.stderr


def test_the_ledger_is_read_where_its_gathered_rows_cannot_be_kept(tmp_path: Path, read_only: Mount) -> None:
    paths = StudyPaths(read_only(write_picture_study(tmp_path / "own").root))
    assert merge(paths.ledger, paths.sections).num_rows > 0
    assert not paths.sections.exists()
