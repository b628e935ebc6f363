"""A speed-up record says which fast way changed no verdict, and `auto` takes the fastest of these."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from damage import assert_never_used
from speedup_records import RECORD

from bccdist.configuration import InferConfig
from bccdist.errors import ConfigurationError
from bccdist.files import write_text
from bccdist.heatmaps.method import Method
from bccdist.paths import RunPaths
from bccdist.speedups.record import int8_digest, write_speedups
from bccdist.speedups.resolving import method_of_run, resolve_method

_CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "tiling", "precision", "engine"),
    [
        ({"precision": "auto"}, "paper", "float32", "openvino"),
        ({"tiling": "auto"}, "dense", "float32", "openvino"),
        ({"tiling": "auto", "precision": "auto"}, "dense", "float32", "openvino"),
        ({"tiling": "auto", "precision": "auto", "engine": "folded"}, "dense", "float32", "folded"),
        ({"tiling": "dense", "precision": "int8"}, "dense", "int8", "openvino"),
        ({"cascade": True, "engine": "eager"}, "paper", "float32", "eager"),
    ],
)
def test_auto_takes_the_fastest_way_that_changed_no_verdict(
    asked: dict[str, Any], tiling: str, precision: str, engine: str
) -> None:
    method = resolve_method(InferConfig(**asked), RECORD, _CPU)
    assert (method.tiling, method.precision, method.engine) == (tiling, precision, engine)
    assert method.halo_px == (160 if tiling == "dense" else 0)
    assert method.int8_sha256 == ("i8" if precision == "int8" else None)


def test_auto_takes_the_paper_tiling_where_dense_patches_change_a_verdict() -> None:
    ways = tuple(
        way if way.tiling == "paper" else replace(way, changed_verdicts=("v2-s0/psi_4",)) for way in RECORD.ways
    )
    method = resolve_method(InferConfig(tiling="auto"), replace(RECORD, ways=ways), _CPU)
    assert (method.tiling, method.engine) == ("paper", "openvino")
    with pytest.raises(ConfigurationError, match="no way with tiling dense and precision auto"):
        resolve_method(InferConfig(tiling="dense", precision="auto"), replace(RECORD, ways=ways), _CPU)


def test_the_cascade_takes_the_band_that_saves_most_and_changed_nothing() -> None:
    method = resolve_method(InferConfig(cascade=True), RECORD, _CPU)
    assert method.band == (0.05, 1.0)
    assert method.pieces == ("first-with-features", "later")
    assert resolve_method(InferConfig(cascade=True, precision="int8"), RECORD, _CPU).int8_sha256 == "i8ff i8l"
    with pytest.raises(ConfigurationError, match="every band of psi_0 changed a verdict"):
        resolve_method(InferConfig(cascade=True), replace(RECORD, bands=RECORD.bands[2:]), _CPU)


@pytest.mark.parametrize("asked", [{"precision": "auto"}, {"tiling": "auto"}, {"tiling": "dense"}, {"cascade": True}])
def test_what_needs_a_record_says_so(asked: dict[str, Any], tmp_path: Path) -> None:
    config, run = InferConfig(**asked), RunPaths(tmp_path)
    assert config.needs_speedups
    with pytest.raises(ConfigurationError, match=r"no speed-up record there(.|\n)*launch_calibrate"):
        method_of_run(run, 3, config, _CPU, digest="w")
    plain = method_of_run(run, 3, config.without_speedups, _CPU, digest="w")
    assert plain == method_of_run(run, 3, InferConfig(), _CPU, digest="w")


def test_a_halo_of_ones_own_comes_before_the_record() -> None:
    config = InferConfig(tiling="dense", halo_px=96, precision="auto")
    assert resolve_method(config, RECORD, _CPU).halo_px == 96


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_damaged_int8_model_is_named_and_not_used(tmp_path: Path, suffix: str) -> None:
    run = RunPaths(tmp_path)
    for piece in ("first-with-features", "later"):
        for end in (".xml", ".bin"):
            write_text(run.int8_model(3, piece).with_suffix(end), f"{piece} {end} " * 200)
    digests = {piece: int8_digest(run.int8_model(3, piece)) for piece in ("first-with-features", "later")}
    write_speedups(run.speedups(3, "cpu"), replace(RECORD, int8_sha256=digests))
    damaged = run.int8_model(3, "later").with_suffix(suffix)

    def method() -> Method:
        return method_of_run(run, 3, InferConfig(cascade=True, precision="int8"), _CPU, digest="w")

    assert method().int8_sha256 == " ".join(digests.values())
    assert assert_never_used(damaged, method, seed=2) > 50
