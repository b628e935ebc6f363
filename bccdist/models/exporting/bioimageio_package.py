"""A package as bioimage.io describes it: weights, what they need, a test, and a card in one zip.

The specification is https://bioimage-io.github.io/spec-bioimage-io (model, 0.5). QuPath reads packages with one input
and one output, and ignores what it does not know of preprocessing: normalisation is inside of the network.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from bccdist.files import stored_entry
from bccdist.models.exporting.facts import INPUT, OUTPUT

DESCRIPTION, CARD, WEIGHTS = "rdf.yaml", "README.md", "weights.pt"
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
_SPECIFICATION = "0.5.4"
_LICENCES = frozenset(
    {
        "Apache-2.0",
        "BSD-3-Clause",
        "CC0-1.0",
        "CC-BY-4.0",
        "CC-BY-NC-4.0",
        "CC-BY-NC-ND-4.0",
        "CC-BY-NC-SA-4.0",
        "CC-BY-SA-4.0",
        "GPL-3.0-only",
        "GPL-3.0-or-later",
        "MIT",
        "MPL-2.0",
    }
)
"""SPDX's words for licences of models; other terms stand in the card and the facts, where any text may."""


def bioimageio_bytes(
    weights: bytes, facts: Mapping[str, Any], card: str, *, patches: NDArray[np.uint8], maps: NDArray[np.float32]
) -> bytes:
    """The package; equal models give equal bytes on machines whose test output is equal to the bit.

    Args:
        weights: TorchScript.
        facts: of `export_facts`.
        card: Markdown.
        patches: the test's input, uint8 RGB [1, 3, p, p].
        maps: what the network finds on it, float32 [1, k, p, p].
    """
    entries = {CARD: card.encode(), WEIGHTS: weights, TEST_INPUT: _npy(patches), TEST_OUTPUT: _npy(maps)}
    described = _description(facts, {name: hashlib.sha256(data).hexdigest() for name, data in entries.items()})
    # JSON is YAML, too, and needs no package to write.
    text = json.dumps(described, indent=2, allow_nan=False) + "\n"
    written = io.BytesIO()
    with ZipFile(written, "w") as archive:
        for name, data in {DESCRIPTION: text.encode(), **entries}.items():
            archive.writestr(stored_entry(name), data)
    return written.getvalue()


def _description(facts: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """The content of rdf.yaml."""
    warning = f"{facts['warning']}. " if facts["warning"] else ""
    licence = {"license": facts["licence"]} if facts["licence"] in _LICENCES else {}
    return {
        "type": "model",
        "format_version": _SPECIFICATION,
        "name": facts["title"].replace("whole-slide", "whole slide"),
        "description": (
            f"{warning}Tumor probability per pixel in HE whole-slide images at {facts['input']['target_mpp']:g} um "
            f"per pixel, by a deeply supervised UNet. {facts['intended_use']}"
        ),
        **licence,
        "documentation": CARD,
        "tags": ["histopathology", "semantic-segmentation", "unet", "2d", "pytorch", "basal-cell-carcinoma"],
        "inputs": [_input(facts, digests[TEST_INPUT])],
        "outputs": [_output(facts, digests[TEST_OUTPUT])],
        "weights": {
            "torchscript": {
                "source": WEIGHTS,
                "sha256": digests[WEIGHTS],
                "pytorch_version": torch.__version__.partition("+")[0],
            }
        },
        "config": {"bccdist": dict(facts)},
    }


def _input(facts: Mapping[str, Any], digest: str) -> dict[str, Any]:
    given = facts["input"]
    size = {"min": given["patch_px"], "step": given["multiple_px"]}
    return {
        "id": INPUT,
        "description": "RGB of 0 to 255, white outside of the slide; normalised inside of the network",
        "axes": _axes(given["channels"], [_space(axis, facts, size) for axis in "yx"]),
        "test_tensor": {"source": TEST_INPUT, "sha256": digest},
        "data": {"type": "uint8", "range": [0, 255]},
    }


def _output(facts: Mapping[str, Any], digest: str) -> dict[str, Any]:
    halo = facts["tiling"]["halo_px"]
    sizes = {axis: {"tensor_id": INPUT, "axis_id": axis, "offset": 0} for axis in "yx"}
    return {
        "id": OUTPUT,
        "description": "Probability of Tumor, by softmax; pixels of coarse outputs are repeated to the input's size",
        "axes": _axes(
            facts["output"]["channels"], [{**_space(axis, facts, size), "halo": halo} for axis, size in sizes.items()]
        ),
        "test_tensor": {"source": TEST_OUTPUT, "sha256": digest},
        "data": {"type": "float32", "range": [0.0, 1.0]},
    }


def _axes(channels: list[str], space: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "batch"}, {"type": "channel", "id": "channel", "channel_names": channels}, *space]


def _space(axis: str, facts: Mapping[str, Any], size: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "space", "id": axis, "unit": "micrometer", "scale": facts["input"]["target_mpp"], "size": size}


def _npy(array: NDArray[Any]) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=False)
    return written.getvalue()
