"""Synthetic studies for the tests of the analysis: a ledger and metrics, without slides or networks."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.files import digest_of, write_json
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import write_rows
from bccdist.slides.quality_measures import MEASURES


def write_claimed(path: Path, values: dict[str, Any]) -> None:
    """A folder's config.json with these values alone."""
    write_json(path, {**values, "digest": digest_of(values)})


def flat_curve(*, top_step: int, num_px: int) -> NDArray[np.uint32]:
    """The curve of one region of `num_px` pixels that all have the value `top_step`."""
    curve = np.zeros(256, dtype=np.uint32)
    curve[: top_step + 1] = num_px
    return curve


def flat_margins(*, top_step: int, margin_um: float) -> NDArray[np.float32]:
    """The margins of a section whose nearest pixels all have the value `top_step`."""
    margins_um = np.full(256, np.nan, dtype=np.float32)
    margins_um[: top_step + 1] = margin_um
    return margins_um


TUMOR_CURVE = flat_curve(top_step=250, num_px=50_000)
NORMAL_CURVE = flat_curve(top_step=10, num_px=50_000)


_CERTIFICATE = ("levels", "confidence", "num_slides", "t_p", "t_a_um2", "area_unit")


def ledger_row(**changes: Any) -> dict[str, Any]:
    """A row of the ledger, with the values of `changes` in place of plain ones."""
    row: dict[str, Any] = {
        "slide_id": "slide-0",
        "section_id": "section-0",
        "part": "Validation II",
        "setting": "resnet34_ds",
        "epoch": 1,
        "psi": "psi_4",
        "is_final": True,
        "x_level0_px": 0,
        "y_level0_px": 0,
        "width_level0_px": 100,
        "height_level0_px": 100,
        "label": "Tumor",
        "labelled_by": "reader",
        "labelled_at": "2021-01-01",
        "prefilled": "",
        "tissue_um2": 1e6,
        "coverage": 1.0,
        "mpp": 1.0,
        "pixel_px": 1,
        "largest_region_px": TUMOR_CURVE,
        "margin_um": flat_margins(top_step=250, margin_um=120.0),
        "max_probability": 0.98,
        "p99_probability": 0.9,
        "reached_by": "exact",
        "levels_apart": None,
        **dict.fromkeys((f"certificate_{name}" for name in _CERTIFICATE), None),
        "read_s": 1.0,
        "network_s": 1.0,
        "weights_digest": "abcdefabcdef",
        "config_digest": "012345012345",
        "slide_fingerprint": "543210543210",
        "phantom": False,
        "phantom_weights": False,
        "reader": "tiles",
        "why_openslide": "",
        **dict.fromkeys((*MEASURES, "features", "not_assessable")),
    }
    assert set(changes) <= set(row)
    row |= changes
    for name in ("largest_region_px", "margin_um"):
        row[name] = np.asarray(row[name]).tolist()
    return row


def sections(*, tp: int, fn: int, fp: int, tn: int, review: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """Rows that any sensible thresholds judge as the counts say."""
    kinds = [
        *[("Tumor", TUMOR_CURVE, 1.0)] * tp,
        *[("Tumor", NORMAL_CURVE, 1.0)] * fn,
        *[("Normal", TUMOR_CURVE, 1.0)] * fp,
        *[("Normal", NORMAL_CURVE, 1.0)] * tn,
        *[("Normal", NORMAL_CURVE, 0.5)] * review,
    ]
    part = changes.get("part", "Validation II").replace(" ", "-")
    return [
        ledger_row(
            **{
                "slide_id": f"{part}-{number // 100:04d}",
                "section_id": f"{part}-section-{number:04d}",
                "label": label,
                "largest_region_px": curve,
                "coverage": coverage,
                **changes,
            }
        )
        for number, (label, curve, coverage) in enumerate(kinds)
    ]


def write_study(root: Path, rows: Iterable[dict[str, Any]], *, iou: dict[int, float] | None = None) -> StudyPaths:
    """Write rows to a study's ledger, and metrics for their settings.

    Args:
        root: the study's folder.
        rows: ledger rows.
        iou: of the final output, by epoch; 0.5 for every epoch of the rows by default.
    """
    paths = StudyPaths(root)
    files: dict[Path, list[dict[str, Any]]] = {}
    for row in rows:
        files.setdefault(paths.ledger_rows(row["setting"], row["epoch"], row["slide_id"]), []).append(row)
    for path, content in files.items():
        write_rows(path, content)
    settings = {row["setting"] for content in files.values() for row in content}
    for setting in settings:
        epochs = {row["epoch"] for content in files.values() for row in content if row["setting"] == setting}
        write_metrics(paths, setting, iou or dict.fromkeys(epochs, 0.5))
    return paths


def write_study_of_test(root: Path, found: Iterable[tuple[str, str, int]]) -> StudyPaths:
    """A study with a selection whose Test has these sections: each its slide, label and highest step."""
    rows = [
        ledger_row(
            part="Test",
            slide_id=slide_id,
            section_id=f"s{number}",
            label=label,
            largest_region_px=flat_curve(top_step=step, num_px=50_000),
        )
        for number, (slide_id, label, step) in enumerate(found)
    ]
    paths = write_study(root, [*sections(tp=9, fn=1, fp=1, tn=9), *rows])
    select_thresholds(paths.root, SelectConfig())
    return paths


def write_metrics(paths: StudyPaths, setting: str, iou: dict[int, float]) -> None:
    """Write the metrics of a run that keeps five epochs; its first output has a misleading IoU."""
    path = paths.run(setting).metrics
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"setting": setting, "epoch": epoch, "psi": psi, "is_final": psi == "psi_4", "iou": value, "phantom": False}
        for epoch, final in iou.items()
        for psi, value in (("psi_0", 1 - final), ("psi_4", final))
    ]
    pd.DataFrame(rows).to_parquet(path)
    if not paths.run(setting).config.exists():
        write_claimed(paths.run(setting).config, {"keep_best": 5})


def verdict_rows(*sections: tuple[str, str | None, str]) -> pd.DataFrame:
    """Verdicts as `all_verdicts` gives them, from (slide_id, label, verdict) of sections s0, s1, ..."""
    frame = pd.DataFrame(sections, columns=["slide_id", "label", "verdict"])
    correct = pd.array(frame["verdict"] == frame["label"], dtype="boolean")
    correct[frame["label"].isna() | (frame["verdict"] == "review")] = pd.NA
    return frame.assign(
        section_id=[f"s{number}" for number in range(len(frame))],
        correct=correct,
        phantom=False,
        phantom_weights=False,
    )
