"""A set is finished once, from all its slides, in an order that does not depend on how they were built."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from small_study import MPP_LEVEL0, SLIDE_IDS, STROMA, SmallStudy, annotated, write_mask, write_study

from bccdist.configuration import BalanceConfig
from bccdist.errors import ShardError, StageFailedError
from bccdist.files import read_json, sha256_of_file
from bccdist.paths import StudyPaths
from bccdist.shard_set.index import SCHEMA
from shards import finish


@pytest.fixture
def study(tmp_path: Path) -> SmallStudy:
    return write_study(tmp_path, width_px=800, height_px=560)


def test_index_is_sorted_and_does_not_depend_on_the_order_of_work(study: SmallStudy, tmp_path: Path) -> None:
    study.build()
    study.finish()
    again = dataclasses.replace(study, root=tmp_path / "again")
    again.build("val1-0")
    again.build("train-1", "train-0")
    again.finish()
    lines = study.manifest.read_text().splitlines()
    study.manifest.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    third = dataclasses.replace(study, root=tmp_path / "third")
    third.build()
    third.finish()
    assert again.contents() == study.contents()
    assert third.shards.index.read_bytes() == study.shards.index.read_bytes()
    index = pq.read_table(study.shards.index)
    assert index.schema.equals(SCHEMA, check_metadata=True)
    order = [(row["slide_id"], row["y_level0_px"], row["x_level0_px"]) for row in index.to_pylist()]
    assert order == sorted(order)
    assert len(set(order)) == 6 + 6 + 4


def test_manifest_counts_patches_pools_and_unbalance(study: SmallStudy) -> None:
    study.build()
    study.finish()
    manifest = read_json(study.shards.manifest)
    index = pq.read_table(study.shards.index).to_pandas()
    training = index[index.part == "Training"]
    assert manifest["format_version"] == "2"
    assert manifest["phantom"] is False
    assert manifest["index"]["num_patches"] == len(index)
    assert manifest["index"]["sha256"] == sha256_of_file(study.shards.index)
    assert manifest["parts"]["Training"]["num_patches"] == 12
    assert manifest["parts"]["Training"]["pools"] == {
        name: int(training[f"pool_{name}"].sum())
        for name in ("tumor_free", "tumor", "tumor_dense", "stroma", "normal")
    }
    assert manifest["parts"]["Validation I"]["num_patches"] == 4
    tumor_px = np.rint(training.tumornest_fraction * 512**2).sum()
    epoch = manifest["training_epoch"]
    assert epoch["unbalance_before"] == pytest.approx((12 * 512**2 - tumor_px) / tumor_px)
    assert epoch["unbalance_after"] < epoch["unbalance_before"]
    assert epoch["num_draws"] == sum(epoch["draws"].values())
    assert epoch["draws"] == {
        pool: BalanceConfig().num_draws(pool, num_members=size)
        for pool, size in manifest["parts"]["Training"]["pools"].items()
    }
    assert [tar["path"] for tar in manifest["tars"]] == [f"tars/{slide_id}.tar" for slide_id in SLIDE_IDS]
    assert [tar["num_patches"] for tar in manifest["tars"]] == [6, 6, 4]


def test_a_phantom_is_called_one(study: SmallStudy) -> None:
    header, *lines = study.manifest.read_text().splitlines()
    study.manifest.write_text("\n".join([f"{header},scanner", *(f"{line},phantom" for line in lines)]) + "\n")
    study.build()
    study.finish()
    assert read_json(study.shards.manifest)["phantom"] is True


def test_missing_slides_are_listed_with_the_reason_of_their_failure(study: SmallStudy) -> None:
    (study.data / "train-1.png").write_bytes(b"no image")
    with pytest.raises(StageFailedError):
        study.build("train-0", "train-1")
    with pytest.raises(ShardError, match=r"2 slide\(s\) are not done") as caught:
        study.finish()
    message = str(caught.value)
    assert "train-1: " in message
    assert "expected a single-channel mask image, got no image" in message
    assert "val1-0: not built" in message
    assert "train-0: " not in message
    assert not study.shards.manifest.exists()
    assert not study.shards.index.exists()


def test_a_slide_that_changed_since_is_not_done(study: SmallStudy) -> None:
    study.build()
    write_mask(study.data / "val1-0.png", annotated(800, 560)[::-1].copy())
    with pytest.raises(ShardError, match="val1-0: not built, or changed since it was built"):
        study.finish()


def test_training_without_tumor_is_refused(study: SmallStudy) -> None:
    for slide_id in ("train-0", "train-1"):
        write_mask(study.data / f"{slide_id}.png", np.zeros((560, 800), dtype=np.uint8))
    labels = study.data / "sections.csv"
    labels.write_text(labels.read_text().replace(",Tumor,", ",Normal,"))
    study.build()
    with pytest.raises(ShardError, match=r"none of the 12 training patches .* kinds.toml"):
        study.finish()
    assert not study.shards.manifest.exists()


def test_an_empty_pool_is_named(study: SmallStudy, caplog: pytest.LogCaptureFixture) -> None:
    for slide_id in ("train-0", "train-1"):
        mask = annotated(800, 560)
        write_mask(study.data / f"{slide_id}.png", np.where(mask == STROMA, 0, mask).astype(np.uint8))
    study.build()
    study.finish()
    said = [line for line in caplog.messages if line.startswith("pool ")]
    assert said == ["pool stroma of Table 2 holds no training patch, so nothing would be drawn from it"]
    assert read_json(study.shards.manifest)["training_epoch"]["draws"]["stroma"] == 0


def test_what_broken_off_writers_left_is_removed_and_named(
    study: SmallStudy, caplog: pytest.LogCaptureFixture
) -> None:
    study.build()
    study.finish()
    expected = study.contents()
    left = [study.shards.tar("train-0").with_name("train-0.tar.partial-1"), study.shards.root / "index.partial-2"]
    for path in left:
        path.write_bytes(b"half")
    caplog.clear()
    study.finish()
    assert study.contents() == expected
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert said == [f"{path}: left by a writer that was broken off; removed" for path in sorted(left)]


def test_a_set_that_cannot_be_finished_keeps_its_partial_files(study: SmallStudy) -> None:
    study.build("train-0")
    left = study.shards.tar("train-1").with_name("train-1.tar.partial-1")
    left.write_bytes(b"half")
    before = study.contents()
    with pytest.raises(ShardError, match=r"2 slide\(s\) are not done"):
        study.finish()
    assert study.contents() == before


@pytest.mark.parametrize(("rows_per_group", "groups"), [(1, [6, 6, 4]), (7, [12, 4]), (100_000, [16])])
def test_the_index_is_written_in_groups_of_slides(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch, rows_per_group: int, groups: list[int]
) -> None:
    monkeypatch.setattr(finish, "_ROWS_PER_GROUP", rows_per_group)
    study.build()
    study.finish()
    index = pq.ParquetFile(study.shards.index)
    assert [index.metadata.row_group(number).num_rows for number in range(index.num_row_groups)] == groups
    assert index.read().equals(pa.concat_tables(pq.read_table(study.shards.rows(each)) for each in SLIDE_IDS))


def test_the_same_pixels_in_two_parts_are_refused_before_anything_is_learned(study: SmallStudy) -> None:
    # Another container with the same picture: the slide's bytes do not tell.
    picture = tifffile.imread(study.data / "train-0.tif", key=0)
    tifffile.imwrite(
        study.data / "val1-0.tif",
        picture,
        photometric="rgb",
        tile=(512, 512),
        compression="deflate",
        resolution=(1e4 / MPP_LEVEL0,) * 2,
        resolutionunit="CENTIMETER",
    )
    study.build()
    message = r"two parts.*\n  - slide train-0: its pixels are those of val1-0 \(Validation I\)"
    with pytest.raises(ShardError, match=message):
        study.finish()
    assert not study.shards.manifest.exists()
    assert list(StudyPaths(study.root).fingerprints.iterdir())


def test_a_slide_that_cannot_be_compared_is_told_and_does_not_keep_the_set_from_being_finished(
    study: SmallStudy, caplog: pytest.LogCaptureFixture
) -> None:
    (study.data / "test-0.tif").write_bytes(b"no slide")
    with study.manifest.open("a", encoding="utf-8") as file:
        file.write("test-0,test,test-0.tif,\n")
    study.build()
    study.finish()
    assert study.shards.manifest.exists()
    assert "slide test-0 was not compared with the others, and may be there twice" in caplog.text


def test_a_finished_set_whose_slides_have_gone_stays_as_it_is(
    study: SmallStudy, caplog: pytest.LogCaptureFixture
) -> None:
    study.build()
    study.finish()
    expected = study.contents()
    times = {path: path.stat().st_mtime_ns for path in study.shards.root.rglob("*")}
    for path in (study.data / "train-1.tif", study.data / "val1-0.png"):
        path.unlink()
    caplog.clear()
    study.build()
    study.finish()
    assert "train-1: 6 patches, done before" in caplog.text
    assert "finished before" in caplog.text
    assert study.contents() == expected
    assert {path: path.stat().st_mtime_ns for path in study.shards.root.rglob("*")} == times
    study.shards.rows("train-1").unlink()
    with pytest.raises(StageFailedError, match=r"train-1: .*No such file"):
        study.build()
