"""What is computed for a heatmap, from stored pixels to probabilities: the whole network, or its two parts.

Tensors go in and come out as tuples, so that any engine can run them (`bccdist.networks.engines`). Shape suffixes:
N patches, P pixels along a patch's edge, C channels, H and W pixels of the map at hand, 3 colours.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from bccdist.configuration import pixel_px, psi_name
from bccdist.errors import ConfigurationError
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet, linear_merge, tumor_probability

_CORNER_PX = 64
"""Edge of the part of a patch that converters follow through a network."""


class WholeNetwork(nn.Module):
    """Stored pixels to the Tumor probability of every output."""

    def __init__(self, network: DeeplySupervisedUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches_NPP3: Tensor) -> tuple[Tensor, ...]:
        """The probability of each output, float32 [n, p / pixel_px, p / pixel_px], from uint8 RGB."""
        scores = self.network(_input(patches_NPP3, self.network))
        return tuple(tumor_probability(scores[psi].float()) for psi in self.network.outputs)


class FirstBlock(nn.Module):
    """Stored pixels to psi_0, by the encoder and the first decoder block (paper, section 3.1)."""

    def __init__(self, network: DeeplySupervisedUNet, *, with_features: bool) -> None:
        """Share the network's weights.

        Args:
            network: in evaluation mode.
            with_features: whether it gives what the later blocks need, too.

        Raises:
            ConfigurationError: the network's setting has no psi_0.
        """
        super().__init__()
        _require_first_head(network)
        self.network = network
        self.with_features = with_features

    def forward(self, patches_NPP3: Tensor) -> tuple[Tensor, ...]:
        """The probability of psi_0; then the first block's features, psi_0's scores and the skips that are left."""
        x_N3PP = _input(patches_NPP3, self.network).contiguous(memory_format=self.network.memory_format)
        *skips, deepest = self.network.encoder(x_N3PP)
        x_NCHW = self.network.blocks[0](deepest, skips[-1])
        scores = self.network.heads["psi_0"](x_NCHW)
        probability = tumor_probability(scores.float())
        return (probability, x_NCHW, scores, *_present(skips[:-1])) if self.with_features else (probability,)


class LaterBlocks(nn.Module):
    """What `FirstBlock` left, to the network's final output."""

    def __init__(self, network: DeeplySupervisedUNet) -> None:
        """Share the network's weights.

        Raises:
            ConfigurationError: the network's setting has no psi_0.
        """
        super().__init__()
        _require_first_head(network)
        self.network = network

    def forward(self, x_NCHW: Tensor, psi_0: Tensor, *skips: Tensor) -> tuple[Tensor]:
        """The final output's Tumor probability, float32 [n, p, p]."""
        network = self.network
        merges = "merged" in network.outputs
        scores = [psi_0]
        blocks = list(network.blocks)[1:]
        without = [None] * (len(blocks) - len(skips))
        for block, (decode, skip) in enumerate(zip(blocks, [*reversed(skips), *without], strict=True), start=1):
            x_NCHW = decode(x_NCHW, skip)
            # Where nothing is merged, the heads between are not needed.
            if merges or block == len(blocks):
                scores.append(network.heads[psi_name(block)](x_NCHW))
        final = linear_merge(scores, network.merge_weights) if merges else scores[-1]
        return (tumor_probability(final.float()),)


def _present(skips: Sequence[Tensor | None]) -> list[Tensor]:
    """Those that there are: an encoder may have none at half the resolution."""
    return [skip for skip in skips if skip is not None]


def is_patch(shape: Sequence[int]) -> bool:
    """Whether an input is a patch, which ends in its colours; features have channels before their sides."""
    return shape[-1] == 3


def corner(inputs: Sequence[Tensor]) -> list[Tensor]:
    """A corner of one patch, or of its features: 64 px are traced in a fraction of the time, and give the same."""
    first = inputs[0]
    if is_patch(first.shape):
        return [first[:1, :_CORNER_PX, :_CORNER_PX]]
    # The first of the features is the first decoder block's, whose pixel is 16 px wide.
    parts = first.shape[-1] * pixel_px("psi_0") // _CORNER_PX
    return [each[:1, :, : each.shape[-2] // parts, : each.shape[-1] // parts] for each in inputs]


def _input(patches_NPP3: Tensor, network: DeeplySupervisedUNet) -> Tensor:
    """Normalised, in the precision of the network's weights."""
    return to_network_input(patches_NPP3).to(next(network.parameters()).dtype)


def _require_first_head(network: DeeplySupervisedUNet) -> None:
    if "psi_0" not in network.outputs:
        raise ConfigurationError(
            f"{network.setting} has no psi_0, its loss reached the last block alone; take resnet34_ds or "
            "resnet34_linear"
        )
