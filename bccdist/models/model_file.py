"""A model as one file: an uncompressed zip of plain formats, sealed as a whole. There is no pickle in it.

    model.json                what it is (`bccdist.models.description`)
    README.md                 the model card
    weights.safetensors       the network
    selection/chosen.parquet  what the selection chose: one row, as in a study's tables
    selection/grid.parquet    the whole selection grid of its setting
    reference/sections.parquet  curves and quality of the sections that the thresholds were chosen on, without names
    speedups/...              what faster ways of inference change, for each kind of device, with int8 models

Equal contents give equal bytes. The zip's comment holds the SHA-256 of all of the file (`bccdist.seals`), which is
compared before anything of it is used.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from bccdist.errors import ModelError
from bccdist.files import atomic_path, stored_entry
from bccdist.models.description import FORMAT, FORMAT_VERSION, Description
from bccdist.seals import BLANK_SEAL, SEAL_KEY, check_seal, name_of_content, seal

DESCRIPTION, CARD, WEIGHTS = "model.json", "README.md", "weights.safetensors"
CHOSEN, GRID, REFERENCE = "selection/chosen.parquet", "selection/grid.parquet", "reference/sections.parquet"
SPEEDUPS = "speedups/"
_ADVICE = "copy the file again from where it is whole, or pack the model again"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model file whose bytes are those that were packed."""

    path: Path
    description: Description

    @property
    def digest(self) -> str:
        """Twelve hex digits that name all of it."""
        return name_of_content(self.path)[:12]

    def names(self) -> list[str]:
        """Its entries but for model.json."""
        return list(self.description.files)

    def read(self, name: str) -> bytes:
        """The bytes of one entry.

        Raises:
            ModelError: there is no such entry, or the file was changed after it was opened.
        """
        expected = self.description.files.get(name)
        if expected is None:
            raise ModelError(f"{self.path}: no entry {name!r} in it; it holds {', '.join(self.names())}")
        with ZipFile(self.path) as archive:
            data = archive.read(name)
        if hashlib.sha256(data).hexdigest() != expected:
            raise ModelError(f"{self.path}: its {name} changed after it was opened; open it again")
        return data


def write_model(path: Path, entries: Mapping[str, bytes], description: Description) -> None:
    """Write a model file atomically.

    Args:
        path: where it will be; what is there is replaced.
        entries: bytes by name.
        description: what model.json says; its `files` are made here.
    """
    files = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(entries.items())}
    values = replace(description, files=files).as_json()
    text = json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with atomic_path(path) as partial:
        with ZipFile(partial, "x") as archive:
            archive.comment = json.dumps({"format": FORMAT, SEAL_KEY: BLANK_SEAL}).encode()
            for name, data in [(DESCRIPTION, text.encode()), *((name, entries[name]) for name in files)]:
                archive.writestr(stored_entry(name), data)
        seal(partial)


def read_model(path: Path) -> ModelFile:
    """Open a model file: all of its bytes are compared with its seal, which takes 0.1 s for 100 MB.

    Raises:
        ModelError: it is missing, damaged, cut short, no model, or of a newer version.
    """
    if path.is_dir():
        held = next((each for each in (path / "model.bcc", path / "bcc.model") if each.is_file()), None)
        advice = (
            f"give {held}"
            if held
            else f"of a study `python jobs/pack_model.py {path} --out {path.name}.model` makes one"
        )
        raise ModelError(f"{path}: a folder, expected a model file; {advice}")
    if not path.is_file():
        raise ModelError(f"{path}: no model file there; `python jobs/pack_model.py STUDY --out {path.name}` makes one")
    with path.open("rb") as file:
        try:
            with ZipFile(file) as archive:
                is_model = FORMAT.encode() in archive.comment or DESCRIPTION in archive.namelist()
        except (BadZipFile, OSError, ValueError) as error:
            raise ModelError(f"{path}: cut short, damaged, or no model file: {error}; {_ADVICE}") from error
        if not is_model or not check_seal(path, file, error=ModelError, advice=_ADVICE):
            raise ModelError(f"{path}: a zip that no version of bccdist packed as a model; {_ADVICE}")
    with ZipFile(path) as archive:
        values = json.loads(archive.read(DESCRIPTION))
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path}: its format version is {version}, this version of bccdist reads {FORMAT_VERSION}: "
            "install the version that packed it or a newer one, or pack the model again"
        )
    return ModelFile(path=path, description=Description.from_json(values))
