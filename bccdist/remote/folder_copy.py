"""Slides in several files, whole, from a server to this machine: what OpenSlide opens by their names in one folder."""

import tempfile
from pathlib import Path
from typing import Any

from bccdist.addresses import Address, without_secrets
from bccdist.errors import RemoteError
from bccdist.log import LOG
from bccdist.remote.part_of_file import refuse_lack_of_room
from bccdist.remote.scratch import ScratchFolder


class FolderCopy:
    """A copy of a slide in several files; it goes when it is closed.

    Attributes:
        address: of the file that OpenSlide opens.
        path: of its copy.
    """

    def __init__(self, address: Address, *, only_below: str | None = None) -> None:
        """Copy the folder of a file, or the file and one folder beside it.

        Args:
            address: of the file that OpenSlide opens.
            only_below: the name of the folder beside the file; None copies all files that lie beside it.

        Raises:
            RemoteError: the server does not list the folder, there is no room, or a file does not come.
        """
        self.address = address
        self._scratch = ScratchFolder()
        try:
            self.path = self._copy(only_below)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the copy."""
        self._scratch.close()

    def _copy(self, only_below: str | None) -> Path:
        import fsspec

        address = self.address
        try:
            fs, path = fsspec.core.url_to_fs(address.whole)
            base = str(path).rpartition("/")[0]
            sizes = _listed(fs, path, base, only_below)
        # Each file system has errors of its own.
        except Exception as error:  # noqa: BLE001
            raise RemoteError(
                f"{address}: it is one of several files of a slide, and its server does not list the others "
                f"({_told(error)}): copy the slide to this machine, or name it where folders are listed, such as s3://"
            ) from None
        refuse_lack_of_room(address, sum(sizes.values()))
        LOG.warning(
            f"{address}: its {len(sizes)} files are copied to {tempfile.gettempdir()} first, "
            f"{sum(sizes.values()) / 1e6:,.1f} MB, because a slide in several files is read by OpenSlide alone"
        )
        for each, size_bytes in sizes.items():
            there = self._scratch.path / each[len(base) :].lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            try:
                fs.get_file(each, str(there))
            except Exception as error:  # noqa: BLE001
                raise RemoteError(f"{address}: {there.name} beside it did not come: {_told(error)}") from None
            if there.stat().st_size != size_bytes:
                raise RemoteError(
                    f"{address}: {there.name} beside it came with {there.stat().st_size} bytes, expected {size_bytes}"
                )
        return self._scratch.path / str(path).rpartition("/")[2]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {without_secrets(str(error))}"


def _listed(fs: Any, path: str, base: str, only_below: str | None) -> dict[str, int]:
    """The files to copy with their sizes."""
    if only_below is None:
        found = [each["name"] for each in fs.ls(base, detail=True) if each["type"] == "file"]
    else:
        found = [path, *fs.find(f"{base}/{only_below}")]
        if len(found) == 1:
            raise FileNotFoundError(f"the folder {only_below} beside it is empty, or not there")
    return {each: int(fs.info(each)["size"]) for each in dict.fromkeys([path, *found])}
