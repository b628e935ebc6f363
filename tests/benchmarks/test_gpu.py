"""What of the GPU benchmark needs no GPU runs here, so that on a machine with one only CUDA itself is new."""

from pathlib import Path

import pytest
import torch

from bccdist.networks.engines import Arithmetic
from bccdist.phantom import PhantomConfig
from bccdist.slides.slide import Slide
from benchmarks import gpu
from benchmarks.gpu import CELL_PX, MPP, GpuArguments, Section, training_ways, whole_trainings, write_paper_size_slide

_SMALL = PhantomConfig(
    num_train=1,
    num_val1=1,
    num_val2=0,
    num_test=0,
    sections_per_slide=(1, 1),
    slide_width_level0_px=2048,
    slide_height_level0_px=2048,
)

_NARROW = GpuArguments(width=4, micro_batch=1, batch=1, turns=1, steps=1)


def test_whole_trainings_write_their_study_and_tell_the_second_epoch_of_the_job() -> None:
    section = Section()
    whole_trainings(_NARROW, section, num_gpus=1, phantom=_SMALL)
    (row,) = (line.split(" | ") for line in section.lines if line.startswith("| 1 |"))
    assert float(row[1]) > 0
    assert row[2] == "1.00"
    assert row[3].endswith("%")
    assert "4 patches a step" in section.lines[-1]
    assert "DDP's scaling was NOT measured" in section.lines[-1]


@pytest.fixture
def processor(one_torch_thread: None, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The processor in place of the GPU: what only CUDA has is left out, and so is what a processor takes long for."""
    for name in ("empty_cache", "reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 2**30)
    ways = training_ways()
    monkeypatch.setattr(gpu, "training_ways", lambda: [ways[0], ways[-1]])
    engines = [Arithmetic(precision="float32", engine="eager"), Arithmetic(precision="float32", engine="folded")]
    monkeypatch.setattr(gpu, "candidates", lambda _: engines)
    monkeypatch.setattr(gpu, "SLIDE_CELLS", 1)
    return torch.device("cpu")


def test_training_steps_are_told_beside_their_reference_and_the_goal(processor: torch.device) -> None:
    section = Section()
    gpu._training_steps(_NARROW, section, processor, 1e12)
    rows = [line.split(" | ") for line in section.lines[2:-2]]
    assert [row[0] for row in rows] == ["| float32 eager, channels first", "| default"]
    assert [row[3] for row in rows] == ["0.0e+00", "0.0e+00"]
    assert "goal 45%: NOT met" in section.lines[-1]


def test_heatmaps_of_every_way_are_told_beside_their_reference_and_the_goal(processor: torch.device) -> None:
    section = Section()
    gpu._heatmaps(_NARROW, section, processor, 1e12)
    rows = [line.split(" | ") for line in section.lines[2:-2]]
    assert [row[0] for row in rows] == ["| float32 eager", "| float32 folded"]
    assert [row[-1] for row in rows] == ["0.00 |", "0.00 |"]
    assert section.lines[-1].startswith("4 overlapping patches, 0 Mpx, all outputs")


def test_the_slide_of_the_papers_size_is_read_at_its_own_resolution(tmp_path: Path) -> None:
    write_paper_size_slide(tmp_path / "slide.tif", cells=5)
    with Slide(tmp_path / "slide.tif", target_mpp=MPP) as slide:
        assert (slide.width_px, slide.height_px) == (5 * CELL_PX, 5 * CELL_PX)
        assert slide.resolution.resize == 1


@pytest.mark.parametrize(
    ("fails", "is_late", "expected"), [(True, False, "FAILED: ValueError: no"), (False, True, "NOT RUN")]
)
def test_a_part_that_fails_or_is_late_is_said_to_be(fails: bool, is_late: bool, expected: str) -> None:
    def measure() -> None:
        if fails:
            raise ValueError("no\nmore")

    section = Section()
    gpu._attempt(measure, section, is_late=is_late)
    assert section.has_failed
    assert section.lines[-1].startswith(expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_that_it_has_not_run_and_fails() -> None:
    with pytest.raises(SystemExit, match="GPU BENCHMARK NOT RUN"):
        gpu.main(GpuArguments())
