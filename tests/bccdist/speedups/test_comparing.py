"""A faster way is compared on covered tissue alone, in steps of stored probability and in verdicts."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bccdist.configuration import Psi, pixel_px
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, writing_heatmap
from bccdist.parts import Part
from bccdist.slides.geometry import Box
from bccdist.slides.sections import Section
from bccdist.speedups.comparing import Comparison, verdicts_by_name
from bccdist.speedups.record import Thresholds

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


def test_every_output_counts_for_the_largest_difference_and_the_final_one_for_the_mean(
    reference: Heatmap, tmp_path: Path
) -> None:
    pixels = np.full(_SIZE_PX[::-1], 100, dtype=np.uint8)
    pixels[::16, ::16] = 130
    other = _heatmap(tmp_path / "other.ozx", pixels, outputs=("psi_0",))
    found = Comparison()
    found.add(reference, other, t_p=0.5)
    assert (found.max_steps, found.sum_steps, found.num_pixels) == (30, 0, 0)


def test_verdicts_are_named_by_section_and_output(tmp_path: Path) -> None:
    pixels = np.zeros(_SIZE_PX[::-1], dtype=np.uint8)
    pixels[300:400, 20:120] = 200
    pixels[::16, ::16] = 0
    sections = [Section(section_id="left", box_level0_px=Box(0, 0, 512, 512))]
    tissue = np.zeros((64, 128), dtype=bool)
    tissue[:, :64] = True
    heatmap = _heatmap(tmp_path / "a.ozx", pixels)
    thresholds = Thresholds(t_p=0.5, t_a_um2=5000)
    found = verdicts_by_name(heatmap, sections, tissue, part=Part.TEST, thresholds=thresholds)
    assert found == {"left/psi_0": "Normal", "left/psi_4": "Tumor"}
    assert verdicts_by_name(heatmap, [], tissue, part=Part.TEST, thresholds=thresholds) == {}
