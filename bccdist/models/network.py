"""The network of a model file."""

from bccdist.configuration import PATCH_PX
from bccdist.errors import ModelError
from bccdist.models.model_file import WEIGHTS, ModelFile
from bccdist.networks.inputs import MEAN_RGB, STD_RGB
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import network_in


def load_network_of(model: ModelFile) -> DeeplySupervisedUNet:
    """The packed network, on the CPU and in evaluation mode.

    Raises:
        CheckpointError: the packed weights are not what this version can read.
        ModelError: the file was changed after it was opened, or this version shows networks other patches.
    """
    facts = model.description.network
    there, here = (facts.patch_px, facts.mean_rgb, facts.std_rgb), (PATCH_PX, MEAN_RGB, STD_RGB)
    if there != here:
        raise ModelError(
            f"{model.path}: its network sees patches of this edge, mean and deviation: {there}, and this version of "
            f"bccdist shows it {here}; install bccdist {model.description.made_by}"
        )
    network, _metadata = network_in(model.read(WEIGHTS), where=f"{model.path}: {WEIGHTS}")
    return network
