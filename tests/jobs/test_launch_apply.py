"""One command takes a model file and slides to verdicts, in a folder that all other commands take like a study."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from cohort import write_cohort, write_model_file, write_slides
from damage import damages
from model_study import write_model_study
from places import REPOSITORY
from range_server import serving
from speedup_records import RECORD

from analysis.outlines.heatmap_tiff import export_heatmap
from analysis.outlines.qupath import write_regions
from analysis.review.worklist import claim_plan, read_worklist
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.relabel import relabel
from bccdist.addresses import Location, parse_address
from bccdist.configuration import PHANTOM_WEIGHTS_WARNING, InferConfig
from bccdist.errors import BccdistError, ConfigurationError, ManifestError, ModelError, StageFailedError
from bccdist.models.cohort_slides import slides_of_cohort
from bccdist.models.model_file import ModelFile, read_model, write_model
from bccdist.models.packing import pack_model
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.seals import write_sealed_json
from bccdist.slides.manifest import read_manifest
from bccdist.speedups.record import write_speedups
from bccdist.stages.epochs import infer_slides
from bccdist.study import claim_study
from jobs.given_manifest import for_this_run
from jobs.launch_apply import ApplyArguments, launch_apply
from jobs.slurm.journal import again_for
from jobs.slurm.sites import ClusterConfig
from jobs.status import status_of

SETTING, EPOCH = "resnet34_ds", 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("apply")


@pytest.fixture(scope="module")
def model(folder: Path) -> ModelFile:
    return write_model_file(folder)


@pytest.fixture(scope="module")
def slides(folder: Path) -> Path:
    return write_slides(folder / "slides", "a", "case-1/HE")


def apply(model: Path, slides: Location, out: Path, **changes: object) -> None:
    arguments = ApplyArguments(
        study=out, model=model, slides=slides, cluster=ClusterConfig(cluster="local"), config=InferConfig(batch=2)
    )
    launch_apply(replace(arguments, **changes))


def refused(error: type[BccdistError], model: Path, slides: Location, out: Path, **changes: object) -> str:
    """What a launch says that makes nothing."""
    with pytest.raises(error) as raised:
        apply(model, slides, out, **changes)
    assert not out.exists()
    return str(raised.value)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_slides_become_verdicts_and_later_ones_are_computed_alone(
    model: ModelFile,
    slides: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = tmp_path / "slides"
    shutil.copytree(slides, given)
    paths = StudyPaths(tmp_path / "cohort")
    apply(model.path, given, paths.root)
    verdicts = pd.DataFrame(Evidence(paths.root).verdicts(Part.TEST))
    assert len(verdicts) == 4
    assert verdicts["label"].isna().all()
    assert paths.report.exists()
    assert all(paths.overlay(SETTING, name).exists() for name in ("a", "case-1-HE"))
    assert all(paths.regions(SETTING, name).exists() for name in ("a", "case-1-HE"))
    assert [(each.stage.name, each.state) for each in status_of(paths.root)[0]] == [
        (f"infer-{SETTING}-test", "done"),
        ("tables", "done"),
    ]
    before = times(paths.heatmaps(SETTING)) | times(paths.ledger)
    write_slides(given / "later", "b")
    (given / "later" / "cut.svs").write_bytes((given / "a.tif").read_bytes()[:2000])
    capfd.readouterr()
    with pytest.raises(StageFailedError, match="infer"):
        apply(model.path, given, paths.root)
    told = capfd.readouterr()
    assert "slide later-cut will fail" in caplog.text
    assert "done before" in told.out + told.err
    after = times(paths.heatmaps(SETTING)) | times(paths.ledger)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"later-b.ozx", "later-b.parquet"}
    assert len(Evidence(paths.root).verdicts(Part.TEST)) == 6
    states = {each.stage.name: each for each in status_of(paths.root)[0]}
    assert list(states[f"infer-{SETTING}-test"].progress.failures) == ["later-cut"]


def test_a_dry_run_shows_the_array_and_makes_nothing(
    model: ModelFile, slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(model.path, slides, tmp_path / "cohort", dry_run=True, cluster=ClusterConfig(max_parallel=2))
    shown = capsys.readouterr().out
    assert "--array=0-1" in shown
    assert "tables" in shown
    assert not (tmp_path / "cohort").exists()


def test_a_dry_run_of_local_processes_says_what_this_machine_would_do(
    model: ModelFile, slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(model.path, slides, tmp_path / "cohort", dry_run=True)
    shown = capsys.readouterr().out
    assert re.search(rf"infer-{SETTING}-test: would run here as \d local process\(es\) for 2 slide\(s\)", shown)
    assert "tables: would run here as 1 local process(es)" in shown
    assert "SBATCH" not in shown
    assert not (tmp_path / "cohort").exists()


def test_a_model_file_that_is_not_whole_makes_nothing(model: ModelFile, slides: Path, tmp_path: Path) -> None:
    data, path = model.path.read_bytes(), tmp_path / "bad.model"
    for damaged in (data[:-100], data[: len(data) // 2], data[:10], b"", *damages(data, seed=3, num=20)):
        path.write_bytes(damaged)
        told = refused(ModelError, path, slides, tmp_path / "cohort")
        assert str(path) in told
        assert "\n" not in told


def test_a_model_of_a_newer_version_is_refused(
    model: ModelFile, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {name: model.read(name) for name in model.names()}
    with monkeypatch.context() as newer:
        newer.setattr("bccdist.models.description.FORMAT_VERSION", 2)
        write_model(tmp_path / "new.model", entries, model.description)
    told = refused(ModelError, tmp_path / "new.model", slides, tmp_path / "cohort")
    assert "its format version is 2, this version of bccdist reads 1" in told


def changed_model(model: ModelFile, path: Path, **changes: object) -> Path:
    """The model with another description, and seals that fit."""
    entries = {name: model.read(name) for name in model.names()}
    write_model(path, entries, replace(model.description, **changes))
    return read_model(path).path


def test_a_model_of_another_um_per_px_is_refused_before_anything_is_queued(
    model: ModelFile, slides: Path, tmp_path: Path
) -> None:
    network = replace(model.description.network, target_mpp=0.46)
    path = changed_model(model, tmp_path / "finer.model", network=network)
    told = refused(ConfigurationError, path, slides, tmp_path / "cohort")
    assert "slide a: " in told
    assert "0.92 um/px, coarser than the target of 0.46 um/px" in told


def test_a_model_by_another_section_method_or_without_thresholds_is_refused(
    model: ModelFile, slides: Path, tmp_path: Path
) -> None:
    path = changed_model(model, tmp_path / "old.model", section_method="tissue 1, sections 2")
    assert "tissue 1, sections 2" in refused(ConfigurationError, path, slides, tmp_path / "cohort")
    entries = {name: model.read(name) for name in model.names() if not name.startswith("selection/")}
    write_model(tmp_path / "bare.model", entries, model.description)
    assert "selection/chosen.parquet" in refused(ConfigurationError, tmp_path / "bare.model", slides, tmp_path / "c")


@pytest.mark.parametrize("changes", [{"tiling": "auto"}, {"precision": "int8"}, {"cascade": True}])
def test_what_needs_a_speedup_record_that_the_model_lacks_is_refused(
    model: ModelFile, slides: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    config = InferConfig(batch=2, **changes)
    assert "no speed-up record" in refused(ConfigurationError, model.path, slides, tmp_path / "c", config=config)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"instruction_set": "sse2"}, "suits this machine (a processor: it was measured with instruction set sse2"),
        ({"device_type": "cuda", "name": "a GPU"}, "suits this machine (a GPU: it was measured with device cuda"),
        (None, "but one of another version"),
    ],
)
def test_a_model_whose_records_suit_other_machines_alone_is_refused_where_jobs_run_here(
    model: ModelFile,
    slides: Path,
    tmp_path: Path,
    changes: dict[str, str] | None,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobs.launch_apply.num_local_gpus", lambda: 0)
    record = replace(RECORD, machine=replace(RECORD.machine, **(changes or {})))
    write_speedups(tmp_path / "record.json", record)
    if changes is None:
        write_sealed_json(tmp_path / "record.json", {"schema_version": 2})
    entries = {name: model.read(name) for name in model.names()}
    entries["speedups/epoch-002-x.json"] = (tmp_path / "record.json").read_bytes()
    write_model(tmp_path / "fast.model", entries, model.description)
    config = InferConfig(batch=2, tiling="auto")
    message = refused(ConfigurationError, tmp_path / "fast.model", slides, tmp_path / "c", config=config)
    assert told in message
    assert "jobs/launch_calibrate.py" in message


def test_a_way_that_leaves_out_the_output_of_the_thresholds_is_refused(
    model: ModelFile, slides: Path, tmp_path: Path
) -> None:
    config = InferConfig(exit="psi_0")
    assert "the thresholds are for psi_4" in refused(
        ConfigurationError, model.path, slides, tmp_path / "c", config=config
    )


def test_another_tolerance_of_um_per_px_than_the_models_is_told(
    model: ModelFile, slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    apply(model.path, slides, tmp_path / "c", dry_run=True, config=InferConfig(mpp_tolerance=0.3))
    assert "mpp_tolerance is 0.3, the model was made with 0.1" in caplog.text


@pytest.mark.parametrize("engine", ["openvino", "mnn"])
def test_an_engine_that_is_not_installed_is_refused(
    engine: Literal["openvino", "mnn"], model: ModelFile, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"jobs.stages.has_{engine}", lambda: False)
    told = refused(ConfigurationError, model.path, slides, tmp_path / "c", config=InferConfig(engine=engine))
    assert f"pip install 'bccdist[{engine}]'" in told


def test_a_phantom_model_on_real_slides_says_so_at_once(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = write_model_file(tmp_path, phantom=True)
    apply(drawn.path, slides, tmp_path / "cohort", dry_run=True)
    assert PHANTOM_WEIGHTS_WARNING in caplog.text
    assert f"{drawn.path}: this model has no reference of quality" in caplog.text


def test_slides_that_cannot_be_a_cohort_make_nothing(model: ModelFile, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no slide is in it" in refused(ManifestError, model.path, empty, tmp_path / "c")
    Path(os.fsdecode(os.fsencode(empty) + b"/\xff.svs")).write_bytes(b"1")
    assert r"\xff.svs: its name is not UTF-8" in refused(ManifestError, model.path, empty, tmp_path / "c")
    table = tmp_path / "slides.csv"
    table.write_text("slide_id,path\na,x.svs\na,y.svs\n")
    assert "slide_id 'a' occurs more than once" in refused(ManifestError, model.path, table, tmp_path / "c")
    junk = write_slides(tmp_path / "junk", "ok")
    (junk / "ok.tif").rename(junk / "bad.svs")
    (junk / "bad.svs").write_bytes(b"no slide")
    assert "bad.svs: OpenSlide cannot open it" in refused(ConfigurationError, model.path, junk, tmp_path / "c")


@pytest.mark.parametrize("address", ["https://u:Hidden1@host/slides/", "s3://bucket/a.svs", "https://host/list.txt"])
def test_of_a_server_a_table_alone_can_be_given(model: ModelFile, tmp_path: Path, address: str) -> None:
    said = refused(ManifestError, model.path, parse_address(address), tmp_path / "c")
    assert said.endswith("with an address in each row")
    assert "\n" not in said
    assert "Hidden1" not in said


def test_a_table_on_a_server_says_which_slides_the_cohort_has(
    model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = write_slides(tmp_path / "served", "a", "b")
    (served / "slides.csv").write_text("slide_id,path\na,a.tif\nb,b.tif\n")
    with serving(served) as server:
        apply(model.path, parse_address(f"{server.url}/slides.csv"), tmp_path / "cohort", dry_run=True)
        found = slides_of_cohort(
            for_this_run(parse_address(f"{server.url}/slides.csv"), all_in=Part.TEST), tmp_path / "cohort"
        )
        assert [str(slide.path) for slide in found.new] == [f"{server.url}/{name}.tif" for name in ("a", "b")]
    assert "2 slides, 2 of them new" in caplog.text
    assert not (tmp_path / "cohort").exists()


def test_an_out_that_is_something_else_or_inside_of_the_slides_is_refused(
    model: ModelFile, slides: Path, folder: Path, tmp_path: Path
) -> None:
    assert "lies inside of" in refused(ManifestError, model.path, slides, slides / "cohort")
    before = times(folder / "model-study")
    with pytest.raises(ConfigurationError, match="is a study"):
        apply(model.path, slides, folder / "model-study")
    assert times(folder / "model-study") == before


def test_what_fails_before_it_is_queued_leaves_no_cohort(
    model: ModelFile, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConfigurationError("no such program")

    monkeypatch.setattr("jobs.slurm.submission._require_container_program", refuse)
    assert "no such program" in refused(ConfigurationError, model.path, slides, tmp_path / "cohort")


def test_a_launch_that_was_killed_early_is_taken_up_again(
    model: ModelFile, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place in ("jobs.launch_apply.unpack_model", "jobs.stages.keep_manifest", "jobs.stages.launch_stages"):
        with monkeypatch.context() as killed:
            killed.setattr(place, die)
            with pytest.raises(KeyboardInterrupt):
                apply(model.path, slides, tmp_path / "cohort")
    apply(model.path, slides, tmp_path / "cohort", dry_run=True)
    assert len(read_manifest(tmp_path / "cohort" / "slides.csv").slides) == 2


@pytest.mark.parametrize(
    ("slides_csv", "sections_csv"),
    [
        ("slide_id,path,mpp\na,slides/a.tif,0.46\n", None),
        (
            "slide_id,path\na,slides/a.tif\n",
            "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px\na,s,,60,40,300,200\n",
        ),
    ],
    ids=["um/px", "boxes"],
)
def test_asked_for_what_is_missing_alone_no_verdict_of_another_scale_or_box_stands(
    model: ModelFile, tmp_path: Path, slides_csv: str, sections_csv: str | None
) -> None:
    paths = write_cohort(tmp_path / "cohort", model.path, write_slides(tmp_path / "slides", "a"))
    (tmp_path / "slides.csv").write_text(slides_csv)
    if sections_csv is not None:
        (tmp_path / "sections.csv").write_text(sections_csv)
    before = (paths.root / "slides.csv").read_bytes()
    with pytest.raises(
        ConfigurationError, match=r"1 slide\(s\) have another um/px or other sections .* such as a: leave"
    ):
        apply(model.path, tmp_path / "slides.csv", paths.root, only_missing=True)
    assert (paths.root / "slides.csv").read_bytes() == before


def test_a_retry_names_the_folder_where_the_cohort_lies_now() -> None:
    command = ("jobs/launch_apply.py", "--model", "m", "--out", "cohorts/a", "--slides", "s", "--only-missing")
    assert again_for(command, Path("/there")) == (*command[:3], "--slides", "s", "--study", "/there")
    assert again_for(("l.py", "--out=x", "--batch", "2"), Path("/y")) == ("l.py", "--batch", "2", "--study", "/y")


def test_the_command_line_says_one_line_for_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "jobs" / "launch_apply.py"), "--model", "gone.model"]
    finished = subprocess.run(
        [*command, "--slides", str(tmp_path), "--out", str(tmp_path / "c")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode != 0
    assert "gone.model: no model file there" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_verdicts_are_those_of_the_same_slide_inside_of_the_study_bit_for_bit(tmp_path: Path) -> None:
    study = write_model_study(tmp_path / "study", seed=5)
    data = study.root / "data"
    slides = write_slides(tmp_path / "new", "slide-4", "other")
    shutil.copy(slides / "slide-4.tif", data / "slide-4.tif")
    claim_study(study.root, data / "slides.csv")
    config = InferConfig(batch=2)
    infer_slides(data / "slides.csv", ["slide-4"], study.root, SETTING, "chosen", config, num_workers=0)
    model = pack_model(study.root, tmp_path / "bcc.model")
    cohort = write_cohort(tmp_path / "cohort", model.path, slides)
    inside, outside = (
        pd.read_parquet(each.ledger_rows(SETTING, EPOCH, "slide-4")).drop(
            columns=["read_s", "network_s", "not_assessable"]  # a study judges none: its sections are the reference
        )
        for each in (study, cohort)
    )
    pd.testing.assert_frame_equal(inside, outside, check_exact=True)
    assert np.stack(list(inside["largest_region_px"])).any()
    one, other = (Evidence(each.root).verdicts(Part.TEST).query("slide_id == 'slide-4'") for each in (study, cohort))
    columns = ["section_id", "verdict", "t_p", "t_a_um2"]
    pd.testing.assert_frame_equal(
        one[columns].reset_index(drop=True), other[columns].reset_index(drop=True), check_exact=True
    )


def test_the_commands_of_a_study_take_a_cohort(model: ModelFile, slides: Path, tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "cohort", model.path, slides)
    manifest = cohort.root / "slides.csv"
    plan = claim_plan(cohort.review_plan, order=None, blind_share=0.0, seed=None)
    worklist = read_worklist(cohort.root, [Part.TEST], plan)
    assert len(worklist.sections) == 4
    assert len(write_regions(Evidence(cohort.root), manifest, num_workers=0)) == 2
    assert export_heatmap(Evidence(cohort.root), "a").exists()
    (tmp_path / "sections.csv").write_text("slide_id,section_id,label\na,a-s0,Tumor\na,a-s1,Normal\n")
    assert relabel(cohort.root, tmp_path / "sections.csv").num_added == 2
    labels = Evidence(cohort.root).verdicts(Part.TEST).set_index("section_id")["label"]
    assert (labels["a-s0"], labels["a-s1"]) == ("Tumor", "Normal")
