"""A section's row counts what lies in its box on its own covered tissue, in every output's own pixels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bccdist.configuration import outputs_of, pixel_px
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, lattice_shape, writing_heatmap
from bccdist.parts import Label, Part
from bccdist.sections.ledger import SCHEMA, read_rows, write_rows
from bccdist.sections.rows import section_rows
from bccdist.sections.verdicts import Verdict, verdicts_of
from bccdist.slides.geometry import Box
from bccdist.slides.section_map import share_out
from bccdist.slides.sections import Section
from bccdist.slides.tissue import TISSUE_MPP

_SIZE_PX = (1536, 768)
_MPP = 1.0
"""So that a tissue pixel of 8 um is 8 target pixels wide, and a cell is 32 of them."""
_OUTPUTS = outputs_of("resnet34_ds")
_ATTRIBUTES = HeatmapAttributes(
    slide_id="a",
    setting="resnet34_ds",
    epoch=2,
    outputs=_OUTPUTS,
    mpp=_MPP,
    downsample=2.0,
    size_level0_px=(3072, 1536),
    size_target_px=_SIZE_PX,
    weights_digest="w",
    config_digest="c",
    slide_fingerprint="f",
    phantom=True,
    read_s=1.0,
    network_s=2.0,
)


def _tissue() -> NDArray[np.bool_]:
    """Cells (0..1, 0..1) and (0..2, 3..4) are tissue all over."""
    tissue = np.zeros((96, 192), dtype=bool)
    tissue[:64, :64] = True
    tissue[:, 96:160] = True
    return tissue


def _tissue_cells() -> NDArray[np.bool_]:
    return _tissue()[::32, ::32]


def _heatmap(path: Path, values_px: NDArray[np.uint8], *, coverage: NDArray[np.uint8] | None = None) -> Heatmap:
    """A heatmap with target pixels `values_px` [768, 1536], each output taking its pixels' first value."""
    with writing_heatmap(path, outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=_MPP) as writer:
        writer.append({psi: values_px[:: pixel_px(psi), :: pixel_px(psi)] for psi in _OUTPUTS})
        full = np.full((3, 6), 4, dtype=np.uint8)
        writer.finish(_ATTRIBUTES, coverage=full if coverage is None else coverage, tissue_cells=_tissue_cells())
    return Heatmap(path)


def _rows(heatmap: Heatmap, *sections: Section) -> dict[tuple[str, str], Mapping[str, Any]]:
    rows = list(section_rows(heatmap, sections, _tissue(), part=Part.TEST, phantom_weights=False))
    return {(row["section_id"], row["psi"]): row for row in rows}


_LEFT = Section(section_id="left", box_level0_px=Box(0, 0, 1024, 1024), label=Label.TUMOR, labelled_by="reader")
_RIGHT = Section(section_id="right", box_level0_px=Box(1536, 0, 1024, 1536))
_GLASS = Section(section_id="glass", box_level0_px=Box(2600, 0, 300, 1500), label=Label.NORMAL)


def test_regions_are_counted_in_their_section(tmp_path: Path) -> None:
    values = np.zeros((768, 1536), dtype=np.uint8)
    values[64:128, 64:192] = 200
    values[256:320, 800:864] = 250
    rows = _rows(_heatmap(tmp_path / "a.ozx", values), _LEFT, _RIGHT)
    for psi in _OUTPUTS:
        per_px = pixel_px(psi) ** 2
        left, right = rows["left", psi]["largest_region_px"], rows["right", psi]["largest_region_px"]
        assert (left[1], left[200], left[201]) == (64 * 128 // per_px, 64 * 128 // per_px, 0)
        assert (right[250], right[251]) == (64 * 64 // per_px, 0)
        assert left[0] == 512 * 512 // per_px
        assert rows["left", psi]["max_probability"] == pytest.approx(200 / 255)


def test_rows_have_every_column_and_fit_the_ledger(tmp_path: Path) -> None:
    rows = _rows(_heatmap(tmp_path / "a.ozx", np.zeros((768, 1536), np.uint8)), _LEFT, _RIGHT)
    write_rows(tmp_path / "a.parquet", rows.values())
    table = read_rows(tmp_path / "a.parquet")
    assert table.schema.names == SCHEMA.names
    assert table["is_final"].to_pylist() == [psi == "psi_4" for psi in _OUTPUTS] * 2
    assert table["pixel_px"].to_pylist() == [16, 8, 4, 2, 1] * 2
    row = table.to_pylist()[0]
    expected = {
        "slide_id": "a",
        "part": "Test",
        "setting": "resnet34_ds",
        "epoch": 2,
        "label": "Tumor",
        "phantom": True,
    }
    assert {name: row[name] for name in expected} == expected
    assert (row["tissue_um2"], row["coverage"], row["mpp"]) == (512 * 512, 1.0, 1.0)
    assert table.to_pylist()[5]["label"] is None
    assert [row[f"{name}_level0_px"] for name in ("x", "y", "width", "height")] == [0, 0, 1024, 1024]


def test_cells_without_tissue_or_full_coverage_do_not_count(tmp_path: Path) -> None:
    coverage = np.full((3, 6), 4, dtype=np.uint8)
    coverage[0, 3] = 3
    heatmap = _heatmap(tmp_path / "a.ozx", np.full((768, 1536), 99, np.uint8), coverage=coverage)
    whole = Section(section_id="whole", box_level0_px=Box(0, 0, 3072, 1536))
    rows = _rows(heatmap, whole) | _rows(heatmap, _LEFT, _RIGHT)
    assert rows["whole", "psi_4"]["largest_region_px"][99] == 5 * 256**2
    assert rows["right", "psi_0"]["largest_region_px"][99] == 5 * 16**2
    assert rows["right", "psi_0"]["coverage"] == pytest.approx(5 / 6)
    assert rows["left", "psi_0"]["coverage"] == 1.0
    assert rows["whole", "psi_0"]["coverage"] == pytest.approx(9 / 10)


def test_p99_is_of_the_tissue_alone(tmp_path: Path) -> None:
    values = np.full((768, 1536), 255, dtype=np.uint8)
    values[:512, :512] = 51
    values[0, :512] = 255
    rows = _rows(_heatmap(tmp_path / "a.ozx", values), _LEFT)
    assert rows["left", "psi_4"]["p99_probability"] == pytest.approx(0.2)
    assert rows["left", "psi_4"]["max_probability"] == 1.0


def test_a_box_on_glass_is_not_covered(tmp_path: Path) -> None:
    heatmap = _heatmap(tmp_path / "a.ozx", np.full((768, 1536), 255, np.uint8))
    for row in _rows(heatmap, _GLASS).values():
        assert (row["tissue_um2"], row["coverage"], row["max_probability"], row["p99_probability"]) == (0, 0, 0, 0)
        assert row["largest_region_px"] == [0] * 256
        assert np.isnan(row["margin_um"]).all()


def test_a_box_at_the_edge_stays_inside(tmp_path: Path) -> None:
    heatmap = _heatmap(tmp_path / "a.ozx", np.full((768, 1536), 9, np.uint8))
    edge = Section(section_id="edge", box_level0_px=Box(2559, 1533, 513, 3))
    for psi in _OUTPUTS:
        row = _rows(heatmap, edge)["edge", psi]
        height, width = lattice_shape((257, 2), psi)
        assert row["largest_region_px"][0] in (width * height, (width + 1) * height)


def test_margins_are_the_distances_of_what_was_drawn(tmp_path: Path) -> None:
    """Tissue reaches from the slide's upper left corner to 512 px, and lies 768 to 1280 px to the right."""
    values = np.zeros((768, 1536), dtype=np.uint8)
    values[192:304, 64:256] = 100
    values[240:256, 336:400] = 200
    values[304:400, 896:1008] = 150
    rows = _rows(_heatmap(tmp_path / "a.ozx", values), _LEFT, _RIGHT)
    for psi in _OUTPUTS:
        left, right = rows["left", psi]["margin_um"], rows["right", psi]["margin_um"]
        within_um = max(TISSUE_MPP, pixel_px(psi))
        assert left[100] == pytest.approx(64, abs=within_um)
        assert left[101] == left[200] == pytest.approx(512 - 400, abs=within_um)
        assert right[150] == pytest.approx(896 - 768, abs=within_um)
        assert np.isnan(left[201:]).all()
        assert np.isnan(right[151:]).all()
        assert left[0] < TISSUE_MPP + pixel_px(psi)


def test_the_slides_border_is_an_edge_and_the_boxs_is_not(tmp_path: Path) -> None:
    values = np.zeros((768, 1536), dtype=np.uint8)
    values[304:400, 1008:1104] = 150
    values[640:700, 1000:1010] = 250
    heatmap = _heatmap(tmp_path / "a.ozx", values)
    cut = Section(section_id="cut", box_level0_px=Box(2000, 608, 200, 192))
    for psi in _OUTPUTS:
        margin_um = _rows(heatmap, cut)["cut", psi]["margin_um"][150]
        assert margin_um == pytest.approx(1280 - 1100, abs=max(TISSUE_MPP, pixel_px(psi)))
    assert _rows(heatmap, _RIGHT)["right", "psi_4"]["margin_um"][250] == pytest.approx(768 - 700, abs=TISSUE_MPP)


def test_tumor_that_reaches_over_the_tissue_has_margin_0(tmp_path: Path) -> None:
    values = np.zeros((768, 1536), dtype=np.uint8)
    values[100:120, 500:520] = 99
    tissue = _tissue()
    tissue[:, 63] = False
    rows = section_rows(_heatmap(tmp_path / "a.ozx", values), [_LEFT], tissue, part=Part.TEST, phantom_weights=False)
    assert next(row for row in rows if row["psi"] == "psi_4")["margin_um"][99] == 0


def test_what_is_not_counted_has_no_margin(tmp_path: Path) -> None:
    values = np.zeros((768, 1536), dtype=np.uint8)
    values[100:120, 100:120] = 99
    coverage = np.full((3, 6), 4, dtype=np.uint8)
    coverage[0, 0] = 3
    rows = _rows(_heatmap(tmp_path / "a.ozx", values, coverage=coverage), _LEFT)
    assert np.isnan(rows["left", "psi_4"]["margin_um"][1:]).all()


class _Oblique(NamedTuple):
    """Two slanting strips, of whose boxes each holds a part of the other strip."""

    tissue: NDArray[np.bool_]
    left: Section
    right: Section


def _oblique() -> _Oblique:
    tissue = np.zeros((96, 192), dtype=bool)
    for start in (0, 60):
        for step in range(80):
            tissue[8 + step, 10 + start + step : 35 + start + step] = True
    boxes = [Box(16 * (10 + start), 16 * 8, 16 * 104, 16 * 80) for start in (0, 60)]
    names = ("left", "right")
    return _Oblique(
        tissue, *(Section(section_id=name, box_level0_px=box) for name, box in zip(names, boxes, strict=True))
    )


def _oblique_rows(
    folder: Path, values: NDArray[np.uint8], *sections: Section, coverage: NDArray[np.uint8] | None = None
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The rows of a heatmap over the strips, of which every cell holds tissue."""
    path = folder / "oblique.ozx"
    with writing_heatmap(path, outputs=_OUTPUTS, size_target_px=_SIZE_PX, mpp=_MPP) as writer:
        writer.append({psi: values[:: pixel_px(psi), :: pixel_px(psi)] for psi in _OUTPUTS})
        full = np.full((3, 6), 4, dtype=np.uint8)
        writer.finish(
            _ATTRIBUTES,
            coverage=full if coverage is None else coverage,
            tissue_cells=np.ones((3, 6), dtype=bool),
        )
    found = section_rows(Heatmap(path), sections, _oblique().tissue, part=Part.TEST, phantom_weights=False)
    rows = {(row["section_id"], row["psi"]): row for row in found}
    path.unlink()
    return rows


_COUNTED = ("tissue_um2", "coverage", "largest_region_px", "margin_um", "max_probability", "p99_probability")


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in _COUNTED)


def test_a_nest_counts_for_its_strip_alone_though_it_lies_in_the_others_box(tmp_path: Path) -> None:
    strips = _oblique()
    glass = np.zeros(_SIZE_PX[::-1], dtype=np.uint8)
    nest = glass.copy()
    # On the right strip's upper end, in the left one's box.
    nest[104:184, 640:720] = 220
    without = _oblique_rows(tmp_path, glass, strips.left, strips.right)
    rows = _oblique_rows(tmp_path, nest, strips.left, strips.right)
    box = strips.left.box_level0_px.scaled(1 / 2)
    assert nest[box.slices()].any()
    for psi in _OUTPUTS:
        assert _same(rows["left", psi], without["left", psi])
        assert rows["right", psi]["largest_region_px"][220] * pixel_px(psi) ** 2 == pytest.approx(80 * 80, rel=0.2)
        assert rows["left", psi]["max_probability"] == 0


def test_a_strips_row_is_that_without_a_neighbour(tmp_path: Path) -> None:
    """Whatever probabilities are: only what is nearer to the neighbour's tissue is not its own any more."""
    strips = _oblique()
    values = np.random.default_rng(0).integers(0, 256, _SIZE_PX[::-1], dtype=np.uint8)
    on_tissue = cv2.resize(strips.tissue.astype(np.uint8), _SIZE_PX, interpolation=cv2.INTER_NEAREST)
    numbers = share_out(strips.tissue, [strips.left.box_level0_px, strips.right.box_level0_px], mpp_level0=0.5).number
    for number, section in enumerate((strips.left, strips.right), start=1):
        own = cv2.resize((numbers == number).astype(np.uint8), _SIZE_PX, interpolation=cv2.INTER_NEAREST)
        both = _oblique_rows(tmp_path, values * on_tissue, strips.left, strips.right)
        alone = _oblique_rows(tmp_path, values * on_tissue * own, section)
        row, expected = both[section.section_id, "psi_4"], alone[section.section_id, "psi_4"]
        assert row["largest_region_px"][1:] == expected["largest_region_px"][1:]
        assert row["margin_um"][1:] == expected["margin_um"][1:]
    areas = [both[name, "psi_4"]["tissue_um2"] for name in ("left", "right")]
    assert areas == [80 * 25 * TISSUE_MPP**2] * 2


def test_a_region_that_crosses_from_tissue_to_tissue_is_cut_between_them(tmp_path: Path) -> None:
    strips = _oblique()
    values = np.full(_SIZE_PX[::-1], 200, dtype=np.uint8)
    rows = _oblique_rows(tmp_path, values, strips.left, strips.right)
    for psi in _OUTPUTS:
        left, right = (rows[name, psi]["largest_region_px"][200] * pixel_px(psi) ** 2 for name in ("left", "right"))
        in_boxes = np.zeros(_SIZE_PX[::-1], dtype=bool)
        for section in (strips.left, strips.right):
            in_boxes[section.box_level0_px.scaled(1 / 2).slices()] = True
        assert left + right == pytest.approx(in_boxes.sum(), rel=0.04)


def test_what_was_not_read_of_a_strip_is_no_gap_of_its_neighbour(tmp_path: Path) -> None:
    strips = _oblique()
    coverage = np.full((3, 6), 4, dtype=np.uint8)
    coverage[0, 0] = 0
    values = np.zeros(_SIZE_PX[::-1], dtype=np.uint8)
    rows = _oblique_rows(tmp_path, values, strips.left, strips.right, coverage=coverage)
    assert rows["left", "psi_4"]["coverage"] < 1
    assert rows["right", "psi_4"]["coverage"] == 1


def test_a_box_whose_tissue_is_anothers_is_not_covered(tmp_path: Path) -> None:
    strips = _oblique()
    inner = Section(section_id="inner", box_level0_px=Box(400, 400, 100, 100))
    rows = _oblique_rows(tmp_path, np.full(_SIZE_PX[::-1], 255, np.uint8), strips.left, strips.right, inner)
    for psi in _OUTPUTS:
        row = rows["inner", psi]
        assert (row["tissue_um2"], row["coverage"], row["max_probability"]) == (0, 0, 0)
        assert verdicts_of(np.array([False]), np.array([row["coverage"]])).tolist() == [Verdict.REVIEW]
