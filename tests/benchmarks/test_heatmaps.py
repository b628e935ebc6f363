"""The benchmark from slide to heatmap gives all ways the same work and hides none that breaks."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from heatmap_slides import pink_picture, write_slide

from bccdist.errors import ConfigurationError
from bccdist.networks.inputs import to_network_input
from bccdist.networks.weights import load_network, save_network
from bccdist.phantom.pyramid import write_pyramid
from benchmarks import heatmap_task, heatmap_ways, heatmaps
from benchmarks.heatmap_table import Goal, Runs, Way, difference_over, table, verdicts_table, why_uncomparable
from benchmarks.heatmap_task import prepare_slide, prepare_task, random_network
from benchmarks.heatmap_ways import Task, TaskSlide, tissue_mask_image
from benchmarks.heatmaps import (
    REFERENCE,
    TOOLS,
    differences,
    goals,
    peer_pythons,
    run_once,
    study_ways,
    take_turns,
    ways,
)

_SIZE_PX = (1280, 768)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Task, Path]:
    """A small slide with a very narrow network."""
    monkeypatch.setattr(heatmap_task, "NUM_SAMPLES", 2)
    picture = pink_picture(*_SIZE_PX, islands=[(300, 300, 260, 180)])
    write_pyramid(tmp_path / "slide.tif", picture, mpp=0.92, tile_px=256, jpeg_quality=90, description="")
    manifest, record = prepare_slide(tmp_path, tmp_path / "slide.tif", (0, 0))
    task, _ = prepare_task(tmp_path, manifest, record, None, setting="resnet34_ds", width=4, batch=4)
    return task, tmp_path


def test_the_patch_loop_and_this_project_agree_on_tissue(prepared: tuple[Task, Path]) -> None:
    task, folder = prepared
    loop = heatmap_ways.patch_loop(task, folder, num_workers=0)
    own = heatmap_ways.bccdist(task, folder, engine="eager")
    (slide,) = task.slides
    assert loop.num_patches == own.num_patches == len(slide.places) == task.num_patches
    assert loop.heatmaps["slide"].shape == own.heatmaps["slide"].shape == _SIZE_PX[::-1]
    largest, mean = difference_over([differences(own.heatmaps["slide"], loop.heatmaps["slide"], slide)])
    assert 0 < mean <= largest <= 0.5 / 255 + 1e-5
    assert min(loop.took.wall_s, own.took.wall_s, loop.took.peak_gib, own.took.peak_gib) > 0
    assert min(loop.took.cpu_s, own.took.cpu_s) > 0


def test_a_task_survives_its_file(prepared: tuple[Task, Path]) -> None:
    task, folder = prepared
    (folder / "task.json").write_text(heatmap_ways.task_text(task))
    assert Task.read(folder / "task.json") == task


def test_masks_mark_the_cells_with_tissue_alone_behind_the_frame(prepared: tuple[Task, Path]) -> None:
    task, _ = prepared
    (slide,) = task.slides
    mask = tissue_mask_image(slide)
    assert mask.shape == (24 + 16, 40 + 16)
    assert not mask[:8].any()
    assert not mask[:, :8].any()
    for (row, col), has_tissue in np.ndenumerate(np.asarray(slide.cells)):
        assert (mask[8 * (row + 1) :, 8 * (col + 1) :][:8, :8] == has_tissue).all()


def test_the_framed_copy_shows_the_same_pixels_a_cell_further(prepared: tuple[Task, Path]) -> None:
    import openslide

    task, _ = prepared
    (slide,) = task.slides
    with openslide.OpenSlide(slide.path) as given, openslide.OpenSlide(slide.framed) as framed:
        box_px = (0, 0, *slide.size_px)
        expected = heatmap_ways.read_plain(given, slide, box_px)
        found = heatmap_ways.read_plain(framed, slide, (0, 0, *slide.framed_size_px))
    np.testing.assert_array_equal(found[256:-256, 256:-256], expected)
    assert (found[-256:] == 255).all()
    assert (found[:, -256:] == 255).all()
    assert (found[:256] == 255).all()
    assert (found[:, :256] == 255).all()
    # So a grid that keeps to its frame holds every patch of the paper's tiling.
    assert min(min(place) for place in slide.places) >= -1


def test_a_slide_that_cannot_be_framed_is_refused_by_the_tools_that_need_it(tmp_path: Path) -> None:
    picture = pink_picture(*_SIZE_PX, islands=[(300, 300, 260, 180)])
    _, record = prepare_slide(tmp_path, write_slide(tmp_path / "deflate.tif", picture), (0, 0))
    slide = heatmap_task.task_slide(tmp_path, record, target_mpp=0.92)
    assert slide.framed == ""
    with pytest.raises(ConfigurationError, match=r"deflate.tif: its levels are not all of whole JPEG tiles"):
        slide.require_framed()


def test_what_a_tool_found_on_the_framed_copy_lands_on_the_slide() -> None:
    slide = _slide(size_px=(300, 200))
    framed = np.arange(456 * 500, dtype=np.float32).reshape(456, 500)
    found = slide.crop(framed)
    assert found.shape == (200, 300)
    np.testing.assert_array_equal(found[:, :244], framed[256:, 256:])
    assert np.isnan(found[:, 244:]).all()


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
    manifest, record = prepare_slide(folder, Path(task.slides[0].path), (0, 0))
    again = tmp_path / "again"
    again.mkdir()
    weights = Path(task.weights)
    given, _ = prepare_task(again, manifest, record, weights, setting="unet", width=64, batch=4)
    assert Path(given.weights).read_bytes() == weights.read_bytes()
    assert (given.setting, given.slides[0].places) == ("resnet34_ds", task.slides[0].places)


def test_a_slide_that_needs_resampling_is_refused(prepared: tuple[Task, Path], tmp_path: Path) -> None:
    task, folder = prepared
    network, _ = load_network(Path(task.weights))
    save_network(tmp_path / "coarse.safetensors", network, {"target_mpp": "1.5"})
    manifest, record = prepare_slide(folder, Path(task.slides[0].path), (0, 0))
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
    way = Way(name="other", function="monai_inferer")
    assert run_once(way, tmp_path / "task.json", tmp_path, python) == case.reason


def _slide(**changes: Any) -> TaskSlide:
    values: dict[str, Any] = {
        "slide_id": "slide",
        "path": "slide.tif",
        "framed": "slide.svs",
        "level": 0,
        "downsample": 1.0,
        "mpp": 0.92,
        "size_px": (512, 256),
        "cells": [[True, False]],
        "places": [(-1, -1), (-1, 0), (0, -1), (0, 0)],
    }
    return TaskSlide(**{**values, **changes})


def _task() -> Task:
    return Task(
        slides=(_slide(),),
        batch=8,
        manifest="slides.csv",
        study="study",
        weights="weights",
        setting="resnet34_ds",
        epoch=1,
    )


def test_differences_are_those_on_tissue_that_both_cover() -> None:
    heatmap, reference = (np.zeros((256, 512), dtype=np.float32) for _ in range(2))
    heatmap[:, 300:] = 1  # no tissue there
    heatmap[:128, :256] = np.nan
    heatmap[128:, :128] = 0.5
    assert difference_over([differences(heatmap, reference, _slide())]) == (0.5, 0.25)
    assert np.isnan(difference_over([differences(np.full_like(heatmap, np.nan), reference, _slide())])).all()
    assert difference_over([np.array([0.5], dtype=np.float32), np.array([0, 0, np.nan], dtype=np.float32)]) == (
        0.5,
        pytest.approx(1 / 6),
    )


def _runs(*seconds: float, **changes: Any) -> Runs:
    outcome = {
        "cpu_s": 1.0, "peak_gib": 1.5, "worker_gib": 0.0, "num_patches": 4, "software": "it 1.0",
        "verdicts": changes.pop("verdicts", {}), "reached": changes.pop("reached", {}),
    }  # fmt: skip
    return Runs(outcomes=[{**outcome, "wall_s": each} for each in seconds], **changes)


_EVERY = [
    Way(name=REFERENCE, function="patch_loop", is_other=True),
    Way(name="TIAToolbox, 0 workers", function="tiatoolbox", is_other=True),
    Way(name="TIAToolbox, 2 workers", function="tiatoolbox", is_other=True),
    Way(name="MONAI", function="monai_inferer", is_other=True),
    Way(name="own", function="bccdist"),
    Way(name="own, int8", function="bccdist"),
]


def _cells(lines: list[str]) -> dict[str, list[str]]:
    return {line.split(" | ")[0].removeprefix("| "): line.removesuffix(" |").split(" | ")[1:] for line in lines[2:]}


def test_the_table_has_ratios_to_the_others_and_a_reason_for_each_gap() -> None:
    runs = {
        REFERENCE: _runs(4, 4, 4, difference=(0.0, 0.0)),
        "TIAToolbox, 0 workers": _runs(20, 20, 20, difference=(0.1, 0.01)),
        "TIAToolbox, 2 workers": _runs(8, 10, 30, difference=(0.1, 0.01)),
        "MONAI": Runs(reason="broke: it"),
        "own": _runs(2, 2, 2),
        "own, int8": Runs(reason="not available: openvino and nncf are not installed"),
    }
    lines = list(table(_EVERY, runs, _task()))
    cells = _cells(lines)
    assert len({line.count("|") for line in lines}) == 1
    assert cells["own"][:6] == ["2.00 (2.0, 2.0, 2.0)", "1.00", "2.00", "5.00", "1.00", "2.00"]
    assert cells["TIAToolbox, 2 workers"][3:6] == ["1.00", "1.00", "0.40"]
    assert cells["TIAToolbox, 0 workers"][3] == "0.50"
    assert cells["MONAI"][0].startswith("broke: it")
    assert "openvino and nncf are not installed" in lines[-1]


@pytest.mark.parametrize("seed", range(20))
def test_each_ratio_follows_from_the_walls_printed_beside_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = {way.name: _runs(*(float(wall_s) for wall_s in rng.uniform(0.5, 60, size=3 + seed % 2))) for way in _EVERY}
    cells = _cells(list(table(_EVERY, runs, _task())))
    walls = {name: float(row[0].split(" ")[0]) for name, row in cells.items()}
    tiatoolbox = min(walls["TIAToolbox, 0 workers"], walls["TIAToolbox, 2 workers"])
    best = min(walls[way.name] for way in _EVERY if way.is_other)
    for name, row in cells.items():
        assert row[3] == f"{tiatoolbox / walls[name]:.2f}"
        assert row[5] == f"{best / walls[name]:.2f}"


def test_a_way_whose_network_saw_other_patches_has_no_ratio() -> None:
    outcome = {"num_patches": 3}
    reason = why_uncomparable(_EVERY[1], outcome, _task())
    assert reason == "not comparable: its network saw 3 patches, expected 4"
    assert why_uncomparable(Way(name="dense", function="bccdist", sees_all=False), outcome, _task()) == ""
    runs = {way.name: _runs(4) for way in _EVERY} | {"TIAToolbox, 0 workers": _runs(1, reason=reason)}
    cells = _cells(list(table(_EVERY, runs, _task())))
    assert cells["TIAToolbox, 0 workers"][0].startswith(reason)
    assert cells["own"][3] == "1.00"  # against the other way of TIAToolbox, not this one


class _Judged(NamedTuple):
    goal: dict[str, Any]
    expected: str


@pytest.mark.parametrize(
    "case",
    [
        _Judged({"least_times_tiatoolbox": 2.5}, "10.00 s / 4.00 s = 2.50 times (own): **met**"),
        _Judged({"least_times_tiatoolbox": 2.51}, "10.00 s / 4.00 s = 2.50 times (own): **missed**"),
        _Judged({"most_wall_s": 120, "most_gib": 2}, "4.0 s, 1.50 GiB (own): **met**"),
        _Judged({"most_wall_s": 120, "most_gib": 1.4}, "4.0 s, 1.50 GiB (own): **missed**"),
        _Judged({"most_wall_s": 3, "most_gib": 2}, "4.0 s, 1.50 GiB (own): **missed**"),
        _Judged({"most_wall_s": 3, "names": ("certified",)}, "not measured in this run"),
    ],
)
def test_a_goal_is_judged_by_the_same_run(case: _Judged) -> None:
    runs = {way.name: Runs(reason="not installed") for way in _EVERY}
    runs |= {"TIAToolbox, 2 workers": _runs(10), "own": _runs(4), "own, int8": _runs(5)}
    goal = Goal(text="fast", **{"names": ("own",), **case.goal})
    assert goal.judged(_EVERY, runs).startswith(f"- fast: {case.expected}")


def test_a_goal_against_tiatoolbox_is_not_met_without_it() -> None:
    runs = {way.name: _runs(4) if way.name == "own" else Runs(reason="not installed") for way in _EVERY}
    goal = Goal(text="fast", names=("own",), least_times_tiatoolbox=2)
    assert "not measured in this run" in goal.judged(_EVERY, runs)


def test_verdicts_are_counted_against_the_exact_way_and_a_missing_one_is_another() -> None:
    exact = {"a/1": "Tumor", "a/2": "Normal", "b/1": "Normal"}
    runs = {
        "own": _runs(4, verdicts=exact),
        "own, int8": _runs(1, verdicts={"a/1": "Tumor", "a/2": "Tumor"}, reached={"certified": 1, "recomputed": 1}),
    }
    lines = list(verdicts_table(_EVERY[-2:], runs, exact="own"))
    assert lines[2] == "| own | 3 | not said | 0 |"
    assert lines[3] == "| own, int8 | 2 | 1 certified, 1 recomputed | 2 (a/2, b/1) |"
    alone = {"own, int8": runs["own, int8"]}
    assert list(verdicts_table(_EVERY[-1:], alone, exact="own"))[2].endswith("| not compared |")


def test_every_way_has_a_function_and_a_name_of_its_own_and_float32_engines_are_told_apart() -> None:
    every = ways((0, 2), halo_px=64, reason_against_int8="") + study_ways((0, 2), confidence=0.9)
    assert {way.function for way in every} == set(heatmap_ways.WAYS)
    assert {way.peer for way in every} == {"", *TOOLS}
    assert all(bool(way.peer) == (way.function not in ("bccdist", "patch_loop")) for way in every)
    names = [way.name for way in ways((0, 2), halo_px=64, reason_against_int8="")]
    assert len(set(names)) == len(names)
    float32 = [way.options["engine"] for way in every if way.name.startswith("bccdist, paper, float32")]
    assert "openvino" in float32
    assert not {"eager", "folded", "compiled"} & set(float32)


class _Set(NamedTuple):
    is_study: bool
    num_patches: int
    text: str


@pytest.mark.parametrize(
    "case",
    [_Set(False, 4, "2.2 times TIAToolbox"), _Set(True, 4, "8 times TIAToolbox"), _Set(True, 2000, "120 s and 2 GiB")],
)
def test_each_table_is_held_against_the_goal_that_was_set_for_it(case: _Set) -> None:
    slide = _slide(places=[(0, number) for number in range(case.num_patches)])
    (goal,) = goals(replace(_task(), slides=(slide,)), is_study=case.is_study)
    assert case.text in goal.text
    names = [
        way.name
        for way in (
            study_ways((0,), confidence=0.9) if case.is_study else ways((0,), halo_px=0, reason_against_int8="")
        )
    ]
    assert any(name.startswith(goal.names) for name in names)


def test_peers_are_named_with_their_interpreters() -> None:
    assert peer_pythons(("MONAI=/a/python", "TIAToolbox=/b/c=d")) == {
        "MONAI": Path("/a/python"),
        "TIAToolbox": Path("/b/c=d"),
    }
    for wrong in ("MONAI", "monai=/a", "MONAI="):
        with pytest.raises(ConfigurationError, match="TOOL=PYTHON"):
            peer_pythons((wrong,))


def test_ways_take_turns_and_a_broken_one_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, Path]] = []

    def pretended(way: Way, _: Path, here: Path, python: Path) -> str:
        tried.append((way.name, python))
        if way.name == "broken":
            return "broke: it"
        num_patches = 3 if way.name == "few" else 4
        (here / "outcome.json").write_text(f'{{"wall_s": 1.0, "cpu_s": 1.0, "num_patches": {num_patches}}}')
        np.save(here / "compared-slide.npy", np.full((256, 512), len(tried), dtype=np.float32))
        return ""

    monkeypatch.setattr(heatmaps, "run_once", pretended)
    every = [
        Way(name=REFERENCE, function="patch_loop"),
        Way(name="broken", function="monai_inferer", peer="MONAI"),
        Way(name="few", function="tiatoolbox"),
        Way(name="own", function="bccdist"),
        Way(name="never", function="bccdist", reason="not available"),
    ]
    peer = Path("/peer/python")
    runs = take_turns(every, _task(), tmp_path, repeats=2, pythons={"MONAI": peer})
    assert [name for name, _ in tried] == [REFERENCE, "broken", "few", "own", REFERENCE, "own"]
    assert [python == peer for _, python in tried] == [False, True, False, False, False, False]
    assert runs["own"].difference == (5.0, 5.0)  # the sixth run against the first one of all
    assert (runs["broken"].reason, runs["never"].reason) == ("broke: it", "not available")
    assert runs["few"].reason.startswith("not comparable")
