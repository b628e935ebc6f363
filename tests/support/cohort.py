"""A model of a network that was never trained, and a cohort of small slides judged by it."""

from pathlib import Path

from heatmap_slides import pink_picture, write_slide
from model_study import write_model_study

from bccdist.configuration import InferConfig
from bccdist.models.cohort import unpack_model
from bccdist.models.cohort_slides import slides_of_cohort
from bccdist.models.model_file import ModelFile, read_model
from bccdist.models.packing import pack_model
from bccdist.paths import StudyPaths
from bccdist.stages.epochs import infer_slides
from bccdist.study import keep_manifest


def write_model_file(folder: Path, *, seed: int = 0, phantom: bool = False) -> ModelFile:
    """The file bcc.model in a folder, of a small network of width 4."""
    study = write_model_study(folder / "model-study", seed=seed, phantom=phantom)
    return pack_model(study.root, folder / "bcc.model")


def write_slides(folder: Path, *names: str) -> Path:
    """Small slides of two pieces of tissue each, by their paths below the folder, without ending."""
    for number, name in enumerate(names):
        islands = [(60, 40, 300, 400), (520, 80 + 20 * number, 280, 300)]
        write_slide(folder / f"{name}.tif", pink_picture(900, 560, islands=islands))
    return folder


def write_cohort(root: Path, model: Path, slides: Path) -> StudyPaths:
    """A cohort with heatmaps and ledger rows of all slides, as launch_apply makes it up to its tables.

    Args:
        root: the cohort's folder.
        model: of `write_model_file`.
        slides: what --slides would say.
    """
    opened = read_model(model)
    found = slides_of_cohort(slides, root)
    unpack_model(opened, root)
    manifest = found.write()
    keep_manifest(root, manifest)
    ids = [slide.slide_id for slide in manifest.slides]
    setting = opened.description.network.setting
    infer_slides(manifest.path, ids, root, setting, "chosen", InferConfig(batch=2), num_workers=0)
    return StudyPaths(root)
