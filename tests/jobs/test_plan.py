"""A plan follows from a probe as its model says, and a study is held against it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cohort import write_model_file
from study_folders import ledger_row, write_study
from usage_records import USAGE, write_start

from bccdist.configuration import TrainConfig, claim_config
from bccdist.errors import ConfigurationError
from bccdist.files import write_json
from bccdist.models.cohort import unpack_model
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import read_manifest
from bccdist.stages.table import (
    FINISH_SHARDS,
    SELECTION,
    SPEEDUPS,
    TABLES,
    TEST_HEATMAPS,
    TRAINING,
    VALIDATION_HEATMAPS,
)
from bccdist.study import keep_manifest
from bccdist.training.reporting.metrics import write_metrics
from bccdist.usage import SlideTime
from jobs.plan import PlanArguments, main, read_plan, size_of
from jobs.planning.check import actual_of, check_lines
from jobs.planning.lines import as_number, as_size, plan_lines
from jobs.planning.prediction import Figure, Plan, Size, StagePlan, mean_of, predict
from jobs.planning.probe import Probe, read_probe

SETTING = "resnet34_ds"
TRAIN = replace(TRAINING, setting=SETTING)
VALIDATION = replace(VALIDATION_HEATMAPS, setting=SETTING)
TEST = replace(TEST_HEATMAPS, setting=SETTING)
SLIDES = {"train": 4, "val1": 2, "val2": 2, "test": 4}
"""Slides of the probe in each part."""
HEATMAP_BYTES = 1000


def names(part: str) -> list[str]:
    return [f"{part}-{number}" for number in range(SLIDES[part])]


def times(slide_ids: Sequence[str], seconds: float, *, read_s: float = 0.0, num_epochs: int = 1) -> list[SlideTime]:
    return [
        SlideTime(slide_id=slide_id, seconds=seconds, read_s=read_s, num_epochs=num_epochs) for slide_id in slide_ids
    ]


def write_probe(root: Path) -> Probe:
    """A study of 12 slides with one setting and two epochs, every stage of which took round numbers."""
    manifest = root / "slides.csv"
    root.mkdir()
    for part in SLIDES:
        for name in names(part):
            (root / f"{name}.tif").touch()
    rows = [f"{name},{part},{name}.tif,{name}.png" for part in SLIDES for name in names(part)]
    manifest.write_text("\n".join(["slide_id,part,path,annotation", *rows]) + "\n")
    paths = StudyPaths(root / "study")
    write_json(paths.study, {"manifest": str(manifest), "phantom": False})
    cut = [*names("train"), *names("val1")]
    for name in cut:
        for path, size in ((paths.shards.tar(name), 700), (paths.shards.rows(name), 300)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(size))
    tars = [{"path": f"tars/{name}.tar", "num_patches": 10} for name in cut]
    write_json(paths.shards.manifest, {"tars": tars})
    write_start(paths, replace(USAGE, job_id="10", seconds=35.0, num_slides=3), times(cut[:3], 10.0))
    write_start(paths, replace(USAGE, job_id="11", seconds=35.0, num_slides=3), times(cut[3:], 10.0))
    write_start(paths, replace(USAGE, job_id="12", stage=FINISH_SHARDS.fields, seconds=6.0))
    _write_run(paths)
    _write_inference(paths)
    write_start(paths, replace(USAGE, job_id="40", stage=SELECTION.fields, seconds=8.0))
    write_start(paths, replace(USAGE, job_id="50", stage=TABLES.fields, seconds=16.0))
    return read_probe(paths.root)


def _write_run(paths: StudyPaths) -> None:
    run = paths.run(SETTING)
    config = TrainConfig(epochs=2, global_batch=8, keep_best=2)
    claim_config(run.config, config, setting=SETTING)
    draws = {"tumor_free": 40, "tumor": 30, "tumor_dense": 10, "stroma": 0, "normal": 0}
    run.events(0).parent.mkdir(parents=True)
    plan = {"event": "plan", "time_s": 0, "epoch": 1, "num_steps": 10, "draws": draws}
    done = [{"event": "epoch", "time_s": 1, "epoch": 2}, {"event": "done", "time_s": 1, "epochs": 2}]
    run.events(0).write_text("".join(json.dumps(event) + "\n" for event in (plan, *done)))
    for epoch in (1, 2):
        run.weights(epoch).parent.mkdir(parents=True, exist_ok=True)
        run.weights(epoch).write_bytes(bytes(5000))
    # The first epoch is slow; a step of the second takes 2 s, its validation 4 s.
    shared = {"is_final": True, "num_steps": 10, "iou": 0.5}
    rows = [
        {"epoch": 1, "patches_per_s": 2.0, "seconds": 46.0, **shared},
        {"epoch": 2, "patches_per_s": 4.0, "seconds": 24.0, **shared},
    ]
    usage = replace(USAGE, job_id="20", stage=TRAIN.fields, seconds=80.0, num_cpus=8, num_gpus=2, num_ranks=2)
    write_start(paths, usage)
    write_study(paths.root, [], iou={})
    write_metrics(run.metrics, rows)


def _write_inference(paths: StudyPaths) -> None:
    validation = [*names("val1"), *names("val2")]
    gpu = replace(USAGE, num_gpus=1, num_cpus=4)
    usage = replace(gpu, job_id="30", stage=VALIDATION.fields, seconds=90.0, num_slides=4)
    write_start(paths, usage, times(validation, 20.0, num_epochs=2, read_s=4.0))
    usage = replace(gpu, job_id="31", stage=TEST.fields, seconds=58.0, num_slides=4)
    write_start(paths, usage, times(names("test"), 12.0, read_s=4.0))
    parts = {"val1": "Validation I", "val2": "Validation II", "test": "Test"}
    for slide_id, epoch in [
        *((name, epoch) for name in validation for epoch in (1, 2)),
        *((n, 1) for n in names("test")),
    ]:
        path = paths.heatmap(SETTING, epoch, slide_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(HEATMAP_BYTES))
        row = ledger_row(slide_id=slide_id, epoch=epoch, part=parts[slide_id.split("-")[0]])
        metrics = paths.run(SETTING).metrics.read_bytes()
        write_study(paths.root, [row])
        paths.run(SETTING).metrics.write_bytes(metrics)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return write_probe(tmp_path_factory.mktemp("plan") / "data")


def size_times(factor: int, *, max_parallel: int = 4) -> Size:
    counts = {part: factor * SLIDES[part.short] for part in Part}
    return Size(num_slides=counts, max_parallel=max_parallel)


def stage_of(plan: Plan, stage: str) -> StagePlan:
    (found,) = [each for each in plan.stages if each.name == stage]
    return found


def test_slides_cost_their_mean_time_and_elements_their_start_up(probe: Probe) -> None:
    plan = stage_of(predict(probe, size_times(10)), "shards")
    # 60 slides of 10 s and 4 elements of 5 s.
    assert plan.cpu_hours.estimate * 3600 == pytest.approx(60 * 10 + 4 * 5)
    assert plan.wall_s.estimate == pytest.approx((60 * 10 + 4 * 5) / 4)
    assert plan.gpu_hours.estimate == 0
    set_bytes = probe.paths.shards.manifest.stat().st_size
    assert plan.num_bytes.estimate == pytest.approx(60 * 1000 + 10 * set_bytes)
    assert plan.num_files == pytest.approx(60 * 2 + 4), "with three folders and the set's manifest"
    assert plan.num_measured == 6
    assert plan.is_from_few


def test_heatmaps_of_validation_are_for_all_kept_epochs_and_those_of_test_for_one(probe: Probe) -> None:
    plan = predict(probe, size_times(10))
    validation, test = (stage_of(plan, f"infer-{SETTING}-{parts}") for parts in ("val1-val2", "test"))
    # Start-ups of 10 s, both starts' median.
    assert validation.gpu_hours.estimate * 3600 == pytest.approx(40 * 20 + 4 * 10)
    assert test.gpu_hours.estimate * 3600 == pytest.approx(40 * 12 + 4 * 10)
    assert test.cpu_hours.estimate == pytest.approx(4 * test.gpu_hours.estimate)
    assert validation.num_files == pytest.approx(40 * 2 * 2)
    assert test.num_files == pytest.approx(40 * 2)
    assert test.num_bytes.estimate > 40 * HEATMAP_BYTES


def test_more_kept_epochs_cost_all_of_a_slide_but_its_reading(probe: Probe) -> None:
    size = replace(size_times(10), epochs=40, keep_best=5)
    plan = predict(probe, size)
    validation = stage_of(plan, f"infer-{SETTING}-val1-val2")
    assert validation.gpu_hours.estimate * 3600 == pytest.approx(40 * (4 + 16 * 5 / 2) + 4 * 10)
    assert validation.num_files == pytest.approx(40 * 2 * 5)
    assert stage_of(plan, f"infer-{SETTING}-test") == stage_of(predict(probe, size_times(10)), f"infer-{SETTING}-test")


def test_training_grows_with_draws_and_epochs_and_validation_with_its_slides(probe: Probe) -> None:
    plan = stage_of(predict(probe, replace(size_times(10), epochs=3)), f"train-{SETTING}")
    # 800 draws in steps of 8; a step takes 2 s, a validation 10 x 4 s; 80 s of the log were 70 s of epochs.
    assert plan.wall_s.estimate == pytest.approx(3 * (100 * 2 + 40) + 10)
    assert plan.gpu_hours.estimate == pytest.approx(2 * plan.wall_s.estimate / 3600)
    assert plan.cpu_hours.estimate == pytest.approx(8 * plan.wall_s.estimate / 3600)
    cut = stage_of(predict(probe, replace(size_times(10), epochs=3, max_steps=7)), f"train-{SETTING}")
    assert cut.wall_s.estimate == pytest.approx(3 * (7 * 2 + 40) + 10)


def test_weights_are_counted_for_the_epochs_that_are_kept(probe: Probe) -> None:
    two, five = (
        stage_of(
            predict(probe, replace(size_times(1), epochs=8, keep_best=num)), f"train-{SETTING}"
        ).num_bytes.estimate
        for num in (2, 5)
    )
    assert five - two == pytest.approx(3 * 5000)


def test_a_single_job_grows_at_most_with_the_slides(probe: Probe) -> None:
    plan = stage_of(predict(probe, size_times(10)), "select")
    assert plan.wall_s == Figure(estimate=80.0, low=8.0, high=80.0)
    assert "fixed" in plan.note


def test_the_trainings_run_at_the_same_time_and_all_else_one_after_the_other(probe: Probe) -> None:
    plan = predict(probe, size_times(10))
    assert plan.wall_s.estimate == pytest.approx(sum(stage.wall_s.estimate for stage in plan.stages))
    assert plan.unknown == []


def test_a_range_comes_from_the_spread_of_the_slides() -> None:
    assert mean_of([3.0] * 30) == Figure(estimate=3.0, low=3.0, high=3.0)
    spread = mean_of([float(number) for number in range(100)])
    assert spread.low < 49.5 < spread.high
    # Near the normal theory: 1.645 standard errors to each side.
    assert spread.high - spread.low == pytest.approx(2 * 1.645 * 28.87 / 10, rel=0.15)


def test_what_the_probe_has_not_done_is_named_and_not_invented(tmp_path: Path) -> None:
    probe = write_probe(tmp_path / "data")
    for job in ("31", "40"):
        (probe.paths.usage / f"{job}.jsonl").unlink()
    plan = predict(read_probe(probe.paths.root), size_times(10))
    assert [text.split(":")[0] for text in plan.unknown] == ["select", f"infer-{SETTING}-test"]
    lines = plan_lines(plan, size_times(10), probe)
    assert sum(line.startswith("NOT IN THE PLAN") for line in lines) == 2


def test_a_probe_without_records_is_refused(tmp_path: Path) -> None:
    probe = write_probe(tmp_path / "data")
    shutil.rmtree(probe.paths.usage)
    with pytest.raises(ConfigurationError, match="no record of a start"):
        predict(read_probe(probe.paths.root), size_times(1))


def arguments(study: Path, **changes: object) -> PlanArguments:
    return replace(PlanArguments(study=study, slides=100_000), **changes)  # type: ignore[arg-type]


def test_shares_are_the_probes_or_the_papers_or_given_and_add_up(probe: Probe) -> None:
    root = probe.paths.root
    own = size_of(arguments(root), probe).num_slides
    assert list(own.values()) == [33_333, 16_667, 16_667, 33_333]
    paper = size_of(arguments(root, paper_parts=True), probe).num_slides
    assert list(paper.values()) == [13_077, 2_308, 35_231, 49_384]
    assert sum(paper.values()) == 100_000
    given = size_of(arguments(root, parts=(0.2, 0.05, 0.25, 0.5)), probe).num_slides
    assert list(given.values()) == [20_000, 5_000, 25_000, 50_000]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slides": None}, "--slides: not given"),
        ({"slides": 0}, "--slides is 0"),
        ({"max_parallel": 0}, "--max-parallel is 0"),
        ({"keep_best": -1}, "--keep-best is -1"),
        ({"parts": (0.5, 0.5, 0.5, 0.5)}, "the sum 1"),
        ({"parts": (0.25, 0.25, 0.25, 0.25), "paper_parts": True}, "give one of them"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes: dict[str, object], message: str, probe: Probe) -> None:
    with pytest.raises(ConfigurationError, match=message):
        size_of(arguments(probe.paths.root, **changes), probe)


def test_the_plan_is_printed_and_written_and_the_probe_itself_meets_it(
    probe: Probe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plan.json"
    main(arguments(probe.paths.root, slides=12, max_parallel=2, out=out))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines()[1:])) <= max(120, len(str(probe.paths.root)) + 40)
    assert "shards *" in shown
    content = read_plan(out)
    assert content["schema_version"] == "2"
    assert sum(content["study"]["num_slides"].values()) == 12
    main(arguments(probe.paths.root, check=out))
    checked = capsys.readouterr().out
    ratios = {line.split()[0]: line.split() for line in checked.splitlines() if line.startswith(("shards", "train-"))}
    assert ratios["shards"][-1] == "1.00", "12 slides again take what they took"
    assert "not known yet: 0 of 1 done" in checked, "no selection is there"
    assert "not in the plan" not in checked


def test_parts_that_were_inferred_one_by_one_count_for_their_stage(tmp_path: Path) -> None:
    probe = write_probe(tmp_path / "data")
    for job, stage, part in (
        ("32", VALIDATION, Part.VALIDATION_1),
        ("33", VALIDATION, Part.VALIDATION_2),
        ("34", TEST, Part.TEST),
    ):
        launched = replace(stage, parts=(part,)).fields
        write_start(probe.paths, replace(USAGE, job_id=job, stage=launched, seconds=50.0, num_gpus=1))
    actual = actual_of(read_probe(probe.paths.root), VALIDATION, max_parallel=2)
    assert actual.gpu_hours == pytest.approx((90 + 50 + 50) / 3600)
    assert actual.wall_s == pytest.approx(95), "an even share of all elements, which is more than the longest took"


def test_speed_ups_are_planned_where_the_probe_measured_them(tmp_path: Path) -> None:
    probe = write_probe(tmp_path / "data")
    before = predict(probe, size_times(10))
    assert not [plan for plan in before.stages if plan.name.startswith("speedups")]
    assert any("as no speed-ups were measured" in line for line in plan_lines(before, size_times(10), probe))
    speedups = replace(SPEEDUPS, setting=SETTING)
    write_start(probe.paths, replace(USAGE, job_id="60", stage=speedups.fields, seconds=30.0, num_gpus=1))
    probe = read_probe(probe.paths.root)
    after = predict(probe, size_times(10))
    plan = stage_of(after, f"speedups-{SETTING}")
    assert plan.gpu_hours.estimate * 3600 == pytest.approx(300), "as many times as many slides of Validation I"
    assert after.wall_s.estimate == pytest.approx(before.wall_s.estimate + 300)
    assert not any("as no speed-ups were measured" in line for line in plan_lines(after, size_times(10), probe))
    assert actual_of(probe, speedups, max_parallel=2).wall_s == 30.0


def test_a_check_says_where_the_study_is_another_one_than_planned(probe: Probe, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    main(arguments(probe.paths.root, slides=500, out=out))
    assert any("other numbers of slides" in line for line in check_lines(probe, read_plan(out)))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": "bccdist plan", "schema_version": "0"}'])
def test_a_file_that_is_no_plan_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match="--check"):
        read_plan(path)


def test_numbers_are_printed_as_they_are_read() -> None:
    assert [as_number(value) for value in (0.0, 0.0001, 0.0123, 1.234, 99.99, 12_345.6)] == [
        "0",
        "<0.001",
        "0.0123",
        "1.23",
        "100",
        "12,346",
    ]
    assert [as_size(value) for value in (0, 512, 2048, 1010 * 2**20, 3 * 2**40)] == [
        "-",
        "512 B",
        "2 KiB",
        "1010 MiB",
        "3 TiB",
    ]


def test_the_command_gives_one_message_and_starts_without_torch(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "jobs" / "plan.py"
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", str(script), str(tmp_path), "--slides", "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert "is no study" in finished.stderr.splitlines()[-1]
    imported = {line.split("|")[-1].strip() for line in finished.stderr.splitlines() if line.startswith("import time")}
    assert "tyro" in imported
    assert not {"torch", "pandas", "cv2"} & imported


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of two slides, of which heatmaps and tables took round numbers."""
    folder = tmp_path_factory.mktemp("cohort")
    root = folder / "cohort"
    unpack_model(write_model_file(folder), root)
    for name in ("a", "b"):
        (root / f"{name}.tif").touch()
    (root / "slides.csv").write_text("slide_id,part,path\na,Test,a.tif\nb,Test,b.tif\n", encoding="utf-8")
    keep_manifest(root, read_manifest(root / "slides.csv"))
    write_start(
        StudyPaths(root),
        replace(USAGE, job_id="1", stage=TEST.fields, seconds=25.0, num_slides=2),
        times(["a", "b"], 10.0),
    )
    write_start(StudyPaths(root), replace(USAGE, job_id="2", stage=TABLES.fields, seconds=16.0))
    return root


def test_a_cohort_plans_the_heatmaps_and_tables_of_more_slides(
    cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = read_probe(cohort)
    size = size_of(PlanArguments(study=cohort, slides=100, max_parallel=4), probe)
    plan = predict(probe, size)
    assert plan.unknown == []
    # Ten seconds a slide, and five to start each of four elements.
    assert stage_of(plan, f"infer-{SETTING}-test").wall_s.estimate == pytest.approx((100 * 10 + 4 * 5) / 4)
    assert stage_of(plan, "tables").wall_s.high == pytest.approx(50 * 16)
    main(PlanArguments(study=cohort, slides=100))
    told = capsys.readouterr().out
    assert "100 slides of a cohort" in told
    assert not [words for words in ("NOT IN THE PLAN", "speedups", "Training") if words in told]


@pytest.mark.parametrize(
    ("flag", "changes"),
    [
        ("--paper-parts", {"paper_parts": True}),
        ("--parts", {"parts": (0.0, 0.0, 0.5, 0.5)}),
        ("--epochs", {"epochs": 40}),
    ],
)
def test_what_a_cohort_has_not_is_not_planned_from_one(cohort: Path, flag: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{flag}: .* is a cohort"):
        main(PlanArguments(study=cohort, slides=100, **changes))
