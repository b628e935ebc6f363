"""Slides are dealt out by what they cost, which the doctor knows and the sizes of files tell nearly."""

import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_study import write_study

from bccdist.errors import ConfigurationError
from bccdist.files import read_json, write_json
from bccdist.parts import Part
from bccdist.slides.manifest import Manifest, SlideRecord, read_manifest
from jobs.doctor import DoctorArguments, main
from jobs.slurm.chunks import OPENING_SHARE, REPORT_NAME, balanced_chunks, expected_costs

COSTS = st.lists(st.one_of(st.floats(0, 1e6, allow_subnormal=False), st.just(0.0), st.just(1.0)), max_size=40)
ROUNDING = 1 + 1e-9


def named(costs: Sequence[float]) -> dict[str, float]:
    return {f"slide-{number}": cost for number, cost in enumerate(costs)}


def largest(chunks: Sequence[Sequence[str]], costs: Mapping[str, float]) -> float:
    return max(sum(costs[name] for name in chunk) for chunk in chunks)


def best_largest(costs: Sequence[float], num: int) -> float:
    """Of all ways to deal the slides out."""
    ways = product(range(num), repeat=len(costs))
    return min(max(sum(c for c, to in zip(costs, way, strict=True) if to == k) for k in range(num)) for way in ways)


@given(COSTS, st.integers(1, 50))
def test_chunks_hold_every_slide_once_in_its_order_and_none_is_empty(values: list[float], num: int) -> None:
    costs = named(values)
    chunks = balanced_chunks(costs, num=num)
    assert sorted(name for chunk in chunks for name in chunk) == sorted(costs)
    assert len(chunks) == min(num, len(costs))
    assert all(chunks)
    order = {name: position for position, name in enumerate(costs)}
    assert all(chunk == sorted(chunk, key=order.__getitem__) for chunk in chunks)
    assert balanced_chunks(costs, num=num) == chunks


@given(COSTS.filter(bool), st.integers(1, 50))
def test_no_chunk_costs_more_than_the_mean_and_one_slide(values: list[float], num: int) -> None:
    costs = named(values)
    chunks = balanced_chunks(costs, num=num)
    bound = sum(values) / len(chunks) + (1 - 1 / len(chunks)) * max(values)
    assert largest(chunks, costs) <= bound * ROUNDING


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(1, 3))
def test_the_most_costly_chunk_costs_at_most_a_third_more_than_it_must(values: list[int], num: int) -> None:
    costs = named(values)
    assert largest(balanced_chunks(costs, num=num), costs) <= best_largest(values, num) * 4 / 3 * ROUNDING


def test_one_large_slide_stays_alone() -> None:
    assert balanced_chunks({"a": 1, "large": 9, "b": 2, "c": 3}, num=2) == [["large"], ["a", "b", "c"]]


@pytest.mark.parametrize("num", [0, -1])
def test_less_than_one_chunk_is_refused(num: int) -> None:
    with pytest.raises(ConfigurationError, match=f"dealt out to {num} elements"):
        balanced_chunks({"a": 1}, num=num)


def test_a_large_archive_is_dealt_out_at_once() -> None:
    costs = {f"slide-{number}": float(number * 7919 % 1000) for number in range(100_000)}
    start_s = time.process_time()
    chunks = balanced_chunks(costs, num=5000)
    assert time.process_time() - start_s < 1
    assert largest(chunks, costs) < 1.01 * sum(costs.values()) / 5000


def manifest_of(folder: Path, sizes: Mapping[str, int | None]) -> Manifest:
    """Files of these sizes, None for one that is not there."""
    for name, size in sizes.items():
        if size is not None:
            (folder / f"{name}.tif").write_bytes(bytes(size))
    slides = tuple(SlideRecord(slide_id=name, part=Part.TEST, path=folder / f"{name}.tif") for name in sizes)
    return Manifest(path=folder / "slides.csv", slides=slides, sections=())


def write_report(folder: Path, tissue: Mapping[str, tuple[float | None, int | None]]) -> None:
    rows = [{"slide_id": name, "tissue_mm2": mm2, "file_bytes": size} for name, (mm2, size) in tissue.items()]
    write_json(folder / REPORT_NAME, {"slides": rows})


def costs_of(manifest: Manifest) -> dict[str, float]:
    return expected_costs(manifest, manifest.slides)


def with_opening(middle: float, costs: Mapping[str, float]) -> dict[str, float]:
    return {name: pytest.approx(cost + OPENING_SHARE * middle) for name, cost in costs.items()}


def test_a_slide_costs_its_tissue_and_its_opening(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, {"b": None, "a": None, "empty": None})
    write_report(tmp_path, {"a": (100.0, 5), "b": (40.0, 5), "empty": (0.0, 5), "of another part": (7.0, 5)})
    costs = costs_of(manifest)
    assert costs == with_opening(40.0, {"b": 40, "a": 100, "empty": 0})
    assert list(costs) == ["b", "a", "empty"]


def test_without_a_report_a_slide_costs_its_bytes_and_one_that_is_not_there_the_median(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, {"a": 100, "gone": None, "b": 300, "c": 200})
    assert costs_of(manifest) == with_opening(200, {"a": 100, "gone": 200, "b": 300, "c": 200})


def test_what_the_report_does_not_know_is_estimated_from_what_it_knows(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, {"a": 100, "b": 100, "c": 100, "new": 50, "unreadable": 10})
    write_report(tmp_path, {"a": (200.0, 100), "b": (300.0, 100), "c": (900.0, None), "unreadable": (None, 10)})
    assert costs_of(manifest) == with_opening(200, {"a": 200, "b": 300, "c": 900, "new": 150, "unreadable": 30})


def test_only_the_slides_at_hand_are_costed(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, {"a": 100, "b": 300})
    assert expected_costs(manifest, manifest.slides[1:]) == with_opening(300, {"b": 300})
    assert expected_costs(manifest, []) == {}


def test_an_mrxs_slide_costs_the_files_of_its_folder(tmp_path: Path) -> None:
    for name, size in {"known": 400, "new": 200}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Data0000.dat").write_bytes(bytes(size // 2))
        (tmp_path / name / "Data0001.dat").write_bytes(bytes(size // 2))
        (tmp_path / f"{name}.mrxs").write_bytes(b"thumbnail")
    slides = tuple(
        SlideRecord(slide_id=name, part=Part.TEST, path=tmp_path / f"{name}.mrxs") for name in ("known", "new", "gone")
    )
    manifest = Manifest(path=tmp_path / "slides.csv", slides=slides, sections=())
    assert costs_of(manifest) == with_opening(300, {"known": 400, "new": 200, "gone": 300})
    write_report(tmp_path, {"known": (80.0, 9)})
    assert costs_of(manifest) == with_opening(60, {"known": 80, "new": 40, "gone": 60})


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"slides": [{"slide_id": "a"}]}', '{"slides": 3}', '{"slides": [[1]]}'], ids=str
)
def test_a_report_that_cannot_be_used_is_named_and_left_alone(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = manifest_of(tmp_path, {"a": 100})
    (tmp_path / REPORT_NAME).write_text(text)
    assert costs_of(manifest) == with_opening(100, {"a": 100})
    assert caplog.messages[-1].startswith(f"{tmp_path / REPORT_NAME}: not used to deal out slides")


def test_slides_without_any_cost_are_dealt_out_evenly(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, {"a": 0, "b": 0, "c": 0, "d": 0})
    assert balanced_chunks(costs_of(manifest), num=2) == [["a", "c"], ["b", "d"]]


def test_the_report_of_the_doctor_is_understood(tmp_path: Path) -> None:
    study = write_study(tmp_path, width_px=800, height_px=560)
    report = study.data / REPORT_NAME
    main(DoctorArguments(manifest=study.manifest, report=report, workers=1))
    manifest = read_manifest(study.manifest)
    tissue = {row["slide_id"]: row["tissue_mm2"] for row in read_json(report)["slides"]}
    assert min(tissue.values()) > 0
    middle = sorted(tissue.values())[1]
    assert costs_of(manifest) == with_opening(middle, tissue)
