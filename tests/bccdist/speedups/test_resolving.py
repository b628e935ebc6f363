"""A speed-up record says which fast way changed no verdict, and `auto` takes the fastest of these."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from damage import assert_never_used
from speedup_records import RECORD, measured_way

from bccdist.configuration import InferConfig
from bccdist.errors import ConfigurationError
from bccdist.files import write_text
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predictors import make_predictor
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.paths import RunPaths
from bccdist.speedups import resolving
from bccdist.speedups.probes import machine_of, probe_sha256
from bccdist.speedups.record import SpeedupRecord, int8_digest, write_speedups
from bccdist.speedups.resolving import ready_way, resolve_method

pytestmark = pytest.mark.usefixtures("one_torch_thread")
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


def test_auto_takes_mnn_where_it_was_measured_to_be_the_fastest_and_openvino_without_a_record() -> None:
    fastest = measured_way("paper", "float32", "mnn", 99)
    for asked in ({"precision": "auto"}, {"tiling": "auto"}):
        method = resolve_method(InferConfig(**asked), replace(RECORD, ways=(*RECORD.ways, fastest)), _CPU)
        assert (method.tiling, method.engine) == ("paper", "mnn")
    assert Method.of(InferConfig(), _CPU).engine == "openvino"


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
    config, run, network = InferConfig(**asked), RunPaths(tmp_path), _network()
    assert config.needs_speedups
    with pytest.raises(ConfigurationError, match=r"no speed-up record there(.|\n)*launch_calibrate"):
        ready_way(network, run, 3, config, _CPU, digest="w")
    plain = ready_way(network, run, 3, config.without_speedups, _CPU, digest="w").method
    assert plain == Method.of(InferConfig(), _CPU)


def test_a_halo_of_ones_own_comes_before_the_record() -> None:
    config = InferConfig(tiling="dense", halo_px=96, precision="auto")
    assert resolve_method(config, RECORD, _CPU).halo_px == 96


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_damaged_int8_model_is_named_and_not_used(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, pieces = RunPaths(tmp_path), ("first-with-features", "later", "whole")
    for piece in pieces:
        for end in (".xml", ".bin"):
            write_text(run.int8_model(3, piece).with_suffix(end), f"{piece} {end} " * 200)
    digests = {piece: int8_digest(run.int8_model(3, piece)) for piece in pieces}
    ways = (measured_way("paper", "int8", "openvino", 4),)
    record = replace(RECORD, machine=machine_of(_CPU), ways=ways, int8_sha256=digests)
    write_speedups(run.speedups(3, "cpu"), record)
    damaged = run.int8_model(3, "later").with_suffix(suffix)
    monkeypatch.setattr(resolving, "make_predictor", lambda *_, **__: None)
    monkeypatch.setattr(resolving, "probe_sha256", lambda *_: ways[0].probe_sha256)

    def method() -> Method:
        config = InferConfig(cascade=True, precision="int8")
        return ready_way(_network(), run, 3, config, _CPU, digest="w").method

    assert method().int8_sha256 == " ".join(digests[piece] for piece in pieces[:2])
    assert assert_never_used(damaged, method, seed=2) > 50


class _Found(NamedTuple):
    """A run with the record of its network's ways on this machine."""

    network: DeeplySupervisedUNet
    run: RunPaths
    record: SpeedupRecord

    def write(self, record: SpeedupRecord) -> Path:
        path = self.run.speedups(3, record.machine.key)
        write_speedups(path, record)
        return path

    def method(self, **asked: Any) -> Method:
        return ready_way(self.network, self.run, 3, InferConfig(**asked), _CPU, digest="w").method


@pytest.fixture
def found(tmp_path: Path) -> _Found:
    network = _network()

    def digest(engine: Any) -> str:
        return probe_sha256(make_predictor(network, Method(engine=engine), device=_CPU, int8_file=Path), _CPU)

    ways = [
        replace(
            measured_way(tiling, "float32", engine, speed),
            probe_sha256=digest(engine),
        )
        for tiling, engine, speed in (("paper", "eager", 1), ("dense", "folded", 3))
    ]
    record = replace(RECORD, machine=machine_of(_CPU), ways=tuple(ways))
    return _Found(network, RunPaths(tmp_path), record)


def test_the_record_of_this_machine_is_taken(found: _Found) -> None:
    found.write(found.record)
    assert found.method(tiling="auto").engine == "folded"


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        ({"instruction_set": "avx2"}, "instruction set avx2, here "),
        ({"device_type": "cuda", "instruction_set": "compute capability 9.0"}, "device cuda, here cpu"),
        ({"versions": {"torch": "0.1"}}, "torch 0.1, here "),
    ],
)
def test_a_record_of_another_kind_of_machine_is_refused_with_what_to_run(
    found: _Found, machine: dict[str, Any], told: str
) -> None:
    path = found.write(replace(found.record, machine=replace(found.record.machine, **machine)))
    with pytest.raises(ConfigurationError, match=told) as refused:
        found.method(tiling="auto")
    assert str(path) in str(refused.value)
    assert "run `python jobs/launch_calibrate.py` on this kind of machine" in str(refused.value)


@pytest.mark.parametrize("other", [{"name": "another processor"}, {"num_threads": 64}, {"versions": {}}])
def test_a_record_of_a_machine_that_gives_the_same_numbers_is_taken(found: _Found, other: dict[str, Any]) -> None:
    versions = {**other.get("versions", found.record.machine.versions), "torch": version("torch")}
    machine = replace(found.record.machine, **{**other, "versions": versions})
    assert machine.key != found.record.machine.key
    found.write(replace(found.record, machine=machine))
    assert found.method(tiling="auto").engine == "folded"


def test_a_machine_whose_numbers_are_others_is_refused(found: _Found) -> None:
    ways = [replace(way, probe_sha256="0" * 64) for way in found.record.ways]
    found.write(replace(found.record, ways=tuple(ways)))
    with pytest.raises(ConfigurationError, match=r"dense float32 folded has the digest \w+ here, expected 000"):
        found.method(tiling="auto")


def test_among_several_records_the_one_that_suits_is_taken_and_without_one_each_says_why(found: _Found) -> None:
    machine, (paper, dense) = found.record.machine, found.record.ways
    others = [
        replace(found.record, machine=replace(machine, instruction_set="sse")),
        replace(found.record, machine=replace(machine, name="a"), ways=(replace(dense, probe_sha256="00"),)),
    ]
    paths = [found.write(record) for record in others]
    with pytest.raises(ConfigurationError) as refused:
        found.method(tiling="auto")
    assert all(str(path) in str(refused.value) for path in paths)
    suited = found.write(replace(found.record, machine=replace(machine, name="b"), ways=(paper,)))
    assert found.method(tiling="auto").tiling == "paper"
    # What was measured here counts, whatever the others say.
    own = found.write(found.record)
    assert own != suited
    assert found.method(tiling="auto").tiling == "dense"


def test_what_was_not_measured_is_refused(found: _Found) -> None:
    found.write(found.record)
    with pytest.raises(ConfigurationError, match="nothing of tiling dense with bf16 folded, measured are paper"):
        found.method(tiling="dense", precision="bf16")


def _network() -> DeeplySupervisedUNet:
    torch.manual_seed(0)
    return DeeplySupervisedUNet("resnet34_ds", width=4).eval()
