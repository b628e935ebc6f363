"""A pack is checked by whoever has it alone, its numbers follow from raw rows, and whatever is changed has a name."""

import ast
import html
import json
import math
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cohort import write_cohort, write_model_file, write_slides
from evidence_study import PATIENT, write_evidence_study
from model_study import SETTING
from study_folders import sections, write_study

import analysis.evidence_pack
from analysis.evidence_pack.check.digests import check_files
from analysis.evidence_pack.check.findings import Findings
from analysis.evidence_pack.check.label_tables import agreement
from analysis.evidence_pack.check.margin_tables import check_margins
from analysis.evidence_pack.check.raw_rows import Pack
from analysis.evidence_pack.check.verify import told, verify
from analysis.evidence_pack.making import write_evidence
from analysis.page.report import write_report
from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import ConfigurationError, NothingToShowError, StageFailedError
from bccdist.events import append_event
from bccdist.failures import write_failure
from bccdist.files import write_json
from bccdist.paths import StudyPaths

ROOM = Path(analysis.evidence_pack.__file__).parent
WEIGHTS = "runs/unet/checkpoints/epoch-001.safetensors"
COMPUTED = {
    *("table1", "table3", "table4", "table5", "intervals", "units", "predictive_values", "subgroups", "comparisons"),
    *("roc", "roc_curves", "reliability", "section_verdicts", "verdict_counts", "flow", "slides", "reached"),
    *("selection", "grid", "reliability_bins", "decision_curve", "flip_shifts", "nearest_verdicts"),
    *("triage", "stability", "error_groups", "roc_bands", "reference_standard", "sensitivity_analysis", "sample_size"),
    *("learning_curves", "margin_bounds", "checklists"),
}
LABELS = ((0, "Tumor"), (1, "Normal"))
Tamper = Callable[[Path], None]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    return write_evidence_study(tmp_path_factory.mktemp("evidence"))


@pytest.fixture(scope="module")
def made(study: StudyPaths) -> Path:
    return write_evidence(Evidence(study.root), study.root.parent / "pack", with_weights=True)


@pytest.fixture(scope="module")
def made_of_readings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack of a study with several readers, a review and a goal, and with tables of margins."""
    root = tmp_path_factory.mktemp("readings")
    return write_evidence(Evidence(write_evidence_study(root, is_read=True).root), root / "pack")


@pytest.fixture(scope="module")
def found(made: Path) -> Findings:
    return verify(made)


@pytest.fixture
def pack_of_readings(made_of_readings: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_of_readings, tmp_path / "pack"))


@pytest.fixture
def pack(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "pack"))


def edit(name: str, old: str, new: str) -> Tamper:
    """Replaces the first place of a text in a file."""

    def tamper(pack: Path) -> None:
        content = (pack / name).read_bytes()
        assert old.encode() in content
        (pack / name).write_bytes(content.replace(old.encode(), new.encode(), 1))

    return tamper


def with_ledger(change: Callable[[pa.Table], pa.Table]) -> Tamper:
    """Writes the ledger anew, changed."""
    return lambda pack: pq.write_table(change(pq.read_table(pack / "ledger.parquet")), pack / "ledger.parquet")


def flip_label(table: pa.Table) -> pa.Table:
    """The label of the first row of Test that decides is the other one."""
    rows = table.to_pylist()
    row = next(row for row in rows if row["part"] == "Test" and row["is_final"] and row["label"])
    row["label"] = {"Tumor": "Normal", "Normal": "Tumor"}[row["label"]]
    return pa.Table.from_pylist(rows, table.schema)


def with_log(change: Callable[[list[bytes]], list[bytes]]) -> Tamper:
    """Writes the lines of the job log anew, changed."""

    def tamper(pack: Path) -> None:
        lines = (pack / "jobs.jsonl").read_bytes().splitlines(keepends=True)
        (pack / "jobs.jsonl").write_bytes(b"".join(change(lines)))

    return tamper


def number_on_page(pack: Path) -> None:
    """Table 4's accuracy of unet is another one."""
    page = (pack / "report.html").read_text(encoding="utf-8")
    start = page.index("<td", page.index('data-table="table4"'))
    place = re.compile(r">0\.\d{3}<").search(page, start)
    assert place
    (pack / "report.html").write_text(page[: place.start()] + ">0.999<" + page[place.end() :], encoding="utf-8")


def number_in(sentence: str, now: str) -> Tamper:
    """Another number in a sentence of the page: what the pattern's group found."""

    def tamper(pack: Path) -> None:
        page = (pack / "report.html").read_text(encoding="utf-8")
        place = re.search(sentence, page)
        assert place
        changed = page[: place.start(1)] + now + page[place.end(1) :]
        (pack / "report.html").write_text(changed, encoding="utf-8")

    return tamper


TAMPERS: dict[str, tuple[Tamper, str]] = {
    "a byte of the weights": (edit(WEIGHTS, "unet", "unEt"), rf"{WEIGHTS}: its bytes changed: sha256"),
    "a row of the ledger": (
        with_ledger(flip_label),
        r"ledger.parquet: the row slide_id \S+, section_id \S+, setting \w+, epoch 1, psi psi_4 was changed",
    ),
    "a number that follows from the row": (
        with_ledger(flip_label),
        r"tables/table4.parquet: row \w+, column \w+: got \d+, expected \d+ by the ledger",
    ),
    "a row taken out": (
        with_ledger(lambda table: table.slice(1)),
        "ledger.parquet: the row slide_id .*, psi psi_. is gone",
    ),
    "a row twice": (
        with_ledger(lambda table: pa.concat_tables([table, table.slice(0, 1).replace_schema_metadata(None)])),
        "ledger.parquet: its bytes changed",
    ),
    "a byte of the ledger's file": (edit("ledger.parquet", "PAR1", "PAR2"), "ledger.parquet: its bytes changed"),
    "a line of the job log": (edit("jobs.jsonl", '"job_id": "6"', '"job_id": "9"'), "jobs.jsonl: line 3 was changed"),
    "lines of the job log swapped": (
        with_log(lambda lines: [lines[0], lines[2], lines[1], *lines[3:]]),
        "jobs.jsonl: line 2 now stands at line 3|jobs.jsonl: line 3 now stands at line 2",
    ),
    "the job log cut off": (with_log(lambda lines: lines[:-2]), "jobs.jsonl: the lines from 7 to 8 were cut off"),
    "a line of the job log gone": (with_log(lambda lines: lines[:2] + lines[3:]), "jobs.jsonl: line 3 is gone"),
    "a line added to the job log": (with_log(lambda lines: [*lines, lines[0]]), "jobs.jsonl: its bytes changed"),
    "a number on the page": (
        number_on_page,
        r"report.html: Test / Table 4\..* / row unet / column accuracy: got '0.999', expected '0\.\d{3}'",
    ),
    "a number on the page against the ledger": (
        number_on_page,
        r"report.html: .* / row unet / column accuracy: got '0.999', expected 0\.\d+ by the ledger",
    ),
    "a number in a sentence of the headline": (
        number_in(r"sections of Test have a label: (\d+) TP", "99"),
        r"report.html: Overview: in '.*have a label: 99 TP, .*': got 99, expected \d+ by the ledger",
    ),
    "a threshold in words": (
        number_in(r"sees a connected region of at least ([\d,]+) um2", "7"),
        r"report.html: Overview: in '.*': got 7, expected \d+ by the ledger",
    ),
    "a share below a large number": (
        number_in(r">(\d+)% of the sections<", "98"),
        r"report.html: Overview: in '\d+ called Tumor 98% of the sections': got 98%, expected 0\.\d+ by the ledger",
    ),
    "a number in a note": (
        number_in(r"of all verdicts (\d+) by less than", "77"),
        r"report.html: Test / Table 4\..*: in 'Nearest to changing, .*': got 77, expected \d+ by the ledger",
    ),
    "a number of the method in a note": (
        number_in(r"<p[^>]*>(10,000) resamples", "90,000"),
        "report.html: Test / .*: in '90,000 resamples.*': got 90,000, expected 10000 by the ledger",
    ),
    "a number in a title": (
        number_in(r"with (95)% intervals", "99"),
        "report.html: .*: in '.*with 99% intervals.*': got 99%, expected 0.95 by the ledger",
    ),
    "a word on the page": (
        edit("report.html", "For research alone", "For diagnosis"),
        "report.html: top of the page: got '.*For diagnosis.*', expected '.*For research alone",
    ),
    "a value of a table": (
        lambda pack: pq.write_table(
            pq.read_table(pack / "tables" / "units.parquet").set_column(2, "tp", pa.array([99] * 6)),
            pack / "tables" / "units.parquet",
        ),
        r"tables/units.parquet: row unet, section, column tp: got 99, expected \d+ by the ledger",
    ),
    "a label": (edit("labels.csv", "Tumor", "Normal"), "tables/table1.parquet: row .*, column num_tumor: got"),
    "a file removed": (
        lambda pack: (pack / "sbom.cdx.json").unlink(),
        "sbom.cdx.json: is gone; digests.json names it",
    ),
    "a file added": (
        lambda pack: (pack / "tables" / "more.txt").write_text("x"),
        "tables/more.txt: was added; digests.json does not name it",
    ),
    "the checker": (edit("verify.pyz", "def verify", "def verifY"), "verify.pyz: its bytes changed"),
    "the ledger removed": (lambda pack: (pack / "ledger.parquet").unlink(), "ledger.parquet: is gone"),
    "the manifest removed": (lambda pack: (pack / "digests.json").unlink(), "holds no digests.json"),
    "the manifest damaged": (lambda pack: (pack / "digests.json").write_text("{"), "digests.json: cannot be read"),
}


def run_checker(pack: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The pack's own program, where nothing of this repository is found."""
    code = (
        "import sys, runpy; sys.modules['bccdist'] = None; sys.argv = sys.argv[1:]; "
        "sys.path.insert(0, sys.argv[0]); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = ("-c", code, str(pack / "verify.pyz"), *words)
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, cwd=cwd, timeout=300)


def test_what_was_made_is_checked_without_study_and_without_bccdist(made: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(made, tmp_path / "given away"))
    finished = run_checker(elsewhere, cwd=tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "no fault found" in finished.stdout
    assert "verify.pyz" in (made / "README.md").read_text(encoding="utf-8")


def test_every_table_is_computed_anew_or_named(made: Path, found: Findings) -> None:
    assert not found.faults
    computed = {each.partition(":")[0] for each in found.done}
    assert computed >= COMPUTED
    there = {path.stem for path in (made / "tables").glob("*.parquet")}
    named = {each.partition(" ")[0] for each in found.left.get("tables", [])}
    assert there <= computed | named


REASONED = ("tables", "columns of tables", "texts of the page", "selection", "not in the pack")


def test_whatever_is_not_computed_is_named_with_the_reason(found: Findings, pack: Path) -> None:
    other = pa.table({"setting": ["unet"], "accuracy": [1.0]})
    pq.write_table(other, pack / "tables" / "beside_paper.parquet")
    pq.write_table(other, pack / "tables" / "flip_shifts_val2.parquet")
    table = pq.read_table(pack / "tables" / "table5.parquet")
    pq.write_table(table.append_column("more", pa.array([1.0] * len(table))), pack / "tables" / "table5.parquet")
    edit("report.html", "</main>", "<h2>Else</h2><h3>Twelve.</h3><p>7</p><table><tr><td>12</td></tr></table></main>")(
        pack
    )
    for checked in (found, verify(pack)):
        left = [each for what in REASONED for each in checked.left.get(what, [])]
        assert left
        assert all(": " in each for each in left), left
    assert "Else / Twelve. (1: column 1): no rule of this check knows it" in left
    assert "table5.more: this check does not know it" in left
    assert any(each.startswith("flip_shifts_val2 (1 numbers): made for another part") for each in left)


def test_every_number_of_the_page_is_computed_anew_or_its_place_is_named(found: Findings) -> None:
    (num,) = [int(each.split()[0]) for each in found.done if each.endswith("numbers of the page by the ledger")]
    assert num > 300
    left = found.left["texts of the page"]
    assert any(each.startswith("Provenance / The study.") for each in left)
    assert not [each for each in left if re.search(r"Table 4\..*: (accuracy|sensitivity|TP)", each)]


UNBOUND = "numbers in sentences that no value is known of"


def test_every_number_in_a_sentence_has_a_value_or_is_named(found: Findings, pack: Path) -> None:
    assert found.left.get(UNBOUND, []) == []
    edit("report.html", "</main>", "<p>It was right in 12 of 14 of them.</p></main>")(pack)
    assert [each.partition(" in ")[2] for each in verify(pack).left[UNBOUND]] == [
        "'It was right in 12 of 14 of them.'"
    ]


@pytest.mark.parametrize("kind", TAMPERS)
def test_what_was_changed_is_named(kind: str, pack: Path) -> None:
    tamper, expected = TAMPERS[kind]
    tamper(pack)
    found = verify(pack)
    assert any(re.search(expected, fault) for fault in found.faults), found.faults
    assert "fault(s)" in told(pack, found)


def test_one_cell_of_tables_of_risk_is_named_by_its_row(pack: Path) -> None:
    cells = {"triage": "num_review", "stability": "t_p_high", "error_groups": "tp", "roc_bands": "low"}
    for name, column in cells.items():
        path = pack / "tables" / f"{name}.parquet"
        table = pq.read_table(path)
        values = table[column].to_pylist()
        values[-1] += 1
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, table.schema.field(column), pa.array(values)), path)
    faults = "\n".join(verify(pack).faults)
    for name, column in cells.items():
        assert re.search(
            rf"tables/{name}.parquet: row \w+.*, column {column}: got .*, expected .* by the ledger", faults
        )


def change_cell(pack: Path, name: str, column: str, change: Callable[[Any], Any] = lambda value: value + 1) -> None:
    """Writes a table of the pack anew with another value in the last row that has one."""
    path = pack / "tables" / f"{name}.parquet"
    table = pq.read_table(path)
    values = table[column].to_pylist()
    at = max(
        at
        for at, value in enumerate(values)
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    )
    values[at] = change(values[at])
    place = table.column_names.index(column)
    field = table.schema.field(column)
    pq.write_table(table.set_column(place, field, pa.array(values, field.type)), path)


OF_READINGS = {
    "sensitivity_analysis": "accuracy_low",
    "agreement": "kappa",
    "reference_standard": "num_blind",
    "sample_size": "num_needed",
    "learning_curves": "unet",
    "margin_bounds": "ledger_margin_um",
    "decision_curve": "by_score_gain_high",
    "reliability": "slope_low",
    "verdict_counts": "num_patients",
    "quality": "limit_low",
}
"""A column of each table that rests on readers, metrics, goals or bands."""


def test_what_rests_on_readers_metrics_goals_and_bands_follows_from_what_is_in_the_pack(
    made_of_readings: Path,
) -> None:
    found = verify(made_of_readings)
    assert not found.faults
    assert {each.partition(":")[0] for each in found.done} >= OF_READINGS.keys() | {"checklists"}
    assert found.left.get(UNBOUND, []) == []
    assert "numbers in answers of the checklists that the pack holds no value of" not in found.left


@pytest.fixture(scope="module")
def faults(made_of_readings: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the check says once cells of tables, numbers of the page, and numbers in its sentences were changed."""
    pack = Path(shutil.copytree(made_of_readings, tmp_path_factory.mktemp("changed") / "pack"))
    for name, column in OF_READINGS.items():
        change_cell(pack, name, column)
    change_cell(pack, "checklists", "answer", lambda text: text.replace("(0 ", "(9 "))
    change_page(pack)
    for sentence, now in SENTENCES.values():
        number_in(sentence, now)(pack)
    return verify(pack).faults


def test_one_cell_of_each_of_these_tables_is_named_by_its_row(faults: list[str]) -> None:
    told = "\n".join(faults)
    for name, column in OF_READINGS.items():
        assert re.search(rf"tables/{name}\.parquet: row .*, column {column}: got .*, expected .* by the ledger", told)
    assert re.search(
        r"tables/checklists.parquet: row What happens .*, column answer: in '.*': got 9, expected 0", told
    )


SHOWN_CELLS = {
    "sensitivity_analysis": "accuracy",
    "agreement": "kappa",
    "reference_standard": "Tumor",
    "sample_size": "as many as",
    "margin_bounds": "margin, not below um",
    "decision_curve": "by the score",
    "reliability": "slope",
    "nearest_verdicts": "flip shift",
    "quality": "beyond",
    "checklists": "answer",
    "units": "number",
}
"""A column of the page's tables that rest on them."""


def change_page(pack: Path) -> None:
    """Another number in the first cell that has one, of a column of each of these tables."""
    page = (pack / "report.html").read_text(encoding="utf-8")
    for name, heading in SHOWN_CELLS.items():
        start = page.index(f'data-table="{name}"')
        headings = re.findall(r"<th[^>]*>(.*?)</th>", page[start : page.index("</tr>", start)], re.DOTALL)
        (at,) = [at for at, each in enumerate(headings) if html.unescape(each).strip() == heading]
        for row in re.finditer(r"<tr>(.*?)</tr>", page[start:], re.DOTALL):
            cells = [*re.finditer(r"<td[^>]*>(.*?)</td>", row[1], re.DOTALL)]
            if cells and re.search(r"\d", cells[at][1]):
                break
        place = start + row.start(1) + cells[at].start(1)
        page = (
            page[:place] + re.sub(r"\d+(\.\d+)?", "77777", cells[at][1], count=1) + page[place + len(cells[at][1]) :]
        )
    (pack / "report.html").write_text(page, encoding="utf-8")


def test_one_number_of_each_of_these_tables_on_the_page_is_named(faults: list[str]) -> None:
    for heading in SHOWN_CELLS.values():
        expected = rf"/ column {re.escape(heading)}: got '.*77777.*', expected .* by the ledger"
        assert any(re.search(expected, each) for each in faults), heading


SENTENCES = {
    "a goal": (r"an interval no wider than ([\d.]+)", "0.9"),
    "a goal of before": (r"before this goal there was sensitivity ([\d.]+)", "0.5"),
    "what led readers": (r"what the model said: (\d+) of", "91"),
    "sections beyond a limit": (r"Beyond a limit by \w+: (\d+) of", "95"),
    "judged patients": (r"Judged patients \((\d+)\)", "92"),
    "patients named": (r"<b>(\d+)</b>patients named", "93"),
    "the best epoch": (r"unet: best in epoch 1 with (0\.\d+)", "0.9876"),
    "the sections of two readers": (r"kappa of \w+ and \w+<br>\s*<span[^>]*>[^<]*, (\d+) sections; the least", "94"),
}


def test_numbers_in_sentences_about_readers_goals_and_patients_are_named(faults: list[str]) -> None:
    told = "\n".join(faults)
    for kind, (_, now) in SENTENCES.items():
        assert re.search(rf"got '?{re.escape(now)}\b.*expected .* by the ledger", told), kind


def test_an_answer_that_was_not_taken_back_changes_what_readers_agree_on(pack_of_readings: Path) -> None:
    before = agreement(Pack(pack_of_readings))
    answers = pack_of_readings / "answers.csv"
    lines = answers.read_text(encoding="utf-8").splitlines(keepends=True)
    answers.write_text("".join(line for line in lines if ",carla-0\n" not in line), encoding="utf-8")
    written = pq.read_table(pack_of_readings / "tables" / "agreement.parquet").to_pylist()
    assert [row["num_agreed"] for row in before] == [row["num_agreed"] for row in written]
    assert [row["num_agreed"] for row in agreement(Pack(pack_of_readings))] != [row["num_agreed"] for row in written]


def write_margins_of(pack: Path) -> None:
    """Tables of margins that the ledger leaves possible: one region a section, as near as its bound."""
    same = ["slide_id", "section_id", "setting", "part", "t_p", "t_a_um2", "label", "coverage", "weights_digest"]
    verdicts = pq.read_table(pack / "tables" / "section_verdicts.parquet").to_pylist()
    sections, regions = [], []
    for row in (row for row in verdicts if row["is_final"]):
        is_tumor = row["verdict"] == "Tumor"
        about = {name: row[name] for name in same}
        margin_um = row["ledger_margin_um"] if is_tumor else None
        bound = {"ledger_margin_um": row["ledger_margin_um"], "verdict": row["verdict"]}
        sections.append({**about, **bound, "num_regions": int(is_tumor), "margin_um": margin_um})
        if is_tumor:
            of_region = {"region": 1, "area_um2": row["area_um2"], "max_probability": row["max_probability"]}
            regions.append({**about, **of_region, "margin_um": margin_um})
    for name, rows in (("margins", regions), ("section_margins", sections)):
        pq.write_table(pa.Table.from_pylist(rows), pack / "tables" / f"{name}.parquet")


@pytest.mark.parametrize(
    ("name", "column", "change", "expected"),
    [
        ("margins", "margin_um", lambda value: value - 1, r"margin 119 um, expected at least 120 by the ledger"),
        ("margins", "area_um2", lambda value: value * 2, r"area \S+ um2, expected at least t_A, .* and at most the"),
        ("margins", "max_probability", lambda _: 1.0, r"highest probability 1 above the section's"),
        ("margins", "section_id", lambda _: "other", r"no section of Test"),
        ("section_margins", "margin_um", lambda value: value + 1, r"margin 121.0 um, expected 120.0, the smallest"),
        ("section_margins", "num_regions", lambda value: value + 1, r"regions, expected \d by tables/margins.parquet"),
    ],
)
def test_margins_that_the_ledger_does_not_leave_possible_are_named(
    name: str, column: str, change: Callable[[Any], Any], expected: str, pack_of_readings: Path
) -> None:
    write_margins_of(pack_of_readings)
    assert margin_faults(pack_of_readings) == []
    change_cell(pack_of_readings, name, column, change)
    assert any(re.search(expected, each) for each in margin_faults(pack_of_readings))


def margin_faults(pack: Path) -> list[str]:
    found = Findings()
    check_margins(Pack(pack), found)
    return found.faults


def test_one_bit_of_any_file_is_named(pack: Path) -> None:
    manifest = json.loads((pack / "digests.json").read_text(encoding="utf-8"))
    for place, name in enumerate(sorted(manifest["files"])):
        before = (pack / name).read_bytes()
        content = bytearray(before)
        content[place * 997 % len(content)] ^= 1 << place % 8
        (pack / name).write_bytes(content)
        found = Findings()
        check_files(pack, manifest, None, found)
        (fault,) = found.faults
        assert fault.startswith(f"{name}: its bytes changed")
        (pack / name).write_bytes(before)


def test_a_manifest_that_was_made_to_fit_is_found_by_the_head_digest(pack: Path) -> None:
    head = re.search("head digest (.*)", told(pack, verify(pack)))
    assert head
    sbom = pack / "sbom.cdx.json"
    manifest = json.loads((pack / "digests.json").read_text(encoding="utf-8"))
    sbom.write_text("{}", encoding="utf-8")
    manifest["files"]["sbom.cdx.json"] = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    (pack / "digests.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert not verify(pack).faults
    (fault,) = verify(pack, head=head[1]).faults
    assert fault.startswith("digests.json: its bytes changed")


def test_weights_that_are_not_in_the_pack_are_looked_at_where_they_lie(study: StudyPaths, tmp_path: Path) -> None:
    root = Path(shutil.copytree(study.root, tmp_path / "study"))
    pack = write_evidence(Evidence(root), tmp_path / "pack")
    assert not (pack / WEIGHTS).exists()
    assert not verify(pack, beside=root).faults
    assert any(WEIGHTS in each for each in next(iter(verify(pack).left.values())))
    (root / WEIGHTS).write_bytes(b"other weights")
    (fault,) = verify(pack, beside=root).faults
    assert fault.startswith(f"{WEIGHTS}: the weights of unet: its bytes changed")
    with pytest.raises(StageFailedError, match="do not fit together"):
        write_evidence(Evidence(root), tmp_path / "later")


def test_a_report_of_before_does_not_pass_for_one_of_today(study: StudyPaths, tmp_path: Path) -> None:
    root = Path(shutil.copytree(study.root, tmp_path / "study"))
    lines = [f"test-0-0,test-0-0-s{number},Tumor" for number in range(4)]
    (root / "labels.csv").write_text("\n".join(["slide_id,section_id,label", *lines]) + "\n", encoding="utf-8")
    says = (
        r"out of date: tables, report: labels\.csv has changed\..*launch_tables\.py --study .*holds what is so today"
    )
    with pytest.raises(ConfigurationError, match=says):
        write_evidence(Evidence(root), tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize(
    "state", [{"is_labelled": False}, {"is_phantom": True, "seed": 1}, {"is_certified": True, "seed": 2}]
)
def test_packs_of_other_states_hold_together(state: dict[str, bool], tmp_path: Path) -> None:
    paths = write_evidence_study(tmp_path, **state)
    found = verify(write_evidence(Evidence(paths.root), tmp_path / "pack"))
    assert not found.faults
    assert found.left.get(UNBOUND, []) == []


def test_the_pack_of_a_cohort_holds_its_model_and_later_its_labels(tmp_path: Path) -> None:
    model, slides = write_model_file(tmp_path), write_slides(tmp_path / "slides", "one", "two", "cut")
    paths = write_cohort(tmp_path / "lab2", model.path, slides)
    paths.ledger_rows(SETTING, 2, "cut").unlink()
    write_failure(
        paths.failure(f"infer-{SETTING}", "cut"), stage="infer", slide_id="cut", reason="its end is missing", error="x"
    )
    for number in range(2):
        write_report(Evidence(paths.root))
        pack = write_evidence(Evidence(paths.root), tmp_path / f"pack-{number}", with_weights=True)
        found = verify(pack)
        assert not found.faults
        assert found.left.get(UNBOUND, []) == []
        assert ("table4" in {each.partition(":")[0] for each in found.done}) == bool(number)
        assert any("the choice came with a model" in each for each in found.left["selection"])
        labels = [f"{slide}-s{place},{slide},{label}" for slide in ("one", "two") for place, label in LABELS]
        lines = ["section_id,slide_id,label", *labels]
        paths.labels.write_text("\n".join(lines) + "\n", encoding="utf-8")
    content = bytearray((pack / "model.bcc").read_bytes())
    content[len(content) // 2] ^= 1
    (pack / "model.bcc").write_bytes(content)
    (fault,) = verify(pack).faults
    assert fault.startswith("model.bcc: its bytes changed: sha256")


@pytest.mark.parametrize(
    ("kind", "counts"),
    {
        "every verdict wrong, half of them Tumor": {"tp": 0, "fn": 4, "fp": 4, "tn": 0},
        "no error": {"tp": 3, "fn": 0, "fp": 0, "tn": 5},
        "Tumor alone": {"tp": 3, "fn": 1, "fp": 0, "tn": 0},
        "all for review": {"tp": 0, "fn": 0, "fp": 0, "tn": 0, "review": 3},
        "one section": {"tp": 1, "fn": 0, "fp": 0, "tn": 0},
    }.items(),
)
def test_packs_of_few_sections_hold_together(kind: str, counts: dict[str, int], tmp_path: Path) -> None:
    rows = [*sections(tp=5, fn=1, fp=0, tn=6), *sections(part="Test", **counts)]
    rows += [{**row, "slide_id": "other", "section_id": f"other-{row['section_id']}"} for row in rows[-2:]]
    paths = write_study(tmp_path / "study", rows)
    lines = ["Test-0000,Test,t.tif", "other,Test,o.tif", "Validation-II-0000,val2,v.tif", "never,Test,n.tif"]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,part,path", *lines]) + "\n", encoding="utf-8")
    write_json(paths.study, {"manifest": str(tmp_path / "slides.csv"), "phantom": False})
    select_thresholds(paths.root, SelectConfig())
    write_report(Evidence(paths.root))
    found = verify(write_evidence(Evidence(paths.root), tmp_path / "pack"))
    assert not found.faults
    assert found.left.get(UNBOUND, []) == []


def test_the_chain_of_the_study_is_checked_from_its_first_chained_line_on(study: StudyPaths, tmp_path: Path) -> None:
    root = Path(shutil.copytree(study.root, tmp_path / "study"))
    log = root / "jobs.jsonl"
    chained = log.read_bytes().splitlines(keepends=True)
    log.unlink()
    append_event(log, "ended", job_id="1", ending="done")  # as an older version wrote it
    log.write_bytes(log.read_bytes() + b"".join([*chained[1:3], *chained[4:]]))
    with pytest.raises(StageFailedError):
        write_evidence(Evidence(root), tmp_path / "pack")
    found = verify(tmp_path / "pack")
    assert found.left["job log"] == ["the study's own chain: unchained until line 1, as older versions wrote it"]
    assert [re.sub(":.*", "", each.removeprefix("jobs.jsonl: ")) for each in found.faults] == [
        "in the study, line 2 was not written behind line 1",
        "in the study, line 4 was not written behind line 3",
    ]


def test_no_patient_path_or_user_is_in_the_pack(made: Path) -> None:
    texts = []
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            texts.append(str(pq.read_table(path).to_pydict()) + str(pq.read_schema(path).metadata))
        elif path.suffix == ".pyz":
            with zipfile.ZipFile(path) as archive:
                texts += [archive.read(name).decode() for name in archive.namelist()]
        else:
            texts.append(path.read_text(encoding="utf-8"))
    for text in texts:
        assert PATIENT not in text
        assert str(made.parent) not in text
        assert "dr-vogel" not in text
    assert any("--cpus" in text for text in texts)


def test_the_checker_imports_nothing_of_what_it_checks() -> None:
    for path in (ROOM / "check").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                root = name.split(".")[0]
                assert root in {*sys.stdlib_module_names, "numpy", "pyarrow"} or name.startswith(
                    "analysis.evidence_pack.check."
                ), f"{path.name} imports {name}"


def test_the_metadata_says_what_each_file_is(made: Path) -> None:
    graph = json.loads((made / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    by_id = {each["@id"]: each for each in graph}
    assert by_id["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    assert {"name", "description", "datePublished", "license", "hasPart"} <= set(by_id["./"])
    digests = json.loads((made / "digests.json").read_text(encoding="utf-8"))["files"]
    parts = {each["@id"] for each in by_id["./"]["hasPart"]}
    assert parts == set(digests) - {"ro-crate-metadata.json"}
    for name in parts:
        assert by_id[name]["@type"] == "File"
        assert by_id[name]["sha256"] == digests[name]
        assert by_id[name]["contentSize"] == str((made / name).stat().st_size)


def test_the_bill_of_materials_names_each_distribution_once_with_its_version(made: Path) -> None:
    sbom = json.loads((made / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    refs = [each["bom-ref"] for each in sbom["components"]]
    assert len(refs) == len(set(refs))
    assert {"numpy", "pyarrow", "torch"} <= {each["name"] for each in sbom["components"]}
    known = {*refs, "bccdist"}
    for each in sbom["dependencies"]:
        assert {each["ref"], *each["dependsOn"]} <= known


def test_a_folder_that_is_there_is_not_written_into(study: StudyPaths, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is there already"):
        write_evidence(Evidence(study.root), tmp_path)


def test_without_a_report_there_is_nothing_to_pack(study: StudyPaths, tmp_path: Path) -> None:
    root = Path(shutil.copytree(study.root, tmp_path / "study"))
    (root / "report.html").unlink()
    with pytest.raises(NothingToShowError, match=r"there is no report yet; `python analysis/make\.py report STUDY`"):
        write_evidence(Evidence(root), tmp_path / "pack")
    assert not list(tmp_path.glob("pack*"))


def test_the_command_makes_and_checks(study: StudyPaths, tmp_path: Path) -> None:
    script, pack = ROOM.parent / "evidence.py", tmp_path / "pack"
    for words in ([str(study.root), "--out", str(pack)], ["verify", str(pack)]):
        finished = subprocess.run(
            [sys.executable, str(script), *words], capture_output=True, text=True, check=False, timeout=300
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert re.search("head digest [0-9a-f]{64}", finished.stdout)
        assert "no fault found" in finished.stdout
