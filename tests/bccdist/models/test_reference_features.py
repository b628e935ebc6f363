"""A model file says what the network's deepest features are like on tissue of Validation I, and of which patches."""

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from model_study import SETTING, write_model_study
from small_study import SmallStudy, write_finished_study

from bccdist.configuration import ShardConfig
from bccdist.errors import ConfigurationError, NotFiniteError, ShardError
from bccdist.models.model_file import FEATURES
from bccdist.models.packing import pack_model
from bccdist.models.reference_features import LEAST_TISSUE, QUANTILES, reference_features
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.shard_set.index import ShardSet, read_set
from bccdist.shard_set.reader import PatchReader


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    return write_finished_study(tmp_path_factory.mktemp("features"), width_px=2600, height_px=1300)


@pytest.fixture
def shard_set(small: SmallStudy) -> ShardSet:
    return read_set(small.shards.root)


def network_of(seed: int = 0) -> DeeplySupervisedUNet:
    torch.manual_seed(seed)
    return DeeplySupervisedUNet(SETTING, width=4).eval()


def tissue_rows(shard_set: ShardSet) -> list[int]:
    rows = shard_set.part(Part.VALIDATION_1).rows
    return [int(row) for row in rows if shard_set.column("tissue_fraction")[row] >= LEAST_TISSUE]


def test_each_channel_has_the_statistics_of_its_means_over_the_patches(shard_set: ShardSet) -> None:
    network, rows = network_of(), tissue_rows(shard_set)
    assert len(rows) > 2
    pooled = []
    with torch.inference_mode():
        for row in rows:
            image = torch.from_numpy(PatchReader(shard_set).read(row)[0])[None]
            pooled.append(network.encoder(to_network_input(image))[-1].mean(dim=(2, 3))[0].numpy())
    table = reference_features(network, shard_set, 1000).to_pandas()
    assert table["channel"].tolist() == list(range(network.encoder.channels[-1]))
    np.testing.assert_allclose(table["mean"], np.mean(pooled, axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table["std"], np.std(pooled, axis=0, ddof=1), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(table["q50"], np.median(pooled, axis=0), rtol=1e-4, atol=1e-6)
    assert (np.diff(table[list(QUANTILES)].to_numpy(), axis=1) >= 0).all()


def test_the_table_says_of_which_patches_it_is(shard_set: ShardSet) -> None:
    about = reference_features(network_of(), shard_set, 2).schema.metadata
    assert about[b"num_patches"] == b"2"
    assert about[b"part"] == b"Validation I"
    assert about[b"image_coding"].decode() == ShardConfig().image_coding
    whole = reference_features(network_of(), shard_set, 10**6).schema.metadata
    assert int(whole[b"num_patches"]) == len(tissue_rows(shard_set))


def test_the_same_patches_are_read_each_time(shard_set: ShardSet) -> None:
    assert reference_features(network_of(), shard_set, 3).equals(reference_features(network_of(), shard_set, 3))


@pytest.mark.parametrize("num_patches", [1, -4])
def test_too_few_patches_are_refused(shard_set: ShardSet, num_patches: int) -> None:
    with pytest.raises(ConfigurationError, match="reference features need two; give --feature-patches 0"):
        reference_features(network_of(), shard_set, num_patches)


def test_features_that_are_no_numbers_are_refused(shard_set: ShardSet) -> None:
    network = network_of()
    next(iter(network.encoder.parameters())).data[0] = torch.nan
    with pytest.raises(NotFiniteError, match="deepest features"):
        reference_features(network, shard_set, 2)


def test_a_model_file_has_them_where_they_are_asked_for(small: SmallStudy, tmp_path: Path) -> None:
    study = write_model_study(tmp_path / "study")
    assert FEATURES not in pack_model(study.root, tmp_path / "without.model").names()
    _take_shards(study, small)
    model = pack_model(study.root, tmp_path / "with.model", num_feature_patches=2)
    table = pq.read_table(io.BytesIO(model.read(FEATURES)))
    assert table.num_rows == 4 << 3
    assert table.schema.metadata[b"num_patches"] == b"2"
    text = str(table.schema.metadata) + table.to_pandas().to_csv()
    assert not any(name in text for name in ("val1-0", str(small.root)))


def test_without_the_shards_the_line_says_how_to_pack_all_the_same(small: SmallStudy, tmp_path: Path) -> None:
    study = write_model_study(tmp_path / "study")
    _take_shards(study, small)
    for tar in study.shards.root.rglob("val1-0.tar"):
        tar.unlink()
    with pytest.raises(ShardError, match=r"is not there.*pack without reference features \(--feature-patches 0\)"):
        pack_model(study.root, tmp_path / "bcc.model", num_feature_patches=2)
    assert not (tmp_path / "bcc.model").exists()


def _take_shards(study: StudyPaths, small: SmallStudy) -> None:
    shutil.rmtree(study.shards.root)
    shutil.copytree(small.shards.root, study.shards.root)
