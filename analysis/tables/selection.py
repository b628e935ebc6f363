"""Model selection (paper, section 2.5): `python analysis/make.py selection STUDY`.

The best epochs of a setting by IoU on Validation I (five in the paper, `keep_best` of the run), times a grid of t_p
and t_A, are judged by F_beta over the labelled sections of Validation I + II. Ties go to the higher accuracy, the
higher specificity, the smaller t_A; then, for a definite answer, to the epoch with the higher IoU and the smaller t_p.

A section for `review` (its tissue was not read whole, and what was read shows no tumor) is neither right nor
wrong: it is left out of the confusion and counted in a column of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro
from numpy.typing import NDArray

from analysis.study_evidence.confusion import Confusion, count_verdicts
from analysis.study_evidence.table import phantom_marks, write_frame
from analysis.tables.table3 import build_table3
from bccdist.configuration import SelectConfig
from bccdist.errors import ConfigurationError, LedgerError
from bccdist.heatmaps.probability import step_of
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.sections.origins import keep_origin, origin_now
from bccdist.sections.section_rows import SectionRows, load_ledger, rows_of, sections_in
from bccdist.sections.verdicts import has_tumor, region_area_um2
from bccdist.study import manifest_of_study
from bccdist.training.reporting.metrics import num_epochs_done, read_best_epochs

SELECTION_PARTS = (Part.VALIDATION_1, Part.VALIDATION_2)
_RANKED = {
    "f_beta": False,
    "accuracy": False,
    "specificity": False,
    "t_a_um2": True,
    "iou_rank": True,
    "t_p": True,
}
"""What decides between cells, in this order, and whether less is better."""
_DIGITS_THAT_DIFFER = 12


def select_thresholds(
    study_root: Annotated[Path, tyro.conf.arg(metavar="STUDY")], config: tyro.conf.OmitArgPrefixes[SelectConfig]
) -> None:
    """Choose epoch, t_p and t_A of every setting, write the whole grid and the choice, and print Table 3.

    Args:
        study_root: The study's folder.
        config: The grid, and what it is judged by.

    Raises:
        ConfigurationError: the folder is a cohort, whose thresholds came with its model.
        LedgerError: the ledger or a run's metrics are missing or unfinished.
    """
    paths = StudyPaths(study_root)
    if paths.model.exists():
        raise ConfigurationError(f"{study_root} is a cohort: its epoch, t_p and t_A came with its model and stay so")
    manifest = manifest_of_study(study_root) if paths.study.exists() else None
    origin = origin_now(paths, manifest)
    rows = rows_of(load_ledger(paths, manifest), SELECTION_PARTS, final_only=True)
    grid, selection = select(paths, rows, config)
    write_frame(paths.grid, grid, "grid")
    write_frame(paths.selection, selection, "selection")
    keep_origin(paths.origin("selection"), origin, made=paths.selection)
    print(build_table3(selection).markdown)


def select(paths: StudyPaths, rows: SectionRows, config: SelectConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The grid and the chosen row of every setting in the ledger.

    Args:
        paths: the study; its runs' metrics are read.
        rows: the settings' own outputs on Validation I + II.
        config: the grid.

    Raises:
        LedgerError: no labelled sections of either kind, no metrics, or epochs that saw different sections.
    """
    labelled = rows.where(rows.is_labelled)
    num_unlabelled = len(sections_in(rows.frame) - sections_in(labelled.frame))
    if num_unlabelled:
        print(f"note: {num_unlabelled} section(s) of Validation I + II have no label and are left out")
    _require_both_labels(labelled)
    grids, chosen = [], []
    for setting in labelled.settings:
        epochs_done = num_epochs_done(paths.run(setting))
        ranking = read_best_epochs(paths.run(setting))
        mine = labelled.where(_equals(labelled, "setting", setting))
        candidates = _candidates(paths.run(setting), mine, ranking)
        grid = setting_grid(candidates, config)
        grids.append(grid)
        chosen.append({**_describe(best_cell(grid, ranking), candidates, config), "epochs_done": epochs_done})
    return pd.concat(grids, ignore_index=True), pd.DataFrame(chosen)


def prediction_thresholds(config: SelectConfig) -> NDArray[np.float64]:
    """t_p: the multiples of the step up to 1 minus the step."""
    num = int((1 - config.probability_step) / config.probability_step + 1e-9)
    return np.round(np.arange(1, num + 1) * config.probability_step, 10)


def area_thresholds_um2(config: SelectConfig) -> NDArray[np.float64]:
    """t_A: the first multiples of the step."""
    return np.arange(1, config.num_area_steps + 1, dtype=np.float64) * config.area_step_um2


def setting_grid(rows: SectionRows, config: SelectConfig) -> pd.DataFrame:
    """One row for every epoch, t_p and t_A of one setting's labelled rows."""
    epochs = sorted({int(epoch) for epoch in rows.frame["epoch"]})
    return pd.concat(
        [_epoch_grid(rows.where(_equals(rows, "epoch", epoch)), epoch, config) for epoch in epochs], ignore_index=True
    )


def _epoch_grid(rows: SectionRows, epoch: int, config: SelectConfig) -> pd.DataFrame:
    """The cells of one epoch; arrays are [sections, t_p, t_A]."""
    called_tumor = called_on_grid(
        rows.curves, config, mpp=rows.frame["mpp"].to_numpy(), pixel_px=rows.frame["pixel_px"].to_numpy()
    )
    is_whole = (rows.frame["coverage"].to_numpy() >= 1)[:, None, None]
    confusion = count_verdicts(
        is_tumor=rows.is_tumor, called_tumor=called_tumor, called_normal=~called_tumor & is_whole
    )
    frame = cells_of(confusion, config).assign(num_review=(~called_tumor & ~is_whole).sum(axis=0).ravel())
    frame.insert(0, "epoch", epoch)
    frame.insert(0, "setting", rows.frame["setting"].iloc[0])
    return frame


def called_on_grid(
    curves: NDArray[np.uint32], config: SelectConfig, *, mpp: NDArray[np.float64], pixel_px: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each section is called Tumor in each cell of the grid: bool [n, t_p, t_A].

    Args:
        curves: uint32 [n, 256], heatmap pixels in the largest region at each probability step.
        config: the grid.
        mpp: float [n], um per target-frame pixel.
        pixel_px: int [n], edge of a heatmap pixel in target-frame pixels.
    """
    steps = np.array([step_of(threshold) for threshold in prediction_thresholds(config)])
    areas_um2 = region_area_um2(curves, steps, mpp=mpp, pixel_px=pixel_px, area_unit=config.area_unit)
    return has_tumor(areas_um2[:, :, None], area_thresholds_um2(config))


def cells_of(confusion: Confusion, config: SelectConfig) -> pd.DataFrame:
    """A row for each cell of the grid with what was counted, [t_p, t_A], and the figures of it."""
    t_p_grid, t_a_grid = np.meshgrid(prediction_thresholds(config), area_thresholds_um2(config), indexing="ij")
    cells = {"t_p": t_p_grid, "t_a_um2": t_a_grid, **confusion.figures(config.beta)}
    return pd.DataFrame({name: np.ravel(values) for name, values in cells.items()})


def best_cell(grid: pd.DataFrame, epoch_ranking: Sequence[int]) -> dict[str, Any]:
    """The chosen row of one setting's grid, by column; `epoch_ranking` has the best epoch by IoU first."""
    # Equal counts in another order of operations may differ in the last bit; that is not a difference.
    ranked = grid.round(dict.fromkeys(("f_beta", "accuracy", "specificity"), _DIGITS_THAT_DIFFER))
    ranked["iou_rank"] = [list(epoch_ranking).index(epoch) for epoch in grid["epoch"]]
    order = ranked.sort_values(list(_RANKED), ascending=list(_RANKED.values()), na_position="last").index
    return {str(name): value for name, value in grid.loc[order[0]].items()}


def _candidates(run_paths: RunPaths, rows: SectionRows, best: list[int]) -> SectionRows:
    """The rows of the setting's best epochs that have been inferred."""
    inferred = set(rows.frame["epoch"])
    missing = [epoch for epoch in best if epoch not in inferred]
    if len(missing) == len(best):
        raise LedgerError(
            f"{run_paths.root}: its best epochs on Validation I are {best}, but the ledger has {sorted(inferred)}; "
            "run the inference stage for the best epochs"
        )
    if missing:
        print(f"note: {run_paths.root.name}: no section rows for epoch(s) {missing} of the best {best}")
    candidates = rows.where(rows.frame["epoch"].isin(best).to_numpy())
    _require_same_sections(run_paths.root.name, candidates.frame)
    return candidates


def _require_both_labels(rows: SectionRows) -> None:
    num_tumor = len(sections_in(rows.frame[rows.is_tumor]))
    num_normal = len(sections_in(rows.frame[~rows.is_tumor]))
    if not num_tumor or not num_normal:
        raise LedgerError(
            f"Validation I + II have {num_tumor} Tumor and {num_normal} Normal sections with a label in the ledger; "
            "the selection needs both: label sections in sections.csv, and make the heatmaps of both parts"
        )


def _require_same_sections(setting: str, frame: pd.DataFrame) -> None:
    everywhere = sections_in(frame)
    for epoch, rows in frame.groupby("epoch"):
        missing = sorted(everywhere - sections_in(rows))
        if missing:
            names = ", ".join("/".join(key) for key in missing[:5])
            raise LedgerError(
                f"{setting}, epoch {epoch}: {len(missing)} section(s) that other epochs have are missing ({names}); "
                "epochs are compared on the same sections: finish the inference stage"
            )


def _describe(cell: dict[str, Any], candidates: SectionRows, config: SelectConfig) -> dict[str, object]:
    """The row of selection.parquet."""
    rows = candidates.frame[_equals(candidates, "epoch", cell["epoch"])]
    digests = sorted(set(rows["weights_digest"]))
    if len(digests) > 1:
        raise LedgerError(
            f"{cell['setting']}, epoch {cell['epoch']}: its rows come from different weights ({', '.join(digests)}); "
            "remove the ledger's and heatmaps' folders of this epoch and run the inference stage again"
        )
    return {
        **cell,
        "psi": rows["psi"].iloc[0],
        "num_sections": len(rows),
        "num_slides": rows["slide_id"].nunique(),
        "beta": config.beta,
        "area_unit": config.area_unit,
        "weights_digest": digests[0],
        **phantom_marks(rows),
    }


def _equals(rows: SectionRows, column: str, value: object) -> NDArray[np.bool_]:
    return np.asarray(rows.frame[column] == value, dtype=bool)
