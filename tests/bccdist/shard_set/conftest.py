"""A finished shard set, for all tests of what reads one."""

from pathlib import Path

import pytest
from small_study import SmallStudy, write_finished_study

from bccdist.shard_set.index import ShardSet, read_set


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Built and finished; not to be changed."""
    return write_finished_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def shard_set(study: SmallStudy) -> ShardSet:
    return read_set(study.shards.root)


@pytest.fixture
def changeable(study: SmallStudy, tmp_path: Path) -> ShardSet:
    return read_set(study.copied_to(tmp_path).shards.root)
