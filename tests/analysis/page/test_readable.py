"""The report is read on a large screen, on a small one, on paper, by keyboard and by ear, in every state of a study.

Pictures of it stay where BCCDIST_SCREENSHOTS names a folder; BCCDIST_STUDIES names more studies to look at, with
colons between them: `BCCDIST_SCREENSHOTS=looks python -m pytest --run-slow tests/analysis/page/test_readable.py`.
"""

import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import accessibility
import pytest
from chromium import SCREENSHOTS, Browser, running_browser
from picture_study import SETTINGS, write_picture_study
from readable_page import SCREENS_PX, cut_on_paper, keep_whole_picture, look_at, print_page, rows_alone, without_space
from report_page import ReportPage
from selenium.webdriver.common.keys import Keys
from study_folders import NORMAL_CURVE, TUMOR_CURVE, ledger_row, sections, write_metrics, write_study

from analysis.page.report import write_report
from analysis.page.stage import write_tables
from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import StageFailedError
from bccdist.files import write_json
from bccdist.paths import StudyPaths

pytestmark = [pytest.mark.browser, pytest.mark.slow]
STUDIES = "BCCDIST_STUDIES"
LONG = "TCGA-2024-0917-Dermatologie-Block-A-Schnitt-07_scan2_HE"
"""A slide's name as archives give it."""


def phantom_with_errors(folder: Path, *, unlabelled: Collection[str] = ()) -> StudyPaths:
    """Drawn slides with heatmaps and pictures, and a false alarm."""
    study = write_picture_study(folder, unlabelled=unlabelled)
    for setting in SETTINGS:
        write_metrics(study.paths, setting, {1: 0.5, 2: 0.7, 3: 0.6})
    # Two slides are too few for some of the tables, and that is a fault of theirs alone.
    with suppress(StageFailedError):
        write_tables(study.root, study.manifest.path)
    return study.paths


def without_labels(folder: Path) -> StudyPaths:
    """The same without a label of Test."""
    return phantom_with_errors(folder, unlabelled=["test-0", "test-1", "test-2"])


def ledger_study(folder: Path, *labels: str, num: int = 60) -> StudyPaths:
    """Three settings and long names, from the ledger alone."""
    rows = []
    for setting in ("unet", "resnet34", "resnet34_ds"):
        rows += sections(tp=20, fn=1, fp=2, tn=20, setting=setting)
        for number in range(num):
            label = labels[number % len(labels)]
            is_wrong = number % 7 == 3
            rows.append(
                ledger_row(
                    part="Test",
                    setting=setting,
                    slide_id=f"{LONG}-{number // 3}",
                    section_id=f"{LONG}-{number // 3}-s{number % 3}",
                    label=label,
                    largest_region_px=TUMOR_CURVE if (label == "Tumor") != is_wrong else NORMAL_CURVE,
                )
            )
    paths = write_study(folder / "study", rows)
    names = [*(f"{LONG}-{number}" for number in range(num // 3)), "broken"]
    lines = ["slide_id,part,path,scanner,site,patient_id"]
    lines += [
        f"{name},Test,{name}.tif,Hamamatsu NanoZoomer S360,Universitätsklinikum {number % 4},patient-{number // 2}"
        for number, name in enumerate(names)
    ]
    (folder / "slides.csv").write_text("\n".join([*lines, "Validation-II-0000,val2,v.tif,,,"]) + "\n")
    write_json(paths.study, {"manifest": str(folder / "slides.csv"), "phantom": False})
    select_thresholds(paths.root, SelectConfig())
    write_report(Evidence(paths.root))
    return paths


def full_with_labels(folder: Path) -> StudyPaths:
    return ledger_study(folder, "Tumor", "Normal", "Normal")


def one_class_only(folder: Path) -> StudyPaths:
    return ledger_study(folder, "Tumor", num=12)


STATES = {make.__name__: make for make in (phantom_with_errors, without_labels, full_with_labels, one_class_only)}
NAMED = [Path(name) for name in os.environ.get(STUDIES, "").split(":") if name]
"""Studies of one's own, such as one of real slides whose inference was certified; their reports are written anew."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module", params=[*STATES, *NAMED], ids=lambda each: getattr(each, "name", each))
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if isinstance(request.param, Path):
        return write_report(Evidence(request.param))
    made: StudyPaths = STATES[request.param](tmp_path_factory.mktemp(request.param))
    return made.report


@pytest.fixture
def looks(report: Path, tmp_path: Path) -> Path:
    """The folder in which pictures of this report stay."""
    folder = Path(os.environ.get(SCREENSHOTS, tmp_path)) / report.parent.parent.name.rstrip("0123456789")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("width_px", SCREENS_PX)
def test_nothing_is_cut_empty_or_out_of_reach_on_a_screen(
    browser: Browser, report: Path, looks: Path, width_px: int
) -> None:
    found = look_at(browser, report, width_px)
    keep_whole_picture(browser, report, looks / f"{width_px}.png", width_px)
    assert found.cut == []
    assert found.violations == []
    assert found.empty_pictures == []
    # On a telephone a wide table is scrolled in its own box, which the keyboard reaches.
    assert width_px < 600 or found.scrolled == []


def test_every_row_of_every_table_is_on_paper_below_its_title(browser: Browser, report: Path, looks: Path) -> None:
    assert cut_on_paper(browser, report) == []
    printed, page = print_page(browser, report, looks / "paper.pdf"), ReportPage(report)
    sheets = [sheet.text for sheet in printed]
    whole = "".join(sheets)
    assert len(page.tables) > 6
    assert "`" not in whole
    assert [f"sheet {place}" for place, sheet in enumerate(printed[:-1], 1) if sheet.filled < 1 / 3] == []
    assert rows_alone(printed, page.tables) == []
    for title, rows in page.tables.items():
        for row in rows:
            missing = [cell for cell in row.values() if without_space(cell) not in whole]
            assert not missing, title
        first = [without_space(cell) for cell in rows[0].values()]
        heading = without_space(title)
        assert any(heading in sheet and all(cell in sheet for cell in first) for sheet in sheets), title


def test_pictures_are_enlarged_and_put_back_by_keyboard(browser: Browser, report: Path) -> None:
    browser.open(report.as_uri())
    buttons = browser.driver.find_elements("css selector", ".enlarge")
    assert buttons
    width = "return document.querySelector('.picture img').getBoundingClientRect().width"
    small = browser.run(width)
    buttons[0].send_keys(Keys.ENTER)
    assert browser.run("return document.querySelectorAll('.picture:popover-open').length") == 1
    assert browser.run(width) >= small
    browser.press(Keys.ESCAPE)
    assert browser.run("return document.querySelectorAll('.picture:popover-open').length") == 0
    assert browser.run(width) == small


def test_the_checker_is_the_published_one() -> None:
    readme = accessibility.AXE.with_name("README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(accessibility.AXE.read_bytes()).hexdigest() in readme
