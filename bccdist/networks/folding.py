"""Networks made ready to be run and not trained: copies, the original is never changed."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bccdist.networks.timm_encoder import TimmEncoder
from bccdist.networks.unet import DeeplySupervisedUNet


def channels_first(module: nn.Module) -> nn.Module:
    """A copy in torch's own memory order, in which float32 eager is the reference."""
    return _ordered(copy.deepcopy(module), channels_last=False)


def folded(module: nn.Module) -> nn.Module:
    """A copy in which every batch normalisation of ours is part of its convolution; channels last where safe."""
    module = copy.deepcopy(module).eval()
    for parent in _of_our_own(module):
        previous: tuple[str, nn.Module] = ("", parent)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and isinstance(previous[1], nn.Conv2d):
                setattr(parent, previous[0], fuse_conv_bn_eval(previous[1], child))
                # Its place is kept, because a sequence counts its parts.
                setattr(parent, name, nn.Identity())
            previous = (name, child)
    return _ordered(module, channels_last=True).requires_grad_(requires_grad=False)


def _of_our_own(module: nn.Module) -> list[nn.Module]:
    """All parts but those within an encoder of timm, whose normalisations may do more, and run in another order."""
    foreign = {part for each in module.modules() if isinstance(each, TimmEncoder) for part in each.modules()}
    return [part for part in module.modules() if part not in foreign]


def _ordered(module: nn.Module, *, channels_last: bool) -> nn.Module:
    for part in module.modules():
        if isinstance(part, DeeplySupervisedUNet):
            part.use_memory_format(channels_last=channels_last)
    return module.eval()
