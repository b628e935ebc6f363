"""Numbers that are none: weights, features and scores that are infinite or NaN, found and named by their layer.

Some engines hide them: their ReLU is a maximum with 0, which makes 0 of NaN, and 0 looks like a sound score. So a
network is looked at before an engine gets it (`require_sound`), and what comes out is looked at patch by patch
(`bccdist.heatmaps.predict`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bccdist.errors import NotFiniteError, first_of
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet

_MOST_NAMED = 3
_USELESS = "nothing can be computed with these weights; take another epoch, or train again"
_PROBE_PX = 64
_LARGEST_SUM = 1e30
"""The most that sums may reach with the probe's features. Float32 ends at 3e38: tissue's may be 1e8 times as large."""


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Which of these tensors hold an infinite number or NaN, in words; empty where none does."""
    names = [name for name, each in tensors.items() if each.is_floating_point() and not _is_finite(each)]
    if not names:
        return ""
    return f"layer {first_of(names, _MOST_NAMED)} holds a number that is not finite"


def _is_finite(tensor: Tensor) -> bool:
    # The smallest and the largest say it of all, NaN wins in both; a mask of each number would take more time.
    return not tensor.numel() or bool(torch.stack([tensor.amin(), tensor.amax()]).isfinite().all())


def require_sound(module: nn.Module) -> None:
    """Refuse a module whose numbers are not finite, or may not stay so on the way through a network.

    A patch of noise goes through float32 eager, in which nothing is hidden. At each layer the largest feature, times
    what the layer can make of it, has to stay far below where float32 ends.

    Args:
        module: in evaluation mode; one of `bccdist.networks.inference` is probed, any other one has its numbers looked
            at alone.

    Raises:
        NotFiniteError: with the layer.
    """
    if faults := not_finite(module.state_dict()):
        raise NotFiniteError(f"{faults}: {_USELESS}")
    network = getattr(module, "network", None)
    if isinstance(network, DeeplySupervisedUNet):
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(0, 256, (1, _PROBE_PX, _PROBE_PX, 3), generator=generator, dtype=torch.uint8)
        if layer := first_overflow(network, noise.to(next(network.parameters()).device), largest=_LARGEST_SUM):
            raise NotFiniteError(
                f"layer {layer}: what it computes is not finite, or may not be, though its weights are: {_USELESS}"
            )


def first_overflow(network: DeeplySupervisedUNet, patches_NPP3: Tensor, *, largest: float) -> str:
    """The first layer, in float32 eager, that gives or can give numbers above `largest`; empty where none does.

    Args:
        network: in evaluation mode; not changed.
        patches_NPP3: uint8 RGB [n, p, p, 3] on the network's device.
        largest: what a sum may reach; with infinity only what is not finite counts.
    """
    found: list[str] = []
    with _watching(network, found, largest), torch.inference_mode():
        scores = network(to_network_input(patches_NPP3))
    merged = [psi for psi, score in scores.items() if not _is_finite(score)]
    return next(iter([*found, *merged]), "")


@contextmanager
def _watching(network: nn.Module, found: list[str], largest: float) -> Iterator[None]:
    """Note the names of layers of convolution and normalisation that give, or can give, too large numbers."""
    layers = {name: each for name, each in network.named_modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d)}

    def look(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        reach = float(inputs[0].abs().amax()) * _gain(layer)
        if not _is_finite(output) or not reach <= largest:
            found.append(name)

    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output, name=name: look(name, layer, inputs, output))
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _gain(layer: nn.Module) -> float:
    """The most by which a layer can make its largest input larger."""
    if isinstance(layer, nn.BatchNorm2d):
        assert layer.running_var is not None  # noqa: S101 - for the type checker; ours keep statistics
        return float((layer.weight.double().abs() / (layer.running_var.double() + layer.eps).sqrt()).amax())
    return float(layer.weight.abs().sum(dim=(1, 2, 3), dtype=torch.float64).amax())  # type: ignore[operator]
