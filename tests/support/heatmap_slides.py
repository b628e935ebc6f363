"""Small lossless slides and networks whose heatmaps are known, for the tests of the heatmap stage."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bccdist.configuration import Psi, outputs_of, pixel_px
from bccdist.networks.inputs import MEAN_RGB, STD_RGB, to_network_input
from bccdist.networks.unet import tumor_probability

MPP = 0.92
TILE_PX = 256
COARSE = 8
ALL_PSIS = outputs_of("resnet34_ds")


def grey_picture(width_px: int, height_px: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth grey values from 40 to 220: uint8 [h, w]."""
    noise = np.random.default_rng(seed).random((height_px // 64 + 2, width_px // 64 + 2)).astype(np.float32)
    smooth = cv2.resize(noise, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return (40 + smooth * 180).astype(np.uint8)


def pink_picture(width_px: int, height_px: int, *, islands: Sequence[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    """Pink islands (x, y, width, height) on white glass: uint8 RGB [h, w, 3]."""
    picture = np.full((height_px, width_px, 3), 245, dtype=np.uint8)
    for x, y, width, height in islands:
        picture[y : y + height, x : x + width] = (200, 120, 170)
    return picture


def write_slide(path: Path, picture: NDArray[np.uint8], *, shown: NDArray[np.uint8] | None = None) -> Path:
    """A tiled TIFF at the target resolution, with a level of it, or of what is `shown`, eight times coarser."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = picture if shown is None else shown
    coarse = cv2.resize(shown, None, fx=1 / COARSE, fy=1 / COARSE, interpolation=cv2.INTER_AREA)
    with tifffile.TiffWriter(path) as tiff:
        for downsample, image in ((1, picture), (COARSE, coarse)):
            tiff.write(
                image,
                tile=(TILE_PX, TILE_PX),
                compression="deflate",
                photometric="rgb",
                subfiletype=int(downsample > 1),
                resolution=(1e4 / (MPP * downsample),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


def damage_tile(path: Path, number: int) -> None:
    """Overwrite the data of one tile of the fine level, counted in reading order."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, length = page.dataoffsets[number], page.databytecounts[number]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * length)


class ConstantNetwork(nn.Module):
    """Gives every pixel the same Tumor probability, and counts its calls."""

    def __init__(self, probability: float, outputs: Sequence[Psi] = ALL_PSIS) -> None:
        """Build with the probability of every pixel."""
        super().__init__()
        self.outputs = tuple(outputs)
        self.encoder_name = ""
        self.num_calls = 0
        self._probability = probability

    def forward(self, x_N3HW: Tensor) -> dict[Psi, Tensor]:
        self.num_calls += 1
        return {psi: _scores(F.avg_pool2d(self._tumor(x_N3HW), pixel_px(psi))) for psi in self.outputs}

    def _tumor(self, x_N3HW: Tensor) -> Tensor:
        return torch.full_like(x_N3HW[:, :1], self._probability)


class BrightnessNetwork(ConstantNetwork):
    """Gives every pixel its own brightness as Tumor probability."""

    def __init__(self, outputs: Sequence[Psi] = ALL_PSIS) -> None:
        """Build; there is nothing to choose."""
        super().__init__(0.5, outputs)

    def _tumor(self, x_N3HW: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN_RGB, STD_RGB))
        return (x_N3HW * std + mean).mean(dim=1, keepdim=True)


class PlainPredictor:
    """A network as it is, as `predict_rows` wants it."""

    def __init__(self, network: nn.Module, outputs: Sequence[Psi] | None = None) -> None:
        """Keep the outputs named, or all that the network has."""
        self.outputs: tuple[Psi, ...] = tuple(outputs or network.outputs)  # type: ignore[arg-type]
        self._network = network

    def __call__(self, patches_NPP3: Tensor) -> dict[Psi, Tensor]:
        scores = self._network(to_network_input(patches_NPP3))
        return {psi: tumor_probability(scores[psi]).float() for psi in self.outputs}


def _scores(tumor_N1HW: Tensor) -> Tensor:
    logit = torch.logit(tumor_N1HW, eps=1e-6)
    return torch.cat([torch.zeros_like(logit), logit], dim=1)
