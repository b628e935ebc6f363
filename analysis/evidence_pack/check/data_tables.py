"""Tables 1 to 3 and the selection, computed anew."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow.parquet as pq

from analysis.evidence_pack.check.figures import figures_of, summary
from analysis.evidence_pack.check.findings import COUNTS, SELECTED_ON, Findings, Ints, Row, same_value
from analysis.evidence_pack.check.raw_rows import Pack, iou_of, pixel_um2, step_of


def table1(pack: Pack) -> list[Row]:
    """Slides, annotations and labels of each part, by slides.csv and labels.csv of the pack."""
    rows = []
    for part in dict.fromkeys(slide["part"] for slide in pack.slides):
        slides = [slide for slide in pack.slides if slide["part"] == part]
        ids = {slide["slide_id"] for slide in slides}
        sections = [label for label in pack.labels if label["slide_id"] in ids]
        named = {label["slide_id"] for label in sections}
        rows.append(
            {
                "part": part,
                "num_slides": len(slides),
                "num_annotated": sum(slide["is_annotated"] == "yes" for slide in slides),
                **{f"num_{kind.lower()}": sum(s["label"] == kind for s in sections) for kind in ("Tumor", "Normal")},
                "num_unlabelled": sum(not section["label"] for section in sections),
                "num_slides_without_sections": len(ids - named),
                "num_prefilled": sum(bool(section["prefilled"]) for section in sections),
                "phantom": pack.is_drawn,
            }
        )
    return rows


POOL_RATIOS = {
    "tumor_free": 1.0,
    "tumor": 30_000 / 9_537,
    "tumor_dense": 10_000 / 5_528,
    "stroma": 20_000 / 9_096,
    "normal": 20_000 / 9_458,
}
"""Draws per patch of each pool: the paper's Table 2, after over before."""


def table2(pack: Pack) -> list[Row]:
    """Training patches by pool before and after balancing, from each patch's shares of annotated pixels."""
    if not (pack.folder / "patches.parquet").exists():
        return []
    patches = pq.read_table(pack.folder / "patches.parquet")
    tumor, stroma, normal = (patches[f"{kind}_fraction"].to_numpy() for kind in ("tumornest", "stroma", "normal"))
    pools = {
        "tumor_free": tumor < 0.0005,
        "tumor": tumor >= 0.0005,
        "tumor_dense": tumor >= 0.1,
        "stroma": stroma >= 0.0005,
        "normal": normal >= 0.0005,
    }
    nums = {name: int(inside.sum()) for name, inside in pools.items()}
    draws = {name: round(POOL_RATIOS[name] * num) for name, num in nums.items()}
    sums = {name: float(tumor[inside].sum(dtype=np.float64)) for name, inside in pools.items()}
    tumor_drawn = sum(draws[name] * sums[name] / nums[name] for name in pools if draws[name])
    before = _free_per_tumor(len(tumor), sums["tumor_free"] + sums["tumor"])
    after = _free_per_tumor(sum(draws.values()), tumor_drawn)
    rows = [{"pool": name, "num_patches": nums[name], "num_draws": draws[name]} for name in pools]
    rows.append({"pool": "total", "num_patches": sum(nums.values()), "num_draws": sum(draws.values())})
    return [{**row, "unbalance_before": before, "unbalance_after": after} for row in rows]


def _free_per_tumor(area: float, tumor: float) -> float:
    return (area - tumor) / tumor if tumor else math.inf


def selection(pack: Pack) -> list[Row]:
    """The figures of each choice on Validation I + II; none where a model brought its choice along."""
    rows = []
    for choice, mine in pack.by_setting(*SELECTED_ON):
        labelled = [row for row in mine if row["label"] is not None]
        found = summary(labelled, choice["beta"])
        found.pop("num_unlabelled")
        same = ("setting", "epoch", "t_p", "t_a_um2", "area_unit")
        digests = {row["weights_digest"] for row in labelled}
        outputs = {row["psi"] for row in labelled}
        rows.append(
            {
                **{name: choice[name] for name in same},
                **found,
                **_epochs_done(pack, choice["setting"]),
                "psi": "/".join(sorted(outputs)),
                "weights_digest": "/".join(sorted(digests)),
            }
        )
    return rows


def _epochs_done(pack: Pack, setting: str) -> Row:
    """How many epochs the run's metrics have; nothing where they are not in the pack."""
    metrics = pack.metrics(setting)
    return {"epochs_done": max(row["epoch"] for row in metrics)} if metrics else {}


def _iou_ranks(pack: Pack, setting: str) -> dict[int, tuple[float, bool, int]]:
    """What orders epochs by the IoU of the setting's own output, the greatest being the best."""
    ranks = {}
    for row in pack.metrics(setting):
        if row["is_final"]:
            known = iou_of(row)
            # Without an IoU nothing was to be found and nothing was, which is better than only false alarms.
            ranks[row["epoch"]] = (0.0 if math.isnan(known) else known, math.isnan(known), -row["epoch"])
    return ranks


def check_grid(pack: Pack, found: Findings) -> None:
    """Every cell of the selection's grid, and that no cell is better than the chosen one."""
    grid = pack.table("grid")
    if not any(row["part"] in SELECTED_ON for row in pack.ledger):
        found.leave("selection", "grid: the choice came with a model, whose study is elsewhere")
        return
    told, num = [], 0
    for choice in pack.choices:
        mine = [cell for cell in grid if cell["setting"] == choice["setting"]]
        counted = _grid_counts(pack, choice, mine)
        ranks, by_iou = [], _iou_ranks(pack, choice["setting"])
        if not by_iou:
            found.leave("selection", f"{choice['setting']}: the order of epochs by IoU, as the pack has no metrics")
        for cell, counts in zip(mine, counted, strict=True):
            values = {name: float(value) for name, value in figures_of(counts[:4], choice["beta"]).items()}
            expected = {**dict(zip((*COUNTS, "num_review"), map(int, counts), strict=True)), **values}
            place = f"{cell['setting']}, epoch {cell['epoch']}, t_p {cell['t_p']:g}, t_A {cell['t_a_um2']:g}"
            told += [
                f"tables/grid.parquet: {place}, column {name}: got {cell[name]}, expected {value} by the ledger"
                for name, value in expected.items()
                if not same_value(cell[name], value)
            ]
            num += len(expected)
            figures = (_rank(values[name]) for name in ("f_beta", "accuracy", "specificity"))
            ranks.append((*figures, -cell["t_a_um2"], by_iou.get(cell["epoch"], ()), -cell["t_p"]))
        at = [(cell["epoch"], cell["t_p"], cell["t_a_um2"]) for cell in mine]
        chosen = ranks[at.index((choice["epoch"], choice["t_p"], choice["t_a_um2"]))]
        if chosen != max(ranks):
            told.append(f"tables/selection.parquet: {choice['setting']}: another cell of the grid is better")
    found.fault("tables/grid.parquet", told)
    found.done.append(f"grid: {num} numbers, and that no cell is better than the choice")


def _grid_counts(pack: Pack, choice: Row, cells: Sequence[Row]) -> Iterator[Ints]:
    """TP, FN, FP, TN and review of each cell."""
    rows: dict[int, list[int]] = {}
    for number, row in enumerate(pack.ledger):
        is_wanted = row["is_final"] and row["part"] in SELECTED_ON and row["label"] is not None
        if is_wanted and row["setting"] == choice["setting"]:
            rows.setdefault(row["epoch"], []).append(number)
    by_epoch = {}
    for epoch, mine in rows.items():
        of_epoch = [pack.ledger[number] for number in mine]
        by_epoch[epoch] = (
            pack.curves[mine].astype(np.float64) * [[pixel_um2(row, choice["area_unit"])] for row in of_epoch],
            np.array([row["label"] == "Tumor" for row in of_epoch]),
            np.array([row["coverage"] >= 1 for row in of_epoch]),
        )
    for cell in cells:
        areas_um2, is_tumor, is_whole = by_epoch[cell["epoch"]]
        area_um2 = areas_um2[:, step_of(cell["t_p"])]
        called = (area_um2 >= cell["t_a_um2"]) & (area_um2 > 0)
        normal = ~called & is_whole
        kinds = (called & is_tumor, normal & is_tumor, called & ~is_tumor, normal & ~is_tumor, ~called & ~is_whole)
        yield np.array([kind.sum() for kind in kinds])


def _rank(value: float) -> float:
    return -1.0 if math.isnan(value) else round(value, 12)
