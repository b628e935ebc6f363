"""A manifest that lies on a server: its tables as files of this machine, whose rows name whole addresses."""

from pathlib import Path

from bccdist.addresses import Address, Location
from bccdist.errors import ManifestError, RemoteFileMissingError
from bccdist.files import write_bytes, write_text
from bccdist.parts import Part
from bccdist.remote.files import read_bytes
from bccdist.remote.scratch import ScratchFolder
from bccdist.slides.manifest import inspect_manifest
from bccdist.slides.manifest_text import slides_csv

_BESIDE = ("sections.csv", "kinds.toml")


def fetched_manifest(given: Location, folder: Path, *, all_in: Part | None = None) -> Path:
    """The path of a manifest; one that lies on a server is fetched first.

    Relative paths in it are seen from its own address, and become whole addresses, without what is secret in them.

    Args:
        given: of slides.csv; sections.csv and kinds.toml lie beside it.
        folder: where a fetched one is written, over one that was fetched before.
        all_in: the part of all its slides, whatever its rows say; None is what they say.

    Raises:
        ManifestError: its rows cannot be read, or a path leads out of its folder; one message lists all faults.
        RemoteError: it did not come.
    """
    if isinstance(given, Path):
        return given
    beside = {name: content for name in _BESIDE if (content := _read_if_there(given, name)) is not None}
    text = _with_addresses(given, all_in)
    for name in _BESIDE:
        if name in beside:
            write_bytes(folder / name, beside[name])
        else:
            (folder / name).unlink(missing_ok=True)
    write_text(folder / "slides.csv", text)
    return folder / "slides.csv"


def _read_if_there(given: Address, name: str) -> bytes | None:
    try:
        return read_bytes(given.beside(name))
    except RemoteFileMissingError:
        return None


def _with_addresses(given: Address, all_in: Part | None) -> str:
    scratch = ScratchFolder()
    try:
        path = scratch.path / "slides.csv"
        path.write_bytes(read_bytes(given))
        manifest, faults = inspect_manifest(path, files_must_exist=False, all_in=all_in, base=given)
        if faults:
            listed = "\n  - ".join(["", *faults])
            raise ManifestError(
                f"{given}: {len(faults)} fault(s) in the manifest:{listed}".replace(str(path), str(given))
            )
        return slides_csv(manifest, scratch.path)
    finally:
        scratch.close()
