"""What is copied out is all there, whole and read back, or the target has no list of it."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from object_store import bucket
from study_folders import ledger_row, write_study

from bccdist.configuration import CopyOutConfig, Results
from bccdist.errors import ConfigurationError, RemoteError, StageFailedError
from bccdist.files import write_text
from bccdist.paths import StudyPaths
from bccdist.remote.target import Target, parse_target
from bccdist.sections.origins import keep_origin, origin_now
from bccdist.slides.manifest import Manifest
from bccdist.stages.copy_out import MANIFEST, copy_out
from bccdist.stages.outdated import MADE_OF_ALL
from bccdist.stages.stage import StageProgress
from bccdist.stages.table import COPY_OUT
from bccdist.study import claim_study, manifest_of_study
from jobs import launch_copy_out
from jobs.command_line import LauncherArguments
from jobs.launch_copy_out import CopyOutArguments

FILES = {
    "heatmaps/unet/epoch-001/a.ozx": b"a" * 70_000,
    "heatmaps/unet/epoch-001/b #1.ozx": b"b" * 70_000,
    "tables/table3.parquet": b"three",
    "sections.parquet": b"rows",
    "report.html": b"<p>",
    "overlays/unet/a.png": b"png",
}
OTHERS = ("shards/tars/a.tar", "tables/table4.parquet.partial-12", "jobs.jsonl")


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of a bucket."""
    with bucket("archive") as address:
        yield address


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    """A study with results, and with what is none."""
    for name, data in {**FILES, **dict.fromkeys(OTHERS, b"no result")}.items():
        path = tmp_path / "study" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "a.tif").write_text("xyz")
    (tmp_path / "slides.csv").write_text("slide_id,part,path\na,Test,a.tif\n")
    claim_study(tmp_path / "study", tmp_path / "slides.csv")
    return StudyPaths(tmp_path / "study")


@pytest.fixture
def outdated(paths: StudyPaths) -> StudyPaths:
    """The study, all of whose tables and pictures were made before a label was corrected."""
    write_study(paths.root, [ledger_row(slide_id="a", part="Test")])
    pd.DataFrame([{"setting": "resnet34_ds", "epoch": 1}]).to_parquet(paths.selection)
    for result in ("selection", *MADE_OF_ALL):
        keep_origin(paths.origin(result), origin_now(paths, manifest_of_study(paths.root)), made=paths.selection)
    write_text(paths.figure("figure6"), "png")
    write_text(paths.labels, "slide_id,section_id,label\na,section-0,Normal\n")
    return paths


@pytest.fixture(params=["s3", "file"])
def target(request: pytest.FixtureRequest, store: str, tmp_path: Path) -> str:
    """An empty place at each kind of store."""
    return f"{store}/{tmp_path.name}" if request.param == "s3" else f"file://{tmp_path}/archive copy"


def files(address: str) -> tuple[Any, str]:
    fs, root = fsspec.core.url_to_fs(address)
    fs.invalidate_cache()
    return fs, root


def there(address: str) -> dict[str, bytes]:
    """All files at a target."""
    fs, root = files(address)
    found = fs.find(root) if fs.exists(root) else []
    return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in found}


def progress(paths: StudyPaths) -> StageProgress:
    return COPY_OUT.progress(paths, Manifest.__new__(Manifest))


def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are sent from now on."""
    names: list[str] = []
    put = Target.put_file

    def noted(self: Target, source: Path, name: str) -> None:
        names.append(name)
        put(self, source, name)

    monkeypatch.setattr(Target, "put_file", noted)
    return names


def test_results_arrive_with_a_list_of_their_digests_and_are_not_sent_again(
    paths: StudyPaths, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert progress(paths).num_done == 0
    copy_out(paths.root, CopyOutConfig(to=target))
    found = there(target)
    listed = json.loads(found.pop(MANIFEST))["files"]
    assert found == FILES
    assert {each["path"]: each["sha256"] for each in listed} == {
        name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()
    }
    assert (progress(paths).is_whole, progress(paths).num_done) == (True, len(FILES))
    names = sent(monkeypatch)
    copy_out(paths.root, CopyOutConfig(to=target))
    assert not names
    assert MANIFEST in there(target)


def test_a_changed_byte_at_the_target_is_found_and_sent_again(
    paths: StudyPaths, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_out(paths.root, CopyOutConfig(to=target))
    fs, root = files(target)
    fs.pipe_file(f"{root}/heatmaps/unet/epoch-001/a.ozx", b"a" * 69_999 + b"x")
    names = sent(monkeypatch)
    copy_out(paths.root, CopyOutConfig(to=target))
    assert names == ["heatmaps/unet/epoch-001/a.ozx"]
    assert there(target)["heatmaps/unet/epoch-001/a.ozx"] == FILES["heatmaps/unet/epoch-001/a.ozx"]


def test_an_interrupted_copying_has_no_list_and_goes_on(
    paths: StudyPaths, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_out(paths.root, CopyOutConfig(to=target, what=("tables",)))
    (paths.root / "report.html").write_bytes(b"<p>new")
    put = Target.put_file

    def broken(self: Target, source: Path, name: str) -> None:
        if name.endswith("b #1.ozx"):
            raise RemoteError("the store is gone")
        put(self, source, name)

    monkeypatch.setattr(Target, "put_file", broken)
    with pytest.raises(RemoteError, match="the store is gone"):
        copy_out(paths.root, CopyOutConfig(to=target))
    assert MANIFEST not in there(target)
    assert not progress(paths).is_whole
    monkeypatch.setattr(Target, "put_file", put)
    before = set(there(target))
    names = sent(monkeypatch)
    copy_out(paths.root, CopyOutConfig(to=target))
    assert set(names) == FILES.keys() - before
    assert there(target)["report.html"] == b"<p>new"


def test_what_is_read_back_otherwise_is_an_error(
    paths: StudyPaths, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Target, "put_file", lambda self, _source, name: self.put_bytes(b"other", name))
    with pytest.raises(RemoteError, match="what is read back is not what was sent"):
        copy_out(paths.root, CopyOutConfig(to=target))
    assert MANIFEST not in there(target)


def test_a_file_that_changes_meanwhile_is_named_and_the_others_are_copied(
    paths: StudyPaths, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Target.put_file

    def growing(self: Target, source: Path, name: str) -> None:
        if name == "report.html":
            source.write_bytes(b"<p>grown")
        put(self, source, name)

    monkeypatch.setattr(Target, "put_file", growing)
    with pytest.raises(StageFailedError, match=r"1 of 6 files.*report\.html: it changed while it was copied"):
        copy_out(paths.root, CopyOutConfig(to=target))
    assert set(there(target)) == set(FILES)
    assert list(progress(paths).failures) == ["report.html"]


def test_what_a_kill_left_half_written_goes(paths: StudyPaths, tmp_path: Path) -> None:
    left = tmp_path / "archive" / "tables" / "table3.parquet.0123.bccdist-partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"thr")
    copy_out(paths.root, CopyOutConfig(to=f"file://{tmp_path}/archive"))
    assert not left.exists()


def test_a_copy_is_out_of_date_when_the_study_has_changed(paths: StudyPaths, target: str) -> None:
    copy_out(paths.root, CopyOutConfig(to=target))
    (paths.root / "heatmaps" / "unet" / "epoch-001" / "c.ozx").write_bytes(b"c")
    found = progress(paths)
    assert (found.is_whole, found.is_out_of_date) == (False, True)


BAD = {
    "no scheme": ("bucket/prefix", "expected an address with its scheme"),
    "no scheme, with a password": ("u:Hidden1@host/prefix?sig=Hidden1", "expected an address with its scheme"),
    "a password": ("s3://writer:Hidden2@bucket/prefix", "give it without"),
    "a query": ("s3://bucket/prefix?sig=Hidden2", "give it without"),
    "HTTP": ("https://example.org/a", "nothing can be written by HTTP"),
    "an unknown scheme": ("s4://bucket/a", "the protocol 's4' is not known"),
    "a relative path": ("file://archive", "expected an absolute path"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_a_target_that_is_none_is_one_line_without_secrets(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_target(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Hidden" not in str(caught.value)


def test_a_target_in_the_study_is_refused(paths: StudyPaths) -> None:
    with pytest.raises(ConfigurationError, match="lies in the study"):
        copy_out(paths.root, CopyOutConfig(to=f"file://{paths.root}/copy"))


def test_a_bucket_that_does_not_exist_is_one_line(store: str) -> None:
    assert store
    with pytest.raises(RemoteError, match="s3://no-such-bucket/a: there is no such bucket") as caught:
        Target(parse_target("s3://no-such-bucket/a")).check_writable()
    assert "\n" not in str(caught.value)


def test_no_right_to_write_is_one_line(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(parse_target(f"{store}/a"))

    def denied(*_: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(target._fs, "pipe_file", denied)
    with pytest.raises(RemoteError, match="Access Denied; the store gives no right"):
        target.check_writable()


def test_nothing_to_copy_is_an_error_and_no_empty_list(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    with pytest.raises(ConfigurationError, match="nothing to copy of heatmaps, tables, report"):
        copy_out(tmp_path / "study", CopyOutConfig(to=f"file://{tmp_path}/archive"))
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("address", ["s3://bucket/study", "https://example.org/study", "file:///study"])
def test_a_study_on_object_storage_is_refused_and_the_reason_is_said(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"a folder of a POSIX file system: .*launch_copy_out\.py") as caught:
        _ = LauncherArguments(study=Path(address)).launch
    assert "\n" not in str(caught.value)


def test_a_launch_says_what_is_wrong_with_the_target_before_anything_is_queued(store: str, paths: StudyPaths) -> None:
    assert store
    journal = paths.journal.read_bytes()
    with pytest.raises(ConfigurationError, match=r"nothing was launched:\n.*there is no such bucket"):
        launch_copy_out.main(CopyOutArguments(study=paths.root, to="s3://no-such-bucket/a"))
    assert paths.journal.read_bytes() == journal


@pytest.mark.parametrize(
    ("what", "named"), [("tables", "tables"), ("report", "report, figures, overlays"), ("heatmaps", "")]
)
def test_what_is_out_of_date_is_not_sent_or_is_sent_with_the_word(
    outdated: StudyPaths, tmp_path: Path, what: Results, named: str
) -> None:
    to = f"file://{tmp_path}/archive"
    if named:
        says = rf"out of date: {named}: labels\.csv has changed\. .*launch_tables\.py --study .*--even-out-of-date"
        for refused in (
            lambda: copy_out(outdated.root, CopyOutConfig(to=to, what=(what,))),
            lambda: launch_copy_out.main(CopyOutArguments(study=outdated.root, to=to, what=(what,))),
            lambda: launch_copy_out.main(CopyOutArguments(study=outdated.root, to=to, what=(what,), dry_run=True)),
        ):
            with pytest.raises(ConfigurationError, match=says):
                refused()
        assert not (tmp_path / "archive").exists()
    copy_out(outdated.root, CopyOutConfig(to=to, what=(what,), even_out_of_date=bool(named)))
    listed = json.loads(there(to)[MANIFEST])
    assert listed["out_of_date"] == {each: "labels.csv has changed" for each in named.split(", ") if each}


def test_what_was_copied_is_out_of_date_once_it_is_so_in_the_study(outdated: StudyPaths, tmp_path: Path) -> None:
    labels = outdated.labels.read_bytes()
    outdated.labels.unlink()
    copy_out(outdated.root, CopyOutConfig(to=f"file://{tmp_path}/archive", what=("tables",)))
    manifest = manifest_of_study(outdated.root)
    assert COPY_OUT.progress(outdated, manifest).is_whole
    outdated.labels.write_bytes(labels)
    found = COPY_OUT.progress(outdated, manifest)
    assert (found.is_whole, found.is_out_of_date) == (False, True)
    assert found.detail.endswith("out of date: what was copied is: tables")


def test_of_what_does_not_say_what_it_was_made_from_that_is_said(
    paths: StudyPaths, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_text(paths.regions("unet", "a"), "zip")
    to = f"file://{tmp_path}/archive"
    copy_out(paths.root, CopyOutConfig(to=to, what=("report",)))
    assert "whether regions is of today is not known" in caplog.text
    assert json.loads(there(to)[MANIFEST])["not_known"] == ["regions"]


_HANGS = """
import sys, time
from pathlib import Path
from bccdist.configuration import CopyOutConfig
from bccdist.remote.target import Target
from bccdist.stages.copy_out import copy_out

put = Target.put_file

def half(self, source, name):
    if not name.endswith("b #1.ozx"):
        return put(self, source, name)
    def hanging(source, place):
        data = Path(source).read_bytes()
        with self._fs.open(place, "wb", block_size=5 * 2**20) as file:
            file.write(data[:len(data) // 2])
            file.flush()
            print("half", flush=True)
            time.sleep(600)
    self._fs.put_file = hanging
    put(self, source, name)

Target.put_file = half
copy_out(Path(sys.argv[1]), CopyOutConfig(to=sys.argv[2]))
"""


@pytest.mark.slow
def test_a_copying_that_is_killed_leaves_nothing_half_and_the_next_one_ends_it(
    paths: StudyPaths, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = "heatmaps/unet/epoch-001/b #1.ozx"
    # Of more than one part of an upload to object storage, so that a part of it has arrived.
    expected = {**FILES, large: bytes(range(256)) * 4 * 12_288}
    (paths.root / large).write_bytes(expected[large])
    command = [sys.executable, "-c", _HANGS, str(paths.root), target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()
    arrived = there(target)
    assert MANIFEST not in arrived
    partial = {name for name in arrived if name.endswith(".bccdist-partial")}
    assert bool(partial) == target.startswith("file")
    assert all(expected[name] == data for name, data in arrived.items() if name not in partial)
    assert large not in arrived
    assert not progress(paths).is_whole
    names = sent(monkeypatch)
    copy_out(paths.root, CopyOutConfig(to=target))
    assert set(names) == expected.keys() - arrived.keys()
    found = there(target)
    listed = {each["path"]: each["sha256"] for each in json.loads(found.pop(MANIFEST))["files"]}
    assert found == expected
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in expected.items()}
    assert progress(paths).is_whole
