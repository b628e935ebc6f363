"""The main job on drawn slides, in minutes on two cores: `python jobs/demo.py`.

Phantom slides are drawn, not scanned: the demonstration shows that the chain works, and nothing about tumors.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from bccdist.configuration import InferConfig, Setting, TrainConfig
from bccdist.paths import StudyPaths
from bccdist.phantom import PhantomConfig, make_phantom
from jobs.command_line import LauncherArguments, run_launcher
from jobs.launch_study import StudyArguments, launch_study
from jobs.slurm.sites import ClusterConfig

SETTINGS: tuple[Setting, ...] = ("resnet34_ds",)
TRAIN = TrainConfig(
    width=16,
    epochs=4,
    global_batch=8,
    micro_batch=4,
    max_steps=60,
    learning_rate=2e-3,
    lr_factor=0.1,
    lr_every_epochs=3,
    keep_best=2,
    num_workers=0,
)
"""A narrow network and few steps; the paper's are 64 filters and 40 epochs of 3,996 steps of 64 patches."""


@dataclass(frozen=True, kw_only=True)
class DemoArguments(LauncherArguments):
    """Draw phantom slides and take them through all stages, with two ranks on local processes."""

    study: Path = Path("studies/demo")
    """Folder of the study and of its phantom slides."""


def demo(arguments: DemoArguments) -> None:
    """Draw, then run the study."""
    start_s = time.monotonic()
    print("PHANTOM DATA: the slides of this demonstration are drawn, not tissue", flush=True)
    manifest = make_phantom(arguments.study / "phantom", PhantomConfig())
    study = StudyArguments(
        study=arguments.study,
        cluster=ClusterConfig(cluster="local", ranks_per_node=2, max_parallel=2),
        manifest=manifest,
        settings=SETTINGS,
        train=TRAIN,
        infer=InferConfig(batch=4),
    )
    launch_study(study)
    _print_results(StudyPaths(arguments.study), time.monotonic() - start_s)


def _print_results(paths: StudyPaths, seconds: float) -> None:
    print(f"\nDone in {seconds:.0f} s. PHANTOM DATA. What there is to see:")
    print(f"  tables          {paths.tables}")
    print(f"  section ledger  {paths.sections}")
    print(f"  overlays        {paths.overlay(SETTINGS[0], '*')}")
    print(f"  heatmaps        {paths.heatmap(SETTINGS[0], 0, '*').parent.parent}")


if __name__ == "__main__":
    run_launcher(DemoArguments, demo)
