"""A finished phantom study that is made in seconds, with a network that tells colours."""

from pathlib import Path
from unittest.mock import patch

from bccdist.configuration import InferConfig, Setting, ShardConfig, TrainConfig
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.phantom import PhantomConfig, make_phantom
from bccdist.stages.epochs import infer_slides
from bccdist.study import claim_study, manifest_of_study
from bccdist.training.loop import train
from bccdist.training.reporting.metrics import read_best_epochs
from benchmarks.faults.colour_network import colour_network
from benchmarks.faults.scene import CONFIG, FinishedStudy
from shards.build import build_slides
from shards.finish import finish_set

_PHANTOM = PhantomConfig(
    num_train=1,
    num_val1=1,
    num_val2=1,
    num_test=2,
    sections_per_slide=(2, 2),
    slide_width_level0_px=2048,
    slide_height_level0_px=1024,
)
_TRAIN = TrainConfig(width=4, epochs=1, global_batch=1, micro_batch=1, max_steps=1, learning_rate=1e-12, num_workers=0)
_SETTING: Setting = "unet"


def make_small_study(root: Path) -> None:
    """Draw, build, train and infer; the one step of training leaves the colour network as it is."""
    manifest = claim_study(root, make_phantom(root / "phantom", _PHANTOM, report=lambda _: None))
    annotated = [slide.slide_id for slide in manifest.slides if slide.part.is_annotated]
    build_slides(manifest.path, annotated, root, ShardConfig(), num_workers=0)
    finish_set(manifest.path, root, ShardConfig())
    # Training itself writes the weights, with all that it writes beside them.
    with patch("bccdist.training.run.DeeplySupervisedUNet", colour_network):
        train(root, _SETTING, _TRAIN)
    others = [slide.slide_id for slide in manifest.slides_of([Part.VALIDATION_2, Part.TEST])]
    infer_slides(manifest.path, others, root, _SETTING, "best", CONFIG, num_workers=0)


def open_study(root: Path, config: InferConfig = CONFIG) -> FinishedStudy:
    """A finished study, by the first of its settings and the best of its epochs.

    Args:
        root: its folder.
        config: how its network is used.

    Raises:
        BccdistError: it is none.
    """
    manifest = manifest_of_study(root)
    settings: list[Setting] = ["resnet34_ds", "resnet34_linear", "resnet34", "unet"]
    paths = StudyPaths(root)
    setting = next((each for each in settings if paths.run(each).metrics.exists()), settings[0])
    epoch = read_best_epochs(paths.run(setting))[0]
    return FinishedStudy(root=root, manifest=manifest, setting=setting, epoch=epoch, config=config)
