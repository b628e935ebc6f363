"""Parts go by a full and a short name, and only those with pixel annotations say so."""

import pytest

from bccdist.errors import ConfigurationError
from bccdist.parts import Kind, Label, Part

SHORT_NAMES = {"train": "Training", "val1": "Validation I", "val2": "Validation II", "test": "Test"}


@pytest.mark.parametrize(("short", "full"), SHORT_NAMES.items())
def test_both_names_mean_the_part(short: str, full: str) -> None:
    part = Part(full)
    assert part.short == short
    for text in (short, full, full.upper(), f"  {short} "):
        assert Part.parse(text) is part


@pytest.mark.parametrize("text", ["", "val", "val3", "Validation", "training set"])
def test_an_unknown_part_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown part") as error:
        Part.parse(text)
    for name in (repr(text), *SHORT_NAMES, *SHORT_NAMES.values()):
        assert name in str(error.value)


def test_training_and_validation_1_are_annotated() -> None:
    assert [part.short for part in Part if part.is_annotated] == ["train", "val1"]


def test_kinds_and_labels_are_the_papers() -> None:
    assert list(Kind) == ["Tumornest", "Stroma", "Normal"]
    assert list(Label) == ["Tumor", "Normal"]
