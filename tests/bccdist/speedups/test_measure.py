"""Every way is measured on Validation I, and the record makes `auto` possible."""

import io
import logging
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from heatmap_slides import MPP, pink_picture, write_slide

from bccdist.configuration import InferConfig, SpeedupsConfig
from bccdist.errors import ConfigurationError
from bccdist.files import write_text
from bccdist.heatmaps.store import Heatmap
from bccdist.log import LOG
from bccdist.networks.engines import Arithmetic
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import save_network, weights_digest
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Thresholds
from bccdist.sections.ledger import read_rows
from bccdist.slides.manifest import SlideRecord
from bccdist.speedups import measure
from bccdist.speedups.bands import bands
from bccdist.speedups.probes import machine_of
from bccdist.speedups.record import SpeedupRecord, read_speedups
from bccdist.stages.epochs import infer_slides

_ISLANDS = [(100, 100, 300, 330), (800, 60, 290, 400)]
_FLOAT32 = [Arithmetic(precision="float32", engine="eager"), Arithmetic(precision="float32", engine="folded")]
_INT8 = Arithmetic(precision="int8", engine="openvino")


class Measured(NamedTuple):
    """A study whose float32 ways were measured, and what the job said; not to be changed."""

    paths: StudyPaths
    log: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    """A study with one slide of Validation I, of Validation II and of Test, and a small network; not to be changed."""
    tmp_path = tmp_path_factory.mktemp("made")
    for slide_id in ("v", "w", "t"):
        picture = pink_picture(1200, 520, islands=_ISLANDS)
        picture = (picture - np.random.default_rng(0).integers(0, 40, picture.shape)).astype(np.uint8)
        write_slide(tmp_path / f"{slide_id}.tif", picture)
    write_text(
        tmp_path / "slides.csv",
        "slide_id,part,path,annotation\nv,val1,v.tif,v.png\nw,val2,w.tif,w.png\nt,test,t.tif,\n",
    )
    paths = StudyPaths(tmp_path / "study")
    torch.manual_seed(1)
    network = DeeplySupervisedUNet("resnet34_ds", width=8).train()
    with torch.no_grad():
        network(to_network_input(torch.randint(0, 256, (4, 128, 128, 3), dtype=torch.uint8)))
    save_network(
        paths.run("resnet34_ds").weights(3), network, {"epoch": "3", "target_mpp": str(MPP), "phantom": "true"}
    )
    return paths


@pytest.fixture(scope="module")
def measured(made: StudyPaths, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    paths = _copied(made, tmp_path_factory.mktemp("measured"))
    handler = logging.StreamHandler(said := io.StringIO())
    LOG.addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "candidates", lambda *_, **__: _FLOAT32)
        _measure(paths, num_samples=2)
    LOG.removeHandler(handler)
    return Measured(paths, said.getvalue())


def _copied(study: StudyPaths, folder: Path) -> StudyPaths:
    """The same study, slides and all, in another folder."""
    shutil.copytree(study.root.parent, folder, dirs_exist_ok=True)
    return StudyPaths(folder / study.root.name)


def _measure(paths: StudyPaths, *, exact_rows: measure.ExactRows = lambda *_: None, **config: int) -> None:
    thresholds = Thresholds(t_p=0.5, t_a_um2=1000)
    manifest = paths.root.parent / "slides.csv"
    measure.measure_speedups(
        manifest,
        paths.root,
        "resnet34_ds",
        3,
        thresholds,
        SpeedupsConfig(num_field_samples=1, **config),
        exact_rows=exact_rows,
    )


def _infer(paths: StudyPaths, **config: object) -> Heatmap:
    infer_slides(
        paths.root.parent / "slides.csv",
        ["t"],
        paths.root,
        "resnet34_ds",
        [3],
        InferConfig(**config),  # type: ignore[arg-type]
        num_workers=0,
    )
    return Heatmap(paths.heatmap("resnet34_ds", 3, "t"))


def _record(paths: StudyPaths) -> SpeedupRecord:
    """The one record that was written."""
    run = paths.run("resnet34_ds")
    (path,) = run.all_speedups(3)
    return read_speedups(path, weights_digest=weights_digest(run.weights(3)))


def test_auto_needs_a_record(made: StudyPaths, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no speed-up record there"):
        _infer(_copied(made, tmp_path), tiling="auto")


@pytest.mark.slow
def test_every_way_is_measured_and_auto_follows(measured: Measured, tmp_path: Path) -> None:
    paths = _copied(measured.paths, tmp_path)
    run = paths.run("resnet34_ds")
    (path,) = run.all_speedups(3)
    record = _record(paths)
    assert record.machine == machine_of(torch.device("cpu"))
    assert path == run.speedups(3, record.machine.key)
    # Two roundings of one sum: stored probabilities are the same but for a few, which a digest sees or not.
    for exit_ in (None, "psi_0"):
        assert len({way.probe_sha256 for way in record.ways if way.exit == exit_}) in (1, 2)
    assert [(way.tiling, way.engine, way.exit) for way in record.ways] == [
        (tiling, engine, exit_)
        for tiling in ("paper", "dense")
        for exit_ in (None, "psi_0")
        for engine in ("eager", "folded")
    ]
    reference, paper = record.ways[:2]
    assert (reference.max_difference, reference.crossing_share, reference.changed_verdicts) == (0, 0, ())
    assert paper.max_difference <= 1 / 255
    assert all(way.mean_difference > 0 for way in record.ways if way.tiling == "dense")
    _assert_calibrated(record)
    assert all(way.mpx_per_s > 0 for way in record.ways)
    assert (record.slide_ids, record.num_sections, record.num_patches) == (("v", "w"), 4, 18)
    assert [(band.low, band.high) for band in record.bands] == bands()
    assert all(0 <= band.undecided_share <= 1 for band in record.bands)
    shares = [band.undecided_share for band in record.bands if band.high == 1]
    assert shares == sorted(shares, reverse=True)
    assert not list(path.parent.glob("*.xml"))
    assert "cascade, psi_0 within 0.005 to 1: " in measured.log
    _assert_told(measured.log)
    heatmap = _infer(paths, tiling="auto", precision="auto")
    way = record.fastest(tilings=("paper", "dense"), precisions=("float32",))
    assert way is not None
    assert (heatmap.attributes.tiling, heatmap.attributes.arithmetic) == (way.tiling, f"float32 {way.engine}")


def _assert_told(log: str) -> None:
    """What comes, what each way took, and how long the rest takes, in words that a user can act on."""
    assert "sees lies within psi_0 " in log
    assert "first 1 slide(s) of Validation I go through all 8 ways" in log
    assert "a smaller --max-slides" in log
    for tiling in ("paper", "dense"):
        line = next(line for line in log.splitlines() if f"slide 1/1 v, tiling {tiling}: " in line)
        assert all(f"{tiling} float32 {way} " in line for way in ("eager", "folded", "eager to psi_0"))
    assert re.search(r"1 further slide\(s\) are calibrated in .*: about \d+ s in these networks", log)
    assert "{" not in log


def _assert_calibrated(record: SpeedupRecord) -> None:
    """One way of each kind but the exact one has its scores of both slides."""
    calibrated = [way for way in record.ways if way.slide_levels]
    kinds = {(way.tiling, way.precision, way.exit) for way in calibrated}
    assert kinds == {("paper", "float32", "psi_0"), ("dense", "float32", None), ("dense", "float32", "psi_0")}
    for way in calibrated:
        assert (len(way.slide_levels), len(way.flip_levels)) == (2, 4)
        assert way.psi == (way.exit or "psi_4")
        assert {"undecided_share", "p99_probability", "mean_green"} < set(way.ranges)
        assert all(low <= high for low, high in way.ranges.values())
    # The two slides are of the same pixels but for the name, so that they lie equally far.
    assert all(len(set(way.slide_levels)) == 1 for way in calibrated)


@pytest.mark.slow
def test_exact_rows_that_are_there_take_the_place_of_the_exact_network(made: StudyPaths, tmp_path: Path) -> None:
    paths = _copied(made, tmp_path)
    infer_slides(
        tmp_path / "slides.csv",
        ["v", "w"],
        paths.root,
        "resnet34_ds",
        [3],
        InferConfig(engine="folded"),
        num_workers=0,
    )
    asked = []

    def exact_rows(record: SlideRecord, _target_mpp: float) -> list[dict[str, Any]]:
        asked.append(record.slide_id)
        return read_rows(paths.ledger_rows("resnet34_ds", 3, record.slide_id)).to_pylist()

    handler = logging.StreamHandler(said := io.StringIO())
    LOG.addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "candidates", lambda *_, **__: _FLOAT32[:1])
        patch.setattr(measure, "bands", lambda: bands()[:1])
        _measure(paths, exact_rows=exact_rows, num_samples=2)
    LOG.removeHandler(handler)
    assert asked == ["w"]
    assert "w: calibrated, the exact curves are from the ledger" in said.getvalue()
    _assert_calibrated(_record(paths))


@pytest.mark.slow
def test_a_cascade_goes_through_a_slide(measured: Measured, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = _copied(measured.paths, tmp_path)
    heatmap = _infer(paths, cascade=True, engine="folded")
    assert re.search(r"slide 1/1 t: .* \d+% of the patches undecided by psi_0", caplog.text)
    assert heatmap.outputs == ("psi_0", "psi_4")
    assert heatmap.attributes.cascade_band in bands()
    rows = read_rows(paths.ledger_rows("resnet34_ds", 3, "t")).to_pylist()
    assert [(row["psi"], row["is_final"]) for row in rows] == [("psi_0", False), ("psi_4", True)] * 2


@pytest.mark.slow
def test_int8_models_are_made_and_used(made: StudyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = _copied(made, tmp_path)
    # Other ways of float32 are measured in the other tests, and take as long.
    monkeypatch.setattr(measure, "candidates", lambda *_, **__: [_FLOAT32[0], _INT8])
    _measure(paths, num_samples=2)
    run = paths.run("resnet34_ds")
    (record,) = run.all_speedups(3)
    names = {path.name for path in record.parent.iterdir()}
    pieces = ("whole", "first", "first-with-features", "later")
    assert names == {
        record.name,
        *(f"epoch-003-{piece}-int8.{end}" for piece in pieces for end in ("xml", "bin")),
    }
    heatmap = _infer(paths, precision="int8", tiling="dense")
    assert heatmap.attributes.arithmetic == "int8 openvino"
    assert (heatmap.coverage[heatmap.tissue_cells] == 1).all()
    run.int8_model(3, "whole").with_suffix(".bin").write_bytes(b"others")
    paths.ledger_rows("resnet34_ds", 3, "t").unlink()
    heatmap.path.unlink()
    with pytest.raises(
        ConfigurationError, match=r"epoch-003-whole-int8\.xml or its \.bin: damaged(.|\n)*launch_calibrate"
    ):
        _infer(paths, precision="int8")
