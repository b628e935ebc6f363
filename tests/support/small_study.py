"""A study of three small slides with known pixels, for the tests of shard sets."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from bccdist.configuration import ShardConfig
from bccdist.paths import ShardSetPaths, StudyPaths
from shards.build import build_slides
from shards.finish import finish_set

MPP_LEVEL0 = 0.46
DOWNSAMPLE = 2
TUMORNEST, STROMA, NORMAL = 1, 2, 3
SLIDE_IDS = ("train-0", "train-1", "val1-0")


@dataclass(frozen=True, kw_only=True)
class SmallStudy:
    """The manifest and the folder of a study that can be built."""

    manifest: Path
    root: Path
    config: ShardConfig = field(default_factory=ShardConfig)

    @property
    def shards(self) -> ShardSetPaths:
        return StudyPaths(self.root).shards

    @property
    def data(self) -> Path:
        return self.manifest.parent

    def build(self, *slide_ids: str) -> None:
        build_slides(self.manifest, slide_ids or SLIDE_IDS, self.root, self.config, num_workers=0)

    def finish(self) -> None:
        finish_set(self.manifest, self.root, self.config, num_workers=0)

    def copied_to(self, folder: Path) -> "SmallStudy":
        """The same study, data and all, in another folder."""
        shutil.copytree(self.data, folder / "data")
        if self.root.exists():
            shutil.copytree(self.root, folder / "study")
        return replace(self, manifest=folder / "data" / self.manifest.name, root=folder / "study")

    def contents(self) -> dict[str, bytes]:
        """Every file of the shard set."""
        files = [path for path in self.shards.root.rglob("*") if path.is_file()]
        return {path.relative_to(self.shards.root).as_posix(): path.read_bytes() for path in files}


def tissue_picture(width_px: int, height_px: int, *, seed: int) -> NDArray[np.uint8]:
    """Smooth pink tissue in the target frame, with a strip of glass at the right: uint8 RGB [h, w, 3]."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 12, (height_px // 16 + 1, width_px // 16 + 1, 3))
    smooth = cv2.resize(noise, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(np.array([200, 120, 170]) + smooth, 0, 255).astype(np.uint8)
    picture[:, width_px * 9 // 10 :] = 240
    return picture


def write_slide(path: Path, picture: NDArray[np.uint8]) -> None:
    """A lossless pyramid whose level 1 is `picture`, so that it is what the target frame shows."""
    level0 = picture.repeat(DOWNSAMPLE, axis=0).repeat(DOWNSAMPLE, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as tiff:
        for level, image in enumerate((level0, picture)):
            tiff.write(
                image,
                tile=(256, 256),
                photometric="rgb",
                subfiletype=int(level > 0),
                resolution=(1e4 / (MPP_LEVEL0 * DOWNSAMPLE**level),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    assert cv2.imwrite(str(path), mask)


def annotated(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Disjoint rectangles of all three kinds, as mask values [h, w]."""
    mask = np.zeros((height_px, width_px), dtype=np.uint8)
    mask[100:300, 60:350] = TUMORNEST
    mask[300:420, 60:350] = STROMA
    mask[500:640, 700:900] = NORMAL
    return mask


def write_manifest(folder: Path, slides: Sequence[tuple[str, str]], sections: Sequence[str] = ()) -> Path:
    """Slides.csv for (slide_id, part), and sections.csv for the given lines."""
    lines = [f"{name},{part},{name}.tif,{name}.png" for name, part in slides]
    path = folder / "slides.csv"
    path.write_text("\n".join(["slide_id,part,path,annotation", *lines]) + "\n", encoding="utf-8")
    if sections:
        header = "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px"
        path.with_name("sections.csv").write_text("\n".join([header, *sections]) + "\n", encoding="utf-8")
    return path


def write_finished_study(folder: Path, *, width_px: int = 1300, height_px: int = 900) -> SmallStudy:
    """`write_study`, with its shard set built and finished."""
    study = write_study(folder, width_px=width_px, height_px=height_px)
    study.build()
    study.finish()
    return study


def write_study(folder: Path, *, width_px: int = 1300, height_px: int = 900) -> SmallStudy:
    """Two Training slides and one of Validation I, wider than high; train-0 has two sections, its halves."""
    data = folder / "data"
    for seed, slide_id in enumerate(SLIDE_IDS):
        write_slide(data / f"{slide_id}.tif", tissue_picture(width_px, height_px, seed=seed))
        write_mask(data / f"{slide_id}.png", annotated(width_px, height_px))
    slides = [("val1-0", "val1"), ("train-0", "train"), ("train-1", "train")]
    half = f"{width_px},{DOWNSAMPLE * height_px}"
    sections = [f"train-0,left,Tumor,0,0,{half}", f"train-0,right,Normal,{width_px},0,{half}"]
    return SmallStudy(manifest=write_manifest(data, slides, sections), root=folder / "study")


def write_unbuilt_study(folder: Path, slides: Sequence[tuple[str, str]], sections: Sequence[str] = ()) -> SmallStudy:
    """Small slides of given parts, all annotated, with nothing built from them; the study's folder is not there."""
    width_px, height_px = 700, 500
    for seed, (slide_id, _) in enumerate(slides):
        write_slide(folder / f"{slide_id}.tif", tissue_picture(width_px, height_px, seed=seed))
        write_mask(folder / f"{slide_id}.png", annotated(width_px, height_px))
    return SmallStudy(manifest=write_manifest(folder, slides, sections), root=folder / "study")
