"""Which slides look like one piece of tissue, by their fingerprints.

A piece that was turned, mirrored, cut, recompressed or scanned again keeps the places of its landmarks up to a
similarity transform. Two slides look alike if enough of their landmarks agree under one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.slides.fingerprints import Fingerprint

LEAST_AGREEING = 7
"""Landmarks that agree under one transform, from which two slides look alike."""
LEAST_SHARE = 0.6
"""Share of the matched landmarks that has to agree: of one piece nearly all do, of two that only share corners or a
lattice less than half."""
_MOST_VOTERS = 300
"""Landmarks of each slide that say which other slides are compared with it in full; more find smaller cuttings."""
_LEAST_VOTES = 4
_LARGEST_RATIO = 0.8
"""Distance to the most similar landmark over that to the second, up to which a match counts (Lowe 2004)."""
_NEAR_PX = 3.0
"""How far a landmark may lie from where the transform puts it; px at `LANDMARK_MPP`."""
_LARGEST_SCALE = 5.0
"""Two scans of one piece differ no more than this, whatever their um/px say."""
_COLUMNS_AT_ONCE = 1 << 16
_MIRRORED_BINS = (-np.arange(8)) % 8
_Descriptors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Two slides that look like one piece of tissue."""

    slide_ids: tuple[str, str]
    num_agreeing: int
    """Landmarks that agree."""
    is_mirrored: bool


def look_alikes(fingerprints: Mapping[str, Fingerprint]) -> list[Likeness]:
    """The pairs of slides that look like one piece of tissue; those with the same pixels are among them."""
    slide_ids = list(fingerprints)
    shapes = [_shape_of(fingerprint) for fingerprint in fingerprints.values()]
    found: dict[tuple[str, str], Likeness] = {}
    for one, other, is_mirrored in _candidates([shape.descriptors[:_MOST_VOTERS] for shape in shapes]):
        num_agreeing = _num_agreeing(shapes[one], shapes[other], is_mirrored=is_mirrored)
        pair = (slide_ids[one], slide_ids[other])
        if num_agreeing >= max(LEAST_AGREEING, found[pair].num_agreeing if pair in found else 0):
            found[pair] = Likeness(slide_ids=pair, num_agreeing=num_agreeing, is_mirrored=is_mirrored)
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """The landmarks of a slide, ready to be compared."""

    positions_px: NDArray[np.float32]
    descriptors: _Descriptors
    """Square roots of each descriptor's shares, of length 1: their products are Hellinger's similarity."""


def _shape_of(fingerprint: Fingerprint) -> _Shape:
    raw = fingerprint.descriptors.astype(np.float32)
    return _Shape(
        positions_px=fingerprint.positions_px,
        descriptors=np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1)),
    )


def _mirrored(descriptors: _Descriptors) -> _Descriptors:
    """What the landmarks of the mirrored slide look like: SIFT's 4 x 4 fields change sides, its 8 directions sign."""
    fields = descriptors.reshape(-1, 4, 4, 8)
    return np.ascontiguousarray(fields[:, ::-1][..., _MIRRORED_BINS]).reshape(-1, 128)


def _candidates(voters: Sequence[_Descriptors]) -> Iterator[tuple[int, int, bool]]:
    """The pairs worth a full comparison, and whether mirrored.

    Each landmark votes for the slide that has the one most like it. A pair is compared if the landmarks of either
    slide give the other more votes than it would get if they were spread evenly.
    """
    sizes = np.array([len(each) for each in voters], dtype=np.int64)
    owners = np.repeat(np.arange(len(voters)), sizes)
    evenly = sizes / max(1, len(voters) - 1)
    least_votes = np.minimum(evenly + _LEAST_VOTES, sizes / 2)
    for is_mirrored in (False, True):
        nearest = _nearest_owners(voters, owners, is_mirrored=is_mirrored)
        votes = np.zeros((len(voters), len(voters)))
        np.add.at(votes, (owners[nearest >= 0], nearest[nearest >= 0]), 1)
        is_enough = (votes >= least_votes[:, None]) & (votes > 0)
        for one, other in np.argwhere(np.triu(is_enough | is_enough.T)).tolist():
            yield one, other, is_mirrored


def _nearest_owners(
    voters: Sequence[_Descriptors], owners: NDArray[np.int64], *, is_mirrored: bool
) -> NDArray[np.int64]:
    """For each landmark of all slides, the other slide that has the most similar one; -1 where there is no other."""
    stacked = np.concatenate(voters) if voters else np.empty((0, 128), dtype=np.float32)
    best = np.full(len(stacked), -1, dtype=np.float32)
    nearest = np.full(len(stacked), -1, dtype=np.int64)

    def improve(rows: slice, similarity: NDArray[np.float32], owner: NDArray[np.int64]) -> None:
        is_better = similarity > best[rows]
        best[rows] = np.where(is_better, similarity, best[rows])
        nearest[rows] = np.where(is_better, owner, nearest[rows])

    stop = 0
    # Each pair of slides once: the products serve the landmarks of both.
    for number, own in enumerate(voters):
        rows = slice(stop, stop + len(own))
        stop = rows.stop
        probe = _mirrored(own) if is_mirrored else own
        for start in range(stop, len(stacked), _COLUMNS_AT_ONCE):
            columns = slice(start, min(start + _COLUMNS_AT_ONCE, len(stacked)))
            if not len(own):
                break
            similarity = probe @ stacked[columns].T
            most = similarity.argmax(axis=1)
            improve(rows, similarity[np.arange(len(own)), most], owners[columns][most])
            improve(columns, similarity.max(axis=0), np.full(columns.stop - columns.start, number))
    return nearest


def _num_agreeing(one: _Shape, other: _Shape, *, is_mirrored: bool) -> int:
    """How many landmarks agree under one similarity transform, at different places; 0 where too many disagree."""
    positions_px, descriptors = other.positions_px, other.descriptors
    if is_mirrored:
        positions_px, descriptors = positions_px * np.array([-1, 1], dtype=np.float32), _mirrored(descriptors)
    matches = _matches(one.descriptors, descriptors)
    if len(matches) < LEAST_AGREEING:
        return 0
    here, there = one.positions_px[matches[:, 0]], positions_px[matches[:, 1]]
    transform: Any
    transform, agrees = cv2.estimateAffinePartial2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=_NEAR_PX)
    if transform is None:
        return 0
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    if not 1 / _LARGEST_SCALE <= scale <= _LARGEST_SCALE:
        return 0
    if np.count_nonzero(agrees) < LEAST_SHARE * len(matches):
        return 0
    # One place may have several landmarks, and all of a slide may be drawn into one: neither counts twice.
    inliers = agrees[:, 0] > 0
    return min(len(np.unique(side[inliers].round(), axis=0)) for side in (here, there))


def _matches(one: _Descriptors, other: _Descriptors) -> NDArray[np.int64]:
    """Pairs of landmarks that are each other's most similar ones, and clearly more so than the next: rows, [n, 2]."""
    if len(one) < 2 or len(other) < 2:
        return np.empty((0, 2), dtype=np.int64)
    similarity = one @ other.T
    rows = np.arange(len(one))
    most = similarity.argmax(axis=1)
    is_mutual = similarity.argmax(axis=0)[most] == rows
    best = similarity[rows, most]
    similarity[rows, most] = -1
    second = similarity.max(axis=1)
    # The squared distance of two vectors of length 1 is 2 - 2 * their product.
    is_clear = (1 - best) < _LARGEST_RATIO**2 * (1 - second)
    kept = is_mutual & is_clear
    return np.stack([rows[kept], most[kept]], axis=1)
