"""What a model file says of itself: plain values, read without torch and without the study."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from bccdist.configuration import AreaUnit, Psi, Setting

FORMAT = "bccdist model"
FORMAT_VERSION = 1
"""Raised where older readers would take a newer file wrongly."""


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """The network, and what it has to be shown (paper, sections 2.2 and 2.4)."""

    setting: Setting
    width: int
    """Filters of the first encoder block; the paper's is 64."""
    epoch: int
    """Epoch of the training that the selection chose; the first is 1."""
    outputs: tuple[Psi, ...]
    """Outputs with scores, the final one last."""
    patch_px: int
    """Edge of the square patches that the network sees."""
    target_mpp: float
    """Resolution of its input, in um per pixel."""
    mpp_tolerance: float
    """Relative deviation from it up to which a level is read without resampling."""
    mean_rgb: tuple[float, float, float]
    """Taken off each pixel, of values from 0 to 1; red, green, blue."""
    std_rgb: tuple[float, float, float]
    """What the rest is divided by."""
    weights_digest: str
    """The first twelve hex digits of the SHA-256 of the weights' file."""
    encoder: str = ""
    """timm's name of the encoder; empty where it is the paper's, as in files of before."""

    @property
    def kind(self) -> str:
        """Setting, width and encoder, in words."""
        encoder = f" with timm's encoder {self.encoder}" if self.encoder else ""
        return f"{self.setting}, width {self.width}{encoder}"


@dataclass(frozen=True, kw_only=True)
class SelectionFacts:
    """The thresholds, and how they were chosen (paper, section 2.5)."""

    t_p: float
    """Prediction threshold, 0 to 1."""
    t_a_um2: float
    """Area threshold: a region of at least this area, in um2, makes a section Tumor."""
    area_unit: AreaUnit
    psi: Psi
    """The output that decides."""
    beta: float
    """beta of the F_beta that chose."""
    num_sections: int
    num_slides: int
    counts: Mapping[str, int]
    """tp, fn, fp, tn and num_review over Validation I + II."""


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What the network learned from; no name of a slide or a patient."""

    num_slides: Mapping[str, int]
    """Slides by part."""
    num_patients: Mapping[str, int]
    """Known patients by part."""
    num_patches: Mapping[str, int]
    """Patches by part of the shard set."""
    scanners: Mapping[str, int]
    """Slides of Training by scanner, as the manifest calls it."""
    manifest_digest: str
    phantom: bool
    """Whether it learned from drawn slides."""
    configuration: Mapping[str, Any]
    """The training's merged configuration."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """The content of model.json."""

    network: NetworkFacts
    section_method: str
    """Versions of tissue and sections that the thresholds were chosen with."""
    selection: SelectionFacts
    trained_on: TrainingFacts
    licence: str
    """Under what terms the model may be used; empty where nobody said."""
    made_by: str
    """Version of this product that packed the file."""
    files: Mapping[str, str]
    """The SHA-256 of each other entry by its name."""

    def as_json(self) -> dict[str, Any]:
        """The values as JSON has them."""
        values = asdict(self)
        if not self.network.encoder:
            # Versions that know the paper's encoders alone go on reading those.
            del values["network"]["encoder"]
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The description in what `as_json` gave.

        Raises:
            KeyError, TypeError: something is missing or not known.
        """
        own = {name: value for name, value in values.items() if name not in ("format", "format_version")}
        network = {
            **own["network"],
            **{name: tuple(own["network"][name]) for name in ("outputs", "mean_rgb", "std_rgb")},
        }
        return cls(
            **{
                **own,
                "network": NetworkFacts(**network),
                "selection": SelectionFacts(**own["selection"]),
                "trained_on": TrainingFacts(**own["trained_on"]),
            }
        )
