"""Probes: a few drawn patches whose heatmap a machine computes to show that it still gives a measured way's numbers.

They are drawn and not a patient's, because they go wherever a model goes, and made of integers alone, so that they are
the same everywhere. What is compared is what a heatmap stores: a probability of each output in steps of 1 / 255.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bccdist.configuration import PATCH_PX
from bccdist.heatmaps.predict import Predictor
from bccdist.heatmaps.stitching import to_steps
from bccdist.speedups.machine import Machine, cpu_here, versions_here

NUM_PROBES = 4
_COLOURS = np.array(
    [(243, 240, 244), (232, 186, 214), (214, 140, 186), (150, 96, 160), (98, 62, 132), (66, 38, 104)], dtype=np.int64
)
"""Glass, stroma, dermis, epithelium, nests, nuclei: the colours of haematoxylin and eosin."""
_COARSE_PX, _FINE_PX = 64, 8
"""Distance of the points between which structures and nuclei are drawn."""


def machine_of(device: torch.device) -> Machine:
    """What computes on a device of this process."""
    if device.type != "cuda":
        return cpu_here(torch.get_num_threads())
    major, minor = torch.cuda.get_device_capability(device)
    return Machine(
        device_type="cuda",
        name=torch.cuda.get_device_name(device),
        instruction_set=f"compute capability {major}.{minor}",
        num_threads=torch.get_num_threads(),
        versions=versions_here(),
    )


def probe_sha256(predictor: Predictor, device: torch.device) -> str:
    """Names what a predictor's heatmap of the probes holds.

    Raises:
        NotFiniteError: the network gives a number that is none.
    """
    found = predictor(probe_patches().to(device))
    digest = hashlib.sha256()
    for psi in predictor.outputs:
        digest.update(psi.encode() + to_steps(found[psi].cpu()).numpy().tobytes())
    return digest.hexdigest()


def probe_patches() -> Tensor:
    """The probes: uint8 RGB [n, 512, 512, 3], the same on every machine."""
    return torch.from_numpy(np.stack([_probe(number) for number in range(NUM_PROBES)]))


def _probe(number: int) -> NDArray[np.uint8]:
    """Structures and nuclei of a patch as a height between 0 and 1279, which is a place between two colours."""
    coarse, fine = (_field(f"{number} {step_px}", step_px) for step_px in (_COARSE_PX, _FINE_PX))
    grain = _bytes(f"{number} grain", PATCH_PX * PATCH_PX).reshape(PATCH_PX, PATCH_PX) // 8
    height = np.minimum(4 * coarse + fine + grain, 256 * (len(_COLOURS) - 1) - 1)
    below, share = np.divmod(height[..., None], 256)
    low, high = _COLOURS[below[..., 0]], _COLOURS[below[..., 0] + 1]
    pixels = (low * (256 - share) + high * share) // 256
    return np.asarray(pixels, dtype=np.uint8)


def _field(name: str, step_px: int) -> NDArray[np.int64]:
    """Bytes drawn at points `step_px` apart and, between them, what lies between them: int64 [512, 512]."""
    num = PATCH_PX // step_px + 1
    points = _bytes(name, num * num).reshape(num, num)
    at, share = np.divmod(np.arange(PATCH_PX), step_px)
    rows = points[at] * (step_px - share)[:, None] + points[at + 1] * share[:, None]
    between = rows[:, at] * (step_px - share) + rows[:, at + 1] * share
    return np.asarray(between // step_px**2, dtype=np.int64)


def _bytes(name: str, num: int) -> NDArray[np.int64]:
    """Bytes that depend on the name alone; no version of NumPy draws others."""
    return np.frombuffer(hashlib.shake_128(name.encode()).digest(num), dtype=np.uint8).astype(np.int64)
