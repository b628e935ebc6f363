"""A network of this product that training starts from: whose it is, by the header of its file alone, without torch."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bccdist.configuration import SETTINGS, Setting, outputs_of
from bccdist.errors import CheckpointError
from bccdist.files import sha256_of_file
from bccdist.seals import SEAL_KEY

LINEAGE_KEY = "lineage"
"""Metadata of weights: which networks they came from, the nearest first; missing where training began at random."""
ENCODER_KEY = "encoder"
"""Metadata of weights: timm's name of their encoder; missing where it is the paper's."""
_MOST_HEADER_BYTES = 100_000_000
"""More than that the format does not allow."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The network that a run starts from, as the run's configuration names it."""

    sha256: str
    """Of its file."""
    lineage: str
    """Which network it is, and which ones it came from, in words."""
    phantom: bool
    """Whether it, or one that it came from, was trained on drawn slides."""
    target_mpp: float
    """Resolution that it was trained at, in um per pixel."""


def read_start(path: Path, *, setting: Setting, width: int, encoder: str = "") -> Start:
    """The network in a file of weights, which must have the architecture of the one that is trained.

    Raises:
        CheckpointError: the file is missing, no weights of this product, or of another setting, width or encoder.
    """
    if not path.is_file():
        raise CheckpointError(f"start_from: {path} is not there, expected the weights of a kept epoch (.safetensors)")
    metadata = read_metadata(path)
    there, there_width = metadata.get("setting", ""), metadata.get("width", "")
    if there not in SETTINGS or not {"epoch", "target_mpp", "phantom", "config_digest"} <= set(metadata):
        raise CheckpointError(
            f"start_from: {path}: its metadata {metadata} are not those of weights that were trained here; give the "
            "weights of a kept epoch (.safetensors)"
        )
    there_encoder = metadata.get(ENCODER_KEY, "")
    # An encoder of timm has its own width.
    same_width = there_width == str(width) or bool(encoder)
    if (there, there_encoder) != (setting, encoder) or not same_width:
        raise CheckpointError(
            f"start_from: {path} is {_architecture(there, there_width, there_encoder)}, expected "
            f"{_architecture(setting, str(width), encoder)}: train what it is, or start from another file"
        )
    sha256 = sha256_of_file(path)
    epoch, run = metadata["epoch"], metadata["config_digest"]
    before = f", which came from {metadata[LINEAGE_KEY]}" if LINEAGE_KEY in metadata else ""
    return Start(
        sha256=sha256,
        lineage=f"{there}, epoch {epoch} of run {run}, weights {sha256[:12]}{before}",
        phantom=metadata["phantom"] == "true",
        target_mpp=float(metadata["target_mpp"]),
    )


def _architecture(setting: Setting, width: str, encoder: str) -> str:
    size = f"encoder {encoder}" if encoder else f"width {width}"
    return f"{setting} of {size} with {', '.join(outputs_of(setting))}"


def read_metadata(path: Path) -> dict[str, str]:
    """The texts in the header of a file of weights, without the seal; its bytes are not compared with that.

    Raises:
        CheckpointError: it is no safetensors file.
    """
    try:
        with path.open("rb") as file:
            return metadata_in(file)
    except ValueError as error:
        state = ", but a training state, which holds more than weights" if path.suffix == ".pt" else f": {error}"
        raise CheckpointError(
            f"{path}: no safetensors file{state}; give the weights of a kept epoch (.safetensors)"
        ) from error


def metadata_in(file: BinaryIO | bytes) -> dict[str, str]:
    """The texts in the header of a safetensors file, without the seal.

    Raises:
        ValueError: there is no such header.
    """
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    length = int.from_bytes(stream.read(8), "little")
    if length > _MOST_HEADER_BYTES:
        raise ValueError(f"its header would have {length} bytes")
    header = json.loads(stream.read(length))
    texts = header.get("__metadata__", {}) if isinstance(header, Mapping) else {}
    return {name: text for name, text in texts.items() if name != SEAL_KEY}
