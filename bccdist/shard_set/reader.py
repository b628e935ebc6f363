"""Patches of a shard set by their row of its index, each checked and decoded."""

import hashlib
import os
import threading
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.errors import ShardError
from bccdist.shard_set.index import DIGEST_BYTES, ShardSet

_MOST_OPEN_TARS = 64


def is_intact(data: bytes, digest: int) -> bool:
    """Whether a member of a sample has the SHA-256 whose first bytes the index names.

    An image with wrong bytes inside can decode without complaint: a JPEG then is a picture that is grey in part.
    """
    return int.from_bytes(hashlib.sha256(data).digest()[:DIGEST_BYTES]) == digest


def decode_image(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels of a patch, RGB uint8 [h, w, 3]; None if these bytes are no image."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if image is None else np.asarray(image, dtype=np.uint8)


def decode_mask(data: bytes) -> NDArray[np.uint8] | None:
    """The mask of a patch, uint8 [h, w], 1 where Tumornest; None if these bytes are no image."""
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return None if mask is None else (np.asarray(mask) > 0).view(np.uint8)


class _Members(NamedTuple):
    """Where the images, or the masks, of all patches lie in their tars, and what they must be."""

    offsets: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    digests: NDArray[np.uint64]


class PatchReader:
    """Reads patches by their offsets in the tars, in as many threads as like to.

    What it knows of millions of patches lies in arrays of numbers.
    """

    def __init__(self, shard_set: ShardSet) -> None:
        self._shard_set = shard_set
        self._tar_codes, self._tars = shard_set.coded_column("tar")
        self._members = {kind: _members(shard_set, kind) for kind in ("image", "mask")}
        self._files: dict[int, int] = {}
        self._files_lock = threading.Lock()
        self._empty_mask: tuple[bytes, NDArray[np.uint8]] | None = None
        """Its PNG and its pixels, once it was seen: most patches have it, and it need not be decoded again."""

    def read(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One patch.

        Returns:
            RGB [h, w, 3] and mask [h, w], 1 where Tumornest.

        Raises:
            ShardError: the tar is not there, or the bytes are not those that the index names.
        """
        image = decode_image(self._bytes(row, "image"))
        if image is None:
            raise self._damage(row, "image")
        return image, self._mask(row)

    def _mask(self, row: int) -> NDArray[np.uint8]:
        data = self._bytes(row, "mask")
        if self._empty_mask is not None and data == self._empty_mask[0]:
            return self._empty_mask[1].copy()
        mask = decode_mask(data)
        if mask is None:
            raise self._damage(row, "mask")
        if not mask.any():
            self._empty_mask = (data, mask.copy())
        return mask

    def _bytes(self, row: int, kind: str) -> bytes:
        """What lies in the tar, if it is what the index says."""
        members = self._members[kind]
        file = self._file(int(self._tar_codes[row]))
        try:
            data = os.pread(file, int(members.num_bytes[row]), int(members.offsets[row]))
        finally:
            os.close(file)
        if not is_intact(data, int(members.digests[row])):
            raise self._damage(row, kind)
        return data

    def _damage(self, row: int, kind: str) -> ShardError:
        offset = int(self._members[kind].offsets[row])
        return ShardError(
            f"{self._path(row)}: the {kind} of patch {self._shard_set.key(row)} at byte {offset} is damaged; "
            f"run `python shards/check.py {self._shard_set.root}` and build the slide again"
        )

    def _path(self, row: int) -> Path:
        return self._shard_set.root / self._tars[int(self._tar_codes[row])]

    def _file(self, code: int) -> int:
        """A descriptor of the caller's own: another thread may drop the tar from those kept open meanwhile."""
        with self._files_lock:
            if code not in self._files:
                if len(self._files) >= _MOST_OPEN_TARS:
                    os.close(self._files.pop(next(iter(self._files))))
                self._files[code] = _open_tar(self._shard_set.root / self._tars[code])
            return os.dup(self._files[code])


def _members(shard_set: ShardSet, kind: str) -> _Members:
    return _Members(
        offsets=shard_set.column(f"{kind}_offset"),
        num_bytes=shard_set.column(f"{kind}_bytes"),
        digests=shard_set.digest_column(f"{kind}_sha256"),
    )


def _open_tar(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise ShardError(f"{path} is not there, although the index names it; build the shard set again") from None
