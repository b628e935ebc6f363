"""Files are whole or absent, digests name content, and a slide of several files is known by all of them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bccdist.errors import ConfigurationError
from bccdist.files import (
    as_given,
    atomic_path,
    csv_text,
    digest_of,
    fingerprint_of_file,
    read_json,
    sha256_of_file,
    write_json,
    write_text,
)

LARGE = bytes(range(256)) * 4000


def write_then_fail(path: Path) -> None:
    with atomic_path(path) as partial:
        partial.write_text("half")
        raise RuntimeError("power cut")


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        write_then_fail(tmp_path / "new" / "file.txt")
    assert list((tmp_path / "new").iterdir()) == []


def test_an_error_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="power cut"):
        write_then_fail(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_two_writers_do_not_mix_and_the_last_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with atomic_path(path) as first:
        first.write_text("first")
        with atomic_path(path) as second:
            second.write_text("second")
            assert first != second
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back_and_its_bytes_do_not_depend_on_key_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_json(first, {"a": [1, 2.5], "b": None, "c": "Größe"})
    write_json(second, {"c": "Größe", "b": None, "a": [1, 2.5]})
    assert read_json(first) == {"a": [1, 2.5], "b": None, "c": "Größe"}
    assert first.read_bytes() == second.read_bytes()


def test_json_refuses_nan_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_sha256_is_the_known_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_of_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digests_name_values_whatever_their_key_order() -> None:
    assert digest_of({"a": 1, "b": {"c": 2, "d": 3}}) == digest_of({"b": {"d": 3, "c": 2}, "a": 1})
    values = [{"a": 1}, {"a": "1"}, {"a": [1]}, {"b": 1}, {"a": None}, [1], 1]
    assert len({digest_of(value) for value in values}) == len(values)


def test_digests_of_earlier_versions_hold() -> None:
    assert digest_of({"b": [1, 2.5], "a": None}) == "e57f5d378654"


@pytest.mark.parametrize(
    ("content", "expected"),
    [(bytes(range(256)) * 1000, "e303c5c74842"), (b"small", "13e5af5b93ae"), (b"", "5feceb66ffc8")],
    ids=["larger than a block", "smaller than a block", "empty"],
)
def test_fingerprints_of_earlier_versions_hold(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "slide.tif"
    path.write_bytes(content)
    assert fingerprint_of_file(path) == expected


@pytest.mark.parametrize("offset", [0, len(LARGE) // 7, len(LARGE) - 1], ids=["start", "inside", "end"])
def test_a_fingerprint_changes_with_content_and_size_but_not_with_the_name(tmp_path: Path, offset: int) -> None:
    path, changed, longer, renamed = (tmp_path / name for name in ("a.tif", "changed.tif", "longer.tif", "b.tif"))
    path.write_bytes(LARGE)
    renamed.write_bytes(LARGE)
    changed.write_bytes(LARGE[:offset] + bytes([LARGE[offset] ^ 1]) + LARGE[offset + 1 :])
    longer.write_bytes(LARGE + b"\0")
    assert fingerprint_of_file(renamed) == fingerprint_of_file(path)
    assert len({fingerprint_of_file(file) for file in (path, changed, longer)}) == 3


def write_mrxs(folder: Path, name: str = "slide") -> Path:
    """A file beside a folder of the same stem, as 3DHISTECH's scanners write it."""
    data = folder / name
    (data / "deeper").mkdir(parents=True)
    (data / "Data0000.dat").write_bytes(b"tiles")
    (data / "deeper" / "Data0001.dat").write_bytes(b"more tiles")
    path = folder / f"{name}.mrxs"
    path.write_bytes(b"thumbnail")
    return path


CHANGES: dict[str, Callable[[Path], object]] = {
    "the named file": lambda folder: (folder / "slide.mrxs").write_bytes(b"another"),
    "a file of the data": lambda folder: (folder / "slide" / "Data0000.dat").write_bytes(b"tilex"),
    "a deeper file": lambda folder: (folder / "slide" / "deeper" / "Data0001.dat").write_bytes(b"more tilex"),
    "one more file": lambda folder: (folder / "slide" / "Data0002.dat").write_bytes(b""),
    "a file less": lambda folder: (folder / "slide" / "Data0000.dat").unlink(),
    "another name": lambda folder: (folder / "slide" / "Data0000.dat").rename(folder / "slide" / "Data0009.dat"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_mrxs_slide_is_known_by_its_data_too(tmp_path: Path, change: Callable[[Path], object]) -> None:
    path = write_mrxs(tmp_path)
    before = fingerprint_of_file(path)
    (tmp_path / "neighbour.txt").write_text("not of this slide")
    assert fingerprint_of_file(path) == before
    change(tmp_path)
    assert fingerprint_of_file(path) != before


def test_an_mrxs_slide_may_be_moved_and_renamed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    there = write_mrxs(tmp_path / "elsewhere", "other")
    assert fingerprint_of_file(write_mrxs(tmp_path)) == fingerprint_of_file(there)


def test_a_folder_is_known_by_all_files_below_it(tmp_path: Path) -> None:
    folder = write_mrxs(tmp_path).with_suffix("")
    before = fingerprint_of_file(folder)
    (folder / "deeper" / "Data0001.dat").write_bytes(b"less")
    assert fingerprint_of_file(folder) != before


def test_a_missing_slide_has_no_fingerprint(tmp_path: Path) -> None:
    for name in ("gone.tif", "gone.mrxs"):
        with pytest.raises(FileNotFoundError, match=name):
            fingerprint_of_file(tmp_path / name)


def test_rows_as_csv_keep_their_commas_and_refuse_a_column_that_nobody_named() -> None:
    assert csv_text(["a", "b"], [{"a": "x, y", "b": None}, {"b": 2}]) == 'a,b\n"x, y",\n,2\n'
    with pytest.raises(ValueError, match="c"):
        csv_text(["a"], [{"c": 1}])


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": \xff}', b'{"a": 1}\0'])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"a\.json: damaged, not valid JSON"):
        read_json(tmp_path / "a.json")


def test_a_path_stays_as_it_was_given_through_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that is a link leads elsewhere on other machines."""
    (tmp_path / "disk" / "user" / "work").mkdir(parents=True)
    home = tmp_path / "home"
    home.symlink_to(tmp_path / "disk" / "user")
    assert as_given(home / "study") == home / "study"
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("PWD", str(home / "work"))
    assert as_given(Path("study")) == home / "work" / "study"
    assert as_given(Path()) == home / "work"
    assert as_given(Path("../study")) == home / "study"
    assert as_given(Path("../../study")) == tmp_path / "disk" / "study"
    assert as_given(Path("new/../../study")) == home / "study"
    assert as_given(home / ".." / "study" / "new") == tmp_path / "disk" / "study" / "new"


def test_two_dots_lead_where_the_file_system_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a link within the path, a shell and the file system mean different folders."""
    (tmp_path / "disk" / "deep" / "study").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "deep")
    assert as_given(tmp_path / "link" / ".." / "study") == tmp_path / "disk" / "study"
    assert as_given(tmp_path / "disk" / "deep" / ".." / "study") == tmp_path / "disk" / "study"
    monkeypatch.chdir(tmp_path / "link")
    monkeypatch.setenv("PWD", str(tmp_path / "link"))
    assert as_given(Path("../study")) == tmp_path / "disk" / "study"


@pytest.mark.parametrize("called", ["bin/python", "./bin/python", "../user/bin/python", "{home}/bin/python"])
def test_python_keeps_the_name_by_which_the_user_called_it(called: str, tmp_path: Path) -> None:
    (tmp_path / "disk" / "user" / "bin").mkdir(parents=True)
    home = tmp_path / "home"
    home.symlink_to(tmp_path / "disk" / "user")
    python = home / "bin" / "python"
    python.symlink_to(sys.executable)
    script = f"import sys; sys.path[:0] = {sys.path!r}; from bccdist.files import as_called; print(as_called())"
    words = [called.format(home=home), "-c", script]
    environment = os.environ | {"PWD": str(home)}
    done = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True, check=True)
    expected = home.parent / "disk" / "user" / "bin" / "python" if ".." in called else python
    assert done.stdout.strip() == str(expected)


def test_a_python_that_the_shell_looked_up_is_named_in_full(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    script = f"import sys; sys.path[:0] = {sys.path!r}; from bccdist.files import as_called; print(as_called())"
    environment = os.environ | {"PATH": f"bin:{os.environ['PATH']}", "PWD": str(tmp_path)}
    words = ["sh", "-c", 'exec python -c "$1"', "sh", script]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "bin" / "python")


@pytest.mark.parametrize("shells", ["", "work", "{tmp_path}", "{tmp_path}/gone", "{tmp_path}/other/../work"])
def test_a_shells_word_for_the_working_folder_that_is_not_true_is_not_believed(
    shells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PWD", shells.format(tmp_path=tmp_path))
    assert as_given(Path("study")) == tmp_path / "work" / "study"
