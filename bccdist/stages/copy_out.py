"""Results are copied from a study to object storage: whole, read back, and listed when all of them are there.

The study itself stays a folder of a POSIX file system: its files get their final names by renames, jobs lock it, and
journals grow by lines, none of which object storage can do.
"""

import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bccdist.configuration import CopyOutConfig, Results
from bccdist.errors import ConfigurationError, RemoteError, StageFailedError, first_of
from bccdist.files import read_json, sha256_of_file, write_json
from bccdist.log import LOG
from bccdist.paths import StudyPaths
from bccdist.remote.target import Target, local_folder, parse_target
from bccdist.seals import sealed_json
from bccdist.slides.manifest import Manifest
from bccdist.stages.outdated import Result, outdated_results, told_outdated
from bccdist.stages.stage import Stage, StageProgress
from bccdist.study import manifest_of_study

MANIFEST = "copied_out.json"
"""Written last, beside what was copied: its presence means that all is there."""
_FORMAT = 1
_RESTS_ON: Mapping[Results, Sequence[Result]] = {
    "heatmaps": [Result.HEATMAPS],
    "tables": [Result.HEATMAPS, Result.SELECTION, Result.TABLES],
    "report": [Result.HEATMAPS, Result.SELECTION, Result.REPORT, Result.FIGURES, Result.OVERLAYS],
}
_WITHOUT_ORIGIN = ("regions", "dicom", "heatmap_tiffs", "transfer")
"""What does not say what it was made from, so that nobody knows whether it is out of date."""
_NUM_AT_ONCE = 8
_NOTE_EVERY_S = 2.0
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class CopyRecord:
    """How far the newest copying of a study is."""

    to: str
    what: Sequence[Results]
    names: Sequence[str]
    """All files that were to be copied."""
    num_done: int
    newest_ns: int
    """The newest change of any folder or single file of them, when they were listed."""
    failures: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Copied:
    """One file at the target."""

    path: str
    size_bytes: int
    sha256: str
    is_sent: bool
    """Whether it was sent now, or lay there before."""

    @property
    def listed(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {"path": self.path, "size_bytes": self.size_bytes, "sha256": self.sha256}


def copy_out(study_root: Path, config: CopyOutConfig) -> None:
    """Copy a study's results to where `config` says.

    What is there with the same bytes is not sent again; each file is read back and compared.

    Raises:
        StageFailedError: some files could not be read, or changed meanwhile; the others are copied.
        RemoteError: the target does not take them; launched again it goes on.
        ConfigurationError: there is nothing to copy, what there is is out of date, or the target lies in the study.
    """
    paths = StudyPaths(study_root)
    address = parse_target(config.to)
    refuse_target_inside(paths, config)
    names, newest_ns = list_results(paths, config.what)
    if not names:
        raise ConfigurationError(f"{study_root}: there is nothing to copy of {', '.join(config.what)} yet")
    outdated = outdated_among(paths, manifest_of_study(study_root), config.what)
    if outdated and not config.even_out_of_date:
        raise ConfigurationError(refusal(paths, outdated))
    if not_known := [root.name for root in _roots(paths, config.what) if root.name in _WITHOUT_ORIGIN]:
        LOG.warning(
            f"whether {', '.join(not_known)} is of today is not known, as it does not say what it was made from: make "
            "it anew first where labels, thresholds or heatmaps have changed"
        )
    target = Target(address)
    target.check_writable()
    target.remove_partial()
    # What it lists may be replaced now.
    target.remove(MANIFEST)

    copied: list[_Copied] = []
    failures: dict[str, str] = {}
    told_s = -float("inf")

    def note() -> None:
        record = CopyRecord(
            to=str(address),
            what=config.what,
            names=names,
            num_done=len(copied),
            newest_ns=newest_ns,
            failures=failures,
        )
        write_json(paths.copied_out, asdict(record))

    note()
    pool = ThreadPoolExecutor(_NUM_AT_ONCE, thread_name_prefix="copy-out")
    try:
        tasks = {pool.submit(_copy, paths, target, name): name for name in names}
        for task in as_completed(tasks):
            try:
                copied.append(task.result())
            except RemoteError:
                raise  # the others would wait for the same store
            except (OSError, StageFailedError) as error:
                failures[tasks[task]] = str(error)
            if time.monotonic() - told_s > _NOTE_EVERY_S:
                told_s = time.monotonic()
                note()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        note()
    if failures:
        named = [f"{name}: {reason}" for name, reason in sorted(failures.items())]
        raise StageFailedError(
            f"{len(failures)} of {len(names)} files were not copied, so that no {MANIFEST} was written to {address}: "
            f"{first_of(named, _MOST_NAMED)}"
        )
    files = [each.listed for each in sorted(copied, key=lambda each: each.path)]
    values = {"format": _FORMAT, "study": study_root.name, "what": list(config.what), "out_of_date": outdated}
    values |= {"not_known": not_known, "files": files}
    target.put_bytes(sealed_json(values), MANIFEST)
    num_sent = sum(each.is_sent for each in copied)
    LOG.info(
        f"{address}: all {len(copied)} files are there and were read back, {num_sent} of them sent now; "
        f"{MANIFEST} lists them"
    )


def _copy(paths: StudyPaths, target: Target, name: str) -> _Copied:
    """One file, sent unless its bytes are there, and read back.

    Raises:
        OSError: it cannot be read.
        StageFailedError: it changed meanwhile.
        RemoteError: it does not arrive.
    """
    source = paths.shown() / name
    digest, size_bytes = sha256_of_file(source), source.stat().st_size
    is_there = target.digest(name) == digest
    if not is_there:
        target.put_file(source, name)
        if target.digest(name) != digest:
            if sha256_of_file(source) != digest:
                raise StageFailedError("it changed while it was copied; launch again when nothing writes to the study")
            raise RemoteError(f"{target.address}: {name}: what is read back is not what was sent; launch again")
    return _Copied(path=name, size_bytes=size_bytes, sha256=digest, is_sent=not is_there)


def refuse_target_inside(paths: StudyPaths, config: CopyOutConfig) -> None:
    """Refuse a target in the study's own folder.

    Raises:
        ConfigurationError: it is.
    """
    folder = local_folder(parse_target(config.to))
    if folder is not None and folder.resolve().is_relative_to(paths.root.resolve()):
        raise ConfigurationError(f"--to {config.to} lies in the study {paths.root}; name a folder outside of it")


def outdated_among(paths: StudyPaths, manifest: Manifest, what: Sequence[Results]) -> dict[str, str]:
    """What of some results, or of what they rest on, is out of date, each with why.

    Raises:
        LedgerError: the selection is damaged.
    """
    rested_on = {result for each in what for result in _RESTS_ON[each]}
    return {result.value: why for result, why in outdated_results(paths, manifest).items() if result in rested_on}


def refusal(paths: StudyPaths, outdated: Mapping[str, str]) -> str:
    """Why results are not copied, and what to do."""
    told = told_outdated({Result(name): why for name, why in outdated.items()}, study=shlex.quote(str(paths.root)))
    return f"{paths.root}: {told}. --even-out-of-date copies them as they are, and the list at the target says so"


def list_results(paths: StudyPaths, what: Sequence[Results]) -> tuple[list[str], int]:
    """Names of all files of some results, relative to the study, and the newest change of a folder or single file."""
    names: list[str] = []
    newest_ns = 0
    for root in _roots(paths, what):
        for path, is_folder in _walk(root):
            if is_folder or path == root:
                newest_ns = max(newest_ns, path.stat().st_mtime_ns)
            if not is_folder:
                names.append(path.relative_to(paths.shown()).as_posix())
    return sorted(names), newest_ns


def _roots(paths: StudyPaths, what: Sequence[Results]) -> list[Path]:
    shown = paths.shown()
    roots = {
        "heatmaps": [shown / "heatmaps"],
        "tables": [paths.tables, paths.sections],
        "report": [
            paths.report,
            paths.figures,
            paths.overlays,
            *(shown / name for name in _WITHOUT_ORIGIN),
        ],
    }
    return [root for each in what for root in roots[each] if root.exists()]


def _walk(root: Path) -> Iterator[tuple[Path, bool]]:
    """A file, or a folder with all below it; true for folders. What is being written is none."""
    if root.is_file():
        yield root, False
        return
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield Path(folder), True
        for name in files:
            if not name.startswith(".") and ".partial" not in name:
                yield Path(folder, name), False


def copying_progress(stage: Stage, paths: StudyPaths, manifest: Manifest, _since_s: float | None) -> StageProgress:
    """How many files of the newest copying are at its target; out of date once the study has others.

    Raises:
        ConfigurationError: what the copying noted cannot be read.
    """
    if not paths.copied_out.exists():
        return StageProgress(num_done=0, num_total=None, detail="nothing copied yet")
    try:
        record = CopyRecord(**read_json(paths.copied_out))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{paths.copied_out}: damaged: {error}; remove it, and copy again") from error
    detail = f"to {record.to}"
    asked = stage.config
    if isinstance(asked, CopyOutConfig) and (str(parse_target(asked.to)), [*asked.what]) != (record.to, record.what):
        return StageProgress(num_done=0, num_total=None, detail=f"{detail} before, asked for another")
    names, newest_ns = list_results(paths, record.what)
    is_changed = set(names) != set(record.names) or newest_ns > record.newest_ns
    is_whole = record.num_done == len(record.names)
    reason = "the study's results have changed since" if is_changed else ""
    if is_whole and not reason and (outdated := outdated_among(paths, manifest, record.what)):
        reason = f"what was copied is: {', '.join(outdated)}"
    is_out_of_date = is_whole and bool(reason)
    return StageProgress(
        num_done=0 if is_out_of_date else record.num_done,
        num_total=len(names) if is_changed else len(record.names),
        failures=record.failures,
        detail=f"{detail}; out of date: {reason}" if is_out_of_date else detail,
        is_out_of_date=is_out_of_date,
    )
