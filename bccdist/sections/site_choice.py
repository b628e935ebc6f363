"""A site's own thresholds for a model: a small file beside the model file, which stays as it is.

It names the model that it is for, the labels that it rests on and what it did on them, and holds the SHA-256 of its
own bytes. In a cohort it lies as site_choice.json, and its thresholds take the place of the model's; verdicts,
tables and report name it by its digest.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from bccdist.configuration import AreaUnit
from bccdist.errors import ModelError
from bccdist.seals import name_of_content, read_sealed, read_sealed_json, write_sealed_json
from bccdist.sections.choices import Thresholds

FORMAT, FORMAT_VERSION = "bccdist site choice", 1
_ADVICE = "copy the file again from where it is whole, or make it again with `python analysis/transfer.py`"


@dataclass(frozen=True, kw_only=True)
class SiteChoice:
    """What a site chose for a model."""

    model_digest: str
    """Twelve hex digits that name the model file."""
    site: str
    """What the site is called: the cohort's folder by name."""
    t_p: float
    """Prediction threshold, 0 to 1."""
    t_a_um2: float
    """Area threshold."""
    area_unit: AreaUnit
    labels_digest: str
    """Names the labels that chose."""
    num_sections: int
    """Labelled sections that chose."""
    num_slides: int
    """Their slides."""
    figures: Mapping[str, Any]
    """Sensitivity and specificity before and after, with their intervals; after: on slides that did not choose."""
    made_by: str
    """Version of this product that wrote it."""

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds alone."""
        return Thresholds(t_p=self.t_p, t_a_um2=self.t_a_um2, area_unit=self.area_unit)

    def write(self, path: Path) -> str:
        """Write the file atomically; returns its digest."""
        write_sealed_json(path, {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)})
        return name_of_content(path)[:12]

    @classmethod
    def read(cls, path: Path) -> Self:
        """A site's choice, whose bytes are those that were written.

        Raises:
            ModelError: it is missing, damaged, of a newer version, or something else.
        """
        if not path.is_file():
            raise ModelError(f"{path}: no site's choice there; `python analysis/transfer.py COHORT` makes one")
        if b'"bccdist.seal"' not in read_sealed(path, error=ModelError, advice=_ADVICE):
            raise ModelError(
                f"{path}: holds no SHA-256 of its own, so it is no site's choice as it was written; {_ADVICE}"
            )
        values = read_sealed_json(path, error=ModelError, advice=_ADVICE)
        kind, version = values.pop("format", None), values.pop("format_version", None)
        if kind != FORMAT or version != FORMAT_VERSION:
            raise ModelError(
                f"{path}: is {kind!r} version {version}, expected {FORMAT!r} version {FORMAT_VERSION}; {_ADVICE}"
            )
        if different := set(values) ^ {each.name for each in fields(cls)}:
            raise ModelError(f"{path}: differs from a site's choice in {', '.join(sorted(different))}; {_ADVICE}")
        return cls(**values)
