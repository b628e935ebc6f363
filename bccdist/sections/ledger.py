"""The section ledger: one row per slide, section, setting, epoch and psi (paper, section 2.4).

A row holds what every later question needs: the curve of the largest region over all thresholds, and that of the
smallest distance to the tissue's edge (research use only), so that no heatmap is read again. `SCHEMA` is the contract;
its version stands in the file's metadata, and so does the method by which tissue was shared out among the sections.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from bccdist.errors import LedgerError, NothingToShowError
from bccdist.files import digest_of, is_read_only
from bccdist.log import LOG
from bccdist.parquet import open_table, write_table
from bccdist.slides.versions import SECTION_METHOD

SCHEMA_VERSION = "6"
_WITHOUT_QUALITY = "5"
"""The version before: it lacks these columns, so nothing of them was measured."""
_QUALITY = (
    *("focus", "compression", "stain_density", "stain_hue", "ink_share", "fold_share", "air_share", "features"),
    "not_assessable",
)
_FOCUS_TEXT = (
    "log ratio of fine to coarse texture of the density of green at the network's resolution, the median over the "
    "section's tissue; low is blurred; this and the columns up to features are null where not measured"
)
_COMPRESSION_TEXT = (
    "log ratio of steps across JPEG's blocks to other steps, the median over the section's tissue; high is strongly "
    "compressed; null where pixels were resampled, too"
)
_NOT_ASSESSABLE_TEXT = (
    "of a cohort: why the model is not to be believed on this section, by the quality of the sections that it was "
    "chosen on, or by absolute limits; empty where nothing speaks against it, null where that was not judged"
)
_MARGIN_TEXT = (
    "research use only; at each of 256 probability steps: the smallest distance in um from a pixel of at least this "
    "probability to the edge of the tissue found, which need not be a surgical margin; a lower bound of the margins "
    "of the regions that t_A keeps; NaN where no pixel reaches the step"
)
_REACHED_TEXT = (
    "how the verdict was reached: exact (paper's tiling, float32), certified (by a fast way, with the certificate's "
    "confidence), recomputed (exactly, as the fast way could not settle it), checked (exactly, though it was "
    "certified), outside (exactly, as the slide lies outside of what was calibrated), or fast (no claim is made)"
)
_APART_TEXT = (
    "of the deciding output where both ways were computed: the probability steps within which the exact curve at "
    "t_p lies from the fast one, 0 to 256; at most certificate_levels where the bound holds"
)
_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("slide_id", pa.string(), "the slide, as in slides.csv"),
    ("section_id", pa.string(), "the section, as in sections.csv, or slide_id-sN for found ones"),
    ("part", pa.string(), "Training, Validation I, Validation II or Test"),
    ("setting", pa.string(), "unet, resnet34, resnet34_ds or resnet34_linear"),
    ("epoch", pa.int32(), "the weights' epoch; the first is 1"),
    ("psi", pa.string(), "psi_0 to psi_4, or merged"),
    ("is_final", pa.bool_(), "whether this psi is the setting's own output"),
    ("x_level0_px", pa.int64(), "left edge of the section's box"),
    ("y_level0_px", pa.int64(), "top edge of the section's box"),
    ("width_level0_px", pa.int64(), "width of the section's box"),
    ("height_level0_px", pa.int64(), "height of the section's box"),
    ("label", pa.string(), "Tumor or Normal; null where nobody labelled it"),
    ("labelled_by", pa.string(), "who set the label"),
    ("labelled_at", pa.string(), "when the label was set"),
    ("prefilled", pa.string(), "what a model had filled in before"),
    ("tissue_um2", pa.float64(), "area of the section's own tissue, without what neighbours have in its box"),
    ("coverage", pa.float64(), "share of that tissue that was read and predicted, 0 to 1; below 1 means review"),
    ("mpp", pa.float64(), "um per target-frame pixel (10x) of this slide"),
    ("pixel_px", pa.int32(), "edge of one heatmap pixel in target-frame pixels"),
    (
        "largest_region_px",
        pa.list_(pa.uint32()),
        "at each of 256 probability steps: heatmap pixels in the largest region",
    ),
    ("margin_um", pa.list_(pa.float32()), _MARGIN_TEXT),
    ("max_probability", pa.float32(), "highest probability in the section"),
    ("p99_probability", pa.float32(), "99th percentile of the section's tissue pixels"),
    ("reached_by", pa.string(), _REACHED_TEXT),
    ("levels_apart", pa.int16(), _APART_TEXT),
    ("certificate_levels", pa.int16(), "d, the bound on these steps; null where there is no certificate"),
    ("certificate_confidence", pa.float64(), "with which the bound holds for a further slide"),
    ("certificate_num_slides", pa.int32(), "calibrated slides that it rests on"),
    ("certificate_t_p", pa.float64(), "t_p that was certified; at another one nothing is claimed"),
    ("certificate_t_a_um2", pa.float64(), "t_A that was certified"),
    ("certificate_area_unit", pa.string(), "how that area is counted: physical or nominal"),
    ("focus", pa.float32(), _FOCUS_TEXT),
    ("compression", pa.float32(), _COMPRESSION_TEXT),
    ("stain_density", pa.float32(), "median optical density (natural logarithm) of green on tissue"),
    ("stain_hue", pa.float32(), "red's median density less blue's, over their sum: -1 to 1"),
    ("ink_share", pa.float32(), "share of the section's tissue under ink"),
    ("fold_share", pa.float32(), "share of the section's tissue that is folded"),
    ("air_share", pa.float32(), "share of the section's tissue under air bubbles and edges of coverslips"),
    ("features", pa.list_(pa.float32()), "the network's deepest encoder features in float32, mean over sampled cells"),
    ("not_assessable", pa.string(), _NOT_ASSESSABLE_TEXT),
    ("reader", pa.string(), "what read the slide's pixels: tiles (out of the file directly) or openslide"),
    ("why_openslide", pa.string(), "why its tiles were not read directly; empty where they were"),
    ("read_s", pa.float64(), "seconds spent on reading the slide"),
    ("network_s", pa.float64(), "seconds spent in the network, for the slide"),
    ("weights_digest", pa.string(), "first 12 hex digits of the weights' SHA-256"),
    ("config_digest", pa.string(), "names all that shapes a heatmap beside weights and slide"),
    ("slide_fingerprint", pa.string(), "names the slide's file"),
    ("phantom", pa.bool_(), "true for drawn slides: not tissue"),
    ("phantom_weights", pa.bool_(), "true where the network was trained on drawn slides, whatever this slide is"),
)
SCHEMA = pa.schema(
    [pa.field(name, kind, metadata={"description": text}) for name, kind, text in _COLUMNS],
    metadata={
        "bccdist.schema": "sections",
        "bccdist.schema_version": SCHEMA_VERSION,
        "bccdist.section_method": SECTION_METHOD,
    },
)
KEY = ("slide_id", "section_id", "setting", "epoch", "psi")
_LISTING = b"bccdist.rows"
_NUM_READERS = 2
_AGAIN = (
    "run the inference stage again for the same parts and epochs, without --only-missing: it writes the rows anew "
    "from the heatmaps that are there"
)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write ledger rows atomically.

    Args:
        path: the parquet file.
        rows: one mapping a row, with every column of the schema.
        metadata: kept in the file beside the schema's version.

    Raises:
        LedgerError: a row lacks a column, has an unknown one, or a value of another type.
    """
    table = table_of(rows, where=path)
    write_table(path, table.replace_schema_metadata({**SCHEMA.metadata, **(metadata or {})}))


def table_of(rows: Iterable[Mapping[str, Any]], *, where: Path) -> pa.Table:
    """Rows as a table of the ledger's schema.

    Args:
        rows: one mapping a row, with every column.
        where: what they are of or for, for messages.

    Raises:
        LedgerError: a row lacks a column, has an unknown one, or a value of another type.
    """
    rows = list(rows)
    # pyarrow would fill a missing column with nulls and drop an unknown one without a word.
    for row in rows:
        if set(row) != set(SCHEMA.names):
            raise LedgerError(f"{where}: a row differs from the schema in {sorted(set(row) ^ set(SCHEMA.names))}")
    try:
        return pa.Table.from_pylist(rows, schema=SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise LedgerError(f"{where}: a value does not fit the schema: {error}") from error


def read_rows(path: Path) -> pa.Table:
    """The ledger rows of one file, or of all parquet files below a folder.

    Raises:
        LedgerError: there is none, or it has another schema.
    """
    files = _files(path) if path.is_dir() else [path]
    if not files or not all(file.exists() for file in files):
        raise NothingToShowError(f"{path}: no section ledger there; run the inference stage first")
    with ThreadPoolExecutor(_NUM_READERS) as readers:
        return pa.concat_tables(readers.map(_read_file, files))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def _read_file(file: Path) -> pa.Table:
    opened = open_table(file, error=LedgerError, advice=f"remove it, then {_AGAIN}")
    outdated = why_outdated(opened.schema.metadata or {})
    if outdated:
        raise LedgerError(f"{file}: {outdated}; {_AGAIN}")
    table = opened.read().replace_schema_metadata(SCHEMA.metadata)
    if (opened.schema.metadata or {})[b"bccdist.schema_version"] == _WITHOUT_QUALITY.encode():
        for name in _QUALITY:
            table = table.append_column(SCHEMA.field(name), pa.nulls(len(table), SCHEMA.field(name).type))
        table = table.select(SCHEMA.names)
    return table.cast(SCHEMA)


def why_outdated(metadata: Mapping[bytes, bytes]) -> str:
    """What keeps a ledger file with this metadata from being read as one of today; empty where nothing does."""
    for key, name, also in (
        (b"bccdist.schema_version", "ledger schema version", [_WITHOUT_QUALITY.encode()]),
        (b"bccdist.section_method", "section method", []),
    ):
        found, expected = metadata.get(key), SCHEMA.metadata[key]
        if found not in [expected, *also]:
            got = "none" if found is None else repr(found.decode())
            return f"{name} is {got}, expected {expected.decode()!r}"
    return ""


def merge(folder: Path, target: Path) -> pa.Table:
    """Gather all rows below `folder` into one sorted file `target`, and return them.

    What was gathered before from the same files is taken as it is: `target` names them, with their sizes and times.

    Raises:
        LedgerError: a row's key occurs twice, or there are no rows.
    """
    listing = _listing(folder)
    if target.exists() and (gathered := _gathered_before(target, listing)) is not None:
        return gathered
    # Sorted, so that the same rows give the same file in whatever order jobs ended.
    table = read_rows(folder).sort_by([(name, "ascending") for name in KEY])
    num_keys = table.group_by(list(KEY)).aggregate([]).num_rows
    if num_keys != table.num_rows:
        raise LedgerError(f"{folder}: {table.num_rows} rows but {num_keys} keys {KEY}: a section stands there twice")
    if is_read_only(target.parent):
        LOG.info(f"{target.parent} is read-only, so the rows that were gathered are not kept there")
    else:
        write_table(target, table.replace_schema_metadata({**SCHEMA.metadata, _LISTING: listing}))
    return table


def _gathered_before(target: Path, listing: bytes) -> pa.Table | None:
    """What was gathered from the files of this listing; None where it was from others, or is damaged."""
    try:
        metadata = open_table(target, error=LedgerError, advice="it is made anew").schema.metadata or {}
        return read_rows(target) if metadata.get(_LISTING) == listing else None
    except LedgerError as error:
        LOG.warning(str(error))
        return None


def _listing(folder: Path) -> bytes:
    """Names the files below a folder as they are now."""
    stats = [(str(file.relative_to(folder)), file.stat()) for file in _files(folder)]
    return digest_of([[name, stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in stats]).encode()
