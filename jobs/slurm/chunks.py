"""Slides dealt out to the elements of an array so that these end at about the same time."""

import heapq
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from bccdist.addresses import Address, Location
from bccdist.errors import ConfigurationError
from bccdist.files import read_json
from bccdist.log import LOG
from bccdist.slides.manifest import Manifest, SlideRecord

REPORT_NAME = "doctor.json"
"""Name of the doctor's report beside slides.csv: `python jobs/doctor.py slides.csv --report doctor.json`."""
OPENING_SHARE = 0.1
"""Share of the median slide's cost that is added to every slide: opening an empty one takes time, too. A guess."""
_Known = Mapping[str, tuple[float, int | None]]
"""Tissue in mm2 of the slides that a report knows, and bytes of the named file where it says so."""


def expected_costs(manifest: Manifest, slides: Sequence[SlideRecord]) -> dict[str, float]:
    """What each slide costs, relative to the others, in the order of `slides`.

    It is the slide's tissue in mm2 where the doctor's report beside slides.csv knows it. Else it follows from the
    size of its files, which are almost all tissue, because glass compresses to almost nothing; the median slide of the
    report says how much tissue a byte is. A slide that is not there, or whose size nobody knows, costs the median.
    """
    known = _read_report(manifest.path.with_name(REPORT_NAME))
    unknown = [slide for slide in slides if slide.slide_id not in known]
    mm2_per_byte = _mm2_per_byte(known, slides) if unknown else 1.0
    costs: dict[str, float | None] = {slide.slide_id: None for slide in slides}
    costs |= {slide.slide_id: known[slide.slide_id][0] for slide in slides if slide.slide_id in known}
    for slide in unknown:
        size_bytes = _size_bytes(slide.path)
        costs[slide.slide_id] = None if size_bytes is None else size_bytes * mm2_per_byte
    middle = median([cost for cost in costs.values() if cost is not None] or [1.0]) or 1.0
    return {slide_id: (middle if cost is None else cost) + OPENING_SHARE * middle for slide_id, cost in costs.items()}


def _read_report(path: Path) -> _Known:
    """The report's slides; none where there is no report, or one that cannot be used, which a line says."""
    if not path.exists():
        return {}
    try:
        rows = {row["slide_id"]: (row["tissue_mm2"], row["file_bytes"]) for row in read_json(path)["slides"]}
        return {name: (float(mm2), size) for name, (mm2, size) in rows.items() if mm2 is not None}
    except (OSError, ValueError, LookupError, TypeError) as error:
        LOG.warning(
            f"{path}: not used to deal out slides, because it is no report of jobs/doctor.py or an old one "
            f"({type(error).__name__}: {error}); the sizes of their files are used instead"
        )
        return {}


def _mm2_per_byte(known: _Known, slides: Sequence[SlideRecord]) -> float:
    """The median slide's tissue for each byte, among the slides that are known; 1 where none is."""
    ratios = []
    for slide in slides:
        if slide.slide_id in known:
            mm2, file_bytes = known[slide.slide_id]
            size_bytes = _size_bytes(slide.path) if file_bytes is None or _has_folder(slide.path) else file_bytes
            if size_bytes:
                ratios.append(mm2 / size_bytes)
    return (median(ratios) if ratios else 1.0) or 1.0


def _has_folder(path: Location) -> bool:
    """Whether the pixels lie in a folder beside the file (MIRAX)."""
    return path.suffix.lower() == ".mrxs"


def _size_bytes(path: Location) -> int | None:
    """Bytes of a slide's file, or of those in its folder; None where it is not there, or where a server knows."""
    if isinstance(path, Address):
        return None
    try:
        if not _has_folder(path):
            return path.stat().st_size
        with os.scandir(path.with_suffix("")) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file())
    except OSError:
        return None


def balanced_chunks(costs: Mapping[str, float], *, num: int) -> list[list[str]]:
    """At most `num` lists of nearly equal cost that hold every slide once, each in the order of `costs`.

    No list is empty. The most costly slide goes first, each to the list that has the least so far: the most costly
    list then costs at most 4/3 of what it would in the best of all divisions (Graham 1969).

    Raises:
        ConfigurationError: `num` is less than 1.
    """
    if num < 1:
        raise ConfigurationError(f"slides are to be dealt out to {num} elements of an array, expected 1 or more")
    names, values = list(costs), list(costs.values())
    chunks: list[list[int]] = [[] for _ in range(min(num, len(names)))]
    # Of two lists that cost the same the shorter one: where slides cost nothing no list stays empty.
    loads = [(0.0, 0, chunk) for chunk in range(len(chunks))]
    for position in sorted(range(len(names)), key=values.__getitem__, reverse=True):
        load, length, chunk = loads[0]
        chunks[chunk].append(position)
        heapq.heapreplace(loads, (load + values[position], length + 1, chunk))
    return [[names[position] for position in sorted(chunk)] for chunk in chunks]
