"""How ranks meet, and what they exchange."""

import datetime
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from bccdist.errors import DistributedError
from bccdist.files import read_json, write_json
from bccdist.ranks import Ranks

_MEETING_TIMEOUT_S = 300.0
_POLL_S = 0.1
_PROBE_TIMEOUT_S = 5.0
_FAREWELL_TIMEOUT_S = 60.0
Object = TypeVar("Object")


def choose_device(ranks: Ranks) -> torch.device:
    """This rank's GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        device = torch.device("cuda", ranks.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
        return device
    return torch.device("cpu")


@dataclass(frozen=True)
class Peers:
    """The ranks that met."""

    store: TCPStore | None

    def wait_for_the_first(self) -> None:
        """Wait until the first rank, which holds the store, has gone; a minute at most."""
        if self.store is None:
            return
        try:
            self.store.wait(["the first rank stays"], datetime.timedelta(seconds=_FAREWELL_TIMEOUT_S))
        except RuntimeError:  # it went, or the minute is over; either way there is nothing left to wait for
            return


@contextmanager
def process_group(ranks: Ranks, folder: Path, device: torch.device) -> Iterator[Peers]:
    """Join the ranks: NCCL between GPUs, gloo between CPUs. One rank needs no group.

    The first rank opens a store on a free port and leaves its address in `folder`, which all ranks see; the
    file's name holds the start of the job, so a requeued job never meets its own past.

    Raises:
        DistributedError: the first rank left no address in time; or two ranks are on one GPU.
    """
    if ranks.world_size == 1:
        yield Peers(None)
        return
    meeting = folder / f"meeting-{ranks.job_key}.json"
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        store = _meet(meeting, ranks)
        if device.type == "cuda":
            _refuse_shared_gpus(store, ranks, _name_of_gpu(device))
        dist.init_process_group(
            backend,
            store=store,
            rank=ranks.rank,
            world_size=ranks.world_size,
            # Else NCCL guesses it at the first barrier.
            device_id=device if device.type == "cuda" else None,
        )
        yield Peers(store)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        if ranks.is_first:
            meeting.unlink(missing_ok=True)


def _meet(meeting: Path, ranks: Ranks) -> TCPStore:
    if ranks.is_first:
        host = "127.0.0.1" if ranks.world_size == ranks.local_world_size else socket.gethostname()
        store = TCPStore(host, 0, ranks.world_size, is_master=True, wait_for_workers=False)
        write_json(meeting, {"host": host, "port": store.port})
        return store
    deadline = time.monotonic() + _MEETING_TIMEOUT_S
    while (address := _address_at(meeting)) is None:
        if time.monotonic() > deadline:
            raise DistributedError(
                f"rank {ranks.rank} of {ranks.world_size}: rank 0 left no address that answers at {meeting} within "
                f"{_MEETING_TIMEOUT_S:.0f} s; see rank 0's log"
            )
        time.sleep(_POLL_S)
    return TCPStore(*address, ranks.world_size, is_master=False)


def _address_at(meeting: Path) -> tuple[str, int] | None:
    """The host and port that the first rank left, once somebody listens there.

    A start that was killed leaves its file behind, and a job that is tried again can have the same key: then the
    port is closed, until the first rank of this start has put its own address there.
    """
    try:
        left = read_json(meeting)
        address = (left["host"], left["port"])
        with socket.create_connection(address, timeout=_PROBE_TIMEOUT_S):
            return address
    except OSError:
        return None


def _name_of_gpu(device: torch.device) -> str:
    """The same for every process on this GPU, whatever its number is there."""
    return f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_properties(device).uuid}"


def _refuse_shared_gpus(store: TCPStore, ranks: Ranks, gpu: str) -> None:
    """Say by name what NCCL would refuse in words that tell neither the ranks nor what to do."""
    store.set(f"gpu-{ranks.rank}", f"{socket.gethostname()}: {gpu}")
    ranks_by_gpu: dict[str, list[int]] = {}
    for rank in range(ranks.world_size):
        ranks_by_gpu.setdefault(store.get(f"gpu-{rank}").decode(), []).append(rank)
    shared = [f"ranks {', '.join(map(str, those))} on {where}" for where, those in ranks_by_gpu.items() if those[1:]]
    if shared:
        raise DistributedError(
            f"expected a GPU for each of {ranks.world_size} ranks, got {'; '.join(shared)}: start fewer ranks, or "
            "give the job more GPUs"
        )


def barrier() -> None:
    """Wait until every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, on every rank; changed in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def sums_by_name(values: Mapping[str, Tensor | float], device: torch.device) -> dict[str, float]:
    """The sum of each of these numbers over all ranks, on every rank, in one exchange.

    Args:
        values: the same names on all ranks.
        device: where the ranks exchange.
    """
    computed = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    known = {name: value for name, value in values.items() if not isinstance(value, Tensor)}
    if not computed and not dist.is_initialized():
        return {name: float(value) for name, value in known.items()}
    # What the CPU knows goes over as one, because a GPU is waited for at each such copy.
    parts = [torch.tensor(list(known.values()), dtype=torch.float64).to(device)] if known else []
    parts += [value.to(device, torch.float64).reshape(1) for value in computed.values()]
    return dict(zip([*known, *computed], sum_over_ranks(torch.cat(parts)).tolist(), strict=True))


def largest_over_ranks(value: float, device: torch.device) -> float:
    """The largest of the ranks' values, on every rank."""
    if not dist.is_initialized():
        return value
    largest = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest.item()


def from_all_ranks(value: Object) -> list[Object]:
    """What each rank gives, in their order, on every rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Object] = [value] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def in_parallel(network: nn.Module, ranks: Ranks) -> nn.Module:
    """The network as all ranks train it: gradients are averaged; each rank keeps its own running statistics.

    Were they sent around, every step would begin with those of the first rank, and the data of the others would
    be lost to them; so they are averaged at the end of the epoch.
    """
    if ranks.world_size == 1:
        return network
    with warnings.catch_warnings():
        # torch 2.13 deprecates the option for one that the earlier versions do not have.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(network, broadcast_buffers=False)


def average_batch_statistics(network: nn.Module) -> None:
    """Make the running means and variances of all ranks equal: their average."""
    if not dist.is_initialized():
        return
    # Not a frozen encoder's, nor constants: an average of equal numbers may differ from them in the last bit.
    kind = nn.modules.batchnorm._BatchNorm  # noqa: SLF001
    moving = [each for each in network.modules() if isinstance(each, kind) and each.training]
    for buffer in (buffer for each in moving for buffer in each.buffers()):
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer.div_(dist.get_world_size())
