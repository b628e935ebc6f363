"""Quality of Test stands beside the reference's, with limits, counts and what was not measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_folders import ledger_row, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.tables.quality import write_quality
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import NothingToShowError
from bccdist.parts import Part
from bccdist.paths import StudyPaths


def study_of(folder: Path, *, is_measured: bool = True, num_slides: int = 10, blurred: int = 2) -> StudyPaths:
    """A study of as many slides of Validation II and of Test, two sections each, of which some of Test are blurred."""
    rng = np.random.default_rng(0)
    rows = []
    for part in ("Validation II", "Test"):
        for number in range(2 * num_slides):
            measured: dict[str, Any] = {
                "focus": -2.0 if part == "Test" and number < blurred else rng.normal(-0.05, 0.02),
                "compression": None,
                "stain_density": rng.normal(1, 0.05),
                "stain_hue": rng.normal(0.3, 0.02),
                **dict.fromkeys(("ink_share", "fold_share", "air_share"), 0.0),
                "features": rng.normal(1, 0.2, 8).tolist(),
            }
            rows.append(
                ledger_row(
                    part=part,
                    slide_id=f"{part[:3]}-{number // 2}",
                    section_id=f"{part[:3]}-{number}",
                    label="Tumor" if number % 2 else "Normal",
                    **(measured if is_measured else {}),
                )
            )
    paths = write_study(folder, rows)
    select_thresholds(paths.root, SelectConfig())
    return paths


def test_blurred_sections_of_a_study_are_counted_and_change_no_verdict(tmp_path: Path) -> None:
    study = Evidence(study_of(tmp_path).root)
    table = write_quality(study)
    frame = table.frame.set_index("measure")
    assert frame.loc["focus", "num_beyond"] == 2
    assert frame.loc["compression", "num_measured"] == 0
    assert frame["num_not_assessable"].tolist() == [0] * len(frame)
    assert frame.loc["focus", "limit_low"] < frame.loc["focus", "reference_low"] < -0.04
    assert "Beyond a limit by resnet34_ds: 2 of 20 sections; a study's verdicts do not change." in table.notes
    assert (study.paths.figures / "quality.png").exists()
    assert set(study.verdicts(Part.TEST)["verdict"]) == {"Tumor"}


def test_with_too_few_slides_absolute_limits_judge_and_the_table_says_so(tmp_path: Path) -> None:
    table = write_quality(Evidence(study_of(tmp_path, num_slides=4).root))
    assert table.frame["num_beyond"].sum() == 2
    assert table.frame["reference_low"].isna().all()
    assert "By absolute limits alone of resnet34_ds: the model's reference has quality of 4 slide(s)" in " ".join(
        table.notes
    )


def test_heatmaps_of_before_make_no_table(tmp_path: Path) -> None:
    with pytest.raises(NothingToShowError, match="made before quality was measured"):
        write_quality(Evidence(study_of(tmp_path, is_measured=False).root))
