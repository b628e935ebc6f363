"""A study: one manifest taken through all stages, in one folder."""

from pathlib import Path

from bccdist.errors import ConfigurationError
from bccdist.files import read_json, write_json
from bccdist.log import LOG
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import Manifest, read_manifest


def claim_study(study_root: Path, manifest_path: Path, *, dry_run: bool = False) -> Manifest:
    """Check a manifest and make a study of it, unless it is a dry run; the same manifest may come again.

    What may be wrong with the manifest, and what is not used of it, is told.

    Raises:
        ManifestError: the manifest has faults.
        ConfigurationError: the folder is a study of another manifest.
    """
    manifest = read_manifest(manifest_path)
    study_file = StudyPaths(study_root).study
    if study_file.exists() and (there := read_json(study_file)["manifest"]) != str(manifest.path):
        raise ConfigurationError(
            f"{study_root} is a study of {there}, not of {manifest.path}; give another folder with --study"
        )
    if not dry_run:
        keep_manifest(study_root, manifest)
    for warning in manifest.warnings:
        LOG.warning(warning)
    for note in manifest.notes:
        LOG.info(note)
    return manifest


def keep_manifest(study_root: Path, manifest: Manifest) -> None:
    """Make a folder the study of a manifest, if it is none yet."""
    study_file = StudyPaths(study_root).study
    if not study_file.exists():
        write_json(study_file, {"manifest": str(manifest.path), "phantom": manifest.is_phantom})


def manifest_of_study(study_root: Path) -> Manifest:
    """The manifest of a study; its files were there when it was claimed, and one that has gone since fails alone.

    Raises:
        ConfigurationError: the folder is no study.
        ManifestError: the manifest has faults by now.
    """
    study_file = StudyPaths(study_root).study
    if not study_file.exists():
        raise ConfigurationError(
            f"{study_root} is no study: {study_file.name} is not there; "
            "begin with `python jobs/launch_study.py --manifest slides.csv --study FOLDER`"
        )
    return read_manifest(Path(read_json(study_file)["manifest"]), files_must_exist=False)
