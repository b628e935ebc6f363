"""The report is one file that stands by itself, shows what there is, and says what there is not."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from report_page import ReportPage
from study_folders import sections, write_study
from usage_records import USAGE, write_start

from analysis.page.blocks import Section, TableBlock, render
from analysis.page.errors import REVIEW_PAGE
from analysis.page.report import write_report
from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from bccdist.configuration import PHANTOM_WARNING, PHANTOM_WEIGHTS_WARNING, SelectConfig
from bccdist.errors import ConfigurationError, LedgerError
from bccdist.files import write_json
from bccdist.paths import StudyPaths
from bccdist.stages.table import SELECTION
from jobs.review import ReviewArguments

HOSTILE = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Tags, and where they lead."""

    def __init__(self, text: str) -> None:
        """Read the page."""
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what is of interest."""
        values = dict(attrs)
        self.tags.append(tag)
        self.sources += [str(values["src"])] if "src" in values else []
        self.links += [str(values["href"])] if "href" in values else []
        self.anchors |= {str(values["id"])} if "id" in values else set()


def make_study(root: Path, *, phantom: bool = False, phantom_weights: bool = False, test: bool = True) -> StudyPaths:
    """Two settings; one misses more. Slides and heatmaps are not there."""
    marks = {"phantom": phantom, "phantom_weights": phantom_weights}
    rows = []
    for setting, missed in (("unet", 6), ("resnet34_ds", 2)):
        rows += sections(tp=20, fn=0, fp=0, tn=20, setting=setting, prefilled="Tumor", **marks)
        if test:
            rows += sections(
                tp=20 - missed,
                fn=missed,
                fp=1,
                tn=20,
                part="Test",
                setting=setting,
                prefilled=HOSTILE,
                **marks,
            )
    paths = write_study(root / "study", rows)
    (root / "slides.csv").write_text(
        "slide_id,part,path\nTest-0000,Test,gone.tif\nValidation-II-0000,val2,gone-too.tif\n"
    )
    write_json(paths.study, {"manifest": str(root / "slides.csv"), "phantom": phantom})
    select_thresholds(paths.root, SelectConfig())
    return paths


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    paths = make_study(tmp_path_factory.mktemp("report"))
    assert write_report(Evidence(paths.root), setting="resnet34_ds") == paths.report
    return paths.report.read_text()


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    found = Page(page)
    assert found.sources
    assert all(source.startswith("data:image/") for source in found.sources)
    assert not {"script", "iframe", "object"} & set(found.tags)
    rest = re.sub(r'"data:image/[^"]*"', "", page).lower()
    # The one place that the page names is the review page on the reader's own machine.
    assert "http" not in rest.replace("http://127.0.0.1:8765/", "")
    assert "@import" not in page


def test_every_link_leads_to_a_part_of_the_page(page: str) -> None:
    found = Page(page)
    assert len(found.links) >= 9
    parts = {anchor for anchor in found.anchors if not anchor.startswith("picture-")}
    assert {link.removeprefix("#") for link in found.links if link.startswith("#")} == parts


def test_errors_lead_to_the_review_page_where_it_is_served_by_default(page: str) -> None:
    links = [link for link in Page(page).links if link.startswith(REVIEW_PAGE)]
    assert len(links) == 3
    assert all(re.fullmatch(r"[^/]+/[^/]+", unquote(link.partition("#")[2])) for link in links)
    defaults = ReviewArguments(study=Path())
    assert f"http://{defaults.host}:{defaults.port}/" == REVIEW_PAGE


def test_each_term_is_explained_where_it_comes_first_and_at_the_end(page: str, tmp_path: Path) -> None:
    parts = re.split(r"<h2 ", page)
    (overview,) = [part for part in parts if part.startswith('id="overview"')]
    assert "<dt>t_p:</dt>" in overview
    assert "<dt>t_A:</dt>" in overview
    assert "<dt>F_1.5:</dt>" in overview
    kept = tmp_path / "report.html"
    kept.write_text(page, encoding="utf-8")
    terms = re.findall(r"<dt>(.*?):</dt>", page)
    assert len(terms) == len(set(terms)) > 12
    glossary = ReportPage(kept).table("Terms of this page.")
    assert {row["term"] for row in glossary} == set(terms)
    for name in ("psi", "the paper", "TP, FN, FP, TN"):
        assert name in terms
    # What the page does not speak of is not explained.
    assert "kappa" in page.lower() or "kappa" not in terms


def test_the_headline_has_its_figures_and_intervals(page: str) -> None:
    numbers = re.search(r'<div class="numbers">(.*?)</div>\s*</div>', page, re.DOTALL)
    assert numbers
    # 38 of 41 right: 2 missed, 1 false alarm.
    assert "<b>0.927</b>accuracy" in page
    assert re.search(r"<b>0\.900</b>sensitivity<br>\s*<span class=\"soft\">0\.\d+ to \d\.\d+", page)
    assert re.search(r"Against unet: \+0\.098 of accuracy, (not )?resolved\.", page)


def test_errors_are_shown_and_a_missing_slide_says_why(page: str) -> None:
    assert "Missed: labelled Tumor, called Normal: 2, by resnet34_ds" in page
    assert "False alarms: labelled Normal, called Tumor: 1, by resnet34_ds" in page
    assert page.count('class="tile fn"') == 2
    assert page.count("no picture: ") == 3


def test_margins_are_the_ledgers_bounds_with_their_warning(page: str) -> None:
    margins = page[page.index('<h2 id="margins">') : page.index('<h2 id="time">')]
    assert "Research use only" in margins
    # Of unet 14 found and 1 false alarm, of resnet34_ds 18 and 1.
    assert margins.count("<tr>") == 1 + 15 + 19


def test_the_verdicts_nearest_to_changing_are_the_ten_of_the_headlines_setting(page: str) -> None:
    start = page.index('<h2 id="verdicts-nearest-to-changing">')
    nearest = page[start : page.index('<h2 id="decoder-blocks">')]
    assert "The 10 verdicts of resnet34_ds that the smallest shifts of probability would change." in nearest
    table = nearest[: nearest.index("</table>")]
    assert table.count("<tr>") == 1 + 10
    # t_p 0.05 is step 13, and the Normal sections have a region of t_A up to step 10.
    assert table.count("<td>Normal</td><td>0.05</td><td>0.012</td><td>0.00</td>") == 10
    assert "Flip shifts of the verdicts on Test" in nearest


def test_the_verdicts_nearest_to_changing_need_no_label(tmp_path: Path) -> None:
    rows = sections(tp=20, fn=0, fp=0, tn=20)
    rows += [{**row, "label": None} for row in sections(tp=2, fn=0, fp=0, tn=3, part="Test")]
    paths = write_study(tmp_path / "study", rows)
    lines = ["slide_id,part,path", "Test-0000,Test,gone.tif", "Validation-II-0000,val2,gone-too.tif"]
    (tmp_path / "slides.csv").write_text("\n".join(lines) + "\n")
    write_json(paths.study, {"manifest": str(tmp_path / "slides.csv"), "phantom": False})
    select_thresholds(paths.root, SelectConfig())
    text = write_report(Evidence(paths.root)).read_text()
    nearest = text[text.index('<h2 id="verdicts-nearest-to-changing">') :]
    nearest = nearest[: nearest.index("</table>")]
    assert "The 5 verdicts of resnet34_ds" in nearest
    assert nearest.count("<td>Normal</td>") == 3
    assert nearest.count("<td>Tumor</td>") == 2


def test_texts_are_escaped(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_what_could_not_be_made_is_named_with_the_reason(page: str) -> None:
    not_made = page[page.index("Not made.") :]
    assert "table2" in not_made
    assert "merge_weights" in not_made
    assert "nothing was selected for resnet34_linear" in not_made


def test_the_bias_of_prefilled_labels_is_a_warning(page: str) -> None:
    assert re.search(r'class="warning">WARNING: the labels of 100% of the conformal set', page)


def test_phantoms_are_named_at_the_top(tmp_path: Path) -> None:
    text = write_report(Evidence(make_study(tmp_path, phantom=True).root)).read_text()
    assert f'<div class="phantom">{PHANTOM_WARNING}</div>' in text


def test_networks_of_phantoms_are_named_and_real_slides_are_not_called_drawn(tmp_path: Path) -> None:
    text = write_report(Evidence(make_study(tmp_path, phantom_weights=True).root)).read_text()
    assert f'<div class="phantom">{PHANTOM_WEIGHTS_WARNING}</div>' in text
    assert PHANTOM_WARNING not in text


def test_a_study_without_test_has_a_report_of_its_validation(tmp_path: Path) -> None:
    text = write_report(Evidence(make_study(tmp_path, test=False).root)).read_text()
    assert "Table 3." in text
    assert "no sections of Test for the chosen models" in text
    assert 'class="tile' not in text


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    paths = make_study(tmp_path)
    with pytest.raises(LedgerError, match="nothing was selected for resnet34; selected were"):
        write_report(Evidence(paths.root), setting="resnet34")


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no study"):
        write_report(Evidence(tmp_path))


def test_what_the_stages_took_is_an_estimate_by_name_or_not_known(page: str, tmp_path: Path) -> None:
    assert "What the stages took is not known: there are no records of it." in page
    paths = make_study(tmp_path)
    write_start(paths, replace(USAGE, seconds=3600.0, num_cpus=8, watts_per_core=5.0))
    write_start(paths, replace(USAGE, job_id="18", stage=SELECTION.fields))
    text = write_report(Evidence(paths.root)).read_text()
    took = text[text.index("What the stages took.") :]
    assert "<td>shards</td><td>1</td><td>-</td><td>8</td><td>0</td><td>0.04 kWh, estimate</td>" in took
    assert re.search(r"<td>select</td>.*<td>not known</td>", took)
    assert "core-hours x watts_per_core + GPU-hours x watts_per_gpu" in took


def test_what_is_typed_stands_as_code_and_is_still_escaped() -> None:
    table = TableBlock(
        title="t", heading=["why"], rows=[["run `a <b>` of /data/x"]], notes=["`one` or `two`", "a ` alone"]
    )
    section = Section(title="s", lines=["`python make.py <STUDY>` & more"], warnings=["`w`"], blocks=[table])
    page = render("n", [section], warning="", without_paths=lambda text: text.replace("/data/x", "x"))
    for shown in (
        "<p><code>python make.py &lt;STUDY&gt;</code> &amp; more</p>",
        '<p class="warning"><code>w</code></p>',
        "<td>run <code>a &lt;b&gt;</code> of x</td>",
        "<code>one</code> or <code>two</code>",
        "a ` alone",
    ):
        assert shown in page
