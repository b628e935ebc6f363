"""The network of a model file."""

from bccdist.models.model_file import WEIGHTS, ModelFile
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import network_in


def load_network_of(model: ModelFile) -> DeeplySupervisedUNet:
    """The packed network, on the CPU and in evaluation mode.

    Raises:
        CheckpointError: the packed weights are not what this version can read.
        ModelError: the file was changed after it was opened.
    """
    network, _metadata = network_in(model.read(WEIGHTS), where=f"{model.path}: {WEIGHTS}")
    return network
