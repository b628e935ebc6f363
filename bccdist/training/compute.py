"""The arithmetic in which a network is trained: precision, memory order, compilation, kernels.

None of it changes the method. What a run chose is said when it starts, and how far that is from float32 eager is
measured on its first patches.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bccdist.configuration import ComputeConfig, Switch, TrainConfig, TrainPrecision
from bccdist.errors import ConfigurationError
from bccdist.machine import cannot_compile, cannot_compute_in, gpu_has_bf16
from bccdist.networks.arithmetic import compiling, torch_settings
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.training.losses import losses

_CUBLAS_WORKSPACE = ":4096:8"
"""One of the two sizes of its workspace with which cuBLAS gives the same bits each time."""
_EXACT = {"matmul_precision": "highest", "cudnn_precision": "ieee"}
_ROUNDED = {"matmul_precision": "high", "cudnn_precision": "tf32"}


@dataclass(frozen=True, kw_only=True)
class Compute:
    """The arithmetic of one run, nothing left to `auto`."""

    device: torch.device
    """Where the network is."""
    precision: TrainPrecision
    channels_last: bool
    """Whether channels come last in memory, wherever the network's width allows it."""
    compile: bool
    fused_adam: bool
    sync_batch_norm: bool
    deterministic: bool
    eager_because: str | None = None
    """Why `auto` did not compile on a GPU."""

    def __str__(self) -> str:
        """One phrase for the opening line and the record of the environment."""
        because = f" ({self.eager_because})" if self.eager_because else ""
        return " ".join(
            (
                self.precision,
                "compiled" if self.compile else f"eager{because}",
                "channels-last" if self.channels_last else "channels-first",
                "fused Adam" if self.fused_adam else "Adam",
                *(["SyncBN"] if self.sync_batch_norm else []),
                "deterministic" if self.deterministic else "not deterministic",
            )
        )

    def is_plain_for(self, network: DeeplySupervisedUNet) -> bool:
        """Whether losses and gradients are float32 eager's with channels first, to which the others are compared."""
        is_channels_last = network.memory_format == torch.channels_last
        return self.precision == "float32" and not is_channels_last and not self.compile


def resolve_compute(config: ComputeConfig, device: torch.device, *, world_size: int) -> Compute:
    """The arithmetic that a configuration means on this device.

    Raises:
        ConfigurationError: the device or the machine cannot do what is asked for.
    """
    if config.sync_batch_norm and device.type != "cuda":
        raise ConfigurationError(
            f"compute.sync_batch_norm is True, but the network is on {device.type} and torch's SyncBatchNorm works on "
            "GPUs only; set it to False, or train on GPUs"
        )
    lack = cannot_compile(device)
    if config.compile == "on" and lack:
        raise ConfigurationError(f"compute.compile is 'on', but {lack}; install it, or set it to 'off'")
    sync_batch_norm = config.sync_batch_norm and world_size > 1
    if config.compile == "auto" and sync_batch_norm:
        # Each of its layers asks the other ranks, which no compiled graph holds: hundreds of scraps would be compiled.
        lack = "SyncBN is not compiled"
    wants_to_compile = _is_on(config.compile, device)
    return Compute(
        device=device,
        precision=_resolve_precision(config, device),
        channels_last=_is_on(config.channels_last, device),
        compile=wants_to_compile and not lack,
        fused_adam=config.fused_adam,
        sync_batch_norm=sync_batch_norm,
        deterministic=config.deterministic,
        eager_because=lack if wants_to_compile else None,
    )


def _is_on(switch: Switch, device: torch.device) -> bool:
    return switch == "on" or (switch == "auto" and device.type == "cuda")


def _resolve_precision(config: ComputeConfig, device: torch.device) -> TrainPrecision:
    if config.precision == "auto":
        return "bf16" if device.type == "cuda" and gpu_has_bf16() else "float32"
    if reason := cannot_compute_in(config.precision, device):
        raise ConfigurationError(
            f"compute.precision is {config.precision!r}, but {reason}; set it to 'auto' or 'float32'"
        )
    return config.precision


@contextmanager
def kernels(compute: Compute) -> Iterator[None]:
    """Choose torch's kernels for a run; afterwards its settings are what they were.

    Settings of the process are all that torch offers for this. The same bits each time need cuBLAS's workspace too,
    which is read when the first of its handles is made: enter this before anything is computed on the GPU.
    """
    if compute.deterministic and compute.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _CUBLAS_WORKSPACE)
    with torch_settings(
        deterministic=(compute.deterministic, False),
        # Nothing here reads memory before it is written, and filling it takes time.
        fill_uninitialized_memory=False,
        # Trying out which kernel is fastest can choose another one when a run goes on.
        cudnn_benchmark=not compute.deterministic,
        **(_EXACT if compute.precision == "float32" else _ROUNDED),
    ):
        yield


def prepare_network(network: DeeplySupervisedUNet, compute: Compute) -> DeeplySupervisedUNet:
    """Bring a network, where it will be trained, into the memory order and with the batch statistics of a run.

    Names and values in its state stay. Wrap what is returned in DDP, then call `compile_parallel`.
    """
    network.use_memory_format(channels_last=compute.channels_last)
    if not compute.sync_batch_norm:
        return network
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return cast("DeeplySupervisedUNet", converted)


def compile_parallel(parallel: nn.Module, compute: Compute) -> None:
    """Compile the network in place, within DDP where it is wrapped.

    DDP itself stays as it is: torch recommends to compile what is in it, and splits that where gradients are sent.
    """
    if not compute.compile:
        return
    network = parallel.module if isinstance(parallel, DistributedDataParallel) else parallel
    with compiling():
        network.compile(dynamic=False)


def autocast(compute: Compute) -> torch.autocast:
    """The context of a forward pass; weights and losses are float32 with any precision."""
    return torch.autocast(compute.device.type, dtype=torch.bfloat16, enabled=compute.precision == "bf16")


def make_optimizer(network: nn.Module, learning_rate: float, compute: Compute) -> torch.optim.Adam:
    """Adam over all weights of a network that are trained (paper, section 2.3)."""
    trained = [each for each in network.parameters() if each.requires_grad]
    return torch.optim.Adam(trained, lr=learning_rate, fused=compute.fused_adam)


def difference_to_float32_eager(
    network: DeeplySupervisedUNet, images: Tensor, masks: Tensor, *, compute: Compute, config: TrainConfig
) -> dict[str, float]:
    """How far the losses and the gradient of one batch are from those of float32, eager, channels first.

    Copies of the network are used, with the batch statistics of these patches alone: weights, gradients and running
    statistics stay as they are, and other ranks need not take part.

    Args:
        network: the network, on the device of the patches.
        images: RGB, uint8 [n, h, w, 3].
        masks: 1 where Tumornest, uint8 [n, h, w].
        compute: the arithmetic of the run, in whose `kernels` this is called.
        config: the run's, for its loss.

    Returns:
        For each supervised output |loss - loss in float32 eager| over the latter; for `gradient` the norm of the
        difference over all weights, over the norm of the gradient in float32 eager.
    """
    plain = replace(compute, precision="float32", channels_last=False, compile=False)
    with torch_settings(**_EXACT):
        plain_losses, plain_gradient = _losses_and_gradient(network, images, masks, compute=plain, config=config)
    our_losses, our_gradient = _losses_and_gradient(network, images, masks, compute=compute, config=config)
    differences = {psi: abs(our_losses[psi] - loss) / abs(loss) for psi, loss in plain_losses.items()}
    return {**differences, "gradient": _norm_of_difference(our_gradient, plain_gradient)}


def _losses_and_gradient(
    network: DeeplySupervisedUNet, images: Tensor, masks: Tensor, *, compute: Compute, config: TrainConfig
) -> tuple[dict[str, float], list[Tensor]]:
    copy = _copy(network, compute)
    with autocast(compute):
        scores = copy(to_network_input(images))
    found = losses(network.setting, scores, masks, gamma=config.focal_gamma, method=config.mask_downsampling)
    trained = [each for each in copy.parameters() if each.requires_grad]
    gradient = torch.autograd.grad(torch.stack(list(found.values())).sum(), trained)
    return {psi: loss.item() for psi, loss in found.items()}, list(gradient)


def _copy(network: DeeplySupervisedUNet, compute: Compute) -> DeeplySupervisedUNet:
    """The same weights in a network of its own, with plain batch normalisation; draws no random numbers."""
    # timm's networks hold more than their state says, so they are made where there is memory.
    with torch.device("cpu" if network.encoder_name else "meta"), torch.random.fork_rng(devices=[]):
        copy = DeeplySupervisedUNet(network.setting, width=network.width, encoder=network.encoder_name)
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    copy.load_state_dict(state, assign=True)
    copy.to(compute.device).requires_grad_().train()
    if network.is_frozen:
        copy.freeze_encoder()
    copy = prepare_network(copy, replace(compute, sync_batch_norm=False))
    compile_parallel(copy, compute)
    return copy


def _norm_of_difference(chosen: list[Tensor], plain: list[Tensor]) -> float:
    """The norm of the difference, over the norm of `plain`."""
    differences = [ours - theirs for ours, theirs in zip(chosen, plain, strict=True)]
    return (nn.utils.get_total_norm(differences) / nn.utils.get_total_norm(plain)).item()
