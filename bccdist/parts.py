"""The four parts of the data, the kinds of annotation, and the labels of a section (paper, Table 1)."""

from enum import StrEnum
from typing import Self

from bccdist.errors import ConfigurationError


class Part(StrEnum):
    """A part of the data (Table 1)."""

    TRAINING = "Training"
    VALIDATION_1 = "Validation I"
    VALIDATION_2 = "Validation II"
    TEST = "Test"

    @property
    def short(self) -> str:
        """The name on the command line: train, val1, val2 or test."""
        return _SHORT_NAMES[self]

    @property
    def is_annotated(self) -> bool:
        """Whether the method needs pixel annotations for the slides of this part."""
        return self in (Part.TRAINING, Part.VALIDATION_1)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The part called `text`, in its full or its short name.

        Raises:
            ConfigurationError: no part has that name; the message lists the names.
        """
        if (part := _BY_NAME.get(text.strip().lower())) is not None:
            return cls(part)
        known = ", ".join(f"{part.value!r} ({part.short})" for part in cls)
        raise ConfigurationError(f"unknown part {text!r}; known parts: {known}")


_SHORT_NAMES = {
    Part.TRAINING: "train",
    Part.VALIDATION_1: "val1",
    Part.VALIDATION_2: "val2",
    Part.TEST: "test",
}
_BY_NAME = {name.lower(): part for part in Part for name in (part.value, part.short)}


class Kind(StrEnum):
    """What an annotation marks: the target, its surroundings, or a look-alike (section 2.1)."""

    TUMORNEST = "Tumornest"
    STROMA = "Stroma"
    NORMAL = "Normal"


class Label(StrEnum):
    """A section's verdict."""

    TUMOR = "Tumor"
    NORMAL = "Normal"
