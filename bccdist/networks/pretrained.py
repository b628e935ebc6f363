"""Pretrained weights for an encoder, from a file of the user's.

ResNet34's have torchvision's names (paper, section 2.2.1); another encoder's have timm's. timm's plain resnet34 and
resnet18 have torchvision's names; its variants with a deep stem or averaging shortcuts (resnet34d and others) are
another network, and refused in ResNet34's place.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bccdist.errors import CheckpointError, first_of
from bccdist.files import sha256_of_file
from bccdist.networks.encoders import ResNet34Encoder
from bccdist.networks.finite import not_finite
from bccdist.networks.timm_encoder import TimmEncoder, make_full_network, plain_name
from bccdist.networks.unet import DeeplySupervisedUNet

RESNET18_BLOCKS = 2
"""Residual blocks of each of layer1 to layer4."""
_WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts keep the state dict, beside others that are none of it."""
_CLASSIFIER = ("fc.weight", "fc.bias")
_COUNTER = "num_batches_tracked"
_RESNETS = "torchvision's or timm's plain resnet34 or resnet18, whose width is 64"
_MOST_NAMED = 8
"""Names of each kind of fault that a message lists; the rest is a count."""


def encoder_weights_sha256(path: Path) -> str:
    """The SHA-256 of a file of encoder weights.

    Raises:
        CheckpointError: the file is missing.
    """
    _require_file(path)
    return sha256_of_file(path)


def load_encoder_weights(path: Path, network: DeeplySupervisedUNet) -> str:
    """Fill the encoder of a fresh network from a file of ResNet34 or ResNet18, or of timm's where it is one of timm.

    Every tensor of the encoder is filled once, or the file is refused and the network is as before. A ResNet18 has
    two blocks in each layer: these are copied. The others keep their random convolutions, but the last batch
    normalisation of each gives 0. As the input of such a block comes out of a ReLU, the block's ReLU(0 + x) is x: at
    the start the encoder is the ResNet18, and it learns from there.

    Args:
        path: `.safetensors`, or a torch file of tensors: a state dict, plain or under "state_dict" or "model"; its
            names may share a prefix such as "module.".
        network: with a ResNet34 encoder, of the file's width; torchvision's and timm's is 64. Or with one of timm.

    Returns:
        What was copied and what was not, in a sentence.

    Raises:
        CheckpointError: the network has another encoder; the file is missing or damaged; its tensors do not fit, or
            are not finite.
    """
    encoder = network.encoder
    if isinstance(encoder, TimmEncoder):
        return _load_timm(path, encoder)
    if not isinstance(encoder, ResNet34Encoder):
        raise CheckpointError(
            f"{path}: encoder weights are for a ResNet34 encoder, which {network.setting} does not have; "
            "train it without encoder_weights"
        )
    tensors = _read(path)
    own = encoder.state_dict()
    prefix = _common_prefix(tensors, own)
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    fresh = _blocks_without_weights(own, found)
    expected = _expected_names(own, found, fresh)
    outside = [name for name in tensors if not name.startswith(prefix)]
    left_over = [prefix + name for name in found if name not in expected and name not in _CLASSIFIER]
    _refuse_faults(
        path,
        own,
        found,
        expected=expected,
        left_over=[*outside, *left_over],
        what="the ResNet34 encoder",
        give=_RESNETS,
    )
    if faults := not_finite({prefix + name: found[name] for name in expected}):
        raise CheckpointError(f"{path}: {faults}: it is damaged, or its training went wrong; give another file")
    # Only now, when nothing can go wrong any more, so that a file that is refused leaves the network as it was.
    encoder.load_state_dict({**own, **{name: found[name] for name in expected}})
    for block in fresh:
        _make_identity(encoder.get_submodule(block))
    return _sentence(path, found, expected, fresh)


def _load_timm(path: Path, encoder: TimmEncoder) -> str:
    """Fill an encoder of timm; what the whole network has beyond it, such as its classifier, is left out.

    Both sides' names are compared as `plain_name` has them, since timm nests the parts of an encoder in other ways
    than those of the whole network, which files are of.
    """
    tensors, own = _read(path), encoder.features.state_dict()
    own_names = {plain_name(name): name for name in own}
    plain = {plain_name(name): name for name in tensors}
    prefix = _common_prefix(plain, own_names)
    found = {own_names.get(each.removeprefix(prefix), name): tensors[name] for each, name in plain.items()}
    expected = _expected_names(own, found, ())
    with torch.random.fork_rng(devices=[]):
        whole = {plain_name(name) for name in make_full_network(encoder.name).state_dict()}
    beyond = [name for name in found if name not in own]
    _refuse_faults(
        path,
        own,
        found,
        expected=expected,
        left_over=[name for name in beyond if plain_name(name).removeprefix(prefix) not in whole],
        what=f"the encoder {encoder.name}",
        give=f"timm's {encoder.name}",
    )
    if faults := not_finite({name: found[name] for name in expected}):
        raise CheckpointError(f"{path}: {faults}: it is damaged, or its training went wrong; give another file")
    encoder.features.load_state_dict({**own, **{name: found[name] for name in expected}})
    left_out = (
        f"; {len(beyond)} of the whole network's are left out: {first_of(beyond, _MOST_NAMED)}" if beyond else ""
    )
    return f"the encoder starts from the {encoder.name} in {path}: {len(expected)} tensors{left_out}"


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: no encoder weights there; give the path of a file, or train without them")


def _read(path: Path) -> dict[str, Tensor]:
    _require_file(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged or no safetensors file: {error}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        _check_sums(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything: the reader follows what stands in it
        raise CheckpointError(
            f"{path}: damaged, or no torch file of tensors alone ({type(error).__name__}); code in it is not run: "
            "save the network's state_dict(), or a .safetensors file"
        ) from error
    while isinstance(state, Mapping) and (wrapper := next((key for key in _WRAPPERS if key in state), None)):
        state = state[wrapper]
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, expected a state dict")
    others = [str(name) for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        raise CheckpointError(
            f"{path}: expected a state dict, but these are no named tensors: {first_of(others, _MOST_NAMED)}"
        )
    return dict(state)


def _check_sums(path: Path) -> None:
    """The sum of each part of a torch file, which torch itself does not look at; files of before torch 1.6 have none.

    Raises:
        BadZipFile: one is wrong.
    """
    if is_zipfile(path):
        with ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise BadZipFile(f"{damaged} has another CRC than was written")


def _common_prefix(names: Iterable[str], own: Iterable[str]) -> str:
    """What stands before most of the encoder's names; names without it are left over."""
    own_names = list(own)
    counts = Counter(
        name.removesuffix(ending)
        for name in names
        for ending in own_names
        if name == ending or name.endswith(f".{ending}")
    )
    return max(counts, key=lambda prefix: counts[prefix], default="")


def _blocks_without_weights(own: Iterable[str], found: Iterable[str]) -> list[str]:
    """Names of the blocks that a ResNet18 does not have, where the file has exactly the others; else none."""
    blocks = _blocks(own)
    in_resnet18 = {block for block in blocks if int(block.split(".")[1]) < RESNET18_BLOCKS}
    return sorted(blocks - in_resnet18) if _blocks(found) == in_resnet18 else []


def _blocks(names: Iterable[str]) -> set[str]:
    """The blocks that these tensors belong to, such as layer1.0."""
    return {".".join(name.split(".")[:2]) for name in names if name.startswith("layer")}


def _expected_names(own: Iterable[str], found: Iterable[str], fresh: Sequence[str]) -> list[str]:
    """The encoder's names that the file has to have.

    Files from before torch counted batches have no counters at all; nothing here reads them, so they may stay 0.
    """
    has_counters = any(name.endswith(_COUNTER) for name in found)
    beyond = tuple(f"{block}." for block in fresh)
    return [name for name in own if not name.startswith(beyond) and (has_counters or not name.endswith(_COUNTER))]


def _refuse_faults(
    path: Path,
    own: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    *,
    expected: Sequence[str],
    left_over: Sequence[str],
    what: str,
    give: str,
) -> None:
    missing = [name for name in expected if name not in found]
    shapes = [
        f"{name} {list(found[name].shape)} against {list(own[name].shape)}"
        for name in expected
        if name in found and found[name].shape != own[name].shape
    ]
    kinds = {"missing": missing, "left over": left_over, "shape got against expected": shapes}
    faults = [f"{kind}: {first_of(names, _MOST_NAMED)}" for kind, names in kinds.items() if names]
    if faults:
        raise CheckpointError(f"{path}: does not fit {what}: {'; '.join(faults)}. Give the state dict of {give}")


def _make_identity(block: nn.Module) -> None:
    """Let the residual branch give 0; its factor still gets a gradient, so the block can learn."""
    last = block.get_submodule("bn2")
    nn.init.zeros_(last.get_parameter("weight"))
    nn.init.zeros_(last.get_parameter("bias"))


def _sentence(path: Path, found: Iterable[str], expected: Sequence[str], fresh: Sequence[str]) -> str:
    parts = [f"the encoder starts from the {'ResNet18' if fresh else 'ResNet34'} in {path}: {len(expected)} tensors"]
    if classifier := [name for name in found if name in _CLASSIFIER]:
        parts.append(f"its classifier ({', '.join(classifier)}) is left out")
    if not any(name.endswith(_COUNTER) for name in expected):
        parts.append(f"it has no {_COUNTER}, which start at 0")
    if fresh:
        parts.append(f"it has no {', '.join(fresh)}, which start as identities")
    return "; ".join(parts)
