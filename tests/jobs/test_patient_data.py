"""No text and no picture that may name a patient leaves a slide or an annotation, whatever is made of it.

Each place that may hold one has a marker; all that is written, printed and answered is taken apart and searched.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from marked_data import GREEN, MARKER, PATIENT, copy_slides, green, write_marked_data
from PIL import Image
from places import REPOSITORY, shared_data_folder
from review_study import listening
from unpacking import Layer, files_below, layers, pictures_in

from analysis.make import make
from analysis.review.gate import Access
from analysis.review.journal import Journal
from analysis.review.server import make_app
from analysis.review.session import Session
from analysis.review.worklist import ReviewPlan, read_worklist
from bccdist.parts import Part
from bccdist.paths import StudyPaths

pytestmark = [pytest.mark.slow, pytest.mark.shared_data, pytest.mark.timeout(900)]
LOCAL = ("--cluster", "local")
TINY = (
    *("--settings", "resnet34_ds", "--train.width", "4", "--train.epochs", "1", "--train.global-batch", "4"),
    *("--train.micro-batch", "2", "--train.max-steps", "2", "--train.keep-best", "1", "--train.num-workers", "0"),
    *("--train.encoder-weights", "None", "--infer.batch", "2"),
)
KNOW_PATIENTS = {"manifest/slides.csv", "manifest/sections.csv", "reviewed/sections.csv"}
"""Of all that is written, these hold a patient_id, as docs/manifest.md says: the study's tables and its labels."""
NEAR = 60
"""A channel of a picture with losses may lie so far from the marker's."""
FEWEST_PX = 16


@dataclass
class Made:
    """All that came of the data."""

    root: Path
    said: dict[str, str] = field(default_factory=dict)
    """What each command printed."""
    answers: dict[str, bytes] = field(default_factory=dict)
    """What the review page's server answered, by path."""

    def run(self, *words: str | Path) -> None:
        """A command of the project; what it prints is kept."""
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.said[" ".join(map(str, words))] = done.stdout + done.stderr
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def make(self, *words: str | Path) -> None:
        """What `analysis/make.py` makes, in this process, which spares its start."""
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            make(list(map(str, words)))
        self.said[" ".join(map(str, words))] = shown.getvalue()

    def layers(self) -> Iterator[Layer]:
        """All bytes, each with its place."""
        for folder in ("study", "cohort", "reviewed", "exports"):
            for place, data in files_below(self.root / folder):
                yield f"{folder}/{place}", data
        for path in self.root.glob("*.*"):
            yield from layers(path.name, path.read_bytes())
        for words, text in self.said.items():
            yield f"output of {words}", text.encode()
        for path, data in self.answers.items():
            yield from layers(f"answer to {path}", data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_all(tmp_path_factory.mktemp("marked"))


def make_all(root: Path) -> Made:
    """A study, its model, a cohort of the same slides, and all that is made of them."""
    made = Made(root)
    data, study, cohort, model = (root / name for name in ("data", "study", "cohort", "bcc.model"))
    manifest = write_marked_data(data, shared_data_folder() / "fixtures")
    made.run("jobs/doctor.py", manifest, "--report", root / "doctor.json")
    made.run("jobs/launch_study.py", "--manifest", manifest, "--study", study, *LOCAL, *TINY)
    made.run("jobs/pack_model.py", study, "--out", model)
    made.run("jobs/export_model.py", model, "--to", "torchscript", "wsinfer", "--out", root / "exports")
    slides = copy_slides(data, root / "slides")
    made.run("jobs/launch_apply.py", "--model", model, "--slides", slides, "--out", cohort, *LOCAL, "--batch", "2")
    for folder in (study, cohort):
        made.run("jobs/status.py", folder)
        made.make("regions", folder, folder / "manifest" / "slides.csv", "--parts", "test", "--num-workers", "0")
        made.make("margins", folder)
        for heatmap in sorted((folder / "heatmaps" / "resnet34_ds" / "epoch-001").glob("*.ozx")):
            made.make("heatmap_tiff", folder, heatmap.stem)
            made.make("dicom", folder, heatmap.stem)
    review(made, StudyPaths(study))
    made.run("jobs/review.py", study, "--export", root / "reviewed")
    return made


def review(made: Made, paths: StudyPaths) -> None:
    """Look at all that the review page shows of each slide, and answer for a section."""
    parts = [Part.VALIDATION_1, Part.VALIDATION_2, Part.TEST]
    worklist = read_worklist(paths.root, parts, ReviewPlan(blind_share=0.0, seed=0), setting="resnet34_ds")
    access = Access(port=0, names=frozenset({"127.0.0.1"}))
    with Journal(paths, "anna") as journal:
        app = make_app(Session(worklist, journal), access)
        with listening(app) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            general = [f"/api/{name}" for name in ("study", "sections", "progress", "agreement")]
            for path in ["/", *general, *(path for slide_id in worklist.by_slide for path in shown_of(slide_id))]:
                answer = client.get(path)
                made.answers[path] = repr(answer.headers.raw).encode() + answer.content
                made.answers[f"{path} alone"] = answer.content
            section = json.loads(made.answers["/api/sections alone"])["sections"][0]
            answered = client.post("/api/answers", json={"id": section["id"], "answer": "Tumor"})
            assert answered.status_code == 200, answered.text


def shown_of(slide_id: str) -> list[str]:
    return [
        f"/api/slides/{slide_id}",
        f"/api/annotations/{slide_id}",
        f"/api/regions/{slide_id}",
        f"/api/regions/resnet34_ds/{slide_id}",
        f"/api/heatmap/resnet34_ds/{slide_id}/psi_4",
        *(f"/tiles/{slide_id}/{level}/0_0.jpeg" for level in range(12)),
    ]


def test_no_text_that_may_name_a_patient_is_in_anything_made(made: Made) -> None:
    assert [place for place, data in made.layers() if holds(data, MARKER)] == []


def test_a_patient_id_is_in_the_studys_own_tables_alone(made: Made) -> None:
    found = {place for place, data in made.layers() if holds(data, PATIENT)}
    assert {place.removeprefix("study/") for place in found} == KNOW_PATIENTS


def test_no_pixel_of_a_label_or_macro_image_is_in_anything_made(made: Made) -> None:
    num_pictures, found = 0, []
    for place, data in made.layers():
        for picture in pictures_in(data):
            num_pictures += 1
            if shows_green(picture):
                found.append(place)
    assert found == []
    assert num_pictures > 100, "patches, overlays, figures, tiles and pages of TIFFs were looked at"


def test_the_doctor_names_all_kinds_of_places(made: Made) -> None:
    slides = {slide["slide_id"]: slide for slide in json.loads((made.root / "doctor.json").read_text())["slides"]}
    assert slides["s1"]["private_images"] == slides["s5"]["private_images"] == ["label", "macro"]
    for slide_id, names in {
        "s1": {"aperio.User", "aperio.Barcode", "tiff.ImageDescription", "annotation.Description", "annotation.Text"},
        "s2": {"tiff.Artist", "tiff.XMP", "annotation.name", "annotation.createdBy", "annotation.user"},
        "s3": {"hamamatsu.Reference", "annotation.details", "annotation.owner"},
        "s5": {"dicom.PatientName", "dicom.AccessionNumber", "dicom.LabelText", "dicom.BarcodeValue"},
    }.items():
        assert names <= set(slides[slide_id]["private_fields"])


def holds(data: bytes, marker: str) -> bool:
    lowered = data.lower()
    return any(marker.lower().encode(coding) in lowered for coding in ("utf-8", "utf-16-le", "utf-16-be"))


def shows_green(picture: np.ndarray) -> bool:
    return int((np.abs(picture.astype(int) - GREEN) < NEAR).all(axis=2).sum()) >= FEWEST_PX


def packed(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", data)
    return file.getvalue()


def test_the_search_finds_what_is_packed_in_tables_archives_and_pictures(tmp_path: Path) -> None:
    table, picture = io.BytesIO(), io.BytesIO()
    pd.DataFrame({"a": ["x" * 500 + MARKER] * 500}).to_parquet(table, compression="zstd")
    Image.fromarray(green(40, 40)).save(picture, "JPEG", quality=60)
    (tmp_path / "a.bin").write_bytes(packed(packed(table.getvalue())))
    (tmp_path / "b.bin").write_bytes(packed(picture.getvalue()))
    found = list(files_below(tmp_path))
    assert any(holds(data, MARKER) for place, data in found if place.startswith("a.bin >"))
    assert any(shows_green(each) for _, data in found for each in pictures_in(data))
