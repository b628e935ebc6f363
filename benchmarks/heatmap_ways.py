"""One way from slide to heatmap, timed in a process of its own (started by benchmarks/heatmaps.py).

    python -m benchmarks.heatmap_ways TASK.json WAY.json FOLDER

What is timed begins when libraries are imported and weights are loaded, and ends when the heatmap is on the disk. The
other tools may live in an interpreter that lacks most of this project, so each way imports what it needs by itself.
"""

import importlib
import json
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bccdist.configuration import CELL_PX, PATCH_PX, Setting
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet, tumor_probability
from bccdist.networks.weights import load_network

WHITE = 255
MASK_PX = 32
"""Edge of a pixel of the mask that TIAToolbox is given, in the target frame."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all ways are given alike. Cells and patches as in `bccdist.heatmaps.layout`."""

    slide: str
    level: int
    """Pyramid level of the slide that is the target frame."""
    downsample: float
    """Level-0 pixels per target pixel."""
    mpp: float
    """Resolution of the target frame, in um per pixel."""
    size_px: tuple[int, int]
    """Width and height of the target frame."""
    cells: list[list[bool]]
    """Which cells hold tissue: [rows, cols]."""
    places: list[tuple[int, int]]
    """Row and column of the first cell of each patch of the paper's tiling."""
    batch: int
    manifest: str
    slide_id: str
    study: str
    """A study folder with the weights, and the int8 model where there is one."""
    weights: str
    setting: Setting
    epoch: int

    @classmethod
    def read(cls, path: Path) -> "Task":
        """The task that `task_text` wrote."""
        values = json.loads(path.read_text())
        sizes = {"size_px": tuple(values["size_px"]), "places": [tuple(place) for place in values["places"]]}
        return cls(**{**values, **sizes})


@dataclass(frozen=True, kw_only=True)
class Took:
    """What a way took."""

    wall_s: float
    peak_gib: float
    """Resident memory of the process at its highest, imported libraries included."""
    worker_gib: float
    """Resident memory of its largest loading worker, what it shares with the process included; 0 without workers."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a way took and made."""

    took: Took
    num_patches: int
    """Patches that the network saw."""
    software: str
    heatmap: NDArray[np.float32] | None
    """Tumor probability of the final output in the target frame [h, w], nan where nothing was computed."""


class Stopwatch:
    """Started when it is made."""

    def __init__(self) -> None:
        self._started = perf_counter()

    def stop(self, *, excluded_s: float = 0.0, num_workers: int = 0) -> Took:
        """The time since then, less what is excluded, and the memory up to now."""
        wall_s = perf_counter() - self._started - excluded_s
        worker_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if num_workers else 0
        return Took(wall_s=wall_s, peak_gib=peak_gib(), worker_gib=worker_kib / 2**20)


def peak_gib() -> float:
    """The highest resident memory of this program; ru_maxrss would begin with that of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20


def plain_network(task: Task) -> DeeplySupervisedUNet:
    """The network in eager float32, channels first, as torch comes."""
    network, _ = load_network(Path(task.weights))
    network.use_memory_format(channels_last=False)
    return network


def final_probability(network: DeeplySupervisedUNet, x_N3PP: Tensor) -> Tensor:
    """The Tumor probability [n, p, p] of the final output."""
    return tumor_probability(network(x_N3PP)[network.outputs[-1]])


def read_plain(handle: Any, task: Task, box_px: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """A box (x, y, width, height) of the target frame by OpenSlide: RGB [h, w, 3], white where nothing was scanned."""
    x, y, width, height = box_px
    origin_level0_px = (round(x * task.downsample), round(y * task.downsample))
    rgba = np.asarray(handle.read_region(origin_level0_px, task.level, (width, height)))
    return np.where(rgba[..., 3:] == 0, np.uint8(WHITE), rgba[..., :3])


class PlainPatches(Dataset[Tensor]):
    """Each patch read from the slide by itself, as tutorials do it; a worker opens its own handle."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._handle: Any = None

    def __len__(self) -> int:
        return len(self._task.places)

    def __getitem__(self, index: int) -> Tensor:
        """Stored pixels, uint8 RGB [512, 512, 3]."""
        import openslide

        if self._handle is None:
            self._handle = openslide.OpenSlide(self._task.slide)
        row, col = self._task.places[index]
        box_px = (col * CELL_PX, row * CELL_PX, PATCH_PX, PATCH_PX)
        return torch.from_numpy(read_plain(self._handle, self._task, box_px))


def patch_loop(task: Task, folder: Path, *, num_workers: int) -> Outcome:
    """A DataLoader over single patches, the network, a running sum: the loop that everybody writes first."""
    import openslide

    network = plain_network(task)
    watch = Stopwatch()
    rows, cols = np.shape(task.cells)
    # One cell more on each side, for the patches that begin before the slide.
    total = np.zeros(((rows + 2) * CELL_PX, (cols + 2) * CELL_PX), dtype=np.float32)
    times = np.zeros_like(total)
    loader = DataLoader(PlainPatches(task), batch_size=task.batch, num_workers=num_workers)
    places = iter(task.places)
    with torch.inference_mode():
        for patches_NPP3 in loader:
            for probability in final_probability(network, to_network_input(patches_NPP3)).numpy():
                row, col = next(places)
                here = np.s_[(row + 1) * CELL_PX :, (col + 1) * CELL_PX :]
                total[here][:PATCH_PX, :PATCH_PX] += probability
                times[here][:PATCH_PX, :PATCH_PX] += 1
    width, height = task.size_px
    inside = np.s_[CELL_PX : CELL_PX + height, CELL_PX : CELL_PX + width]
    heatmap = np.divide(total[inside], np.maximum(times[inside], 1), dtype=np.float32)
    np.save(folder / "heatmap.npy", heatmap)
    del loader  # its workers count once they have ended
    took = watch.stop(num_workers=num_workers)
    heatmap[times[inside] == 0] = np.nan
    return Outcome(
        took=took,
        num_patches=len(task.places),
        software=f"OpenSlide {openslide.__version__}, torch {torch.__version__}",
        heatmap=heatmap,
    )


def tissue_box(cells: Sequence[Sequence[bool]]) -> tuple[int, int, int, int]:
    """The first and one past the last row and column of tissue, one cell more on each side: top, end, left, end."""
    rows, cols = np.nonzero(np.asarray(cells))
    return int(rows.min()) - 1, int(rows.max()) + 2, int(cols.min()) - 1, int(cols.max()) + 2


def monai_window(task: Task, folder: Path) -> Outcome:
    """MONAI's sliding window over the tissue's bounding box, which is read at once; it takes no mask."""
    import monai  # type: ignore[import-not-found, unused-ignore]
    import openslide
    from monai.inferers import sliding_window_inference  # type: ignore[import-not-found, unused-ignore]

    network = plain_network(task)
    watch = Stopwatch()
    top, row_end, left, col_end = tissue_box(task.cells)
    box_px = (left * CELL_PX, top * CELL_PX, (col_end - left) * CELL_PX, (row_end - top) * CELL_PX)
    with openslide.OpenSlide(task.slide) as handle:
        region = torch.from_numpy(read_plain(handle, task, box_px))
    with torch.inference_mode():
        found: Any = sliding_window_inference(
            to_network_input(region[None]),
            roi_size=(PATCH_PX, PATCH_PX),
            sw_batch_size=task.batch,
            predictor=lambda x_N3PP: final_probability(network, x_N3PP)[:, None],
            overlap=0.5,
            mode="constant",
        )
    probability = found[0, 0].numpy()
    np.save(folder / "heatmap.npy", probability)
    return Outcome(
        took=watch.stop(),
        num_patches=(row_end - top - 1) * (col_end - left - 1),
        software=f"MONAI {monai.__version__}, torch {torch.__version__}",
        heatmap=_on_slide(probability, origin_px=box_px[:2], size_px=task.size_px),
    )


def _on_slide(
    probability: NDArray[np.float32], *, origin_px: tuple[int, int], size_px: tuple[int, int]
) -> NDArray[np.float32]:
    """A region that may reach outside the slide, in the slide's frame; nan elsewhere."""
    heatmap = np.full(size_px[::-1], np.nan, dtype=np.float32)
    x, y = origin_px
    inside = probability[max(0, -y) :, max(0, -x) :]
    there = heatmap[max(0, y) :, max(0, x) :]
    height, width = np.minimum(inside.shape, there.shape)
    there[:height, :width] = inside[:height, :width]
    return heatmap


def tissue_mask_image(task: Task) -> NDArray[np.uint8]:
    """The cells as a mask of the whole slide, `MASK_PX` target pixels per pixel: uint8 [h, w], 0 or 1."""
    times = CELL_PX // MASK_PX
    image = np.asarray(task.cells, dtype=np.uint8).repeat(times, axis=0).repeat(times, axis=1)
    width, height = task.size_px
    return image[: round(height / MASK_PX), : round(width / MASK_PX)]


def _named_for_tiatoolbox(slide: Path, folder: Path) -> Path:
    """A plain pyramidal TIFF under a name with .svs: by its own, TIAToolbox decodes all of level 0 at once."""
    if slide.suffix.lower() not in (".tif", ".tiff"):
        return slide
    link = folder / f"{slide.stem}.svs"
    link.symlink_to(slide)
    return link


def exported_probability(network: DeeplySupervisedUNet) -> Callable[[Tensor], Tensor]:
    """The final output's Tumor probability [n, p, p] from stored pixels [n, p, p, 3], by the TorchScript export."""
    from bccdist.models.exporting.maps import TumorMaps
    from bccdist.models.exporting.torchscript import open_torchscript, torchscript_bytes

    maps = TumorMaps(network).requires_grad_(requires_grad=False)
    opened = open_torchscript(torchscript_bytes(maps, torch.zeros((1, 3, 64, 64)), "{}"))
    # Channels follow the outputs, the final one last.
    return lambda patches_NPP3: opened(patches_NPP3.permute(0, 3, 1, 2))[:, -1]


def _tiatoolbox_model(network: DeeplySupervisedUNet, *, exported: bool) -> Any:
    """The network as TIAToolbox wants it; `num_patches` counts what it saw."""
    from tiatoolbox.models.models_abc import ModelABC  # type: ignore[import-not-found, unused-ignore]

    def by_network(patches_NPP3: Tensor) -> Tensor:
        return final_probability(network, to_network_input(patches_NPP3))

    find = exported_probability(network) if exported else by_network

    class Model(ModelABC):  # type: ignore[misc, unused-ignore]
        """Gives the Tumor probability alone, and has it stored in steps of 1/255: a heatmap, no map of classes."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.num_patches = 0

        def forward(self, patches_NPP3: Tensor) -> Tensor:
            return find(patches_NPP3)

        @staticmethod
        def infer_batch(model: Any, batch_data: Tensor, *, device: str) -> NDArray[np.float32]:
            model.num_patches += len(batch_data)
            with torch.inference_mode():
                found: NDArray[np.float32] = model(batch_data.to(device))[..., None].numpy()
            return found

        @staticmethod
        def postproc(image: Any) -> Any:
            return (255 * image).round()

    return Model()


def tiatoolbox(task: Task, folder: Path, *, num_workers: int, exported: bool = False) -> Outcome:
    """TIAToolbox's SemanticSegmentor with our network, or its export, in its ModelABC, written as its Zarr."""
    import tiatoolbox as library  # type: ignore[import-not-found, unused-ignore]
    import zarr
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig  # type: ignore[import-not-found, unused-ignore]
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor  # type: ignore[import-not-found, unused-ignore]

    # Its configuration knows no levels; this is the level's um per pixel, so that nothing is resampled.
    resolution = [{"units": "mpp", "resolution": task.mpp}]
    shape = (PATCH_PX, PATCH_PX)
    ioconfig = IOSegmentorConfig(
        input_resolutions=resolution,
        output_resolutions=resolution,
        patch_input_shape=shape,
        patch_output_shape=shape,
        stride_shape=(CELL_PX, CELL_PX),
        save_resolution=resolution[0],
    )
    model, slide = (
        _tiatoolbox_model(plain_network(task), exported=exported),
        _named_for_tiatoolbox(Path(task.slide), folder),
    )
    watch = Stopwatch()
    segmentor = SemanticSegmentor(model, batch_size=task.batch, num_workers=num_workers, verbose=False)
    written = segmentor.run(
        [slide],
        masks=[tissue_mask_image(task)],
        patch_mode=False,
        ioconfig=ioconfig,
        save_dir=folder / "tiatoolbox",
        output_type="zarr",
    )
    took = watch.stop(num_workers=num_workers)
    group: Any = zarr.open(str(written[slide]), mode="r")
    return Outcome(
        took=took,
        num_patches=model.num_patches,
        software=f"TIAToolbox {library.__version__}, torch {torch.__version__}",
        heatmap=np.divide(np.asarray(group["predictions"])[..., 0], 255, dtype=np.float32),
    )


def bccdist(task: Task, folder: Path, **config: Any) -> Outcome:
    """This project's inference job, as Slurm would run it; every output and the ledger's rows are written, too."""
    from bccdist import __version__
    from bccdist.configuration import InferConfig
    from bccdist.heatmaps.store import Heatmap
    from bccdist.installed import has_openvino
    from bccdist.paths import StudyPaths
    from bccdist.stages.epochs import infer_slides

    if has_openvino():
        importlib.import_module("openvino")  # the first patch would do so otherwise
    study = StudyPaths(folder / "study")
    study.root.mkdir()
    study.runs.symlink_to(StudyPaths(Path(task.study)).runs.resolve())
    how = InferConfig(batch=task.batch, **config)

    def infer(slide_ids: Sequence[str]) -> None:
        infer_slides(Path(task.manifest), slide_ids, study.root, task.setting, [task.epoch], how, num_workers=0)

    # What only the first call of a process does, such as imports, would be excluded though the second is spared it.
    infer([])
    loading = Stopwatch()
    infer([])
    loading_s = loading.stop().wall_s
    watch = Stopwatch()
    infer([task.slide_id])
    took = watch.stop(excluded_s=loading_s)
    heatmap = Heatmap(study.heatmap(task.setting, task.epoch, task.slide_id))
    about = heatmap.attributes
    is_final = how.exit is None
    return Outcome(
        took=took,
        num_patches=about.num_patches,
        software=f"bccdist {__version__}, {about.arithmetic}, torch {torch.__version__}",
        heatmap=_own_probability(heatmap, task) if is_final else None,
    )


def _own_probability(heatmap: Any, task: Task) -> NDArray[np.float32]:
    from bccdist.slides.geometry import Box

    width, height = task.size_px
    stored = heatmap.read(heatmap.outputs[-1], Box(0, 0, width, height))
    covered = heatmap.coverage == heatmap.attributes.full_coverage
    pixels = covered.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)[:height, :width]
    return np.where(pixels, stored.astype(np.float32) / 255, np.float32(np.nan))


WAYS: Mapping[str, Callable[..., Outcome]] = {
    "patch_loop": patch_loop,
    "tiatoolbox": tiatoolbox,
    "monai_window": monai_window,
    "bccdist": bccdist,
}


def main(task_file: Path, way_file: Path, folder: Path) -> None:
    """Run a way, and write what it took to outcome.json and its heatmap to compared.npy."""
    way = json.loads(way_file.read_text())
    outcome = WAYS[way["function"]](Task.read(task_file), folder, **way["options"])
    if outcome.heatmap is not None:
        np.save(folder / "compared.npy", outcome.heatmap)
    about = {"num_patches": outcome.num_patches, "software": outcome.software}
    (folder / "outcome.json").write_text(json.dumps({**asdict(outcome.took), **about}))


def task_text(task: Task) -> str:
    """What `Task.read` reads."""
    return json.dumps(asdict(task))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
