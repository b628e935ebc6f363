"""A task's usage is measured and recorded however it ends, with the slides that were done in it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from usage_records import USAGE, write_start

from bccdist.errors import EventLogError
from bccdist.events import append_event
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.ranks import MARK, Ranks
from bccdist.stages.table import SELECTION, SHARDS, TEST_HEATMAPS, TRAINING, VALIDATION_HEATMAPS
from bccdist.usage import Outcome, SlideTime, Start, Usage, Watts, measured, note_slide, read_records, read_starts

STAGE = replace(TEST_HEATMAPS, setting="unet")


@pytest.fixture(autouse=True)
def _no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (MARK, "SLURM_GPUS_ON_NODE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def start_as(monkeypatch: pytest.MonkeyPatch, ranks: Ranks) -> None:
    """As a launcher of ours starts a process."""
    for name, value in ranks.as_mark().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path / "study")


def recorded(paths: StudyPaths) -> Usage:
    (start,) = read_starts(paths)
    return start.usage


def test_seconds_processor_time_and_memory_are_measured_with_those_of_children(paths: StudyPaths) -> None:
    busy = "import time\nblock = b'x' * (300 << 20)\nwhile time.process_time() < 0.4: pass"
    with measured(SHARDS.fields, paths.root, num_slides=3):
        subprocess.run([sys.executable, "-c", busy], check=True)
        time.sleep(0.05)
    usage = recorded(paths)
    assert usage.seconds >= 0.45
    assert 0.4 <= usage.cpu_s < usage.seconds + 0.5
    assert 0.29 < usage.peak_gib < 64
    assert (usage.stage, usage.num_slides, usage.outcome) == (SHARDS.fields, 3, "done")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("broken"), "failed"),
        (SystemExit(1), "failed"),
        (SystemExit("with a message"), "failed"),
        (SystemExit(0), "done"),
        (SystemExit(128 + signal.SIGTERM), "stopped"),
        (SystemExit(-1), "stopped"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_the_usage_is_recorded_and_the_error_goes_on_however_it_ends(
    error: BaseException, outcome: Outcome, paths: StudyPaths
) -> None:
    with pytest.raises(type(error)), measured(SELECTION.fields, paths.root):
        raise error
    assert recorded(paths).outcome == outcome


def test_slurm_says_what_the_whole_job_had(monkeypatch: pytest.MonkeyPatch, paths: StudyPaths) -> None:
    environment = {
        "OMP_NUM_THREADS": "6",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_NNODES": "2",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    start_as(monkeypatch, Ranks(world_size=8, cluster="slurm", job_id="90_5"))
    with measured(TRAINING.fields, paths.root):
        pass
    usage = recorded(paths)
    assert (usage.num_ranks, usage.num_cpus, usage.num_gpus, usage.job_id) == (8, 48, 8, "90_5")


def test_a_local_job_within_a_job_of_slurm_counts_what_it_has_itself(
    monkeypatch: pytest.MonkeyPatch, paths: StudyPaths
) -> None:
    salloc = {
        "SLURM_JOB_ID": "99",
        "SLURM_PROCID": "1",
        "SLURM_NTASKS": "8",
        "SLURM_CPUS_PER_TASK": "6",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_NNODES": "2",
    }
    for name, value in {**salloc, "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "3"}.items():
        monkeypatch.setenv(name, value)
    start_as(monkeypatch, Ranks(world_size=2, cluster="local", job_id="4242"))
    with measured(TRAINING.fields, paths.root):
        pass
    usage = recorded(paths)
    assert (usage.num_ranks, usage.num_cpus, usage.num_gpus, usage.job_id) == (2, 6, 1, "4242")


def test_what_a_task_starts_is_no_task_itself(monkeypatch: pytest.MonkeyPatch, paths: StudyPaths) -> None:
    monkeypatch.setenv(MARK, Ranks(rank=1, world_size=2, job_id="4242").as_mark()[MARK].replace(str(os.getpid()), "1"))
    with measured(TRAINING.fields, paths.root):
        pass
    assert recorded(paths).job_id == str(os.getpid())


@pytest.mark.parametrize(("visible", "num_gpus"), [(None, 0), ("", 0), ("NoDevFiles", 0), ("0", 1), ("2,3", 2)])
def test_a_local_job_has_the_gpus_that_it_sees(
    visible: str | None, num_gpus: int, monkeypatch: pytest.MonkeyPatch, paths: StudyPaths
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with measured(TRAINING.fields, paths.root):
        pass
    assert recorded(paths).num_gpus == num_gpus


def test_only_the_first_rank_speaks(
    monkeypatch: pytest.MonkeyPatch, paths: StudyPaths, caplog: pytest.LogCaptureFixture
) -> None:
    start_as(monkeypatch, Ranks(rank=1, world_size=2))
    with measured(TRAINING.fields, paths.root):
        pass
    assert caplog.text == ""
    assert read_starts(paths) == []


A, B = SlideTime(slide_id="a", seconds=9.0), SlideTime(slide_id="b", seconds=3.0, read_s=1.0, num_epochs=5)


def test_starts_are_read_as_they_were_written_with_their_slides(paths: StudyPaths) -> None:
    other = replace(USAGE, job_id="18", stage=SELECTION.fields, num_slides=None)
    write_start(paths, slides=[A, B])
    write_start(paths, other)
    assert read_starts(paths) == [Start(usage=USAGE, slides=(A, B)), Start(usage=other, slides=())]


def test_a_slide_is_noted_in_the_start_that_works_on_it(paths: StudyPaths) -> None:
    with measured(SHARDS.fields, paths.root, num_slides=1):
        note_slide(paths, A)
    (start,) = read_starts(paths)
    assert start.slides == (A,)


@pytest.mark.parametrize("cut", ["", '{"time_s": 1, "event": "sli'])
def test_slides_of_a_start_that_was_killed_are_not_given_to_the_next(cut: str, paths: StudyPaths) -> None:
    with write_start(paths, slides=[A], is_ended=False).open("a") as file:
        file.write(cut)
    write_start(paths, slides=[B])
    (start,) = read_starts(paths)
    assert start.slides == (B,)


def test_an_element_that_works_on_several_slides_at_once_counts_their_shares(paths: StudyPaths) -> None:
    slides = [SlideTime(slide_id=f"s{number}", seconds=10.0, num_at_once=4) for number in range(8)]
    write_start(paths, replace(USAGE, seconds=25.0), slides)
    (start,) = read_starts(paths)
    assert [slide.share_s for slide in start.slides] == [2.5] * 8
    assert start.startup_s == 5.0


def test_a_record_that_cannot_be_written_costs_no_work(paths: StudyPaths, caplog: pytest.LogCaptureFixture) -> None:
    paths.root.mkdir()
    paths.usage.write_text("a file in the folder's place")
    with measured(SHARDS.fields, paths.root):
        note_slide(paths, A)
    assert caplog.text.count("not written, so plans will lack it") == 3


def test_a_start_without_an_end_is_told_with_its_stage(paths: StudyPaths) -> None:
    with measured(SHARDS.fields, paths.root):
        (begun,) = read_records(paths).unended
    assert begun.stage == SHARDS.fields
    assert read_records(paths).unended == ()
    write_start(paths, is_ended=False)  # as older versions wrote it
    write_start(paths, is_ended=True)
    assert [each.stage for each in read_records(paths).unended] == [None]


def test_a_record_from_before_power_was_noted_is_read(paths: StudyPaths) -> None:
    values = {name: value for name, value in asdict(USAGE).items() if not name.startswith("watts")}
    append_event(paths.usage / "7.jsonl", "end", **values)
    assert recorded(paths) == USAGE


def test_the_power_of_the_site_is_noted(paths: StudyPaths) -> None:
    with measured(SHARDS.fields, paths.root, watts=Watts(per_core=6.5, per_gpu=400)):
        pass
    assert (recorded(paths).watts_per_core, recorded(paths).watts_per_gpu) == (6.5, 400)


def test_a_record_of_another_version_is_refused_with_its_place(paths: StudyPaths) -> None:
    append_event(paths.usage / "7.jsonl", "slide", slide_id="a", minutes=3)
    with pytest.raises(EventLogError, match=r"7\.jsonl: not written by this version \(KeyError"):
        read_starts(paths)


def test_a_study_without_records_has_no_starts(paths: StudyPaths) -> None:
    assert read_starts(paths) == []


def test_a_start_belongs_to_the_stage_of_its_setting_parts_and_epochs() -> None:
    validation = replace(VALIDATION_HEATMAPS, setting="unet")
    part_of_it = Start(usage=replace(USAGE, stage=replace(validation, parts=(Part.VALIDATION_2,)).fields), slides=())
    assert part_of_it.is_of(validation.fields), "parts may be launched one by one"
    for other in (STAGE, replace(validation, setting="resnet34"), replace(validation, parts=(Part.VALIDATION_1,))):
        assert not part_of_it.is_of(other.fields)
    assert part_of_it.is_like(STAGE.fields)
