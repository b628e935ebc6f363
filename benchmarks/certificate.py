"""What fast inference certifies, against training: `python -m benchmarks.certificate STUDY --epochs 3 8 13`.

For each epoch the calibration runs as its job does, on Validation I and II, with the thresholds that the selection's
grid likes best for this epoch. Then every calibrated way and the exact one make the heatmaps of Test, where the bound
shows what it is worth: the sections that are certified, and those of them whose verdict is not the exact one. The
weights of all these epochs have to be kept (`--keep-best`), and the exact heatmaps of Validation made of them, or they
are computed here. The study is only read.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import tyro
from numpy.typing import NDArray

from bccdist.command import run_command
from bccdist.configuration import InferConfig, Setting, SpeedupsConfig
from bccdist.errors import LedgerError
from bccdist.heatmaps.layout import PAPER, place_patches
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import Predictor
from bccdist.heatmaps.predictors import TrainedNetwork, load_for_heatmaps, make_predictor
from bccdist.heatmaps.store import Heatmap
from bccdist.heatmaps.writing import HeatmapOrder
from bccdist.networks.block_costs import first_block_share
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.parquet import read_frame
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.sections.certificate import bound_levels
from bccdist.sections.choices import chosen_epochs
from bccdist.sections.marking import mark_slide
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.speedups.certifying import method_of
from bccdist.speedups.comparing import SlideScore, score_of, verdicts_by_name
from bccdist.speedups.measure import measure_speedups
from bccdist.speedups.record import MeasuredWay, SpeedupRecord, Thresholds
from bccdist.stages.speedups import exact_rows_of
from bccdist.study import manifest_of_study

_Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Which weights, and how sure."""

    study: Annotated[Path, tyro.conf.Positional]
    """A study with heatmaps of Validation I and II and a selection."""
    setting: Setting = "resnet34_ds"
    """Whose network."""
    epochs: tuple[int, ...] = ()
    """Of these weights; none takes the chosen epoch."""
    confidence: float = 0.9
    """That a slide lies within the bound."""
    max_slides: int = 1
    """Slides of Validation I on which every way is timed."""
    num_samples: int = 32
    """Patches that int8 takes its ranges from."""


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """One way on the slides of Test."""

    scores: Sequence[SlideScore]
    changed: Sequence[str]
    """The sections whose verdict by the way's output is not the exact one."""
    certified: Sequence[str]
    """The sections that the bound certifies."""
    num_sections: int
    computed: float
    """Multiply-accumulates, as a multiple of the exact way's."""


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A slide's ledger rows in each way, and its cells of tissue."""

    rows: Sequence[_Rows]
    cells: NDArray[np.bool_]


def main(arguments: Arguments) -> None:
    """Print a table of ways for each epoch."""
    logging.basicConfig(level=logging.WARNING)
    paths = StudyPaths(arguments.study)
    grid = read_frame(paths.grid, error=LedgerError, advice="run the selection first")
    for epoch in arguments.epochs or (chosen_epochs(paths)[arguments.setting],):
        thresholds = _best(grid, arguments.setting, epoch)
        print("\n".join(_tables(paths, arguments, epoch, thresholds)), flush=True)


def _best(grid: pd.DataFrame, setting: str, epoch: int) -> Thresholds:
    """The thresholds with the best F_beta of an epoch; of equals the one in the middle."""
    cells = grid[(grid["setting"] == setting) & (grid["epoch"] == epoch)]
    best = cells[cells["f_beta"] == cells["f_beta"].max()].sort_values(["t_p", "t_a_um2"])
    cell = best.iloc[len(best) // 2]
    return Thresholds(t_p=float(cell["t_p"]), t_a_um2=float(cell["t_a_um2"]))


def _tables(paths: StudyPaths, arguments: Arguments, epoch: int, thresholds: Thresholds) -> Iterator[str]:
    setting, manifest = arguments.setting, manifest_of_study(paths.root)
    weights = paths.run(setting).weights(epoch)
    trained = load_for_heatmaps(weights, setting)
    with tempfile.TemporaryDirectory(prefix="bccdist-certificate-") as folder:
        scratch = StudyPaths(Path(folder))
        _link(weights, scratch.run(setting).weights(epoch))
        record = measure_speedups(
            manifest.path,
            scratch.root,
            setting,
            epoch,
            thresholds,
            SpeedupsConfig(max_slides=arguments.max_slides, num_samples=arguments.num_samples),
            exact_rows=exact_rows_of(paths, manifest, setting, epoch, SpeedupsConfig().mpp_tolerance),
        )
        yield (
            f"\nepoch {epoch}: t_p {thresholds.t_p:g}, t_A {thresholds.t_a_um2:g} um2, confidence "
            f"{arguments.confidence:g}, calibrated on {len(record.slide_ids)} slides, {record.num_sections} sections\n"
        )
        yield "| way | d | certified, Validation | certified, Test | wrong | changed | outside | saved | times exact |"
        yield "|---|---|---|---|---|---|---|---|---|"
        ways = [way for way in record.ways if bound_levels(way.slide_levels, arguments.confidence) is not None]
        judged = _judge(manifest, scratch.run(setting), trained, record, ways, arguments.confidence)
        exact_pace = max(way.mpx_per_s for way in record.ways if way.is_exact)
        for way, found in zip(ways, judged, strict=True):
            yield _line(way, found, exact_pace, arguments.confidence)


def _link(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(file.resolve())


def _line(way: MeasuredWay, found: _Judged, exact_pace: float, confidence: float) -> str:
    levels = bound_levels(way.slide_levels, confidence) or 0
    share = len(found.certified) / found.num_sections
    wrong = len(set(found.changed) & set(found.certified))
    outside = sum(score.levels > levels for score in found.scores)
    times = 1 / (exact_pace / way.mpx_per_s + 1 - share)
    return (
        f"| {way} | {levels} | {way.certified_share(levels):.0%} | {share:.0%} of {found.num_sections} | {wrong} | "
        f"{len(found.changed)} | {outside} of {len(found.scores)} slides | {share - found.computed:.0%} | "
        f"{times:.2f} |"
    )


def _judge(
    manifest: Manifest,
    run: RunPaths,
    trained: TrainedNetwork,
    record: SpeedupRecord,
    ways: Sequence[MeasuredWay],
    confidence: float,
) -> list[_Judged]:
    """Every way on Test, against the exact one."""
    device = torch.device("cpu")
    methods = [Method.of(InferConfig(), device), *(method_of(record, way, device) for way in ways)]
    int8_file = partial(run.int8_model, record.epoch)
    pairs = [
        (method, make_predictor(trained.network, method, device=device, int8_file=int8_file)) for method in methods
    ]
    slides = [_made(manifest, slide, pairs, trained.target_mpp) for slide in manifest.slides_of([Part.TEST])]
    return [
        _judged(
            way,
            [(made.rows[0], made.rows[number]) for made in slides],
            record,
            confidence,
            computed=_computed(trained.network, methods[number], [made.cells for made in slides]),
        )
        for number, way in enumerate(ways, start=1)
    ]


def _judged(
    way: MeasuredWay,
    slides: Sequence[tuple[_Rows, _Rows]],
    record: SpeedupRecord,
    confidence: float,
    *,
    computed: float,
) -> _Judged:
    levels = bound_levels(way.slide_levels, confidence) or 0
    scores, changed, certified = [], [], []
    for exact_rows, fast_rows in slides:
        score = score_of(exact_rows, fast_rows, way.psi, record.thresholds)
        if score is None:
            continue
        scores.append(score)
        final = [row for row in exact_rows if row["is_final"]]
        mine = [row for row in fast_rows if row["psi"] == way.psi]
        names = [row["section_id"] for row in mine]
        said, expected = (
            {name.partition("/")[0]: verdict for name, verdict in verdicts_by_name(rows, record.thresholds).items()}
            for rows in (mine, final)
        )
        changed += [name for name in names if said[name] != expected[name]]
        certified += [name for name, flip in zip(names, score.flip_levels, strict=True) if flip > levels]
    return _Judged(
        scores=scores,
        changed=changed,
        certified=certified,
        num_sections=sum(len(score.flip_levels) for score in scores),
        computed=computed,
    )


def _made(
    manifest: Manifest, record: SlideRecord, ways: Sequence[tuple[Method, Predictor]], target_mpp: float
) -> _Made:
    rows: dict[int, _Rows] = {}
    with tempfile.TemporaryDirectory(prefix="bccdist-certificate-") as folder:
        for tiling in ("paper", "dense"):
            here = [number for number, (method, _) in enumerate(ways) if method.tiling == tiling]
            orders = [
                HeatmapOrder(
                    path=Path(folder) / f"{number}.ozx",
                    setting="",
                    epoch=0,
                    predictor=ways[number][1],
                    method=ways[number][0],
                )
                for number in here
            ]
            marked = mark_slide(
                record,
                manifest.sections_of(record.slide_id),
                orders,
                target_mpp=target_mpp,
                mpp_tolerance=InferConfig().mpp_tolerance,
                batch=InferConfig().batch,
                device=torch.device("cpu"),
            )
            for number, order in zip(here, orders, strict=True):
                heatmap = Heatmap(order.path)
                rows[number] = list(marked.rows(heatmap, phantom_weights=False))
                cells = heatmap.tissue_cells
    return _Made(rows=[rows[number] for number in range(len(ways))], cells=cells)


def _computed(network: DeeplySupervisedUNet, method: Method, slides: Sequence[NDArray[np.bool_]]) -> float:
    """The multiply-accumulates of a way on slides' cells of tissue, as a multiple of the exact way's."""
    exact = fast = 0
    for cells in slides:
        layout = method.layout(cells)
        exact += sum(len(row.cols) for row in place_patches(cells, PAPER)) * PAPER.patch_px**2
        fast += sum(len(row.cols) for row in place_patches(cells, layout)) * layout.patch_px**2
    return fast / exact * (first_block_share(network) if method.exit else 1.0)


if __name__ == "__main__":
    run_command(lambda: main(tyro.cli(Arguments)))
