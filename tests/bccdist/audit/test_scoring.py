"""Every patch is scored once, by a network that by its own record never saw its slide."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pyarrow.compute as pc
import pytest
from small_study import SLIDE_IDS, SmallStudy, write_finished_study

from bccdist.audit.scoring import open_audit, weights_of
from bccdist.audit.table import SCHEMA, read_audit, read_slide
from bccdist.configuration import TrainConfig, read_claimed
from bccdist.errors import ConfigurationError, ShardError, StageFailedError
from bccdist.failures import is_begun
from bccdist.networks.weights import weights_digest
from bccdist.paths import StudyPaths
from bccdist.ranks import SCHEMES
from bccdist.shard_set.folds import claim_folds, deal_folds, read_folds
from bccdist.shard_set.index import read_index, read_set
from bccdist.slides.manifest import read_manifest
from bccdist.stages.audit import audit_slides
from bccdist.training import loop
from bccdist.training.loop import train
from bccdist.training.reporting import opening

SETTING = "resnet34"
CONFIG = TrainConfig(width=4, epochs=1, global_batch=2, micro_batch=2, max_steps=1, num_workers=0)
TRAINING = [slide_id for slide_id in SLIDE_IDS if slide_id.startswith("train")]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, one_torch_thread: None) -> Iterator[SmallStudy]:
    """Both folds trained, and nothing compared yet."""
    small = write_finished_study(tmp_path_factory.mktemp("audit"), width_px=800, height_px=560)
    study = StudyPaths(small.root)
    manifest = read_manifest(small.manifest)
    claim_folds(study.audit(SETTING).folds, deal_folds(read_set(study.shards.root), manifest, 2))
    with pytest.MonkeyPatch.context() as patch:
        for name in {name for scheme in SCHEMES for name in scheme[1:]}:
            patch.delenv(name, raising=False)
        patch.setattr(opening, "_draw_contact_sheet", lambda *_: None)
        patch.setattr(loop, "write_summary", lambda *_, **__: None)
        for fold in (1, 2):
            train(small.root, SETTING, CONFIG, fold=fold)
        yield small


@pytest.fixture
def study(small: SmallStudy) -> StudyPaths:
    return StudyPaths(small.root)


def compare(small: SmallStudy, *slide_ids: str) -> None:
    audit_slides(small.manifest, slide_ids or TRAINING, small.root, SETTING, num_workers=0)


def test_every_patch_is_scored_once_by_a_network_that_never_saw_its_slide(
    small: SmallStudy, study: StudyPaths
) -> None:
    compare(small)
    paths = study.audit(SETTING)
    table = read_audit(paths.table)
    assert table.schema.equals(SCHEMA)
    index = read_index(study.shards.index)
    wanted = [row for row in index.to_pylist() if row["part"] == "Training"]
    rows = [row for row in table.to_pylist() if row["unit"] == "patch"]

    def place(row: dict[str, float]) -> tuple[object, ...]:
        return row["slide_id"], int(row["x_level0_px"]), int(row["y_level0_px"])

    assert Counter(map(place, rows)) == Counter(map(place, wanted))
    for row in rows:
        run = paths.run(row["fold"])
        assert row["slide_id"] in read_claimed(run.config)["left_out"]
        assert row["weights_digest"] == weights_digest(run.weights(1))
    assert sorted(row["rank"] for row in rows) == list(range(1, len(rows) + 1))
    scores = {row["id"]: row["score"] for row in table.to_pylist()}
    assert all(row["score"] <= scores[row["shows"]] for row in rows if row["shows"])
    assert pc.sum(pc.equal(table["unit"], "outline")).as_py() == 6, "three rectangles on each slide, from mask images"


def test_what_is_compared_is_left_alone_until_something_changes(small: SmallStudy, study: StudyPaths) -> None:
    compare(small)
    rows = study.audit(SETTING).rows("train-0")
    before = rows.stat().st_mtime_ns
    compare(small)
    assert rows.stat().st_mtime_ns == before
    study.audit(SETTING).probability_map("train-0").unlink()
    compare(small)
    assert rows.stat().st_mtime_ns > before
    assert read_slide(rows).identity.fold == read_folds(study.audit(SETTING).folds).fold_of("train-0")


def test_a_training_that_saw_a_slide_of_its_fold_is_refused_by_its_own_record(study: StudyPaths) -> None:
    folds = read_folds(study.audit(SETTING).folds)
    swapped = replace(folds, slides={1: folds.slides[2], 2: folds.slides[1]})
    with pytest.raises(ConfigurationError, match="by its own record this training left out"):
        weights_of(study.audit(SETTING), swapped, 1)


@pytest.mark.parametrize(("least", "is_told"), [(1.1, True), (0.0, False)])
def test_a_fold_that_hardly_marks_tumor_is_told(
    study: StudyPaths,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    least: float,
    is_told: bool,
) -> None:
    monkeypatch.setattr("bccdist.audit.scoring.LEAST_IOU", least)
    weights_of(study.audit(SETTING), read_folds(study.audit(SETTING).folds), 2)
    assert ("fold 2: its network has an IoU of" in caplog.text) == is_told


def test_a_fold_that_is_not_trained_to_its_end_is_refused(
    small: SmallStudy, study: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bccdist.audit.scoring.num_epochs_done", lambda _: 0)
    with pytest.raises(ConfigurationError, match="0 of 1 epochs are done"):
        open_audit(small.manifest, TRAINING, small.root, SETTING)


def test_an_annotation_that_changed_since_its_patches_were_cut_fails_its_slide_alone(
    small: SmallStudy, study: StudyPaths
) -> None:
    annotation = small.data / "train-0.png"
    content = annotation.read_bytes()
    annotation.write_bytes((small.data / "val1-0.png").read_bytes() + b" ")
    try:
        with pytest.raises(StageFailedError, match=r"train-0\.png: it has changed since the slide") as failed:
            compare(small)
    finally:
        annotation.write_bytes(content)
    assert "launch_shards" in str(failed.value)
    assert "The other 1 are done" in str(failed.value)
    compare(small)
    assert not is_begun(study.failure(f"audit-{SETTING}", "train-0"))


def test_folds_of_another_shard_set_train_and_compare_nothing(small: SmallStudy, study: StudyPaths) -> None:
    path = study.audit(SETTING).folds
    content = path.read_bytes()
    folds = read_folds(path)
    path.unlink()
    claim_folds(path, replace(folds, shard_set="another"))
    try:
        with pytest.raises(ConfigurationError, match="on the shard set another"):
            train(small.root, SETTING, CONFIG, fold=1)
        with pytest.raises(ConfigurationError, match="of the shard set another"):
            open_audit(small.manifest, TRAINING, small.root, SETTING)
    finally:
        path.write_bytes(content)


def test_a_slide_without_patches_is_an_error(small: SmallStudy) -> None:
    from bccdist.audit.scoring import SlidePatches, audit_slide, open_scorer

    study = StudyPaths(small.root)
    patches = replace(SlidePatches.of(read_set(study.shards.root)), rows={})
    manifest = read_manifest(small.manifest)
    scorer = open_scorer(study.audit(SETTING).run(1).weights(1))
    with pytest.raises(ShardError, match="no patches of it"):
        audit_slide(manifest.slide("train-0"), manifest.kinds, patches, scorer)
