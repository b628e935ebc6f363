"""Labels that came later are merged over those that are there, feed everything at once, and can be taken back."""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock
from study_folders import ledger_row, sections, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.provenance import facts
from analysis.study_evidence.relabel import Relabelled, relabel, relabel_study, remove_corrections
from analysis.tables.selection import select_thresholds
from analysis.tables.table1 import write_table1
from analysis.tables.table4 import write_table4
from bccdist.configuration import SelectConfig
from bccdist.errors import ConfigurationError, LedgerError, ManifestError
from bccdist.files import write_text
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import read_selection
from bccdist.sections.ledger import write_rows
from bccdist.sections.section_rows import load_ledger
from bccdist.slides.manifest import read_manifest
from bccdist.study import keep_manifest

HEADER = "slide_id,section_id,label,labelled_by,labelled_at,prefilled\n"
BOXED = "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px\n"
NUM = 31
"""Sections of `paths`, all of them labelled: 18 of Validation and 13 of Test."""


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    test = sections(tp=5, fn=2, fp=1, tn=5, part="Test", slide_id="t")
    paths = write_study(tmp_path / "study", [*sections(tp=9, fn=0, fp=0, tn=9), *test])
    select_thresholds(paths.root, SelectConfig())
    return paths


@pytest.fixture
def boxed(tmp_path: Path) -> StudyPaths:
    """A study of two slides, s with sections a and b beside each other, t with c; a alone has a label."""
    rows = [
        ledger_row(slide_id=slide, section_id=name, x_level0_px=x, y_level0_px=50, part="Test", label=label)
        for slide, name, x, label in (("s", "a", 0, "Tumor"), ("s", "b", 200, None), ("t", "c", 0, None))
    ]
    return write_study(tmp_path / "study", rows)


def csv(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "sections.csv"
    path.write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def labels_of(paths: StudyPaths) -> dict[str, str | None]:
    rows = load_ledger(paths).to_pylist()
    return {row["section_id"]: row["label"] for row in rows}


def row_of(paths: StudyPaths, section_id: str) -> tuple[str, ...]:
    row = next(row for row in load_ledger(paths).to_pylist() if row["section_id"] == section_id)
    return tuple(row[name] for name in ("label", "labelled_by", "labelled_at", "prefilled"))


def counts(found: Relabelled) -> tuple[int, int, int, int]:
    return found.num_changed, found.num_added, found.num_removed, found.num_kept


def test_a_corrected_label_changes_table_4_at_once(paths: StudyPaths, tmp_path: Path) -> None:
    assert write_table4(Evidence(paths.root)).frame[["fn", "tn"]].to_numpy().tolist() == [[2, 5]]
    lines = ("t,Test-section-0005,Normal,dr,2026-01-02,Tumor", "t,Test-section-0000,Tumor,dr,2026-01-02,")
    assert counts(relabel(paths.root, csv(tmp_path, *lines))) == (1, 0, 0, NUM - 1)
    assert write_table4(Evidence(paths.root)).frame[["fn", "tn"]].to_numpy().tolist() == [[1, 6]]
    assert row_of(paths, "Test-section-0005") == ("Normal", "dr", "2026-01-02", "Tumor")


def test_a_corrected_label_changes_the_selection_at_once(paths: StudyPaths, tmp_path: Path) -> None:
    assert read_selection(paths)[["tp", "fn", "fp", "tn"]].to_numpy().tolist() == [[9, 0, 0, 9]]
    relabel(paths.root, csv(tmp_path, "Validation-II-0000,Validation-II-section-0000,Normal,dr,2026-01-02,"))
    select_thresholds(paths.root, SelectConfig())
    assert read_selection(paths)[["tp", "fn", "fp", "tn"]].to_numpy().tolist() == [[8, 0, 1, 9]]


def test_a_second_file_is_merged_over_the_first(paths: StudyPaths, tmp_path: Path) -> None:
    relabel(paths.root, csv(tmp_path, "t,Test-section-0005,Normal,anna,2026-01-02,Tumor"))
    assert counts(relabel(paths.root, csv(tmp_path, "t,Test-section-0006,Normal,ben,2026-02-03,"))) == (
        1,
        0,
        0,
        NUM - 1,
    )
    assert row_of(paths, "Test-section-0005") == ("Normal", "anna", "2026-01-02", "Tumor")
    assert row_of(paths, "Test-section-0006") == ("Normal", "ben", "2026-02-03", "")
    assert row_of(paths, "Test-section-0000") == ("Tumor", "reader", "2021-01-01", "")


def test_the_same_label_without_a_name_keeps_who_set_it_and_when(paths: StudyPaths, tmp_path: Path) -> None:
    relabel(paths.root, csv(tmp_path, "t,Test-section-0005,Normal,anna,2026-01-02,Tumor"))
    again = relabel(paths.root, csv(tmp_path, "t,Test-section-0005,Normal", header="slide_id,section_id,label\n"))
    assert (counts(again), again.has_changed) == ((0, 0, 0, NUM), False)
    assert row_of(paths, "Test-section-0005") == ("Normal", "anna", "2026-01-02", "Tumor")


def test_another_label_without_a_name_is_not_said_to_be_of_whoever_set_the_first(
    paths: StudyPaths, tmp_path: Path
) -> None:
    relabel(paths.root, csv(tmp_path, "t,Test-section-0005,Normal,anna,2026-01-02,Tumor"))
    relabel(paths.root, csv(tmp_path, "t,Test-section-0005,Tumor", header="slide_id,section_id,label\n"))
    assert row_of(paths, "Test-section-0005") == ("Tumor", "", "", "Tumor")


def test_empty_labels_take_none_away_unless_that_is_asked_for(paths: StudyPaths, tmp_path: Path) -> None:
    new = csv(tmp_path, "t,Test-section-0005,,,,", "t,Test-section-0000,Normal,,,", "t,Test-section-0001,,,,")
    asked = r"2 label\(s\) would be removed: t/Test-section-0005 \(Tumor\), t/Test-section-0001 .*--remove-labels"
    with pytest.raises(ConfigurationError, match=asked):
        relabel(paths.root, new)
    assert not paths.labels.exists()
    assert counts(relabel(paths.root, new, remove_labels=True)) == (1, 0, 2, NUM - 3)
    assert write_table4(Evidence(paths.root)).frame[["fn", "num_unlabelled"]].to_numpy().tolist() == [[1, 2]]


def test_an_empty_label_where_there_is_none_takes_nothing_away(boxed: StudyPaths, tmp_path: Path) -> None:
    found = relabel(boxed.root, csv(tmp_path, "s,b,,,,", "t,c,,,,"))
    assert (counts(found), found.has_changed) == ((0, 0, 0, 1), False)
    assert not boxed.labels.exists()


def test_what_was_done_is_one_line_and_what_is_to_be_run_another(tmp_path: Path) -> None:
    paths = write_study(tmp_path / "a study", sections(tp=2, fn=0, fp=0, tn=1, part="Test", slide_id="t"))
    said = relabel_study(paths.root, (csv(tmp_path, "t,Test-section-0000,Normal,,,", "x,y,Tumor,,,"),)).splitlines()
    assert said[0] == f"1 label(s) changed, 0 added, 0 removed, 2 kept ({paths.labels})"
    assert said[1] == "note: 1 of the file's sections left out, as the study has no slide x"
    quoted = f"'{paths.root}'"
    run = f"  python analysis/make.py selection {quoted} && python jobs/launch_tables.py --study {quoted}"
    assert said[-1] == run


def test_where_verdicts_are_certified_calibration_and_inference_are_to_be_run_too(tmp_path: Path) -> None:
    rows = sections(tp=2, fn=0, fp=0, tn=1, part="Test", slide_id="t")
    exact = write_study(tmp_path / "exact", rows)
    certificate = {"certificate_t_p": 0.5, "certificate_t_a_um2": 1280.0, "certificate_area_unit": "physical"}
    certified = write_study(
        tmp_path / "certified",
        [
            *rows[:1],
            *(row | certificate | {"reached_by": "certified", "certificate_confidence": 0.9} for row in rows[1:]),
        ],
    )
    labels = csv(tmp_path, "t,Test-section-0000,Normal,,,")
    assert "launch_calibrate" not in relabel_study(exact.root, (labels,))
    *_, calibrate, infer = relabel_study(certified.root, (labels,)).splitlines()
    assert calibrate == f"  python jobs/launch_calibrate.py --study {certified.root} --setting resnet34_ds"
    assert infer.endswith("--parts test --epochs chosen --inference certified --confidence 0.9")
    assert "launch_calibrate" in relabel_study(certified.root, remove=True)


def test_two_files_at_once_lose_no_label(paths: StudyPaths, tmp_path: Path) -> None:
    """The first stops in the middle, after it has read what was there."""
    halfway, go_on = threading.Event(), threading.Event()

    def write_slowly(path: Path, text: str) -> None:
        if not halfway.is_set():
            halfway.set()
            go_on.wait(60)
        write_text(path, text)

    names = ["Test-section-0000", "Test-section-0001"]
    for name in names:
        (tmp_path / name).mkdir()
    files = [csv(tmp_path / name, f"t,{name},Normal,,,") for name in names]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr("analysis.study_evidence.relabel.write_text", write_slowly)
        first = pool.submit(relabel, paths.root, files[0])
        assert halfway.wait(60)
        second = pool.submit(relabel, paths.root, files[1])
        time.sleep(0.3)
        assert not second.done()
        go_on.set()
        first.result()
        second.result()
    assert [labels_of(paths)[name] for name in names] == ["Normal", "Normal"]


def test_who_waits_too_long_for_the_lock_of_the_labels_is_told(
    paths: StudyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.study_evidence.labels_lock._PATIENCE_S", 0.1)
    relabel(paths.root, csv(tmp_path, "t,Test-section-0000,Normal,,,"))
    before = paths.labels.read_text()
    with FileLock(paths.labels_lock), ThreadPoolExecutor(1) as pool:
        with pytest.raises(ConfigurationError, match=r"labels.csv: another process has been changing the labels"):
            pool.submit(relabel, paths.root, csv(tmp_path, "t,Test-section-0001,Normal,,,")).result()
        with pytest.raises(ConfigurationError, match=r"labels.csv: another process has been changing the labels"):
            pool.submit(remove_corrections, paths.root).result()
    assert paths.labels.read_text() == before


def test_columns_that_may_be_misspelt_are_named(boxed: StudyPaths, tmp_path: Path) -> None:
    header = "slide_id,section_id,label,labelled by,x,colour\n"
    said = relabel_study(boxed.root, (csv(tmp_path, "s,b,Normal,anna,200,red", header=header),))
    assert "note: column 'labelled by' is not known and was not used; did you mean labelled_by?" in said
    assert "note: column 'x' is not known and was not used; did you mean x_level0_px?" in said
    assert "colour" not in said


def test_the_labels_of_before_come_back_and_the_corrections_are_set_aside(paths: StudyPaths, tmp_path: Path) -> None:
    relabel_study(paths.root, (csv(tmp_path, "t,Test-section-0005,Normal,,,"),))
    kept = paths.labels.read_bytes()
    said = relabel_study(paths.root, remove=True)
    assert said.startswith(f"1 label(s) changed, 0 added, 0 removed, {NUM - 1} kept: they are the manifest's again")
    (aside,) = paths.root.glob("labels-until-*.csv")
    assert (aside.read_bytes(), paths.labels.exists()) == (kept, False)
    assert write_table4(Evidence(paths.root)).frame[["fn", "tn"]].to_numpy().tolist() == [[2, 5]]
    assert "there are no corrections" in relabel_study(paths.root, remove=True)


def test_ids_that_are_mixed_up_are_refused_by_the_boxes_and_named(boxed: StudyPaths, tmp_path: Path) -> None:
    new = csv(tmp_path, "s,b,Tumor,0,50,100,100", "s,a,Normal,200,50,100,100", header=BOXED)
    with pytest.raises(
        LedgerError, match=r"2 fault(.|\n)*'b' has the place of section 'a'(.|\n)*'a' has the place .*'b'"
    ):
        relabel(boxed.root, new)
    assert labels_of(boxed) == {"a": "Tumor", "b": None, "c": None}


def test_ids_of_ones_own_are_taken_where_the_boxes_are_the_studys(boxed: StudyPaths, tmp_path: Path) -> None:
    new = csv(tmp_path, "s,upper,Normal,3,48,99,104", "s,lower,Tumor,196,40,300,300", header=BOXED)
    assert counts(relabel(boxed.root, new)) == (1, 1, 0, 0)
    assert labels_of(boxed) == {"a": "Normal", "b": "Tumor", "c": None}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("s,mine,Tumor,0,400,100,100", r"s: no section lies where 'mine' is, at \(0, 400, 100 x 100 px\)"),
        ("s,a,Tumor,0,400,100,100", r"s: section_id 'a' lies at \(0, 400, .* and at \(0, 50, 100 x 100 px\) here"),
        ("s,mine,Tumor,,,,", r"s: section_id 'mine' is none of its 2 section\(s\) \(a, b\)"),
        ("s,all,Tumor,0,0,400,400", r"s: 'all', at \(0, 0, 400 x 400 px\), lies over several sections: a, b"),
        ("s,mine,Tumor,0,50,100,100\ns,yours,Normal,1,50,100,100", r"s: 'mine', 'yours' all lie where section 'a' is"),
    ],
)
def test_a_row_that_fits_no_section_is_refused_with_all_others(
    boxed: StudyPaths, tmp_path: Path, line: str, reason: str
) -> None:
    new = csv(tmp_path, "t,c,Normal,0,50,100,100", line, header=BOXED)
    with pytest.raises(
        LedgerError, match=f"nothing was changed:\n  - {reason}(.|\n)*launch_study.py --manifest slides"
    ):
        relabel(boxed.root, new)
    assert not boxed.labels.exists()


def test_a_file_of_other_slides_is_refused_and_nothing_changes(paths: StudyPaths, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"none of its 1 sections is on a slide of .*nowhere/s0"):
        relabel(paths.root, csv(tmp_path, "nowhere,s0,Normal,,,"))
    assert not paths.labels.exists()


def test_a_file_with_faults_is_refused(paths: StudyPaths, tmp_path: Path) -> None:
    new = csv(tmp_path, "t,Test-section-0005,Benign,,,", "t,Test-section-0005,Tumor,,,")
    with pytest.raises(ManifestError, match=r"2 fault\(s\)(.|\n)*Benign(.|\n)*more than once"):
        relabel(paths.root, new)


def test_a_file_that_is_not_there_is_named_for_what_it_should_be(paths: StudyPaths, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"nope\.csv is not there; give the path of a sections\.csv"):
        relabel(paths.root, tmp_path / "nope.csv")


def test_a_file_or_remove_is_wanted_and_not_both(paths: StudyPaths) -> None:
    with pytest.raises(ConfigurationError, match="either"):
        relabel_study(paths.root)


def claimed(paths: StudyPaths, folder: Path, *lines: str, slides: Iterable[str] = ("s", "t")) -> Path:
    """Make the study one of a manifest with these sections; returns its sections.csv."""
    folder.mkdir(exist_ok=True)
    text = "slide_id,part,path\n" + "".join(f"{name},test,{name}.tif\n" for name in slides)
    (folder / "slides.csv").write_text(text, encoding="utf-8")
    path = csv(folder, *lines)
    keep_manifest(paths.root, read_manifest(folder / "slides.csv", files_must_exist=False))
    return path


def table1_of(paths: StudyPaths) -> list[int]:
    frame = write_table1(Evidence(paths.root)).frame.set_index("part")
    return frame.loc[Part.TEST.value, ["num_tumor", "num_normal", "num_unlabelled"]].tolist()


def test_table_1_and_the_ledger_have_one_source_of_labels(boxed: StudyPaths, tmp_path: Path) -> None:
    named = claimed(boxed, tmp_path / "data", "s,a,Tumor,anna,,", "s,b,,,,")
    assert (labels_of(boxed), table1_of(boxed)) == ({"a": "Tumor", "b": None, "c": None}, [1, 0, 2])
    # The manifest is corrected after the inference, then a correction comes over it.
    named.write_text(HEADER + "s,a,Normal,ben,,\ns,b,Normal,ben,,\n", encoding="utf-8")
    assert (labels_of(boxed), table1_of(boxed)) == ({"a": "Normal", "b": "Normal", "c": None}, [0, 2, 1])
    assert counts(relabel(boxed.root, csv(tmp_path, "s,b,Tumor,cleo,,", "t,c,Tumor,cleo,,"))) == (1, 1, 0, 1)
    assert (labels_of(boxed), table1_of(boxed)) == ({"a": "Normal", "b": "Tumor", "c": "Tumor"}, [2, 1, 0])
    assert [row_of(boxed, name)[1] for name in "abc"] == ["ben", "cleo", "cleo"]


def test_a_manifest_whose_boxes_moved_since_the_inference_labels_nothing_wrongly(
    boxed: StudyPaths, tmp_path: Path
) -> None:
    claimed(boxed, tmp_path / "data", "s,a,Tumor,,,", "s,b,,,,")
    lines = ("s,a,Normal,200,50,100,100", "s,b,Normal,0,50,100,100")
    csv(tmp_path / "data", *lines, header=BOXED)
    assert labels_of(boxed) == {"a": "Tumor", "b": None, "c": None}


def test_provenance_says_who_labelled_when_and_what_was_corrected(boxed: StudyPaths, tmp_path: Path) -> None:
    claimed(boxed, tmp_path / "data", "s,a,Tumor,anna,2026-01-02,Tumor", "s,b,Normal,,,")

    def said() -> dict[str, str]:
        return dict(facts(Evidence(boxed.root)).to_numpy().tolist())

    assert said()["labels"] == "the manifest's"
    relabel(boxed.root, csv(tmp_path, "s,b,Tumor,anna,2026-03-04,", "t,c,Tumor,ben,2026-02-03,"))
    assert said()["labels"] == "the manifest's, then 2 correction(s) in labels.csv"
    expected = "anna (2), ben (1); from 2026-01-02 to 2026-03-04; 1 of them pre-filled by a model"
    assert said()["labelled by"] == expected


def test_corrections_whose_section_is_gone_are_named(boxed: StudyPaths, tmp_path: Path) -> None:
    claimed(boxed, tmp_path / "data", "s,a,Tumor,,,", "s,b,Normal,,,", slides=("s", "t", "late"))
    relabel(boxed.root, csv(tmp_path, "s,b,Tumor,,,", "late,x,Tumor,,,"))
    assert Evidence(boxed.root).lost_corrections == []
    # The sections of the slide were found anew, under other ids.
    write_rows(boxed.ledger_rows("resnet34_ds", 1, "s"), [ledger_row(slide_id="s", section_id="a", part="Test")])
    assert [each.section_id for each in Evidence(boxed.root).lost_corrections] == ["b"]


def test_labels_of_slides_that_were_not_inferred_are_kept_and_told(boxed: StudyPaths, tmp_path: Path) -> None:
    claimed(boxed, tmp_path / "data", "s,a,Tumor,,,", "s,b,,,,", "late,x,,,,", slides=("s", "t", "late", "later"))
    found = relabel(boxed.root, csv(tmp_path, "late,x,Normal,,,", "later,y,Tumor,,,"))
    assert (counts(found), found.num_not_inferred) == ((0, 2, 0, 1), 2)
    with pytest.raises(LedgerError, match=r"late: section_id 'z' is none of its 1 section\(s\) \(x\)"):
        relabel(boxed.root, csv(tmp_path, "late,z,Normal,,,"))


def test_labels_edited_in_the_studys_copy_count_once_the_advice_is_followed(boxed: StudyPaths, tmp_path: Path) -> None:
    claimed(boxed, tmp_path / "data", "s,a,Tumor,anna,,", "s,b,Normal,,,")
    copy = boxed.kept_manifest.with_name("sections.csv")
    copy.write_text(copy.read_text(encoding="utf-8").replace("s,b,Normal", "s,b,Tumor"), encoding="utf-8")
    for reads in (lambda: labels_of(boxed), lambda: relabel(boxed.root, copy), lambda: table1_of(boxed)):
        with pytest.raises(ConfigurationError, match=r"sections\.csv was edited"):
            reads()
    copy.parent.rename(boxed.root / "manifest-edited")
    assert counts(relabel(boxed.root, boxed.root / "manifest-edited" / "sections.csv")) == (1, 0, 0, 1)
    assert labels_of(boxed) == {"a": "Tumor", "b": "Tumor", "c": None}


def test_what_is_said_once_more_is_no_change(boxed: StudyPaths, tmp_path: Path) -> None:
    """Neither with columns that say nothing of a label, nor in another order, nor by readers who say the same."""
    header = HEADER.replace("\n", ",patient_id,stain,label_origin,conflict\n")
    lines = ["s,a,Tumor,anna,2026-01-02,Tumor,p1,HE,,", "s,b,Normal,ben,2026-01-03,,p1,HE,,"]
    claimed(boxed, tmp_path / "data", *(line.removesuffix(",p1,HE,,") for line in lines))
    of_review = [line.removesuffix(",,") + ",one reader," for line in lines]
    for same in (lines, lines[::-1], of_review):
        found = relabel(boxed.root, csv(tmp_path, *same, header=header))
        assert (counts(found), found.has_changed) == ((0, 0, 0, 2), False)
        assert not boxed.labels.exists()
    new = "t,c,Tumor,cleo,2026-01-04,,p2,HE,one reader,"
    assert relabel(boxed.root, csv(tmp_path, *lines, new, header=header)).has_changed
    before = boxed.labels.read_bytes()
    for same in ((*lines, new), (new, *lines)):
        assert not relabel(boxed.root, csv(tmp_path, *same, header=header)).has_changed
        assert boxed.labels.read_bytes() == before
