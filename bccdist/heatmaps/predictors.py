"""Networks as heatmaps need them: whole, the first decoder block alone, or a cascade of the two parts.

Shape suffixes: N patches, P pixels along a patch's edge, 3 colours.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bccdist.configuration import Psi, Setting, pixel_px
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import Predictor
from bccdist.networks.engines import Runner, make_runner
from bccdist.networks.inference import FirstBlock, LaterBlocks, WholeNetwork
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import load_network


class RunnerPredictor:
    """A runner whose outputs have names.

    Attributes:
        network: what it runs, for those who look for a fault.
    """

    def __init__(self, runner: Runner, outputs: tuple[Psi, ...], network: DeeplySupervisedUNet | None = None) -> None:
        self.outputs = outputs
        self.network = network
        self._runner = runner

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        """The Tumor probability of each output."""
        return dict(zip(self.outputs, self._runner(patches_NPP3), strict=True))


class EarlyPredictor:
    """The first decoder block alone, whose output stands for the final one, too, each of its pixels repeated.

    Attributes:
        network: what it runs, for those who look for a fault.
    """

    def __init__(self, first: Predictor, *, final: Psi) -> None:
        """Take what gives psi_0, and the final output's name."""
        self.network = getattr(first, "network", None)
        self.outputs: tuple[Psi, ...] = ("psi_0", final)
        self._first = first

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        """The Tumor probability of psi_0, and the same as the final output's."""
        psi_0 = self._first(patches_NPP3)["psi_0"]
        return {"psi_0": psi_0, self.outputs[-1]: repeated(psi_0, pixel_px("psi_0"))}


class CascadePredictor:
    """Encoder and first block everywhere, the later blocks only on patches where psi_0 is undecided.

    A patch is undecided where psi_0 lies within the band anywhere in it. On the others the final output is psi_0,
    each of its pixels repeated.

    Attributes:
        num_patches: patches seen so far.
        num_undecided: those of them whose later blocks were computed.
        network: what it runs, for those who look for a fault.
    """

    def __init__(
        self,
        first: Runner,
        later: Runner,
        *,
        band: tuple[float, float],
        final: Psi,
        network: DeeplySupervisedUNet | None = None,
    ) -> None:
        """Join the two parts.

        Args:
            first: gives psi_0 and what `later` needs.
            later: gives the final output.
            band: where psi_0 lies within it, a patch goes on.
            final: the final output's name.
            network: of which they are parts.
        """
        self.network = network
        self.outputs: tuple[Psi, ...] = ("psi_0", final)
        self.num_patches = 0
        self.num_undecided = 0
        self._first = first
        self._later = later
        self._band = band

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        """The Tumor probability of psi_0 and of the final output."""
        psi_0, *features = self._first(patches_NPP3)
        # As numbers: a GPU is waited for once, to learn how many there are.
        undecided = is_undecided(psi_0, self._band).nonzero().flatten()
        self.num_patches += len(psi_0)
        self.num_undecided += len(undecided)
        # The later blocks see only the undecided patches; that is all that a cascade saves.
        final = repeated(psi_0, pixel_px("psi_0"))
        if len(undecided):
            (found,) = self._later(*(feature[undecided] for feature in features))
            final[undecided] = found
        return {"psi_0": psi_0, self.outputs[-1]: final}


def is_undecided(psi_0: Tensor, band: tuple[float, float]) -> Tensor:
    """Which patches have a pixel of psi_0 within the band: bool [n] from [n, h, w]."""
    low, high = band
    return ((psi_0 >= low) & (psi_0 <= high)).flatten(start_dim=1).any(dim=1)


def repeated(probability: Tensor, times: int) -> Tensor:
    """Each pixel as a square of its own: [n, h, w] to [n, times * h, times * w]."""
    return probability.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)


def make_predictor(
    network: DeeplySupervisedUNet,
    method: Method,
    *,
    device: torch.device,
    int8_file: Callable[[str], Path],
) -> Predictor:
    """The network as the method wants it.

    Args:
        network: on the CPU or the device, in evaluation mode; not changed.
        method: how.
        device: where it is to run.
        int8_file: from the name of a piece to the file of its int8 model.

    Raises:
        ConfigurationError: the method is not possible with this network, or its int8 model is not there.
        NotFiniteError: the network's numbers are not finite, or may not stay so.
    """
    if (method.exit or method.band) and "psi_0" not in network.outputs:
        wanted = "exit psi_0" if method.exit else "cascade"
        raise ConfigurationError(
            f"{wanted} needs a psi_0, which {network.setting} does not have; take resnet34_ds or resnet34_linear"
        )
    # A cascade runs two pieces, each compiled or quantised by itself, so that the later one can be left out.
    runners = [
        make_runner(
            piece_of(network, piece),
            method.arithmetic,
            device=device,
            int8_file=int8_file(piece) if method.precision == "int8" else None,
        )
        for piece in method.pieces
    ]
    if method.band:
        return CascadePredictor(*runners, band=method.band, final=network.outputs[-1], network=network)
    return RunnerPredictor(runners[0], ("psi_0",) if method.exit else network.outputs, network)


def piece_of(network: DeeplySupervisedUNet, piece: str) -> torch.nn.Module:
    """A piece of the network, by its name in `Method.pieces`."""
    if piece == "whole":
        return WholeNetwork(network)
    if piece == "later":
        return LaterBlocks(network)
    return FirstBlock(network, with_features=piece == "first-with-features")


class TrainedNetwork(NamedTuple):
    """A network, and what its weights say about its training."""

    network: DeeplySupervisedUNet
    target_mpp: float
    """Resolution of its patches, in um per pixel."""
    phantom: bool
    """Whether they were of drawn slides."""


def load_for_heatmaps(path: Path, setting: Setting) -> TrainedNetwork:
    """Load the network at `path`, and what it was trained on.

    Raises:
        CheckpointError: the weights are missing or damaged.
        ConfigurationError: they belong to another setting.
    """
    network, metadata = load_network(path)
    if metadata["setting"] != setting or not {"target_mpp", "phantom"} <= set(metadata):
        raise ConfigurationError(
            f"{path}: expected weights of {setting} that name their target_mpp and whether they are of phantoms, "
            f"got {dict(metadata)}; train it here"
        )
    return TrainedNetwork(network, float(metadata["target_mpp"]), metadata["phantom"] == "true")
