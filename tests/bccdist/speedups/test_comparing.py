"""A faster way is compared on covered tissue alone, in steps of stored probability and in verdicts."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from bccdist.configuration import Psi, pixel_px
from bccdist.errors import LedgerError
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, writing_heatmap
from bccdist.parts import Part
from bccdist.sections.choices import Thresholds
from bccdist.sections.rows import section_rows
from bccdist.slides.geometry import Box
from bccdist.slides.sections import Section
from bccdist.speedups.comparing import Comparison, score_of, verdicts_by_name

_SIZE_PX = (1024, 512)
_OUTPUTS: tuple[Psi, ...] = ("psi_0", "psi_4")
_TISSUE_CELLS = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], dtype=bool)


def _heatmap(
    path: Path, pixels: NDArray[np.uint8], *, coverage: int = 4, outputs: tuple[Psi, ...] = _OUTPUTS
) -> Heatmap:
    """A heatmap of psi_4's pixels [512, 1024]; psi_0 takes the first of each 16 x 16."""
    attributes = HeatmapAttributes(
        slide_id="a",
        setting="resnet34_ds",
        epoch=1,
        outputs=outputs,
        mpp=1.0,
        downsample=1.0,
        size_level0_px=_SIZE_PX,
        size_target_px=_SIZE_PX,
        weights_digest="",
        config_digest="",
        slide_fingerprint="",
        phantom=True,
    )
    covered = np.full(_TISSUE_CELLS.shape, 4, dtype=np.uint8)
    covered[0, 0] = coverage
    with writing_heatmap(path, outputs=outputs, size_target_px=_SIZE_PX, mpp=1.0) as writer:
        writer.append({psi: pixels[:: pixel_px(psi), :: pixel_px(psi)] for psi in outputs})
        writer.finish(attributes, coverage=covered, tissue_cells=_TISSUE_CELLS)
    return Heatmap(path)


@pytest.fixture
def reference(tmp_path: Path) -> Heatmap:
    return _heatmap(tmp_path / "reference.ozx", np.full(_SIZE_PX[::-1], 100, dtype=np.uint8))


def test_a_heatmap_differs_in_nothing_from_itself(reference: Heatmap) -> None:
    found = Comparison()
    found.add(reference, reference, t_p=0.5)
    assert found.differences == {"max_difference": 0, "mean_difference": 0, "crossing_share": 0}
    assert found.num_pixels == 4 * 256**2


def test_differences_count_below_and_above_on_covered_tissue_alone(reference: Heatmap, tmp_path: Path) -> None:
    pixels = np.full(_SIZE_PX[::-1], 100, dtype=np.uint8)
    pixels[0, :256] = 255  # in a cell that the other one does not cover
    pixels[:, 512:] = 255  # on glass
    pixels[300, 1:101] = 200
    pixels[301, 1:101] = 0
    found = Comparison()
    found.add(reference, _heatmap(tmp_path / "other.ozx", pixels, coverage=3), t_p=0.5)
    assert found.num_pixels == 3 * 256**2
    assert (found.max_steps, found.sum_steps, found.num_crossing) == (100, 200 * 100, 100)


def test_every_output_counts_for_the_largest_difference_and_the_last_one_for_the_mean(
    reference: Heatmap, tmp_path: Path
) -> None:
    pixels = np.full(_SIZE_PX[::-1], 100, dtype=np.uint8)
    pixels[::16, ::16] = 130
    other = _heatmap(tmp_path / "other.ozx", pixels, outputs=("psi_0",))
    found = Comparison()
    found.add(reference, other, t_p=0.5)
    # The way ends at psi_0, so that its pixels are counted.
    assert (found.max_steps, found.sum_steps, found.num_pixels) == (30, 4 * 16**2 * 30, 4 * 16**2)


def test_verdicts_are_named_by_section_and_output(tmp_path: Path) -> None:
    pixels = np.zeros(_SIZE_PX[::-1], dtype=np.uint8)
    pixels[300:400, 20:120] = 200
    pixels[::16, ::16] = 0
    sections = [Section(section_id="left", box_level0_px=Box(0, 0, 512, 512))]
    tissue = np.zeros((64, 128), dtype=bool)
    tissue[:, :64] = True
    heatmap = _heatmap(tmp_path / "a.ozx", pixels)
    thresholds = Thresholds(t_p=0.5, t_a_um2=5000)
    rows = list(section_rows(heatmap, sections, tissue, part=Part.TEST, phantom_weights=False))
    assert verdicts_by_name(rows, thresholds) == {"left/psi_0": "Normal", "left/psi_4": "Tumor"}
    assert verdicts_by_name([], thresholds) == {}


def _row(psi: str, curve: NDArray[np.int64], *, section_id: str = "a", mpp: float = 1.0) -> dict[str, Any]:
    """What a score looks at of a ledger row."""
    curve = curve.astype(np.uint32)
    return {
        "section_id": section_id,
        "psi": psi,
        "is_final": psi == "psi_4",
        "mpp": mpp,
        "pixel_px": pixel_px(cast("Psi", psi)),
        "largest_region_px": curve.tolist(),
        "coverage": 1.0,
    }


def test_a_slides_score_is_that_of_its_worst_section() -> None:
    steps, thresholds = np.arange(256), Thresholds(t_p=0.5, t_a_um2=7500)
    exact = [_row("psi_4", 20_000 - 100 * steps, section_id="a"), _row("psi_4", 15_000 - 40 * steps, section_id="b")]
    fast = [
        _row("psi_4", 20_000 - 100 * (steps + 3), section_id="a"),
        _row("psi_4", 15_000 - 40 * (steps - 9), section_id="b"),
    ]
    score = score_of(exact, fast, "psi_4", thresholds)
    assert score is not None
    assert score.levels == 9
    assert len(score.flip_levels) == 2
    assert score.flip_levels[0] < score.flip_levels[1]


def test_the_coarse_pixels_of_psi_0_are_compared_by_their_area() -> None:
    steps, thresholds = np.arange(256), Thresholds(t_p=0.5, t_a_um2=9000)
    exact = [_row("psi_4", 25_650 - 100 * steps)]
    coarse = [_row("psi_0", (25_650 - 100 * steps) // 256), _row("psi_4", 0 * steps)]
    score = score_of(exact, coarse, "psi_0", thresholds)
    assert score is not None
    # A pixel of 256 um2 is as much as 2.56 steps of this curve.
    assert 0 < score.levels <= 3


def test_rows_of_other_sections_are_not_compared() -> None:
    thresholds = Thresholds(t_p=0.5, t_a_um2=5000)
    flat = np.zeros(256, dtype=np.int64)
    with pytest.raises(LedgerError, match="the exact rows are of the sections a, the fast ones of b"):
        score_of([_row("psi_4", flat)], [_row("psi_4", flat, section_id="b")], "psi_4", thresholds)
    assert score_of([], [], "psi_4", thresholds) is None
