"""Ranks are found in the environment, meet in a folder, and train together as one rank would alone."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from training_step import GLOBAL_BATCH, gradients, largest_difference

from bccdist.errors import DistributedError
from bccdist.files import read_json, write_json
from bccdist.ranks import Ranks
from bccdist.training import distributed
from bccdist.training.distributed import (
    average_batch_statistics,
    barrier,
    choose_device,
    from_all_ranks,
    in_parallel,
    largest_over_ranks,
    process_group,
    sum_over_ranks,
    sums_by_name,
)

CPU = torch.device("cpu")
TWO = Ranks(world_size=2, local_world_size=2, job_key="tried-again")


def test_one_rank_needs_no_group(tmp_path: Path) -> None:
    values = torch.tensor([1.0, 2.0])
    with process_group(Ranks(), tmp_path, CPU):
        assert not dist.is_initialized()
        assert sum_over_ranks(values).tolist() == [1.0, 2.0]
        average_batch_statistics(nn.BatchNorm2d(1))
        barrier()
        assert largest_over_ranks(2.5, CPU) == 2.5
        assert from_all_ranks("alone") == ["alone"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_ranks_compute_on_the_cpu() -> None:
    assert choose_device(Ranks(local_rank=3)) == CPU


def test_a_first_rank_that_never_comes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_MEETING_TIMEOUT_S", 0.3)
    write_json(tmp_path / "meeting-another.json", {"host": "127.0.0.1", "port": 1})
    with (
        pytest.raises(DistributedError, match=r"rank 1 of 2: rank 0 left no address .*tried-again.json within"),
        process_group(replace(TWO, rank=1), tmp_path, CPU),
    ):
        pass


class _Store(dict[str, bytes]):
    """What ranks tell each other."""

    def set(self, name: str, text: str) -> None:
        self[name] = text.encode()


@pytest.mark.parametrize("gpus", [("A", "B"), ("A", "B", "C", "D")])
def test_ranks_on_gpus_of_their_own_are_let_through(gpus: tuple[str, ...]) -> None:
    store = _store_of(gpus)
    for rank, gpu in enumerate(gpus):
        distributed._refuse_shared_gpus(store, replace(TWO, rank=rank, world_size=len(gpus)), gpu)


@pytest.mark.parametrize(
    ("gpus", "says"),
    [
        (("A", "A"), r"a GPU for each of 2 ranks, got ranks 0, 1 on .*: A: start fewer ranks"),
        (("A", "B", "C", "B"), r"a GPU for each of 4 ranks, got ranks 1, 3 on .*: B: start fewer ranks"),
    ],
)
def test_ranks_that_share_a_gpu_are_named(gpus: tuple[str, ...], says: str) -> None:
    ranks = replace(TWO, world_size=len(gpus))
    with pytest.raises(DistributedError, match=says):
        distributed._refuse_shared_gpus(_store_of(gpus), ranks, gpus[0])


def _store_of(gpus: tuple[str, ...]) -> Any:
    return _Store({f"gpu-{rank}": f"{socket.gethostname()}: {gpu}".encode() for rank, gpu in enumerate(gpus)})


def test_nccl_is_told_which_gpu_is_this_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(distributed, "_meet", lambda *_: _store_of(("A", "B")))
    monkeypatch.setattr(distributed, "_name_of_gpu", lambda _: "B")
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **how: told.update(backend=backend, **how))
    with process_group(replace(TWO, rank=1), tmp_path, torch.device("cuda", 1)):
        assert (told["backend"], told["device_id"], told["rank"]) == ("nccl", torch.device("cuda", 1), 1)


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_of_all_buffers_those_alone_are_averaged_that_move_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of three times 0.1 is not 0.1, so what is the same on all ranks has to be left alone."""
    frozen, constant, norm = nn.BatchNorm2d(1).eval(), nn.Module(), nn.BatchNorm2d(1)
    constant.register_buffer("scale", torch.ones(1))
    averaged: list[int] = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(dist, "all_reduce", lambda buffer: averaged.append(id(buffer)))
    average_batch_statistics(nn.ModuleList([frozen, constant, norm]))
    assert averaged == [id(norm.running_mean), id(norm.running_var)]


def _running_mean(ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Of a normalisation that has seen two batches of this rank: before and after averaging."""
    conv, norm = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1)
    nn.init.ones_(conv.weight)
    network = nn.Sequential(conv, norm)
    parallel = in_parallel(network, ranks).train()
    for number in range(2):
        parallel(torch.full((1, 1, 2, 2), 10.0 * ranks.rank + number))
    own = network.state_dict()["1.running_mean"].clone()
    average_batch_statistics(network)
    return own, network.state_dict()["1.running_mean"]


def test_the_others_stay_until_the_first_rank_has_gone(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", _FIRST, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        with process_group(replace(TWO, rank=1), tmp_path, CPU) as peers:
            assert first.stdout is not None
            first.stdout.readline()
            start_s = time.monotonic()
            peers.wait_for_the_first()
        assert 0.3 < time.monotonic() - start_s < 20
        assert first.wait(timeout=20) == -signal.SIGKILL
    finally:
        first.kill()
        first.stdout.close()


_FIRST = """
import os, signal, sys, time
from pathlib import Path
import torch
from bccdist.training.distributed import process_group
from bccdist.ranks import Ranks
ranks = Ranks(world_size=2, local_world_size=2, job_key="tried-again")
with process_group(ranks, Path(sys.argv[1]), torch.device("cpu")):
    print("met", flush=True)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _work(rank: int, folder: Path) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    ranks = replace(TWO, rank=rank, local_rank=rank)
    if ranks.is_first:
        time.sleep(1)  # the other rank looks at what a killed start left behind
    with process_group(ranks, folder, CPU):
        results: dict[str, Any] = {
            "sum": sum_over_ranks(torch.tensor([rank + 1.0, 10.0])),
            "gradients": gradients(ranks, micro_batch=1),
            "uneven": gradients(ranks, micro_batch=2, global_batch=3),
            "running_mean": _running_mean(ranks),
            "by_name": sums_by_name({"tensor": torch.tensor(rank + 1.0), "number": 10.0}, CPU),
            "largest": largest_over_ranks(10.0 - rank, CPU),
            "all": from_all_ranks({"rank": rank, "tensor": torch.full((2,), float(rank))}),
        }
        barrier()
        results["meeting"] = read_json(folder / f"meeting-{TWO.job_key}.json")
        barrier()
    torch.save(results, folder / f"rank-{rank}.pt")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder in which two processes met, over a killed start's address, and what each of them found."""
    folder = tmp_path_factory.mktemp("meeting")
    write_json(folder / f"meeting-{TWO.job_key}.json", {"host": "127.0.0.1", "port": _closed_port()})
    write_json(folder / "meeting-another.json", {"host": "127.0.0.1", "port": _closed_port()})
    spawn(_work, args=(folder,), nprocs=2)
    return folder, [torch.load(folder / f"rank-{rank}.pt") for rank in range(2)]


Found = tuple[Path, list[dict[str, Any]]]


def test_ranks_meet_over_the_address_of_a_killed_start(two_ranks: Found) -> None:
    folder, found = two_ranks
    assert found[0]["meeting"] == found[1]["meeting"]
    assert sorted(path.name for path in folder.glob("meeting-*")) == ["meeting-another.json"]  # its own is gone


def test_sums_go_over_all_ranks(two_ranks: Found) -> None:
    assert [results["sum"].tolist() for results in two_ranks[1]] == [[3.0, 20.0]] * 2


def test_what_is_summed_by_name_comes_back_by_name(two_ranks: Found) -> None:
    assert [found["by_name"] for found in two_ranks[1]] == [{"tensor": 3.0, "number": 20.0}] * 2


def test_every_rank_learns_what_each_has(two_ranks: Found) -> None:
    for results in two_ranks[1]:
        assert results["largest"] == 10.0
        assert [(each["rank"], each["tensor"].tolist()) for each in results["all"]] == [(0, [0, 0]), (1, [1, 1])]


def test_gradients_and_losses_of_two_ranks_are_those_of_one(two_ranks: Found) -> None:
    expected, expected_losses = gradients(Ranks(), micro_batch=GLOBAL_BATCH)
    for results in two_ranks[1]:
        found, losses = results["gradients"]
        assert losses == pytest.approx(expected_losses, rel=1e-10)
        assert largest_difference(found, expected) < 1e-10


def test_shares_that_differ_by_a_patch_give_the_mean_over_the_patches(two_ranks: Found) -> None:
    expected, expected_losses = gradients(Ranks(), micro_batch=3, global_batch=3)
    for results in two_ranks[1]:
        found, losses = results["uneven"]
        assert losses == pytest.approx(expected_losses, rel=1e-10)
        assert largest_difference(found, expected) < 1e-10


def test_every_rank_adds_its_data_to_the_batch_statistics(two_ranks: Found) -> None:
    # Momentum 0.1: 0.9 * (0.1 * first) + 0.1 * second.
    own = [0.09 * first + 0.1 * (first + 1) for first in (0.0, 10.0)]
    for rank, results in enumerate(two_ranks[1]):
        before, after = results["running_mean"]
        assert before.item() == pytest.approx(own[rank])
        assert after.item() == pytest.approx(sum(own) / 2)
