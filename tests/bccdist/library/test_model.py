"""A model in Python says about a slide what its study says, bit for bit, and leaves nothing behind."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pytest
import torch
from heatmap_slides import pink_picture, write_slide
from model_study import EPOCH, SETTING
from small_model import SmallModel, write_small_model
from speedup_records import RECORD, measured_way

import bccdist
from analysis.outlines.qupath import write_regions
from analysis.study_evidence.evidence import Evidence
from bccdist.configuration import PHANTOM_WEIGHTS_WARNING, InferConfig
from bccdist.errors import BccdistError, ConfigurationError, HeatmapError, ModelError, SlideError, StageFailedError
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predictors import make_predictor
from bccdist.heatmaps.store import Heatmap
from bccdist.library.model import Model
from bccdist.library.progress import Progress
from bccdist.models.model_file import read_model, write_model
from bccdist.models.network import load_network_of
from bccdist.sections.assessable import QualityLimits
from bccdist.sections.ledger import read_rows
from bccdist.speedups.probes import machine_of, probe_sha256
from bccdist.speedups.record import write_speedups

CPU = torch.device("cpu")


def exact(ledger: pa.Table) -> str:
    """All rows to the last digit, NaN too, but for the times that they took."""
    return repr(ledger.drop_columns(["read_s", "network_s"]).to_pylist())


def children() -> list[str]:
    """The processes that this one has started and that still run."""
    return [text for path in Path("/proc/self/task").glob("*/children") if (text := path.read_text())]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    return write_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def model(small: SmallModel) -> Iterator[Model]:
    with bccdist.open_model(small.path) as model:
        yield model


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that temporary files go to."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.mark.parametrize("slide_id", ["slide", "phantom"])
def test_rows_heatmap_and_regions_are_those_of_the_study_bit_for_bit(
    small: SmallModel, model: Model, slide_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A study judges no section by its quality: its own are the reference.
    monkeypatch.setattr(QualityLimits, "judge", lambda *_: None)
    small.infer()
    found = model.predict(small.slide if slide_id == "slide" else small.drawn, progress=False)
    rows = read_rows(small.study.ledger_rows(SETTING, EPOCH, slide_id))
    assert exact(found.ledger) == exact(rows)
    there = Heatmap(small.study.heatmap(SETTING, EPOCH, slide_id))
    for psi in there.outputs:
        assert np.array_equal(found.heatmap(psi).values, there.read(psi, there.box_target_px))
    assert np.array_equal(found.heatmaps.coverage, there.coverage)
    verdicts = bccdist.open_study(small.study.root).verdicts()
    of_slide = verdicts[verdicts["slide_id"] == slide_id].reset_index(drop=True)
    assert of_slide[found.sections.columns].equals(found.sections)
    write_regions(Evidence(small.study.root), small.manifest, num_workers=0)
    with ZipFile(small.study.regions(SETTING, slide_id)) as archive:
        assert json.loads(archive.read(f"{slide_id}.geojson")) == found.regions()


def test_a_section_is_a_row_with_box_verdict_and_what_it_rests_on(small: SmallModel, model: Model) -> None:
    found = model.predict(small.slide, progress=False)
    sections = found.sections
    assert list(sections["section_id"]) == ["slide-s0", "slide-s1"]
    assert set(sections["verdict"]) <= {"Tumor", "Normal", "review"}
    for (x, y, width, height), tissue_um2 in zip(sections["box_level0_px"], sections["tissue_um2"], strict=True):
        assert tissue_um2 == pytest.approx(width * height * 0.92**2, rel=0.2)
        region = found.heatmap("psi_0", box_level0_px=(x, y, width, height))
        assert region.shape == (-(-(y + height) // 16) - y // 16, -(-(x + width) // 16) - x // 16)
    assert {"flip_shift", "area_um2", "coverage"} <= set(sections)
    sections["verdict"] = "changed"
    assert "changed" not in set(found.sections["verdict"])


def test_predicting_twice_gives_the_same(small: SmallModel, model: Model, tmp_path: Path) -> None:
    first, second = (model.predict(small.slide, out=tmp_path / name, progress=False) for name in "ab")
    assert exact(first.ledger) == exact(second.ledger)
    assert first.regions() == second.regions()
    with ZipFile(first.path) as one, ZipFile(second.path) as other:
        assert one.namelist() == other.namelist()
        assert all(one.read(name) == other.read(name) for name in one.namelist() if name != "zarr.json")


def test_a_heatmap_that_is_there_is_read_and_not_made_again(
    small: SmallModel, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = model.predict(small.slide, out=tmp_path, progress=False)
    bytes_before = first.path.read_bytes()
    monkeypatch.setattr("bccdist.sections.marking.write_heatmaps", None)
    again = model.predict(small.slide, out=tmp_path, progress=False)
    assert again.sections.equals(first.sections)
    assert again.path.read_bytes() == bytes_before
    other = write_slide(tmp_path / "other" / "slide.svs", pink_picture(1200, 520, islands=[(100, 100, 300, 330)]))
    with pytest.raises(ConfigurationError, match=r"slide\.ozx was made from something else"):
        model.predict(other, out=tmp_path, progress=False)


def test_temporary_heatmaps_go_with_what_was_found(small: SmallModel, temporary: Path) -> None:
    with bccdist.open_model(small.path) as model:
        with model.predict(small.slide, progress=False) as found:
            assert found.path.is_relative_to(temporary)
            assert found.path.is_file()
        assert not found.path.exists()
        assert len(found.sections) == 2
        with pytest.raises(HeatmapError, match=r"slide: its heatmaps were temporary .* `out=FOLDER` to keep them"):
            found.heatmap()
        left = model.predict(small.slide, progress=False).path
        assert not left.exists(), "nobody holds what was found"
    assert list(temporary.iterdir()) == []


def test_ctrl_c_leaves_no_file_no_thread_and_no_process(small: SmallModel, temporary: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        signal.raise_signal(signal.SIGINT)

    children_before = children()
    with bccdist.open_model(small.path) as model:
        for out in (None, tmp_path / "out"):
            with pytest.raises(KeyboardInterrupt):
                model.predict(small.slide, out=out, progress=interrupt)
        assert not any(thread.name.startswith("one-ahead") for thread in threading.enumerate())
        assert children() == children_before
        assert list(temporary.glob("bccdist-[hf]*")) == []
        assert list((tmp_path / "out").iterdir()) == []
        assert len(model.predict(small.slide, out=tmp_path / "out", progress=False).sections) == 2


def test_ctrl_c_while_torch_is_loaded_leaves_a_python_that_predicts(small: SmallModel) -> None:
    code = """
import bccdist, signal, sys, threading
model = bccdist.open_model(sys.argv[1])
threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
try:
    model.predict(sys.argv[2])
except KeyboardInterrupt:
    print("interrupted")
print(len(model.predict(sys.argv[2]).sections))
"""
    words = [sys.executable, "-c", code, small.path, small.slide]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "interrupted\n2\n"), said.stderr


def test_it_works_from_threads_one_slide_at_a_time(small: SmallModel, model: Model) -> None:
    expected = model.predict(small.slide, progress=False).sections
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(model.predict(small.slide, progress=False))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(each.sections.equals(expected) for each in found)


def test_a_closed_model_predicts_no_more(small: SmallModel) -> None:
    model = bccdist.open_model(small.path)
    found = model.predict(small.slide, progress=False)
    model.close()
    model.close()
    with pytest.raises(ModelError, match=r"bcc\.model: this model was closed; open it again"):
        model.predict(small.slide)
    with pytest.raises(ModelError, match="closed"):
        model.predict_many([small.slide])
    assert found.heatmap("psi_1").dtype == np.uint8


def test_many_slides_come_one_by_one_and_a_bad_one_costs_no_other(
    small: SmallModel, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "notes.svs").write_text("no slide", encoding="utf-8")
    ids = []

    def predict_all() -> None:
        for found in model.predict_many([small.slide, tmp_path / "notes.svs", small.drawn], progress=False):
            ids.append(found.slide_id)  # noqa: PERF401

    with pytest.raises(StageFailedError, match=r"(?s)1 of 3 slide\(s\) failed.*- notes: .*OpenSlide cannot open it"):
        predict_all()
    assert ids == ["slide", "phantom"]
    assert any("slide notes: FAILED" in message for message in caplog.messages)


def test_with_a_place_for_failures_no_result_is_lost(small: SmallModel, model: Model, tmp_path: Path) -> None:
    (tmp_path / "notes.svs").write_text("no slide", encoding="utf-8")
    failures: dict[str, str] = {}
    slides = {"gone": tmp_path / "gone.svs", "notes": tmp_path / "notes.svs", "good": small.slide}
    found = list(model.predict_many(slides, progress=False, failures=failures))
    assert [each.slide_id for each in found] == ["good"]
    assert set(failures) == {"gone", "notes"}
    assert "is not there" in failures["gone"]
    assert "OpenSlide cannot open it" in failures["notes"]


def test_where_every_slide_fails_no_other_is_said_to_be_done(model: Model, tmp_path: Path) -> None:
    with pytest.raises(StageFailedError, match=r"^1 of 1 slide\(s\) failed:\n"):
        list(model.predict_many([tmp_path / "gone.svs"], progress=False))


def test_slides_of_one_name_are_refused_before_the_first_unless_they_are_named(
    small: SmallModel, model: Model, tmp_path: Path
) -> None:
    other = write_slide(tmp_path / "slide.tif", pink_picture(1200, 520, islands=[(100, 100, 300, 330)]))
    with pytest.raises(ConfigurationError, match=r"2 slides would be called slide: .*slide\.svs, .*slide\.tif"):
        model.predict_many([small.slide, small.drawn, other])
    found = model.predict_many({"one": small.slide, "other": other}, progress=False)
    assert [list(each.sections["section_id"]) for each in found] == [["one-s0", "one-s1"], ["other-s0"]]
    with pytest.raises(ConfigurationError, match="expected the path of a slide; `predict_many` takes several"):
        model.predict([small.slide, other])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="a single slide, expected several"):
        model.predict_many(str(small.slide))


def test_each_thing_that_is_wrong_is_one_clear_sentence(small: SmallModel, model: Model, tmp_path: Path) -> None:
    text = tmp_path / "text.svs"
    text.write_text("no slide", encoding="utf-8")
    coarse = write_slide(tmp_path / "coarse.svs", pink_picture(600, 400, islands=[(100, 100, 300, 200)]))
    cases = [
        (lambda: model.predict(tmp_path / "none.svs"), SlideError, r"none\.svs: the slide is not there"),
        (lambda: model.predict(text), SlideError, r"text\.svs: OpenSlide cannot open it"),
        (lambda: model.predict(tmp_path), SlideError, "it is a folder"),
        (lambda: model.predict(coarse, mpp=1.5), SlideError, r"coarse\.svs.*1\.5"),
        (lambda: model.predict(coarse, mpp=400.0), SlideError, "400 um/px"),
        (lambda: model.predict(small.slide, slide_id="a/b"), ConfigurationError, "slide_id is 'a/b'"),
        (lambda: model.predict(small.slide, out=text), ConfigurationError, r"out is .*text\.svs, which is a file"),
        (lambda: model.predict(small.slide, precision="half"), ConfigurationError, "precision is 'half'"),
        (lambda: model.predict(small.slide, precision="auto"), ModelError, "holds no speed-up record"),
        (
            lambda: model.predict(small.slide, inference=InferConfig(exit="psi_0")),
            ConfigurationError,
            "exit is 'psi_0', which leaves out psi_4, by which .*bcc.model decides",
        ),
        (lambda: bccdist.open_model(tmp_path / "none.model"), ModelError, r"none\.model: no model file there"),
        (lambda: bccdist.open_model(text), ModelError, "no model file"),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            call()
        assert isinstance(caught.value, BccdistError)
        assert "\n" not in str(caught.value)


def test_a_device_that_is_not_here_is_refused(small: SmallModel) -> None:
    for name in ("cuda:77", "tpu"):
        with (
            bccdist.open_model(small.path, device=name) as model,
            pytest.raises(ConfigurationError, match=f"device is '{name}', expected one of cpu"),
        ):
            model.predict(small.slide)


def test_a_model_of_other_sections_or_patches_is_not_applied(small: SmallModel, tmp_path: Path) -> None:
    there = read_model(small.path)
    entries = {name: there.read(name) for name in there.names()}
    facts = there.description
    others = {
        r"chosen with tissue 0, and this version": replace(facts, section_method="tissue 0"),
        r"sees patches of this edge": replace(facts, network=replace(facts.network, patch_px=256)),
        r"sees patches of this edge, mean": replace(facts, network=replace(facts.network, mean_rgb=(0.5, 0.5, 0.5))),
    }
    for message, description in others.items():
        write_model(tmp_path / "other.model", entries, description)
        with (
            bccdist.open_model(tmp_path / "other.model") as model,
            pytest.raises(ModelError, match=message),
        ):
            model.predict(small.slide)


def test_the_speedups_of_the_model_decide_what_auto_is(small: SmallModel, tmp_path: Path) -> None:
    folded = Method(engine="folded")
    probed = make_predictor(load_network_of(read_model(small.path)), folded, device=CPU, int8_file=Path)
    dense = replace(measured_way("dense", "float32", "folded", 9), probe_sha256=probe_sha256(probed, CPU))
    record = replace(
        RECORD,
        setting=SETTING,
        machine=machine_of(CPU),
        epoch=EPOCH,
        weights_digest=read_model(small.path).description.network.weights_digest,
        ways=(measured_way("paper", "float32", "eager", 1), dense),
        halo_px=64,
    )
    write_speedups(tmp_path / "record.json", record)
    there = read_model(small.path)
    entries = {name: there.read(name) for name in there.names()}
    entries["speedups/epoch-002-cpu.json"] = (tmp_path / "record.json").read_bytes()
    write_model(tmp_path / "fast.model", entries, there.description)
    with bccdist.open_model(tmp_path / "fast.model") as model:
        inference = InferConfig(tiling="auto", precision="auto")
        found = model.predict(small.slide, inference=inference, progress=False)
        attributes = Heatmap(found.path).attributes
        assert (attributes.tiling, attributes.halo_px, attributes.arithmetic) == ("dense", 64, "float32 folded")
        with pytest.raises(ConfigurationError, match="says nothing of tiling paper with int8 openvino"):
            model.predict(small.slide, precision="int8")


def test_what_is_drawn_is_marked_in_all_that_is_said(
    small: SmallModel, model: Model, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = model.predict(small.drawn, progress=False)
    assert found.warning.startswith("PHANTOM DATA")
    assert "PHANTOM DATA" in repr(found)
    assert set(found.sections["phantom"]) == {True}
    drawn = write_small_model(tmp_path_factory.mktemp("drawn"), phantom=True)
    with bccdist.open_model(drawn.path) as learned:
        assert PHANTOM_WEIGHTS_WARNING in repr(learned)
        found = learned.predict(drawn.slide, progress=False)
        assert found.warning == PHANTOM_WEIGHTS_WARNING
        assert PHANTOM_WEIGHTS_WARNING in json.dumps(found.regions())


def test_a_slide_without_tissue_says_so(model: Model, tmp_path: Path) -> None:
    glass = write_slide(tmp_path / "glass.tif", pink_picture(900, 600, islands=[]))
    found = model.predict(glass, progress=False)
    assert "NO SECTION" in repr(found)
    assert len(found.sections) == 0
    assert found.regions()["features"] == []


def test_opening_tells_all_of_the_model_without_torch_or_pandas(small: SmallModel) -> None:
    code = (
        "import bccdist, sys; model = bccdist.open_model(sys.argv[1]); "
        "print(model, model.description.selection.t_p, model.card[:3]); "
        "assert not {'torch', 'pandas', 'zarr'} & set(sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code, small.path], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("<bcc.model: resnet34_ds, width 4, 0.92 um/px; Tumor by psi_4 from 0.05")
