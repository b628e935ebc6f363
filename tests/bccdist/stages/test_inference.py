"""The inference job does each slide once, never twice, never over another's work, and past bad slides."""

import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from heatmap_slides import (
    MPP,
    BrightnessNetwork,
    ConstantNetwork,
    PlainPredictor,
    damage_tile,
    pink_picture,
    write_slide,
)
from killing import killed_at

from bccdist.configuration import InferConfig
from bccdist.errors import (
    CheckpointError,
    ConfigurationError,
    LedgerError,
    ManifestError,
    NotFiniteError,
    StageFailedError,
)
from bccdist.failures import read_reason
from bccdist.files import write_text
from bccdist.heatmaps.predict import HeatmapRows, predict_rows
from bccdist.heatmaps.store import Heatmap
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import save_network
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import read_rows
from bccdist.stages.epochs import infer_slides

_ISLANDS = [(100, 100, 300, 330), (800, 60, 290, 400)]


@dataclass(frozen=True, kw_only=True)
class _Study:
    """Two slides with two islands of tissue each, and networks that cost nothing."""

    folder: Path
    networks: Mapping[int, ConstantNetwork] = field(
        default_factory=lambda: {1: ConstantNetwork(0.4, ["psi_4"]), 2: BrightnessNetwork(["psi_4"])}
    )
    metadata: dict[str, str] = field(
        default_factory=lambda: {"setting": "resnet34", "target_mpp": str(MPP), "phantom": "false"}
    )

    @property
    def paths(self) -> StudyPaths:
        return StudyPaths(self.folder / "study")

    def slide(self, slide_id: str) -> Path:
        return self.folder / f"{slide_id}.tif"

    def infer(
        self,
        slide_ids: Sequence[str] = ("a", "b"),
        epochs: Sequence[int] = (1,),
        *,
        num_workers: int = 0,
        **changes: Any,
    ) -> None:
        infer_slides(
            self.folder / "slides.csv",
            slide_ids,
            self.paths.root,
            "resnet34",
            epochs,
            InferConfig(**changes),
            num_workers=num_workers,
        )

    def rows(self, slide_id: str, epoch: int = 1) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = read_rows(self.paths.ledger_rows("resnet34", epoch, slide_id)).to_pylist()
        return rows

    def heatmap(self, slide_id: str, epoch: int = 1) -> Heatmap:
        return Heatmap(self.paths.heatmap("resnet34", epoch, slide_id))

    def write_sections(self, *lines: str) -> None:
        header = "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px"
        write_text(self.folder / "sections.csv", "\n".join([header, *lines]) + "\n")

    def num_calls(self) -> int:
        return sum(network.num_calls for network in self.networks.values())

    def load(self, path: Path) -> tuple[ConstantNetwork, Mapping[str, str]]:
        """In place of `load_network`."""
        epoch = int(path.stem.removeprefix("epoch-"))
        return self.networks[epoch], self.metadata


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Study:
    study = _Study(folder=tmp_path)
    for slide_id in ("a", "b"):
        write_slide(study.slide(slide_id), pink_picture(1200, 520, islands=_ISLANDS))
    write_text(tmp_path / "slides.csv", "slide_id,part,path,scanner\na,test,a.tif,phantom\nb,val2,b.tif,\n")
    for epoch in study.networks:
        write_text(study.paths.run("resnet34").weights(epoch), f"weights of epoch {epoch}")
    monkeypatch.setattr("bccdist.heatmaps.predictors.load_network", study.load)
    monkeypatch.setattr("bccdist.speedups.resolving.make_predictor", lambda network, *_, **__: PlainPredictor(network))
    return study


def test_slides_become_heatmaps_and_rows(study: _Study, caplog: pytest.LogCaptureFixture) -> None:
    study.infer()
    rows = study.rows("a")
    assert [(row["section_id"], row["psi"], row["label"]) for row in rows] == [
        ("a-s0", "psi_4", None),
        ("a-s1", "psi_4", None),
    ]
    assert [row["phantom"] for row in rows + study.rows("b")] == [True, True, False, False]
    assert {row["part"] for row in rows} == {"Test"}
    for row, (_, _, width, height) in zip(rows, _ISLANDS, strict=True):
        assert row["coverage"] == 1.0
        assert row["max_probability"] == pytest.approx(0.4)
        assert row["tissue_um2"] == pytest.approx(width * height * MPP**2, rel=0.06)
    heatmap = study.heatmap("a")
    assert (heatmap.coverage[heatmap.tissue_cells] == 4).all()
    first, second = caplog.messages
    assert first.startswith("slide 1/2 a: 2 sections, 18 patches, ")
    assert "s reading), " in first
    assert first.endswith(" patches/s")
    assert second.startswith("slide 2/2 b: ")


def test_epochs_share_one_reading_and_keep_their_own_values(
    study: _Study, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_passes = 0

    def counted(*args: Any, **kwargs: Any) -> Generator[HeatmapRows, None, None]:
        nonlocal num_passes
        num_passes += 1
        return predict_rows(*args, **kwargs)

    monkeypatch.setattr("bccdist.heatmaps.writing.predict_rows", counted)
    study.infer(["a"], epochs=(1, 2))
    assert num_passes == 1
    assert "18 patches x 2 epochs" in caplog.text
    assert study.rows("a", 1)[0]["max_probability"] == pytest.approx(0.4)
    assert study.rows("a", 2)[0]["max_probability"] > 0.9
    assert [study.heatmap("a", epoch).attributes.epoch for epoch in (1, 2)] == [1, 2]
    digests = {study.rows("a", epoch)[0]["weights_digest"] for epoch in (1, 2)}
    assert len(digests) == 2


def test_done_work_is_not_done_again(study: _Study, caplog: pytest.LogCaptureFixture) -> None:
    study.infer()
    calls = study.num_calls()
    assert calls > 0
    caplog.clear()
    study.infer(batch=3)
    assert study.num_calls() == calls
    assert caplog.messages == ["slide 1/2 a: done before", "slide 2/2 b: done before"]


def test_a_lost_heatmap_is_made_again(study: _Study) -> None:
    study.infer(["a"])
    heatmap, calls = study.paths.heatmap("resnet34", 1, "a"), study.num_calls()
    heatmap.unlink()
    study.infer(["a"])
    assert heatmap.exists()
    assert study.num_calls() > calls


def test_lost_rows_come_from_the_heatmap(study: _Study, caplog: pytest.LogCaptureFixture) -> None:
    study.infer(["a"])
    before, calls = study.rows("a"), study.num_calls()
    study.paths.ledger_rows("resnet34", 1, "a").unlink()
    caplog.clear()
    study.infer(["a"])
    # As texts, in which NaN is NaN.
    assert str(study.rows("a")) == str(before)
    assert study.num_calls() == calls
    assert "2 sections from heatmaps that were there" in caplog.text


@pytest.mark.parametrize("phantom", ["true", "false"])
def test_rows_say_whether_the_network_was_trained_on_drawn_slides(study: _Study, phantom: str) -> None:
    """By its weights, on drawn and on real slides."""
    study.metadata["phantom"] = phantom
    study.infer()
    found = {(row["phantom"], row["phantom_weights"]) for slide_id in ("a", "b") for row in study.rows(slide_id)}
    assert found == {(True, phantom == "true"), (False, phantom == "true")}


@pytest.mark.parametrize(
    ("older", "lacks"),
    [
        ({b"bccdist.schema_version": b"4"}, ["reached_by", "levels_apart"]),
        ({b"bccdist.schema_version": b"1"}, ["margin_um", "phantom_weights"]),
        ({b"bccdist.schema_version": b"2"}, ["phantom_weights"]),
        ({b"bccdist.section_method": b"tissue 1, sections 1"}, []),
    ],
    ids=["4", "1", "2", "another section method"],
)
def test_rows_of_an_older_ledger_are_written_anew_without_the_network(
    study: _Study, caplog: pytest.LogCaptureFixture, older: dict[bytes, bytes], lacks: list[str]
) -> None:
    study.infer(["a"])
    before, calls = study.rows("a"), study.num_calls()
    path = study.paths.ledger_rows("resnet34", 1, "a")
    table = pq.read_table(path).drop_columns(lacks)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **older}), path)
    with pytest.raises(LedgerError, match="run the inference stage again"):
        study.rows("a")
    heatmap = study.paths.heatmap("resnet34", 1, "a")
    made_ns = heatmap.stat().st_mtime_ns
    caplog.clear()
    study.infer(["a"])
    assert "2 sections from heatmaps that were there" in caplog.text
    assert (study.num_calls(), heatmap.stat().st_mtime_ns) == (calls, made_ns)
    assert str(study.rows("a")) == str(before)


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("place", [30, 2000, -10])
def test_damaged_rows_are_named_and_made_anew_without_the_network(
    study: _Study, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    study.infer()
    path, calls = study.paths.ledger_rows("resnet34", 1, "a"), study.num_calls()
    before = path.read_bytes()
    _flip(path, place)
    study.infer()
    assert (path.read_bytes(), study.num_calls()) == (before, calls)
    assert f"{path}: damaged" in caplog.text


@pytest.mark.parametrize("entry", [b"psi_4/0/c/0/0", b"coverage/c/0/0", b"zarr.json"])
def test_a_damaged_heatmap_is_refused_by_name_and_no_rows_come_from_it(study: _Study, entry: bytes) -> None:
    study.infer()
    rows, heatmap = study.paths.ledger_rows("resnet34", 1, "a"), study.paths.heatmap("resnet34", 1, "a")
    rows.unlink()
    _flip(heatmap, heatmap.read_bytes().index(entry) + len(entry) + 40)
    with pytest.raises(
        StageFailedError, match=rf"1 of 2 slide\(s\) failed(.|\n)*a: {heatmap}: .*remove (it|the file)"
    ):
        study.infer()
    assert not rows.exists()
    heatmap.unlink()
    study.infer()
    assert len(study.rows("a")) == 2


def test_a_heatmap_that_was_made_at_other_factors_of_the_levels_gives_no_rows(
    study: _Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr("bccdist.slides.slide.usable_downsamples", lambda *_: (1.02,))
        study.infer(["a"])
    rows = study.paths.ledger_rows("resnet34", 1, "a")
    rows.unlink()
    with pytest.raises(StageFailedError, match=r"made with 1\.02 level-0 px per pixel, but .* read with 1:"):
        study.infer(["a"])
    assert not rows.exists()


def test_a_network_that_gives_no_numbers_fails_the_slide_and_leaves_no_heatmap(study: _Study) -> None:
    study.networks[1]._probability = float("nan")
    with pytest.raises(StageFailedError, match=r"2 of 2 slide(.|\n)*a: .*psi_4 that is infinite, no number"):
        study.infer()
    assert not list(study.paths.root.rglob("*.ozx*"))
    assert not list(study.paths.ledger.rglob("*.parquet"))


def test_weights_that_are_no_numbers_are_named_by_their_file(study: _Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(network: ConstantNetwork, *_: Any, **__: Any) -> PlainPredictor:
        if network is study.networks[2]:
            raise NotFiniteError("layer conv1 holds a number that is not finite")
        return PlainPredictor(network)

    monkeypatch.setattr("bccdist.speedups.resolving.make_predictor", make)
    with pytest.raises(NotFiniteError) as error:
        study.infer(epochs=[1, 2])
    assert str(error.value).startswith(f"{study.paths.run('resnet34').weights(2)}: layer conv1")


def test_corrected_labels_make_new_rows_without_the_network(study: _Study) -> None:
    boxes = ("0,0,600,520", "600,0,600,520")
    study.write_sections(*(f"a,a-{number},Normal,{box}" for number, box in enumerate(boxes)))
    study.infer(["a"])
    calls = study.num_calls()
    study.write_sections(*(f"a,a-{number},Tumor,{box}" for number, box in enumerate(boxes)))
    study.infer(["a"])
    assert [(row["section_id"], row["label"]) for row in study.rows("a")] == [("a-0", "Tumor"), ("a-1", "Tumor")]
    assert study.num_calls() == calls


@pytest.mark.parametrize("change", ["weights", "tolerance", "slide"])
def test_another_configuration_is_refused_and_nothing_changes(study: _Study, change: str) -> None:
    study.infer(["b"])
    before, calls = study.rows("b"), study.num_calls()
    if change == "weights":
        write_text(study.paths.run("resnet34").weights(1), "other weights")
    if change == "slide":
        write_slide(study.slide("b"), pink_picture(1200, 520, islands=_ISLANDS[:1]))
    tolerance = 0.2 if change == "tolerance" else 0.1
    named = {"weights": "weights_digest", "tolerance": "config_digest", "slide": "slide_fingerprint"}[change]
    with pytest.raises(ConfigurationError, match=named):
        study.infer(["a", "b"], mpp_tolerance=tolerance)
    study.paths.ledger_rows("resnet34", 1, "b").rename(study.folder / "away.parquet")
    with pytest.raises(ConfigurationError, match=named):
        study.infer(["a", "b"], mpp_tolerance=tolerance)
    (study.folder / "away.parquet").rename(study.paths.ledger_rows("resnet34", 1, "b"))
    assert (str(study.rows("b")), study.num_calls()) == (str(before), calls)
    assert not study.paths.heatmap("resnet34", 1, "a").exists()


def test_weights_for_something_else_are_refused(study: _Study) -> None:
    study.metadata["setting"] = "unet"
    with pytest.raises(ConfigurationError, match="unet"):
        study.infer()
    study.metadata.pop("target_mpp")
    with pytest.raises(ConfigurationError, match="target_mpp"):
        study.infer()


def test_an_unknown_slide_is_refused(study: _Study) -> None:
    with pytest.raises(ManifestError, match="'c'"):
        study.infer(["a", "c"])
    assert study.num_calls() == 0


def test_a_slide_that_has_gone_fails_alone(study: _Study) -> None:
    study.slide("a").unlink()
    with pytest.raises(StageFailedError, match=r"1 of 2 slide\(s\) failed(.|\n)*a: .*No such file"):
        study.infer()
    assert len(study.rows("b")) == 2


def test_a_slide_that_has_gone_is_done_where_all_was_made_of_it(
    study: _Study, caplog: pytest.LogCaptureFixture
) -> None:
    study.infer(epochs=(1, 2))
    study.slide("a").unlink()
    caplog.clear()
    study.infer(epochs=(1, 2))
    assert caplog.messages == ["slide 1/2 a: done before", "slide 2/2 b: done before"]
    study.paths.ledger_rows("resnet34", 2, "a").unlink()
    with pytest.raises(StageFailedError, match=r"1 of 2 slide\(s\) failed(.|\n)*a: .*No such file"):
        study.infer(epochs=(1, 2))


def test_one_bad_slide_does_not_end_the_job(study: _Study, caplog: pytest.LogCaptureFixture) -> None:
    good = study.slide("a").read_bytes()
    study.slide("a").write_bytes(b"no slide at all")
    with pytest.raises(StageFailedError, match=r"1 of 2 slide\(s\) failed(.|\n)*a: .*cannot open"):
        study.infer()
    assert "slide 1/2 a: FAILED: " in caplog.text
    assert len(study.rows("b")) == 2
    assert "cannot open" in str(read_reason(study.paths.failure("infer-resnet34", "a")))
    assert not study.paths.heatmap("resnet34", 1, "a").exists()
    study.slide("a").write_bytes(good)
    study.infer()
    assert len(study.rows("a")) == 2
    assert not study.paths.failure("infer-resnet34", "a").exists()


def test_damage_in_a_slide_makes_its_section_incomplete(study: _Study, caplog: pytest.LogCaptureFixture) -> None:
    damage_tile(study.slide("a"), 4)
    study.infer(["a"])
    left, right = study.rows("a")
    assert left["coverage"] == 1.0
    assert right["coverage"] == 0.0
    assert not any(right["largest_region_px"][1:])
    attributes = study.heatmap("a").attributes
    assert attributes.num_unread_cells == 1
    assert "damaged or truncated" in attributes.unread_reason
    assert "1 cells UNREADABLE" in caplog.text


def test_a_slide_without_tissue_is_reviewed_and_no_crash(study: _Study) -> None:
    write_slide(study.slide("a"), pink_picture(600, 300, islands=[]))
    study.infer(["a"])
    assert study.rows("a") == []
    study.write_sections("a,a-0,Normal,0,0,300,300")
    study.infer(["a"])
    (row,) = study.rows("a")
    assert (row["coverage"], row["tissue_um2"], row["label"]) == (0.0, 0.0, "Normal")
    assert not any(row["largest_region_px"])
    assert not study.heatmap("a").coverage.any()
    assert study.num_calls() == 0


def test_a_job_that_dies_in_a_slide_leaves_nothing_that_counts(study: _Study, monkeypatch: pytest.MonkeyPatch) -> None:
    original = study.networks[1].forward

    def dying(x: torch.Tensor) -> Any:
        if study.num_calls():
            raise KeyboardInterrupt
        return original(x)

    monkeypatch.setattr(study.networks[1], "forward", dying)
    with pytest.raises(KeyboardInterrupt):
        study.infer(["a"])
    assert study.num_calls() == 1
    assert not study.paths.ledger_rows("resnet34", 1, "a").exists()
    assert not list(study.paths.heatmap("resnet34", 1, "a").parent.iterdir())
    monkeypatch.setattr(study.networks[1], "forward", original)
    study.infer(["a"])
    assert len(study.rows("a")) == 2


def test_what_a_killed_job_left_is_cleared_by_the_next(study: _Study) -> None:
    final = study.paths.heatmap("resnet34", 1, "a")
    leftover = final.with_name(f"{final.name}.partial-0")
    write_text(leftover, "half a zip")
    study.infer(["a"])
    assert [path.name for path in final.parent.iterdir()] == [final.name]


def test_real_weights_go_through(study: _Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="damaged"):
        study.infer(["a"])
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34_ds", width=4)
    weights = study.paths.run("resnet34_ds").weights(7)
    save_network(weights, network, {"epoch": "7", "target_mpp": str(MPP), "phantom": "true"})
    infer_slides(
        study.folder / "slides.csv", ["a"], study.paths.root, "resnet34_ds", [7], InferConfig(), num_workers=0
    )
    table = read_rows(study.paths.ledger_rows("resnet34_ds", 7, "a"))
    assert table["psi"].to_pylist() == ["psi_0", "psi_1", "psi_2", "psi_3", "psi_4"] * 2
    assert len(set(table["max_probability"].to_pylist())) > 2
    assert all(np.diff(curve).max() <= 0 for curve in np.array(table["largest_region_px"].to_pylist(), dtype=int))


def test_a_slide_that_kills_the_worker_costs_itself_alone_and_the_networks_are_loaded_again(
    study: _Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.undo()
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34", width=4)
    save_network(
        study.paths.run("resnet34").weights(1), network, {"epoch": "1", "target_mpp": str(MPP), "phantom": "true"}
    )
    killing = partial(killed_at, "a", "bccdist.stages.epochs:open_worker")
    with monkeypatch.context() as patch:
        patch.setattr("bccdist.stages.epochs.open_worker", killing)
        with pytest.raises(
            StageFailedError, match=r"1 of 2 slide\(s\) failed:\n  - a: its process was ended by SIGKILL"
        ):
            study.infer(num_workers=1)
    assert "slide 1/2 a: FAILED: its process was ended by SIGKILL" in caplog.text
    assert len(study.rows("b")) == 2
    assert "where memory runs out" in str(read_reason(study.paths.failure("infer-resnet34", "a")))
    study.infer()
    assert len(study.rows("a")) == 2
    assert not study.paths.failure("infer-resnet34", "a").exists()


def test_reading_results_does_not_import_torch() -> None:
    names = [
        "slides.cell_rows",
        "heatmaps.layout",
        "heatmaps.store",
        "speedups.machine",
        "speedups.record",
        "stages.inference_identity",
        "stages.epochs",
    ]
    names += [f"sections.{name}" for name in ("curve", "ledger", "margins", "rows", "sampling", "verdicts")]
    imports = "; ".join(f"import bccdist.{name}" for name in names)
    command = [sys.executable, "-c", f"{imports}; import sys; assert 'torch' not in sys.modules"]
    subprocess.run(command, check=True)
