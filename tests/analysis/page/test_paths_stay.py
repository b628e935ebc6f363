"""Slides that fail are named with their reason in tables and report, and no file or folder of theirs is."""

import shutil

import pandas as pd
import pytest
from cohort import write_cohort, write_model_file, write_slides
from heatmap_slides import pink_picture, write_slide
from synthetic_slides import write_slide as write_scaled
from unpacking import files_below

from analysis.page.stage import write_tables
from bccdist.configuration import InferConfig
from bccdist.errors import StageFailedError
from bccdist.failures import read_reason
from bccdist.models.cohort_slides import slides_of_cohort
from bccdist.paths import StudyPaths
from bccdist.stages.epochs import infer_slides
from bccdist.study import keep_manifest

# Backwards, as the study keeps the text of the repository.
MARKER = "otreborxzQ"[::-1]
REASONS = {
    "gone": "No such file",
    "short": "OpenSlide",
    "no-scale": "does not say its um/px",
    "a-folder": "is a folder",
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    """One slide that is judged, one that has gone since then, and one for each reason to fail."""
    root = tmp_path_factory.mktemp("lab")
    data = root / f"{MARKER}, Anna 1961"
    write_slides(data, f"one {MARKER}", f"drawn {MARKER}")
    short = write_slide(data / f"short {MARKER}.tif", pink_picture(300, 200, islands=[(10, 10, 200, 100)]))
    short.write_bytes(short.read_bytes()[:200])
    write_scaled(data / f"scale {MARKER}.tif", pink_picture(300, 200, islands=[(10, 10, 200, 100)]), mpp=None)
    (data / f"folder {MARKER}.tif").mkdir()
    gone = shutil.copyfile(data / f"one {MARKER}.tif", data / f"gone {MARKER}.tif")
    names = {"one": "one", "drawn": "drawn", **dict(zip(REASONS, ("gone", "short", "scale", "folder"), strict=True))}
    lines = [f'{slide_id},"{data.name}/{name} {MARKER}.tif"' for slide_id, name in names.items()]
    (root / "slides.csv").write_text("\n".join(["slide_id,path", *lines]) + "\n", encoding="utf-8")
    (root / "first.csv").write_text("\n".join(["slide_id,path", *lines[:2]]) + "\n", encoding="utf-8")
    paths = write_cohort(root / "cohort", write_model_file(root / "model").path, root / "first.csv")
    manifest = slides_of_cohort(root / "slides.csv", paths.root).write()
    keep_manifest(paths.root, manifest)
    gone.unlink()
    with pytest.raises(StageFailedError, match="4 of 4"):
        infer_slides(manifest.path, list(REASONS), paths.root, "resnet34_ds", "chosen", InferConfig(), num_workers=0)
    (data / f"drawn {MARKER}.tif").unlink()
    with pytest.raises(StageFailedError, match="drawn"):
        write_tables(paths.root, manifest.path)
    return paths


def test_no_table_picture_region_or_page_names_a_file_or_folder(cohort: StudyPaths) -> None:
    made = [cohort.report, *(cohort.root / name for name in ("tables", "figures", "overlays", "regions", "ledger"))]
    places = [
        place
        for path in made
        for place, data in files_below(path if path.is_dir() else path.parent)
        if (path.is_dir() or place.startswith(path.name)) and any(text in data for text in _named(cohort))
    ]
    assert places == []
    assert cohort.report.stat().st_size > 10_000


def _named(cohort: StudyPaths) -> list[bytes]:
    return [MARKER.encode(), str(cohort.root.parent).encode()]


def test_reasons_stand_in_the_table_and_on_the_page_and_whole_in_what_the_laboratory_keeps(cohort: StudyPaths) -> None:
    table = pd.read_parquet(cohort.tables / "slides.parquet").set_index("slide_id")
    page = cohort.report.read_text(encoding="utf-8")
    for slide_id, reason in REASONS.items():
        assert reason in table.loc[slide_id, "reason"]
        assert f"the file of {slide_id}" in table.loc[slide_id, "reason"]
        assert reason in page
        kept = read_reason(cohort.failure("infer-resnet34_ds", slide_id))
        assert kept is not None
        assert MARKER in kept
    lines = (cohort.tables / "slides.md").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("|") for line in lines) == 2 + len(table)
