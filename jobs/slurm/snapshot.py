"""The code that runs is the code that was submitted: an archive of it that jobs import, however long they wait."""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bccdist.errors import ConfigurationError, first_of
from bccdist.files import as_given, atomic_path, read_json, sha256_of_file, write_json
from bccdist.log import LOG
from jobs.slurm import archive_main
from jobs.slurm.archive_main import PACKAGES

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_NEW_FILE_BYTES = 1 << 20
"""A file that git does not know and that is larger is data, not code."""
_MOST_NAMED = 5
_GIT_TIMEOUT_S = 60.0
_OLDEST_TIME = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a zip can hold, for all files alike, so that equal code gives equal bytes."""
_PATCH_FORMAT = (
    *("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)
"""Options of `git diff` that make it independent of the user's own settings."""
_GIT_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_DIFF_OPTS")
"""Variables that are set where one of git's hooks runs a launcher, and would lead git to another repository."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One state of the code."""

    id: str
    """Twelve digits of the commit, with a digest of the content where that is not the commit's."""
    archive: Path
    """A zip that Python imports from; absolute."""
    is_dirty: bool
    """Whether the code is not just a commit's."""
    digest: str
    """SHA-256 of the archive's bytes."""

    def command(self, python: str, folder: Path) -> str:
        """The shell command of a job that runs what lies in `folder` with this code (see jobs.slurm.archive_main).

        Args:
            python: words of the shell that start Python.
            folder: submitit's.
        """
        return " ".join([python, "-u", shlex.quote(str(self.archive)), self.digest, shlex.quote(str(folder))])


class _Head(NamedTuple):
    """Where a repository stands."""

    commit: str
    branch: str | None
    index_file: Path
    objects: Path


class _NewFiles(NamedTuple):
    """Files that git neither knows nor ignores, relative to the repository."""

    code: list[str]
    left_out: list[str]


class _NoGitError(Exception):
    """Why git cannot say what the code is."""


def take_snapshot(folder: Path, *, repository: Path = REPOSITORY) -> Snapshot:
    """Write the packages as they are in the work tree to `folder`, once for each state of them.

    <id>.zip holds the packages; <id>.patch, where the work tree is not the commit's, leads from the commit to it,
    tests and sites and all; <id>.json says what the two are, and is written last. Of the files that git does not know
    yet, those of more than 1 MiB and those in folders of their own beside the packages are no code: they are left out
    and named. Neither the work tree nor the index is touched. Without git the archive is still made.

    Raises:
        ConfigurationError: there is no package in `repository`.
    """
    repository = repository.resolve()
    try:
        return _of_commit(as_given(folder), repository)
    except _NoGitError as reason:
        LOG.warning(f"code snapshot without a commit: {reason}; the code itself is kept all the same")
        contents = _read_files(repository, _files_without_git(repository))
        facts: dict[str, object] = {"commit": None, "branch": None, "dirty": True, "left_out": []}
        return _write(as_given(folder), f"nogit-{_digest(contents, b'')}", contents, b"", facts)


def _of_commit(folder: Path, repository: Path) -> Snapshot:
    head = _head(repository)
    new = _new_files(repository)
    known = _git(repository, "ls-files", "-c", "-z", "--", *PACKAGES)
    # Before git compares: what changes in between makes the tree dirty, and never a commit's archive wrong.
    contents = _read_files(repository, [*_names(known), *(name for name in new.code if _is_of_package(name))])
    patch = _patch(repository, head, new.code)
    name = head.commit[:12]
    if patch:
        name += f"-{_digest(contents, patch)}"
    _say_left_out(new.left_out)
    facts = {"commit": head.commit, "branch": head.branch, "dirty": bool(patch), "left_out": new.left_out}
    return _write(folder, name, contents, patch, facts)


def _head(repository: Path) -> _Head:
    """The repository's commit and branch; in a folder below its top, git would speak of more than our code."""
    what = ("--show-toplevel", "HEAD", "--git-path", "index", "--git-path", "objects", "--abbrev-ref", "HEAD")
    top, commit, index, objects, branch = _git(repository, "rev-parse", *what).decode().splitlines()
    if Path(top).resolve() != repository:
        raise _NoGitError(f"{repository} is a folder of the repository {top}, not a repository")
    return _Head(commit, None if branch == "HEAD" else branch, repository / index, repository / objects)


def _new_files(repository: Path) -> _NewFiles:
    listed = _names(_git(repository, "ls-files", "-o", "--directory", "--exclude-standard", "-z"))
    apart = [name for name in listed if name.rstrip("/").count("/") == 0 and name.endswith("/")]
    left_out = [name for name in apart if name.rstrip("/") not in PACKAGES]
    inside = [name for name in listed if name not in left_out]
    if any(name.endswith("/") for name in inside):
        inside = _names(_git(repository, "ls-files", "-o", "--exclude-standard", "-z", "--", *inside))
    # What still ends with a slash is a repository inside this one.
    large = [name for name in inside if name.endswith("/") or not _is_small(repository / name)]
    return _NewFiles([name for name in inside if name not in set(large)], sorted([*left_out, *large]))


def _is_small(path: Path) -> bool:
    """Whether the file is there, not gone since it was listed, and no larger than code is."""
    return os.path.lexists(path) and path.lstat().st_size <= MOST_NEW_FILE_BYTES


def _is_of_package(name: str) -> bool:
    return name.partition("/")[0] in PACKAGES


def _say_left_out(left_out: Sequence[str]) -> None:
    if not left_out:
        return
    LOG.warning(
        f"not in the code snapshot, because git does not know it and it is large or in a folder of its own: "
        f"{first_of(left_out, _MOST_NAMED)}"
    )


def _patch(repository: Path, head: _Head, new: Sequence[str]) -> bytes:
    """The difference of the commit and the work tree with its new files; empty where there is none."""
    with tempfile.TemporaryDirectory() as scratch:
        # A copy of the index, and a place for new objects: the user's own stay as they are, and may be read-only.
        index = Path(scratch) / "index"
        variables = {
            "GIT_INDEX_FILE": str(index),
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(head.objects),
        }
        if head.index_file.exists():
            # With its time: from it git knows which files it need not read again.
            shutil.copy2(head.index_file, index)
        if new:
            _git(repository, "add", "--intent-to-add", "--", *new, variables=variables)
        return _git(repository, "diff", *_PATCH_FORMAT, "HEAD", variables=variables)


def _git(repository: Path, *words: str, variables: Mapping[str, str] | None = None) -> bytes:
    """What git prints.

    Raises:
        _NoGitError: there is no git, or it refuses.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _GIT_PLACES}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1", **(variables or {})}
    command = ["git", "-C", str(repository), *words]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NoGitError(f"git {words[0]}: {error}") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise _NoGitError(f"git {words[0]} in {repository}: {reason or f'exit code {done.returncode}'}")
    return done.stdout


def _names(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _files_without_git(repository: Path) -> list[str]:
    found = (path for package in PACKAGES for path in (repository / package).rglob("*") if path.is_file())
    names = (path.relative_to(repository).as_posix() for path in found if _is_small(path))
    return [name for name in names if "__pycache__" not in name and "/." not in name]


def _read_files(repository: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The content of the files that are there, by name, in the order of the names.

    Raises:
        ConfigurationError: none is.
    """
    contents = {name: (repository / name).read_bytes() for name in sorted(names) if (repository / name).is_file()}
    if not contents:
        raise ConfigurationError(
            f"{repository}: expected the packages {', '.join(PACKAGES)}, found no file of them; "
            "run the launchers from a checkout or an installed copy of the project"
        )
    return contents


def _digest(contents: Mapping[str, bytes], patch: bytes) -> str:
    """Eight hex digits that change with any file's name or content."""
    digest = hashlib.sha256(patch)
    for name, content in contents.items():
        digest.update(f"\0{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:8]


def _write(
    folder: Path, name: str, contents: Mapping[str, bytes], patch: bytes, facts: Mapping[str, object]
) -> Snapshot:
    archive, about = folder / f"{name}.zip", folder / f"{name}.json"
    digest = _digest_of_whole(archive, about)
    if digest is None:
        _write_zip(archive, contents)
        digest = sha256_of_file(archive)
        if patch:
            with atomic_path(folder / f"{name}.patch") as partial:
                partial.write_bytes(patch)
        write_json(about, {**facts, "sha256": digest, "num_files": len(contents), "python": platform.python_version()})
    return Snapshot(id=name, archive=archive, is_dirty=bool(facts["dirty"]), digest=digest)


def _digest_of_whole(archive: Path, about: Path) -> str | None:
    """The archive's digest, where it is there as it was written."""
    if not (archive.exists() and about.exists()):
        return None
    digest = sha256_of_file(archive)
    if digest == read_json(about).get("sha256"):
        return digest
    LOG.warning(f"{archive}: its bytes are not those that were written; it is written anew")
    return None


def _write_zip(path: Path, contents: Mapping[str, bytes]) -> None:
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        start = Path(archive_main.__file__).read_bytes()
        for name, content in {**contents, "__main__.py": start}.items():
            member = zipfile.ZipInfo(name, date_time=_OLDEST_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o100644 << 16
            archive.writestr(member, content)
