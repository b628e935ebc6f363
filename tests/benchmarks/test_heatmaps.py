"""The benchmark from slide to heatmap gives all ways the same work and hides none that breaks."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from heatmap_slides import pink_picture, write_slide

from bccdist.errors import ConfigurationError
from bccdist.networks.inputs import to_network_input
from bccdist.networks.weights import load_network, save_network
from benchmarks import heatmap_task, heatmap_ways, heatmaps
from benchmarks.heatmap_task import prepare_slide, prepare_task, random_network
from benchmarks.heatmap_ways import Task, tissue_box, tissue_mask_image
from benchmarks.heatmaps import REFERENCE, Runs, Way, difference, run_once, table, take_turns

_SIZE_PX = (1150, 800)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Task, Path]:
    """A small slide with a very narrow network."""
    monkeypatch.setattr(heatmap_task, "NUM_SAMPLES", 2)
    picture = pink_picture(*_SIZE_PX, islands=[(300, 300, 260, 180)])
    manifest, record = prepare_slide(tmp_path, write_slide(tmp_path / "slide.tif", picture), (0, 0))
    task, _ = prepare_task(tmp_path, manifest, record, None, setting="resnet34_ds", width=4, batch=4)
    return task, tmp_path


def test_the_patch_loop_and_this_project_agree_on_tissue(prepared: tuple[Task, Path]) -> None:
    task, folder = prepared
    loop = heatmap_ways.patch_loop(task, folder, num_workers=0)
    own = heatmap_ways.bccdist(task, folder, engine="eager")
    assert loop.heatmap is not None
    assert own.heatmap is not None
    assert loop.num_patches == own.num_patches == len(task.places)
    assert loop.heatmap.shape == own.heatmap.shape == _SIZE_PX[::-1]
    largest, mean = difference(own.heatmap, loop.heatmap, task)
    assert 0 < mean <= largest <= 0.5 / 255 + 1e-5
    assert min(loop.took.wall_s, own.took.wall_s, loop.took.peak_gib, own.took.peak_gib) > 0


def test_a_task_survives_its_file(prepared: tuple[Task, Path]) -> None:
    task, folder = prepared
    (folder / "task.json").write_text(heatmap_ways.task_text(task))
    assert Task.read(folder / "task.json") == task


def test_masks_mark_the_cells_with_tissue_alone(prepared: tuple[Task, Path]) -> None:
    task, _ = prepared
    mask = tissue_mask_image(task)
    assert mask.shape == (25, 36)
    times = 256 // heatmap_ways.MASK_PX
    for (row, col), has_tissue in np.ndenumerate(np.asarray(task.cells)):
        assert (mask[times * row :, times * col :][:times, :times] == has_tissue).all()


def test_the_box_holds_the_tissue_and_a_cell_more() -> None:
    assert tissue_box([[False, False, False], [False, True, True]]) == (0, 3, 0, 4)
    assert tissue_box([[True]]) == (-1, 2, -1, 2)


def test_a_region_lands_where_it_was_read() -> None:
    region = np.arange(16, dtype=np.float32).reshape(4, 4)
    found = heatmap_ways._on_slide(region, origin_px=(-1, 2), size_px=(5, 4))
    expected = np.full((4, 5), np.nan, dtype=np.float32)
    expected[2:, :3] = region[:2, 1:]
    np.testing.assert_array_equal(found, expected)


def test_random_weights_are_the_same_each_time_and_decide_nothing_outright() -> None:
    samples = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    one, other = (random_network("resnet34_ds", 4, samples) for _ in range(2))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    with torch.inference_mode():
        probability = heatmap_ways.final_probability(one, to_network_input(samples))
    assert 0.01 < probability.mean() < 0.99
    assert probability.std() > 0.01


def test_the_export_that_tiatoolbox_is_given_finds_what_the_network_does() -> None:
    patches = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    network = random_network("resnet34_linear", 4, patches)
    network.use_memory_format(channels_last=False)
    found = heatmap_ways.exported_probability(network)(patches)
    with torch.inference_mode():
        assert torch.equal(found, heatmap_ways.final_probability(network, to_network_input(patches)))


def test_given_weights_are_taken_as_they_are(prepared: tuple[Task, Path], tmp_path: Path) -> None:
    task, folder = prepared
    manifest, record = prepare_slide(folder, Path(task.slide), (0, 0))
    again = tmp_path / "again"
    weights = Path(task.weights)
    given, _ = prepare_task(again, manifest, record, weights, setting="unet", width=64, batch=4)
    assert Path(given.weights).read_bytes() == weights.read_bytes()
    assert (given.setting, given.places) == ("resnet34_ds", task.places)


def test_a_slide_that_needs_resampling_is_refused(prepared: tuple[Task, Path], tmp_path: Path) -> None:
    task, folder = prepared
    network, _ = load_network(Path(task.weights))
    save_network(tmp_path / "coarse.safetensors", network, {"target_mpp": "1.5"})
    manifest, record = prepare_slide(folder, Path(task.slide), (0, 0))
    with pytest.raises(ConfigurationError, match=r"slide.tif: none of its levels has 1\.5 um/px"):
        prepare_task(folder, manifest, record, tmp_path / "coarse.safetensors", setting="unet", width=64, batch=4)


class _Break(NamedTuple):
    stderr: str
    reason: str


@pytest.mark.parametrize(
    "case",
    [
        _Break(
            "Traceback\nModuleNotFoundError: No module named 'monai'",
            "not installed: ModuleNotFoundError: No module named 'monai'",
        ),
        _Break("Traceback\nValueError: MPP is None", "broke: ValueError: MPP is None"),
        _Break("", "broke: exit code 3, and no word"),
    ],
)
def test_a_way_that_breaks_says_why(case: _Break, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nprintf "%s" "{case.stderr}" >&2\nexit 3\n')
    python.chmod(0o755)
    way = Way(name="other", function="monai_window")
    assert run_once(way, tmp_path / "task.json", tmp_path, python) == case.reason


def _task(**changes: Any) -> Task:
    values: dict[str, Any] = {
        "slide": "slide.tif",
        "level": 0,
        "downsample": 1.0,
        "mpp": 0.92,
        "size_px": (512, 256),
        "cells": [[True, False]],
        "places": [(-1, -1), (-1, 0), (0, -1), (0, 0)],
        "batch": 8,
        "manifest": "slides.csv",
        "slide_id": "slide",
        "study": "study",
        "weights": "weights",
        "setting": "resnet34_ds",
        "epoch": 1,
    }
    return Task(**{**values, **changes})


def test_differences_are_those_on_tissue_that_both_cover() -> None:
    heatmap, reference = (np.zeros((256, 512), dtype=np.float32) for _ in range(2))
    heatmap[:, 300:] = 1  # no tissue there
    heatmap[:128, :256] = np.nan
    heatmap[128:, :128] = 0.5
    assert difference(heatmap, reference, _task()) == (0.5, 0.25)
    assert np.isnan(difference(np.full_like(heatmap, np.nan), reference, _task())).all()


def _runs(*seconds: float, **changes: Any) -> Runs:
    outcome = {"peak_gib": 1.5, "worker_gib": 0.0, "num_patches": 4, "software": "it 1.0"}
    return Runs(outcomes=[{**outcome, "wall_s": each} for each in seconds], **changes)


def test_the_table_has_ratios_to_the_others_and_a_reason_for_each_gap() -> None:
    every = [
        Way(name=REFERENCE, function="patch_loop", is_other=True),
        Way(name="TIAToolbox, 0 workers", function="tiatoolbox", is_other=True),
        Way(name="TIAToolbox, 2 workers", function="tiatoolbox", is_other=True),
        Way(name="MONAI", function="monai_window", is_other=True),
        Way(name="own", function="bccdist"),
        Way(name="own, int8", function="bccdist"),
    ]
    runs = {
        REFERENCE: _runs(4, 4, 4, difference=(0.0, 0.0)),
        "TIAToolbox, 0 workers": _runs(20, 20, 20, difference=(0.1, 0.01)),
        "TIAToolbox, 2 workers": _runs(8, 10, 30, difference=(0.1, 0.01)),
        "MONAI": Runs(reason="broke: it"),
        "own": _runs(2, 2, 2),
        "own, int8": Runs(reason="not available: openvino and nncf are not installed"),
    }
    lines = list(table(every, runs, _task()))
    cells = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in lines[2:]}
    assert len({line.count("|") for line in lines}) == 1
    assert cells["own"][:5] == ["2.00", "0.033", "2.0", "5.00", "2.00"]
    assert cells["TIAToolbox, 2 workers"][3:5] == ["1.00", "0.40"]
    assert cells["TIAToolbox, 0 workers"][3] == "0.50"
    assert cells["MONAI"][0].startswith("broke: it")
    assert "openvino and nncf are not installed" in lines[-1]


def test_ways_take_turns_and_a_broken_one_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, Path]] = []

    def pretended(way: Way, _: Path, here: Path, python: Path) -> str:
        tried.append((way.name, python))
        if way.name == "broken":
            return "broke: it"
        (here / "outcome.json").write_text('{"wall_s": 1.0}')
        np.save(here / "compared.npy", np.full((256, 512), len(tried), dtype=np.float32))
        return ""

    monkeypatch.setattr(heatmaps, "run_once", pretended)
    every = [
        Way(name=REFERENCE, function="patch_loop"),
        Way(name="broken", function="monai_window", needs_peer=True),
        Way(name="own", function="bccdist"),
        Way(name="never", function="bccdist", reason="not available"),
    ]
    peer = Path("/peer/python")
    runs = take_turns(every, _task(), tmp_path, repeats=2, peer_python=peer)
    assert [name for name, _ in tried] == [REFERENCE, "broken", "own", REFERENCE, "own"]
    assert [python == peer for _, python in tried] == [False, True, False, False, False]
    assert runs["own"].difference == (4.0, 4.0)  # the fifth run against the first one of all
    assert (runs["broken"].reason, runs["never"].reason) == ("broke: it", "not available")
