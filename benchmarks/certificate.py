"""What psi_0 certifies, against training: `python -m benchmarks.certificate STUDY`.

The ledger of a study holds the curves of psi_0 and of the final output side by side, made exactly, for every epoch of
which heatmaps were made. So what the way `exit psi_0` in the paper's tiling would have certified is a query, for each
epoch at the thresholds that the grid of the selection likes best for it: nothing is computed again.

Validation I and II are judged leaving one slide out: d comes from all other slides, at the highest confidence that so
many bear. Test, where the ledger has it, is judged with the d of all of Validation I and II. Printed are d, the
sections that are certified, those of them whose verdict is not the exact one (the promise is about these), all
sections whose verdict by psi_0 is another one, and the share of multiply-accumulates that is saved where the sections
that are left open are computed again from the beginning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import tyro
from numpy.typing import NDArray

from bccdist.command import run_command
from bccdist.configuration import Setting
from bccdist.errors import LedgerError, NothingToShowError
from bccdist.heatmaps.predictors import load_for_heatmaps
from bccdist.heatmaps.probability import step_of
from bccdist.networks.block_costs import first_block_share
from bccdist.parquet import read_frame
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.certificate import bound_levels, is_certified, levels_apart
from bccdist.sections.section_rows import SectionRows, load_ledger, rows_of
from bccdist.sections.verdicts import ReachedBy, areas_at_all_steps, has_tumor


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Whose curves."""

    study: Annotated[Path, tyro.conf.Positional]
    """A study with heatmaps of Validation I and II and a selection."""
    setting: Setting = "resnet34_ds"
    """Whose network."""


@dataclass(frozen=True, kw_only=True)
class _Slide:
    """The curves of one slide's sections."""

    exact_um2: NDArray[np.float64]
    """The final output's largest region at t_p: [n]."""
    fast_um2: NDArray[np.float64]
    """psi_0's at every step: [n, 256]."""
    levels: int
    """The largest distance of its sections."""


@dataclass(kw_only=True)
class _Counts:
    """What was found of some slides."""

    num_sections: int = 0
    num_certified: int = 0
    num_wrong: int = 0
    num_changed: int = 0
    num_outside: int = 0
    num_slides: int = 0

    def add(self, slide: _Slide, levels: int, *, step: int, t_a_um2: float) -> None:
        """Judge one slide with a bound that does not know it."""
        certified = is_certified(slide.fast_um2, step, levels, t_a_um2)
        differs = has_tumor(slide.fast_um2[:, step], t_a_um2) != has_tumor(slide.exact_um2, t_a_um2)
        self.num_sections += len(certified)
        self.num_certified += int(certified.sum())
        self.num_wrong += int((certified & differs).sum())
        self.num_changed += int(differs.sum())
        self.num_outside += int(slide.levels > levels)
        self.num_slides += 1


def main(arguments: Arguments) -> None:
    """Print a row for each epoch, and one for Test where that is there."""
    paths, setting = StudyPaths(arguments.study), arguments.setting
    grid = read_frame(paths.grid, error=LedgerError, advice="run the selection first")
    ledger = load_ledger(paths)
    validation = rows_of(ledger, [Part.VALIDATION_1, Part.VALIDATION_2], final_only=False)
    test = rows_of(ledger, [Part.TEST], final_only=False)
    print("| epoch | slides | t_p | t_A | d | certified | wrong | changed by psi_0 | slides outside d | saved |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for epoch in sorted(set(validation.frame.loc[validation.frame["setting"] == setting, "epoch"])):
        t_p, t_a_um2 = _best(grid, setting, epoch)
        share = first_block_share(load_for_heatmaps(paths.run(setting).weights(epoch), setting).network)
        slides = _slides(validation, setting, epoch, t_p)
        bound, left_out = _leave_one_out(slides, step_of(t_p), t_a_um2)
        print(_line(f"{epoch} | {len(slides)}, one left out", t_p, t_a_um2, bound, left_out, share))
        if others := _slides(test, setting, epoch, t_p):
            counts = _Counts()
            for slide in others:
                counts.add(slide, bound, step=step_of(t_p), t_a_um2=t_a_um2)
            print(_line(f"{epoch} | {len(others)} of Test", t_p, t_a_um2, bound, counts, share))


def _best(grid: pd.DataFrame, setting: str, epoch: int) -> tuple[float, float]:
    """t_p and t_A with the best F_beta of an epoch; of equals the one in the middle."""
    cells = grid[(grid["setting"] == setting) & (grid["epoch"] == epoch)]
    best = cells[cells["f_beta"] == cells["f_beta"].max()].sort_values(["t_p", "t_a_um2"])
    cell: Mapping[str, float] = best[["t_p", "t_a_um2"]].iloc[len(best) // 2].to_dict()
    return cell["t_p"], cell["t_a_um2"]


def _slides(rows: SectionRows, setting: str, epoch: int, t_p: float) -> list[_Slide]:
    """The slides of an epoch that have sections."""
    frame = rows.frame
    here = rows.where(((frame["setting"] == setting) & (frame["epoch"] == epoch)).to_numpy())
    if not len(here.frame):
        return []
    if others := sorted(set(here.frame["reached_by"]) - {ReachedBy.EXACT}):
        raise LedgerError(
            f"rows of {setting}, epoch {epoch}, were reached by {', '.join(others)}; a bound is held against exact: "
            "infer with `--inference exact`, in a study folder of its own"
        )
    if "psi_0" not in set(here.frame["psi"]):
        raise NothingToShowError(f"{setting} has no psi_0; name resnet34_ds or resnet34_linear")
    slides = []
    for slide_id in sorted(set(here.frame["slide_id"])):
        is_its = here.frame["slide_id"] == slide_id
        exact = _areas_um2(here, is_its & here.frame["is_final"])[:, step_of(t_p)]
        fast = _areas_um2(here, is_its & (here.frame["psi"] == "psi_0"))
        levels = int(levels_apart(exact, fast, step_of(t_p)).max())
        slides.append(_Slide(exact_um2=exact, fast_um2=fast, levels=levels))
    return slides


def _areas_um2(rows: SectionRows, wanted: pd.Series) -> NDArray[np.float64]:
    """The largest regions of some rows at every step, by section: [n, 256]."""
    some = rows.where(wanted.to_numpy())
    order = some.frame["section_id"].argsort().to_numpy()
    return areas_at_all_steps(
        some.curves[order],
        mpp=some.frame["mpp"].to_numpy()[order],
        pixel_px=some.frame["pixel_px"].to_numpy()[order],
        area_unit="physical",
    )


def _leave_one_out(slides: Sequence[_Slide], step: int, t_a_um2: float) -> tuple[int, _Counts]:
    """The largest distance of all slides, and what each slide shows with that of all others."""
    if len(slides) < 2:
        raise NothingToShowError(f"{len(slides)} slides of Validation have sections, and 2 are needed at least")
    counts, levels = _Counts(), [slide.levels for slide in slides]
    for number, slide in enumerate(slides):
        others = levels[:number] + levels[number + 1 :]
        # The largest of n is the bound with a confidence of n / (n + 1).
        bound = bound_levels(others, len(others) / (len(others) + 1))
        counts.add(slide, max(others) if bound is None else bound, step=step, t_a_um2=t_a_um2)
    return max(levels), counts


def _line(what: str, t_p: float, t_a_um2: float, levels: int, counts: _Counts, first_share: float) -> str:
    certified = counts.num_certified / counts.num_sections
    return (
        f"| {what} | {t_p:g} | {t_a_um2:g} | {levels} | {counts.num_certified} of {counts.num_sections} "
        f"({certified:.0%}) | {counts.num_wrong} | {counts.num_changed} | {counts.num_outside} of "
        f"{counts.num_slides} | {certified - first_share:.0%} |"
    )


if __name__ == "__main__":
    run_command(lambda: main(tyro.cli(Arguments)))
