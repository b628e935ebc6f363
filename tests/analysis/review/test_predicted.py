"""Regions, areas and verdicts of one psi and one t_p, which are never those of another."""

import gzip
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from picture_study import FALSE_REGION
from review_study import BLIND, SETTING, copied_study, original, serving, worklist_of
from small_study import DOWNSAMPLE

from analysis.outlines.chosen_regions import read_tissue
from analysis.review.geojson import geometry_of
from analysis.review.predicted import packed_regions, predicted
from analysis.review.worklist import Worklist
from bccdist.configuration import Psi, outputs_of
from bccdist.errors import LedgerError

EDGES = (FALSE_REGION.x, FALSE_REGION.y, FALSE_REGION.x_end, FALSE_REGION.y_end)
OTHER_PSI = outputs_of("resnet34_ds")[0]


def at(worklist: Worklist, *, psi: Psi = "psi_4", t_p: float = 0.5, slide_id: str = "test-1") -> SimpleNamespace:
    tissue_at = partial(read_tissue, original().manifest.slide(slide_id))
    packed = predicted(
        worklist,
        SETTING,
        slide_id,
        psi=psi,
        t_p=t_p,
        find_regions=partial(packed_regions, worklist.paths, tissue_at=tissue_at),
    )
    content = json.loads(gzip.decompress(packed))
    calls = {name: SimpleNamespace(**call) for name, call in content["verdicts"].items()}
    return SimpleNamespace(regions=content["features"], calls=calls)


@pytest.fixture
def worklist(tmp_path: Path) -> Worklist:
    return worklist_of(copied_study(tmp_path))


def test_regions_are_those_of_the_verdict(worklist: Worklist) -> None:
    by_section = {each["properties"]["section_id"]: each for each in at(worklist).regions}
    assert set(by_section) == {"test-1-left", "test-1-right"}
    right = by_section["test-1-right"]
    assert geometry_of(right).bounds == tuple(DOWNSAMPLE * edge for edge in EDGES)
    assert right["properties"]["area_um2"] == pytest.approx(FALSE_REGION.area * 0.92**2, abs=0.1)
    assert right["properties"]["max_probability"] == pytest.approx(180 / 255, abs=1e-4)
    assert right["properties"]["margin_um"] > 0


@pytest.mark.parametrize("psi", ["psi_4", OTHER_PSI])
@pytest.mark.parametrize(
    ("t_p", "tumor"), [(0.5, {"test-1-left", "test-1-right"}), (0.8, {"test-1-left"}), (1.0, set())]
)
def test_regions_areas_and_verdicts_are_of_one_psi_and_t_p(
    worklist: Worklist, psi: Psi, t_p: float, tumor: set[str]
) -> None:
    found = at(worklist, psi=psi, t_p=t_p)
    assert {each["properties"]["section_id"] for each in found.regions} == tumor
    assert {name for name, call in found.calls.items() if call.verdict == "Tumor"} == tumor
    for name in tumor:
        areas = [each["properties"]["area_um2"] for each in found.regions if each["properties"]["section_id"] == name]
        assert max(areas) == pytest.approx(found.calls[name].area_um2, abs=0.1)


def test_what_was_not_inferred_has_no_verdict(worklist: Worklist) -> None:
    assert at(worklist, slide_id="test-2") == SimpleNamespace(regions=[], calls={})


def test_an_output_that_the_ledger_has_not_is_named_and_not_empty(worklist: Worklist) -> None:
    table = pq.read_table(worklist.paths.sections)
    pq.write_table(table.filter(pc.field("psi") != OTHER_PSI), worklist.paths.sections)
    with pytest.raises(LedgerError, match=f"no row of {SETTING}'s output {OTHER_PSI}"):
        at(worklist, psi=OTHER_PSI)


def test_the_page_is_told_whether_it_is_the_studys_choice(tmp_path: Path) -> None:
    with serving(copied_study(tmp_path)) as client:
        own = client.get(f"/api/regions/{SETTING}/test-0").json()
        assert own["is_chosen"] is True
        assert (own["psi"], own["t_p"]) == ("psi_4", 0.5)
        for other in ({"t_p": 0.7}, {"psi": OTHER_PSI}):
            seen = client.get(f"/api/regions/{SETTING}/test-0", params=other).json()
            assert seen["is_chosen"] is False
            assert seen["verdicts"]["test-0-left"]["verdict"] == "Tumor"
        refused = client.get(f"/api/regions/{SETTING}/test-0", params={"psi": "psi_9"})
        assert refused.status_code == 404
        assert "it has" in refused.json()["error"]


def test_no_section_of_a_closed_slide_has_a_verdict_at_any_psi(tmp_path: Path) -> None:
    slide_id, _ = BLIND.split("/")
    with serving(copied_study(tmp_path)) as client:
        for params in ({}, {"t_p": 0.9}, {"psi": OTHER_PSI}):
            seen = client.get(f"/api/regions/{SETTING}/{slide_id}", params=params).json()
            assert (seen["verdicts"], seen["features"]) == ({}, [])
