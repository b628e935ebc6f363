"""Certified inference in the job: settled heatmaps, rows that say how, resumed, and never mixed with exact ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from heatmap_slides import MPP, BrightnessNetwork, PlainPredictor, pink_picture, write_slide

from bccdist.configuration import InferConfig
from bccdist.errors import ConfigurationError, StageFailedError
from bccdist.files import write_text
from bccdist.heatmaps.certificate import HeatmapCertificate
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import SlidePass
from bccdist.heatmaps.store import Heatmap
from bccdist.networks.weights import weights_digest
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import read_rows
from bccdist.sections.settling import Settling
from bccdist.speedups.resolving import ReadyWay
from bccdist.stages.epochs import infer_slides

_CPU = torch.device("cpu")
_SECTIONS = "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px\n"
_PROMISE = HeatmapCertificate(
    way="dense float32 eager",
    psi="psi_4",
    t_p=0.62,
    t_a_um2=10_000.0,
    area_unit="physical",
    levels=10,
    confidence=0.95,
    num_slides=20,
    check_share=0.0,
)


class _Study:
    """One slide with two sections, a dark and a bright one, under a network that gives brightness."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paths = folder, StudyPaths(folder / "study")
        self.fast, self.exact = BrightnessNetwork(["psi_4"]), BrightnessNetwork(["psi_4"])
        self.promise = _PROMISE
        picture = pink_picture(1400, 520, islands=[(100, 100, 300, 330), (900, 60, 290, 400)])
        # The right one's brightness is 163 of 255, within the bound around t_p, and the left one's is far off.
        picture[100:430, 100:400] = (150, 90, 130)
        write_slide(folder / "a.tif", picture)
        write_text(folder / "slides.csv", "slide_id,part,path\na,test,a.tif\n")
        write_text(self.paths.run("resnet34").weights(1), "weights of epoch 1")

    def way(self, _network: Any, _run: Any, _epoch: int, config: InferConfig, *_: Any, **__: Any) -> ReadyWay:
        """In place of `ready_for`."""
        exact = PlainPredictor(self.exact)
        if not config.is_certified:
            return ReadyWay(Method(engine="eager"), exact)
        how = SlidePass(predictors=[exact], batch=2, device=_CPU)
        settling = Settling(certificate=self.promise, exact=how, why_outside=lambda *_: "")
        return ReadyWay(Method(engine="eager", tiling="dense", halo_px=32), PlainPredictor(self.fast), settling)

    def infer(self, inference: Any = "certified") -> None:
        infer_slides(
            self.folder / "slides.csv",
            ["a"],
            self.paths.root,
            "resnet34",
            [1],
            InferConfig(inference=inference),
            num_workers=0,
        )

    @property
    def reached(self) -> dict[str, str]:
        rows = read_rows(self.paths.ledger_rows("resnet34", 1, "a")).to_pylist()
        return {row["section_id"]: row["reached_by"] for row in rows}

    @property
    def heatmap(self) -> Path:
        return self.paths.heatmap("resnet34", 1, "a")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Study:
    study = _Study(tmp_path)
    metadata = {"setting": "resnet34", "target_mpp": str(MPP), "phantom": "false"}
    monkeypatch.setattr("bccdist.heatmaps.predictors.load_network", lambda _path: (study.exact, metadata))
    monkeypatch.setattr("bccdist.stages.inference.ready_for", study.way)
    return study


def test_a_slide_is_certified_or_recomputed_and_the_log_says_what_it_took(
    study: _Study, caplog: pytest.LogCaptureFixture
) -> None:
    study.infer()
    assert sorted(study.reached.values()) == ["certified", "recomputed"]
    assert "2 sections (1 certified, 1 recomputed)" in caplog.text
    assert " patches in the fast way, " in caplog.text
    assert study.fast.num_calls
    assert study.exact.num_calls
    # The verdicts' row says what was promised.
    (row, *_) = read_rows(study.paths.ledger_rows("resnet34", 1, "a")).to_pylist()
    assert (row["certificate_levels"], row["certificate_t_a_um2"]) == (10, 10_000.0)


def test_what_is_done_is_left_as_it_is(study: _Study, caplog: pytest.LogCaptureFixture) -> None:
    study.infer()
    calls, content = study.fast.num_calls + study.exact.num_calls, study.heatmap.read_bytes()
    study.infer()
    assert "done before" in caplog.text
    assert study.fast.num_calls + study.exact.num_calls == calls
    assert study.heatmap.read_bytes() == content


@pytest.mark.parametrize(("first", "then"), [("exact", "certified"), ("certified", "exact")])
def test_exact_and_certified_results_are_never_mixed_up(study: _Study, first: str, then: str) -> None:
    study.infer(first)
    content, reached = study.heatmap.read_bytes(), study.reached
    with pytest.raises(ConfigurationError, match="was made from something else"):
        study.infer(then)
    assert (study.heatmap.read_bytes(), study.reached) == (content, reached)
    assert (set(reached.values()) == {"exact"}) == (first == "exact")


@pytest.mark.parametrize("change", [{"levels": 11}, {"t_p": 0.6}, {"check_share": 0.5}])
def test_another_promise_is_another_result(study: _Study, change: dict[str, Any]) -> None:
    study.infer()
    study.promise = replace(study.promise, **change)
    with pytest.raises(ConfigurationError, match="was made from something else"):
        study.infer()


def test_a_corrected_label_computes_nothing_and_another_box_what_it_leaves_open(
    study: _Study, caplog: pytest.LogCaptureFixture
) -> None:
    study.infer()
    calls = study.fast.num_calls + study.exact.num_calls
    write_text(study.folder / "sections.csv", f"{_SECTIONS}a,a-s0,Normal,,,,\na,a-s1,Tumor,,,,\n")
    study.infer()
    assert study.fast.num_calls + study.exact.num_calls == calls
    assert sorted(study.reached.values()) == ["certified", "recomputed"]
    before = Heatmap(study.heatmap).exact_cells
    write_text(study.folder / "sections.csv", f"{_SECTIONS}a,whole,Tumor,50,30,1300,470\n")
    study.infer()
    assert study.reached == {"whole": "recomputed"}
    after = Heatmap(study.heatmap).exact_cells
    assert (after >= before).all()
    assert after.sum() > before.sum()
    assert "0 patches in the fast way, " in caplog.text


def test_a_run_that_fails_between_the_ways_starts_the_slide_anew(
    study: _Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("bccdist.sections.settling.merge_exact", fail)
        with pytest.raises(StageFailedError, match="no space left"):
            study.infer()
    assert not study.heatmap.exists()
    study.infer()
    assert sorted(study.reached.values()) == ["certified", "recomputed"]


def _choose(study: _Study, t_p: float, **changes: Any) -> None:
    values = {"setting": "resnet34", "epoch": 1, "psi": "psi_4", "t_p": t_p, "t_a_um2": 10_000.0, "beta": 1.5}
    values |= {"area_unit": "physical", "phantom_weights": False}
    values["weights_digest"] = weights_digest(study.paths.run("resnet34").weights(1))
    study.paths.selection.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([values | changes]).to_parquet(study.paths.selection)


@pytest.mark.parametrize("then", ["certified", "exact"])
@pytest.mark.parametrize("changes", [{"t_p": 0.4}, {"t_a_um2": 2560.0}, {"area_unit": "nominal"}])
def test_what_was_certified_for_other_thresholds_is_made_anew(
    study: _Study, changes: dict[str, Any], then: str, caplog: pytest.LogCaptureFixture
) -> None:
    _choose(study, 0.62)
    study.infer()
    _choose(study, **{"t_p": 0.62, **changes})
    study.promise = replace(study.promise, **changes)
    study.infer(then)
    assert "certified for thresholds that are not chosen any more" in caplog.text
    attributes = Heatmap(study.heatmap).attributes
    assert (attributes.certificate is None) == (then == "exact")
    row = read_rows(study.paths.ledger_rows("resnet34", 1, "a")).to_pylist()[0]
    assert row["certificate_t_p"] == (None if then == "exact" else study.promise.t_p)
    # A run that ended between rows and heatmap, and then goes on.
    study.paths.ledger_rows("resnet34", 1, "a").unlink()
    study.infer(then)
    assert len(study.reached) == 2


def test_a_heatmap_without_rows_that_was_certified_for_other_thresholds_is_made_anew(study: _Study) -> None:
    _choose(study, 0.62)
    study.infer()
    study.paths.ledger_rows("resnet34", 1, "a").unlink()
    _choose(study, 0.4)
    study.promise = replace(study.promise, t_p=0.4)
    study.infer()
    assert Heatmap(study.heatmap).attributes.certificate.t_p == 0.4


@pytest.mark.parametrize("then", [{"levels": 11}, {"check_share": 0.5}, {"confidence": 0.9}])
def test_what_still_holds_its_promise_is_never_replaced(study: _Study, then: dict[str, Any]) -> None:
    _choose(study, 0.62)
    study.infer()
    content = study.heatmap.read_bytes()
    study.promise = replace(study.promise, **then)
    with pytest.raises(ConfigurationError, match="was made from something else"):
        study.infer()
    with pytest.raises(ConfigurationError, match="was made from something else"):
        study.infer("exact")
    assert study.heatmap.read_bytes() == content
