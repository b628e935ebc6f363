"""Of two starts of one run the newer one writes; the older one ends at its next save, on all its ranks."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_study import SmallStudy, write_finished_study
from torch.multiprocessing.spawn import spawn

from bccdist.configuration import TrainConfig
from bccdist.errors import ConfigurationError, DistributedError
from bccdist.files import read_json
from bccdist.paths import RunPaths, StudyPaths
from bccdist.ranks import SCHEMES, Ranks
from bccdist.shard_set.index import read_set
from bccdist.training import loop, run
from bccdist.training.checkpoints import Position
from bccdist.training.compute import resolve_compute
from bccdist.training.distributed import process_group
from bccdist.training.holder import claim, refuse_lost
from bccdist.training.loop import train
from bccdist.training.run import Run, prepare_run

CPU = torch.device("cpu")
CONFIG = TrainConfig(width=4, epochs=1, global_batch=2, micro_batch=1, max_steps=2, num_workers=0)
FIRST, AGAIN = Ranks(job_key="77-0"), Ranks(job_key="77-1")


@pytest.fixture(scope="module", autouse=True)
def _alone(one_torch_thread: None) -> Iterator[None]:
    """One thread, and no launcher's variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name in {name for scheme in SCHEMES for name in scheme[1:]}:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Built and finished; not to be trained in."""
    return write_finished_study(tmp_path_factory.mktemp("shards"), width_px=800, height_px=560)


@pytest.fixture
def study(shards: SmallStudy, tmp_path: Path) -> StudyPaths:
    return StudyPaths(shards.copied_to(tmp_path).root)


@pytest.fixture
def paths(study: StudyPaths) -> RunPaths:
    return study.run("unet")


def start(study: StudyPaths, ranks: Ranks, config: TrainConfig = CONFIG) -> Run:
    """As a job does it."""
    compute = resolve_compute(config.compute, CPU, world_size=ranks.world_size)
    begun = prepare_run(study.run("unet"), "unet", config, ranks, compute, read_set(study.shards.root))
    begun.restore()
    return begun


def all_files(paths: RunPaths) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in paths.root.rglob("*") if path.is_file()}


def test_the_folder_names_the_newest_start(tmp_path: Path) -> None:
    path = tmp_path / "run" / "holder.json"
    first = claim(path, FIRST)
    refuse_lost(path, first)
    found = read_json(path)
    assert (found["job_key"], found["host"], found["pid"]) == ("77-0", socket.gethostname(), os.getpid())
    again = claim(path, FIRST)  # the same job in the same process: still another start
    refuse_lost(path, again)
    with pytest.raises(DistributedError, match=r"run: held by another start, job 77-0 .*lost up to the last save"):
        refuse_lost(path, first)


def test_ranks_other_than_the_first_neither_write_nor_look(tmp_path: Path) -> None:
    path = tmp_path / "holder.json"
    second = claim(path, Ranks(rank=1, world_size=2))
    assert second is None
    assert not path.exists()
    claim(path, AGAIN)
    refuse_lost(path, second)


def test_a_holder_that_was_removed_by_hand_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "holder.json"
    first = claim(path, FIRST)
    path.unlink()
    refuse_lost(path, first)


def test_the_older_start_ends_at_its_next_save_and_overwrites_nothing(study: StudyPaths, paths: RunPaths) -> None:
    older = start(study, FIRST)
    older.save(Position(step=1))
    newer = start(study, AGAIN)
    newer.save(Position(step=2))
    before = all_files(paths)
    expected = rf"{paths.root}: held by another start, job 77-1 \(process {os.getpid()} on .*this start, job 77-0"
    with pytest.raises(DistributedError, match=expected):
        older.save(Position(epoch=2))
    assert all_files(paths) == before
    assert newer.restore().position == Position(step=2)
    older.close()
    newer.close()


def test_a_start_that_the_folder_refuses_takes_it_from_nobody(study: StudyPaths) -> None:
    older = start(study, FIRST)
    with pytest.raises(ConfigurationError, match="another configuration"):
        start(study, AGAIN, replace(CONFIG, seed=CONFIG.seed + 1))
    older.save(Position(step=1))
    older.close()


def test_training_that_has_lost_its_folder_leaves_weights_and_tables_to_the_newer_start(
    study: StudyPaths, paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate, before = loop.validate, dict[Path, bytes]()

    def lost_meanwhile(*arguments: Any, **named: Any) -> Any:
        claim(paths.holder, AGAIN)
        before.update(all_files(paths))
        return validate(*arguments, **named)

    monkeypatch.setattr(loop, "validate", lost_meanwhile)
    with pytest.raises(DistributedError, match="held by another start, job 77-1"):
        train(study.root, "unet", CONFIG)
    assert all_files(paths) == before
    assert not paths.weights(1).exists()
    assert not paths.metrics.exists()
    monkeypatch.setattr(loop, "validate", validate)
    train(study.root, "unet", CONFIG)
    assert paths.weights(1).exists()


def test_ranks_that_read_different_states_do_not_go_on(study: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = start(study, FIRST)
    monkeypatch.setattr(run, "from_all_ranks", lambda position: [position, replace(position, step=3)])
    with pytest.raises(DistributedError, match=r"last.pt: it was replaced .*\[\(1, 0\), \(1, 3\)\]; submit the run"):
        begun.restore()
    begun.close()


@pytest.mark.parametrize("code", [None, "0123456789ab-01234567"])
def test_a_run_records_the_code_that_it_runs(
    code: str | None, study: StudyPaths, paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "imported_code", lambda: code)
    start(study, FIRST).close()
    assert read_json(paths.environment)["code"] == (code or "not recorded")


def _lose(rank: int, folder: Path) -> None:
    """What each of the two ranks of the older start does."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    ranks = Ranks(rank=rank, local_rank=rank, world_size=2, local_world_size=2, job_key="77-0")
    path = folder / "holder.json"
    with process_group(ranks, folder, CPU):
        holder = claim(path, ranks)
        refuse_lost(path, holder)
        if ranks.is_first:
            claim(path, AGAIN)
        try:
            refuse_lost(path, holder)
        except DistributedError as error:
            (folder / f"rank-{rank}.json").write_text(json.dumps(str(error)))


def test_all_ranks_end_with_the_same_word_and_none_waits(tmp_path: Path) -> None:
    spawn(_lose, args=(tmp_path,), nprocs=2)
    first, second = (read_json(tmp_path / f"rank-{rank}.json") for rank in range(2))
    assert first == second
    assert "held by another start, job 77-1" in first
