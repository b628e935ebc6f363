"""The deeply supervised UNet in its four settings (paper, section 2.2 and eq. 1 and 2).

Shape suffixes: N patches, C channels, H and W pixels of the map at hand; the 2 classes are (Normal, Tumor).
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bccdist.configuration import NUM_BLOCKS, Psi, Setting, outputs_of, psi_name
from bccdist.errors import ConfigurationError
from bccdist.networks.encoders import PlainEncoder, ResNet34Encoder, conv_bn_relu
from bccdist.networks.timm_encoder import TimmEncoder

ScoreMaps = dict[Psi, Tensor]
"""For each output the scores [n, 2, h, w] before the softmax, coarsest first, the final one last."""
NUM_CLASSES = 2
_CHANNELS_LAST_MULTIPLE = 16
"""On the CPU, torch 2.13's backward pass of a strided 1x1 convolution over fewer channels than this corrupts the
heap when memory is channels_last; such narrow networks keep their channels first."""


class DecoderBlock(nn.Module):
    """Bilinear x2, the skip beside it, two 3x3 convolutions of equal width."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        """Build; `skip_channels` is 0 for a block without a skip, such as the last."""
        super().__init__()
        self.convs = nn.Sequential(
            conv_bn_relu(in_channels + skip_channels, out_channels), conv_bn_relu(out_channels, out_channels)
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """[n, in, h, w] to [n, out, 2h, 2w]."""
        x = upsample(x, (2 * x.shape[-2], 2 * x.shape[-1]))
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.convs(x)  # type: ignore[no-any-return]


class DeeplySupervisedUNet(nn.Module):
    """Encoder, decoder, and a score map after each block that the setting uses.

    Attributes:
        setting: one of the paper's four.
        width: filters of the first encoder block.
        encoder_name: timm's, of an encoder in place of the setting's own; empty for the paper's.
        is_frozen: whether the encoder is not trained: it gets no gradients and keeps its batch statistics.
        outputs: the names of what `forward` returns, the final one last.
        memory_format: the memory order in which the network is fast, and safe; it brings its input there by itself.
        merge_weights: eq. 2's w, one per block, coarsest first; only in `resnet34_linear`.
    """

    def __init__(self, setting: Setting, *, width: int = 64, merge_weight_std: float = 0.1, encoder: str = "") -> None:
        """Build with random weights: He's for convolutions, `merge_weight_std` for eq. 2's w.

        An `encoder` of timm has its own width and random weights; the setting then says which outputs there are.

        Raises:
            ConfigurationError: timm is not installed, or the encoder is none that fits.
        """
        super().__init__()
        self.setting = setting
        self.encoder_name = encoder
        self.is_frozen = False
        self.outputs = outputs_of(setting)
        self.encoder: PlainEncoder | ResNet34Encoder | TimmEncoder = _make_encoder(setting, width, encoder)
        self.width = next(channels for channels in self.encoder.channels if channels) if encoder else width
        *skips, deepest = self.encoder.channels
        # From coarse to fine: a block halves the channels, as each block of the encoder doubled them.
        widths = [deepest >> (block + 1) for block in range(NUM_BLOCKS)]
        self.blocks = nn.ModuleList(
            DecoderBlock(in_channels, skip, out_channels)
            for in_channels, skip, out_channels in zip([deepest, *widths], [*reversed(skips), 0], widths, strict=False)
        )
        self.heads = nn.ModuleDict(
            {
                psi_name(block): nn.Conv2d(channels, NUM_CLASSES, 1)
                for block, channels in enumerate(widths)
                if psi_name(block) in self.outputs
            }
        )
        if "merged" in self.outputs:
            self.merge_weights = nn.Parameter(torch.empty(NUM_BLOCKS))
        self._initialise(merge_weight_std)
        self.use_memory_format(channels_last=True)

    def use_memory_format(self, *, channels_last: bool) -> None:
        """Bring weights, and every input from now on, to this memory order; channels last only where it is safe."""
        is_safe = self.width % _CHANNELS_LAST_MULTIPLE == 0
        self.memory_format = torch.channels_last if channels_last and is_safe else torch.contiguous_format
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def _initialise(self, merge_weight_std: float) -> None:
        for module in (self.blocks if self.encoder_name else self).modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if "merged" in self.outputs:
            nn.init.normal_(self.merge_weights, std=merge_weight_std)

    def freeze_encoder(self) -> None:
        """Train the encoder no more, from now on."""
        self.is_frozen = True
        self.encoder.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> Self:
        """As torch has it; a frozen encoder stays in evaluation, so that its batch statistics do."""
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()
        return self

    def forward(self, x_N3HW: Tensor) -> ScoreMaps:
        """Score maps of a batch.

        Args:
            x_N3HW: float, normalised (`bccdist.networks.inputs`); sides are multiples of 32.

        Returns:
            psi_l at [n, 2, h / 2**(4 - l), w / 2**(4 - l)], merged at [n, 2, h, w].
        """
        *skips, x = self.encoder(x_N3HW.contiguous(memory_format=self.memory_format))
        scores: ScoreMaps = {}
        for block, (decode, skip) in enumerate(zip(self.blocks, [*reversed(skips), None], strict=True)):
            x = decode(x, skip)
            if (psi := psi_name(block)) in self.heads:
                scores[psi] = self.heads[psi](x)
        if "merged" in self.outputs:
            scores["merged"] = linear_merge(list(scores.values()), self.merge_weights)
        return scores


def _make_encoder(setting: Setting, width: int, name: str) -> PlainEncoder | ResNet34Encoder | TimmEncoder:
    if name and setting == "unet":
        raise ConfigurationError(
            f"encoder {name}: takes the place of ResNet34, which unet does not have; take resnet34, resnet34_ds or "
            "resnet34_linear"
        )
    if name:
        return TimmEncoder(name)
    return PlainEncoder(width) if setting == "unet" else ResNet34Encoder(width)


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, with half-pixel centres: [n, c, h, w] to [n, c, *size].

    Where the same bits are asked for each time, torch's own backward pass sorts one index per pixel on a GPU, and in a
    compiled network (torch 2.13, channels first) gives zeros; there matrices take its place.
    """
    needs_matrices = not x.is_cpu or torch.compiler.is_compiling()
    if needs_matrices and torch.are_deterministic_algorithms_enabled():
        return upsample_by_matrices(x, size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def upsample_by_matrices(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The same as two matrix products, one per direction; so is its gradient, whose sums have a fixed order."""
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last)
    rows, columns = (_bilinear_matrix(old, new, x) for old, new in zip((x.shape[-2], x.shape[-1]), size, strict=True))
    memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
    return (rows @ x @ columns.T).contiguous(memory_format=memory_format)


def _bilinear_matrix(old: int, new: int, like: Tensor) -> Tensor:
    """[new, old]: the weights of the old pixels in each new one along one direction."""
    centres = (torch.arange(new, device=like.device) + 0.5) * (old / new) - 0.5
    distances = centres.clamp(0, old - 1)[:, None] - torch.arange(old, device=like.device)
    return (1 - distances.abs()).clamp(min=0).to(like.dtype)


def linear_merge(scores: list[Tensor], weights: Tensor) -> Tensor:
    """Eq. 2 before its softmax: the weighted sum of all score maps, each brought to full size.

    Args:
        scores: score maps [n, 2, h_l, w_l], coarsest first.
        weights: [k].

    Returns:
        [n, 2, h, w] in the size of the last map.
    """
    size = (scores[-1].shape[-2], scores[-1].shape[-1])
    full = [upsample(score, size) for score in scores[:-1]]
    terms = [weight * score for weight, score in zip(weights, [*full, scores[-1]], strict=True)]
    return torch.stack(terms).sum(dim=0)


def tumor_probability(scores: Tensor) -> Tensor:
    """Softmax over (Normal, Tumor), of which Tumor: [n, 2, h, w] to [n, h, w]."""
    return torch.sigmoid(scores[:, 1] - scores[:, 0])


def num_parameters(module: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in module.parameters())
