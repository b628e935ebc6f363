"""What an audit found, as parquet: one row an outline, a predicted region without an outline, or a patch."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import shapely

from bccdist.audit.findings import Finding, Reason, Shown, Unit
from bccdist.errors import LedgerError
from bccdist.parquet import IDENTITY_KEY, identity_in, open_table, read_table, write_table
from bccdist.paths import AuditPaths
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import BOX_COLUMNS

VERSION = "2"
METHOD = 2
"""Of the comparison: rows of another one are made anew."""
_COLUMNS: tuple[tuple[str, pa.DataType, bool, str], ...] = (
    ("id", pa.string(), False, "names the row: slide_id, what it is about, and its number on the slide"),
    ("slide_id", pa.string(), False, "the slide, as in slides.csv"),
    ("fold", pa.int32(), False, "the fold whose training did not see the slide's patient"),
    ("weights_digest", pa.string(), False, "first 12 hex digits of the SHA-256 of that training's weights"),
    ("unit", pa.string(), False, "outline, region (predicted, without an outline) or patch"),
    ("rank", pa.int64(), False, "place, the first is 1; of patches that show the same, all but one come last"),
    ("score", pa.float64(), True, "how far prediction and annotation contradict, null where nothing was compared"),
    ("reason", pa.string(), False, f"{', '.join(Reason)}; of a patch that of what it shows"),
    ("text", pa.string(), False, "the reason in a sentence"),
    ("shows", pa.string(), True, "of a patch the outline or region that its score is of; else null"),
    ("kind", pa.string(), True, "as it is annotated: Tumornest, Stroma or Normal; null for regions and patches"),
    ("mean_probability", pa.float64(), True, "mean probability of tumor inside; null where nothing was read"),
    ("area_um2", pa.float64(), False, "area, um2"),
    ("x_level0_px", pa.float64(), False, "left edge of its box"),
    ("y_level0_px", pa.float64(), False, "top edge of its box"),
    ("width_level0_px", pa.float64(), False, "width of its box"),
    ("height_level0_px", pa.float64(), False, "height of its box"),
    ("geometry", pa.binary(), True, "its shape in level-0 px, as WKB; null for patches"),
    ("proposed_kind", pa.string(), True, "the kind that a correction would give it; null where none is proposed"),
    ("proposed_geometry", pa.binary(), True, "the shape that it would have, in level-0 px, as WKB"),
    ("phantom", pa.bool_(), False, "true where any slide of the shard set is drawn: not tissue"),
)
SCHEMA = pa.schema(
    [pa.field(name, kind, nullable=null, metadata={"description": text}) for name, kind, null, text in _COLUMNS],
    metadata={"bccdist.schema": "audit", "bccdist.schema_version": VERSION},
)
_ADVICE = "remove it, and launch the audit again"


@dataclass(frozen=True, kw_only=True)
class AuditIdentity:
    """What the rows of a slide were made from; while it is the same, they need not be made again."""

    method: int
    fold: int
    weights_digest: str
    shard_set: str
    annotation_digest: str
    slide_fingerprint: str


@dataclass(frozen=True, kw_only=True)
class SlideAudit:
    """What is said of one slide."""

    identity: AuditIdentity
    downsample: float
    """Level-0 pixels per pixel of its map."""
    mpp: float
    """um per pixel of its map."""
    rows: pa.Table


def finding_row(slide_id: str, finding: Finding) -> dict[str, Any]:
    """An outline or region as a row, without what all rows of its slide share."""
    left, top, right, bottom = finding.geometry.bounds
    return {
        "id": _id_of(slide_id, finding),
        "unit": finding.unit.value,
        "score": _number(finding.score),
        "reason": finding.reason.value,
        "text": finding.text,
        "kind": finding.kind and finding.kind.value,
        "mean_probability": _number(finding.mean_probability),
        "area_um2": finding.area_um2,
        **_box_columns((left, top, right - left, bottom - top)),
        "geometry": shapely.to_wkb(finding.geometry),
        "proposed_kind": finding.proposed_kind and finding.proposed_kind.value,
        "proposed_geometry": None if finding.proposed is None else shapely.to_wkb(finding.proposed),
    }


def _id_of(slide_id: str, finding: Finding) -> str:
    return f"{slide_id}/{finding.unit}-{finding.number}"


def patch_row(
    slide_id: str, number: int, shown: Shown | None, box_level0_px: Box, *, area_um2: float
) -> dict[str, Any]:
    """A patch as a row, without what all rows of its slide share."""
    return {
        "id": f"{slide_id}/{Unit.PATCH}-{number}",
        "unit": Unit.PATCH.value,
        "score": shown.score if shown else 0.0,
        "reason": (shown.finding.reason if shown else Reason.AGREES).value,
        "text": f"{shown.share:.0%} of it: {shown.finding.text}" if shown else "no outline, and no tumor is predicted",
        "shows": _id_of(slide_id, shown.finding) if shown else None,
        "area_um2": area_um2,
        **_box_columns(box_level0_px),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _box_columns(box: Sequence[float]) -> dict[str, float]:
    return {name: float(side) for name, side in zip(BOX_COLUMNS, box, strict=True)}


def tabulate(rows: Iterable[Mapping[str, Any]], **shared: Any) -> pa.Table:
    """Rows of a slide as a table; ranks are given when all slides are there."""
    return pa.Table.from_pylist([{**shared, **row, "rank": 0} for row in rows], schema=SCHEMA)


def write_slide(path: Path, audit: SlideAudit) -> None:
    """Write the rows of a slide atomically."""
    about = {**asdict(audit.identity), "downsample": audit.downsample, "mpp": audit.mpp}
    metadata = {**(SCHEMA.metadata or {}), IDENTITY_KEY: json.dumps(about, sort_keys=True)}
    write_table(path, audit.rows.replace_schema_metadata(metadata))


def read_slide(path: Path) -> SlideAudit:
    """The rows of a slide.

    Raises:
        LedgerError: they are not there, are damaged, or of another version.
    """
    if not path.exists():
        raise LedgerError(f"{path}: not there; launch the audit again with --only-missing")
    opened = open_table(path, error=LedgerError, advice=_ADVICE)
    _require_version(path, opened.schema)
    about = identity_in(opened.schema.metadata)
    downsample, mpp = about.pop("downsample"), about.pop("mpp")
    return SlideAudit(identity=AuditIdentity(**about), downsample=downsample, mpp=mpp, rows=opened.read())


def gather(paths: AuditPaths, slide_ids: Iterable[str]) -> pa.Table:
    """The rows of some slides, ranked.

    Raises:
        LedgerError: a slide has no rows, or damaged ones.
    """
    return rank(read_slide(paths.rows(slide_id)).rows for slide_id in slide_ids)


def rank(tables: Iterable[pa.Table]) -> pa.Table:
    """The rows of all slides, most contradictory first: outlines and regions, then patches.

    Patches overlap: of those that show the same finding most of all, the one that holds most of it has its place by
    score, and the others come after all such.
    """
    table = pa.concat_tables(each.replace_schema_metadata(SCHEMA.metadata) for each in tables)
    # By name where scores are equal, so that the same rows come in the same order.
    ordered = table.sort_by([("score", "descending"), ("id", "ascending")])
    is_patch = pc.equal(ordered["unit"], Unit.PATCH.value)
    patches = ordered.filter(is_patch)
    is_news = pa.array(_are_news(patches["shows"].to_pylist()), pa.bool_())
    patches = pa.concat_tables(patches.filter(kept) for kept in (is_news, pc.invert(is_news)))
    return pa.concat_tables(map(_ranked, (ordered.filter(pc.invert(is_patch)), patches)))


def _are_news(shown: Iterable[str | None]) -> Iterator[bool]:
    """Whether each patch is the first to show what it shows; one that shows nothing is none."""
    before: set[str | None] = {None}
    for each in shown:
        yield each not in before
        before.add(each)


def _ranked(table: pa.Table) -> pa.Table:
    place = SCHEMA.get_field_index("rank")
    return table.set_column(place, SCHEMA.field(place), pa.array(range(1, table.num_rows + 1), pa.int64()))


def read_audit(path: Path) -> pa.Table:
    """An audit's table.

    Raises:
        LedgerError: it is not there, is damaged, or of another version.
    """
    if not path.exists():
        raise LedgerError(f"{path}: not there; run `python jobs/launch_audit.py` to its end first")
    table = read_table(path, error=LedgerError, advice=_ADVICE)
    _require_version(path, table.schema)
    return table


def _require_version(path: Path, schema: pa.Schema) -> None:
    version = (schema.metadata or {}).get(b"bccdist.schema_version", b"none").decode()
    if version != VERSION or schema.names != SCHEMA.names:
        raise LedgerError(f"{path}: version {version}, expected {VERSION}; {_ADVICE}")
