"""Heatmaps and section ledger: `python jobs/launch_infer.py --setting resnet34_ds --parts test --epochs chosen`."""

from dataclasses import dataclass, field
from typing import Annotated

from bccdist.configuration import InferConfig, Setting
from bccdist.parts import Part
from bccdist.stages.epochs import Epochs
from bccdist.study import open_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.slurm.submission import submitting
from jobs.stages import launch_inference


@dataclass(frozen=True, kw_only=True)
class InferArguments(LauncherArguments):
    """Make the heatmaps of a trained setting and decide nothing yet."""

    setting: Setting = "resnet34_ds"
    """unet, resnet34, resnet34_ds (deep supervision) or resnet34_linear (linear merge)."""
    parts: tuple[str, ...] = ("val1", "val2")
    """train, val1, val2, test."""
    epochs: Epochs = "best"
    """best: the best epochs by IoU on Validation I, for the selection. chosen: what the selection chose."""
    config: Annotated[InferConfig, FLAT] = field(default_factory=InferConfig)


def main(arguments: InferArguments) -> None:
    """Submit the stage."""
    parts = [Part.parse(name) for name in arguments.parts]
    manifest = open_study(arguments.launch.study)
    with submitting(arguments.launch) as submitter:
        launch_inference(submitter, manifest, arguments.setting, parts, arguments.epochs, arguments.config, after=[])


if __name__ == "__main__":
    run_launcher(InferArguments, main)
