"""What each output of the network takes and how far its scores spread (paper, section 3.1, Table 5)."""

import copy
import statistics
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bccdist.configuration import PATCH_PX
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet, ScoreMaps


@dataclass(frozen=True, kw_only=True)
class OutputCost:
    """One output, over some patches."""

    patch_s: float
    """Seconds a patch takes from the stored pixels up to this output: the median over batches."""
    score_std: float
    """Standard deviation of Tumor's score minus Normal's over all pixels."""


def output_costs(network: DeeplySupervisedUNet, patches_NPP3: Tensor, *, batch: int) -> dict[str, OutputCost]:
    """Time and spread of every output of a network.

    Args:
        network: in evaluation mode; it is taken as it is.
        patches_NPP3: uint8 RGB [n, p, p, 3] on the network's device, at least one.
        batch: patches per forward pass.
    """
    times: dict[str, list[float]] = {psi: [] for psi in network.outputs}
    # Running sums of the difference and of its square, in float64.
    sums = {psi: torch.zeros(3, dtype=torch.float64) for psi in network.outputs}
    with torch.inference_mode():
        _run(network, patches_NPP3[:batch])  # what is done once is not what a patch takes
        for patches in torch.split(patches_NPP3, batch):
            seconds, scores = _run(network, patches)
            for psi, score in scores.items():
                times[psi].append(seconds[psi] / len(patches))
                sums[psi] += _sums(score)
    return {
        psi: OutputCost(patch_s=statistics.median(times[psi]), score_std=_deviation(sums[psi]))
        for psi in network.outputs
    }


def _run(network: DeeplySupervisedUNet, patches_NPP3: Tensor) -> tuple[dict[str, float], ScoreMaps]:
    """Seconds up to each output, and the score maps."""
    seconds: dict[str, float] = {}
    started = _now(patches_NPP3.device)

    def note(psi: str) -> None:
        seconds.setdefault(psi, _now(patches_NPP3.device) - started)

    # A hook on each head sees when its block is done, without running the network once for each.
    hooks = [head.register_forward_hook(lambda *_, psi=psi: note(psi)) for psi, head in network.heads.items()]
    try:
        scores: ScoreMaps = network(to_network_input(patches_NPP3))
    finally:
        for hook in hooks:
            hook.remove()
    note(network.outputs[-1])  # the merged one has no head
    return seconds, scores


def _now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def _sums(scores: Tensor) -> Tensor:
    """Number of pixels, sum, and sum of squares of Tumor's score minus Normal's."""
    difference = (scores[:, 1] - scores[:, 0]).double()
    return torch.stack(
        [torch.tensor(float(difference.numel())), difference.sum().cpu(), difference.square().sum().cpu()]
    )


def _deviation(sums: Tensor) -> float:
    num, total, squares = sums.tolist()
    # Rounding can leave a little less than 0.
    return float(max(0.0, squares / num - (total / num) ** 2) ** 0.5)


def first_block_share(network: DeeplySupervisedUNet) -> float:
    """The multiply-accumulates of encoder and first block as a share of the whole network's."""
    # Counting needs shapes alone, and the meta device holds nothing else.
    plain = copy.deepcopy(network).to("meta").eval()
    x = torch.zeros(1, 3, PATCH_PX, PATCH_PX, device="meta")
    with FlopCounterMode(display=False) as counter:
        plain(x)
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    name = type(plain).__name__
    first = flops[f"{name}.encoder"] + flops[f"{name}.blocks.0"]
    return float(first / flops[name])
