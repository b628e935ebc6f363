"""What a selection and tables were made from, so that a copy of a study knows, too, whether they are out of date.

Times of files tell it at once, and mean nothing in a copy that did not keep them: where a time is another one, the
content decides.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from bccdist.errors import ManifestError, first_of
from bccdist.files import digest_of, read_json, sha256_of_file, write_json
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.seals import name_of_content
from bccdist.slides.manifest import Manifest, read_sections

Origin = dict[str, Any]
"""As JSON: the ledger's folders by name, each with its time and the name of its content, the SHA-256 of the corrected
labels' file and digests of what it says of each part, the manifest's digest, and how many slides of which names each
part has."""
_MOST_NAMED = 3


def origin_now(paths: StudyPaths, manifest: Manifest | None) -> Origin:
    """What would be made from now; asked before the ledger is read, so that no later row is taken for known."""
    folders = sorted(folder for folder in paths.ledger.glob("*/*") if folder.is_dir())
    about = {}
    if manifest is not None:
        corrections = _corrections_of(paths, manifest)
        about = {"manifest": manifest.digest, "slides": _slides_of(manifest), "corrections": corrections}
    return {
        "ledger": {
            _name(paths, folder): {"time_ns": folder.stat().st_mtime_ns, "content": _content(folder)}
            for folder in folders
        },
        "labels": _labels(paths),
        **about,
    }


def keep_origin(
    path: Path, origin: Origin, *, made: Path, faults: Mapping[str, str] | None = None, of_one_result: bool = True
) -> None:
    """Write what a result was made from, once it is there; and what could not be made of it, with the reasons.

    Args:
        path: where it is kept.
        origin: of before the ledger was read.
        made: the selection, which names the choice that the result rests on; it need not be there.
        faults: what could not be made, each with its reason.
        of_one_result: whether it is of that result alone; before, what the tables say was true of all.
    """
    about = {"made": _content_of(made), "faults": dict(faults or {}), "of_one_result": of_one_result}
    write_json(path, {**origin, **about})


def is_of_one_result(path: Path) -> bool:
    """Whether what is kept there, if anything, is of one result alone, and not of all that the tables' job makes."""
    return not path.exists() or bool(read_json(path).get("of_one_result", False))


def faults_in(path: Path) -> dict[str, str]:
    """What could not be made, by its name; nothing where an older version does not say it."""
    return dict(read_json(path).get("faults", {})) if path.exists() else {}


def changes_since(
    path: Path,
    paths: StudyPaths,
    manifest: Manifest,
    *,
    made: Path,
    parts: Collection[Part] = tuple(Part),
    counts: Callable[[str, int], bool] = lambda *_: True,
) -> str | None:
    """What has changed since `made` was made, in a few words; empty where nothing has.

    Args:
        path: where it was kept what it was made from.
        paths: of the study.
        manifest: of the study, as it is now.
        made: the file that it speaks of.
        parts: whose slides it was made from; where those are not all, what else the manifest says does not count.
        counts: whether a setting's epoch is looked at.

    Returns:
        None where a file of an older version does not say what it was made from.
    """
    if not path.exists():
        return None
    origin = read_json(path)
    folders = {
        _name(paths, folder): folder
        for folder in paths.ledger.glob("*/*")
        if folder.is_dir() and counts(folder.parent.name, int(folder.name.removeprefix("epoch-")))
    }
    changed = [
        name
        for name, folder in folders.items()
        if name not in origin["ledger"] or not _is_as(folder, origin["ledger"][name])
    ]
    reasons = [
        *_changes_of_slides(origin, manifest, parts),
        *([f"{made.name} is another one"] if origin["made"] != _content_of(made) else []),
        *([f"{paths.labels.name} has changed"] if _have_labels_changed(origin, paths, manifest, parts) else []),
        *([f"rows of {first_of(changed, _MOST_NAMED)} have changed"] if changed else []),
    ]
    return ", ".join(reasons)


def _slides_of(manifest: Manifest) -> dict[str, Any]:
    """How many slides each part has, and digests of their names and of what is said of their sections."""
    names = {part: sorted(slide.slide_id for slide in manifest.slides_of([part])) for part in Part}
    return {
        part.value: {
            "num": len(ids),
            "names": digest_of(ids),
            "sections": digest_of([repr(manifest.sections_of(slide_id)) for slide_id in ids]),
        }
        for part, ids in names.items()
    }


def _changes_of_slides(origin: Origin, manifest: Manifest, parts: Collection[Part]) -> Iterator[str]:
    if "slides" not in origin:
        return
    is_told = False
    for part, now in _slides_of(manifest).items():
        before = origin["slides"][part]
        if Part(part) not in parts or before == now:
            continue
        is_told = True
        if before["num"] != now["num"]:
            yield f"{manifest.path.name} names {now['num']} slides of {part}, and did name {before['num']}"
        elif before["names"] == now["names"]:
            yield f"labels or boxes of {part} in sections.csv have changed"
        else:
            yield f"{manifest.path.name} names other slides of {part} than before"
    if not is_told and set(parts) == set(Part) and origin["manifest"] != manifest.digest:
        yield f"what {manifest.path.name} or kinds.toml say has changed"


def _have_labels_changed(origin: Origin, paths: StudyPaths, manifest: Manifest, parts: Collection[Part]) -> bool:
    """Whether corrections say something else; a choice rests on the labels of its parts, and not on who set them."""
    if origin["labels"] == _labels(paths):
        return False
    try:
        before, now = origin.get("corrections"), _corrections_of(paths, manifest)
    except ManifestError:
        return True
    what = "said" if set(parts) == set(Part) else "labels"
    return before is None or any(before[part.value][what] != now[part.value][what] for part in parts)


def _corrections_of(paths: StudyPaths, manifest: Manifest) -> dict[str, Any]:
    """Digests of the corrected labels of each part, and of all that is said of them, in whatever order they stand.

    Raises:
        ManifestError: labels.csv has faults.
    """
    from bccdist.sections.labels import said_of_label  # at once for those who ask for no labels

    said: dict[Part, list[tuple[str, ...]]] = {part: [] for part in Part}
    part_of = {slide.slide_id: slide.part for slide in manifest.slides}
    for row in read_sections(paths.labels) if paths.labels.exists() else []:
        if row.slide_id in part_of:
            said[part_of[row.slide_id]].append((row.slide_id, row.section_id, *said_of_label(row)))
    return {
        part.value: {"labels": digest_of(sorted(row[:3] for row in rows)), "said": digest_of(sorted(rows))}
        for part, rows in said.items()
    }


def _content_of(made: Path) -> str:
    return name_of_content(made) if made.exists() else ""


def _is_as(folder: Path, before: dict[str, Any]) -> bool:
    return bool(folder.stat().st_mtime_ns == before["time_ns"] or _content(folder) == before["content"])


def _name(paths: StudyPaths, folder: Path) -> str:
    return folder.relative_to(paths.ledger).as_posix()


def _content(folder: Path) -> str:
    return digest_of([[file.name, name_of_content(file)] for file in sorted(folder.glob("*.parquet"))])


def _labels(paths: StudyPaths) -> str:
    return sha256_of_file(paths.labels) if paths.labels.exists() else ""
