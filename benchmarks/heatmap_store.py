"""A heatmap as one file against the folder it is packed from (python -m benchmarks.heatmap_store): time and memory."""

import resource
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from time import perf_counter
from typing import Any, cast
from zipfile import ZipFile

import cv2
import numpy as np
import tyro
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import LocalStore, ZipStore

from bccdist.configuration import CELL_PX, outputs_of, pixel_px
from bccdist.heatmaps.store import HeatmapAttributes, writing_heatmap
from bccdist.heatmaps.zipped import ZippedStore, pack_folder
from bccdist.slides.geometry import cell_shape

OUTPUTS = outputs_of("resnet34_ds")
BAND_PX = 2048


def write(path: Path, size_px: tuple[int, int], row: NDArray[np.uint8]) -> None:
    """A heatmap of one row of cells, uint8 [256, w], again and again."""
    about: dict[str, Any] = dict.fromkeys((field.name for field in fields(HeatmapAttributes)), "")
    about |= {"outputs": OUTPUTS, "size_target_px": size_px}
    cells = np.ones(cell_shape(*size_px, cell_px=CELL_PX), dtype=np.uint8)
    with writing_heatmap(path, outputs=OUTPUTS, size_target_px=size_px, mpp=0.92) as writer:
        for shift in range(len(cells)):
            writer.append({psi: np.roll(row, 97 * shift, 1)[:: pixel_px(psi), :: pixel_px(psi)] for psi in OUTPUTS})
        writer.finish(HeatmapAttributes(**about), coverage=4 * cells, tissue_cells=cells.astype(bool))


def read(store: Store) -> None:
    """The finest level of every output, in bands that cut shards, as sections do."""
    for psi in OUTPUTS:
        array = cast("zarr.Array[Any]", zarr.open_group(store, mode="r")[f"{psi}/0"])
        _ = [array[start : start + BAND_PX] for start in range(0, array.shape[0], BAND_PX)]


def main(width: int = 20_000, height: int = 15_000, repeats: int = 5) -> None:
    """Time every step `repeats` times in turn and print medians."""
    smooth = cv2.GaussianBlur(np.random.default_rng(0).random((CELL_PX, width + CELL_PX), np.float32), (0, 0), 12)
    row = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "folder"
        steps: dict[str, Callable[[Path], None]] = {
            "write, packed": lambda path: write(path, (width, height), row),
            "of it packing": lambda path: pack_folder(folder, path.with_suffix(".again"), ngff_version="0.5"),
            "read the folder": lambda _: read(LocalStore(folder, read_only=True)),
            "read the file": lambda path: read(ZippedStore(path, mode="r")),
            "read the file with zarr's store": lambda path: read(ZipStore(path, mode="r")),
        }
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for repeat in range(repeats):
            path = Path(root) / f"{repeat}.ozx"
            for name, step in steps.items():
                started = perf_counter()
                step(path)
                seconds[name].append(perf_counter() - started)
                if not folder.exists():
                    ZipFile(path).extractall(folder)
        for name, times in seconds.items():
            print(f"{statistics.median(times):7.2f} s {name}")
        print(f"{path.stat().st_size / 2**20:.0f} MiB; {len(ZipFile(path).namelist())} files in the folder, 1 packed")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB peak memory")


if __name__ == "__main__":
    tyro.cli(main)
