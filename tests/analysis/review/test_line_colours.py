"""Lines over H&E: apart from the tissue and from each other, for every kind of colour vision."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

LAYERS = Path(__file__).resolve().parents[3] / "analysis" / "review" / "static" / "layers.js"
TISSUE = {
    "nucleus": "#46286e",
    "pale nucleus": "#6e4696",
    "basophilic stroma": "#9664b4",
    "eosin": "#e18cbe",
    "pale eosin": "#f0b4d7",
    "blood": "#c83c50",
    "glass": "#f5f5f5",
}
# Machado, Oliveira and Fernandes 2009, for linear RGB and a full deficiency.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
LEAST = 20.0
"""CIE 1976 difference; 2.3 is just seen side by side, and a thin line needs many times that."""


def lab(colour: str, vision: str) -> NDArray[np.floating]:
    coded = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    x, y, z = TO_XYZ @ np.clip(VISION[vision] @ linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = [np.cbrt(value) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(one: str, other: str, vision: str) -> float:
    return float(np.linalg.norm(lab(one, vision) - lab(other, vision)))


def lines() -> dict[str, tuple[str, str]]:
    """Colour and rim of each line of layers.js."""
    text = LAYERS.read_text(encoding="utf-8")
    found = re.findall(r'(\w+)(?:: | = )\{ colour: "(#\w{6})", under: "(#\w{6})"', text)
    return {name: (colour, rim) for name, colour, rim in found}


def test_all_lines_are_measured() -> None:
    assert set(lines()) == {"Tumornest", "Stroma", "Normal", "REGION_LINE"}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("tissue", TISSUE.values(), ids=TISSUE.keys())
def test_a_line_or_its_rim_stands_out_from_tissue(tissue: str, vision: str) -> None:
    for name, (colour, rim) in lines().items():
        assert max(difference(colour, tissue, vision), difference(rim, tissue, vision)) >= LEAST, name
        assert difference(colour, rim, vision) >= LEAST, name


@pytest.mark.parametrize("vision", VISION)
def test_kinds_are_apart_from_each_other(vision: str) -> None:
    kinds = {name: colour for name, (colour, _) in lines().items() if name != "REGION_LINE"}
    for one, other in combinations(kinds, 2):
        assert difference(kinds[one], kinds[other], vision) >= LEAST, (one, other)
