"""A fast heatmap is settled: what it leaves open is computed to the bit as in a whole exact run, and no more is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heatmap_slides import MPP, damage_tile, grey_picture, write_slide
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bccdist.configuration import Psi, pixel_px
from bccdist.errors import LedgerError
from bccdist.heatmaps.certificate import HeatmapCertificate
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import Predictor, SlidePass
from bccdist.heatmaps.predictors import EarlyPredictor
from bccdist.heatmaps.store import Heatmap
from bccdist.heatmaps.writing import HeatmapOrder
from bccdist.parts import Part
from bccdist.sections.marking import MarkedSlide, SettledOrder, mark_slide
from bccdist.sections.settling import Settling
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SectionRecord, SlideRecord

_CPU = torch.device("cpu")
_ISLANDS = [(60, 80, 420, 560), (800, 60, 460, 380), (820, 700, 300, 420), (1500, 100, 330, 900)]
_T_P = 0.5
EXACT, DENSE = Method(engine="eager"), Method(engine="eager", tiling="dense", halo_px=32)
_TIMES = {"read_s", "network_s"}
_HOW = {"reached_by", "levels_apart"} | {
    f"certificate_{name}" for name in ("levels", "confidence", "num_slides", "t_p", "t_a_um2", "area_unit")
}


def tissue_picture(islands: Sequence[tuple[int, int, int, int]] = tuple(_ISLANDS), seed: int = 3) -> NDArray[np.uint8]:
    """Islands of pink tissue whose colours vary, on glass: uint8 RGB [h, w, 3]."""
    shades = grey_picture(2000, 1200, seed=seed).astype(np.int16)
    picture = np.full((1200, 2000, 3), 245, dtype=np.uint8)
    for x, y, width, height in islands:
        inside = (slice(y, y + height), slice(x, x + width))
        shade = (shades[inside][..., None] - 130) // 3
        picture[inside] = np.clip(np.array([200, 110, 170]) + shade, 0, 255).astype(np.uint8)
    return picture


class _Off:
    """A predictor that is wrong by a few levels, here more and there less."""

    def __init__(self, predictor: Predictor, levels: int) -> None:
        self.outputs = predictor.outputs
        self._predictor, self._levels = predictor, levels

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        found = self._predictor(patches_NPP3)
        return {psi: (each + self._waves(each) * self._levels / 255).clamp(0, 1) for psi, each in found.items()}

    @staticmethod
    def _waves(values: Tensor) -> Tensor:
        return torch.sin(torch.arange(values.shape[-1]) * 40 / values.shape[-1]).expand_as(values)


class _Blurred:
    """Gives every pixel how dark its surroundings are, so that what a patch's edge cuts off changes it."""

    outputs: tuple[Psi, ...] = ("psi_0", "psi_4")

    def __init__(self) -> None:
        self.num_patches = 0

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        self.num_patches += len(patches_NPP3)
        grey = patches_NPP3.float().mean(dim=-1)[:, None] / 255
        coarse = F.avg_pool2d(F.avg_pool2d(grey, 16), 5, stride=1, padding=2, count_include_pad=False)
        smooth = F.interpolate(coarse, scale_factor=16, mode="bilinear")
        probability = torch.sigmoid((0.6 - smooth) * 12)
        return {psi: F.avg_pool2d(probability, pixel_px(psi))[:, 0] for psi in self.outputs}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are so small that a second thread would cost more than it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def exact() -> _Blurred:
    return _Blurred()


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide") / "a.tif", tissue_picture())


def certificate(**changes: Any) -> HeatmapCertificate:
    """One that promises a bound of 12 levels, and checks nothing."""
    values: dict[str, Any] = {
        "way": "dense float32 eager",
        "psi": "psi_4",
        "t_p": _T_P,
        "t_a_um2": 5120.0,
        "area_unit": "physical",
        "levels": 12,
        "confidence": 0.95,
        "num_slides": 20,
        "check_share": 0.0,
    }
    return HeatmapCertificate(**{**values, **changes})


def order(path: Path, predictor: Predictor, method: Method = EXACT) -> HeatmapOrder:
    return HeatmapOrder(
        path=path,
        setting="resnet34_ds",
        epoch=1,
        predictor=predictor,
        method=method,
        weights_digest="w",
        config_digest="c",
        slide_fingerprint="f",
    )


def mark(
    slide: Path,
    *,
    orders: Sequence[HeatmapOrder] = (),
    settled: SettledOrder | None = None,
    sections: Sequence[SectionRecord] = (),
    target_mpp: float = MPP,
) -> MarkedSlide:
    record = SlideRecord(slide_id="a", part=Part.TEST, path=slide)
    return mark_slide(
        record,
        sections,
        orders,
        target_mpp=target_mpp,
        mpp_tolerance=0.01,
        batch=4,
        device=_CPU,
        settled=settled,
    )


def settling(exact: Predictor, promise: HeatmapCertificate, *, outside: str = "") -> Settling:
    how = SlidePass(predictors=[exact], batch=4, device=_CPU)
    return Settling(certificate=promise, exact=how, why_outside=lambda *_: outside)


class _Run:
    """An exact and a settled run over one slide, side by side."""

    def __init__(
        self,
        folder: Path,
        slide: Path,
        exact: _Blurred,
        *,
        promise: HeatmapCertificate,
        fast: Predictor | None = None,
        method: Method = DENSE,
        outside: str = "",
        sections: Sequence[SectionRecord] = (),
        target_mpp: float = MPP,
    ) -> None:
        self.slide, self.sections, self.target_mpp, self.method = slide, sections, target_mpp, method
        self.path, self.whole_path = folder / "a.ozx", folder / "whole.ozx"
        self.fast = _Off(exact, 4) if fast is None else fast
        self.settling = settling(exact, promise, outside=outside)
        whole = mark(slide, orders=[order(self.whole_path, exact)], sections=sections, target_mpp=target_mpp)
        self.num_whole = exact.num_patches
        self.exact_rows = self._rows(whole, self.whole_path)
        self.settle()

    def settle(self, sections: Sequence[SectionRecord] | None = None, *, is_there: bool = False) -> MarkedSlide:
        self.sections = self.sections if sections is None else sections
        settled = SettledOrder(
            order=order(self.path, self.fast, self.method), settling=self.settling, is_there=is_there
        )
        marked = mark(self.slide, settled=settled, sections=self.sections, target_mpp=self.target_mpp)
        self.rows = self._rows(marked, self.path)
        self.marked = marked
        return marked

    @staticmethod
    def _rows(marked: MarkedSlide, path: Path) -> dict[tuple[str, str], dict[str, Any]]:
        rows = marked.rows(Heatmap(path), phantom_weights=False)
        return {(row["section_id"], row["psi"]): row for row in rows}

    @property
    def reached(self) -> dict[str, str]:
        """How the verdict on each section was reached."""
        return {section: row["reached_by"] for (section, psi), row in self.rows.items() if psi == "psi_4"}

    def verdicts(self, rows: Mapping[tuple[str, str], Mapping[str, Any]], t_a_um2: float) -> dict[str, Any]:
        step = round(_T_P * 255 + 0.5)
        return {
            section: (row["largest_region_px"][step] * row["mpp"] ** 2 >= t_a_um2, row["coverage"] >= 1)
            for (section, psi), row in rows.items()
            if psi == "psi_4"
        }


def same_row(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two rows are equal but for times and how they were reached."""
    names = set(one) - _TIMES - _HOW
    return all(repr(one[name]) == repr(other[name]) for name in names)


def box(section_id: str, x: int, y: int, width: int, height: int) -> SectionRecord:
    return SectionRecord(slide_id="a", section_id=section_id, label=None, box_level0_px=Box(x, y, width, height))


def test_an_open_section_is_that_of_a_whole_exact_run_to_the_bit_and_the_others_stay_fast(
    tmp_path: Path, slide: Path, exact: _Blurred
) -> None:
    before = exact.num_patches
    run = _Run(tmp_path, slide, exact, promise=certificate())
    assert run.reached == {"a-s0": "certified", "a-s1": "certified", "a-s2": "certified", "a-s3": "recomputed"}
    for (section, psi), row in run.rows.items():
        assert same_row(row, run.exact_rows[section, psi]) == (section == "a-s3")
    # The exact way saw the patches over the cells of that section alone, beside those of the whole exact run.
    assert run.marked.exact_tally is not None
    assert 0 < run.marked.exact_tally.num_patches < (run.num_whole - before) / 2
    heatmap, whole = Heatmap(run.path), Heatmap(run.whole_path)
    cells = heatmap.exact_cells
    assert cells.any()
    assert (cells <= heatmap.tissue_cells).all()
    for psi in heatmap.outputs:
        edge = 256 // pixel_px(psi)
        shown, expected = (each.read(psi, each.box_target_px) for each in (heatmap, whole))
        inside = cells.repeat(edge, axis=0).repeat(edge, axis=1)[: shown.shape[0], : shown.shape[1]]
        assert (shown[inside] == expected[inside]).all()
        assert (shown[~inside] != expected[~inside]).any()
    assert (heatmap.coverage[heatmap.tissue_cells] == heatmap.attributes.full_coverage).all()


@pytest.mark.parametrize(("t_a_um2", "method"), [(800.0, DENSE), (30_000.0, EXACT), (48_000.0, DENSE)])
def test_all_verdicts_are_the_exact_ones_where_the_bound_holds(
    tmp_path: Path, slide: Path, exact: _Blurred, t_a_um2: float, method: Method
) -> None:
    run = _Run(tmp_path, slide, exact, promise=certificate(t_a_um2=t_a_um2), method=method)
    assert run.verdicts(run.rows, t_a_um2) == run.verdicts(run.exact_rows, t_a_um2)
    assert set(run.reached.values()) <= {"certified", "recomputed"}
    on_final = [row for row in run.rows.values() if row["is_final"]]
    assert all(row["levels_apart"] <= 12 for row in on_final if row["reached_by"] == "recomputed")
    assert {row["reached_by"] for row in run.rows.values() if not row["is_final"]} <= {"fast", "recomputed"}


def test_a_bound_of_256_levels_makes_the_whole_run_exact(tmp_path: Path, slide: Path, exact: _Blurred) -> None:
    run = _Run(tmp_path, slide, exact, promise=certificate(levels=256))
    assert set(run.reached.values()) == {"recomputed"}
    assert all(same_row(row, run.exact_rows[key]) for key, row in run.rows.items())
    assert {row["certificate_levels"] for row in run.rows.values()} == {256}


def test_checked_sections_say_how_far_the_exact_curve_was(tmp_path: Path, slide: Path, exact: _Blurred) -> None:
    run = _Run(tmp_path, slide, exact, promise=certificate(check_share=1.0, levels=1), fast=_Off(exact, 9))
    assert {"checked"} <= set(run.reached.values()) <= {"checked", "recomputed"}
    assert all(same_row(row, run.exact_rows[key]) for key, row in run.rows.items())
    apart = {key[0]: row["levels_apart"] for key, row in run.rows.items() if row["is_final"]}
    # A bound that is too small is seen to be.
    assert max(apart.values()) > 1
    assert {row["levels_apart"] for row in run.rows.values() if not row["is_final"]} == {None}


def test_a_share_is_drawn_the_same_way_each_time(tmp_path: Path, slide: Path, exact: _Blurred) -> None:
    share = certificate(check_share=0.4, t_a_um2=48_000.0)
    runs = [_Run(tmp_path / name, slide, exact, promise=share) for name in ("one", "other")]
    assert runs[0].reached == runs[1].reached
    assert set(runs[0].reached.values()) >= {"certified", "checked"}


def test_a_slide_unlike_those_that_were_calibrated_is_computed_exactly(
    tmp_path: Path, slide: Path, exact: _Blurred
) -> None:
    run = _Run(tmp_path, slide, exact, promise=certificate(), outside="mean_red is 3")
    assert set(run.reached.values()) == {"outside"}
    assert all(same_row(row, run.exact_rows[key]) for key, row in run.rows.items())
    saved = Heatmap(run.path).attributes.certificate
    assert saved is not None
    assert saved.outside == "mean_red is 3"


def test_a_neighbour_that_shares_a_cell_is_computed_with_an_open_section(
    tmp_path: Path, slide: Path, exact: _Blurred
) -> None:
    # The right island as two boxes, of which the upper one has the most tumor and would be certified alone.
    halves = [box("other", 60, 80, 420, 560), box("upper", 1500, 100, 330, 500), box("lower", 1500, 600, 330, 400)]
    run = _Run(tmp_path, slide, exact, promise=certificate(), sections=halves)
    open_alone = [section for section, how in run.reached.items() if how == "recomputed"]
    assert len(open_alone) == 1
    assert run.reached == {"other": "certified", "upper": run.reached["upper"], "lower": run.reached["lower"]}
    assert {run.reached["upper"], run.reached["lower"]} == {"recomputed", "checked"}
    assert all(same_row(run.rows[key], run.exact_rows[key]) for key in run.rows if key[0] != "other")


def test_rows_are_made_anew_of_other_boxes_and_what_is_open_then_is_computed_then(
    tmp_path: Path, slide: Path, exact: _Blurred
) -> None:
    boxes = [box("low", 820, 700, 300, 420), box("left", 60, 80, 420, 560)]
    run = _Run(tmp_path, slide, exact, promise=certificate(), sections=boxes)
    assert run.reached == {"low": "recomputed", "left": "certified"}
    digest = run.path.read_bytes()
    again = run.settle([replace(each, labelled_by="somebody") for each in boxes], is_there=True)
    assert again.exact_tally is not None
    assert again.exact_tally.num_patches == 0
    assert run.path.read_bytes() == digest
    apart = run.rows["low", "psi_4"]["levels_apart"]
    assert run.reached == {"low": "recomputed", "left": "certified"}
    assert 0 < apart <= 12
    # Half of the left island is another section, which may be open where the whole was not.
    run.settle([boxes[0], box("half", 60, 80, 210, 560)], is_there=True)
    assert run.reached["low"] == "recomputed"
    assert run.rows["low", "psi_4"]["levels_apart"] == apart
    whole = mark(slide, sections=run.sections)
    expected = run._rows(whole, run.whole_path)
    for key, row in run.rows.items():
        assert row["reached_by"] in ("certified", "fast") or same_row(row, expected[key])
    assert run.verdicts(run.rows, 5120.0) == run.verdicts(expected, 5120.0)


def test_a_section_across_fast_and_exact_cells_is_neither_and_is_never_entered(
    tmp_path: Path, slide: Path, exact: _Blurred
) -> None:
    run = _Run(tmp_path, slide, exact, promise=certificate())
    across = [box("across", 800, 60, 1100, 1060)]
    unsettled = mark(slide, sections=across)
    with pytest.raises(LedgerError, match="neither certified nor computed exactly"):
        run._rows(unsettled, run.path)
    run.settle(across, is_there=True)
    assert run.reached == {"across": "recomputed"}
    expected = run._rows(mark(slide, sections=across), run.whole_path)
    assert all(same_row(row, expected[key]) for key, row in run.rows.items())


def test_a_section_that_was_not_read_whole_is_computed_exactly(tmp_path: Path, exact: _Blurred) -> None:
    slide = write_slide(tmp_path / "a.tif", tissue_picture())
    damage_tile(slide, 9)
    run = _Run(tmp_path, slide, exact, promise=certificate(t_a_um2=500.0))
    assert "recomputed" in run.reached.values()
    for key, row in run.rows.items():
        if row["coverage"] < 1:
            assert row["reached_by"] == "recomputed"
            assert row["levels_apart"] is None
            assert same_row(row, run.exact_rows[key])
    assert run.verdicts(run.rows, 500.0) == run.verdicts(run.exact_rows, 500.0)


def test_a_slide_that_is_resampled_gives_the_same_bits(tmp_path: Path, slide: Path, exact: _Blurred) -> None:
    run = _Run(tmp_path, slide, exact, promise=certificate(t_a_um2=2000.0), target_mpp=MPP * 1.37)
    computed = [key for key, row in run.rows.items() if row["reached_by"] in ("recomputed", "checked")]
    assert 0 < len(computed) < len(run.rows)
    assert all(same_row(run.rows[key], run.exact_rows[key]) for key in computed)


def test_a_network_that_ends_early_stands_for_its_final_output(tmp_path: Path, slide: Path, exact: _Blurred) -> None:
    fast = EarlyPredictor(_First(exact), final="psi_4")
    promise = certificate(psi="psi_0", levels=30, t_a_um2=20_000.0)
    run = _Run(tmp_path, slide, exact, promise=promise, fast=fast, method=replace(EXACT, exit="psi_0"))
    assert set(run.reached.values()) == {"certified", "recomputed"}
    assert {psi for _, psi in run.rows} == {"psi_0", "psi_4"}
    assert run.verdicts(run.rows, 20_000.0) == run.verdicts(run.exact_rows, 20_000.0)
    for key, row in run.rows.items():
        assert row["reached_by"] in ("certified", "fast") or same_row(row, run.exact_rows[key])


class _First:
    outputs: tuple[Psi, ...] = ("psi_0",)

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        return {"psi_0": self._predictor(patches_NPP3)["psi_0"]}


def test_a_killed_run_leaves_nothing_and_the_next_one_makes_the_same(
    tmp_path: Path, slide: Path, exact: _Blurred
) -> None:
    run = _Run(tmp_path, slide, exact, promise=certificate())
    expected = run.rows
    run.path.unlink()
    run.settling = replace(run.settling, exact=replace(run.settling.exact, predictors=[_Dies()]))
    with pytest.raises(KeyboardInterrupt):
        run.settle()
    assert list(tmp_path.glob("a.ozx*")) == []
    run.settling = settling(exact, certificate())
    run.settle()
    assert all(same_row(row, expected[key]) for key, row in run.rows.items())


class _Dies:
    outputs = _Blurred.outputs

    def __call__(self, _patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        raise KeyboardInterrupt


def test_a_slide_without_a_section_has_a_heatmap_and_no_row(tmp_path: Path, exact: _Blurred) -> None:
    slide = write_slide(tmp_path / "a.tif", tissue_picture([(60, 80, 50, 50)]))
    run = _Run(tmp_path, slide, exact, promise=certificate())
    assert run.rows == {}
    assert run.path.exists()
