"""A snapshot is the code as it stood, once for each state of it, and Python imports it before any other copy."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bccdist.errors import ConfigurationError
from jobs.slurm.snapshot import MOST_NEW_FILE_BYTES, PACKAGES, REPOSITORY, Snapshot, take_snapshot

IDENTITY = ("-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *IDENTITY, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_packages(folder: Path) -> Path:
    for package in PACKAGES:
        write(folder / package / "__init__.py", f'"""{package}."""\n')
    write(folder / "bccdist" / "deep" / "module.py", "VALUE = 1\n")
    write(folder / "shards" / "FORMAT.md", "How tars look.\n")
    write(folder / "slurm" / "here.toml", "gpus = 4\n")
    write(folder / "tests" / "test_it.py", "old = True\n")
    write(folder / ".gitignore", "__pycache__/\n/studies/\n")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """All four packages, a site and a test, in one commit."""
    folder = write_packages(tmp_path / "repository")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def names_in(snapshot: Snapshot) -> list[str]:
    with zipfile.ZipFile(snapshot.archive) as archive:
        return archive.namelist()


def about(snapshot: Snapshot) -> dict[str, object]:
    found: dict[str, object] = json.loads(snapshot.archive.with_suffix(".json").read_text())
    return found


def tree_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its right to be executed, but git's own and what it ignores."""
    listed = git(folder, "ls-files", "-co", "--exclude-standard", "-z").split("\0")
    paths = {name: folder / name for name in listed if name and os.path.lexists(folder / name)}
    return {
        name: (path.lstat().st_mode & 0o100, os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes())
        for name, path in sorted(paths.items())
    }


def test_a_clean_tree_is_named_by_its_commit(repository: Path, tmp_path: Path) -> None:
    snapshot = take_snapshot(tmp_path / "code", repository=repository)
    commit = git(repository, "rev-parse", "HEAD").strip()
    assert (snapshot.id, snapshot.is_dirty) == (commit[:12], False)
    assert snapshot.archive == tmp_path / "code" / f"{commit[:12]}.zip"
    assert sorted(path.suffix for path in (tmp_path / "code").iterdir()) == [".json", ".zip"]
    found = about(snapshot)
    assert (found["commit"], found["branch"], found["dirty"]) == (commit, "main", False)
    assert found["num_files"] == len(names_in(snapshot)) == 6
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_archive_holds_the_packages_with_their_data_and_nothing_else(repository: Path, tmp_path: Path) -> None:
    write(repository / "bccdist" / "__pycache__" / "module.pyc", "ignored")
    names = names_in(take_snapshot(tmp_path / "code", repository=repository))
    assert names == sorted(
        [*(f"{name}/__init__.py" for name in PACKAGES), "bccdist/deep/module.py", "shards/FORMAT.md"]
    )


def test_the_same_code_gives_the_same_bytes_and_is_written_once(repository: Path, tmp_path: Path) -> None:
    write(repository / "bccdist" / "new.py", "NEW = 1\n")
    first, second = (take_snapshot(tmp_path / name, repository=repository) for name in ("one", "two"))
    assert first.id == second.id
    assert first.archive.read_bytes() == second.archive.read_bytes()
    before = {path: path.stat() for path in (tmp_path / "one").iterdir()}
    assert take_snapshot(tmp_path / "one", repository=repository) == first
    assert {path: path.stat() for path in (tmp_path / "one").iterdir()} == before


def test_without_a_branch_the_commit_alone_is_recorded(repository: Path, tmp_path: Path) -> None:
    git(repository, "checkout", "--quiet", "--detach")
    assert about(take_snapshot(tmp_path / "code", repository=repository))["branch"] is None


class Change(NamedTuple):
    """Something that makes a tree dirty."""

    make: Callable[[Path], object]
    archived: bool
    """Whether it changes what jobs import."""


def change_mode(folder: Path) -> None:
    (folder / "tests" / "test_it.py").chmod(0o755)


def stage_and_change_again(folder: Path) -> None:
    write(folder / "bccdist" / "deep" / "module.py", "VALUE = 2\n")
    write(folder / "bccdist" / "staged.py", "STAGED = 1\n")
    git(folder, "add", "--all")
    write(folder / "bccdist" / "deep" / "module.py", "VALUE = 3\n")


CHANGES = {
    "a changed module": Change(lambda folder: write(folder / "bccdist" / "deep" / "module.py", "VALUE = 2"), True),
    "a new module": Change(lambda folder: write(folder / "jobs" / "new.py", "NEW = 1\n"), True),
    "a new package": Change(lambda folder: write(folder / "bccdist" / "fresh" / "__init__.py", ""), True),
    "a deleted module": Change(lambda folder: (folder / "bccdist" / "deep" / "module.py").unlink(), True),
    "a renamed module": Change(lambda folder: (folder / "bccdist" / "deep").rename(folder / "bccdist" / "low"), True),
    "bytes that are no text": Change(lambda folder: write(folder / "shards" / "table.bin", bytes(range(256))), True),
    "staged, then changed": Change(stage_and_change_again, True),
    "a name with a blank and umlaut": Change(lambda folder: write(folder / "jobs" / "größe [1].py", "x = 1\n"), True),
    "a changed test": Change(lambda folder: write(folder / "tests" / "test_it.py", "new = True\n"), False),
    "a new site": Change(lambda folder: write(folder / "slurm" / "there.toml", "gpus = 8\n"), False),
    "a right to execute": Change(change_mode, False),
    "a link": Change(lambda folder: (folder / "slurm" / "link.toml").symlink_to("here.toml"), False),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_patch_leads_from_the_commit_to_the_submitted_tree(
    change: Change, repository: Path, tmp_path: Path
) -> None:
    clean = take_snapshot(tmp_path / "code", repository=repository)
    change.make(repository)
    status, num_objects = git(repository, "status", "--porcelain"), git(repository, "count-objects")
    index = (repository / ".git" / "index").read_bytes()
    snapshot = take_snapshot(tmp_path / "code", repository=repository)
    assert (repository / ".git" / "index").read_bytes() == index
    assert (git(repository, "status", "--porcelain"), git(repository, "count-objects")) == (status, num_objects)

    assert snapshot.is_dirty
    assert snapshot.id.startswith(f"{clean.id}-")
    assert len(snapshot.id) == 12 + 1 + 8
    assert (snapshot.archive.read_bytes() != clean.archive.read_bytes()) is change.archived
    again = tmp_path / "again"
    git(tmp_path, "clone", "--quiet", str(repository), str(again))
    git(again, "apply", str(snapshot.archive.with_suffix(".patch")))
    assert tree_of(again) == tree_of(repository)
    with zipfile.ZipFile(snapshot.archive) as archive:
        for name in archive.namelist():
            assert archive.read(name) == (again / name).read_bytes()


def test_the_patch_does_not_depend_on_the_users_settings(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository / "bccdist" / "deep" / "module.py", "VALUE = 2\n")
    expected = take_snapshot(tmp_path / "one", repository=repository)
    for name, value in {"color.ui": "always", "diff.noprefix": "true", "diff.external": "false"}.items():
        git(repository, "config", name, value)
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "of a hook"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert take_snapshot(tmp_path / "two", repository=repository).id == expected.id


def test_data_in_the_repository_is_no_code_and_is_named(
    repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(repository / "my-study" / "study.json", "{}")
    write(repository / "slide.svs", bytes(MOST_NEW_FILE_BYTES + 1))
    write(repository / "bccdist" / "slide.svs", bytes(MOST_NEW_FILE_BYTES + 1))
    write(repository / "studies" / "study.json", "ignored")
    snapshot = take_snapshot(repository / "my-study" / "code", repository=repository)
    assert not snapshot.is_dirty
    assert about(snapshot)["left_out"] == ["bccdist/slide.svs", "my-study/", "slide.svs"]
    assert ": bccdist/slide.svs, my-study/, slide.svs\n" in caplog.text
    assert take_snapshot(repository / "my-study" / "code", repository=repository) == snapshot


def without_git(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder / "nothing"))


def without_repository(folder: Path, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / ".git")


def without_commit(folder: Path, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / ".git")
    git(folder, "init", "--quiet")


def inside_another(folder: Path, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / ".git")
    git(folder.parent, "init", "--quiet")
    git(folder.parent, "commit", "--quiet", "--allow-empty", "--message", "another")


def owned_by_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(folder.parent / "empty"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(folder.parent / "empty"))
    write(folder.parent / "empty", "")


def damaged(folder: Path, _: pytest.MonkeyPatch) -> None:
    write(folder / ".git" / "index", "no index")


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (without_git, "No such file or directory: 'git'"),
        (without_repository, "not a git repository"),
        (without_commit, "HEAD"),
        (inside_another, "is a folder of the repository"),
        (owned_by_another, "dubious ownership"),
        (damaged, "index"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_where_git_cannot_say_what_the_code_is_the_code_is_kept_all_the_same(
    disturb: Callable[[Path, pytest.MonkeyPatch], None],
    reason: str,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_git = take_snapshot(tmp_path / "with", repository=repository)
    write(repository / "bccdist" / "__pycache__" / "module.pyc", "not code")
    disturb(repository, monkeypatch)
    snapshot = take_snapshot(tmp_path / "without", repository=repository)
    (said,) = caplog.messages
    assert said.startswith("code snapshot without a commit: ")
    assert reason in said
    assert snapshot.id.startswith("nogit-")
    assert len(snapshot.id) == len("nogit-") + 8
    assert snapshot.archive.read_bytes() == with_git.archive.read_bytes()
    assert (about(snapshot)["commit"], about(snapshot)["dirty"]) == (None, True)
    write(repository / "bccdist" / "deep" / "module.py", "VALUE = 2\n")
    assert take_snapshot(tmp_path / "without", repository=repository).id != snapshot.id


def test_a_folder_without_the_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"found no file of them; run the launchers from a checkout"):
        take_snapshot(tmp_path / "code", repository=tmp_path)
    assert not (tmp_path / "code").exists()


WHERE = """
import sys
from multiprocessing import get_context
def show(text):
    print(eval(text))
if __name__ == "__main__":
    import jobs.slurm.snapshot
    show("__import__('bccdist').__file__")
    print(jobs.slurm.snapshot.__file__)
    print("torch" in sys.modules)
    with get_context("spawn").Pool(1) as pool:
        print(pool.apply(eval, ("__import__('bccdist').__file__",)))
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Of this project."""
    return take_snapshot(tmp_path_factory.mktemp("own") / "code")


@pytest.mark.parametrize("where", ["elsewhere", "in the repository"])
def test_jobs_import_the_archive_and_not_the_work_tree(where: str, own: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "where_am_i.py").write_text(WHERE)
    folder = tmp_path if where == "elsewhere" else REPOSITORY
    others = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment = others | own.variables({"PYTHONPATH": str(tmp_path)})
    command = [sys.executable, "-m", "where_am_i"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    package, module, torch, spawned = done.stdout.splitlines()
    assert package == spawned == str(own.archive / "bccdist" / "__init__.py")
    assert module == str(own.archive / "jobs" / "slurm" / "snapshot.py")
    assert torch == "False"


@pytest.mark.parametrize("before", [{}, {"PYTHONPATH": ""}, {"PYTHONPATH": "/of/the/site"}], ids=str)
def test_what_the_site_puts_on_the_path_stays_behind_the_archive(before: dict[str, str]) -> None:
    snapshot = Snapshot(id="abc", archive=Path("/study/code/abc.zip"), is_dirty=False)
    rest = ":/of/the/site" if before.get("PYTHONPATH") else ""
    expected = {"PYTHONPATH": f"/study/code/abc.zip{rest}", "PYTHONSAFEPATH": "1", "BCCDIST_CODE": "abc"}
    assert snapshot.variables(before) == expected


def test_a_snapshot_of_this_project_takes_no_time(own: Snapshot) -> None:
    start_s = time.process_time()
    take_snapshot(own.archive.parent)
    assert time.process_time() - start_s < 0.3
