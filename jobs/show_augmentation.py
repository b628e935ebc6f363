"""Draw training patches before and after augmentation: `python jobs/show_augmentation.py studies/default`.

Look at it before a long training: do the changes keep what tells tumor apart, and do the outlines stay on it? It runs
here, without a job.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from bccdist.command import run_command
from bccdist.configuration import AugmentConfig, BalanceConfig
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.shard_set.epoch_plan import plan_epoch
from bccdist.shard_set.index import read_set
from bccdist.shard_set.reader import PatchReader
from bccdist.study import refuse_address
from bccdist.training.reporting.contact_sheet import sheet_of_plan, write_contact_sheet


@dataclass(frozen=True, kw_only=True)
class ShowArguments:
    """Draw training patches before and after augmentation, with the random numbers that training has for them.

    The flags are those of launch_train.py that decide which patches are drawn, and how they are changed.
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of the study; its shard set must be finished."""
    out: Path = Path("augmentation.png")
    """The picture to write; replaced if it is there."""
    epoch: int = 1
    """Epoch of the training whose patches are drawn; the first is 1."""
    seed: int = 0
    """Seed of the training."""
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    """Draws from each pool in an epoch (paper, Table 2)."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes to training patches."""


def show_augmentation(arguments: ShowArguments) -> Path:
    """Write the contact sheet, and return its path.

    Raises:
        ShardError: the shard set is unfinished or damaged, or has no training patches.
    """
    refuse_address(arguments.study)
    shard_set = read_set(StudyPaths(arguments.study).shards.root)
    training = shard_set.part(Part.TRAINING)
    seed, epoch = arguments.seed, arguments.epoch
    # Which patches are drawn does not depend on the batch, and in steps of one none is left over.
    plan = plan_epoch(training.members, arguments.balance, seed=seed, epoch=epoch, global_batch=1)
    sheet = sheet_of_plan(PatchReader(shard_set), plan, training, arguments.augment, seed=seed, epoch=epoch)
    write_contact_sheet(arguments.out, sheet)
    return arguments.out


if __name__ == "__main__":
    run_command(lambda: print(show_augmentation(tyro.cli(ShowArguments))))
