"""Check the paper's derived numbers against the code: `python jobs/verify_paper.py`, or `make verify-paper`.

Each row is computed here from the code and held against the number that follows from the paper; a wrong one
makes the exit code 1.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.confusion import Confusion
from bccdist.configuration import SETTINGS, BalanceConfig, SelectConfig, TrainConfig

TABLE_2 = {
    "tumor_free": (175_771, 175_771),
    "tumor": (9_537, 30_000),
    "tumor_dense": (5_528, 10_000),
    "stroma": (9_096, 20_000),
    "normal": (9_458, 20_000),
}
"""Patches before, draws per epoch."""
PARAMETERS = {
    "unet": 31_383_298,
    "resnet34": 24_436_258,
    "resnet34_ds": 24_437_226,
    "resnet34_linear": 24_437_226 + 5,
}
TABLE_3 = {
    "unet": ((445, 0, 16, 623), ("0.985", "1.000", "0.975", "0.989")),
    "resnet34": ((444, 1, 7, 632), ("0.993", "0.998", "0.989", "0.994")),
    "resnet34_ds": ((443, 2, 5, 634), ("0.994", "0.996", "0.992", "0.993")),
    "resnet34_linear": ((445, 0, 4, 635), ("0.996", "1.000", "0.994", "0.997")),
}
"""(tp, fn, fp, tn), and accuracy, sensitivity, specificity and F_1.5 as printed."""
TABLE_4_DS = ((1119 - 44, 44, 30, 843 - 30), ("0.962", "0.961", "0.964", "0.964"))
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


def _network_checks() -> Iterator[Check]:
    from bccdist.networks.unet import DeeplySupervisedUNet, num_parameters

    for setting in SETTINGS:
        network = DeeplySupervisedUNet(setting)
        yield Check(
            what=f"parameters of {setting}",
            source="2.2",
            expected=f"{PARAMETERS[setting]:,}",
            got=f"{num_parameters(network):,}",
        )
        if setting in ("unet", "resnet34"):
            expected = {"unet": "18,817,856", "resnet34": "21,284,672"}[setting]
            got = f"{num_parameters(network.encoder):,}"
            yield Check(what=f"parameters of {setting}'s encoder", source="2.2.1", expected=expected, got=got)


def _balance_checks() -> Iterator[Check]:
    from bccdist.training.epoch_plan import draw_pool

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
        epoch = 1 + 5 * number
        got = learning_rate(config, epoch)
        yield Check(what=f"learning rate of epoch {epoch}", source="2.3", expected=f"{expected:.9g}", got=f"{got:.9g}")


def _decision_checks() -> Iterator[Check]:
    beta = SelectConfig().beta
    tables = {**{f"Table 3, {setting}": row for setting, row in TABLE_3.items()}, "Table 4, resnet34_ds": TABLE_4_DS}
    for name, ((tp, fn, fp, tn), printed) in tables.items():
        confusion = Confusion(tp=tp, fn=fn, fp=fp, tn=tn)
        values = (confusion.accuracy, confusion.sensitivity, confusion.specificity, confusion.f_beta(beta))
        got = " ".join(f"{value:.3f}" for value in values)
        yield Check(what="Acc Sens Spec F_1.5", source=name, expected=" ".join(printed), got=got)


def main() -> int:
    """Print the table of checks; 1 if any fails."""
    results = list(checks())
    for check in results:
        verdict = "ok   " if check.holds else "WRONG"
        print(f"{verdict} {check.source:<26} {check.what:<36} expected {check.expected:<26} got {check.got}")
    num_wrong = sum(not check.holds for check in results)
    print(f"{len(results) - num_wrong} of {len(results)} checks hold")
    return int(num_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
