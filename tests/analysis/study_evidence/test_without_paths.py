"""Texts that leave the laboratory name slides by their ids; no file and no folder is left in them."""

from pathlib import Path

import pytest

from analysis.study_evidence.without_paths import WithoutPaths
from bccdist.parts import Part
from bccdist.slides.manifest import SlideRecord

ROOT, DATA = Path("/study of Qzx"), Path("/data/Qzxperson, Anna 1961")
SLIDES = [
    SlideRecord(
        slide_id="s1",
        part=Part.TEST,
        path=DATA / "HE: (1) of Qzxperson.svs",
        annotations=(DATA / "Qzxperson nests.xml",),
    ),
    SlideRecord(slide_id="s2", part=Part.TEST, path=DATA / "Qzx-DICOM" / "IM1Qzx"),
    SlideRecord(slide_id="s3", part=Part.TEST, path=ROOT / "slides" / "Qzx.tif"),
]
without_paths = WithoutPaths(ROOT, SLIDES, DATA)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{SLIDES[0].path}: cannot be opened", "the file of s1: cannot be opened"),
        ("HE: (1) of Qzxperson.svs is cut short", "the file of s1 is cut short"),
        (f"annotation {str(SLIDES[0].annotations[0])!r}: is empty", "annotation 'the annotation of s1': is empty"),
        (f"looked at {SLIDES[1].path}.", "looked at the file of s2."),
        ("IM1Qzx: no level", "the file of s2: no level"),
        ("slide 'Qzx-DICOM/IM1Qzx' is not there", "slide 'the file of s2' is not there"),
        (f"{SLIDES[2].path}: damaged", "the file of s3: damaged"),
        (f"{ROOT}/tables/table4.parquet: damaged", "tables/table4.parquet: damaged"),
        (f"{ROOT} is read-only", "the study's folder is read-only"),
        ("/other/Qzxperson's/slide 7.tif: is not there", "(a path): is not there"),
        ("/other/Qzxperson, Anna (2)/b/Qzx.tif, /c/Qzx.tif: gone", "(a path), (a path): gone"),
        ("/other/Qzx.tif: the file does not say its um/px", "(a path): the file does not say its um/px"),
        ("(/other/Qzx/a.tif)", "((a path))"),
        ("run it in /other/Qzx/a", "run it in (a path)"),
        (r"C:\scans\Qzx\a b.svs leads elsewhere", "(a path) leads elsewhere"),
        ("../Qzx/a.tif is gone\n  - ~/Qzx: too", "(a path) is gone\n  - (a path): too"),
        ("[Errno 2] No such file: '/media/Qzx 1961/a b.tif'", "[Errno 2] No such file: '(a path)'"),
    ],
)
def test_files_and_folders_are_no_longer_named(text: str, expected: str) -> None:
    assert without_paths(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "the file does not say its um/px; set the column mpp in slides.csv",
        "s1: 3 of 4 sections (75.0%), 1 / 3, TP/FN, 0.5 um/px, epoch 2, psi_4. Next.",
        "`python jobs/launch_apply.py --out FOLDER` begins one; see https://example.org/a/b.html",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert without_paths(text) == text
