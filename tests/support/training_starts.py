"""Starts of a training run in processes of their own, which can be killed.

They are forked from a server that has imported what training needs: that takes longer than the training of a test.
"""

import multiprocessing
import os
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from bccdist.configuration import Setting, TrainConfig
from bccdist.training.loop import train

_SERVER = multiprocessing.get_context("forkserver")
# The second one is what torch imports when it is asked to be deterministic.
_SERVER.set_forkserver_preload(["bccdist.training.loop", "torch._inductor"])


def start_training(
    study_root: Path, setting: Setting, config: TrainConfig, *, launcher: dict[str, str], said: Path
) -> BaseProcess:
    """Start one rank.

    Args:
        study_root, setting, config: what is trained.
        launcher: the environment variables that say which rank it is.
        said: what it prints, and its traceback, are written there.
    """
    process = _SERVER.Process(target=_train, args=(study_root, setting, config, launcher, said))
    process.start()
    return process


def _train(study_root: Path, setting: Setting, config: TrainConfig, launcher: dict[str, str], said: Path) -> None:
    with said.open("w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SUBMITIT_"))]:
        del os.environ[name]
    os.environ |= launcher
    torch.set_num_threads(1)
    train(study_root, setting, config)
