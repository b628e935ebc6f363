"""Stands for timm, which is not installed here: networks of a few channels that behave as timm's do.

As there, an encoder's tensors have other names than the whole network's: `stages_0.conv.weight` for
`stages.0.conv.weight`; and some networks give channels last, or take patches of one size alone unless told otherwise.
"""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.5, 0.125)
"""Of networks whose name ends in `_half`; all others have ImageNet's."""


class _Stage(nn.Module):
    def __init__(self, fine: int, coarse: int, step: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(fine, coarse, step, stride=step, bias=False)
        self.bn_1 = nn.BatchNorm2d(coarse)
        self.drop = nn.Dropout(0.5)
        self.drop_path = _DropPath()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.drop_path(self.drop(self.bn_1(self.conv(x)).relu()))
        return found


class _DropPath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop_prob = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1, 1, 1) > self.drop_prob) if self.training and self.drop_prob else x


class _Features(nn.Module):
    """Feature maps, as `features_only` has them."""

    def __init__(self, channels: tuple[int, ...], reductions: tuple[int, ...], *, is_nhwc: bool, px: int) -> None:
        super().__init__()
        before = zip((3, *channels), channels, (1, *reductions), reductions, strict=False)
        for number, (fine, coarse, above, here) in enumerate(before):
            self.add_module(f"stages_{number}", _Stage(fine, coarse, here // above))
        self.feature_info = SimpleNamespace(channels=lambda: [*channels], reduction=lambda: [*reductions])
        self._is_nhwc, self._px = is_nhwc, px

    def forward(self, x: Tensor) -> list[Tensor]:
        if self._px and x.shape[-1] != self._px:
            raise AssertionError(f"Input height ({x.shape[-1]}) doesn't match model ({self._px}).\nMore lines.")
        found = []
        for stage in self.children():
            x = stage(x)
            found.append(x.permute(0, 2, 3, 1) if self._is_nhwc else x)
        return found


class _Whole(nn.Module):
    """The network with its classifier, as files of weights are of."""

    def __init__(self, features: _Features) -> None:
        super().__init__()
        self.stages = nn.Sequential(*features.children())
        self.head = nn.Linear(32, 5)


_NETWORKS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "small": ((4, 8, 8, 16, 32), (2, 4, 8, 16, 32)),
    "small_half": ((4, 8, 8, 16, 32), (2, 4, 8, 16, 32)),
    "small_from_4": ((8, 8, 16, 32), (4, 8, 16, 32)),
    "small_nhwc": ((8, 8, 16, 32), (4, 8, 16, 32)),
    "small_one_size": ((4, 8, 8, 16, 32), (2, 4, 8, 16, 32)),
    "small_one_size_always": ((4, 8, 8, 16, 32), (2, 4, 8, 16, 32)),
    "patch14": ((32, 32), (14, 14)),
    "gap": ((4, 8, 32), (2, 4, 32)),
    "to_16": ((4, 8, 16, 32), (2, 4, 8, 16)),
    "thin": ((4, 4, 4, 4, 8), (2, 4, 8, 16, 32)),
}


def create_model(name: str, *, pretrained: bool, features_only: bool = False, strict_img_size: bool = True) -> Any:
    """A network in random weights."""
    assert not pretrained, "nothing is to be downloaded"
    if name not in _NETWORKS:
        raise RuntimeError(f"Unknown model ({name})")
    px = 96 if "one_size" in name and (strict_img_size or "always" in name) else 0
    features = _Features(*_NETWORKS[name], is_nhwc=name == "small_nhwc", px=px)
    cfg: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    cfg |= {"mean": MEAN, "std": STD} if name.endswith("_half") else {}
    features.default_cfg = {**cfg, "fixed_input_size": name == "small_one_size"}  # type: ignore[assignment]
    return features if features_only else _Whole(features)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import timm` give this."""
    module = ModuleType("timm")
    module.create_model = create_model  # type: ignore[attr-defined]
    module.__version__ = "1.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)
