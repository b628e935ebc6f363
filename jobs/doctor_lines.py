"""What the doctor prints: a line per slide, its findings below it, and sums at the end; 120 columns wide."""

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from bccdist.errors import first_of
from bccdist.parts import Kind, Part
from bccdist.slides.checkup import Finding, SlideCheckup, unknown_names_of
from bccdist.slides.manifest import SlideRecord
from bccdist.slides.part_totals import PartTotals

LINE_WIDTH = 120
_LONGEST_ID = 34
_MOST_FAULTS = 50
_MOST_NAMES = 40
_MOST_SLIDES = 5
_COLUMNS = {
    "part": 5,
    "format": 12,
    "lev": 3,
    "um/px": 5,
    "read at": 10,
    "size mm": 11,
    "sections": 8,
    "T/S/N mm2": 16,
    "result": 7,
}
"""Headings and widths."""


def header_lines(slides: Sequence[SlideRecord]) -> list[str]:
    """What the columns mean, and their headings."""
    legend = (
        f"part: {', '.join(f'{part.short} means {part.value}' for part in Part if part.short != part.value.lower())}. "
        "um/px: of level 0. read at: the level and its um/px, or the level and its pixels per pixel of a patch. "
        "sections: found/labelled. T/S/N mm2: annotated as Tumornest, Stroma, Normal."
    )
    return [*textwrap.wrap(legend, LINE_WIDTH), _row("slide", _COLUMNS, slides)]


def slide_line(checkup: SlideCheckup, slides: Sequence[SlideRecord]) -> str:
    """The facts of one slide; `-` where they are not known."""
    level = None if checkup.mpp is None else f"L{checkup.level} {checkup.mpp:.3f}"
    if level and checkup.resize and checkup.resize != 1:
        level = f"L{checkup.level} / {checkup.resize:.2f}"
    size_mm = None if checkup.size_mm is None else f"{checkup.size_mm[0]:.1f} x {checkup.size_mm[1]:.1f}"
    found = "-" if checkup.num_sections_found is None else checkup.num_sections_found
    cells = (
        checkup.part.short,
        checkup.vendor,
        checkup.num_levels,
        None if checkup.mpp_level0 is None else f"{checkup.mpp_level0:.3f}",
        level,
        size_mm,
        f"{found}/{checkup.num_sections_labelled}",
        _annotation(checkup),
        _result(checkup.findings),
    )
    return _row(checkup.slide_id, ["-" if cell is None else str(cell) for cell in cells], slides)


def _row(slide_id: str, cells: Iterable[str], slides: Sequence[SlideRecord]) -> str:
    width = min(_LONGEST_ID, max(5, *(len(slide.slide_id) for slide in slides)))
    padded = (cell.ljust(size) for cell, size in zip(cells, _COLUMNS.values(), strict=True))
    return " ".join([slide_id.ljust(width), *padded]).rstrip()


def _annotation(checkup: SlideCheckup) -> str:
    if checkup.annotated_um2 is None:
        return "none" if not checkup.num_annotation_files else "-"
    kinds = (Kind.TUMORNEST, Kind.STROMA, Kind.NORMAL)
    return "/".join(_mm2(checkup.annotated_um2[kind] / 1e6) for kind in kinds)


def _mm2(area_mm2: float) -> str:
    """Three digits, or the whole number where that has more."""
    return f"{area_mm2:.{2 if area_mm2 < 9.995 else 1 if area_mm2 < 99.95 else 0}f}"


def _result(findings: Sequence[Finding]) -> str:
    severities = {finding.severity.value for finding in findings}
    return "ERROR" if "error" in severities else "warning" if severities else "ok"


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Each finding below its slide, wrapped."""
    return [
        line
        for finding in findings
        for line in _wrapped(f"{finding.severity.value} {finding.code.value}: {finding.text}", indent="    ")
    ]


def note_lines(notes: Iterable[str]) -> list[str]:
    """What was taken for granted on a slide, below its findings."""
    return [line for note in notes for line in _wrapped(f"note: {note}", indent="    ")]


def _wrapped(text: str, *, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        LINE_WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def fault_lines(faults: Sequence[str]) -> list[str]:
    """The faults of the manifest's files; their rows are left out of the checks."""
    if not faults:
        return []
    more = [f"  ... and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
    listed = [line for fault in faults[:_MOST_FAULTS] for line in _wrapped(f"- {fault}", indent="  ")]
    return [f"{len(faults)} fault(s) in the manifest; rows that cannot be read are left out:", *listed, *more, ""]


def warning_lines(warnings: Sequence[str], notes: Sequence[str]) -> list[str]:
    """What may be wrong with the manifest's files, and what is not used of them."""
    texts = [*(f"warning: {warning}" for warning in warnings), *notes]
    return [*(line for text in texts for line in _wrapped(text, indent="")), ""] if texts else []


def lack_lines(lacks: Sequence[str]) -> list[str]:
    """What a whole study lacks, which is no fault of a manifest that is for something else."""
    if not lacks:
        return []
    return [
        "jobs/launch_study.py would refuse this manifest:",
        *(line for lack in lacks for line in _wrapped(f"- {lack}", indent="  ")),
        "",
    ]


def set_lines(found: Sequence[Mapping[str, Sequence[Finding]]]) -> list[str]:
    """What only shows among all slides: what each of the checks found, by slide_id."""
    slide_ids = dict.fromkeys(slide_id for each in found for slide_id in each)
    lines = [
        line
        for slide_id in slide_ids
        for line in (slide_id, *finding_lines(finding for each in found for finding in each.get(slide_id, ())))
    ]
    return ["", "Among all slides:", *lines] if lines else []


def closing_lines(totals: Sequence[PartTotals], checkups: Sequence[SlideCheckup]) -> list[str]:
    """The parts as in the paper's Table 1, names that mean nothing yet, and how often each finding occurs."""
    lines = ["", f"{'part':<15}{'slides':>8}{'annotated':>11}{'Tumor':>8}{'Normal':>8}{'no label':>10}"]
    lines += [
        f"{row.part.value:<15}{row.num_slides:>8,}{row.num_annotated:>11,}{row.num_tumor:>8,}{row.num_normal:>8,}"
        f"{row.num_unlabelled:>10,}"
        for row in totals
    ]
    return [*lines, *_private_lines(checkups), *_unknown_name_lines(checkups), *_finding_counts(checkups), ""]


def _private_lines(checkups: Sequence[SlideCheckup]) -> list[str]:
    """On which slides there is what may name a patient; names of fields, and no text of theirs."""
    slide_ids: defaultdict[str, list[str]] = defaultdict(list)
    for checkup in checkups:
        named = [
            *(f"image {name}" for name in checkup.private_images),
            *(f"field {name}" for name in checkup.private_fields),
            *(["slide_id has the text of patient_id"] if checkup.is_named_after_patient else []),
        ]
        for name in named:
            slide_ids[name].append(checkup.slide_id)
    lines = []
    for name, on in slide_ids.items():
        listed = f"{name}, on {len(on)} of {len(checkups)} slide(s): {first_of(on, _MOST_SLIDES)}"
        lines += _wrapped(listed, indent="  ")
    head = "What may name a patient, a person or a day; of images and fields nothing is used or written:"
    return ["", head, *lines] if lines else []


def _unknown_name_lines(checkups: Sequence[SlideCheckup]) -> list[str]:
    """The missing lines of kinds.toml, ready to be filled in."""
    lines = []
    for table, names in unknown_names_of(checkups).items():
        lines += [
            "",
            "Names without a meaning; for kinds.toml, each as Tumornest, Stroma, Normal or none:",
            f"[{table}]",
        ]
        lines += [f'{_key(table, name)} = "?"  # on {num} slide(s)' for name, num in list(names.items())[:_MOST_NAMES]]
        lines += [f"# ... and {len(names) - _MOST_NAMES} more: give --report"] if len(names) > _MOST_NAMES else []
    return lines


def _key(table: str, name: str) -> str:
    """A TOML key: numbers stand bare, names in quotes."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return name if table == "mask_values" else f'"{escaped}"'


def _finding_counts(checkups: Sequence[SlideCheckup]) -> list[str]:
    found = ((finding.severity.value, finding.code.value) for checkup in checkups for finding in checkup.findings)
    counts = sorted(Counter(found).items(), key=lambda item: (item[0][0], -item[1]))
    return ["", *(f"{num:>6,} x {severity} {code}" for (severity, code), num in counts)] if counts else []
