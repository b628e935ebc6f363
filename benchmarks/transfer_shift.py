"""How often shifts of a site are found, and labels that mend it: `python -m benchmarks.transfer_shift --num 200`.

Made-up ledgers (benchmarks/sites.py): slides scatter, and the sections of a slide resemble each other. The reference
has 60 slides, a site 16 with about 50 sections. Shifts are in standard deviations between slides. No slide is read.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.site_transfer.labels import site_labels
from analysis.site_transfer.next_labels import next_labels
from analysis.site_transfer.sections import MeasuredSections
from analysis.site_transfer.shift import ALPHA, FIRST_MEASURE, find_shift
from analysis.site_transfer.thresholds import choose
from analysis.study_evidence.confusion import count_verdicts
from analysis.study_evidence.resampling import exact_bounds
from analysis.tables.selection import called_on_grid, cells_of
from bccdist.configuration import SelectConfig
from benchmarks.sites import CHOSEN_ON, Site

NUM_PERMUTATIONS = 999
LARGE = replace(CHOSEN_ON, num_slides=200)
SITES = {
    "no shift": (CHOSEN_ON, Site()),
    "no shift, 6 slides of 9 sections": (CHOSEN_ON, Site(num_slides=6, sections_each=9.0)),
    "no shift, 50 slides of 1 section": (CHOSEN_ON, Site(num_slides=50, sections_each=1.0)),
    "stain 1.5": (CHOSEN_ON, Site(stain=1.5)),
    "blur 1.5": (CHOSEN_ON, Site(blur=1.5)),
    "blur 2.0": (CHOSEN_ON, Site(blur=2.0)),
    "prevalence 0.4 to 0.7": (CHOSEN_ON, Site(prevalence=0.7)),
    "prevalence 0.4 to 0.8": (CHOSEN_ON, Site(prevalence=0.8)),
    "prevalence 0.4 to 0.85": (CHOSEN_ON, Site(prevalence=0.85)),
    "prevalence 0.4 to 0.7, reference of 200 slides": (LARGE, Site(prevalence=0.7)),
    "prevalence 0.4 to 0.7, 48 slides": (CHOSEN_ON, Site(prevalence=0.7, num_slides=48)),
    "prevalence 0.4 to 0.7, 64 slides": (CHOSEN_ON, Site(prevalence=0.7, num_slides=64)),
}
SHIFTED = Site(num_slides=40, score=-4.0, mixing=0.25)
"""Where labels are to find other thresholds."""
NUM_LABELS = (20, 30, 40, 60, 80)


def shares_found(num: int) -> Iterator[str]:
    """How often each site is found, with the exact interval; and by the share called Tumor alone, at 5 % for it."""
    for name, (chosen_on, site) in SITES.items():
        shifts = [
            find_shift(
                chosen_on.sections(1_000 + seed),
                site.sections(50_000 + seed),
                num_permutations=NUM_PERMUTATIONS,
                seed=seed,
            )
            for seed in range(num)
        ]
        found = sum(shift.is_found for shift in shifts) / num
        frames = [shift.frame for shift in shifts]
        alone = np.mean([(each.loc[each["measure"] == FIRST_MEASURE, "p"] <= ALPHA).any() for each in frames])
        low, high = exact_bounds(found, num)
        yield f"| {name} | {found:.3f} ({low:.3f} to {high:.3f}) | {alone:.3f} |"


def regrets(num: int) -> Iterator[str]:
    """How much F_1.5 the thresholds of so many labels lose against the best ones, random and by the work list."""
    lost: dict[tuple[str, int], list[float]] = {}
    for seed in range(num):
        here = SHIFTED.sections(70_000 + seed)
        hidden = replace(here, frame=here.frame.assign(label=None))
        for order, share in (("random", 1.0), ("work list", 0.5)):
            for wanted in NUM_LABELS:
                listed = next_labels(CHOSEN_ON.sections(1), hidden, wanted, random_share=share, seed=seed)
                lost.setdefault((order, wanted), []).append(_regret(here, listed))
    for wanted in NUM_LABELS:
        one, other = (np.array(lost[order, wanted]) for order in ("random", "work list"))
        reached = " | ".join(f"{np.mean(each):.4f} | {np.mean(each <= 0.02):.2f}" for each in (one, other))
        yield f"| {wanted} | {reached} |"


def _regret(here: MeasuredSections, listed: pd.DataFrame) -> float:
    """What is lost of F_1.5 over all sections of the site."""
    config = SelectConfig()
    drawn = listed.set_index(["slide_id", "section_id"])["drawn"]
    keys = pd.MultiIndex.from_frame(here.frame[["slide_id", "section_id"]])
    labelled = here.frame["label"].where(keys.isin(drawn.index), None)
    labels = site_labels(replace(here, frame=here.frame.assign(label=labelled)), drawn)
    chosen = choose(labels, config)
    called = called_on_grid(
        here.curves, config, mpp=here.frame["mpp"].to_numpy(), pixel_px=here.frame["pixel_px"].to_numpy()
    )
    cells = cells_of(count_verdicts(is_tumor=here.is_tumor, called_tumor=called, called_normal=~called), config)
    is_chosen = (cells["t_p"] == chosen.t_p) & (cells["t_a_um2"] == chosen.t_a_um2)
    return float(cells["f_beta"].max() - cells.loc[is_chosen, "f_beta"].iloc[0])


def main() -> None:
    """Print both tables, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=200, help="sites of each kind")
    parser.add_argument("--table", choices=["found", "labels"], help="one of the two; default is both")
    given = parser.parse_args()
    if given.table != "labels":
        print("| site | found | by the share called Tumor alone |\n|---|---|---|")
        for line in shares_found(given.num):
            print(line, flush=True)
    if given.table != "found":
        print("\nLost F_1.5, and share of sites where it is at most 0.02")
        print("| labels | random | | work list | |\n|---|---|---|---|---|")
        for line in regrets(given.num):
            print(line, flush=True)


if __name__ == "__main__":
    main()
