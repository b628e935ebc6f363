"""The main job on drawn slides, in minutes on two cores: `python jobs/demo.py`.

A study is made of phantom slides, its model packed into one file, and applied to slides that it has not seen. They are
drawn, not scanned: the demonstration shows that the chain works, and nothing about tumors.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from bccdist.configuration import InferConfig, Setting, TrainConfig
from bccdist.paths import StudyPaths
from bccdist.phantom import PhantomConfig, make_phantom
from bccdist.study import refuse_address
from jobs.command_line import LauncherArguments, run_launcher
from jobs.launch_apply import ApplyArguments, launch_apply
from jobs.launch_study import StudyArguments, launch_study
from jobs.pack_model import PackArguments, pack
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
NEW_SLIDES = PhantomConfig(
    num_train=0,
    num_val1=0,
    num_val2=0,
    num_test=2,
    sections_per_slide=(2, 2),
    slide_width_level0_px=3072,
    slide_height_level0_px=1792,
    seed=2022,
)
"""What the model is applied to: slides that no part of the study holds."""


@dataclass(frozen=True, kw_only=True)
class DemoArguments(LauncherArguments):
    """Draw phantom slides, take them through all stages on local processes, and apply the model to new ones."""

    study: Path = Path("studies/demo")
    """Folder of the study and of its phantom slides."""


def demo(arguments: DemoArguments) -> None:
    """Draw, run the study, pack its model, and apply it to a folder of new slides."""
    refuse_address(arguments.study)
    start_s = time.monotonic()
    print("PHANTOM DATA: the slides of this demonstration are drawn, not tissue", flush=True)
    manifest = make_phantom(arguments.study / "phantom", PhantomConfig())
    cluster, infer = ClusterConfig(cluster="local", ranks_per_node=2, max_parallel=2), InferConfig(batch=4)
    study = StudyArguments(
        study=arguments.study, cluster=cluster, manifest=manifest, settings=SETTINGS, train=TRAIN, infer=infer
    )
    launch_study(study)
    model, cohort = arguments.study / "demo.model", arguments.study / "applied"
    new_slides = make_phantom(arguments.study / "new-slides", NEW_SLIDES).parent / "slides"
    print(pack(PackArguments(study=arguments.study, out=model)), flush=True)
    launch_apply(ApplyArguments(study=cohort, model=model, slides=new_slides, cluster=cluster, config=infer))
    _print_results(StudyPaths(arguments.study), model, StudyPaths(cohort), time.monotonic() - start_s)


def _print_results(paths: StudyPaths, model: Path, cohort: StudyPaths, seconds: float) -> None:
    print(f"\nDone in {seconds:.0f} s. PHANTOM DATA. What there is to see:")
    print(f"  tables          {paths.tables}")
    print(f"  section ledger  {paths.sections}")
    print(f"  overlays        {paths.overlay(SETTINGS[0], '*')}")
    print(f"  heatmaps        {paths.heatmap(SETTINGS[0], 0, '*').parent.parent}")
    print(f"  report          {paths.report}")
    print(f"  model           {model}")
    print(f"and of the model on new slides: {cohort.report}")


if __name__ == "__main__":
    run_launcher(DemoArguments, demo)
