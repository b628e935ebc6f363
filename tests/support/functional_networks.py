"""The networks of section 2.2 written a second time, as plain functions of a flat dict of weights, to compare with.

The encoders' weights have torchvision's names ("conv1.weight", "layer2.0.downsample.1.bias"), or for the plain encoder
the library's without "encoder."; the decoder's are "decoder.<block>.conv1.weight", ... and "heads.psi_<block>.bias".
"""

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
RESNET18, RESNET34 = (2, 2, 2, 2), (3, 4, 6, 3)
"""Residual blocks of layer1 to layer4."""


def _conv_norm(state: State, conv: str, norm: str, x: Tensor, *, training: bool, stride: int = 1) -> Tensor:
    kernel = state[f"{conv}.weight"]
    x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
    mean, variance, factor, summand = (
        state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, variance, factor, summand, training=training)


def resnet_features(state: State, num_blocks: tuple[int, ...], x: Tensor, *, training: bool) -> list[Tensor]:
    """What a ResNet of these weights gives after its stem and each of its layers, finest first."""
    features = [_conv_norm(state, "conv1", "bn1", x, training=training, stride=2).relu()]
    x = F.max_pool2d(features[0], 3, stride=2, padding=1)
    for layer, num in enumerate(num_blocks, start=1):
        for block in range(num):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            out = _conv_norm(state, f"{name}.conv1", f"{name}.bn1", x, training=training, stride=stride).relu()
            out = _conv_norm(state, f"{name}.conv2", f"{name}.bn2", out, training=training)
            if stride == 2:
                down = f"{name}.downsample"
                x = _conv_norm(state, f"{down}.0", f"{down}.1", x, training=training, stride=2)
            x = (out + x).relu()
        features.append(x)
    return features


def plain_features(state: State, x: Tensor, *, training: bool) -> list[Tensor]:
    """What the plain encoder of these weights gives after its stem and each of its blocks, finest first."""
    features = [_conv_norm(state, "stem.0", "stem.1", x, training=training, stride=2).relu()]
    for block in range(4):
        x = features[-1]
        for conv, stride in enumerate((2, 1)):
            name = f"blocks.{block}.{conv}"
            x = _conv_norm(state, f"{name}.0", f"{name}.1", x, training=training, stride=stride).relu()
        features.append(x)
    return features


def decoder_scores(state: State, features: list[Tensor], *, training: bool) -> State:
    """The score maps of the heads that there are, coarsest first, from an encoder's features."""
    *skips, x = features
    scores = {}
    for block in range(5):
        x = bilinear(x, factor=2)
        if skips:
            x = torch.cat([x, skips.pop()], dim=1)
        for conv in (1, 2):
            name = f"decoder.{block}"
            x = _conv_norm(state, f"{name}.conv{conv}", f"{name}.bn{conv}", x, training=training).relu()
        head = f"heads.psi_{block}"
        if f"{head}.weight" in state:
            scores[f"psi_{block}"] = F.conv2d(x, state[f"{head}.weight"], state[f"{head}.bias"])
    return scores


def merged_scores(scores: list[Tensor], weights: Tensor) -> Tensor:
    """Eq. 2 before its softmax: sum_l w_l * up(psi-hat_l), coarsest first, all brought to the size of the last."""
    size = scores[-1].shape[-1]
    total = torch.zeros_like(scores[-1])
    for score, weight in zip(scores, weights, strict=True):
        total = total + weight * bilinear(score, factor=size // score.shape[-1])
    return total


def bilinear(x: Tensor, *, factor: int) -> Tensor:
    """Enlarged by a whole factor; pixels are areas, so their centres lie at halves (align_corners False)."""
    rows, columns = (_interpolation(size, factor).to(x) for size in x.shape[-2:])
    return rows @ x @ columns.T


def _interpolation(size: int, factor: int) -> Tensor:
    """[size * factor, size]: each new pixel's shares of the two old ones beside its centre."""
    centres = (torch.arange(size * factor, dtype=torch.float64) + 0.5) / factor - 0.5
    distances = centres.clamp(0, size - 1)[:, None] - torch.arange(size)
    return (1 - distances.abs()).clamp(min=0)
