"""Tables as parquet files that hold the SHA-256 of their bytes (`bccdist.seals`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from bccdist.errors import BccdistError
from bccdist.files import atomic_path
from bccdist.seals import BLANK_SEAL, SEAL_KEY, check_seal, say_unsealed, seal

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class OpenTable:
    """A parquet file whose bytes are those that were written."""

    file: pq.ParquetFile
    is_sealed: bool
    """Whether this is known; a file of an older version has no seal."""

    @property
    def schema(self) -> pa.Schema:
        """The columns, and what the writer said of the table."""
        return _without_seal(self.file.schema_arrow)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, of some columns or all."""
        table = self.file.read(None if columns is None else list(columns), use_threads=False)
        return table.cast(_without_seal(table.schema))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet table atomically, with a seal."""
    with atomic_path(path) as partial:
        # Beside the schema's own texts, which the file holds twice.
        with pq.ParquetWriter(partial, table.schema, compression="zstd") as writer:
            writer.add_key_value_metadata({SEAL_KEY: BLANK_SEAL})
            writer.write_table(table)
        seal(partial)


def open_table(path: Path, *, error: type[BccdistError], advice: str) -> OpenTable:
    """A parquet file, read and compared with its seal.

    Args:
        path: of the file.
        error: what is raised.
        advice: what to do about a damaged file.

    Raises:
        BccdistError: of the kind `error`; the file is damaged, or is no parquet file.
        FileNotFoundError: there is no such file.
    """
    data = path.read_bytes()
    is_sealed = check_seal(path, BytesIO(data), error=error, advice=advice)
    try:
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
    except (pa.ArrowException, OSError, ValueError) as fault:
        raise error(f"{path}: damaged, or no parquet file: {fault}; {advice}") from fault
    return OpenTable(file=file, is_sealed=is_sealed)


def read_table(
    path: Path, *, columns: Sequence[str] | None = None, error: type[BccdistError], advice: str
) -> pa.Table:
    """All rows of a parquet file, of some columns or all; one without a seal is read all the same, and named aloud.

    Args:
        path: of the file.
        columns: those that are wanted; None is all.
        error: what is raised.
        advice: what to do about a damaged file.

    Raises:
        BccdistError: of the kind `error`; the file is damaged, or is no parquet file.
        FileNotFoundError: there is no such file.
    """
    opened = open_table(path, error=error, advice=advice)
    if not opened.is_sealed:
        say_unsealed(path)
    try:
        return opened.read(columns)
    except (pa.ArrowException, OSError, ValueError) as fault:
        raise error(f"{path}: damaged: {fault}; {advice}") from fault


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


def _without_seal(schema: pa.Schema) -> pa.Schema:
    metadata = {key: text for key, text in (schema.metadata or {}).items() if key != SEAL_KEY.encode()}
    return schema.with_metadata(metadata or None)
