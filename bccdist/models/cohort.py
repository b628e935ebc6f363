"""A cohort: a study's folder whose network and thresholds come from a model file instead of from training.

The model is copied into it and unpacked to where the stages look: weights, speed-up records and int8 models in the
setting's run, the chosen thresholds and their grid among the tables. All slides are of part Test.
"""

import hashlib
import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bccdist.errors import ConfigurationError, ModelError
from bccdist.files import sha256_of_file, write_bytes
from bccdist.models.model_file import CHOSEN, GRID, SPEEDUPS, WEIGHTS, ModelFile, read_model
from bccdist.parquet import table_bytes
from bccdist.paths import StudyPaths
from bccdist.seals import name_of_content
from bccdist.sections.choices import SITE_CHOICE
from bccdist.sections.site_choice import SiteChoice
from bccdist.slides.versions import SECTION_METHOD


def unpack_model(model: ModelFile, root: Path, *, site_choice: Path | None = None) -> None:
    """Make a folder the cohort of a model; what is there already stays as it is.

    Args:
        model: which.
        root: the cohort's folder.
        site_choice: the site's own thresholds for the model, which take the place of the model's and of those that
            the folder has; None leaves those that it has.

    Raises:
        ModelError: the folder's own copy is damaged, or something unpacked from it was changed; or the site's choice
            is damaged, or of another model.
        ConfigurationError: the folder is a cohort of another model, or something else.
    """
    require_place_for(model, root)
    paths = StudyPaths(root)
    chosen = _chosen_bytes(model, site_choice or paths.site_choice)
    # First, so that a folder that is not whole after a crash is known for what it is.
    if not paths.model.exists():
        write_bytes(paths.model, model.path.read_bytes())
    for name, path in _unpacked(model, paths).items():
        if not path.exists():
            write_bytes(path, model.read(name))
    if site_choice is not None:
        write_bytes(paths.site_choice, site_choice.read_bytes())
    if paths.selection.read_bytes() != chosen:
        write_bytes(paths.selection, chosen)


def site_choice_of(model: ModelFile, path: Path) -> SiteChoice:
    """A site's choice for this model.

    Raises:
        ModelError: it is damaged, of another model, or its thresholds are not on the model's grid.
    """
    site = SiteChoice.read(path)
    if site.model_digest != model.digest:
        raise ModelError(
            f"{path}: was made for the model {site.model_digest}, but {model.path} is {model.digest}: thresholds of "
            "one model say nothing of another; run `python analysis/transfer.py` on a cohort of this one"
        )
    return site


def _chosen_bytes(model: ModelFile, site_choice: Path) -> bytes:
    """selection.parquet: the model's own, or with the thresholds of a site and the figures of their cell of the grid.

    Raises:
        ModelError: the site's choice is damaged, of another model, or not on the model's grid.
    """
    own = model.read(CHOSEN)
    if not site_choice.exists():
        return own
    site = site_choice_of(model, site_choice)
    row, grid = pq.read_table(io.BytesIO(own)), pq.read_table(io.BytesIO(model.read(GRID)))
    is_cell = pc.and_(pc.equal(grid["epoch"], row["epoch"][0]), pc.equal(grid["t_p"], site.t_p))
    cell = grid.filter(pc.and_(is_cell, pc.equal(grid["t_a_um2"], site.t_a_um2)))
    if cell.num_rows != 1 or row["area_unit"][0].as_py() != site.area_unit:
        raise ModelError(
            f"{site_choice}: its thresholds, {site.thresholds}, are none of those that {model.path} was chosen from; "
            "make it again with `python analysis/transfer.py`"
        )
    for name in set(cell.column_names) & set(row.column_names):
        place = row.schema.get_field_index(name)
        row = row.set_column(place, row.schema.field(place), cell[name].cast(row.schema.field(place).type))
    return table_bytes(row.append_column(SITE_CHOICE, pa.array([name_of_content(site_choice)[:12]])))


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
        if path == paths.selection and paths.site_choice.exists():
            expected = hashlib.sha256(_chosen_bytes(own, paths.site_choice)).hexdigest()
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
