"""The journal: nothing that was acknowledged is lost, whatever happens afterwards."""

import os
from pathlib import Path

import pytest
from review_study import drawn_square, given, say

from analysis.review.answers import Answer, GivenRegions, Journal, file_name_of, read_journal, read_journals
from bccdist.errors import ConfigurationError, EventLogError
from bccdist.paths import StudyPaths


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path)


def test_what_is_said_stands_there_after_a_restart(paths: StudyPaths) -> None:
    regions = GivenRegions(at="2026", slide_id="test-0", features=(drawn_square(1, 2, 3),))
    answer = given(comment='ünïcode "quoted"\nline', viewed={"psi": "psi_4", "t_p": 0.5})
    say(paths, "anna", answer, given(answer="unsure"), regions=regions)
    with Journal(paths, "anna") as journal:
        assert journal.note == ""
        assert journal.said.answers == [answer, given(answer="unsure")]
        assert journal.said.regions == [regions]


def test_the_last_answer_counts_and_the_first_is_kept(paths: StudyPaths) -> None:
    say(paths, "anna", given(answer="Tumor"), given(answer="Normal"), given(answer="unsure"))
    (said,) = read_journals(paths)
    assert said.latest["test-0/test-0-left"].answer is Answer.UNSURE
    assert said.first["test-0/test-0-left"].answer is Answer.TUMOR


@pytest.mark.parametrize("torn", [b'{"kind": "answer", "at"', b"\0" * 300, b'{"kind": "ans\n', b'{"kind": "note"}'])
def test_a_line_that_a_crash_has_cut_is_set_aside_and_all_before_it_is_kept(paths: StudyPaths, torn: bytes) -> None:
    say(paths, "anna", given(), given(answer="Normal"))
    path = paths.review_journal("anna")
    with path.open("ab") as file:
        file.write(torn)
    with Journal(paths, "anna") as journal:
        assert [answer.answer for answer in journal.said.answers] == ["Tumor", "Normal"]
        assert "set aside as journal-anna.torn-" in journal.note
        journal.add_answer(given(answer="unsure"))
    (aside,) = paths.review.glob("*.torn-*")
    assert aside.read_bytes() == torn
    assert [answer.answer for answer in read_journal(path).answers] == ["Tumor", "Normal", "unsure"]
    assert path.read_text().count('"kind": "note"') == 1


def test_a_crash_within_the_very_first_line_begins_anew(paths: StudyPaths) -> None:
    paths.review.mkdir()
    paths.review_journal("anna").write_bytes(b'{"kind": "rev')
    assert read_journals(paths) == []
    say(paths, "anna", given())
    assert len(read_journal(paths.review_journal("anna")).answers) == 1


def test_a_line_that_another_process_is_writing_is_not_yet_said(paths: StudyPaths) -> None:
    say(paths, "anna", given())
    path = paths.review_journal("anna")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "answer", "at": "20')
    assert len(read_journal(path).answers) == 1
    assert list(paths.review.iterdir()) == [path]


def test_damage_before_the_last_line_is_refused_with_its_place(paths: StudyPaths) -> None:
    say(paths, "anna", given(), given())
    path = paths.review_journal("anna")
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"junk", *lines[2:]]))
    with pytest.raises(EventLogError, match="line 2: expected a record as JSON with the key 'kind'"):
        Journal(paths, "anna")
    assert b"junk" in path.read_bytes()


def test_a_second_server_of_one_reviewer_is_refused(paths: StudyPaths) -> None:
    with Journal(paths, "anna"):
        with pytest.raises(ConfigurationError, match="another server of reviewer 'anna' is at work"):
            Journal(paths, "anna")
        Journal(paths, "bert").close()
    Journal(paths, "anna").close()


def test_reviewers_have_files_of_their_own() -> None:
    names = ["anna", "Anna", "Dr. Anna", "Dr Anna", "Dr-Anna", "Änna", "山田", "a" * 41]
    files = [file_name_of(name) for name in names]
    assert len(set(files)) == len(names)
    assert all(file.isascii() and "/" not in file and "." not in file for file in files)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "../x", "=cmd", " anna", "anna ", "x" * 101])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a name"):
        file_name_of(name)


def test_a_file_that_is_another_reviewers_is_refused(paths: StudyPaths) -> None:
    say(paths, "anna", given())
    paths.review_journal("anna").rename(paths.review_journal("bert"))
    with pytest.raises(EventLogError, match="journal of 'anna', not of 'bert'"):
        Journal(paths, "bert")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "review").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"journal-anna.jsonl: cannot be written"):
        Journal(StudyPaths(tmp_path), "anna")


def test_an_answer_is_on_the_disk_before_it_counts(paths: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with Journal(paths, "anna") as journal:
        before = len(synced)
        journal.add_answer(given())
        assert len(synced) == before + 1


def test_a_disk_that_is_full_leaves_the_journal_as_it_was(paths: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def write_a_little(file: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return real(file, data[:-50])

    with Journal(paths, "anna") as journal:
        journal.add_answer(given())
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", write_a_little)
            with pytest.raises(OSError, match="No space"):
                journal.add_answer(given(answer="Normal"))
        assert len(journal.said.answers) == 1
        journal.add_answer(given(answer="unsure"))
    assert [each.answer for each in read_journal(paths.review_journal("anna")).answers] == ["Tumor", "unsure"]
