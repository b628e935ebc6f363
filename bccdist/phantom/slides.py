"""Phantom slides: sections laid out on glass, with annotations, truth masks and a manifest.

In the folder: `slides.csv` and `sections.csv` (the manifest), `slides/`, `annotations/`, `truth/` (masks at 10x for
checking, not part of the method), `finished/` (one record a slide, written after its files), `phantom.json` (last).
"""

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.errors import ConfigurationError
from bccdist.files import atomic_path, read_json, write_json, write_text
from bccdist.parts import Label, Part
from bccdist.phantom.annotations import annotate_section, collection
from bccdist.phantom.config import PhantomConfig
from bccdist.phantom.layout import draw_boxes, draw_labels
from bccdist.phantom.outlines import Float, Window
from bccdist.phantom.painting import PaintedSection, paint_section
from bccdist.phantom.pyramid import write_pyramid
from bccdist.phantom.stains import Staining, draw_staining
from bccdist.phantom.textures import smooth_noise

PAINTED_DOWNSAMPLE = 2
"""Sections are painted at this downsample (10x); level 0 is enlarged from it."""
SENSOR_NOISE = 2
LABELLED_BY = "phantom-generator"
LABELLED_AT = "2021-01-01T00:00:00Z"
README = "phantom data, generated, not tissue\n"
SLIDE_COLUMNS = ("slide_id", "part", "path", "annotation", "mpp", "scanner")
SECTION_COLUMNS = (
    "slide_id", "section_id", "x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px",
    "label", "labelled_by", "labelled_at", "prefilled",
)  # fmt: skip


@dataclass(frozen=True)
class PhantomPaths:
    """The files of one phantom data set."""

    root: Path

    @property
    def slides_csv(self) -> Path:
        """The manifest's slides."""
        return self.root / "slides.csv"

    @property
    def sections_csv(self) -> Path:
        """The manifest's sections and their labels."""
        return self.root / "sections.csv"

    @property
    def readme(self) -> Path:
        """Says that nothing here is tissue."""
        return self.root / "README.txt"

    @property
    def phantom(self) -> Path:
        """Written last: the configuration and its digest; its presence means that the data set is whole."""
        return self.root / "phantom.json"

    @property
    def finished(self) -> Path:
        """The folder of the slides' records."""
        return self.root / "finished"

    def slide(self, slide_id: str) -> Path:
        """The pyramidal TIFF."""
        return self.root / "slides" / f"{slide_id}.tif"

    def annotation(self, slide_id: str) -> Path:
        """The polygons, for the annotated parts only."""
        return self.root / "annotations" / f"{slide_id}.geojson"

    def truth(self, slide_id: str) -> Path:
        """The truth at 10x: 0 no tissue, 1 follicle, 2 tumor nest, 3 other tissue."""
        return self.root / "truth" / f"{slide_id}.mask.png"

    def record(self, slide_id: str) -> Path:
        """The slide's digest and section rows; written after its other files, so its presence means done."""
        return self.finished / f"{slide_id}.json"


@dataclass(frozen=True, kw_only=True)
class SlideName:
    """Which slide of the data set; everything random in it follows from the seed, the part and the index."""

    part: Part
    index: int

    @property
    def slide_id(self) -> str:
        """For example `phantom-train-000`."""
        return f"phantom-{self.part.short}-{self.index:03d}"

    def seeds(self, seed: int) -> np.random.SeedSequence:
        """The root of the slide's random numbers."""
        return np.random.SeedSequence([seed, list(Part).index(self.part), self.index])


@dataclass(frozen=True, kw_only=True)
class PlacedSection:
    """A painted section and its painted box on the slide, in 10x pixels."""

    section_id: str
    window: Window
    painted: PaintedSection

    def tight_box_level0_px(self) -> tuple[int, int, int, int]:
        """The tissue's x, y, width and height at level 0."""
        rows, columns = np.nonzero(self.painted.truth)
        left, top = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) + 1 - left, int(rows.max()) + 1 - top
        box = (self.window.left_px + left, self.window.top_px + top, width, height)
        return tuple(PAINTED_DOWNSAMPLE * side for side in box)  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class PaintedSlide:
    """A slide before it is written: level 0 RGB [h, w, 3], truth at 10x [h, w], features in level-0 pixels."""

    picture: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    sections: tuple[PlacedSection, ...]
    features: list[dict[str, Any]]


def make_phantom(folder: Path, config: PhantomConfig, *, report: Callable[[str], None] = print) -> Path:
    """Make the phantom data set in `folder` and give the path of its slides.csv; finished slides are kept.

    Raises:
        ConfigurationError: the folder holds files of another configuration, or the slides are too small.
    """
    paths = PhantomPaths(folder)
    _check_folder(paths, config)
    names = slide_names(config)
    for number, name in enumerate(names, start=1):
        report(f"[{number}/{len(names)}] {_make_slide(paths, name, config)}")
    records = [read_json(paths.record(name.slide_id)) for name in names]
    write_text(paths.readme, README)
    write_text(
        paths.sections_csv, _csv_text(SECTION_COLUMNS, [row for record in records for row in record["sections"]])
    )
    write_text(paths.slides_csv, _csv_text(SLIDE_COLUMNS, [_slide_row(paths, name) for name in names]))
    write_json(paths.phantom, {"digest": config.digest(), "config": asdict(config)})
    return paths.slides_csv


def slide_names(config: PhantomConfig) -> list[SlideName]:
    """All slides of the data set, in the order of the parts."""
    return [SlideName(part=part, index=index) for part, number in config.num_slides.items() for index in range(number)]


def _check_folder(paths: PhantomPaths, config: PhantomConfig) -> None:
    """Refuse a folder that holds anything made with another configuration, or a manifest not made here."""
    marks = [path for path in (paths.phantom, *sorted(paths.finished.glob("*.json"))) if path.exists()]
    for mark in marks:
        found = read_json(mark)["digest"]
        if found != config.digest():
            raise ConfigurationError(
                f"{mark} was made with configuration {found}, this one is {config.digest()}; nothing was changed: "
                "choose another folder, or remove this one"
            )
    if paths.slides_csv.exists() and not marks:
        raise ConfigurationError(f"{paths.slides_csv} is not a phantom's manifest; choose another folder")


def _make_slide(paths: PhantomPaths, name: SlideName, config: PhantomConfig) -> str:
    """Make one slide's files unless they are finished; what was done, in one line."""
    slide_id = name.slide_id
    if paths.record(slide_id).exists() and paths.slide(slide_id).exists():
        return f"{slide_id}: kept"
    start_s = time.perf_counter()
    slide = paint_slide(name, config)
    _write_slide(paths, name, slide, config)
    num_tumor = sum(section.painted.label is Label.TUMOR for section in slide.sections)
    took_s = time.perf_counter() - start_s
    return f"{slide_id}: {len(slide.sections)} sections, {num_tumor} of them Tumor, {took_s:.1f} s"


def paint_slide(name: SlideName, config: PhantomConfig) -> PaintedSlide:
    """Paint one slide; equal arguments give equal pixels, whatever was painted before.

    Raises:
        ConfigurationError: the slide is too small for its sections.
    """
    layout_seed, glass_seed, section_seed, annotation_seed = name.seeds(config.seed).spawn(4)
    rng = np.random.default_rng(layout_seed)
    staining = draw_staining(rng)
    sections = _paint_sections(rng, section_seed, name, config)
    width_px, height_px = _painted_size_px(config)
    glass_rng, annotation_rng = np.random.default_rng(glass_seed), np.random.default_rng(annotation_seed)
    light = _glass(glass_rng, width_px=width_px, height_px=height_px)
    truth = np.zeros((height_px, width_px), np.uint8)
    features = []
    for section in sections:
        _lay_on_glass(light, truth, section, staining)
        features += _annotate(annotation_rng, section, config)
    return PaintedSlide(
        picture=_photograph(glass_rng, light), truth=truth, sections=tuple(sections), features=features
    )


def _painted_size_px(config: PhantomConfig) -> tuple[int, int]:
    return config.slide_width_level0_px // PAINTED_DOWNSAMPLE, config.slide_height_level0_px // PAINTED_DOWNSAMPLE


def _paint_sections(
    rng: np.random.Generator, section_seed: np.random.SeedSequence, name: SlideName, config: PhantomConfig
) -> list[PlacedSection]:
    width_px, height_px = _painted_size_px(config)
    fewest, most = config.sections_per_slide
    num_sections = int(rng.integers(fewest, most + 1))
    labels = draw_labels(rng, num_sections=num_sections, tumor_share=config.tumor_share)
    windows = draw_boxes(rng, num_sections=num_sections, width_px=width_px, height_px=height_px)
    return [
        PlacedSection(
            section_id=f"{name.slide_id}-s{position}",
            window=window,
            painted=paint_section(
                np.random.default_rng(seed), label, width_px=window.width_px, height_px=window.height_px
            ),
        )
        for position, (seed, label, window) in enumerate(
            zip(section_seed.spawn(num_sections), labels, windows, strict=True)
        )
    ]


def _glass(rng: np.random.Generator, *, width_px: int, height_px: int) -> Float:
    """Light through empty glass, [h, w, 3] in 0 to 255: near white, slightly and slowly shaded."""
    white = np.array([243, 243, 244], np.float32) + rng.normal(0, 1, 3).astype(np.float32)
    shade = smooth_noise(rng, height_px=height_px, width_px=width_px, scale_px=max(width_px, height_px) / 2)
    light: Float = white + np.float32(0.8) * shade[..., None]
    return light


def _lay_on_glass(light: Float, truth: NDArray[np.uint8], section: PlacedSection, staining: Staining) -> None:
    painted = section.painted
    light[section.window.slices] *= staining.transmittance(painted.hematoxylin, painted.eosin)
    truth[section.window.slices] = painted.truth


def _annotate(rng: np.random.Generator, section: PlacedSection, config: PhantomConfig) -> list[dict[str, Any]]:
    return annotate_section(
        rng,
        section.painted,
        origin_px=(section.window.left_px, section.window.top_px),
        downsample=PAINTED_DOWNSAMPLE,
        share=config.annotated_share,
    )


def _photograph(rng: np.random.Generator, light: Float) -> NDArray[np.uint8]:
    """Level 0, [h, w, 3] RGB: the light enlarged, with the sensor's noise."""
    height_px, width_px = (PAINTED_DOWNSAMPLE * side for side in light.shape[:2])
    painted = light.round().clip(0, 255).astype(np.uint8)
    enlarged = cv2.resize(painted, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    noise = np.empty_like(enlarged, dtype=np.int8)
    noise[...] = rng.integers(-SENSOR_NOISE, SENSOR_NOISE, enlarged.shape, dtype=np.int8, endpoint=True)
    return cv2.add(enlarged, noise, dtype=cv2.CV_8U).astype(np.uint8)


def _write_slide(paths: PhantomPaths, name: SlideName, slide: PaintedSlide, config: PhantomConfig) -> None:
    """Write the slide's files, its record last."""
    slide_id = name.slide_id
    write_pyramid(
        paths.slide(slide_id),
        slide.picture,
        mpp=config.mpp,
        tile_px=config.tile_px,
        jpeg_quality=config.jpeg_quality,
        description=f"{slide_id}: phantom slide, generated, not tissue; configuration {config.digest()}",
    )
    _write_png(paths.truth(slide_id), slide.truth)
    if name.part.is_annotated:
        write_text(paths.annotation(slide_id), json.dumps(collection(slide_id, slide.features)))
    rows = [_section_row(slide_id, section) for section in slide.sections]
    write_json(paths.record(slide_id), {"digest": config.digest(), "sections": rows})


def _write_png(path: Path, mask: NDArray[np.uint8]) -> None:
    encoded = cv2.imencode(".png", mask)[1]
    with atomic_path(path) as partial:
        partial.write_bytes(encoded.tobytes())


def _section_row(slide_id: str, section: PlacedSection) -> list[str]:
    box = [str(side) for side in section.tight_box_level0_px()]
    return [slide_id, section.section_id, *box, section.painted.label.value, LABELLED_BY, LABELLED_AT, ""]


def _slide_row(paths: PhantomPaths, name: SlideName) -> list[str]:
    """The slide's row in slides.csv; mpp is left empty because the slide itself knows it."""
    path = paths.slide(name.slide_id).relative_to(paths.root).as_posix()
    annotation = paths.annotation(name.slide_id).relative_to(paths.root).as_posix() if name.part.is_annotated else ""
    return [name.slide_id, name.part.value, path, annotation, "", "phantom"]


def _csv_text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
