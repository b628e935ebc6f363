"""What to say of a patch for which a network gave something else than probabilities."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from bccdist.configuration import CELL_PX, Psi
from bccdist.heatmaps.stitching import are_probabilities
from bccdist.networks.finite import first_overflow
from bccdist.networks.unet import DeeplySupervisedUNet

_Predictor = Callable[[Tensor], Mapping[Psi, Tensor]]


def unsound_patch(predictor: _Predictor, patches_NPP3: Tensor, places: Sequence[tuple[int, int]]) -> str:
    """Name the first unsound patch of a batch, and the layer in which it begins; the batch is computed again for it.

    Args:
        predictor: which gave it.
        patches_NPP3: uint8 RGB [n, p, p, 3].
        places: for each the (row, col) of the first cell that it keeps.
    """
    found = predictor(patches_NPP3)
    number, psi = _first_unsound(found, len(places))
    row, col = places[number]
    patch = patches_NPP3[number : number + 1]
    return (
        f"the patch at x {col * CELL_PX}, y {row * CELL_PX} px of the target frame has a {psi} that is infinite, no "
        f"number, or not within 0 to 1; {_layer(predictor, patch)}; no heatmap of this slide is written. Take another "
        "epoch, or train again"
    )


def _first_unsound(found: Mapping[Psi, Tensor], num: int) -> tuple[int, str]:
    for number in range(num):
        for psi, maps in found.items():
            if not are_probabilities([maps[number]]):
                return number, psi
    # Computed again it is sound: the arithmetic itself is not to be trusted, and the first one may stand for all.
    return 0, "score"


def _layer(predictor: _Predictor, patch: Tensor) -> str:
    network = getattr(predictor, "network", None)
    if not isinstance(network, DeeplySupervisedUNet):
        return "which layer it begins in is not known"
    layer = first_overflow(copy.deepcopy(network).to(patch.device), patch, largest=math.inf)
    return f"in float32 eager, it begins in layer {layer}" if layer else "in float32 eager, no layer shows it"
