"""What a slide's pixels are, in some kilobytes: enough to find the same pixels, and the same tissue, in another file.

The content is a digest of level-0 pixels at places that follow from the pixels alone, so that neither container nor
tiles nor pyramid show in it. The landmarks are SIFT features of an overview at a fixed um/px, for `likeness`.
"""

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.addresses import Location
from bccdist.errors import RemoteError
from bccdist.files import atomic_path, digest_of
from bccdist.log import LOG
from bccdist.processes import Failure, run_each
from bccdist.remote.files import fingerprint_of
from bccdist.slides.geometry import Box
from bccdist.slides.level import OpenSlideLevel, pixels_of
from bccdist.slides.manifest import SlideRecord
from bccdist.slides.slide import Slide
from bccdist.slides.slide_file import open_file, open_slide_file

LANDMARK_MPP = 8.0
"""um per pixel of the overview in which landmarks are sought."""
MOST_LANDMARKS = 800
"""The strongest ones are kept."""
_VERSION = 1
"""Of the format and of what is computed; kept fingerprints of other versions are made anew."""
_PLACE_PX = 64
"""Edge of the squares whose pixels make the content."""
_FEWEST_PLACES, _MOST_PLACES = 32, 2048
_ENOUGH_TEXTURED = 8
"""Squares with something on them after which no more are read."""
_TEXTURED_FROM = 40
"""Range of grey values in a square, 0 to 255, from which something is on it; noise of glass has less."""
_PLASTIC = 1.324717957244746
"""Powers of its reciprocal, times 1, 2, 3 ..., modulo 1, fill a square evenly however many are taken."""
_TILE_PX, _MARGIN_PX = 1024, 64
"""Landmarks are sought in tiles of the overview, so that memory does not grow with the slide."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What is kept of a slide's pixels."""

    size_level0_px: tuple[int, int]
    content: str
    """Equal for equal level-0 pixels in whichever file; empty where nothing but glass was found on the slide."""
    positions_px: NDArray[np.float32]
    """Where the landmarks lie, (x, y) at `LANDMARK_MPP`, [n, 2]; the strongest landmark comes first."""
    descriptors: NDArray[np.uint8]
    """What the landmarks look like, by SIFT, [n, 128]."""


def make_fingerprint(path: Location, *, mpp: float | None) -> Fingerprint:
    """The fingerprint of a slide.

    Args:
        path: of the slide.
        mpp: um per level-0 pixel; None takes the file's.

    Raises:
        SlideError: it cannot be opened or read, or has no usable um/px.
    """
    with Slide(path, target_mpp=LANDMARK_MPP, mpp=mpp) as slide:
        positions_px, descriptors = find_landmarks(slide.thumbnail(LANDMARK_MPP))
        size = slide.level0_size
    return Fingerprint(
        size_level0_px=(int(size[0]), int(size[1])),
        content=content_of(path),
        positions_px=positions_px,
        descriptors=descriptors,
    )


def size_of(path: Location) -> tuple[int, int]:
    """Width and height of level 0, which slides with the same pixels share: a question of milliseconds.

    Raises:
        SlideError: the file cannot be opened.
    """
    with open_file(path) as handle:
        width, height = handle.dimensions
    return int(width), int(height)


def content_of(path: Location) -> str:
    """The digest of a slide's level-0 pixels at many places; empty where nothing but glass was found.

    Raises:
        SlideError: it cannot be opened or read.
    """
    with open_slide_file(path) as file, file.opened() as handle:
        level = OpenSlideLevel(lambda: handle, 0, file)
        digest = hashlib.sha256(repr(level.size_px).encode())
        num_textured = 0
        for number, box_px in enumerate(_places(level.size_px)):
            # How far this goes is decided by what was read, so that equal pixels give equal digests.
            if number >= _FEWEST_PLACES and num_textured >= _ENOUGH_TEXTURED:
                break
            square = pixels_of(level, box_px)
            digest.update(square.tobytes())
            grey = square.mean(axis=2)
            num_textured += bool(grey.max() - grey.min() >= _TEXTURED_FROM)
    return digest.hexdigest()[:24] if num_textured else ""


def _places(size_px: tuple[int, int]) -> Iterator[Box]:
    """Squares spread over a picture, the first few as evenly as all of them."""
    width, height = (min(edge, _PLACE_PX) for edge in size_px)
    for number in range(1, _MOST_PLACES + 1):
        x, y = (number / _PLASTIC % 1, number / _PLASTIC**2 % 1)
        yield Box(int(x * (size_px[0] - width + 1)), int(y * (size_px[1] - height + 1)), width, height)


def find_landmarks(overview: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The strongest landmarks of an overview at `LANDMARK_MPP`: where they are [n, 2], and what they look like."""
    grey = np.asarray(cv2.cvtColor(overview, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    # Low contrast counts, too: pale stains have landmarks as dark ones do, and only the strongest are kept.
    sift = cv2.SIFT.create(contrastThreshold=0.01)
    found = [(key, view) for middle, view in _tiles(grey) for key in _keys_in(sift, grey, middle=middle, view=view)]
    strongest = sorted(found, key=lambda each: -each[0].response)[:MOST_LANDMARKS]
    positions = [(view.x + key.pt[0], view.y + key.pt[1]) for key, view in strongest]
    descriptors = np.empty((len(strongest), 128), dtype=np.uint8)
    # Only what is kept is described, which takes longer than to find it.
    for view in dict.fromkeys(view for _, view in strongest):
        rows = [row for row, (_, seen_in) in enumerate(strongest) if seen_in == view]
        described = sift.compute(grey[view.slices()].copy(), [strongest[row][0] for row in rows])[1]
        descriptors[rows] = described.round().clip(0, 255).astype(np.uint8)
    return np.array(positions, dtype=np.float32).reshape(-1, 2), descriptors


def _tiles(grey: NDArray[np.uint8]) -> Iterator[tuple[Box, Box]]:
    """The tiles with something on them: each one's middle, which is no other's, and all of it."""
    height, width = grey.shape
    frame = Box(0, 0, width, height)
    for y in range(0, height, _TILE_PX):
        for x in range(0, width, _TILE_PX):
            edge_px = _TILE_PX + 2 * _MARGIN_PX
            view = Box(x - _MARGIN_PX, y - _MARGIN_PX, edge_px, edge_px).intersection(frame)
            pixels = grey[view.slices()]
            if int(pixels.max()) - int(pixels.min()) >= _TEXTURED_FROM:
                yield Box(x, y, _TILE_PX, _TILE_PX), view


def _keys_in(sift: Any, grey: NDArray[np.uint8], *, middle: Box, view: Box) -> list[Any]:
    """The landmarks that are found in a tile and lie in its middle."""
    return [
        key
        for key in sift.detect(grey[view.slices()].copy(), None)
        if middle.x <= view.x + key.pt[0] < middle.x_end and middle.y <= view.y + key.pt[1] < middle.y_end
    ]


def kept_beside(path: Path) -> Path:
    """The folder of kept fingerprints beside slides.csv or the doctor's report."""
    return path.resolve().with_name("fingerprints")


def key_of(record: SlideRecord) -> str:
    """Names what a fingerprint is made from: the file by its size and samples of its bytes, the um/px, our version.

    Raises:
        OSError: the file cannot be read.
        RemoteError: it is remote, and did not come.
    """
    return digest_of([_VERSION, fingerprint_of(record.path), record.mpp])


def kept_fingerprint(record: SlideRecord, folders: Sequence[Path]) -> Fingerprint | None:
    """The fingerprint of a slide from the first folder that keeps it; None where none does, or the file is gone."""
    if not any(folder.is_dir() for folder in folders):
        return None  # before the slide is opened for its key
    try:
        name = f"{key_of(record)}.npz"
    except (OSError, RemoteError):
        return None
    return next((read for folder in folders if (read := _read(folder / name)) is not None), None)


def _read(path: Path) -> Fingerprint | None:
    """A kept fingerprint; one that cannot be read is none, and will be made again."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            width, height = arrays["size_level0_px"].tolist()
            return Fingerprint(
                size_level0_px=(width, height),
                content=str(arrays["content"]),
                positions_px=arrays["positions_px"],
                descriptors=arrays["descriptors"],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def keep_fingerprint(record: SlideRecord, fingerprint: Fingerprint, folder: Path) -> None:
    """Write the fingerprint of a slide to a folder, which is made if it is missing."""
    with atomic_path(folder / f"{key_of(record)}.npz") as partial_path, partial_path.open("wb") as file:
        np.savez_compressed(
            file,
            size_level0_px=np.array(fingerprint.size_level0_px),
            content=np.array(fingerprint.content),
            positions_px=fingerprint.positions_px,
            descriptors=fingerprint.descriptors,
        )


def fingerprints_of(
    records: Sequence[SlideRecord],
    *,
    keep_in: Path | None,
    also_in: Sequence[Path] = (),
    num_workers: int | None = None,
    timeout_s: float = float("inf"),
) -> tuple[dict[str, Fingerprint], dict[str, str]]:
    """The fingerprints of slides by slide_id, kept or made, and the reasons of those that have none.

    Args:
        records: the slides.
        keep_in: the folder in which what is made is kept; None keeps nothing.
        also_in: folders that may have kept some, too; nothing is written there.
        num_workers: see `run_each`.
        timeout_s: for one slide.
    """
    folders = [*([] if keep_in is None else [keep_in]), *also_in]
    kept = {record.slide_id: kept_fingerprint(record, folders) for record in records}
    found = {slide_id: fingerprint for slide_id, fingerprint in kept.items() if fingerprint is not None}
    missing = {record.slide_id: record for record in records if record.slide_id not in found}
    setup = partial(open_fingerprinting, missing, keep_in)
    reasons: dict[str, str] = {}
    for slide_id, outcome in run_each(setup, list(missing), num_workers=num_workers, timeout_s=timeout_s):
        if isinstance(outcome, Failure):
            reasons[slide_id] = outcome.reason
        else:
            found[slide_id] = outcome
    # In the order of the records, whichever came first.
    return {record.slide_id: found[record.slide_id] for record in records if record.slide_id in found}, reasons


def open_fingerprinting(records: Mapping[str, SlideRecord], keep_in: Path | None) -> Callable[[str], Fingerprint]:
    """The work of one process: it makes the fingerprint of a slide, and keeps it where that is wanted."""

    def fingerprint(slide_id: str) -> Fingerprint:
        record = records[slide_id]
        made = make_fingerprint(record.path, mpp=record.mpp)
        if keep_in is not None:
            try:
                keep_fingerprint(record, made, keep_in)
            except (OSError, RemoteError) as error:
                LOG.warning(f"{keep_in}: the fingerprint of slide {slide_id} is not kept: {error}")
        return made

    return fingerprint
