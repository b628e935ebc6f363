"""The map of the grid marks the choice and the cells that hang together with it."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from study_folders import sections, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from analysis.tables.stability import score_map, write_stability
from bccdist.configuration import SelectConfig
from bccdist.errors import LedgerError
from bccdist.sections.choices import Choice

CHOICE = Choice(
    setting="resnet34_ds",
    epoch=1,
    psi="psi_4",
    t_p=0.2,
    t_a_um2=200.0,
    beta=1.5,
    area_unit="physical",
    weights_digest="w",
)


def grid_of(scores: list[list[float]]) -> pd.DataFrame:
    """Rows are t_p 0.1, 0.2, ..., columns t_A 100, 200, ..."""
    return pd.DataFrame(
        [
            {
                "setting": "resnet34_ds",
                "epoch": 1,
                "t_p": (row + 1) / 10,
                "t_a_um2": 100.0 * (col + 1),
                "f_beta": value,
            }
            for row, line in enumerate(scores)
            for col, value in enumerate(line)
        ]
    )


def test_the_plateau_is_what_hangs_together_with_the_choice() -> None:
    scores = score_map(grid_of([[0.9, 0.95, 0.9], [0.96, 0.96, 0.5], [0.5, 0.5, 0.96]]), CHOICE)
    expected = np.array([[False, True, False], [True, True, False], [False, False, False]])
    assert (scores.plateau(0.01) == expected).all()


def test_equal_scores_belong_to_it_without_tolerance() -> None:
    scores = score_map(grid_of([[0.9, 0.95], [0.96, 0.96]]), CHOICE)
    assert scores.plateau(0).tolist() == [[False, False], [True, True]]


def test_unknown_scores_are_outside() -> None:
    scores = score_map(grid_of([[float("nan"), float("nan")], [0.96, 0.96]]), CHOICE)
    assert scores.plateau(0.5).tolist() == [[False, False], [True, True]]


def test_a_grid_without_the_choice_is_refused() -> None:
    with pytest.raises(LedgerError, match="no cell for resnet34_ds, epoch 1"):
        score_map(grid_of([[0.9]]), CHOICE)


def test_the_map_is_drawn_and_its_plateau_written(tmp_path: Path) -> None:
    paths = write_study(tmp_path, sections(tp=20, fn=1, fp=2, tn=20))
    select_thresholds(paths.root, SelectConfig())
    (row,) = write_stability(Evidence(paths.root)).frame.to_dict("records")
    # The synthetic curves are flat: every pair of thresholds below them gives the same verdicts.
    assert row["plateau_share"] > 0.5
    assert row["t_p_low"] <= row["t_p"] <= row["t_p_high"]
    image = cv2.imread(str(paths.figure("stability")))
    assert image is not None
    assert image.std() > 10
    before = paths.figure("stability").read_bytes()
    assert write_stability(Evidence(paths.root), tolerance=0.3).name == "stability_asked"
    assert paths.figure("stability").read_bytes() == before
