"""Memory stays bounded on slides that are as large as slides get, and hardly grows with their height."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import tifffile
import torch
from PIL import Image

from bccdist.files import write_text
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import save_network
from bccdist.paths import StudyPaths

MPP = 0.46
_LEVELS = ((1, 512), (2, 512), (16, 128))
"""Downsample, and edge of a tile in its px."""
_BLOCK_PX = 2048
"""What a tile of the coarsest level covers of level 0."""
_INFER = """
import json, re, sys
from pathlib import Path
from bccdist.configuration import InferConfig
from bccdist.stages.epochs import infer_slides
folder, flags = Path(sys.argv[1]), json.loads(sys.argv[2])
config = InferConfig(**flags)
infer_slides(folder / "slides.csv", [sys.argv[3]], folder / "study", "resnet34_ds", [1], config, num_workers=0)
# Not ru_maxrss, which begins with what the process held that started this one.
print("peak", int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**20)
"""


def _jpeg(colour: tuple[int, int, int], edge_px: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (edge_px, edge_px), colour).save(file, "JPEG", quality=80)
    return file.getvalue()


def _is_along(start_px: int, island_px: float, edge_px: int) -> bool:
    """Whether a tile lies along an island; both begin with blocks of the coarsest level, so that all levels agree."""
    first = int(island_px) // _BLOCK_PX
    return first <= start_px // _BLOCK_PX < first + edge_px // _BLOCK_PX


def write_huge_phantom(
    path: Path, width_px: int, height_px: int, *, islands: Sequence[tuple[float, float]], edge_px: int = 2048
) -> None:
    """A tiled JPEG slide at 20x with levels at 10x and 1.25x: pink squares on glass; each tile is one of two.

    Args:
        path: the TIFF.
        width_px, height_px: of level 0.
        islands: where squares begin, as shares of width and height.
        edge_px: of each square at level 0.
    """

    def tiles(downsample: int, edge: int) -> Iterator[bytes]:
        glass, tissue = _jpeg((244, 243, 245), edge), _jpeg((200, 120, 170), edge)
        tile_px = edge * downsample
        for top in range(0, height_px, tile_px):
            for left in range(0, width_px, tile_px):
                inside = any(
                    _is_along(left, x * width_px, edge_px) and _is_along(top, y * height_px, edge_px)
                    for x, y in islands
                )
                yield tissue if inside else glass

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for downsample, edge in _LEVELS:
            tiff.write(
                tiles(downsample, edge),
                shape=(-(-height_px // downsample), -(-width_px // downsample), 3),
                dtype="uint8",
                tile=(edge, edge),
                compression="jpeg",
                photometric="rgb",
                subfiletype=int(downsample > 1),
                resolution=(1e4 / (MPP * downsample),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def _peak_gib(folder: Path, slide_id: str, **flags: object) -> float:
    """The most memory that one process held which made the heatmaps of one slide."""
    command = [sys.executable, "-c", _INFER, str(folder), json.dumps(flags), slide_id]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split("peak")[1])


def _study(folder: Path, sizes: dict[str, tuple[int, int]], *, width: int) -> None:
    for slide_id, (width_px, height_px) in sizes.items():
        write_huge_phantom(folder / f"{slide_id}.tif", width_px, height_px, islands=[(0, 0), (0.9, 0.9)])
    lines = [f"{slide_id},test,{slide_id}.tif,phantom" for slide_id in sizes]
    write_text(folder / "slides.csv", "\n".join(["slide_id,part,path,scanner", *lines]) + "\n")
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34_ds", width=width)
    weights = StudyPaths(folder / "study").run("resnet34_ds").weights(1)
    save_network(weights, network, {"epoch": "1", "target_mpp": "0.92", "phantom": "true"})


@pytest.mark.slow
@pytest.mark.parametrize("flags", [{}, {"tiling": "dense", "halo_px": 160}], ids=["paper", "dense"])
def test_a_slide_of_60000_x_40000_px_takes_less_than_3_gib(tmp_path: Path, flags: dict[str, object]) -> None:
    _study(tmp_path, {"huge": (60_000, 40_000)}, width=64)
    peak_gib = _peak_gib(tmp_path, "huge", **flags)
    assert peak_gib < 3


@pytest.mark.slow
@pytest.mark.parametrize("flags", [{}, {"tiling": "dense", "halo_px": 160}], ids=["paper", "dense"])
def test_a_slide_six_times_as_high_takes_less_than_half_as_much_again(
    tmp_path: Path, flags: dict[str, object]
) -> None:
    _study(tmp_path, {"low": (30_000, 10_000), "high": (30_000, 60_000)}, width=4)
    low_gib, high_gib = (_peak_gib(tmp_path, slide_id, **flags) for slide_id in ("low", "high"))
    # What grows is the tissue mask, at 8 um per pixel.
    assert high_gib < 1.5 * low_gib
