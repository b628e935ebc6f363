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
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bccdist.configuration import CELL_PX, PATCH_PX, Setting
from bccdist.errors import ConfigurationError
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet, tumor_probability
from bccdist.networks.weights import load_network

WHITE = 255
FRAME_CELLS = 1
"""Cells of glass around the framed copy: as far as patches of the paper's tiling reach beyond the slide."""
MASK_PX = 32
"""Edge of a pixel of the mask that TIAToolbox is given, in the target frame."""


@dataclass(frozen=True, kw_only=True)
class TaskSlide:
    """One slide as all ways are given it. Cells and patches as in `bccdist.heatmaps.layout`."""

    slide_id: str
    path: str
    framed: str
    """The same slide with `FRAME_CELLS` of glass on each side, for tools whose patches keep to the slide; "" where its
    tiles are of a kind that cannot be pasted."""
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

    def require_framed(self) -> str:
        """The framed copy.

        Raises:
            ConfigurationError: there is none.
        """
        if not self.framed:
            raise ConfigurationError(
                f"{self.path}: its levels are not all of whole JPEG tiles, so it has no copy with a frame, and a tool "
                "whose patches keep to the slide would see others"
            )
        return self.framed

    @property
    def framed_size_px(self) -> tuple[int, int]:
        """Width and height of the target frame of the framed copy."""
        width, height = self.size_px
        return width + 2 * FRAME_CELLS * CELL_PX, height + 2 * FRAME_CELLS * CELL_PX

    def crop(self, framed: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a tool found on the framed copy [h, w], in the slide's own frame; nan where it found nothing."""
        width, height = self.size_px
        heatmap = np.full((height, width), np.nan, dtype=np.float32)
        inside = framed[FRAME_CELLS * CELL_PX :, FRAME_CELLS * CELL_PX :][:height, :width]
        heatmap[: inside.shape[0], : inside.shape[1]] = inside
        return heatmap


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all ways are given alike."""

    slides: tuple[TaskSlide, ...]
    batch: int
    manifest: str
    study: str
    """A study folder with the weights, and the int8 model where there is one."""
    weights: str
    setting: Setting
    epoch: int

    @classmethod
    def read(cls, path: Path) -> "Task":
        """The task that `task_text` wrote."""
        values = json.loads(path.read_text())
        slides = tuple(
            TaskSlide(
                **{**each, "size_px": tuple(each["size_px"]), "places": [tuple(place) for place in each["places"]]}
            )
            for each in values["slides"]
        )
        return cls(**{**values, "slides": slides})

    @property
    def num_patches(self) -> int:
        """Patches of the paper's tiling on all slides."""
        return sum(len(slide.places) for slide in self.slides)

    @property
    def num_cells(self) -> int:
        """Cells of 256 px with tissue on all slides."""
        return sum(int(np.count_nonzero(slide.cells)) for slide in self.slides)


@dataclass(frozen=True, kw_only=True)
class Took:
    """What a way took."""

    wall_s: float
    cpu_s: float
    """Processor time of the process and of its loading workers."""
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
    heatmaps: Mapping[str, NDArray[np.float32]]
    """Tumor probability of the final output in each slide's target frame [h, w], nan where nothing was computed."""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """The verdict of each section, by `SLIDE/SECTION`, where the way gives any."""
    reached: Mapping[str, int] = field(default_factory=dict)
    """How many verdicts were reached how: certified, recomputed, exact."""


class Stopwatch:
    """Started when it is made."""

    def __init__(self) -> None:
        self._started, self._cpu = perf_counter(), _cpu_s()

    def stop(self, *, excluded: Took | None = None, num_workers: int = 0) -> Took:
        """The time since then, less what is excluded, and the memory up to now."""
        wall_s, cpu_s = perf_counter() - self._started, _cpu_s() - self._cpu
        worker_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if num_workers else 0
        return Took(
            wall_s=wall_s - (excluded.wall_s if excluded else 0),
            cpu_s=cpu_s - (excluded.cpu_s if excluded else 0),
            peak_gib=peak_gib(),
            worker_gib=worker_kib / 2**20,
        )


def _cpu_s() -> float:
    """Processor time of all threads of this process, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


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


def read_plain(handle: Any, slide: TaskSlide, box_px: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """A box (x, y, width, height) of the target frame by OpenSlide: RGB [h, w, 3], white where nothing was scanned."""
    x, y, width, height = box_px
    origin_level0_px = (round(x * slide.downsample), round(y * slide.downsample))
    rgba = np.asarray(handle.read_region(origin_level0_px, slide.level, (width, height)))
    return np.where(rgba[..., 3:] == 0, np.uint8(WHITE), rgba[..., :3])


class PlainPatches(Dataset[Tensor]):
    """Each patch read from the slide by itself, as tutorials do it; a worker opens its own handle."""

    def __init__(self, slide: TaskSlide) -> None:
        self._slide = slide
        self._handle: Any = None

    def __len__(self) -> int:
        return len(self._slide.places)

    def __getitem__(self, index: int) -> Tensor:
        """Stored pixels, uint8 RGB [512, 512, 3]."""
        import openslide

        if self._handle is None:
            self._handle = openslide.OpenSlide(self._slide.path)
        row, col = self._slide.places[index]
        box_px = (col * CELL_PX, row * CELL_PX, PATCH_PX, PATCH_PX)
        return torch.from_numpy(read_plain(self._handle, self._slide, box_px))


def patch_loop(task: Task, folder: Path, *, num_workers: int) -> Outcome:
    """A DataLoader over single patches, the network, a running sum: the loop that everybody writes first."""
    import openslide

    network = plain_network(task)
    watch = Stopwatch()
    heatmaps = {}
    for slide in task.slides:
        heatmaps[slide.slide_id] = _loop_over(network, slide, batch=task.batch, num_workers=num_workers)
        np.save(folder / f"{slide.slide_id}.npy", heatmaps[slide.slide_id])
    return Outcome(
        took=watch.stop(num_workers=num_workers),
        num_patches=task.num_patches,
        software=f"OpenSlide {openslide.__version__}, torch {torch.__version__}",
        heatmaps=heatmaps,
    )


def _loop_over(
    network: DeeplySupervisedUNet, slide: TaskSlide, *, batch: int, num_workers: int
) -> NDArray[np.float32]:
    rows, cols = np.shape(slide.cells)
    # One cell more on each side, for the patches that begin before the slide.
    total = np.zeros(((rows + 2) * CELL_PX, (cols + 2) * CELL_PX), dtype=np.float32)
    times = np.zeros_like(total)
    loader = DataLoader(PlainPatches(slide), batch_size=batch, num_workers=num_workers)
    places = iter(slide.places)
    with torch.inference_mode():
        for patches_NPP3 in loader:
            for probability in final_probability(network, to_network_input(patches_NPP3)).numpy():
                row, col = next(places)
                here = np.s_[(row + 1) * CELL_PX :, (col + 1) * CELL_PX :]
                total[here][:PATCH_PX, :PATCH_PX] += probability
                times[here][:PATCH_PX, :PATCH_PX] += 1
    width, height = slide.size_px
    inside = np.s_[CELL_PX : CELL_PX + height, CELL_PX : CELL_PX + width]
    heatmap = np.divide(total[inside], np.maximum(times[inside], 1), dtype=np.float32)
    heatmap[times[inside] == 0] = np.nan
    return heatmap


def monai_inferer(task: Task, folder: Path) -> Outcome:
    """MONAI's PatchInferer over its sliding window on a slide, which leaves out patches without tissue."""
    import monai  # type: ignore[import-not-found, unused-ignore]
    from monai.inferers import PatchInferer, WSISlidingWindowSplitter  # type: ignore[import-not-found, unused-ignore]

    network = plain_network(task)
    seen = 0

    def find(x_N3PP: Tensor) -> Tensor:
        nonlocal seen
        seen += len(x_N3PP)
        patches_NPP3 = torch.as_tensor(x_N3PP).permute(0, 2, 3, 1)
        return final_probability(network, to_network_input(patches_NPP3))[:, None]

    watch = Stopwatch()
    heatmaps = {}
    for slide in task.slides:
        places = {(CELL_PX * (row + FRAME_CELLS), CELL_PX * (col + FRAME_CELLS)) for row, col in slide.places}
        splitter = WSISlidingWindowSplitter(
            patch_size=(PATCH_PX, PATCH_PX),
            overlap=0.5,
            filter_fn=lambda _, location, places=places: tuple(location) in places,
            reader="OpenSlide",
            level=slide.level,
            dtype=np.uint8,
        )
        inferer = PatchInferer(splitter, batch_size=task.batch)
        with torch.inference_mode():
            found: Any = inferer(slide.require_framed(), find)
        heatmaps[slide.slide_id] = slide.crop(torch.as_tensor(found)[0, 0].numpy())
        np.save(folder / f"{slide.slide_id}.npy", heatmaps[slide.slide_id])
    return Outcome(
        took=watch.stop(),
        num_patches=seen,
        software=f"MONAI {monai.__version__}, torch {torch.__version__}",
        heatmaps=heatmaps,
    )


def tissue_mask_image(slide: TaskSlide) -> NDArray[np.uint8]:
    """The cells as a mask of the framed slide, `MASK_PX` target pixels per pixel: uint8 [h, w], 0 or 1."""
    times = CELL_PX // MASK_PX
    cells = np.pad(np.asarray(slide.cells, dtype=np.uint8), FRAME_CELLS)
    width, height = slide.framed_size_px
    return cells.repeat(times, axis=0).repeat(times, axis=1)[: round(height / MASK_PX), : round(width / MASK_PX)]


def declare_torchvision() -> None:
    """Name torchvision's compiled operations, which its import expects and a CPU without them lacks; none is used.

    Its other parts are plain Python, and work beside any build of torch.
    """
    declared: Any = getattr(torch.library, "Library")("torchvision", "DEF")  # noqa: B009
    for name in ("nms", "qnms"):
        declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(declared)


_DECLARED: list[Any] = []
"""Declarations end with the object that made them."""


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
    declare_torchvision()
    import tiatoolbox as library  # type: ignore[import-not-found, unused-ignore]
    import zarr
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig  # type: ignore[import-not-found, unused-ignore]
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor  # type: ignore[import-not-found, unused-ignore]

    shape = (PATCH_PX, PATCH_PX)
    model = _tiatoolbox_model(plain_network(task), exported=exported)
    watch = Stopwatch()
    segmentor = SemanticSegmentor(model, batch_size=task.batch, num_workers=num_workers, verbose=False)
    written: dict[str, Path] = {}
    for slide in task.slides:
        # Its configuration knows no levels; this is the level's um per pixel, so that nothing is resampled.
        resolution = [{"units": "mpp", "resolution": slide.mpp}]
        ioconfig = IOSegmentorConfig(
            input_resolutions=resolution,
            output_resolutions=resolution,
            patch_input_shape=shape,
            patch_output_shape=shape,
            stride_shape=(CELL_PX, CELL_PX),
            save_resolution=resolution[0],
        )
        path = Path(slide.require_framed())
        written[slide.slide_id] = segmentor.run(
            [path],
            masks=[tissue_mask_image(slide)],
            patch_mode=False,
            ioconfig=ioconfig,
            save_dir=folder / f"tiatoolbox-{slide.slide_id}",
            output_type="zarr",
        )[path]
    took = watch.stop(num_workers=num_workers)

    def found(slide: TaskSlide) -> NDArray[np.float32]:
        group: Any = zarr.open(str(written[slide.slide_id]), mode="r")
        return slide.crop(np.divide(np.asarray(group["predictions"])[..., 0], 255, dtype=np.float32))

    return Outcome(
        took=took,
        num_patches=model.num_patches,
        software=f"TIAToolbox {library.__version__}, torch {torch.__version__}",
        heatmaps={slide.slide_id: found(slide) for slide in task.slides},
    )


def lazyslide(task: Task, folder: Path, *, num_workers: int) -> Outcome:
    """LazySlide's semantic segmentation on our patches, which ends with polygons at 0.5 and keeps no heatmap."""
    declare_torchvision()
    import lazyslide as library  # type: ignore[import-not-found, unused-ignore]
    from wsidata import TileSpec, open_wsi  # type: ignore[import-not-found, unused-ignore]
    from wsidata.io import add_tiles  # type: ignore[import-not-found, unused-ignore]

    model = _LazySlideModel(plain_network(task))
    watch = Stopwatch()
    for slide in task.slides:
        wsi = open_wsi(slide.require_framed(), reader="openslide", store=None)
        corners = [((col + FRAME_CELLS) * CELL_PX, (row + FRAME_CELLS) * CELL_PX) for row, col in slide.places]
        spec = TileSpec(
            height=PATCH_PX,
            width=PATCH_PX,
            stride_height=CELL_PX,
            stride_width=CELL_PX,
            mpp=slide.mpp,
            ops_level=slide.level,
            base_downsample=slide.downsample,
        )
        xys_level0 = np.round(np.asarray(corners) * slide.downsample).astype(np.int64)
        add_tiles(wsi, "tiles", xys_level0, spec, np.zeros(len(xys_level0), dtype=np.int64))
        with suppress(IndexError):  # it cannot keep an empty result
            library.seg.semantic(
                wsi,
                model,
                transform=torch.from_numpy,
                mode="constant",
                batch_size=task.batch,
                num_workers=num_workers,
                device="cpu",
                amp=False,
                pbar=False,
                key_added="tumor",
            )
        if "tumor" in wsi.shapes:
            polygons = wsi.shapes["tumor"]
            polygons.attrs.clear()  # what SpatialData keeps there is no JSON
            polygons.to_parquet(folder / f"{slide.slide_id}.parquet")
    return Outcome(
        took=watch.stop(num_workers=num_workers),
        num_patches=model.num_patches,
        software=f"LazySlide {library.__version__}, torch {torch.__version__}",
        heatmaps={},
    )


class _LazySlideModel:
    """The network as LazySlide wants it: two classes, of which 0 is left out; `num_patches` counts what it saw."""

    def __init__(self, network: DeeplySupervisedUNet) -> None:
        self._network = network
        self.num_patches = 0

    def to(self, device: str) -> "_LazySlideModel":
        """It stays where it is, on the CPU."""
        del device
        return self

    def segment(self, patches_NPP3: Tensor) -> Any:
        """Stored pixels, uint8 RGB [n, p, p, 3], to an object with a `probability_map` [n, 2, p, p]."""
        self.num_patches += len(patches_NPP3)
        probability = final_probability(self._network, to_network_input(patches_NPP3))
        return SimpleNamespace(probability_map=torch.stack([1 - probability, probability], dim=1))


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
    prepared = StudyPaths(Path(task.study).resolve())
    study.runs.symlink_to(prepared.runs)
    if prepared.selection.exists():
        study.selection.parent.symlink_to(prepared.selection.parent)
    how = InferConfig(batch=task.batch, **config)

    def infer(slide_ids: Sequence[str]) -> None:
        infer_slides(Path(task.manifest), slide_ids, study.root, task.setting, [task.epoch], how, num_workers=0)

    # What only the first call of a process does, such as imports, would be excluded though the second is spared it.
    infer([])
    loading = Stopwatch()
    infer([])
    excluded = loading.stop()
    watch = Stopwatch()
    infer([slide.slide_id for slide in task.slides])
    took = watch.stop(excluded=excluded)
    made = {slide.slide_id: Heatmap(study.heatmap(task.setting, task.epoch, slide.slide_id)) for slide in task.slides}
    arithmetic = made[task.slides[0].slide_id].attributes.arithmetic
    return Outcome(
        took=took,
        num_patches=sum(heatmap.attributes.num_patches for heatmap in made.values()),
        software=f"bccdist {__version__}, {arithmetic}, torch {torch.__version__}",
        heatmaps=(
            {slide.slide_id: _own_probability(made[slide.slide_id], slide) for slide in task.slides}
            if how.exit is None
            else {}
        ),
        **_judged(study, task),
    )


def _judged(study: Any, task: Task) -> dict[str, Any]:
    """The verdicts of all sections by the study's thresholds, and how many were reached how; nothing without them."""
    import pandas as pd

    from bccdist.heatmaps.probability import step_of
    from bccdist.sections.choices import read_choices
    from bccdist.sections.ledger import read_rows
    from bccdist.sections.verdicts import has_tumor, region_area_um2, verdicts_of

    if not study.selection.exists():
        return {}
    choice = next(each for each in read_choices(study) if each.setting == task.setting)
    files = [study.ledger_rows(task.setting, task.epoch, slide.slide_id) for slide in task.slides]
    rows = pd.concat([read_rows(file).to_pandas() for file in files])
    rows = rows[rows["psi"] == choice.psi]
    area_um2 = region_area_um2(
        np.stack(rows["largest_region_px"].tolist()),
        step_of(choice.t_p),
        mpp=rows["mpp"].to_numpy(),
        pixel_px=rows["pixel_px"].to_numpy(),
        area_unit=choice.area_unit,
    )
    verdicts = verdicts_of(has_tumor(area_um2, choice.t_a_um2), rows["coverage"].to_numpy())
    names = rows["slide_id"] + "/" + rows["section_id"]
    reached = rows["reached_by"].value_counts() if "reached_by" in rows else {}
    return {
        "verdicts": dict(zip(names, verdicts.tolist(), strict=True)),
        "reached": {str(how): int(num) for how, num in dict(reached).items()},
    }


def _own_probability(heatmap: Any, slide: TaskSlide) -> NDArray[np.float32]:
    from bccdist.slides.geometry import Box

    width, height = slide.size_px
    stored = heatmap.read(heatmap.outputs[-1], Box(0, 0, width, height))
    covered = heatmap.coverage == heatmap.attributes.full_coverage
    pixels = covered.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)[:height, :width]
    return np.where(pixels, stored.astype(np.float32) / 255, np.float32(np.nan))


WAYS: Mapping[str, Callable[..., Outcome]] = {
    "patch_loop": patch_loop,
    "tiatoolbox": tiatoolbox,
    "monai_inferer": monai_inferer,
    "lazyslide": lazyslide,
    "bccdist": bccdist,
}


def main(task_file: Path, way_file: Path, folder: Path) -> None:
    """Run a way, and write what it took to outcome.json and its heatmaps to compared-SLIDE.npy."""
    way = json.loads(way_file.read_text())
    outcome = WAYS[way["function"]](Task.read(task_file), folder, **way["options"])
    for slide_id, heatmap in outcome.heatmaps.items():
        np.save(folder / f"compared-{slide_id}.npy", heatmap)
    about = {
        "num_patches": outcome.num_patches,
        "software": outcome.software,
        "verdicts": outcome.verdicts,
        "reached": outcome.reached,
    }
    (folder / "outcome.json").write_text(json.dumps({**asdict(outcome.took), **about}))


def task_text(task: Task) -> str:
    """What `Task.read` reads."""
    return json.dumps(asdict(task))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
