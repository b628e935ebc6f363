"""A set is finished once, from all its slides, in an order that does not depend on how they were built."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_study import SLIDE_IDS, SmallStudy, annotated, write_mask, write_study

from bccdist.errors import ShardError, StageFailedError
from bccdist.files import read_json, sha256_of_file
from bccdist.training.shard_set import SCHEMA


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
    assert manifest["format_version"] == "1"
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
    assert manifest["training_unbalance"] == pytest.approx((12 * 512**2 - tumor_px) / tumor_px)
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
    study.build()
    with pytest.raises(ShardError, match=r"none of the 12 training patches .* kinds.toml"):
        study.finish()
    assert not study.shards.manifest.exists()
