"""The whole chain on tiny phantom slides, as submitted jobs on local processes, with the faults that a lab meets."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from bccdist.configuration import PHANTOM_WARNING, InferConfig, TrainConfig
from bccdist.errors import StageFailedError
from bccdist.paths import StudyPaths
from bccdist.phantom import PhantomConfig, make_phantom
from jobs.launch_shards import ShardsArguments
from jobs.launch_shards import main as launch_shards
from jobs.launch_study import StudyArguments, launch_study
from jobs.slurm.sites import ClusterConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PHANTOM = PhantomConfig(
    num_train=2,
    num_val1=1,
    num_val2=2,
    num_test=2,
    sections_per_slide=(2, 2),
    slide_width_level0_px=3072,
    slide_height_level0_px=1792,
)
TRAIN = TrainConfig(width=4, epochs=2, global_batch=4, micro_batch=2, max_steps=2, keep_best=2, num_workers=0)
SETTINGS = ("resnet34_ds", "resnet34_linear")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The slides.csv of seven drawn slides with two sections each."""
    return make_phantom(tmp_path_factory.mktemp("phantom"), PHANTOM, report=lambda _: None)


def study_of(manifest: Path, root: Path) -> StudyArguments:
    return StudyArguments(
        study=root,
        cluster=ClusterConfig(cluster="local", ranks_per_node=2, max_parallel=2),
        manifest=manifest,
        settings=SETTINGS,
        train=TRAIN,
        infer=InferConfig(batch=2),
    )


def cut(study: StudyArguments) -> None:
    """The first stage alone."""
    shards_alone = ShardsArguments(study=study.study, cluster=study.cluster, manifest=study.manifest)
    launch_shards(shards_alone)


def change_times(*folders: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_slides_become_tables_and_done_work_is_not_done_again(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = _copy(drawn, tmp_path / "data")
    with (manifest.parent / "sections.csv").open("a") as sections:
        sections.write("phantom-test-000,phantom-test-000-glass,0,0,64,64,Normal,nobody,,\n")
    _damage(manifest, "phantom-test-001")
    paths = StudyPaths(tmp_path / "study")
    with pytest.raises(StageFailedError, match="infer-resnet34_ds-test: 1 of 2 job"):
        launch_study(study_of(manifest, paths.root))
    assert "NOT IN THE TABLES: phantom-test-001 failed in infer-resnet34_ds" in capsys.readouterr().out
    _mend(manifest, "phantom-test-001", drawn)
    expensive = (paths.shards.root / "tars", paths.runs / "resnet34_ds" / "checkpoints", paths.root / "heatmaps")
    before = change_times(*expensive)
    launch_study(study_of(manifest, paths.root))
    after = change_times(*expensive)
    assert {path: after[path] for path in before} == before
    assert {Path(path).stem for path in set(after) - set(before)} == {"phantom-test-001"}
    shown = capsys.readouterr().out
    assert "done before" in shown
    assert "Table 4" in shown
    assert "F_1.5" in shown
    assert all("PHANTOM DATA" in line for line in shown.splitlines() if "**Table" in line)
    _assert_ledger_is_whole(pd.read_parquet(paths.sections))
    assert set(pd.read_parquet(paths.selection)["setting"]) == set(SETTINGS)
    every_output = pd.read_parquet(paths.tables / "section_verdicts.parquet")
    assert set(every_output["psi"]) == {"merged", *(f"psi_{number}" for number in range(5))}
    verdicts = every_output[every_output["is_final"]].set_index("section_id")["verdict"]
    assert set(verdicts["phantom-test-000-glass"]) == {"review"}, "without tissue a section is never Normal"
    for setting in SETTINGS:
        assert len(list(paths.overlay(setting, "x").parent.glob("*.png"))) == 5
    assert PHANTOM_WARNING in paths.report.read_text()
    drawn_figures = {path.stem for path in paths.figures.glob("*.png")}
    assert drawn_figures >= {"figure2", "figure4", "figure5", "figure8", "stability"}


def _assert_ledger_is_whole(ledger: pd.DataFrame) -> None:
    is_test = ledger["part"] == "Test"
    for setting, num_outputs in (("resnet34_ds", 5), ("resnet34_linear", 6)):
        rows = ledger[~is_test & (ledger["setting"] == setting)]
        assert len(rows) == 6 * num_outputs * 2, "sections x outputs x epochs"
        assert rows["psi"].nunique() == num_outputs
    assert ledger[is_test].groupby("setting")["epoch"].nunique().to_dict() == dict.fromkeys(SETTINGS, 1)
    assert ledger["phantom"].all()
    is_glass = ledger["section_id"] == "phantom-test-000-glass"
    assert (ledger.loc[~is_glass, "coverage"] == 1).all()
    assert (ledger.loc[is_glass, "coverage"] == 0).all()


def test_a_bad_slide_ends_the_stage_but_not_the_others_and_a_rerun_finishes(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = _copy(drawn, tmp_path / "data")
    _damage(manifest, "phantom-train-001")
    study = study_of(manifest, tmp_path / "study")
    paths = StudyPaths(study.study)
    with pytest.raises(StageFailedError, match="1 of 2 job"):
        cut(study)
    assert "phantom-train-001" in capsys.readouterr().out
    failure = json.loads(paths.failure("shards", "phantom-train-001").read_text())
    assert "OpenSlide cannot open it" in failure["reason"]
    assert paths.shards.rows("phantom-train-000").exists(), "the other slides went through"
    assert not paths.shards.manifest.exists(), "an unfinished set must not look finished"

    _mend(manifest, "phantom-train-001", drawn)
    cut(study)
    assert "phantom-train-000: 15 patches, done before" in capsys.readouterr().out
    assert not paths.failure("shards", "phantom-train-001").exists()
    assert paths.shards.manifest.exists()


def _copy(drawn: Path, folder: Path) -> Path:
    """The manifest in a folder of its own, its slides as links."""
    for path in drawn.parent.rglob("*"):
        target = folder / path.relative_to(drawn.parent)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.suffix == ".csv":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    return folder / drawn.name


def _slide(manifest: Path, slide_id: str) -> Path:
    return manifest.parent / "slides" / f"{slide_id}.tif"


def _damage(manifest: Path, slide_id: str) -> None:
    """Cut a slide off after its first bytes."""
    slide = _slide(manifest, slide_id)
    content = slide.read_bytes()
    slide.unlink()
    slide.write_bytes(content[:5000])


def _mend(manifest: Path, slide_id: str, drawn: Path) -> None:
    _slide(manifest, slide_id).unlink()
    os.link(_slide(drawn, slide_id), _slide(manifest, slide_id))
