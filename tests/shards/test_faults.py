"""Whatever happens to one slide or one process, the other slides are built, and a rerun finishes what is missing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from small_study import SLIDE_IDS, SmallStudy, tissue_picture, write_manifest, write_mask, write_study

import shards.build
from bccdist.configuration import ShardConfig
from bccdist.errors import ShardError, StageFailedError
from bccdist.files import read_json
from bccdist.paths import ShardSetPaths, StudyPaths
from bccdist.slide_runner import SlideDone
from bccdist.slides.manifest import Manifest, SlideRecord
from shards.check import check_set


@pytest.fixture
def study(tmp_path: Path) -> SmallStudy:
    """Not built."""
    return write_study(tmp_path, width_px=800, height_px=560)


def reason_of(study: SmallStudy, slide_id: str) -> str:
    """What the failure row of a slide says; it must name the slide."""
    facts = read_json(StudyPaths(study.root).failure("shards", slide_id))
    assert facts["slide_id"] == slide_id
    return str(facts["reason"])


def outcomes(study: SmallStudy, caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """Build what is missing; what is said of each slide."""
    caplog.clear()
    study.build()
    lines = [line.split(maxsplit=2)[2] for line in caplog.messages]
    return dict(line.split(": ", maxsplit=1) for line in lines)


def test_a_slide_deleted_in_mid_build_fails_alone_and_is_built_once_it_is_back(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build_slide = shards.build.build_slide

    def delete_the_next(
        record: SlideRecord, manifest: Manifest, paths: ShardSetPaths, config: ShardConfig, *, num_threads: int
    ) -> str | SlideDone:
        said = build_slide(record, manifest, paths, config, num_threads=num_threads)
        (study.data / "train-1.tif").rename(study.data / "gone.tif")
        monkeypatch.setattr(shards.build, "build_slide", build_slide)
        return said

    monkeypatch.setattr(shards.build, "build_slide", delete_the_next)
    with pytest.raises(StageFailedError, match=r"1 of 3 slide\(s\) failed:\n  - train-1: .*train-1\.tif"):
        study.build()
    assert "train-1.tif" in reason_of(study, "train-1")
    with pytest.raises(ShardError, match=r"1 slide\(s\) are not done.*\n  - train-1: .*train-1\.tif"):
        study.finish()
    (study.data / "gone.tif").rename(study.data / "train-1.tif")
    said = outcomes(study, caplog)
    assert [slide_id for slide_id, text in said.items() if not text.endswith("done before")] == ["train-1"]
    study.finish()
    assert check_set(study.shards.root) == []


def test_an_element_that_starts_after_a_slide_has_gone_still_builds_the_others(study: SmallStudy) -> None:
    (study.data / "train-1.tif").unlink()
    study.build("train-0", "val1-0")
    assert study.shards.rows("train-0").exists()
    with pytest.raises(StageFailedError, match="train-1"):
        study.build("train-1")


def test_an_error_that_nobody_foresaw_is_one_failure_with_its_traceback(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    survey_slide = shards.build.survey_slide

    def poisoned(slide: object, record: SlideRecord, *others: object) -> object:
        if record.slide_id == "train-1":
            raise RuntimeError("poison")
        return survey_slide(slide, record, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(shards.build, "survey_slide", poisoned)
    with pytest.raises(StageFailedError, match=r"1 of 3 .*\n  - train-1: RuntimeError: poison"):
        study.build()
    assert reason_of(study, "train-1") == "RuntimeError: poison"
    assert "Traceback" in capsys.readouterr().err
    assert study.shards.rows("val1-0").exists()


BUILD = """
import sys
from pathlib import Path
from bccdist.configuration import ShardConfig
from shards.build import build_slides
if __name__ == "__main__":
    build_slides(Path(sys.argv[1]), sys.argv[3:], Path(sys.argv[2]), ShardConfig(), num_workers=1)
"""


def build_in_a_process(study: SmallStudy) -> subprocess.Popen[str]:
    """An element of an array, which leads a process group of its own."""
    command = [sys.executable, "-c", BUILD, str(study.manifest), str(study.root), *SLIDE_IDS]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def wait_for_the_second_slide(study: SmallStudy, process: subprocess.Popen[str]) -> None:
    """Until the tar of the second slide is being written."""
    tar = study.shards.tar(SLIDE_IDS[1])
    give_up_s = time.monotonic() + 60
    while not list(tar.parent.glob(f"{tar.name}.partial-*")):
        assert time.monotonic() < give_up_s
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)


def worker_of(process: subprocess.Popen[str]) -> int:
    """The process that works on the slides."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (worker,) = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(worker)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Slides that take a while; not built."""
    return write_study(tmp_path_factory.mktemp("large"), width_px=3000, height_px=2200)


def test_a_worker_that_is_killed_is_one_failure_and_the_other_slides_are_built(
    large: SmallStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = large.copied_to(tmp_path)
    process = build_in_a_process(study)
    wait_for_the_second_slide(study, process)
    os.kill(worker_of(process), signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "1 of 3 slide(s) failed:\n  - train-1: its process was ended by SIGKILL" in stderr
    assert "where memory runs out" in reason_of(study, SLIDE_IDS[1])
    said = outcomes(study, caplog)
    assert [slide_id for slide_id, text in said.items() if not text.endswith("done before")] == [SLIDE_IDS[1]]
    study.finish()
    assert check_set(study.shards.root) == []


def test_an_element_that_is_killed_loses_only_the_slide_at_hand(
    large: SmallStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = large.copied_to(tmp_path)
    process = build_in_a_process(study)
    wait_for_the_second_slide(study, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    assert not study.shards.rows(SLIDE_IDS[1]).exists()
    assert len(list(study.root.rglob("*.partial-*"))) == 1
    said = outcomes(study, caplog)
    assert [slide_id for slide_id, text in said.items() if text.endswith("done before")] == [SLIDE_IDS[0]]
    study.finish()
    assert list(study.root.rglob("*.partial-*")) == []
    assert check_set(study.shards.root) == []


def test_a_full_disk_fails_the_slides_that_do_not_fit_and_leaves_no_debris(
    tmp_path: Path, small_disk: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    lossless = ShardConfig(image_coding="png")
    study = write_study(tmp_path / "source", width_px=1300, height_px=900)
    study = SmallStudy(manifest=study.manifest, root=small_disk("2m") / "study", config=lossless)
    with pytest.raises(StageFailedError, match=r"of 3 slide\(s\) failed:\n(.|\n)*No space left on device"):
        study.build()
    done = [slide_id for slide_id in SLIDE_IDS if study.shards.rows(slide_id).exists()]
    assert 0 < len(done) < 3
    assert list(study.root.rglob("*.partial-*")) == []
    with pytest.raises(ShardError, match="not done"):
        study.finish()
    moved = SmallStudy(manifest=study.manifest, root=tmp_path / "larger", config=lossless)
    shutil.copytree(study.root, moved.root)
    said = outcomes(moved, caplog)
    assert [slide_id for slide_id, text in said.items() if text.endswith("done before")] == done
    moved.finish()
    assert check_set(moved.shards.root) == []


class Unusable(NamedTuple):
    """A file that cannot become patches, and what its failure row says."""

    name: str
    says: str


UNUSABLE = [
    Unusable("unsupported/CMU-1-Small-Region.webp.tiff", "OpenSlide cannot open it"),
    Unusable("unsupported/openslide_unopenable.tiff", "OpenSlide cannot open it"),
    Unusable("unsupported/openslide_unreadable.svs", "cannot decode level 0"),
    Unusable("generic_tiff/CMU-1_wrong_mpp.jpeg.tiff", "set the column mpp in slides.csv"),
]


@pytest.mark.shared_data
def test_files_that_cannot_be_used_are_failure_rows_and_the_good_slide_is_built(
    shared_data: Path, tmp_path: Path
) -> None:
    names = [f"bad-{number}" for number in range(len(UNUSABLE))]
    for name, case in zip(names, UNUSABLE, strict=True):
        shutil.copy(shared_data / "fixtures" / case.name, tmp_path / f"{name}.tif")
        write_mask(tmp_path / f"{name}.png", tissue_picture(40, 40, seed=0)[..., 0] * 0)
    shutil.copy(shared_data / "ebhi-slides" / "train-000.tif", tmp_path / "good.tif")
    write_mask(tmp_path / "good.png", tissue_picture(80, 40, seed=0)[..., 0] * 0)
    manifest = write_manifest(tmp_path, [(name, "train") for name in [*names, "good"]])
    study = SmallStudy(manifest=manifest, root=tmp_path / "study")
    with pytest.raises(StageFailedError, match=r"4 of 5 slide\(s\) failed"):
        study.build(*names, "good")
    assert study.shards.rows("good").exists()
    for name, case in zip(names, UNUSABLE, strict=True):
        assert case.says in reason_of(study, name)


@pytest.mark.shared_data
def test_a_slide_truncated_in_its_pixels_is_a_failure_row_that_names_it(shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / "fixtures" / "CMU-1-Small-Region.svs").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    write_mask(tmp_path / "cut.png", tissue_picture(74, 99, seed=0)[..., 0] * 0)
    study = SmallStudy(manifest=write_manifest(tmp_path, [("cut", "train")]), root=tmp_path / "study")
    with pytest.raises(StageFailedError, match=r"1 of 1 slide\(s\) failed"):
        study.build("cut")
    assert "cut.tif" in reason_of(study, "cut")
