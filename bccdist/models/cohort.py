"""A cohort: a study's folder whose network and thresholds come from a model file instead of from training.

The model is copied into it and unpacked to where the stages look: weights, speed-up records and int8 models in the
setting's run, the chosen thresholds and their grid among the tables. All slides are of part Test.
"""

import os
from pathlib import Path

from bccdist.errors import ConfigurationError, ModelError
from bccdist.files import sha256_of_file, write_bytes
from bccdist.models.model_file import CHOSEN, GRID, SPEEDUPS, WEIGHTS, ModelFile, read_model
from bccdist.paths import StudyPaths
from bccdist.slides.versions import SECTION_METHOD


def unpack_model(model: ModelFile, root: Path) -> None:
    """Make a folder the cohort of a model; what is there already stays as it is.

    Raises:
        ModelError: the folder's own copy is damaged, or something unpacked from it was changed.
        ConfigurationError: the folder is a cohort of another model, or something else.
    """
    require_place_for(model, root)
    paths = StudyPaths(root)
    # First, so that a folder that is not whole after a crash is known for what it is.
    if not paths.model.exists():
        write_bytes(paths.model, model.path.read_bytes())
    for name, path in _unpacked(model, paths).items():
        if not path.exists():
            write_bytes(path, model.read(name))


def require_place_for(model: ModelFile, root: Path) -> None:
    """Refuse a folder that can be no cohort of this model; nothing is written.

    Raises:
        ModelError: its copy of the model is damaged, or something unpacked from it was changed.
        ConfigurationError: it is a cohort of another model, a study, or a folder or file of something else.
    """
    paths = StudyPaths(root)
    there = next(each for each in (root, *root.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "is a file, expected a folder" if there.is_file() else "cannot be written to"
        raise ConfigurationError(f"{there} {why}: give another --out")
    if not paths.model.exists():
        if paths.study.exists():
            raise ConfigurationError(f"{root} is a study, which has its own network: give another folder with --out")
        if root.exists() and {path.name for path in root.iterdir()} - _left_by_launch(paths):
            raise ConfigurationError(f"{root} holds something else and is no cohort: give a new folder with --out")
        return
    own = read_model(paths.model)
    if own.digest != model.digest:
        raise ConfigurationError(
            f"{root} is a cohort of another model: its own has the digest {own.digest}, and {model.path} has "
            f"{model.digest}; give another folder with --out, or its own model, {paths.model}"
        )
    for name, path in _unpacked(model, paths).items():
        expected = model.description.files[name]
        if path.exists() and (digest := sha256_of_file(path)) != expected:
            raise ModelError(
                f"{path}: damaged, or changed after it was unpacked: its SHA-256 is {digest[:12]}..., expected "
                f"{expected[:12]}...; remove it, and run the same command again"
            )


def _left_by_launch(paths: StudyPaths) -> set[str]:
    """What lies in the folder of a launch that was killed before it unpacked the model."""
    lock = paths.launch_lock
    return {path.name for path in (lock, lock.with_suffix(".json"), paths.journal, paths.logs, paths.code)}


def lacks_of_model(model: ModelFile) -> list[str]:
    """What of a model this version of the program cannot be true to, a sentence each."""
    lacks = [f"{model.path}: no {name} in it; pack the model again" for name in _needed() - set(model.names())]
    method = model.description.section_method
    if method != SECTION_METHOD:
        lacks.append(
            f"{model.path}: its thresholds were chosen with {method}, and this version has {SECTION_METHOD}: take "
            f"bccdist {model.description.made_by}, or make its study's ledger and selection anew and pack it again"
        )
    return lacks


def _needed() -> set[str]:
    return {WEIGHTS, CHOSEN, GRID}


def _unpacked(model: ModelFile, paths: StudyPaths) -> dict[str, Path]:
    """Where each entry lies that the stages read."""
    network = model.description.network
    run = paths.run(network.setting)
    speedups = run.speedups(network.epoch, "cpu").parent
    places = {WEIGHTS: run.weights(network.epoch), CHOSEN: paths.selection, GRID: paths.grid}
    places |= {name: speedups / Path(name).name for name in model.names() if name.startswith(SPEEDUPS)}
    return {name: place for name, place in places.items() if name in model.names()}
