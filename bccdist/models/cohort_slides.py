"""The slides of a cohort: those that it has already and those that are given now, in its own slides.csv.

A slide keeps its id and its row, whatever is given later. What the row lacks, such as the um/px of a file that does
not say it, may be written into the cohort's slides.csv by hand, and labels into the sections.csv beside it.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bccdist.addresses import Location, resolved
from bccdist.errors import ManifestError, RemoteError, SlideError, first_of
from bccdist.files import write_bytes, write_text
from bccdist.models.description import NetworkFacts
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.phantom.pyramid import SOFTWARE
from bccdist.remote.files import fingerprint_of, is_there, size_bytes_of
from bccdist.slides.finder import find_slides, is_slide
from bccdist.slides.manifest import PHANTOM_SCANNER, Manifest, SectionRecord, SlideRecord, read_manifest
from bccdist.slides.manifest_text import sections_csv, slides_csv
from bccdist.slides.slide import Slide
from bccdist.study import changed_slides, refuse_edited_copy

_TABLE_ENDINGS = (".csv", ".tsv")
_MOST_NAMED = 5
_LONGEST_LOOK_S = 60.0
"""How long slides are looked at before a launch."""


@dataclass(frozen=True, kw_only=True)
class CohortSlides:
    """What a cohort will hold; nothing is written yet."""

    manifest: Manifest
    """Of all its slides; its path is where it will lie."""
    new: tuple[SlideRecord, ...]
    """The slides that the cohort did not have before."""
    notes: tuple[str, ...]
    """What is to be known of how they were found, a sentence each."""
    kinds: Path | None = None
    """The kinds.toml that belongs to them."""
    changed: tuple[str, ...] = ()
    """Slides whose um/px or sections are not those of the newest launch, by their ids."""

    def with_drawn(self, drawn: Collection[str]) -> "CohortSlides":
        """The same, with slides marked that are drawn and not scanned, so that all that is made of them says so."""
        slides = (
            replace(slide, scanner=PHANTOM_SCANNER) if slide.slide_id in drawn else slide
            for slide in self.manifest.slides
        )
        return replace(self, manifest=replace(self.manifest, slides=tuple(slides)))

    def write(self) -> Manifest:
        """Write the cohort's slides.csv, and sections.csv and kinds.toml where there is something to say in them."""
        path = self.manifest.path
        if self.kinds is not None:
            write_bytes(path.with_name("kinds.toml"), self.kinds.read_bytes())
        if self.manifest.sections:
            write_text(path.with_name("sections.csv"), sections_csv(self.manifest.sections))
        write_text(path, slides_csv(self.manifest, path.parent))
        return read_manifest(path, files_must_exist=False)


def slides_of_cohort(source: Path, root: Path) -> CohortSlides:
    """The slides of a cohort once those of `source` are among them.

    Args:
        source: a folder, a slide, a list of paths, or a slides.csv, whose column `part` is not used.
        root: the cohort's folder, which need not be there.

    Raises:
        ManifestError: no slide is in the source, or it has faults; a slide_id means another file in the cohort by now;
            a file is another one than was judged; or the folder would be searched for slides while results are written
            into it.
        ConfigurationError: somebody edited the cohort's copy of its tables, which is not read.
    """
    _refuse_within(source, root)
    path = root / "slides.csv"
    before = read_manifest(path, files_must_exist=False) if path.exists() else None
    if before is not None and StudyPaths(root).study.exists():
        refuse_edited_copy(StudyPaths(root), before)
    known = {} if before is None else {slide.slide_id: slide for slide in before.slides}
    if is_table(source):
        given = read_manifest(source, all_in=Part.TEST)
        slides, notes = {slide.slide_id: slide for slide in given.slides}, (*given.warnings, *given.notes)
        sections, kinds = given.sections, _kinds_beside(source)
    else:
        found = find_slides(source)
        # A slide that is given by itself is meant, whatever became of it before.
        taken_out = () if before is None or is_slide(source) else _taken_out(root, found.paths, known)
        paths = {slide_id: place for slide_id, place in found.paths.items() if slide_id not in taken_out}
        slides, notes = _without_known(paths, known), (*found.notes, *_told_out(taken_out, path))
        sections, kinds = (), None
    _refuse_others(known, slides)
    merged = Manifest(
        path=path,
        slides=tuple({**known, **slides}.values()),
        sections=_merged_sections(() if before is None else before.sections, sections),
    )
    _refuse_replaced(merged)
    new = tuple(slide for slide in slides.values() if slide.slide_id not in known)
    return CohortSlides(
        manifest=merged,
        new=new,
        notes=(*notes, *_copies(new, merged.slides)),
        kinds=kinds,
        changed=_changed_since_launch(merged),
    )


def is_table(source: Path) -> bool:
    """Whether `source` is a slides.csv, which says more of its slides than where they lie."""
    return source.suffix.lower() in _TABLE_ENDINGS and source.is_file()


def _taken_out(root: Path, found: Mapping[str, Path], known: Mapping[str, SlideRecord]) -> list[str]:
    """Slides that the cohort worked on and whose rows somebody took out of its table since."""
    paths = StudyPaths(root)
    worked_on = {path.stem for folder in (paths.ledger, paths.failures) for path in folder.glob("**/*.*")}
    return [slide_id for slide_id in found if slide_id in worked_on and slide_id not in known]


def _told_out(slide_ids: Sequence[str], table: Path) -> Iterator[str]:
    if slide_ids:
        yield (
            f"{len(slide_ids)} slide(s) were taken out of {table} and stay out: {first_of(slide_ids, _MOST_NAMED)}; "
            "a slides.csv that names them, or the slide itself, as --slides takes them in again"
        )


def _changed_since_launch(manifest: Manifest) -> tuple[str, ...]:
    kept = StudyPaths(manifest.path.parent).kept_manifest
    if not kept.exists():
        return ()
    before = read_manifest(kept, files_must_exist=False)
    um_per_px = {slide.slide_id: slide.mpp for slide in before.slides}
    return tuple(
        slide.slide_id
        for slide in manifest.slides
        if slide.slide_id in um_per_px
        and (
            slide.mpp != um_per_px[slide.slide_id]
            or manifest.sections_of(slide.slide_id) != before.sections_of(slide.slide_id)
        )
    )


def _kinds_beside(slides: Path) -> Path | None:
    path = slides.with_name("kinds.toml")
    return path if path.exists() else None


def _refuse_within(source: Path, root: Path) -> None:
    """A search that goes through its own results would take their pictures for slides."""
    if source.is_dir() and root.resolve().is_relative_to(source.resolve()):
        raise ManifestError(f"--out {root} lies inside of --slides {source}: give a folder that lies elsewhere")


def _without_known(paths: dict[str, Path], known: dict[str, SlideRecord]) -> dict[str, SlideRecord]:
    """The slides that are new, or lie elsewhere by now: rows of the others stay as they are."""
    places = {resolved(slide.path) for slide in known.values()}
    slides = {}
    for slide_id, path in paths.items():
        if path.resolve() in places:
            continue
        row = known.get(slide_id)
        slides[slide_id] = (
            SlideRecord(slide_id=slide_id, part=Part.TEST, path=path) if row is None else replace(row, path=path)
        )
    return slides


def _refuse_others(known: dict[str, SlideRecord], slides: dict[str, SlideRecord]) -> None:
    """Refuse slides whose id is that of another slide of the cohort; a moved or copied file is the same slide.

    Raises:
        ManifestError: there are some; it names all.
    """
    others = [
        f"{slide_id}: {known[slide_id].path} in the cohort, {slide.path} now"
        for slide_id, slide in slides.items()
        if slide_id in known and not _is_same(known[slide_id].path, slide.path)
    ]
    if others:
        listed = "".join(f"\n  - {other}" for other in others)
        raise ManifestError(
            f"{len(others)} slide_id(s) belong to other slides of the cohort, so nothing was changed; name the new "
            f"slides in a slides.csv, or give another --out:{listed}"
        )


def _refuse_replaced(manifest: Manifest) -> None:
    """Refuse slides whose file is not the one that was judged, though it lies where that lay or that has gone.

    Raises:
        ManifestError: there are some; their verdicts would be those of other tissue.
    """
    root = manifest.path.parent
    if replaced := changed_slides(StudyPaths(root), manifest):
        raise ManifestError(
            f"{len(replaced)} slide(s) of the cohort {root} were judged from other files than lie there now, so "
            f"nothing was changed: {first_of(replaced, _MOST_NAMED)}; put the files back, give the new ones "
            "names of their own, or give another --out"
        )


def _is_same(before: Location, now: Location) -> bool:
    # An address is that of the cohort's own table, which keeps no secrets.
    if str(resolved(before)) == str(resolved(now)) or not is_there(before):
        return True
    return fingerprint_of(before) == fingerprint_of(now)


def _copies(new: Sequence[SlideRecord], slides: Sequence[SlideRecord]) -> Iterator[str]:
    """A sentence for each new slide whose file another one has, too: it will be judged and counted twice."""
    by_size: defaultdict[int, list[SlideRecord]] = defaultdict(list)
    for slide in slides:
        with suppress(OSError, RemoteError):  # one that has gone, or cannot be read, is told elsewhere
            by_size[size_bytes_of(slide.path)].append(slide)
    names = {slide.slide_id for slide in new}
    for alike in by_size.values():
        if len(alike) < 2 or names.isdisjoint(slide.slide_id for slide in alike):
            continue
        by_content: defaultdict[str, list[str]] = defaultdict(list)
        for slide in alike:
            with suppress(OSError, RemoteError):
                by_content[fingerprint_of(slide.path)].append(slide.slide_id)
        for ids in by_content.values():
            if len(ids) > 1 and not names.isdisjoint(ids):
                yield f"the files of {first_of(ids, _MOST_NAMED)} are copies of each other: each is counted"


def _merged_sections(before: tuple[SectionRecord, ...], given: tuple[SectionRecord, ...]) -> tuple[SectionRecord, ...]:
    """The sections of slides that are given now take the place of those that the cohort had of them."""
    renewed = {section.slide_id for section in given}
    return (*(section for section in before if section.slide_id not in renewed), *given)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What opening the slides says before anything is launched."""

    num_usable: int
    unusable: Mapping[str, str]
    """Why a slide cannot be used, by slide_id."""
    drawn: Collection[str]
    """Slides that are drawn, not scanned."""
    num_unseen: int
    """Slides whose turn did not come in time."""


def look_at(slides: Sequence[SlideRecord], network: NetworkFacts, *, within_s: float = _LONGEST_LOOK_S) -> Look:
    """Open slides as the stages will, for what their um/px and format would let fail later.

    Args:
        slides: which.
        network: says which um/px it needs.
        within_s: slides whose turn would come later are not opened.
    """
    end_s = time.monotonic() + within_s
    unusable, drawn, num_usable = {}, set(), 0
    for record in slides:
        if time.monotonic() > end_s:
            break
        try:
            with Slide(
                record.path, target_mpp=network.target_mpp, tolerance=network.mpp_tolerance, mpp=record.mpp
            ) as slide:
                if slide.properties.get("tiff.Software") == SOFTWARE:
                    drawn.add(record.slide_id)
            num_usable += 1
        except (SlideError, OSError) as error:
            unusable[record.slide_id] = str(error)
    num_unseen = len(slides) - num_usable - len(unusable)
    return Look(num_usable=num_usable, unusable=unusable, drawn=drawn, num_unseen=num_unseen)
