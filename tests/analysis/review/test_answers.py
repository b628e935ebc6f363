"""The journal: nothing that was acknowledged is lost, whatever happens afterwards."""

import os
from pathlib import Path

import pytest
from review_study import drawn_square, given, say

from analysis.review.answers import (
    Answer,
    GivenRegions,
    OutlineChange,
    Withdrawal,
    file_name_of,
    read_journal,
    read_journals,
)
from analysis.review.journal import Journal
from bccdist.errors import ConfigurationError, EventLogError
from bccdist.paths import StudyPaths


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path)


def test_what_is_said_stands_there_after_a_restart(paths: StudyPaths) -> None:
    regions = GivenRegions(at="2026", slide_id="test-0", features=(drawn_square(1, 2, 3),))
    answer = given(comment='ünïcode "quoted"\nline', viewed={"psi": "psi_4", "t_p": 0.5})
    second = given(answer="unsure")
    say(paths, "anna", answer, second, regions=regions)
    with Journal(paths, "anna") as journal:
        assert journal.note == ""
        assert journal.said.answers == [answer, second]
        (found,) = journal.said.latest_regions.values()
        assert (found.at, found.features[0]["geometry"]) == ("2026", drawn_square(1, 2, 3)["geometry"])


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
        journal.add(given(answer="unsure"))
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
        journal.add(given())
        assert len(synced) == before + 1


def test_a_disk_that_is_full_leaves_the_journal_as_it_was(paths: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def write_a_little(file: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return real(file, data[:-50])

    with Journal(paths, "anna") as journal:
        journal.add(given())
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", write_a_little)
            with pytest.raises(OSError, match="No space"):
                journal.add(given(answer="Normal"))
        assert len(journal.said.answers) == 1
        journal.add(given(answer="unsure"))
    assert [each.answer for each in read_journal(paths.review_journal("anna")).answers] == ["Tumor", "unsure"]


OLD = (
    '{"kind": "reviewer", "at": "2025", "reviewer": "anna"}',
    (
        '{"kind": "answer", "at": "2025", "slide_id": "s", "section_id": "1", "answer": "Tumor", "comment": "", '
        '"seconds": 1.0, "is_blind": false, "was_shown": true, "prefilled": "", "prediction": "", '
        '"label_before": null, '
        '"setting": "unet", "epoch": 2, "weights_digest": "0"}'
    ),
    '{"kind": "regions", "at": "2025", "slide_id": "s", "features": [{"properties": {"kind": "Stroma"}}]}',
    '{"kind": "regions", "at": "2026", "slide_id": "s", "features": [{"properties": {"kind": "Normal"}}]}',
)
"""Lines of the first version."""


def journal_of(paths: StudyPaths, *lines: str) -> Path:
    paths.review.mkdir()
    paths.review_journal("anna").write_text("".join(f"{line}\n" for line in lines))
    return paths.review_journal("anna")


def test_a_journal_of_the_first_version_goes_on(paths: StudyPaths) -> None:
    journal_of(paths, *OLD)
    with Journal(paths, "anna") as journal:
        (drawn,) = journal.said.latest_regions["s"].features
        assert drawn["properties"] == {"kind": "Normal"}
        journal.add(OutlineChange(at="2027", slide_id="s", removed=(drawn["id"],)))
        journal.add(Withdrawal(at="2027", withdrawn=(journal.said.answers[0].entry,)))
    said = read_journal(paths.review_journal("anna"))
    assert (said.latest, said.latest_regions["s"].features) == ({}, ())


@pytest.mark.parametrize("field", ['"certainty": 0.9', '"more": {"a": [1]}', '"\\u00e4": null'])
def test_a_field_that_is_not_known_is_kept_and_exported(paths: StudyPaths, field: str) -> None:
    path = journal_of(paths, OLD[0], OLD[1].replace('"kind"', f'"version": 9, {field}, "kind"'))
    (answer,) = read_journal(path).answers
    name = next(iter(answer.more))
    assert (answer.answer, f'"{name}"') == ("Tumor", field.split(":", maxsplit=1)[0].encode().decode("unicode_escape"))


def test_a_line_of_a_later_version_is_counted_and_one_of_this_version_is_damage(paths: StudyPaths) -> None:
    path = journal_of(paths, *OLD, '{"kind": "voice", "version": 3, "at": "2027"}')
    said = read_journal(path)
    assert (said.num_unknown, len(said.answers)) == (1, 1)
    path.write_text(path.read_text().replace('"version": 3, ', ""))
    with pytest.raises(EventLogError, match="line 5: not a line of a journal"):
        read_journal(path)


def test_what_was_taken_back_does_not_count_unless_that_was_taken_back_too(paths: StudyPaths) -> None:
    tumor, normal = given(answer="Tumor"), given(answer="Normal")
    withdrawal = Withdrawal(at="2026", withdrawn=(tumor.entry, normal.entry))
    with Journal(paths, "anna") as journal:
        journal.add(tumor)
        journal.add(normal)
        journal.add(withdrawal)
        assert journal.said.latest == journal.said.first == {}
        journal.add(Withdrawal(at="2026", withdrawn=(withdrawal.entry,), is_undo=True))
        assert journal.said.latest == {normal.key: normal}
    (said,) = read_journals(paths)
    assert (said.latest, said.first) == ({normal.key: normal}, {tumor.key: tumor})


def test_a_journal_that_was_begun_for_nothing_is_gone_and_one_that_was_there_stays(paths: StudyPaths) -> None:
    for _ in range(2):
        with (
            pytest.raises(ConfigurationError, match="the plan is another"),
            Journal(paths, "anna") as journal,
            journal.kept_if_all_goes_well(),
        ):
            raise ConfigurationError("the plan is another")
        assert not paths.review.exists()
    say(paths, "anna")
    with pytest.raises(KeyboardInterrupt), Journal(paths, "anna") as journal, journal.kept_if_all_goes_well():
        raise KeyboardInterrupt
    assert read_journals(paths)[0].reviewer == "anna"
