"""The training state on disk: whole or absent, and read without pickle's code."""

import pickle
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from bccdist.errors import CheckpointError
from bccdist.files import atomic_path
from bccdist.training.metrics import MetricsRow


def save_state(
    path: Path,
    *,
    network: nn.Module,
    optimizer: Optimizer,
    epoch: int,
    metrics: list[MetricsRow],
    config_digest: str,
) -> None:
    """Write what is needed to go on after `epoch`."""
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": epoch,
        "metrics": metrics,
        "config_digest": config_digest,
    }
    with atomic_path(path) as partial:
        torch.save(state, partial)


def load_state(
    path: Path, *, network: nn.Module, optimizer: Optimizer, config_digest: str, device: torch.device
) -> tuple[int, list[MetricsRow]]:
    """Restore network and optimiser.

    Returns:
        The last epoch that is done, and the metrics up to it; (0, []) where there is no state yet.

    Raises:
        CheckpointError: the file is damaged or belongs to another configuration.
    """
    if not path.exists():
        return 0, []
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: damaged training state: {reason}; delete it to start over") from error
    found_digest = state.get("config_digest") if isinstance(state, dict) else None
    if found_digest != config_digest:
        raise CheckpointError(f"{path}: belongs to configuration {found_digest}, this run's is {config_digest}")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return state["epoch"], state["metrics"]
