"""The training state on disk: whole or absent, with the SHA-256 of its bytes, and read without pickle's code.

It holds what a step needs to give the bits that it would have given without a stop: weights, optimiser, the position
in the epoch, and for each rank its own running batch statistics and random state. What is drawn and how it is
augmented follows from the position alone (`epoch_plan`, `augmentation`), as does the learning rate.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bccdist.errors import CheckpointError
from bccdist.files import atomic_path
from bccdist.networks.finite import not_finite
from bccdist.ranks import Ranks
from bccdist.seals import BLANK_SEAL, check_seal, say_unsealed, seal
from bccdist.training.reporting.metrics import MetricsRow

_ADVICE = "copy it again from where it is whole, or delete it to start over"
RankState = dict[str, Any]
"""What differs between ranks: see `rank_state`."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a run is; everything before it is done."""

    epoch: int = 1
    """The epoch at hand; the first is 1."""
    step: int = 0
    """Steps of it that are done."""
    loss_sums: dict[str, float] = field(default_factory=dict)
    """Losses of each supervised output, summed over these steps."""
    train_s: float = 0.0
    """Time that these steps took."""
    waited_s: float = 0.0
    """The part of this time in which the rank that saved waited for patches."""
    validation_s: float | None = None
    """Time of the validation after the last epoch, for the estimate of the rest."""

    def after_step(self, losses: dict[str, float], *, seconds: float, waited_s: float) -> "Position":
        """The position after one more step."""
        return replace(
            self,
            step=self.step + 1,
            loss_sums={psi: self.loss_sums.get(psi, 0.0) + loss for psi, loss in losses.items()},
            train_s=self.train_s + seconds,
            waited_s=self.waited_s + waited_s,
        )

    def num_steps_done(self, steps_per_epoch: int) -> int:
        """Optimiser steps since the run began."""
        return (self.epoch - 1) * steps_per_epoch + self.step

    @property
    def mean_losses(self) -> dict[str, float]:
        """Mean loss of each supervised output over the steps that are done."""
        return {psi: total / self.step for psi, total in self.loss_sums.items()}


@dataclass(frozen=True, kw_only=True)
class State:
    """What `load_state` found beside what it restored."""

    position: Position = field(default_factory=Position)
    metrics: list[MetricsRow] = field(default_factory=list)
    """Rows of all epochs that are done; they name the best."""
    world_size: int | None = None
    """Ranks that wrote the state; None where there was none."""
    num_micro_batches: int | None = None
    """Micro-batches of a step of the run; None where the state does not say, as those of older versions do not."""


def rank_state(network: nn.Module) -> RankState:
    """What this rank alone knows: the running statistics of its patches, and torch's random state."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    buffers = {name: buffer.detach().cpu().clone() for name, buffer in network.named_buffers()}
    return {"buffers": buffers, "rng": torch.get_rng_state(), "cuda_rng": cuda}


def save_state(
    path: Path,
    *,
    network: nn.Module,
    optimizer: Optimizer,
    position: Position,
    metrics: list[MetricsRow],
    config_digest: str,
    rank_states: list[RankState],
    num_micro_batches: int | None = None,
) -> None:
    """Write what is needed to go on from `position`; the ranks' states in their order."""
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": asdict(position),
        "metrics": metrics,
        "config_digest": config_digest,
        "ranks": rank_states,
        "num_micro_batches": num_micro_batches,
    }
    with atomic_path(path) as partial:
        torch.save(state, partial)
        # torch writes a zip, whose comment nobody else uses; torch itself checks no sum when it reads one.
        with ZipFile(partial, "a") as archive:
            archive.comment = BLANK_SEAL.encode()
        seal(partial)


def load_state(
    path: Path,
    *,
    network: nn.Module,
    optimizer: Optimizer,
    config_digest: str,
    device: torch.device,
    ranks: Ranks,
) -> State:
    """Restore network, optimiser and random state of a rank; another number of ranks gets the mean statistics.

    Raises:
        CheckpointError: the file is damaged or belongs to another configuration.
    """
    if not path.exists():
        return State()
    state = _read(path, config_digest)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    states: list[RankState] = state["ranks"]
    # Statistics and random state are a rank's own; among another number of ranks nobody can go on with them.
    if len(states) == ranks.world_size:
        _restore_rank(states[ranks.rank], network, device)
    else:
        _restore_buffers(_mean_buffers(states), network)
    return State(
        position=Position(**state["position"]),
        metrics=state["metrics"],
        world_size=len(states),
        num_micro_batches=state.get("num_micro_batches"),
    )


def _read(path: Path, config_digest: str) -> dict[str, Any]:
    # One opening: the first rank may put a newer state in its place meanwhile.
    with path.open("rb") as file:
        is_sealed = check_seal(path, file, error=CheckpointError, advice=_ADVICE)
        try:
            if not is_sealed:
                _check_sums(path, file)
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can raise nearly anything: the reader follows what stands in it
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"{path}: damaged training state: {reason}; {_ADVICE}") from error
    found_digest = state.get("config_digest") if isinstance(state, dict) else None
    if found_digest != config_digest:
        raise CheckpointError(f"{path}: belongs to configuration {found_digest}, this run's is {config_digest}")
    if faults := not_finite(state["network"]):
        raise CheckpointError(f"{path}: {faults}: nobody can go on from there; {_ADVICE}")
    return state


def _check_sums(path: Path, file: BinaryIO) -> None:
    """The sum of each part of the zip, which is all that a state from before there were seals can be held against.

    Raises:
        BadZipFile: one is wrong.
    """
    say_unsealed(path)
    with ZipFile(file) as archive:
        if damaged := archive.testzip():
            raise BadZipFile(f"{damaged} has another CRC than was written")
    file.seek(0)


def _restore_rank(state: RankState, network: nn.Module, device: torch.device) -> None:
    _restore_buffers(state["buffers"], network)
    torch.set_rng_state(state["rng"])
    if device.type == "cuda" and state["cuda_rng"] is not None:
        torch.cuda.set_rng_state(state["cuda_rng"])


def _restore_buffers(buffers: dict[str, Tensor], network: nn.Module) -> None:
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])


def _mean_buffers(states: list[RankState]) -> dict[str, Tensor]:
    """The mean of the ranks' running statistics; counters are equal on all of them."""
    stacked = {name: torch.stack([state["buffers"][name] for state in states]) for name in states[0]["buffers"]}
    return {name: each.mean(dim=0) if each.is_floating_point() else each[0] for name, each in stacked.items()}
