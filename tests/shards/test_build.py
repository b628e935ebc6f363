"""Building skips what is done, rebuilds what has changed, and lets one bad slide be one failure."""

import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from places import shared_data_folder
from range_server import RangeServer, serving
from small_study import (
    SLIDE_IDS,
    STROMA,
    TUMORNEST,
    SmallStudy,
    annotated,
    tissue_picture,
    write_mask,
    write_slide,
    write_study,
)

from bccdist.configuration import ShardConfig
from bccdist.errors import ConfigurationError, StageFailedError
from bccdist.files import read_json
from bccdist.paths import StudyPaths
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask
from shards.rows import read_rows


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Not built; not to be changed."""
    return write_study(tmp_path_factory.mktemp("fresh"), width_px=800, height_px=560)


@pytest.fixture(scope="module")
def built(fresh: SmallStudy, tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Not to be changed."""
    study = fresh.copied_to(tmp_path_factory.mktemp("built"))
    study.build()
    return study


@pytest.fixture
def study(built: SmallStudy, tmp_path: Path) -> SmallStudy:
    """Built, but not finished."""
    return built.copied_to(tmp_path)


def _rebuilt(study: SmallStudy, caplog: pytest.LogCaptureFixture) -> set[str]:
    """Runs the stage again; the slides that were not skipped."""
    caplog.clear()
    study.build()
    lines = caplog.messages
    return {line.split()[2].rstrip(":") for line in lines if not line.endswith("done before")}


def test_progress_says_what_each_slide_gave(
    fresh: SmallStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = fresh.copied_to(tmp_path)
    study.build("train-0", "val1-0")
    first, second = caplog.messages
    assert first.startswith("slide 1/2 train-0: 6 patches, 4 with tumor, ")
    assert second.startswith("slide 2/2 val1-0: 4 patches, 1 with tumor, ")


def test_nothing_is_built_twice(study: SmallStudy, caplog: pytest.LogCaptureFixture) -> None:
    before = study.contents()
    assert _rebuilt(study, caplog) == set()
    assert study.contents() == before


def test_another_order_of_slides_gives_the_same_bytes(study: SmallStudy, tmp_path: Path) -> None:
    again = dataclasses.replace(study, root=tmp_path / "again")
    for slide_id in reversed(SLIDE_IDS):
        again.build(slide_id)
    assert again.contents() == study.contents()


def test_missing_and_truncated_tars_are_built_again_byte_for_byte(
    study: SmallStudy, caplog: pytest.LogCaptureFixture
) -> None:
    before = study.contents()
    study.shards.tar("train-1").unlink()
    study.shards.tar("val1-0").write_bytes(before["tars/val1-0.tar"][:1000])
    assert _rebuilt(study, caplog) == {"train-1", "val1-0"}
    assert study.contents() == before


def test_a_slide_whose_rows_were_not_written_is_not_done(study: SmallStudy, caplog: pytest.LogCaptureFixture) -> None:
    study.shards.rows("train-0").unlink()
    assert _rebuilt(study, caplog) == {"train-0"}


def _change_slide(study: SmallStudy) -> None:
    write_slide(study.data / "train-1.tif", tissue_picture(800, 560, seed=9))


def _change_annotation(study: SmallStudy) -> None:
    mask = annotated(800, 560)
    mask[400:, :50] = TUMORNEST
    write_mask(study.data / "train-1.png", mask)


def _change_section(study: SmallStudy) -> None:
    path = study.data / "sections.csv"
    path.write_text(path.read_text() + "train-1,all,Tumor,0,0,700,500\n")


@pytest.mark.parametrize("change", [_change_slide, _change_annotation, _change_section])
def test_a_slide_that_changed_is_built_again_and_the_set_is_unfinished(
    study: SmallStudy, change: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(change)
    study.finish()
    tar_before = study.shards.tar("train-1").read_bytes()
    change(study)
    assert _rebuilt(study, caplog) == {"train-1"}
    assert study.shards.tar("train-1").read_bytes() != tar_before
    assert not study.shards.manifest.exists()


def test_other_kinds_build_all_slides_again(study: SmallStudy, caplog: pytest.LogCaptureFixture) -> None:
    (study.data / "kinds.toml").write_text('[mask_values]\n0="none"\n1="Stroma"\n2="Tumornest"\n3="Normal"\n')
    assert _rebuilt(study, caplog) == set(SLIDE_IDS)


def test_a_corrected_label_builds_nothing_again(study: SmallStudy, caplog: pytest.LogCaptureFixture) -> None:
    path = study.data / "sections.csv"
    path.write_text(path.read_text().replace("right,Normal", "right,Tumor"))
    assert _rebuilt(study, caplog) == set()


def test_another_configuration_is_refused_and_changes_nothing(study: SmallStudy) -> None:
    before = study.contents()
    other = dataclasses.replace(study, config=ShardConfig(jpeg_quality=70))
    with pytest.raises(ConfigurationError, match="jpeg_quality: there 90, here 70"):
        other.build()
    with pytest.raises(ConfigurationError, match="jpeg_quality"):
        other.finish()
    assert study.contents() == before


def test_sections_labelled_tumor_and_no_tumornest_are_no_patches_of_normal(fresh: SmallStudy, tmp_path: Path) -> None:
    study = fresh.copied_to(tmp_path)
    mask = annotated(800, 560)
    write_mask(study.data / "train-0.png", np.where(mask == TUMORNEST, STROMA, mask))
    expected = r"1 of 3 slide\(s\) failed:\n  - train-0: .*1 of its sections are labelled Tumor, but .* no Tumornest"
    with pytest.raises(StageFailedError, match=expected):
        study.build()
    assert not study.shards.rows("train-0").exists()


@pytest.mark.parametrize(
    ("label", "has_tumor", "says"),
    [
        ("Normal", True, "all of its sections are labelled Normal, but its annotation has Tumornest"),
        ("", False, "not all of its sections are labelled Normal"),
        ("Normal", False, ""),
        ("Tumor", True, ""),
    ],
)
def test_an_annotation_that_does_not_fit_the_labels_is_told_where_patches_are_cut(
    fresh: SmallStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, label: str, has_tumor: bool, says: str
) -> None:
    study = fresh.copied_to(tmp_path)
    sections = study.data / "sections.csv"
    sections.write_text(sections.read_text().replace("left,Tumor", f"left,{label}"))
    mask = annotated(800, 560)
    write_mask(study.data / "train-0.png", mask if has_tumor else np.where(mask == TUMORNEST, STROMA, mask))
    study.build("train-0")
    assert ("LABELS DO NOT FIT" in caplog.messages[-1]) == bool(says)
    assert says in caplog.messages[-1]


def test_an_unreadable_slide_is_one_failure_and_the_others_are_built(fresh: SmallStudy, tmp_path: Path) -> None:
    study = fresh.copied_to(tmp_path)
    whole = (study.data / "train-0.tif").read_bytes()
    (study.data / "train-0.tif").write_bytes(whole[:100])
    failure = StudyPaths(study.root).failure("shards", "train-0")
    with pytest.raises(StageFailedError, match=r"1 of 3 slide\(s\) failed:\n  - train-0: .*train-0.tif"):
        study.build()
    assert study.shards.rows("train-1").exists()
    assert study.shards.rows("val1-0").exists()
    assert not list(study.root.rglob("*.partial-*"))
    facts = read_json(failure)
    assert {**facts, "reason": "", "time": "", "host": "", "process": 0} == {
        "slide_id": "train-0",
        "stage": "shards",
        "reason": "",
        "error": "SlideError",
        "host": "",
        "process": 0,
        "time": "",
    }
    assert "train-0.tif" in facts["reason"]
    (study.data / "train-0.tif").write_bytes(whole)
    study.build()
    assert not failure.exists()
    assert study.shards.rows("train-0").exists()


def test_a_slide_of_another_part_is_refused(fresh: SmallStudy, tmp_path: Path) -> None:
    study = fresh.copied_to(tmp_path)
    study.manifest.write_text(study.manifest.read_text().replace("train-1,train", "train-1,test"))
    with pytest.raises(StageFailedError, match="train-1 is in Test; only Training and Validation I become patches"):
        study.build()


def test_rows_hold_pools_sections_and_where_the_members_lie(study: SmallStudy) -> None:
    rows = read_rows(study.shards.rows("train-0")).table.to_pandas()
    content = study.shards.tar("train-0").read_bytes()
    for row in rows.itertuples():
        assert content[row.image_offset :].startswith(b"\xff\xd8\xff")
        assert content[: row.image_offset + row.image_bytes].endswith(b"\xff\xd9")
        assert content[row.mask_offset :].startswith(b"\x89PNG")
    assert rows.pool_tumor.tolist() == (rows.tumornest_fraction >= 0.0005).tolist()
    assert rows.pool_tumor_free.tolist() == (~rows.pool_tumor).tolist()
    assert rows.pool_tumor_dense.tolist() == (rows.tumornest_fraction >= 0.1).tolist()
    assert rows.pool_tumor_dense.any()
    assert not rows.pool_tumor_dense.all()
    assert rows.section_id.tolist() == ["left", "right", "right"] * 2
    mask = annotated(800, 560)
    assert rows.stroma_fraction[0] == np.count_nonzero(mask[:512, :512] == STROMA) / 512**2


def _on(server: RangeServer, study: SmallStudy, folder: Path) -> SmallStudy:
    """The same study, whose slides and annotations lie on a server."""
    header, *rows = study.manifest.read_text(encoding="utf-8").splitlines()
    moved = [",".join([*row.split(",")[:2], *(f"{server.url}/{name}" for name in row.split(",")[2:])]) for row in rows]
    folder.mkdir()
    (folder / "slides.csv").write_text("\n".join([header, *moved]) + "\n", encoding="utf-8")
    sections = study.manifest.with_name("sections.csv")
    if sections.exists():
        shutil.copy(sections, folder)
    return dataclasses.replace(study, manifest=folder / "slides.csv", root=folder / "study")


def test_slides_on_a_server_give_the_same_bytes(
    study: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(study.data) as server:
        remote = _on(server, study, tmp_path / "remote")
        remote.build()
    assert remote.contents() == study.contents()


def test_a_real_slide_on_a_server_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(shared_data_folder() / "fixtures" / "CMU-1-Small-Region.svs", data / "real.svs")
    with Slide(data / "real.svs", target_mpp=TISSUE_MPP, tolerance=0.2) as slide:
        width_px, height_px = slide.level0_size
        tissue = tissue_mask(slide).astype(np.uint8)
    write_mask(data / "real.png", TUMORNEST * cv2.resize(tissue, (width_px // 2, height_px // 2)))
    (data / "slides.csv").write_text("slide_id,part,path,annotation\nreal,train,real.svs,real.png\n", encoding="utf-8")
    local = SmallStudy(manifest=data / "slides.csv", root=tmp_path / "local")
    local.build("real")
    with serving(data) as server:
        remote = _on(server, local, tmp_path / "remote")
        remote.build("real")
    assert remote.contents() == local.contents()
