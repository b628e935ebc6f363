"""The changes of `augmentation` for a batch of patches, where the network is (paper, section 2.3).

The random numbers are drawn on the CPU, as for one patch; here they are only applied. Nothing waits for the device,
so the next batch is changed while the last one is computed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bccdist.training.augmentation import Augmentation

_LEAST_SIGMA_PX = 0.1
"""A Gaussian of this width leaves an image as it is: its neighbours weigh exp(-50)."""


class Changes(NamedTuple):
    """The changes to n patches, float32; the fields are those of `Augmentation`."""

    angle_rad: Tensor
    """[n]."""
    scale: Tensor
    """[n]."""
    elastic_px: Tensor
    """[n, g, g, 2]."""
    density_matrix: Tensor
    """[n, 3, 4]."""
    blur_sigma_px: Tensor
    """[n]."""

    @staticmethod
    def stack(changes: Sequence[Augmentation]) -> "Changes":
        """The changes to one or more patches, in their order."""
        return Changes(
            angle_rad=torch.tensor([change.angle_rad for change in changes], dtype=torch.float32),
            scale=torch.tensor([change.scale for change in changes], dtype=torch.float32),
            elastic_px=torch.stack([torch.from_numpy(change.elastic_px) for change in changes]),
            density_matrix=torch.stack([torch.from_numpy(change.density_matrix) for change in changes]),
            blur_sigma_px=torch.tensor([change.blur_sigma_px for change in changes], dtype=torch.float32),
        )

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Changes":
        """The same changes on another device."""
        return Changes(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))

    def pin_memory(self) -> "Changes":
        """The same changes in memory from which a GPU copies while it computes."""
        return Changes(*(tensor.pin_memory() for tensor in self))


def augment_batch(
    images: Tensor, masks: Tensor, changes: Changes, *, max_blur_sigma_px: float
) -> tuple[Tensor, Tensor]:
    """Changed patches, on the device of the tensors.

    Between warp, stain and blur nothing is rounded, so images differ a little from those of `augment`.

    Args:
        images: uint8 RGB [n, h, w, 3].
        masks: uint8 [n, h, w]; their values stay as they are, only moved.
        changes: what to do; to patch i what stands at i.
        max_blur_sigma_px: no patch is blurred with more; it sets the width of the filter for all of them.

    Returns:
        Images and masks of the same shapes. Outside a patch its mirror image is seen.
    """
    num, height, width = masks.shape
    grid = _sampling_grid(changes, height=height, width=width)
    warped = _warp(images.permute(0, 3, 1, 2).float(), grid, "bilinear")
    stained = _stain(warped, changes.density_matrix)
    blurred = _blur(stained, changes.blur_sigma_px, max_sigma_px=max_blur_sigma_px)
    moved = _warp(masks.view(num, 1, height, width).float(), grid, "nearest")
    return blurred.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous(), moved[:, 0].to(torch.uint8)


def _sampling_grid(changes: Changes, *, height: int, width: int) -> Tensor:
    """Where each pixel of the results comes from, [n, h, w, 2].

    As `grid_sample` wants it: (x, y) from -1, the centre of the first pixel, to 1, the centre of the last.
    """
    device = changes.scale.device
    cos = (torch.cos(changes.angle_rad) / changes.scale)[:, None, None]
    sin = (torch.sin(changes.angle_rad) / changes.scale)[:, None, None]
    half_x, half_y = (width - 1) / 2, (height - 1) / 2
    x = torch.arange(width, device=device, dtype=torch.float32)[None, None, :] - half_x
    y = torch.arange(height, device=device, dtype=torch.float32)[None, :, None] - half_y
    nodes = changes.elastic_px.permute(0, 3, 1, 2).contiguous()
    field = F.interpolate(nodes, (height, width), mode="bicubic")
    return torch.stack(
        [(field[:, 0] + cos * x + sin * y) / half_x, (field[:, 1] + cos * y - sin * x) / half_y], dim=-1
    )


def _warp(batch: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(batch, grid, mode=mode, padding_mode="reflection", align_corners=True)


def _stain(images: Tensor, density_matrix: Tensor) -> Tensor:
    """Float [n, 3, h, w], 0 to 255, as the matrix maps optical densities."""
    log_light = torch.log((images + 1) / 256).flatten(2)  # minus the optical density
    mixed = torch.baddbmm(-density_matrix[..., 3:], density_matrix[..., :3], log_light).view_as(images)
    return mixed.exp_().mul_(256).sub_(1).clamp_(0, 255)


def _blur(images: Tensor, sigma_px: Tensor, *, max_sigma_px: float) -> Tensor:
    """Each image with a Gaussian of its own, along x, then along y."""
    num, channels, height, width = images.shape
    radius = _blur_radius_px(max_sigma_px)
    kernels = _kernels(sigma_px, radius).repeat_interleave(channels, dim=0)
    padded = F.pad(images, (radius,) * 4, mode="reflect").view(1, num * channels, height + 2 * radius, -1)
    along_x = F.conv2d(padded, kernels[:, None, None, :], groups=num * channels)
    return F.conv2d(along_x, kernels[:, None, :, None], groups=num * channels).view(num, channels, height, width)


def _blur_radius_px(sigma_px: float) -> int:
    """Three sigma, rounded as cv2 does for uint8."""
    return (round(6 * sigma_px + 1) | 1) // 2


def _kernels(sigma_px: Tensor, radius_px: int) -> Tensor:
    """Gaussian weights of sum 1, [n, 2 * radius + 1]."""
    steps = torch.arange(-radius_px, radius_px + 1, device=sigma_px.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (steps / sigma_px.clamp(min=_LEAST_SIGMA_PX)[:, None]) ** 2)
    return weights / weights.sum(dim=1, keepdim=True)
