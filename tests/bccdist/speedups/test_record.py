"""A calibration says which fast way changed no verdict, and `auto` takes the fastest of these."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bccdist.configuration import InferConfig
from bccdist.errors import ConfigurationError
from bccdist.files import read_json, write_json
from bccdist.speedups.record import (
    MeasuredBand,
    MeasuredOutput,
    MeasuredWay,
    SpeedupRecord,
    Thresholds,
    int8_digest,
    read_speedups,
    resolve_method,
    write_speedups,
)


def _way(tiling: Any, precision: Any, engine: Any, speed: float, *changed: str) -> MeasuredWay:
    return MeasuredWay(
        tiling=tiling,
        precision=precision,
        engine=engine,
        mpx_per_s=speed,
        max_difference=0.1,
        mean_difference=0.001,
        crossing_share=1e-4,
        changed_verdicts=changed,
    )


def _band(low: float, saved: float, *changed: str) -> MeasuredBand:
    return MeasuredBand(low=low, high=1.0, undecided_share=0.5, saved_share=saved, changed_verdicts=changed)


_CALIBRATION = SpeedupRecord(
    setting="resnet34_ds",
    epoch=3,
    weights_digest="w",
    thresholds=Thresholds(t_p=0.6, t_a_um2=5120),
    device="a processor",
    num_threads=2,
    software="bccdist",
    slide_ids=("v1", "v2"),
    num_sections=7,
    num_patches=100,
    receptive_field_px={"psi_0": {"99": 90, "99.9": 150}, "psi_4": {"99": 30, "99.9": 60}},
    halo_px=160,
    ways=(
        _way("paper", "float32", "eager", 1),
        _way("paper", "float32", "openvino", 2),
        _way("paper", "int8", "openvino", 4, "v1-s0/psi_4"),
        _way("dense", "float32", "openvino", 6),
        _way("dense", "int8", "openvino", 12, "v1-s0/psi_0", "v2-s1/psi_4"),
    ),
    bands=(_band(0.01, 0.1), _band(0.05, 0.2), _band(0.2, 0.3, "v1-s0")),
    outputs=(MeasuredOutput(psi="psi_0", patch_s=0.3, score_std=1.5),),
    int8_sha256={"whole": "i8", "first": "i8f", "first-with-features": "i8ff", "later": "i8l"},
)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_speedups(path, _CALIBRATION)
    assert read_speedups(path, weights_digest="w") == _CALIBRATION


def test_a_record_of_other_weights_or_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    with pytest.raises(ConfigurationError, match=r"no calibration there(.|\n)*launch_calibrate"):
        read_speedups(path, weights_digest="w")
    write_speedups(path, _CALIBRATION)
    with pytest.raises(ConfigurationError, match="weights w, expected version 2 and other"):
        read_speedups(path, weights_digest="other")
    write_json(path, {**read_json(path), "schema_version": 0})
    with pytest.raises(ConfigurationError, match="version 0"):
        read_speedups(path, weights_digest="w")


@pytest.mark.parametrize(
    ("asked", "tiling", "precision", "engine"),
    [
        ({"precision": "auto"}, "paper", "float32", "openvino"),
        ({"tiling": "auto"}, "dense", "float32", "openvino"),
        ({"tiling": "auto", "precision": "auto"}, "dense", "float32", "openvino"),
        ({"tiling": "auto", "precision": "auto", "engine": "folded"}, "dense", "float32", "folded"),
        ({"tiling": "dense", "precision": "int8"}, "dense", "int8", "auto"),
        ({}, "paper", "float32", "auto"),
    ],
)
def test_auto_takes_the_fastest_way_that_changed_no_verdict(
    asked: dict[str, Any], tiling: str, precision: str, engine: str
) -> None:
    method = resolve_method(InferConfig(**asked), _CALIBRATION)
    assert (method.tiling, method.precision, method.engine) == (tiling, precision, engine)
    assert method.halo_px == (160 if tiling == "dense" else 0)
    assert method.int8_sha256 == ("i8" if precision == "int8" else None)


def test_auto_takes_the_paper_tiling_where_dense_patches_change_a_verdict() -> None:
    ways = tuple(
        way if way.tiling == "paper" else replace(way, changed_verdicts=("v2-s0/psi_4",)) for way in _CALIBRATION.ways
    )
    method = resolve_method(InferConfig(tiling="auto"), replace(_CALIBRATION, ways=ways))
    assert (method.tiling, method.engine) == ("paper", "openvino")
    with pytest.raises(ConfigurationError, match="no way with tiling dense and precision auto"):
        resolve_method(InferConfig(tiling="dense", precision="auto"), replace(_CALIBRATION, ways=ways))


def test_a_halo_of_ones_own_needs_no_calibration() -> None:
    config = InferConfig(tiling="dense", halo_px=96)
    assert not config.needs_speedups
    layout = resolve_method(config, None).layout(np.ones((8, 8), dtype=bool))
    assert layout.patch_px == 4 * 256 + 2 * 96


def test_the_cascade_takes_the_band_that_saves_most_and_changed_nothing() -> None:
    method = resolve_method(InferConfig(cascade=True), _CALIBRATION)
    assert method.band == (0.05, 1.0)
    assert method.pieces == ("first-with-features", "later")
    assert resolve_method(InferConfig(cascade=True, precision="int8"), _CALIBRATION).int8_sha256 == "i8ff i8l"
    with pytest.raises(ConfigurationError, match="every band of psi_0 changed a verdict"):
        resolve_method(InferConfig(cascade=True), replace(_CALIBRATION, bands=_CALIBRATION.bands[2:]))


@pytest.mark.parametrize("asked", [{"precision": "auto"}, {"tiling": "auto"}, {"tiling": "dense"}, {"cascade": True}])
def test_what_needs_a_calibration_says_so(asked: dict[str, Any]) -> None:
    config = InferConfig(**asked)
    assert config.needs_speedups
    with pytest.raises(ConfigurationError, match="launch_calibrate"):
        resolve_method(config, None)
    assert resolve_method(config.without_speedups, None) == resolve_method(InferConfig(), None)


def test_what_names_a_heatmap_is_all_but_the_engine() -> None:
    first, second = (resolve_method(InferConfig(engine=engine), None) for engine in ("eager", "folded"))
    assert first.names_heatmap == second.names_heatmap
    assert set(asdict(first)) - set(first.names_heatmap) == {"engine"}


def test_an_int8_model_is_named_by_both_of_its_files(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("graph")
    with pytest.raises(ConfigurationError, match=r"model\.bin: no int8 model there"):
        int8_digest(path)
    path.with_suffix(".bin").write_text("weights")
    before = int8_digest(path)
    path.with_suffix(".bin").write_text("other weights")
    assert int8_digest(path) != before
