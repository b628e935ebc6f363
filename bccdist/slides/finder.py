"""Slides where nobody wrote a manifest: in a folder and those below it, in a list of paths, or a single one.

A slide's id is its path below the folder without its ending: `case-7/HE.svs` is `case-7-HE`. So it depends on nothing
but the slide itself, whatever is added beside it later.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import openslide

from bccdist.addresses import is_address, without_secrets
from bccdist.errors import ManifestError, first_of
from bccdist.files import as_given, digest_of
from bccdist.slides.tiff_pages import TIFF_SIGNATURES, read_tiff_pages

SLIDE_ENDINGS = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu"})
"""What only slides are called: one that cannot be opened is a slide all the same, and fails with its reason."""
_IMAGE_ENDINGS = frozenset({".tif", ".tiff", ".btf", ".tf8", ".qptiff"})
"""What slides and other pictures are called: a whole picture that OpenSlide does not know for a slide is none."""
_PICTURE_ENDINGS = _IMAGE_ENDINGS | {".jpg", ".jpeg", ".png", ".bmp", ".jp2", ".heic", ".czi", ".vsi", ".isyntax"}
"""What may be meant for slides and is none that is read."""
_DICOM_ENDINGS = frozenset({"", ".dcm"})
_DICOM_MARK = (128, b"DICM")
_LIST_ENDINGS = frozenset({".txt", ".lst", ".list"})
_HEAD_BYTES = 1 << 16
_LONGEST_ID = 120
"""Files are named after it, and a name may have 255 bytes."""
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class FoundSlides:
    """Slides by their ids, and what is to be known of the search."""

    paths: dict[str, Path]
    """Absolute, by slide_id, in the order of their paths."""
    notes: tuple[str, ...] = ()
    """What was found beside them, a sentence each."""


def find_slides(source: Path) -> FoundSlides:
    """The slides that `source` means.

    Args:
        source: a folder, which is searched with those below it but for hidden ones; a slide; or a text file with the
            path of a slide or folder in each line, relative to it.

    Raises:
        ManifestError: there is none; a folder cannot be read; a name cannot stand in a table; or two slides would have
            one id. One message names all.
    """
    source = as_given(source)
    search = _Search(source)
    if source.is_dir():
        search.add_folder(source, below=source)
    elif not source.exists():
        raise ManifestError(f"{_shown(source)}: nothing is there; give a folder, a slide, a list or a slides.csv")
    elif source.suffix.lower() in _LIST_ENDINGS:
        search.add_list(source)
    else:
        search.add_slide(source, below=source.parent)
    return search.found()


def is_slide(source: Path) -> bool:
    """Whether `source` means one slide, and not the slides of a folder or a list."""
    return not source.is_dir() and source.suffix.lower() not in _LIST_ENDINGS


def slide_id_of(relative: Path) -> str:
    """The id of a slide by its path below the folder that was searched.

    Its folders and its name are joined by `-`; what an id cannot hold becomes `_`. Where that are letters of another
    alphabet, or the id would be too long, six digits of the path's digest come behind it.
    """
    text = "-".join([*relative.parent.parts, relative.stem])
    plain = re.sub(r"[^A-Za-z0-9_+-]", "_", text)
    if not plain[:1].isalnum():
        plain = f"s{plain}"
    if text.isascii() and len(plain) <= _LONGEST_ID:
        return plain
    return f"{plain[:_LONGEST_ID]}-{digest_of(relative.as_posix())[:6]}"


class _Search:
    """What was found so far."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._slides: dict[Path, Path] = {}
        """Where each slide lies below the folder that was searched, by its path."""
        self._others: Counter[str] = Counter()
        """Files that are no slides, by their ending."""
        self._doubtful: list[Path] = []
        """Pictures and DICOM files among them."""
        self._faults: list[str] = []
        self._seen: set[tuple[int, int]] = set()

    def add_list(self, path: Path) -> None:
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            text = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf")).strip()
            if not text or text.startswith("#"):
                continue
            if is_address(text):
                self._faults.append(
                    f"{path.name}, line {number}: {without_secrets(text)} is an address, and a list names files "
                    "of this machine: name slides on a server in a slides.csv, which is given itself"
                )
                continue
            entry = as_given(path.parent / text)
            if entry.is_dir():
                self.add_folder(entry, below=path.parent if entry.is_relative_to(path.parent) else entry)
            elif entry.exists():
                self.add_slide(entry, below=path.parent if entry.is_relative_to(path.parent) else entry.parent)
            else:
                self._faults.append(f"{path.name}, line {number}: {_shown(entry)} is not there")

    def add_slide(self, path: Path, *, below: Path) -> None:
        if path.suffix.lower() in SLIDE_ENDINGS or _is_known(path):
            self._keep(path, below)
        else:
            self._faults.append(
                f"{_shown(path)}: no slide that OpenSlide knows; give a folder, a slide, a list of paths (.txt) or a "
                "slides.csv (a workbook becomes one by `python jobs/make_manifest.py FOLDER --table WORKBOOK`)"
            )

    def add_folder(self, folder: Path, *, below: Path) -> None:
        for here, names in self._walk(folder):
            of_slides = _members(here, names)
            dicom = []
            for name in names:
                path, ending = here / name, Path(name).suffix.lower()
                if name in of_slides:
                    continue
                if ending in SLIDE_ENDINGS or (ending in _IMAGE_ENDINGS and _may_be_slide(path)):
                    self._keep(path, below)
                elif ending in _DICOM_ENDINGS and _is_dicom(path):
                    dicom.append(path)
                else:
                    self._leave(path, is_doubtful=ending in _IMAGE_ENDINGS)
            self._add_series(dicom, below)

    def _walk(self, folder: Path) -> Iterator[tuple[Path, list[str]]]:
        """Folders with the names of their files, in order; each once, though links may lead to it again."""

        def refuse(error: OSError) -> None:
            self._faults.append(f"{_shown(Path(str(error.filename)))} cannot be read: {error.strerror}")

        seen: set[tuple[int, int]] = set()
        for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
            here = Path(place)
            about = here.stat()
            if (about.st_dev, about.st_ino) in seen:
                folders[:] = []
                continue
            seen.add((about.st_dev, about.st_ino))
            # What an MRXS slide keeps beside it in a folder of its name is a part of it.
            data = {Path(name).stem for name in names if name.lower().endswith(".mrxs")}
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in data)
            yield here, sorted(names)

    def _add_series(self, files: list[Path], below: Path) -> None:
        """The DICOM files of a folder: those of one series are one slide, which its largest file stands for."""
        left = sorted(files, key=lambda path: (-path.stat().st_size, path.name))
        while left:
            first = left.pop(0)
            if openslide.OpenSlide.detect_format(first) != "dicom":
                self._leave(first, is_doubtful=True)
                continue
            self._keep(first, below)
            # Of a series that cannot be opened each file fails by itself: better too often than never.
            if (uid := _series_of(first)) is not None:
                left = [path for path in left if uid not in _head(path)]

    def _leave(self, path: Path, *, is_doubtful: bool) -> None:
        self._others[path.suffix.lower() if not path.name.startswith(".") else "hidden"] += 1
        if is_doubtful:
            self._doubtful.append(path)

    def _keep(self, path: Path, below: Path) -> None:
        if path.name.startswith("."):
            self._leave(path, is_doubtful=False)
            return
        try:
            about = path.stat()
        except OSError as error:
            self._faults.append(f"{_shown(path)} cannot be read: {error.strerror}")
            return
        # A second link to a slide is no second slide.
        if (about.st_dev, about.st_ino) in self._seen:
            return
        self._seen.add((about.st_dev, about.st_ino))
        if not _fits_table(path):
            self._faults.append(
                f"{_shown(path)}: its name is not UTF-8, or has signs that a table cannot hold (line breaks, "
                "backslashes, blanks at its end); rename the file or folder"
            )
            return
        self._slides[path] = path.relative_to(below)

    def found(self) -> FoundSlides:
        by_id: defaultdict[str, list[Path]] = defaultdict(list)
        for path, relative in self._slides.items():
            by_id[slide_id_of(relative)].append(path)
        faults = self._faults + [
            f"{len(paths)} slides would have the slide_id {slide_id}: {_listed(paths)}; rename all but one, or name "
            "them in a slides.csv"
            for slide_id, paths in by_id.items()
            if len(paths) > 1
        ]
        if faults:
            more = f"\n  ... and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
            listed = "".join(f"\n  - {fault}" for fault in faults[:_MOST_NAMED])
            raise ManifestError(f"{_shown(self._source)}: {len(faults)} fault(s), so nothing was made:{listed}{more}")
        if not by_id:
            there = f"; {self._told_others()}" if self._others else ""
            raise ManifestError(f"{_shown(self._source)}: no slide is in it{there}")
        return FoundSlides(
            paths={slide_id: paths[0] for slide_id, paths in by_id.items()}, notes=tuple(self._notes(by_id))
        )

    def _notes(self, by_id: dict[str, list[Path]]) -> Iterator[str]:
        if self._others:
            yield self._told_others()
        named: defaultdict[str, list[str]] = defaultdict(list)
        for slide_id, (path,) in by_id.items():
            named[path.name].append(slide_id)
        if alike := {name: ids for name, ids in named.items() if len(ids) > 1}:
            name, ids = next(iter(alike.items()))
            yield (
                f"{len(alike)} file name(s) occur in several folders; their slides are told apart by the folders' "
                f"names, as {', '.join(ids[:_MOST_NAMED])} of {name}"
            )
        if (self._source / "slides.csv").is_file():
            yield (
                f"{self._source / 'slides.csv'} is there and was not read, as its folder was given: give the file "
                "itself for the names and labels in it"
            )

    def _told_others(self) -> str:
        # Pictures come first: somebody may take them for slides.
        counts = sorted(self._others.items(), key=lambda pair: (pair[0] not in _PICTURE_ENDINGS, -pair[1], pair[0]))
        kinds = ", ".join(f"{num} {_printable(ending) or 'without ending'}" for ending, num in counts[:_MOST_NAMED])
        more = ", ..." if len(self._others) > _MOST_NAMED else ""
        doubtful = ""
        if self._doubtful:
            doubtful = f"; pictures that OpenSlide knows for no slides: {_listed(self._doubtful)}"
        return f"{self._others.total()} other file(s) are no slides ({kinds}{more}){doubtful}"


def _is_known(path: Path) -> bool:
    return openslide.OpenSlide.detect_format(path) is not None


def _may_be_slide(path: Path) -> bool:
    """Whether a file called as pictures are is a slide, or may have been one before it was cut short or damaged."""
    if _is_known(path):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(len(TIFF_SIGNATURES[0]))
    except OSError:
        return True
    return not head or (head in TIFF_SIGNATURES and not _is_whole(path))


def _is_whole(tiff_path: Path) -> bool:
    """Whether all pixels of a TIFF lie in the file."""
    tiff = read_tiff_pages(tiff_path)
    offsets = [offset for page in tiff.pages for offset in page.dataoffsets]
    lengths = [length for page in tiff.pages for length in page.databytecounts]
    if tiff.fault or not offsets or len(offsets) != len(lengths):
        return False
    return max(map(sum, zip(offsets, lengths, strict=True))) <= tiff_path.stat().st_size


def _is_dicom(path: Path) -> bool:
    start, mark = _DICOM_MARK
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(len(mark)) == mark
    except OSError:
        return False


def _series_of(path: Path) -> bytes | None:
    """The series of a DICOM slide, None where it cannot be opened."""
    try:
        with openslide.OpenSlide(path) as handle:
            return handle.properties["dicom.SeriesInstanceUID"].encode()
    except (openslide.OpenSlideError, KeyError):
        return None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _members(folder: Path, names: Iterable[str]) -> set[str]:
    """Files that belong to a Hamamatsu VMS or VMU slide, which names them."""
    members: set[str] = set()
    for name in names:
        if name.lower().endswith((".vms", ".vmu")):
            text = _head(folder / name).decode("utf-8", "replace")
            members |= {line.partition("=")[2].strip() for line in text.splitlines()}
    return members


def _fits_table(path: Path) -> bool:
    """Whether a path comes back from a CSV file as it was."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return text == text.strip() and "\\" not in text and all(ord(sign) >= ord(" ") and sign != "\x7f" for sign in text)


def _listed(paths: list[Path]) -> str:
    return first_of([_shown(path) for path in paths], _MOST_NAMED)


def _shown(path: Path) -> str:
    return _printable(str(path))


def _printable(text: str) -> str:
    """A name as every terminal and log can show it, bytes that are not UTF-8 by their numbers."""
    shown = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in shown)
