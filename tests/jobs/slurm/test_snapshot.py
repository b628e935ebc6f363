"""A snapshot is the code as it stood, once for each state of it, and Python imports it before any other copy."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest
import submitit

from bccdist.errors import ConfigurationError
from bccdist.stages.table import SHARDS
from jobs.slurm.snapshot import MOST_NEW_FILE_BYTES, PACKAGES, REPOSITORY, Snapshot, take_snapshot
from jobs.slurm.task import StageTask

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
    """Its files, but the one that starts a job."""
    with zipfile.ZipFile(snapshot.archive) as archive:
        *names, start = archive.namelist()
    assert start == "__main__.py"
    return names


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

    def written() -> dict[Path, tuple[int, int]]:
        # Not all of their states: reading moves the time of the last access.
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (tmp_path / "one").iterdir()}

    before = written()
    assert take_snapshot(tmp_path / "one", repository=repository) == first
    assert written() == before


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
        for name in names_in(snapshot):
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


TASK = """
import bccdist, jobs.slurm.snapshot, sys
from bccdist.installed import imported_code
from multiprocessing import get_context
def where(study_root):
    print("code", imported_code())
    print("package", bccdist.__file__)
    print("module", jobs.slurm.snapshot.__file__)
    print("torch", "torch" in sys.modules)
    with get_context("spawn").Pool(1) as pool:
        print("spawned", pool.apply(eval, ("__import__('bccdist').__file__",)))
"""
OTHER = "print('other code runs')\n"


@pytest.fixture(scope="module", params=["study", "a study: new"])
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Of this project; a path with a colon cannot stand in PYTHONPATH."""
    return take_snapshot(tmp_path_factory.mktemp("own") / request.param / "code")


@dataclass(frozen=True)
class Job:
    """A task that lies ready, with a module of the user's beside it."""

    folder: Path

    def run(self, code: Snapshot, *, cwd: Path, python: str = sys.executable, **variables: str) -> tuple[int, str]:
        """Exit code, and all that it wrote."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SUBMITIT"))}
        environment = kept | {
            "PYTHONPATH": str(self.folder),
            "PYTHONNOUSERSITE": "1",
            "SUBMITIT_EXECUTOR": "local",
            "SUBMITIT_LOCAL_JOB_ID": "7",
            "SUBMITIT_LOCAL_GLOBALID": "0",
            **variables,
        }
        words = shlex.split(code.command(python, self.folder / "logs"))
        done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "logs").mkdir()
    (tmp_path / "the_task.py").write_text(TASK)
    task = StageTask(name="shards", stage=SHARDS.fields, function="the_task:where", values={"study_root": tmp_path})
    delayed = submitit.core.utils.DelayedSubmission(task)
    delayed.set_timeout(5, 1)
    delayed.dump(tmp_path / "logs" / "7_submitted.pkl")
    return Job(tmp_path)


def other_checkout(folder: Path) -> Path:
    """Another copy of the project, which says that it runs."""
    for package in PACKAGES:
        write(folder / package / "__init__.py", OTHER)
    return folder


def test_jobs_run_the_archive_and_not_the_work_tree_in_which_they_start(own: Snapshot, job: Job) -> None:
    code, said = job.run(own, cwd=REPOSITORY)
    assert code == 0, said
    found = dict(line.split(" ", maxsplit=1) for line in said.splitlines() if line.partition(" ")[0] in EXPECTED)
    assert found == {name: text.format(own.archive) for name, text in EXPECTED.items()} | {"code": own.id}


EXPECTED = {
    "code": "",
    "package": "{}/bccdist/__init__.py",
    "module": "{}/jobs/slurm/snapshot.py",
    "torch": "False",
    "spawned": "{}/bccdist/__init__.py",
}


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONPATH": "{other}:{task}"},
        {"PYTHONPATH": ":{task}"},
        {"PYTHONPATH": "{task}::"},
        {"PYTHONPATH": "{task}:{other}:", "PYTHONSAFEPATH": "1"},
        {"PYTHONPATH": "{task}", "PYTHONSAFEPATH": ""},
    ],
    ids=lambda variables: variables["PYTHONPATH"],
)
def test_another_checkout_on_the_path_or_in_the_working_folder_is_not_run(
    variables: dict[str, str], own: Snapshot, job: Job
) -> None:
    other = other_checkout(job.folder / "other")
    filled = {name: value.format(other=other, task=job.folder) for name, value in variables.items()}
    code, said = job.run(own, cwd=other, **filled)
    assert code == 0, said
    assert "other code runs" not in said
    assert f"package {own.archive}/bccdist/__init__.py" in said


HOOK = """
import importlib.util, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "bccdist":
            place = {other!r} + "/bccdist"
            return importlib.util.spec_from_file_location(
                name, place + "/__init__.py", submodule_search_locations=[place])
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("hook", ["import sys; sys.path.insert(0, {other!r}); import bccdist", HOOK])
def test_a_job_into_which_python_brings_other_code_does_nothing_and_says_why(
    hook: str, own: Snapshot, job: Job
) -> None:
    other = other_checkout(job.folder / "other")
    (job.folder / "sitecustomize.py").write_text(hook.format(other=str(other)))
    code, said = job.run(own, cwd=job.folder)
    assert code == 1
    (line,) = [line for line in said.splitlines() if line != "other code runs"]
    assert line.startswith(
        "error: this is not the code that the job was submitted with, so nothing was done: bccdist "
    )
    assert f"bccdist comes from {other}/bccdist/__init__.py, expected {own.archive}" in line


LATE_HOOK = """
import importlib.util, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "jobs.slurm.snapshot":
            return importlib.util.spec_from_file_location(name, {other!r} + "/jobs/__init__.py")
sys.meta_path.insert(0, Finder())
"""


def test_what_a_job_imports_later_comes_from_its_archive_too(own: Snapshot, job: Job) -> None:
    other = other_checkout(job.folder / "other")
    (job.folder / "sitecustomize.py").write_text(LATE_HOOK.format(other=str(other)))
    code, said = job.run(own, cwd=job.folder)
    assert code == 0, said
    assert "other code runs" not in said
    assert f"module {own.archive}/jobs/slurm/snapshot.py" in said


def test_an_archive_that_was_changed_after_the_submission_is_not_run(own: Snapshot, job: Job, tmp_path: Path) -> None:
    changed = replace(own, archive=tmp_path / own.archive.name)
    shutil.copy(own.archive, changed.archive)
    with zipfile.ZipFile(changed.archive, "a") as archive:
        archive.writestr("bccdist/more.py", OTHER)
    code, said = job.run(changed, cwd=tmp_path)
    assert code == 1
    (line,) = said.splitlines()
    assert "so nothing was done: the archive" in line
    assert f"expected {own.digest}; launch again" in line


def test_an_archive_that_was_damaged_is_written_anew_by_the_next_launch(
    repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = take_snapshot(tmp_path / "code", repository=repository)
    content = bytearray(whole.archive.read_bytes())
    content[60] ^= 1
    whole.archive.write_bytes(content)
    assert take_snapshot(tmp_path / "code", repository=repository) == whole
    assert f"{whole.archive}: its bytes are not those that were written" in caplog.text


def test_a_snapshot_of_this_project_takes_no_time(own: Snapshot) -> None:
    start_s = time.process_time()
    take_snapshot(own.archive.parent)
    assert time.process_time() - start_s < 0.3


def test_a_task_that_the_jobs_variables_do_not_reach_says_so(own: Snapshot, job: Job, tmp_path: Path) -> None:
    words = ["env", "-i", *shlex.split(own.command(sys.executable, job.folder / "logs"))]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the variables of the job did not reach this process, so nothing was done")
    assert len(done.stderr.splitlines()) == 1
