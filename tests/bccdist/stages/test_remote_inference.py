"""Heatmaps and ledger rows of slides on a server are those of local files, byte for byte, and no secret is written."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from heatmap_slides import MPP, BrightnessNetwork, PlainPredictor
from range_server import QUICK, RangeServer, Request, serving
from remote_slides import tissue_picture, write_pyramid

from bccdist.configuration import InferConfig
from bccdist.errors import StageFailedError
from bccdist.failures import read_reason
from bccdist.files import write_text
from bccdist.paths import StudyPaths
from bccdist.remote import lending, part_of_file
from bccdist.stages.epochs import infer_slides
from bccdist.study import claim_study

PLANTED = "Hidden1"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """Two slides, and networks that cost nothing."""
    monkeypatch.setattr(part_of_file.PartOfFile.__init__, "__kwdefaults__", {"patience": QUICK})
    monkeypatch.setattr(lending, "_LIBRARY", lending._Library())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    network = BrightnessNetwork(["psi_4"])
    metadata = {"setting": "resnet34", "target_mpp": str(MPP), "phantom": "false"}

    def load(_: Path) -> tuple[BrightnessNetwork, Mapping[str, str]]:
        return network, metadata

    monkeypatch.setattr("bccdist.heatmaps.predictors.load_network", load)
    monkeypatch.setattr("bccdist.speedups.resolving.make_predictor", lambda network, *_, **__: PlainPredictor(network))
    # What a pass took stands in what it made; else two runs are equal byte for byte.
    for module in ("bccdist.heatmaps.predict", "bccdist.slides.cell_rows"):
        monkeypatch.setattr(f"{module}.perf_counter", lambda: 0.0)
    folder = tmp_path / "served"
    folder.mkdir()
    picture = tissue_picture(2048, 1536)
    for name, pixels in (("a.tif", picture), ("b.tif", picture[::-1])):
        write_pyramid(folder / name, pixels, mpp=MPP / 2, downsamples=(1, 2, 16))
    with serving(folder) as state:
        yield state


def inferred(folder: Path, paths: Mapping[str, str]) -> StudyPaths:
    """A study of some slides with the heatmaps of one epoch."""
    rows = "".join(f"{slide_id},test,{path}\n" for slide_id, path in paths.items())
    write_text(folder / "slides.csv", "slide_id,part,path\n" + rows)
    study = StudyPaths(folder / "study")
    claim_study(study.root, folder / "slides.csv")
    weights = study.run("resnet34").weights(1)
    write_text(weights, "weights")
    infer_slides(folder / "slides.csv", list(paths), study.root, "resnet34", [1], InferConfig(), num_workers=0)
    return study


def made(study: StudyPaths) -> dict[str, bytes]:
    files = [*study.root.rglob("*.ozx"), *study.ledger.rglob("*.parquet")]
    return {path.relative_to(study.root).as_posix(): path.read_bytes() for path in files}


def signed(server: RangeServer) -> dict[str, str]:
    at = server.url.replace("//", f"//reader:{PLANTED}@")
    return {name: f"{at}/{name}.tif?X-Signature={PLANTED}" for name in ("a", "b")}


def test_heatmaps_and_rows_are_those_of_local_files_and_hold_no_secret(
    server: RangeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="bccdist")
    local = made(inferred(tmp_path / "local", {name: str(server.folder / f"{name}.tif") for name in ("a", "b")}))
    study = inferred(tmp_path / "remote", signed(server))
    assert len(local) == 4
    assert made(study) == local
    written = [path for path in study.root.rglob("*") if path.is_file() and PLANTED.encode() in path.read_bytes()]
    assert written == []
    assert PLANTED not in caplog.text


def test_a_slide_that_stops_coming_is_a_failure_row_and_the_other_is_done(server: RangeServer, tmp_path: Path) -> None:
    asked = [0]

    def gone(request: Request) -> bool:
        asked[0] += request.path.startswith("/a")
        if request.path.startswith("/b") or asked[0] < 3:
            return False
        request.answer(503)
        return True

    server.fault = gone
    with pytest.raises(StageFailedError, match="1 of 2"):
        inferred(tmp_path / "remote", signed(server))
    study = StudyPaths(tmp_path / "remote" / "study")
    reason = read_reason(study.failure("infer-resnet34", "a")) or ""
    assert "the server answered 503, asked again and again" in reason
    assert PLANTED not in reason
    assert not study.heatmap("resnet34", 1, "a").exists()
    assert study.heatmap("resnet34", 1, "b").exists()
