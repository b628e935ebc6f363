"""The selection judges every cell of the grid as a loop over sections would, and breaks ties as it says."""

import time
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
from study_folders import (
    NORMAL_CURVE,
    TUMOR_CURVE,
    flat_curve,
    ledger_row,
    sections,
    write_claimed,
    write_metrics,
    write_study,
)

from analysis.tables.selection import (
    SELECTION_PARTS,
    area_thresholds_um2,
    best_cell,
    prediction_thresholds,
    select,
    select_thresholds,
    setting_grid,
)
from bccdist.configuration import SETTINGS, SelectConfig
from bccdist.errors import LedgerError
from bccdist.heatmaps.probability import step_of
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections import ledger
from bccdist.sections.choices import read_choices
from bccdist.sections.section_rows import SectionRows, rows_of
from bccdist.slides.manifest import Manifest
from bccdist.stages.epochs import resolve_epochs
from bccdist.stages.table import SELECTION
from bccdist.training.reporting.metrics import read_best_epochs

CONFIG = SelectConfig()


def random_rows(*, num_sections: int, epochs: range, settings: tuple[str, ...] = ("unet",)) -> SectionRows:
    """Sections whose curves fall at random, some of them not read whole."""
    random = np.random.default_rng(0)
    keys = [(setting, epoch, number) for setting in settings for epoch in epochs for number in range(num_sections)]
    frame = pd.DataFrame(keys, columns=["setting", "epoch", "number"])
    names = frame.pop("number").map("section-{:04d}".format)
    labels = random.choice(["Tumor", "Normal"], num_sections)
    frame = frame.assign(
        slide_id=names,
        section_id=names,
        label=np.tile(labels, len(keys) // num_sections),
        psi="psi_4",
        mpp=random.uniform(0.8, 1.0, len(keys)),
        pixel_px=random.choice([1, 16], len(keys)),
        coverage=random.choice([1.0, 0.7], len(keys), p=[0.9, 0.1]),
        weights_digest="a" * 12,
        phantom=True,
        phantom_weights=True,
    )
    curves = np.sort(random.integers(0, 200, (len(keys), 256), dtype=np.uint32))[:, ::-1]
    return SectionRows(frame, curves, np.full(curves.shape, np.nan, dtype=np.float32))


def count_by_loop(rows: SectionRows, epoch: int, t_p: float, t_a_um2: float) -> dict[str, int]:
    counts = dict.fromkeys(("tp", "fn", "fp", "tn", "num_review"), 0)
    for row, curve in zip(rows.frame.itertuples(), rows.curves, strict=True):
        if row.epoch != epoch:
            continue
        area_um2 = int(curve[step_of(t_p)]) * (row.pixel_px * row.mpp) ** 2
        if area_um2 >= t_a_um2 and area_um2 > 0:
            counts["tp" if row.label == "Tumor" else "fp"] += 1
        elif row.coverage < 1:
            counts["num_review"] += 1
        else:
            counts["fn" if row.label == "Tumor" else "tn"] += 1
    return counts


def test_thresholds_are_the_papers_grid() -> None:
    t_p, t_a_um2 = prediction_thresholds(CONFIG), area_thresholds_um2(CONFIG)
    assert t_p.tolist() == [round(0.05 * step, 2) for step in range(1, 20)]
    assert t_a_um2.tolist() == [1280.0 * step for step in range(1, 17)]
    assert {2560, 3840, 5120, 8960} <= set(t_a_um2)
    assert prediction_thresholds(SelectConfig(probability_step=0.3)).tolist() == [0.3, 0.6]


def test_every_cell_is_what_a_loop_counts() -> None:
    rows = random_rows(num_sections=60, epochs=range(1, 4))
    grid = setting_grid(rows, CONFIG)
    assert len(grid) == 3 * 19 * 16
    for cell in grid.sample(25, random_state=1).to_dict("records"):
        expected = count_by_loop(rows, cell["epoch"], cell["t_p"], cell["t_a_um2"])
        assert {name: cell[name] for name in expected} == expected


def test_whole_grid_is_quick(tmp_path: Path) -> None:
    rows = random_rows(num_sections=1000, epochs=range(1, 6), settings=SETTINGS)
    paths = StudyPaths(tmp_path)
    for setting in SETTINGS:
        write_metrics(paths, setting, dict.fromkeys(range(1, 6), 0.5))
    # The processor's time: other work on the machine is not the selection's.
    start = time.process_time()
    grid, selection = select(paths, rows, CONFIG)
    assert time.process_time() - start < 2
    assert len(grid) == 4 * 5 * 19 * 16
    assert selection["setting"].tolist() == list(SETTINGS)


EPOCH_RANKING = [7, 3, 1]


def cells(*changes: dict[str, float]) -> pd.DataFrame:
    plain = {"f_beta": 0.9, "accuracy": 0.9, "specificity": 0.9, "t_a_um2": 2560.0, "epoch": 3, "t_p": 0.5}
    return pd.DataFrame([{**plain, **change} for change in changes])


@pytest.mark.parametrize(
    ("loser", "winner"),
    [
        ({"accuracy": 0.99}, {"f_beta": 0.91}),
        ({"specificity": 0.99}, {"accuracy": 0.91}),
        ({"t_a_um2": 1280.0}, {"specificity": 0.91}),
        ({"epoch": 7}, {"t_a_um2": 1280.0}),
        ({"epoch": 1}, {"epoch": 7}),
        ({"t_p": 0.05}, {"epoch": 7}),
        ({}, {"t_p": 0.05}),
        ({"f_beta": float("nan"), "accuracy": 0.99}, {"f_beta": 0.0}),
        ({"f_beta": 0.9 + 1e-15}, {"accuracy": 0.91}),
    ],
)
def test_ties(loser: dict[str, float], winner: dict[str, float]) -> None:
    for grid in (cells(loser, winner), cells(winner, loser)):
        chosen = best_cell(grid, EPOCH_RANKING)
        assert {name: chosen[name] for name in winner} == winner


def test_best_epochs_follow_the_final_output(tmp_path: Path) -> None:
    paths = StudyPaths(tmp_path)
    write_metrics(paths, "unet", {1: 0.1, 2: 0.8, 3: 0.5, 4: 0.8, 5: float("nan"), 6: 0.7, 7: 0.2})
    assert read_best_epochs(paths.run("unet")) == [2, 4, 6, 3, 7]


def test_metrics_that_cannot_rank(tmp_path: Path) -> None:
    run = StudyPaths(tmp_path).run("unet")
    with pytest.raises(LedgerError, match="not trained yet; run"):
        read_best_epochs(run)
    write_claimed(run.config, {"keep_best": 5})
    with pytest.raises(LedgerError, match="train the setting first"):
        read_best_epochs(run)
    write_metrics(StudyPaths(tmp_path), "unet", {1: float("nan")})
    with pytest.raises(LedgerError, match="no epoch has an IoU"):
        read_best_epochs(run)
    twice = pd.concat([pd.read_parquet(run.metrics)] * 2)
    twice.to_parquet(run.metrics)
    with pytest.raises(LedgerError, match="stands there twice"):
        read_best_epochs(run)


def test_chosen_thresholds_split_the_sections(tmp_path: Path) -> None:
    """Tumor reaches 0.6 over 9,000 um2; Normal reaches 0.4 over any area, or 0.6 over 5,000 um2."""
    tumor = flat_curve(top_step=step_of(0.6), num_px=9000)
    normals = [flat_curve(top_step=step_of(0.4), num_px=10**6), flat_curve(top_step=step_of(0.6), num_px=5000)]
    rows = [
        ledger_row(slide_id=f"slide-{number}", section_id=f"section-{number}", label=label, largest_region_px=curve)
        for number, (label, curve) in enumerate([("Tumor", tumor), *(("Normal", curve) for curve in normals)])
    ]
    select_thresholds(write_study(tmp_path, rows).root, CONFIG)
    (choice,) = read_choices(StudyPaths(tmp_path))
    assert (choice.t_p, choice.t_a_um2) == (0.45, 5120.0)


def test_worse_epoch_on_sections_is_not_chosen_and_epochs_beyond_five_are_not_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, poor = sections(tp=4, fn=0, fp=0, tn=4, epoch=7), sections(tp=3, fn=1, fp=1, tn=3)
    rows = [*good, *({**row, "epoch": epoch} for epoch in range(1, 7) for row in poor)]
    iou = {1: 0.1, 2: 0.6, 3: 0.7, 4: 0.8, 5: 0.9, 6: 0.95, 7: 0.2}
    paths = write_study(tmp_path, rows, iou=iou)
    select_thresholds(paths.root, CONFIG)
    (choice,) = read_choices(paths)
    assert choice.epoch == 6
    write_metrics(paths, "resnet34_ds", {**iou, 7: 0.65})
    select_thresholds(paths.root, CONFIG)
    (choice,) = read_choices(paths)
    assert choice.epoch == 7
    assert "resnet34_ds" in capsys.readouterr().out


@pytest.mark.parametrize("more", [{2: 0.9}, {2: 0.1, 3: 0.2}], ids=["a better epoch", "worse ones"])
def test_a_choice_is_not_used_once_training_has_gone_on(tmp_path: Path, more: dict[int, float]) -> None:
    paths = write_study(tmp_path, sections(tp=4, fn=0, fp=0, tn=4))
    select_thresholds(paths.root, CONFIG)
    assert resolve_epochs(paths, "resnet34_ds", "chosen") == [1]
    manifest = cast("Manifest", None)  # not looked at
    assert SELECTION.progress(paths, manifest).is_whole
    write_metrics(paths, "resnet34_ds", {1: 0.5, **more})
    says = rf"out of date: resnet34_ds was trained for 1 epochs when it was made, and for {1 + len(more)} by now"
    with pytest.raises(LedgerError, match=says):
        read_choices(paths)
    with pytest.raises(LedgerError, match=says):
        resolve_epochs(paths, "resnet34_ds", "chosen")
    progress = SELECTION.progress(paths, manifest)
    assert (progress.is_whole, progress.detail) == (
        False,
        "resnet34_ds epoch 1, out of date: training has gone on",
    )
    select_thresholds(paths.root, CONFIG)
    assert [choice.epoch for choice in read_choices(paths)] == [1]
    assert SELECTION.progress(paths, manifest).is_whole


@pytest.mark.parametrize("keep_best", [2, 8])
def test_as_many_epochs_are_judged_as_the_run_keeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keep_best: int
) -> None:
    """Training and inference obey keep_best: of two kept epochs none is missing, and of eight the last counts too."""
    poor, good = sections(tp=3, fn=1, fp=1, tn=3), sections(tp=4, fn=0, fp=0, tn=4)
    kept = range(9 - keep_best, 9)
    rows = [{**row, "epoch": epoch} for epoch in kept for row in (good if epoch == kept[0] else poor)]
    paths = write_study(tmp_path, rows, iou={epoch: epoch / 10 for epoch in range(1, 9)})
    write_claimed(paths.run("resnet34_ds").config, {"keep_best": keep_best})
    select_thresholds(paths.root, CONFIG)
    (choice,) = read_choices(paths)
    assert (choice.epoch, "note:" in capsys.readouterr().out) == (kept[0], False)


def test_files_say_what_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = sections(tp=443, fn=2, fp=5, tn=634, review=3, phantom=True)
    unlabelled = ledger_row(slide_id="other", section_id="other", label=None, phantom=True)
    paths = write_study(tmp_path, [*rows, unlabelled])
    select_thresholds(paths.root, CONFIG)
    selection = pd.read_parquet(paths.selection).iloc[0]
    assert selection[["tp", "fn", "fp", "tn", "num_review", "num_sections"]].tolist() == [443, 2, 5, 634, 3, 1087]
    assert selection["phantom"]
    assert selection["weights_digest"] == "abcdefabcdef"
    assert len(pd.read_parquet(paths.grid)) == 19 * 16
    assert paths.sections.exists()
    printed = capsys.readouterr().out
    assert "0.994 |       0.996 |       0.992 | 0.993" in printed
    note, title, *_ = printed.splitlines()
    assert note == "note: 1 section(s) of Validation I + II have no label and are left out"
    assert "PHANTOM DATA - drawn slides, not tissue" in title


@pytest.mark.parametrize(
    ("counts", "found"), [((3, 0, 0, 0), "3 Tumor and 0 Normal"), ((0, 0, 1, 1), "0 Tumor and 2 Normal")]
)
def test_both_labels_are_needed(tmp_path: Path, counts: tuple[int, int, int, int], found: str) -> None:
    tp, fn, fp, tn = counts
    paths = write_study(
        tmp_path, [*sections(tp=tp, fn=fn, fp=fp, tn=tn), *sections(tp=9, fn=0, fp=9, tn=0, part="Test")]
    )
    with pytest.raises(LedgerError, match=found):
        select_thresholds(paths.root, CONFIG)
    assert not paths.selection.exists()


def test_epochs_that_saw_other_sections_are_not_compared(tmp_path: Path) -> None:
    rows = sections(tp=2, fn=0, fp=0, tn=2)
    paths = write_study(tmp_path, [*rows, *({**row, "epoch": 2} for row in rows[:-1])])
    with pytest.raises(LedgerError, match=r"epoch 2: 1 section.*Validation-II-section-0003"):
        select_thresholds(paths.root, CONFIG)


def test_best_epochs_that_were_not_inferred(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write_study(tmp_path, sections(tp=2, fn=0, fp=0, tn=2), iou={1: 0.5, 9: 0.9})
    select_thresholds(paths.root, CONFIG)
    assert "no section rows for epoch(s) [9] of the best [9, 1]" in capsys.readouterr().out
    write_metrics(paths, "resnet34_ds", {9: 0.9})
    with pytest.raises(LedgerError, match=r"best epochs on Validation I are \[9\], but the ledger has \[1\]"):
        select_thresholds(paths.root, CONFIG)


def test_rows_from_two_weights_are_refused(tmp_path: Path) -> None:
    paths = write_study(
        tmp_path, [*sections(tp=2, fn=0, fp=0, tn=2), ledger_row(weights_digest="f" * 12, label="Normal")]
    )
    with pytest.raises(LedgerError, match="different weights"):
        select_thresholds(paths.root, CONFIG)


def test_labels_that_changed_between_rows_are_refused(tmp_path: Path) -> None:
    rows = sections(tp=1, fn=0, fp=0, tn=1)
    changed = [{**row, "epoch": 2, "label": "Normal"} for row in rows]
    paths = write_study(tmp_path, [*rows, *changed])
    with pytest.raises(LedgerError, match=r"1 section.*different labels"):
        select_thresholds(paths.root, CONFIG)


def test_short_curves_are_refused(tmp_path: Path) -> None:
    paths = write_study(tmp_path, [ledger_row(largest_region_px=TUMOR_CURVE[:255]), ledger_row(section_id="b")])
    with pytest.raises(LedgerError, match="expected 256"):
        select_thresholds(paths.root, CONFIG)


def test_rows_keep_their_curves_through_filters(tmp_path: Path) -> None:
    paths = write_study(
        tmp_path,
        [
            ledger_row(section_id="a", part="Test"),
            ledger_row(section_id="b", largest_region_px=NORMAL_CURVE),
            ledger_row(section_id="b", psi="psi_0", is_final=False),
        ],
    )
    merged = ledger.merge(paths.ledger, paths.sections)
    rows = rows_of(merged, SELECTION_PARTS, final_only=True)
    np.testing.assert_array_equal(rows.curves, [NORMAL_CURVE])
    assert len(rows_of(merged, list(Part), final_only=False).frame) == 3
