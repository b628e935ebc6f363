"""Networks on disk: safetensors with what is needed to build them again; no pickle is read.

The file holds the SHA-256 of its bytes (`bccdist.seals`), and is not used where they are others.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from bccdist.configuration import SETTINGS
from bccdist.errors import CheckpointError, ConfigurationError
from bccdist.files import sha256_of_file, write_bytes
from bccdist.networks.finite import not_finite
from bccdist.networks.starting import ENCODER_KEY, metadata_in
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.seals import BLANK_SEAL, SEAL_KEY, read_sealed, sealed

_ADVICE = "copy the file again from where it is whole, or train again"


def save_network(path: Path, network: DeeplySupervisedUNet, metadata: Mapping[str, str]) -> None:
    """Write weights and metadata atomically; setting, width and an encoder of timm are added to the metadata.

    Equal weights and metadata give equal bytes, so that the file's digest names what is in it.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    encoder = {ENCODER_KEY: network.encoder_name} if network.encoder_name else {}
    facts = {"setting": network.setting, "width": str(network.width), **encoder}
    full_metadata = {**metadata, **facts, SEAL_KEY: BLANK_SEAL}
    write_bytes(path, sealed(_in_order(save(tensors, metadata=full_metadata))))


def _in_order(safetensors: bytes) -> bytes:
    """The same file with its header's keys sorted; the library leaves those of the metadata in random order."""
    header_stop = 8 + int.from_bytes(safetensors[:8], "little")
    header = json.dumps(json.loads(safetensors[8:header_stop]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the format wants the tensors aligned
    return len(header).to_bytes(8, "little") + header + safetensors[header_stop:]


def load_network(path: Path) -> tuple[DeeplySupervisedUNet, Mapping[str, str]]:
    """The network at `path`, on the CPU and in evaluation mode, with the file's metadata.

    Raises:
        CheckpointError: the file is missing, damaged, or not one of ours, or a number in it is not finite.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no weights there; train the setting first, or name an epoch that was kept")
    return network_in(read_sealed(path, error=CheckpointError, advice=_ADVICE), where=str(path))


def network_in(data: bytes, *, where: str) -> tuple[DeeplySupervisedUNet, Mapping[str, str]]:
    """The network in the bytes of a weights file, on the CPU and in evaluation mode, with the file's metadata.

    Args:
        data: bytes that were compared with their seal or digest.
        where: where they come from, for messages.

    Raises:
        CheckpointError: they are not what was written here, or a number in them is not finite.
    """
    try:
        tensors, metadata = load(data), metadata_in(data)
    # Beside its own error, the library lets through what Python makes of a header that is no text.
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{where}: damaged or no safetensors file: {error}; {_ADVICE}") from error
    setting, width = metadata.get("setting", ""), metadata.get("width", "")
    if setting not in SETTINGS or not width.isdecimal():
        raise CheckpointError(f"{where}: its metadata {metadata} name no setting and width; it was not written here")
    encoder = metadata.get(ENCODER_KEY, "")
    try:
        network = DeeplySupervisedUNet(setting, width=int(width), encoder=encoder)
    except ConfigurationError as error:
        raise CheckpointError(f"{where}: {error}") from error
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{where}: its tensors do not fit {_in_words(setting, width, encoder)}: {error}"
        ) from error
    if faults := not_finite(tensors):
        raise CheckpointError(
            f"{where}: {faults}: nothing can be computed with it; take another epoch, or train again"
        )
    return network.eval(), metadata


def _in_words(setting: str, width: str, encoder: str) -> str:
    return f"{setting} with the encoder {encoder} as timm makes it here" if encoder else f"{setting} of width {width}"


def weights_digest(path: Path) -> str:
    """The first twelve hex digits of the file's SHA-256."""
    return sha256_of_file(path)[:12]
