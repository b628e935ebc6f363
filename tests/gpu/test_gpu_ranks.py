"""Ranks on GPUs: NCCL over all of them, two on one GPU as far as that goes, batch statistics over all ranks.

Numbers are float64: sums in another order differ by some 1e-16 for each term, and gradients by far less than 1e-8.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from training_step import GLOBAL_BATCH, Gradients, gradients, largest_difference

from bccdist.errors import DistributedError
from bccdist.ranks import Ranks
from bccdist.training import distributed
from bccdist.training.distributed import (
    average_batch_statistics,
    barrier,
    choose_device,
    from_all_ranks,
    largest_over_ranks,
    process_group,
    sums_by_name,
)

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
TOLERANCE = 1e-8


def _ranks(rank: int, num: int) -> Ranks:
    return Ranks(rank=rank, local_rank=rank, world_size=num, local_world_size=num, job_key="gpu")


def _work(rank: int, num: int, folder: Path, over_gloo: bool) -> None:
    """What each rank does; over gloo several of them may share a GPU, which NCCL refuses."""
    if over_gloo:
        begin = dist.init_process_group
        distributed._refuse_shared_gpus = lambda *_: None
        dist.init_process_group = lambda _, **how: begin("gloo", **{**how, "device_id": None})
    ranks = _ranks(rank, num)
    device = choose_device(ranks)
    with process_group(ranks, folder, device):
        norm = nn.BatchNorm2d(1).to(device)
        norm.running_mean.fill_(float(rank))
        average_batch_statistics(norm)
        results: dict[str, Any] = {
            "gradients": gradients(ranks, micro_batch=1, device=device),
            "normalised together": gradients(ranks, micro_batch=GLOBAL_BATCH, device=device, in_training=True),
            "mean of means": norm.running_mean.item(),
            "sums": sums_by_name({"tensor": torch.tensor(rank + 1.0, device=device), "number": 10.0}, device),
            "largest": largest_over_ranks(float(rank), device),
            "all": from_all_ranks(rank),
            "device": device.index,
        }
        barrier()
    torch.save(results, folder / f"rank-{rank}.pt")


@pytest.fixture(scope="module", params=["NCCL over all GPUs", "two ranks on one GPU, over gloo"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank found."""
    over_gloo = "gloo" in request.param
    num = 2 if over_gloo else min(torch.cuda.device_count(), GLOBAL_BATCH)
    if num < 2:
        pytest.skip("this machine has one GPU; NCCL between GPUs was not tried")
    folder = tmp_path_factory.mktemp("ranks")
    spawn(_work, args=(num, folder, over_gloo), nprocs=num)
    return [torch.load(folder / f"rank-{rank}.pt", map_location="cpu") for rank in range(num)]


def _on_one_rank(gpu: torch.device, *, in_training: bool) -> tuple[Gradients, dict[str, float]]:
    return gradients(Ranks(), micro_batch=GLOBAL_BATCH, device=gpu, in_training=in_training)


@pytest.mark.parametrize("in_training", [False, True], ids=["DDP", "SyncBN"])
def test_the_gradient_is_one_ranks(found: list[dict[str, Any]], in_training: bool, gpu: torch.device) -> None:
    expected, expected_losses = _on_one_rank(gpu, in_training=in_training)
    for results in found:
        ours, losses = results["normalised together" if in_training else "gradients"]
        assert losses == pytest.approx(expected_losses, rel=TOLERANCE)
        assert largest_difference(ours, {name: each.cpu() for name, each in expected.items()}) < TOLERANCE


def test_what_ranks_exchange_arrives(found: list[dict[str, Any]]) -> None:
    num = len(found)
    for results in found:
        assert results["sums"] == {"tensor": num * (num + 1) / 2, "number": 10.0 * num}
        assert (results["largest"], results["all"]) == (num - 1, list(range(num)))
        assert results["mean of means"] == pytest.approx((num - 1) / 2)


def test_one_gpus_gradient_is_the_cpus(gpu: torch.device) -> None:
    ours, losses = _on_one_rank(gpu, in_training=False)
    expected, expected_losses = gradients(Ranks(), micro_batch=GLOBAL_BATCH)
    assert losses == pytest.approx(expected_losses, rel=TOLERANCE)
    assert largest_difference({name: each.cpu() for name, each in ours.items()}, expected) < TOLERANCE


def test_nccl_works_for_a_group_of_one(gpu: torch.device) -> None:
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1, device_id=gpu)
    try:
        network = DistributedDataParallel(nn.Conv2d(1, 1, 1).to(gpu))
        network(torch.ones(1, 1, 2, 2, device=gpu)).sum().backward()
        assert network.module.weight.grad.item() == 4
        assert sums_by_name({"a": torch.ones((), device=gpu), "b": 2.0}, gpu) == {"a": 1.0, "b": 2.0}
        assert from_all_ranks("alone") == ["alone"]
        barrier()
    finally:
        dist.destroy_process_group()


def _share(rank: int, folder: Path) -> None:
    torch.cuda.set_device(0)
    try:
        with process_group(_ranks(rank, 2), folder, torch.device("cuda", 0)):
            text = "let through"
    except DistributedError as error:
        text = str(error)
    (folder / f"said-{rank}").write_text(text)


def test_two_ranks_on_one_gpu_are_told_so(tmp_path: Path) -> None:
    spawn(_share, args=(tmp_path,), nprocs=2)
    assert "got ranks 0, 1 on" in (tmp_path / "said-1").read_text()
    assert "got ranks 0, 1 on" in (tmp_path / "said-0").read_text()
