"""The directories of a TIFF, parsed once a slide: what its images are, and where their tiles lie."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import tifffile

from bccdist.errors import RemoteError

SOURCE_LENS, FOCAL_PLANE = 65421, 65424
"""Tags of Hamamatsu: the objective, negative for the slide's label; and the height of a plane of focus."""
_LATE_TAGS = ("Orientation", "PageName", "ResolutionUnit", SOURCE_LENS, FOCAL_PLANE)
"""tifffile reads them when they are asked for first, which has to be before the file is closed."""
TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


@dataclass(frozen=True, kw_only=True)
class TiffPages:
    """The images of a TIFF; none of a file that is no TIFF."""

    pages: Sequence[tifffile.TiffPage] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    """What an OME-TIFF calls its images, by the number of their first page."""
    fault: str = ""
    """Why the directories of a TIFF could not be parsed: then nothing is known of its images."""


def read_tiff_pages(source: Path | BinaryIO) -> TiffPages:
    """The images of a TIFF, by its path or open to be read; what speaks against them is the fault, and no error.

    Raises:
        RemoteError: its bytes did not come.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            start = file.read(4)
    else:
        start = source.read(4)
        source.seek(0)
    if start not in TIFF_SIGNATURES:
        return TiffPages()
    try:
        # An NDPI is told by its name.
        with _silent_tifffile(), tifffile.TiffFile(source, name=Path(source.name).name) as tiff:
            pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
            for page in pages:
                _ = [page.tags.valueof(tag) for tag in _LATE_TAGS]
            return TiffPages(pages=pages, names=_series_names(tiff))
    except RemoteError:
        raise
    # Files are broken in more ways than tifffile has errors for.
    except Exception as error:  # noqa: BLE001
        return TiffPages(fault=str(error) or type(error).__name__)


@contextmanager
def _silent_tifffile() -> Iterator[None]:
    """Keep the library from telling of each fault of a file beside the one that is told."""
    log = logging.getLogger("tifffile")
    was_disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was_disabled


def _series_names(tiff: tifffile.TiffFile) -> dict[int, str]:
    if not tiff.is_ome or len(tiff.pages) == 1:
        return {}
    return {series.keyframe.index: series.name for series in tiff.series}
