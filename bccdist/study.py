"""A study: one manifest taken through all stages, in one folder, which may be moved, copied and mounted elsewhere.

The study says where its manifest lies, seen from the study and by its absolute path, and keeps a copy of the rows. So
the manifest is found again where both moved together or the study alone, and is not needed where neither place leads
to it.
"""

import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path

from bccdist.addresses import protocol_lost_in
from bccdist.errors import ConfigurationError, ManifestError, first_of
from bccdist.files import (
    as_given,
    read_json,
    sha256_of_file,
    write_bytes,
    write_json,
)
from bccdist.log import LOG
from bccdist.paths import StudyPaths
from bccdist.remote.files import fingerprint_of
from bccdist.slides.manifest import Manifest, read_manifest
from bccdist.slides.manifest_text import slides_csv

_BESIDE_SLIDES = ("sections.csv", "kinds.toml")
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class _StudyRecord:
    """The content of study.json; older versions wrote `manifest` as an absolute path, and not the last ones."""

    manifest: str
    """Where slides.csv lies, relative to the study."""
    phantom: bool
    manifest_was_at: str = ""
    """Its absolute path at the newest launch."""
    digest: str = ""
    """Of the manifest, at the newest launch."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file of the copy, as it was written; older versions did not note it."""

    def places(self, root: Path) -> list[Path]:
        """Where slides.csv may lie, the likeliest place first, by the names that other machines know, too."""
        seen_from_here = (root.resolve() / self.manifest).resolve()
        was_at = Path(self.manifest_was_at or self.manifest)
        places = {seen_from_here: seen_from_here, was_at.resolve(): was_at}
        through_links = Path(os.path.normpath(as_given(root) / self.manifest))
        if places[seen_from_here] == seen_from_here == through_links.resolve():
            places[seen_from_here] = through_links
        return list(places.values())

    def own_place(self, root: Path) -> Path | None:
        """Where a copy of a study of an older version has its own manifest, whose absolute path leads to another's."""
        if self.manifest_was_at:
            return None
        was_at = Path(self.manifest).resolve()
        owner = _study_around(was_at)
        if owner is None or owner == root.resolve():
            return None
        own = root / was_at.relative_to(owner)
        return own if own.is_file() else None


def claim_study(study_root: Path, manifest_path: Path, *, dry_run: bool = False) -> Manifest:
    """Check a manifest and make a study of it, unless it is a dry run; the same manifest may come again.

    It is the same if it lies where the study's manifest lies, or says the same and names slides with the same content,
    wherever these lie now. In a study that is there, slides may have gone since: what is made of them may be all
    that is needed.

    What may be wrong with the manifest, and what is not used of it, is told.

    Raises:
        ManifestError: the manifest has faults.
        ConfigurationError: the folder is a study of another manifest.
    """
    paths = StudyPaths(study_root)
    is_new = not paths.study.exists()
    manifest = read_manifest(manifest_path, files_must_exist=is_new)
    if not is_new:
        _refuse_another(paths, manifest)
        refuse_edited_copy(paths, manifest)
    if not dry_run:
        keep_manifest(study_root, manifest)
    _tell_unread(paths, manifest)
    for warning in manifest.warnings:
        LOG.warning(warning)
    for note in manifest.notes:
        LOG.info(note)
    return manifest


def refuse_address(study: Path) -> None:
    """Refuse a study on object storage.

    Raises:
        ConfigurationError: it is an address, of which a path has lost a slash.
    """
    if protocol := protocol_lost_in(study):
        raise ConfigurationError(
            f"the study begins with {protocol}:/, and it has to be a folder of a POSIX file system: its files get "
            "their names by renames, jobs lock it and append to journals, which stores cannot do; copy results there "
            "with `python jobs/launch_copy_out.py --study FOLDER --to ADDRESS`"
        )


def keep_manifest(study_root: Path, manifest: Manifest) -> None:
    """Make a folder the study of a manifest, or note where the manifest lies now and what it says."""
    paths = StudyPaths(study_root)
    if manifest.path.resolve() == paths.kept_manifest.resolve():
        return
    record = _StudyRecord(
        manifest=Path(os.path.relpath(manifest.path.resolve(), study_root.resolve())).as_posix(),
        manifest_was_at=str(manifest.path),
        digest=manifest.digest,
        phantom=manifest.is_phantom,
    )
    if paths.study.exists() and paths.kept_manifest.exists():
        before = _read_record(paths)
        if replace(before, kept={}) == record and before.kept == _digests_of_copy(paths):
            return
    # Without slides.csv there is no copy: a launch that is killed in between leaves none that looks edited.
    paths.kept_manifest.unlink(missing_ok=True)
    for name in _BESIDE_SLIDES:
        source, kept = manifest.path.with_name(name), paths.kept_manifest.with_name(name)
        if source.exists():
            write_bytes(kept, source.read_bytes())
        else:
            kept.unlink(missing_ok=True)
    slides = slides_csv(manifest, paths.kept_manifest.parent).encode()
    digests = {**_digests_of_copy(paths), paths.kept_manifest.name: hashlib.sha256(slides).hexdigest()}
    write_json(paths.study, asdict(replace(record, kept=digests)))
    write_bytes(paths.kept_manifest, slides)


def _copied_files(paths: StudyPaths) -> list[Path]:
    """The places of the copy's files, which need not be there."""
    return [paths.kept_manifest.with_name(name) for name in (paths.kept_manifest.name, *_BESIDE_SLIDES)]


def _digests_of_copy(paths: StudyPaths) -> dict[str, str]:
    """SHA-256 of each file of the copy that is there."""
    return {path.name: sha256_of_file(path) for path in _copied_files(paths) if path.exists()}


def forget_manifest(study_root: Path) -> None:
    """Undo `keep_manifest` where nothing was made of the study."""
    paths = StudyPaths(study_root)
    paths.study.unlink(missing_ok=True)
    for path in _copied_files(paths):
        path.unlink(missing_ok=True)
    if paths.kept_manifest.parent.exists():
        paths.kept_manifest.parent.rmdir()


def manifest_of_study(study_root: Path) -> Manifest:
    """The manifest of a study; its files were there when it was claimed, and one that has gone since fails alone.

    Raises:
        ConfigurationError: the folder is no study, its manifest is nowhere to be found, it is a copy whose own
            manifest has other slides than the one that it names, or somebody edited the study's copy of the manifest,
            which is not read.
        ManifestError: the manifest has faults by now.
    """
    paths = StudyPaths(study_root)
    if not paths.study.exists():
        raise ConfigurationError(
            f"{study_root} is no study: {paths.study.name} is not there; "
            "begin with `python jobs/launch_study.py --manifest slides.csv --study FOLDER`"
        )
    record = _read_record(paths)
    if (found := _found(paths, record)) is not None:
        own = record.own_place(study_root)
        if own is not None and found.path.resolve() != own.resolve():
            raise ConfigurationError(
                f"{study_root} is a copy that names the manifest of another study, {found.path}, and its own, {own}, "
                "has other slides: give its own the same slides in the same parts, or `python jobs/launch_study.py "
                f"--study {study_root} --manifest {found.path} --only-missing` stays with the other's"
            )
        refuse_edited_copy(paths, found)
        _tell_unread(paths, found)
        return found
    places = " nor at ".join(map(str, record.places(study_root)))
    advice = f"`python jobs/launch_study.py --study {study_root} --manifest NEW --only-missing` says where it is now"
    if not paths.kept_manifest.exists():
        raise ConfigurationError(f"{study_root}: its manifest is not at {places}; {advice}")
    edited, gone = _changes_of_copy(paths, record)
    if gone:
        raise ConfigurationError(
            f"{study_root}: its manifest is not at {places}, and of the study's own copy {', '.join(gone)} is gone: "
            f"what it said, such as labels, is not known; put it back, or {advice}"
        )
    which = f"with what was edited there since ({', '.join(edited)})" if edited else "as of the newest launch"
    LOG.warning(f"the manifest is not at {places}: the study's own copy of it, {which}, is read; {advice}")
    copy = read_manifest(paths.kept_manifest, files_must_exist=False)
    _tell_unread(paths, copy)
    return copy


def _changes_of_copy(paths: StudyPaths, record: _StudyRecord) -> tuple[list[str], list[str]]:
    """The files of the copy that somebody edited since it was written, and those that are gone, by name.

    Of a study of an older version, which noted no digest of each file, all that is known is whether the copy still
    says what the manifest said.
    """
    if not paths.kept_manifest.exists():
        return [], []
    there = _digests_of_copy(paths)
    if record.kept:
        edited = [name for name, digest in there.items() if record.kept.get(name) != digest]
        return edited, [name for name in record.kept if name not in there]
    if record.digest and _digest_of_copy(paths) != record.digest:
        return [" or ".join(there)], []
    return [], []


def _digest_of_copy(paths: StudyPaths) -> str:
    try:
        return read_manifest(paths.kept_manifest, files_must_exist=False).digest
    except ManifestError:
        return ""  # it was whole when it was written


def refuse_edited_copy(paths: StudyPaths, manifest: Manifest) -> None:
    """Refuse a study whose copy of its manifest was edited: whoever did that believes that it counts.

    Raises:
        ConfigurationError: it was, and the manifest that counts lies elsewhere.
    """
    edited, _ = _changes_of_copy(paths, _read_record(paths))
    folder, counts = paths.kept_manifest.parent, manifest.path
    if not edited or counts.resolve() == paths.kept_manifest.resolve():
        return
    aside = folder.with_name("manifest-edited")
    study, moved = shlex.quote(str(paths.root)), shlex.quote(str(aside / "sections.csv"))
    raise ConfigurationError(
        f"{folder}: {', '.join(edited)} was edited, and is only a copy of what the manifest said at the newest "
        f"launch: it is not read. What counts is {counts} with what lies beside it, then corrections by `relabel`. "
        f"Take the copy out of the way (`mv {shlex.quote(str(folder))} {shlex.quote(str(aside))}`; the next launch "
        f"makes it anew), and make the same edits in {counts.parent}, or, where they are labels, run `python "
        f"analysis/make.py relabel {study} {moved}`"
    )


def _tell_unread(paths: StudyPaths, manifest: Manifest) -> None:
    study = shlex.quote(str(paths.root))
    for path in unread_files(paths.root, manifest):
        has_labels = path.name in ("sections.csv", paths.labels.name)
        relabel = f"run `python analysis/make.py relabel {study} {shlex.quote(str(path))}`"
        _tell_once(
            f"{path} is NOT read: what counts is {manifest.path} with what lies beside it, then {paths.labels}; if "
            f"what it says is to count, {relabel if has_labels else 'say it there'}, and take it out of the way"
        )


@cache
def _tell_once(text: str) -> None:
    # A command asks for the manifest several times.
    LOG.warning(text)


def unread_files(study_root: Path, manifest: Manifest) -> list[Path]:
    """The files that look as if the study read them, and which it does not read.

    These are files named like a manifest's in the study's folder, whose manifest lies elsewhere, and a labels.csv
    beside the manifest or its copy.
    """
    paths = StudyPaths(study_root)
    is_elsewhere = manifest.path.resolve().parent != paths.root.resolve()
    places = [paths.root / path.name for path in _copied_files(paths) if is_elsewhere]
    places += [path.with_name(paths.labels.name) for path in (paths.kept_manifest, manifest.path)]
    found = {path.resolve(): path for path in places if path.exists()}
    return [path for place, path in found.items() if place != paths.labels.resolve()]


def note_on_manifest(study_root: Path, manifest: Manifest) -> str:
    """Whose manifest a study uses, where it lies in another study's folder, as that of a copy does; else empty."""
    owner = _study_around(manifest.path)
    if owner is None or owner == study_root.resolve():
        return ""
    return (
        f"its manifest is that of another study, {manifest.path} in {owner}; `python jobs/launch_study.py --study "
        f"{study_root} --manifest OWN --only-missing` gives it one of its own"
    )


def _study_around(path: Path) -> Path | None:
    """The study in whose folder, or in one below it, a file lies."""
    return next((folder for folder in path.resolve().parents if StudyPaths(folder).study.exists()), None)


def _read_record(paths: StudyPaths) -> _StudyRecord:
    values = read_json(paths.study)
    try:
        return _StudyRecord(**{each.name: values[each.name] for each in fields(_StudyRecord) if each.name in values})
    except TypeError as error:
        raise ConfigurationError(
            f"{paths.study}: says no manifest ({error}); put it back from where it is whole"
        ) from error


def _found(paths: StudyPaths, record: _StudyRecord) -> Manifest | None:
    """The manifest at the first place that has one of this study; of a copy with a manifest of its own, that one."""
    was_at = Path(record.manifest_was_at or record.manifest).resolve()
    if was_at.is_file() and (place := record.own_place(paths.root)) is not None:
        own, named = (read_manifest(each, files_must_exist=False) for each in (place, was_at))
        if _have_the_same_slides(own, named):
            differ = "" if own.digest == named.digest else ", and they differ in what else they say, such as labels"
            LOG.warning(
                f"{paths.root} is a copy that names the manifest of another study, {was_at}: its own, {place}, is "
                f"read instead{differ}"
            )
            return own
    for place in record.places(paths.root):
        if not place.is_file():
            continue
        manifest = read_manifest(place, files_must_exist=False)
        # At another place another data set may lie, which has a slides.csv as well.
        if place.resolve() == was_at or _have_the_same_slides(
            manifest, read_manifest(paths.kept_manifest, files_must_exist=False)
        ):
            return manifest
        LOG.warning(f"{place} has other slides than {paths.root} was made of, so it is not taken for its manifest")
    return None


def _have_the_same_slides(one: Manifest, other: Manifest) -> bool:
    """Whether two manifests name the same slides in the same parts, perhaps with some more or some fewer."""
    first, second = ({(slide.slide_id, slide.part) for slide in each.slides} for each in (one, other))
    return first <= second or second <= first


def _refuse_another(paths: StudyPaths, manifest: Manifest) -> None:
    """Refuse a manifest that is not the study's.

    Raises:
        ConfigurationError: it lies elsewhere and says something else, or a slide has another content.
    """
    record = _read_record(paths)
    there = _found(paths, record)
    if there is not None and there.path.resolve() == manifest.path.resolve():
        return
    digests = {record.digest} if there is None else {record.digest, there.digest}
    where = record.places(paths.root)[-1] if there is None else there.path
    if digests == {""}:
        LOG.warning(
            f"{where} is not there, and this study of an older version keeps no copy: slides alone are compared"
        )
    elif manifest.digest not in digests:
        raise ConfigurationError(
            f"{paths.root} is a study of {where}, not of {manifest.path}, whose rows say something else; "
            "give another folder with --study, or a manifest with the same rows but for the paths in them"
        )
    if changed := changed_slides(paths, manifest):
        raise ConfigurationError(
            f"{paths.root} was made from other slides than {manifest.path} names: {first_of(changed, _MOST_NAMED)}"
            "; give the paths of the same files, or another folder with --study"
        )
    LOG.info(f"{manifest.path} says the same as {where}, and is the study's manifest from now on")


def changed_slides(paths: StudyPaths, manifest: Manifest) -> list[str]:
    """Slides of the manifest from which something was made and whose file is another one now."""
    named = {slide.slide_id: slide for slide in manifest.slides}
    changed = []
    for slide_id, fingerprint in _known_fingerprints(paths):
        # One that is not named any more is no part of it; one that has gone left what was made of it.
        with suppress(FileNotFoundError):
            if slide_id in named and fingerprint_of(named[slide_id].path) != fingerprint:
                changed.append(slide_id)
    return changed


def _known_fingerprints(paths: StudyPaths) -> Iterator[tuple[str, str]]:
    """The slides from which something was made, each with the fingerprint of its file."""
    import pyarrow.parquet as pq

    from bccdist.parquet import identity_in

    seen = set()
    for path in (*paths.shards.rows("x").parent.glob("*.parquet"), *sorted(paths.ledger.rglob("*.parquet"))):
        if path.stem not in seen:
            seen.add(path.stem)
            if fingerprint := identity_in(pq.read_schema(path).metadata).get("slide_fingerprint"):
                yield path.stem, fingerprint
