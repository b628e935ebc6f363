"""Any encoder of timm that halves the resolution step by step, in place of ResNet34; timm is an extra of its own.

Weights are a file of the user's, or chance (`bccdist.networks.pretrained`); timm is never asked to download any.
"""

import importlib
import re
from typing import Any

import torch
from torch import Tensor, nn

from bccdist.errors import ConfigurationError
from bccdist.installed import lack_for_timm
from bccdist.networks.inputs import MEAN_RGB, STD_RGB

REDUCTIONS = (2, 4, 8, 16, 32)
"""By how much each block of the decoder's encoder has reduced the resolution (paper, section 2.2.1)."""
_PROBE_PX = 64


class TimmEncoder(nn.Module):
    """A network of timm up to its last feature map, as an encoder of the UNet.

    Attributes:
        name: timm's.
        channels: of the five feature maps, finest first; 0 for the finest where there is none at half the resolution.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, name: str) -> None:
        """Build with timm's own random weights.

        Raises:
            ConfigurationError: timm is not installed or knows no such network, or its feature maps do not suit.
        """
        super().__init__()
        self.name = name
        self.features = _create(name, features_only=True)
        reductions = tuple(self.features.feature_info.reduction())
        if reductions not in (REDUCTIONS, REDUCTIONS[1:]):
            raise ConfigurationError(
                f"encoder {name}: its feature maps have reductions {reductions}, expected {REDUCTIONS}, or the same "
                "without 2; take a network with stages such as convnext_tiny"
            )
        if _pretrained_cfg(self.features).get("fixed_input_size"):
            self.features = _create(name, features_only=True, strict_img_size=False)
        _leave_nothing_out(self.features)
        channels = tuple(self.features.feature_info.channels())
        self.channels = (*(0,) * (len(REDUCTIONS) - len(channels)), *channels)
        if self.channels[-1] < 1 << len(REDUCTIONS):
            raise ConfigurationError(
                f"encoder {name}: its last feature map has {self.channels[-1]} channels, expected at least "
                f"{1 << len(REDUCTIONS)}, which the five blocks of the decoder halve"
            )
        self._is_nhwc = self._probed(reductions)
        # Part of the weights, so that another version of timm shows the network the colours that it knows.
        scale, offset = _from_our_normalisation(self.features)
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)

    def forward(self, x_N3HW: Tensor) -> list[Tensor | None]:
        """Five feature maps [n, c, h, w], finest first; None in place of one that the network does not have."""
        found = self.features(x_N3HW * self.scale + self.offset)
        maps = [each.permute(0, 3, 1, 2).contiguous() if self._is_nhwc else each for each in found]
        return [*[None] * (len(REDUCTIONS) - len(maps)), *maps]

    def _probed(self, reductions: tuple[int, ...]) -> bool:
        """Whether channels come last in what the network gives; a small patch goes through it.

        Raises:
            ConfigurationError: it takes no such patch, or gives maps of other sizes than it says.
        """
        expected = [
            (channels, _PROBE_PX // by, _PROBE_PX // by)
            for channels, by in zip(self.channels[-len(reductions) :], reductions, strict=True)
        ]
        was_training = self.features.training
        try:
            with torch.no_grad():
                found = [
                    tuple(each.shape[1:]) for each in self.features.eval()(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX))
                ]
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"encoder {self.name}: takes no patch of {_PROBE_PX} px ({_line(error)}); take a network that takes "
                "patches of any size, such as convnext_tiny"
            ) from error
        self.features.train(was_training)
        nhwc = [(*size, channels) for channels, *size in expected]
        if found not in (expected, nhwc):
            raise ConfigurationError(
                f"encoder {self.name}: gives maps of {found} for {_PROBE_PX} px, expected {expected}; take another "
                "network, such as convnext_tiny"
            )
        return found == nhwc and found != expected


def make_full_network(name: str) -> nn.Module:
    """The whole network, with the classifier and all else that an encoder leaves out, in random weights.

    Raises:
        ConfigurationError: timm is not installed or knows no such network.
    """
    network: nn.Module = _create(name)
    return network


def plain_name(tensor_name: str) -> str:
    """A tensor's name, whichever way timm nests it: `stages.0.blocks.0` and `stages_0.blocks.0` are the same."""
    return re.sub(r"[._]", ".", tensor_name.removeprefix("model."))


def _leave_nothing_out(module: nn.Module) -> None:
    """Layers that drop at random in training do so no more: augmentation alone is random, by its own streams."""
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):  # noqa: SLF001
            part.p = 0.0
        elif hasattr(part, "drop_prob"):
            part.drop_prob = 0.0  # type: ignore[assignment]


def _create(name: str, **how: Any) -> Any:
    if lack := lack_for_timm():
        raise ConfigurationError(f"encoder {name}: {lack}")
    timm = importlib.import_module("timm")
    try:
        return timm.create_model(name, pretrained=False, **how)
    # Each of timm's networks refuses in its own way.
    except Exception as error:
        raise ConfigurationError(
            f"encoder {name}: timm {getattr(timm, '__version__', '')} makes no such network with feature maps "
            f"({type(error).__name__}: {_line(error)}); `timm.list_models()` names those that there are"
        ) from error


def _pretrained_cfg(features: nn.Module) -> dict[str, Any]:
    return getattr(features, "pretrained_cfg", None) or getattr(features, "default_cfg", None) or {}


def _from_our_normalisation(features: nn.Module) -> tuple[Tensor, Tensor]:
    """Factor and summand, [1, 3, 1, 1] each, from pixels as we normalise them to what the encoder was trained on."""
    cfg = _pretrained_cfg(features)
    mean, std = (torch.tensor(cfg.get(key, ours)).double() for key, ours in (("mean", MEAN_RGB), ("std", STD_RGB)))
    our_mean, our_std = (torch.tensor(ours).double() for ours in (MEAN_RGB, STD_RGB))
    return tuple(each.float().view(1, 3, 1, 1) for each in (our_std / std, (our_mean - mean) / std))  # type: ignore[return-value]


def _line(error: Exception) -> str:
    """The first line of a message, so that a long one of another library stays one."""
    return next(iter(str(error).strip().splitlines()), "")[:200]
