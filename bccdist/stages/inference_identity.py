"""What a heatmap and its ledger rows are made from: done work is found again by it, and never overwritten."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bccdist.configuration import CELL_PX
from bccdist.errors import ConfigurationError, LedgerError
from bccdist.files import digest_of
from bccdist.heatmaps.store import Heatmap
from bccdist.log import LOG
from bccdist.parquet import IDENTITY_KEY, identity_in, open_table
from bccdist.sections.ledger import why_outdated
from bccdist.slides.manifest import SectionRecord, SlideRecord

METHOD_VERSION = "2"
"""Raised when the same slide, weights and configuration come to give other heatmaps."""


@dataclass(frozen=True, kw_only=True)
class InferenceIdentity:
    """Names what made one slide's heatmap, and with `sections_digest` its ledger rows."""

    weights_digest: str
    config_digest: str
    slide_fingerprint: str
    sections_digest: str

    @property
    def of_heatmap(self) -> dict[str, str]:
        """What the heatmap depends on; the sections' boxes and labels come after it."""
        return {name: digest for name, digest in asdict(self).items() if name != "sections_digest"}

    @property
    def as_metadata(self) -> dict[str, str]:
        """The identity as the metadata of a ledger file."""
        return {IDENTITY_KEY.decode(): json.dumps(asdict(self), sort_keys=True)}


def inference_digest(
    method: Mapping[str, Any], record: SlideRecord, *, target_mpp: float, mpp_tolerance: float
) -> str:
    """Names all that shapes a heatmap beside weights and slide; batch and engine do not.

    Args:
        method: what `Method.names_heatmap` says; this file needs no torch, which a method does.
        record: the slide's.
        target_mpp: um per pixel that the network was trained at.
        mpp_tolerance: of the configuration.
    """
    return digest_of(
        {
            **method,
            "method": METHOD_VERSION,
            "cell_px": CELL_PX,
            "target_mpp": target_mpp,
            "mpp_tolerance": mpp_tolerance,
            "mpp_override": record.mpp,
        }
    )


def sections_digest(record: SlideRecord, sections: Sequence[SectionRecord]) -> str:
    """Names what the manifest says about a slide's sections: when a label is corrected, the rows are made anew."""
    return digest_of([record.part.value, record.scanner, *map(repr, sections)])


def are_rows_done(path: Path, identity: InferenceIdentity) -> bool:
    """Whether the ledger file `path` holds the rows of `identity`, with all columns of today.

    Rows of an older schema, by another section method and damaged ones are not done: they are written anew, from the
    heatmap that is there.

    Raises:
        ConfigurationError: its rows come from other weights, another configuration or another file.
        LedgerError: the file holds something else.
    """
    if not path.exists():
        return False
    try:
        table = open_table(path, error=LedgerError, advice="its rows are made anew from the heatmap")
    except LedgerError as error:
        LOG.warning(str(error))
        return False
    try:
        metadata = table.schema.metadata or {}
        there = InferenceIdentity(**identity_in(metadata))
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(
            f"{path}: not written by the inference stage ({type(error).__name__}: {error}); "
            "remove it and run the inference again"
        ) from error
    # Another heatmap is an error; corrected labels, a newer schema or section method only ask for the rows again.
    _require_same(path, there.of_heatmap, identity.of_heatmap)
    return there == identity and not why_outdated(metadata)


def fingerprint_in_rows(path: Path) -> str | None:
    """What named the slide's file when these ledger rows were made; None where they do not say it."""
    try:
        schema = open_table(path, error=LedgerError, advice="its rows are made anew from the heatmap").schema
        fingerprint = identity_in(schema.metadata).get("slide_fingerprint")
    except (FileNotFoundError, LedgerError, ValueError):
        return None
    return None if fingerprint is None else str(fingerprint)


def is_heatmap_done(path: Path, identity: InferenceIdentity) -> bool:
    """Whether the heatmap of `identity` stands at `path`.

    Raises:
        ConfigurationError: it comes from other weights, another configuration or another file.
        HeatmapError: it is damaged.
    """
    if not path.exists():
        return False
    attributes = Heatmap(path).attributes
    there = {name: str(getattr(attributes, name)) for name in identity.of_heatmap}
    _require_same(path, there, identity.of_heatmap)
    return True


def _require_same(path: Path, there: dict[str, str], here: dict[str, str]) -> None:
    different = "; ".join(
        f"{name}: there {there[name]}, here {digest}" for name, digest in here.items() if there[name] != digest
    )
    if different:
        raise ConfigurationError(
            f"{path} was made from something else ({different}); nothing was changed: "
            "give the same weights, slide and configuration, or another study folder. The configuration is how "
            "heatmaps are made (tiling, precision, blending, exit, cascade, um/px) and how verdicts are reached "
            "(--inference, --confidence, --check-share and the calibration)"
        )
