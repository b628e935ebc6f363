"""The unharmed slide that faults are done to, and what a finished study's inference says about a slide file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from bccdist.addresses import on_this_machine
from bccdist.configuration import InferConfig, Setting
from bccdist.errors import BccdistError
from bccdist.files import csv_text, write_text
from bccdist.paths import RunPaths, StudyPaths
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, read_manifest
from bccdist.stages.inference import open_inference
from benchmarks.faults.doctor_trials import Found, diagnose
from benchmarks.faults.results import SlideResult, read_result
from benchmarks.faults.slide_files import write_pyramid

SLIDE_ID = "slide"
CONFIG = InferConfig(engine="eager")
_MOST_PX = 8_000_000
"""Level-0 pixels of a scene; of a larger slide some sections are cut out."""
_BORDER_PX = 64
_GLASS_FROM = 225
"""Green, from which a pixel of a drawn slide is glass."""
SIDES = ("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px")


@dataclass(frozen=True, kw_only=True)
class FinishedStudy:
    """A study whose weights are used."""

    root: Path
    manifest: Manifest
    setting: Setting
    epoch: int
    config: InferConfig
    """How its network is used, if a fault does not ask for something else."""

    @property
    def paths(self) -> StudyPaths:
        """Its files."""
        return StudyPaths(self.root)

    @property
    def run(self) -> RunPaths:
        """The training run."""
        return self.paths.run(self.setting)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A slide of the study, as pixels that faults are done to."""

    study: FinishedStudy
    seed: int
    folder: Path
    """For files that several faults share."""
    picture: NDArray[np.uint8]
    """Level 0: RGB [h, w, 3]; both sides are multiples of 16."""
    boxes: Sequence[Box]
    """Of the sections, in level-0 px."""
    truth: NDArray[np.uint8]
    """What was drawn, at half the size: 0 glass, 1 follicle, 2 tumor nest, 3 other tissue."""
    _results: dict[Path, SlideResult] = field(default_factory=dict)

    @cached_property
    def jpeg(self) -> Path:
        """The unharmed slide with JPEG tiles."""
        return write_pyramid(self.folder / "jpeg.tif", self.picture)

    @cached_property
    def lossless(self) -> Path:
        """The unharmed slide with lossless tiles."""
        return write_pyramid(self.folder / "lossless.tif", self.picture, compression="deflate")

    def shared(self, name: str, write: Callable[[Path], Path]) -> Path:
        """A file that several faults start from, written once."""
        path = self.folder / name
        return path if path.exists() else write(path)

    def unharmed(self, path: Path) -> SlideResult:
        """The result of an unharmed slide of this scene; inferred once."""
        if path not in self._results:
            try:
                self._results[path] = infer(self.study, path, Path(mkdtemp(dir=self.folder)))
            except BccdistError as error:
                raise AssertionError(f"the unharmed slide is refused: {error}") from error
        return self._results[path]

    def tissue_tiles(self, *, downsample: int, tile_px: int = 256, least: float = 0.4) -> list[tuple[int, int]]:
        """Rows and columns of a level's tiles of which at least a share is tissue."""
        is_tissue = (self.picture[..., 1] < _GLASS_FROM).astype(np.float32)
        side_px = tile_px * downsample
        rows, cols = (-(-edge // side_px) for edge in is_tissue.shape)
        padded = np.zeros((rows * side_px, cols * side_px), dtype=np.float32)
        padded[: is_tissue.shape[0], : is_tissue.shape[1]] = is_tissue
        shares = padded.reshape(rows, side_px, cols, side_px).mean(axis=(1, 3))
        found = [(int(row), int(col)) for row, col in np.argwhere(shares >= least)]
        return found or [(int(shares.argmax()) // cols, int(shares.argmax()) % cols)]


def make_scene(study: FinishedStudy, seed: int, folder: Path) -> Scene:
    """The scene of a seed: the study's slides without annotations take turns."""
    folder.mkdir(parents=True)
    records = [record for record in study.manifest.slides if not record.part.is_annotated]
    record = records[seed % len(records)]
    with openslide.OpenSlide(on_this_machine(record.path)) as slide:
        picture = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3].copy()
    truth = cv2.imread(
        str(on_this_machine(record.path).parents[1] / "truth" / f"{record.slide_id}.mask.png"), cv2.IMREAD_UNCHANGED
    )
    boxes = [section.box_level0_px for section in study.manifest.sections_of(record.slide_id) if section.box_level0_px]
    window, kept = _window(picture.shape[1], picture.shape[0], boxes)
    for box in set(boxes) - set(kept):
        picture[box._replace(x=box.x - 8, y=box.y - 8, width=box.width + 16, height=box.height + 16).slices()] = 243
    half = Box(window.x // 2, window.y // 2, window.width // 2, window.height // 2)
    return Scene(
        study=study,
        seed=seed,
        folder=folder,
        picture=picture[window.slices()].copy(),
        boxes=[box._replace(x=box.x - window.x, y=box.y - window.y) for box in kept],
        truth=np.asarray(truth, dtype=np.uint8)[half.slices()].copy(),
    )


def _window(width: int, height: int, boxes: Sequence[Box]) -> tuple[Box, list[Box]]:
    """What is cut out of a slide, and the sections that lie in it whole."""
    if width * height <= _MOST_PX:
        return Box(0, 0, width, height), list(boxes)
    kept = [boxes[0]]
    window = _around(kept, width, height)
    for box in boxes[1:]:
        larger = _around([*kept, box], width, height)
        if larger.area <= _MOST_PX:
            kept, window = [*kept, box], larger
    return window, kept


def _around(boxes: Sequence[Box], width: int, height: int) -> Box:
    x, y = (
        max(0, min(corner) - _BORDER_PX) // 16 * 16 for corner in zip(*((box.x, box.y) for box in boxes), strict=True)
    )
    x_end, y_end = max(box.x_end for box in boxes) + _BORDER_PX, max(box.y_end for box in boxes) + _BORDER_PX
    return Box(x, y, min(-(-(x_end - x) // 16) * 16, width - x), min(-(-(y_end - y) // 16) * 16, height - y))


def write_slide_manifest(path: Path, folder: Path, *, mpp: float | None, boxes: Sequence[Box]) -> Manifest:
    """A manifest of one slide of Test; with boxes it has sections that nobody has labelled."""
    row = {"slide_id": SLIDE_ID, "part": "test", "path": str(path), "mpp": mpp or "", "scanner": "phantom"}
    write_text(folder / "slides.csv", csv_text(list(row), [row]))
    if boxes:
        rows = [
            {"slide_id": SLIDE_ID, "section_id": f"box-{number}", "label": "", **dict(zip(SIDES, box, strict=True))}
            for number, box in enumerate(boxes)
        ]
        write_text(folder / "sections.csv", csv_text(list(rows[0]), rows))
    return read_manifest(folder / "slides.csv")


def infer(
    study: FinishedStudy,
    path: Path,
    folder: Path,
    *,
    mpp: float | None = None,
    boxes: Sequence[Box] = (),
    config: InferConfig | None = None,
) -> SlideResult:
    """What the study's network says about a slide file, through the stage that makes heatmaps and ledger.

    Args:
        study: whose weights.
        path: the slide.
        folder: where its study is made.
        mpp: as the manifest says it.
        boxes: of sections.csv, in level-0 px.
        config: how; the study's by default.

    Raises:
        BccdistError: the product refuses the slide.
    """
    manifest = write_slide_manifest(path, folder, mpp=mpp, boxes=boxes)
    paths = StudyPaths(folder / "study")
    paths.runs.mkdir(parents=True)
    paths.run(study.setting).root.symlink_to(study.run.root.resolve())
    work = open_inference(manifest.path, [SLIDE_ID], paths.root, study.setting, [study.epoch], config or study.config)
    work(SLIDE_ID)
    names = (study.setting, study.epoch, SLIDE_ID)
    return read_result(paths.heatmap(*names), paths.ledger_rows(*names))


def check(path: Path, folder: Path, *, mpp: float | None = None, boxes: Sequence[Box] = ()) -> Found:
    """What the doctor finds on a slide file."""
    folder.mkdir(parents=True, exist_ok=True)
    return diagnose(write_slide_manifest(path, folder, mpp=mpp, boxes=boxes).path)
