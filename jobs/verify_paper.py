"""Check the paper's derived numbers against the code: `python jobs/verify_paper.py [STUDY]`, or `make verify-paper`.

Each row is computed here from the code and held against the number that follows from the paper; a wrong one
makes the exit code 1. With a study's folder its results are printed beside the paper's, with intervals.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from analysis.study_evidence.confusion import Confusion
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.paper_results import CHOSEN_AREAS_UM2, FALSE_VERDICTS, TABLE_3, TEST_SECTIONS
from analysis.tables.beside_paper import write_beside_paper
from analysis.tables.selection import area_thresholds_um2
from bccdist.command import run_command
from bccdist.configuration import (
    NUM_BLOCKS,
    PATCH_PX,
    SETTINGS,
    BalanceConfig,
    SelectConfig,
    Setting,
    TrainConfig,
    pixel_px,
    psi_name,
)
from bccdist.study import refuse_address

if TYPE_CHECKING:
    from bccdist.networks.unet import DeeplySupervisedUNet

TABLE_2 = {
    "tumor_free": (175_771, 175_771),
    "tumor": (9_537, 30_000),
    "tumor_dense": (5_528, 10_000),
    "stroma": (9_096, 20_000),
    "normal": (9_458, 20_000),
}
"""Patches before, draws per epoch."""
NUM_DISTINCT = 185_308
"""Patches before, each once: the first two pools partition them."""
PARAMETERS: dict[Setting, int] = {
    "unet": 31_383_298,
    "resnet34": 24_436_258,
    "resnet34_ds": 24_437_226,
    "resnet34_linear": 24_437_226 + 5,
}
PLAIN_PARAMETERS_WITH_FIVE_HEADS = 31_385_226
ENCODER_PARAMETERS: dict[Setting, int] = {"unet": 18_817_856, "resnet34_ds": 21_284_672}
GIGA_MACS: dict[Setting, str] = {"unet": "24.8 34.4 44.1 53.8 61.0", "resnet34_ds": "21.6 24.0 26.4 29.4 31.2"}
"""Multiply-accumulates of the convolutions for a patch, in 10^9, up to psi_0 ... psi_4."""
OUTPUT_SIZES = "32 64 128 256 512"
LEARNING_RATES = (5e-4, 4e-4, 3.2e-4, 2.56e-4, 2.048e-4, 1.6384e-4, 1.31072e-4, 1.048576e-4)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number of the paper beside the code's."""

    what: str
    source: str
    expected: str
    got: str

    @property
    def holds(self) -> bool:
        """Whether they agree to the last printed digit."""
        return self.expected == self.got


def checks() -> Iterator[Check]:
    """All of them, in the paper's order."""
    yield from _network_checks()
    yield from _balance_checks()
    yield from _training_checks()
    yield from _decision_checks()
    yield from _area_checks()


def _network_checks() -> Iterator[Check]:
    import torch

    from bccdist.networks.unet import DeeplySupervisedUNet, num_parameters

    with torch.device("meta"):  # sizes alone, without memory for the weights
        networks = {setting: DeeplySupervisedUNet(setting) for setting in SETTINGS}
    for setting, network in networks.items():
        yield _count(f"parameters of {setting}", "2.2", PARAMETERS[setting], num_parameters(network))
    plain = networks["unet"]
    num_biases = 2
    others = sum(_head_weights(plain, block) + num_biases for block in range(NUM_BLOCKS - 1))
    got = num_parameters(plain) + others
    yield _count("parameters of unet with five heads", "2.2", PLAIN_PARAMETERS_WITH_FIVE_HEADS, got)
    for setting, expected in ENCODER_PARAMETERS.items():
        got = num_parameters(networks[setting].encoder)
        yield _count(f"parameters of {setting}'s encoder", "2.2.1", expected, got)
    for setting, giga_macs in GIGA_MACS.items():
        found = " ".join(f"{macs / 1e9:.1f}" for macs in _macs_up_to_each_psi(networks[setting]))
        yield Check(what=f"G MACs of {setting} up to each psi", source="2.2", expected=giga_macs, got=found)
    scores = networks["resnet34_ds"](torch.empty(1, 3, PATCH_PX, PATCH_PX, device="meta"))
    sizes = " ".join(str(score.shape[-1]) for score in scores.values())
    yield Check(what="sizes of psi_0 to psi_4", source="2.2", expected=OUTPUT_SIZES, got=sizes)


def _count(what: str, source: str, expected: int, got: int) -> Check:
    return Check(what=what, source=source, expected=f"{expected:,}", got=f"{got:,}")


def _head_weights(network: "DeeplySupervisedUNet", block: int) -> int:
    """Weights of the 1x1 convolution to two classes at the end of a decoder block, which not every setting has."""
    return 2 * (network.encoder.channels[-1] >> (block + 1))


def _macs_up_to_each_psi(network: "DeeplySupervisedUNet") -> Iterator[int]:
    """Multiply-accumulates of a patch's convolutions through the encoder, the blocks so far, and their last head."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, PATCH_PX, PATCH_PX, device="meta"))
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    name = type(network).__name__
    macs = flops[f"{name}.encoder"] // 2  # a multiplication and an addition count as two there
    for block in range(NUM_BLOCKS):
        macs += flops[f"{name}.blocks.{block}"] // 2
        side_px = PATCH_PX // pixel_px(psi_name(block))
        yield macs + _head_weights(network, block) * side_px**2


def _balance_checks() -> Iterator[Check]:
    from bccdist.shard_set.epoch_plan import draw_pool
    from bccdist.shard_set.pools import PoolTotals, pool_members

    shares = np.arange(PATCH_PX) / PATCH_PX**2
    fewest_px = int(pool_members(shares, shares, shares)["tumor"].argmax())
    yield _count("fewest Tumornest px of pool tumor", "Table 2", 132, fewest_px)
    sizes = {pool: before for pool, (before, _) in TABLE_2.items()}
    distinct = PoolTotals(num_patches=sizes, tumornest_sum=dict.fromkeys(sizes, 0.0)).num_distinct
    yield _count("patches, each once", "Table 2", NUM_DISTINCT, distinct)
    balance = BalanceConfig()
    total = 0
    for pool, (before, draws) in TABLE_2.items():
        num_draws = balance.num_draws(pool, num_members=before)
        drawn = draw_pool(np.arange(before), num_draws, np.random.default_rng(0))
        times = np.bincount(drawn, minlength=before)
        total += len(drawn)
        yield Check(what=f"draws of pool {pool}", source="Table 2", expected=f"{draws:,}", got=f"{len(drawn):,}")
        low = draws // before
        high = low + (draws % before > 0)
        got = f"{times.min()} to {times.max()}"
        yield Check(what=f"times per member of {pool}", source="Table 2", expected=f"{low} to {high}", got=got)
    yield Check(what="draws per epoch", source="Table 2", expected="255,771", got=f"{total:,}")
    steps = total // TrainConfig().global_batch
    yield Check(what="full steps per epoch", source="2.3", expected="3,996", got=f"{steps:,}")


def _training_checks() -> Iterator[Check]:
    from bccdist.training.loop import learning_rate

    config = TrainConfig()
    for number, expected in enumerate(LEARNING_RATES):
        epochs = range(1 + 5 * number, 6 + 5 * number)
        got = " ".join(sorted({f"{learning_rate(config, epoch):.9g}" for epoch in epochs}))
        what = f"learning rate of epochs {epochs[0]} to {epochs[-1]}"
        yield Check(what=what, source="2.3", expected=f"{expected:.9g}", got=got)
    yield _count("epochs", "2.3", 5 * len(LEARNING_RATES), config.epochs)


def _decision_checks() -> Iterator[Check]:
    for setting, (counts, printed) in TABLE_3.items():
        yield _figures_check(f"Table 3, {setting}", counts, printed)
    num_tumor, num_normal = TEST_SECTIONS
    for name, ((fn, fp), printed) in FALSE_VERDICTS.items():
        yield _figures_check(name, (num_tumor - fn, fn, fp, num_normal - fp), printed)


def _area_checks() -> Iterator[Check]:
    """The chosen areas lie on the grid, and are whole cells of psi_0 at a nominal 1 um per pixel."""
    areas_um2 = area_thresholds_um2(SelectConfig())
    cell_um2 = pixel_px("psi_0") ** 2
    for setting, (area_um2, num_cells) in CHOSEN_AREAS_UM2.items():
        on_grid = f"{area_um2 / cell_um2:g} cells, on the grid: {area_um2 in areas_um2}"
        yield Check(
            what=f"t_A {area_um2} um2 of {setting}",
            source="Table 3",
            expected=f"{num_cells} cells, on the grid: True",
            got=on_grid,
        )


def _figures_check(source: str, counts: tuple[int, int, int, int], printed: tuple[str, ...]) -> Check:
    """The four figures from tp, fn, fp, tn; Table 5 cuts its accuracies to four digits, all else has three."""
    tp, fn, fp, tn = counts
    confusion = Confusion(tp=tp, fn=fn, fp=fp, tn=tn)
    accuracy = float(confusion.accuracy)
    first = f"{int(accuracy * 1e4) / 1e4:.4f}" if source.startswith("Table 5") else f"{accuracy:.3f}"
    others = (confusion.sensitivity, confusion.specificity, confusion.f_beta(SelectConfig().beta))
    got = " ".join([first, *(f"{value:.3f}" for value in others)])
    return Check(what="Acc Sens Spec F_1.5", source=source, expected=" ".join(printed), got=got)


def main(study: Annotated[Path | None, tyro.conf.Positional] = None) -> int:
    """Print the table of checks.

    Args:
        study: Print this study's results beside the paper's, too.

    Returns:
        1 if any check fails.
    """
    if study is not None:
        refuse_address(study)
    results = list(checks())
    for check in results:
        verdict = "ok   " if check.holds else "WRONG"
        print(f"{verdict} {check.source:<26} {check.what:<36} expected {check.expected:<26} got {check.got}")
    num_wrong = sum(not check.holds for check in results)
    print(f"{len(results) - num_wrong} of {len(results)} checks hold")
    if study is not None:
        print("\n" + write_beside_paper(Evidence(study)).markdown)
    return int(num_wrong > 0)


if __name__ == "__main__":
    run_command(lambda: tyro.cli(main))
