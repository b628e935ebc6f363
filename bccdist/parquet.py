"""Tables as parquet files that hold the SHA-256 of their bytes (`bccdist.seals`)."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bccdist.errors import BccdistError
from bccdist.files import atomic_path
from bccdist.seals import BLANK_SEAL, SEAL_KEY, read_sealed, seal, sealed

if TYPE_CHECKING:
    import pandas as pd

IDENTITY_KEY = b"bccdist.identity"
"""Key, in a file's metadata, of what the rows of one slide were made from."""


def identity_in(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """What the rows of one slide were made from; empty where the file does not say it.

    Raises:
        ValueError: what stands there is no JSON.
    """
    text = (metadata or {}).get(IDENTITY_KEY)
    return {} if text is None else dict(json.loads(text))


class OpenTable:
    """A parquet file whose bytes are those that were written, as far as its seal tells."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file

    @property
    def schema(self) -> pa.Schema:
        """The columns, and what the writer said of the table."""
        return self._file.schema_arrow

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, of some columns or all."""
        table = self._file.read(None if columns is None else list(columns), use_threads=False)
        return table.replace_schema_metadata(self.schema.metadata)  # without the seal, which is the file's


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet table atomically, with a seal."""
    with atomic_path(path) as partial:
        _write(partial, table)
        seal(partial)


def table_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of a parquet file, with a seal."""
    file = io.BytesIO()
    _write(file, table)
    return sealed(file.getvalue())


def _write(where: Path | io.BytesIO, table: pa.Table) -> None:
    # Beside the schema's own texts, which the file holds twice.
    with pq.ParquetWriter(where, table.schema, compression="zstd") as writer:
        writer.add_key_value_metadata({SEAL_KEY: BLANK_SEAL})
        writer.write_table(table)


def open_table(path: Path, *, error: type[BccdistError], advice: str) -> OpenTable:
    """A parquet file, compared with its seal; one without a seal is read all the same, and named aloud.

    Args:
        path: of the file.
        error: what is raised.
        advice: what to do about a damaged file.

    Raises:
        BccdistError: of the kind `error`; the file is damaged, or is no parquet file.
        FileNotFoundError: there is no such file.
    """
    data = read_sealed(path, error=error, advice=advice)
    with _naming(path, error=error, advice=advice):
        return OpenTable(pq.ParquetFile(pa.BufferReader(data), pre_buffer=False))


def read_table(
    path: Path, *, columns: Sequence[str] | None = None, error: type[BccdistError], advice: str
) -> pa.Table:
    """All rows of a parquet file, of some columns or all; see `open_table`.

    Raises:
        BccdistError: of the kind `error`; the file is damaged, or is no parquet file.
        FileNotFoundError: there is no such file.
    """
    opened = open_table(path, error=error, advice=advice)
    with _naming(path, error=error, advice=advice):
        return opened.read(columns)


@contextmanager
def _naming(path: Path, *, error: type[BccdistError], advice: str) -> Iterator[None]:
    """Name the file where pyarrow cannot read it."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as fault:
        raise error(f"{path}: damaged, or no parquet file: {fault}; {advice}") from fault


def read_frame(
    path: Path, *, columns: Sequence[str] | None = None, error: type[BccdistError], advice: str
) -> "pd.DataFrame":
    """What `read_table` reads, as a frame.

    Raises:
        BccdistError: of the kind `error`; the file is damaged, or is no parquet file.
        FileNotFoundError: there is no such file.
    """
    frame: pd.DataFrame = read_table(path, columns=columns, error=error, advice=advice).to_pandas()
    return frame
