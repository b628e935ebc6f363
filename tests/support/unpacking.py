"""All bytes that a file holds, also those within archives, compressed streams, tables and pictures."""

import base64
import contextlib
import gzip
import io
import json
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray
from PIL import Image

_ZIP, _GZIP, _PARQUET, _ZSTD = b"PK\x03\x04", b"\x1f\x8b", b"PAR1", b"\x28\xb5\x2f\xfd"
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"GIF8", b"RIFF")
_DATA_URL = re.compile(rb"data:[\w/+.-]+;base64,([A-Za-z0-9+/=]+)")
_TAR_MAGIC = slice(257, 262)

Layer = tuple[str, bytes]


def layers(name: str, data: bytes) -> Iterator[Layer]:
    """The bytes themselves, and what is packed in them, each with its place."""
    yield name, data
    for inner, content in _inside(data):
        yield from layers(f"{name} > {inner}", content)


def files_below(folder: Path) -> Iterator[Layer]:
    """The names of all files below a folder, as bytes of a place of their own, and what the files hold."""
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder).as_posix()
        yield f"name of {place}", place.encode()
        if path.is_file() and not path.is_symlink():
            yield from layers(place, path.read_bytes())


def pictures_in(data: bytes) -> Iterator[NDArray[np.uint8]]:
    """The pages of a picture, uint8 RGB [h, w, 3]; nothing where the bytes are none."""
    if not data.startswith(_PICTURES):
        return
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(io.BytesIO(data)) as picture:
        for page in range(getattr(picture, "n_frames", 1)):
            picture.seek(page)
            yield np.asarray(picture.convert("RGB"))


def _inside(data: bytes) -> Iterator[Layer]:
    openers = {_ZIP: _in_zip, _PARQUET: _in_parquet, **dict.fromkeys(_PICTURES, _in_picture)}
    for magic, opened in openers.items():
        if data.startswith(magic):
            return opened(data)
    if data.startswith(_GZIP):
        return iter([("gzip", gzip.decompress(data))])
    return _in_tar(data) if data[_TAR_MAGIC] == b"ustar" else _in_text(data)


def _in_parquet(data: bytes) -> Iterator[Layer]:
    table = pq.read_table(io.BytesIO(data))
    yield "table", json.dumps(table.to_pydict(), default=str).encode()
    yield "metadata", b" ".join(part for pair in (table.schema.metadata or {}).items() for part in pair)


def _in_picture(data: bytes) -> Iterator[Layer]:
    with Image.open(io.BytesIO(data)) as picture:
        yield "texts", repr({**picture.info, **_tags(picture)}).encode()


def _in_tar(data: bytes) -> Iterator[Layer]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            if (file := tar.extractfile(member)) is not None:
                yield member.name, file.read()


def _in_text(data: bytes) -> Iterator[Layer]:
    # Of a zarr shard, which holds several streams, the arrays are read above.
    with contextlib.suppress(zlib.error, imagecodecs.ZstdError):
        yield "stream", imagecodecs.zstd_decode(data) if data.startswith(_ZSTD) else zlib.decompress(data)
    for number, match in enumerate(_DATA_URL.finditer(data)):
        yield f"data {number}", base64.b64decode(match[1])


def _tags(picture: Image.Image) -> dict[Any, Any]:
    return dict(getattr(picture, "tag_v2", {})) | dict(picture.getexif())


def _in_zip(data: bytes) -> Iterator[Layer]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        yield "comment", file.comment
        names = file.namelist()
        for name in names:
            yield f"name of {name}", name.encode()
            yield name, file.read(name)
    if "zarr.json" in names:
        with tempfile.NamedTemporaryFile(suffix=".zip") as copy:
            copy.write(data)
            copy.flush()
            group = zarr.open_group(zarr.storage.ZipStore(copy.name, mode="r"), mode="r")
            for name, member in group.members(max_depth=None):
                if isinstance(member, zarr.Array):
                    yield f"array {name}", np.asarray(member[:]).tobytes()
