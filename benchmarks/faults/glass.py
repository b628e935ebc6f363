"""Glass that is not neutral, slides without glass, padding around the scan, ink that closes a ring."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from benchmarks.faults.fault import Fault, Trial
from benchmarks.faults.results import EXACT, NEAR, SectionResult, SlideResult, Tolerance
from benchmarks.faults.slide_files import MPP, Picture, set_tag, write_pyramid
from benchmarks.faults.slide_trials import Changed, slide_fault
from benchmarks.faults.textures import GLASS, glass, tissue_texture

KIND = "glass"
_BOXES_ALONE = Tolerance(share=1.0, area_um2=1e12, differing=1.0)
"""Where colours were changed, sections have to be where they were; what the network says of them may move."""
_PHOTOMETRIC = 262
_RGB, _YCBCR = 2, 6
_Make = Callable[[Trial], Changed]


def _tinted(low: tuple[int, int, int], high: tuple[int, int, int]) -> _Make:
    """Light that went through coloured glass, which is of a colour between two."""

    def make(trial: Trial) -> Changed:
        light = trial.rng.uniform(low, high) / GLASS
        picture = (trial.scene.picture * light).round().astype(np.uint8)
        path = write_pyramid(trial.folder / "changed.tif", picture)
        return Changed(path=path, like=trial.scene.jpeg, tolerance=_BOXES_ALONE)

    return make


def _shaded(trial: Trial) -> Changed:
    """Glass that grows darker towards one side."""
    width = trial.scene.picture.shape[1]
    ramp = np.linspace(1.0, float(trial.rng.uniform(0.78, 0.88)), width, dtype=np.float32)
    picture = (trial.scene.picture * ramp[None, :, None]).round().astype(np.uint8)
    path = write_pyramid(trial.folder / "changed.tif", picture)
    return Changed(path=path, like=trial.scene.jpeg, tolerance=_BOXES_ALONE)


def _all_tissue(trial: Trial) -> Changed:
    shape = (768, 1024)
    path = write_pyramid(trial.folder / "changed.tif", tissue_texture(trial.scene, shape))
    height_um, width_um = (edge * MPP for edge in shape)
    section = SectionResult(
        box_um=(0.0, 0.0, width_um, height_um), tissue_um2=width_um * height_um, coverage=1.0, areas_um2=np.zeros(4)
    )
    like = SlideResult(sections=[section], heatmap=np.zeros((1, 1), np.uint8), mpp=2 * MPP, pixel_um=2 * MPP)
    return Changed(path=path, like=like, tolerance=_BOXES_ALONE)


def _wrong_colour_space(said: int) -> _Make:
    """JPEG tiles in one colour space under a tag that says the other: red or green glass."""

    def make(trial: Trial) -> Changed:
        path = write_pyramid(trial.folder / "changed.tif", trial.scene.picture)
        for page in range(3):
            set_tag(path, page, _PHOTOMETRIC, said)
        return Changed(path=path, like=trial.scene.jpeg)

    return make


def _red_glass(trial: Trial) -> Changed:
    """Pixels that are YCbCr and are shown as if they were RGB."""
    picture = cv2.cvtColor(trial.scene.picture, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    path = write_pyramid(trial.folder / "changed.tif", np.ascontiguousarray(picture), compression="deflate")
    return Changed(path=path, like=trial.scene.jpeg)


def _recoloured(change: Callable[[Trial], Picture]) -> _Make:
    """Other colours, without losses."""

    def make(trial: Trial) -> Changed:
        picture = np.ascontiguousarray(change(trial), dtype=np.uint8)
        path = write_pyramid(trial.folder / "changed.tif", picture, compression="deflate")
        return Changed(path=path, like=trial.scene.lossless, tolerance=EXACT)

    return make


def _gamma(trial: Trial) -> Picture:
    """Lightened as by a gamma curve that was undone twice; a darkened drawing is like a strong stain."""
    curve = 255 * (np.arange(256) / 255) ** (1 / trial.rng.uniform(1.9, 2.4))
    return np.asarray(curve.round().astype(np.uint8)[trial.scene.picture])


def _no_section() -> SlideResult:
    return SlideResult(sections=[], heatmap=np.zeros((1, 1), np.uint8), mpp=2 * MPP, pixel_um=2 * MPP)


def _empty_scan(padding: int) -> _Make:
    """A scan of bare glass in a canvas of another brightness."""

    def make(trial: Trial) -> Changed:
        canvas = np.full((1024, 1280, 3), padding, dtype=np.uint8)
        top, left = trial.rng.integers(100, 200, 2).tolist()
        canvas[top : top + 720, left : left + 960] = glass((720, 960), trial.rng)
        path = write_pyramid(trial.folder / "changed.tif", canvas)
        return Changed(path=path, like=_no_section())

    return make


def _padded_scan(padding: int) -> _Make:
    """The scan in a canvas of another brightness: sections are where they were in it."""

    def make(trial: Trial) -> Changed:
        height, width = trial.scene.picture.shape[:2]
        canvas = np.full((height + 256, width + 256, 3), padding, dtype=np.uint8)
        canvas[128 : 128 + height, 128 : 128 + width] = trial.scene.picture
        like = np.full_like(canvas, GLASS)
        like[128 : 128 + height, 128 : 128 + width] = trial.scene.picture
        return Changed(
            path=write_pyramid(trial.folder / "changed.tif", canvas),
            like=write_pyramid(trial.folder / "like.tif", like),
            tolerance=NEAR,
        )

    return make


_INK = {"blue": (30, 40, 140), "black": (20, 20, 25), "green": (20, 110, 60), "red": (190, 30, 40)}


def _ink_ring(colour: str, *, around_tissue: bool) -> _Make:
    """A closed ring of ink around a section, or around nothing."""

    def make(trial: Trial) -> Changed:
        # A pen goes around what the eye can see: the sections are made larger.
        scene = replace(
            trial.scene,
            picture=np.asarray(cv2.resize(trial.scene.picture, None, fx=1.5, fy=1.5), dtype=np.uint8),
            boxes=[box.scaled(1.5) for box in trial.scene.boxes],
        )
        beside_px = 320 if around_tissue else 960
        picture = np.pad(scene.picture, ((320, 320), (320, beside_px), (0, 0)), constant_values=GLASS)
        box = scene.boxes[int(trial.rng.integers(len(scene.boxes)))]
        # The ring may pass where the neighbours are, which would be another fault.
        for other in scene.boxes if around_tissue else ():
            if other != box:
                picture[other.y + 292 : other.y_end + 348, other.x + 292 : other.x_end + 348] = GLASS
        like = picture.copy()
        middle = (box.x + box.width // 2 + 320, box.y + box.height // 2 + 320)
        axes = (box.width * 3 // 4, box.height * 3 // 4)
        if not around_tissue:
            middle, axes = (scene.picture.shape[1] + 320 + 560, picture.shape[0] // 2), (280, 240)
        cv2.ellipse(picture, middle, axes, 0, 0, 360, _INK[colour], int(trial.rng.integers(16, 40)))
        return Changed(
            path=write_pyramid(trial.folder / "changed.tif", picture),
            like=write_pyramid(trial.folder / "like.tif", like),
        )

    return make


_GLASS_FAULTS: tuple[Fault, ...] = tuple(
    slide_fault(KIND, name, make, by_finding=True)
    for name, make in (
        ("pink glass", _tinted((228, 212, 222), (237, 224, 232))),
        ("yellow glass", _tinted((232, 228, 196), (242, 240, 222))),
        ("blue glass", _tinted((205, 222, 234), (226, 236, 244))),
        ("green glass", _tinted((212, 232, 212), (230, 242, 230))),
        ("brown glass", _tinted((214, 200, 180), (236, 226, 212))),
        ("dark grey glass", _tinted((180, 180, 180), (210, 210, 210))),
        ("glass darker to one side", _shaded),
        ("all of the slide is tissue", _all_tissue),
        ("ycbcr tiles said to be rgb", _wrong_colour_space(_RGB)),
        ("ycbcr pixels shown as rgb", _red_glass),
        ("empty scan in white padding", _empty_scan(255)),
        ("empty scan in black padding", _empty_scan(0)),
        ("empty scan in grey padding", _empty_scan(205)),
        ("scan in white padding", _padded_scan(255)),
        ("scan in black padding", _padded_scan(0)),
        ("scan in grey padding", _padded_scan(205)),
        *((f"ring of {colour} ink around a section", _ink_ring(colour, around_tissue=True)) for colour in _INK),
        *((f"ring of {colour} ink around nothing", _ink_ring(colour, around_tissue=False)) for colour in _INK),
    )
)
_COLOUR_FAULTS: tuple[Fault, ...] = tuple(
    slide_fault(KIND, name, _recoloured(change), by_finding=True)
    for name, change in (
        ("red and blue swapped", lambda trial: trial.scene.picture[..., ::-1]),
        ("channels turned", lambda trial: np.roll(trial.scene.picture, int(trial.rng.integers(1, 3)), axis=-1)),
        ("red and green swapped", lambda trial: trial.scene.picture[..., [1, 0, 2]]),
        ("inverted colours", lambda trial: 255 - trial.scene.picture),
        ("a gamma curve that lightens", _gamma),
    )
)
FAULTS: tuple[Fault, ...] = (*_GLASS_FAULTS, *_COLOUR_FAULTS)
