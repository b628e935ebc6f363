"""Whether a file holds one picture, upright and with square pixels, and which of its levels show it in its place.

OpenSlide takes what a file's directories say: where a lower level was padded to whole tiles it gives the mean of two
factors, of which neither is right; where a file holds two images it may take a level of the other one; and it turns
no picture. Sizes tell nearly all of it at no cost. Pixels are read here only where sizes or pages are odd.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray

from bccdist.errors import RemoteError, SlideError
from bccdist.slides.geometry import Box
from bccdist.slides.level import OpenSlideLevel, pixels_of

if TYPE_CHECKING:
    from bccdist.slides.slide_file import SlideFile

LARGEST_ASPECT = 1.05
"""Of a pixel's width and height; what is nearer to a square counts as one."""
LEAST_CORRELATION = 0.9
"""Of two pictures of one thing, reduced to the size of cells; two pieces of tissue have some 0.5 or less."""
LEAST_CONTRAST = 3.0
"""Standard deviation, of 255, under which a picture shows nothing that could be held against another."""
_PARTS = 6
"""Along each axis: odd levels and pages are compared at one place in each."""
_LOOK_PX = 9
"""What is near in a picture, where contrast is looked for."""
_MOST_LOOKED_AT_PX = 30_000_000
"""Where every level has more, ..."""
_DENSE_PARTS = 16
"""... so many places along each axis are compared, without a look for contrast."""
_PATCH_PX = 36
_CELLS = 6
"""Each compared patch is reduced to as many pixels along an edge: sharpness and a shift of a pixel drop out."""
_MOST_LEVEL0_PX = 256
"""Edge of what is read of level 0 for one patch."""
_MOST_UNTILED_PX = 4_000_000
"""Labels and photographs of the glass have fewer pixels."""
_NEAR_MPP = 4.0
"""A picture whose pixels are at most so much wider than level 0's was taken through the objective."""
_ASSOCIATED_NAMES = ("label", "macro", "thumbnail", "overview", "preview", "barcode")
_MACRO_FLAG = 8
"""Of SubfileType, by custom: label or macro."""
Size = tuple[int, int]
Place = tuple[int, int]
Factor = tuple[float, float]
Reader = Callable[[Box], NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class _Page:
    """What the directory of one image of a TIFF says."""

    number: int
    size_px: Size
    tile_px: Size | None
    """None where the image lies in strips."""
    is_reduced: bool
    """Whether it calls itself a smaller copy; OpenSlide takes such a page for a level if it is tiled."""
    calls_itself_associated: bool
    """A label, a macro image or a thumbnail."""
    orientation: int
    mpp: float | None


def refuse_oblong(properties: Mapping[str, str]) -> None:
    """Refuse pixels that are not square, whatever um/px a manifest gives: one number cannot mend them.

    Raises:
        SlideError: by the file, a pixel's width and height differ by more than 5 %.
    """
    mpp = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    # Without a unit a TIFF's resolution is no um/px, but still the shape of its pixels; px per unit, so the other way.
    for x_name, y_name, is_per_px in ((*mpp, True), ("tiff.YResolution", "tiff.XResolution", False)):
        first, other = _positive(properties.get(x_name)), _positive(properties.get(y_name))
        if first is None or other is None:
            continue
        if not 1 / LARGEST_ASPECT <= first / other <= LARGEST_ASPECT:
            shape = f"{first:.6g} x {other:.6g} um/px" if is_per_px else f"{first / other:.6g} times as wide as high"
            raise SlideError(
                f"its pixels are not square: {shape}; the column mpp of slides.csv cannot mend that: convert the "
                "slide to square pixels, or correct what the file says of them"
            )
        return


def _positive(text: str | None) -> float | None:
    """The number that `text` says, if that is finite and above 0."""
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def usable_downsamples(file: "SlideFile", handle: openslide.OpenSlide) -> tuple[float, ...]:
    """Level-0 px per pixel of each level; infinite for a level that is to be left alone.

    Left alone are levels whose size is not level 0's by one factor though they show the same picture (padded to
    whole tiles, cut), and further levels of one size (planes of focus). Level 0 is what um/px, boxes and annotations
    are given in, so it is always used.

    Args:
        file: the slide's.
        handle: the same, open; nothing is read through it.

    Raises:
        SlideError: the file holds a second image, which nobody would look at; or its pixels lie turned or mirrored.
    """
    pages = [_page_of(page, file.tiff.names.get(page.index, "")) for page in file.tiff.pages]
    _refuse_turned(pages)
    if handle.properties.get(openslide.PROPERTY_NAME_VENDOR) == "generic-tiff":
        _refuse_second_images(file, pages, handle.dimensions)
    sizes, downsamples = tuple(handle.level_dimensions), tuple(handle.level_downsamples)
    odd = [level for level in range(1, len(sizes)) if _is_odd(level, sizes, _tile_of(handle.properties, level))]
    if odd:
        _refuse_other_pictures(file, odd, pages)
    return tuple(math.inf if level in odd else downsample for level, downsample in enumerate(downsamples))


def _is_odd(level: int, sizes: Sequence[Size], tile_px: Size | None) -> bool:
    """Whether a level's size does not say at which factor its pixels lie on level 0."""
    size = sizes[level]
    if size in sizes[:level] or not _is_reduction(sizes[0], size):
        return True
    # Both edges padded by the same share look like a factor; only whole tiles give that away.
    is_whole_tiles = tile_px is not None and all(edge % tile == 0 for edge, tile in zip(size, tile_px, strict=True))
    nearest = round(sizes[0][0] / size[0])
    return is_whole_tiles and not _is_reduction(sizes[0], size, factor=nearest)


def _is_reduction(size_level0: Size, size: Size, *, factor: float | None = None) -> bool:
    """Whether both edges are level 0's, divided by one factor and rounded up or down; `factor`, if given."""
    least = max(whole / (edge + 1) for whole, edge in zip(size_level0, size, strict=True))
    most = min(whole / (edge - 1) if edge > 1 else math.inf for whole, edge in zip(size_level0, size, strict=True))
    return least < most if factor is None else least < factor < most


def _tile_of(properties: Mapping[str, str], level: int) -> Size | None:
    names = (f"openslide.level[{level}].tile-width", f"openslide.level[{level}].tile-height")
    width, height = (_positive(properties.get(name)) for name in names)
    return None if width is None or height is None else (int(width), int(height))


def _refuse_turned(pages: Sequence[_Page]) -> None:
    """Only pictures of the slide count; a label may lie as it likes."""
    for page in pages:
        if page.orientation != 1 and (page.number == 0 or (page.tile_px and not page.calls_itself_associated)):
            raise SlideError(
                f"its pixels lie turned or mirrored in the file: page {page.number} has Orientation "
                f"{page.orientation}, which viewers may undo and OpenSlide does not; write the slide upright"
            )


def _refuse_second_images(file: "SlideFile", pages: Sequence[_Page], size_level0: Size) -> None:
    """Refuse a TIFF with another image than the one that OpenSlide shows: its first page and what is flagged smaller.

    Pages that show the same picture do no harm: levels without the flag, planes of focus.
    """
    for page in pages[1:]:
        is_level = page.tile_px is not None and page.is_reduced
        if is_level or _is_associated(page, size_level0) or _is_small_photograph(page, pages[0]):
            continue
        if not _shows_level0(file, page, size_level0):
            raise SlideError(
                f"it holds a second image, page {page.number} of {page.size_px[0]} x {page.size_px[1]} px, beside "
                f"that of {size_level0[0]} x {size_level0[1]} px: only one would be looked at; write each image to a "
                "file of its own"
            )


def _is_associated(page: _Page, size_level0: Size) -> bool:
    """Whether a page calls itself a label or the like, and is small enough to be one."""
    return page.calls_itself_associated and 4 * math.prod(page.size_px) <= math.prod(size_level0)


def _is_small_photograph(page: _Page, first: _Page) -> bool:
    """Whether a page is in strips, as labels and macro images are, and not at about the scale of the first."""
    is_near = page.mpp is not None and first.mpp is not None and page.mpp <= _NEAR_MPP * first.mpp
    return page.tile_px is None and math.prod(page.size_px) <= _MOST_UNTILED_PX and not is_near


def _refuse_other_pictures(file: "SlideFile", odd: Sequence[int], pages: Sequence[_Page]) -> None:
    try:
        # A handle of its own: after a failed read OpenSlide refuses every other one.
        with openslide.OpenSlide(file.path) as handle:
            sizes = handle.level_dimensions
            associated = {page.size_px for page in pages if _is_associated(page, handle.dimensions)}
            places = _telling_places(handle, file)
            others = [
                level
                for level in odd
                if sizes[level] not in associated and not _is_level0_at_some_factor(handle, level, file, places)
            ]
    except (openslide.OpenSlideError, SlideError) as error:
        raise SlideError(
            f"the sizes of its levels disagree, and they cannot be compared: {error}; convert the slide"
        ) from error
    if others:
        (width, height), (width_level0, height_level0) = sizes[others[0]], sizes[0]
        raise SlideError(
            f"its level {others[0]} of {width} x {height} px does not show level 0 ({width_level0} x {height_level0} "
            "px) made smaller: the file may hold a second image; write each image to a file of its own, or convert "
            "the slide"
        )


def _is_level0_at_some_factor(
    handle: openslide.OpenSlide, level: int, file: "SlideFile", places: Sequence[Place]
) -> bool:
    level0, reader = _level_reader(handle, 0, file), _level_reader(handle, level, file)
    sizes = handle.dimensions, handle.level_dimensions[level]
    return any(_agree(level0, reader, sizes, places, factor=factor) for factor in _possible_factors(handle, level))


def _possible_factors(handle: openslide.OpenSlide, level: int) -> list[Factor]:
    """Level-0 px per pixel of a level along x and y: alike with padding to whole tiles, or by its size."""
    size_level0, size = handle.dimensions, handle.level_dimensions[level]
    by_size = (size_level0[0] / size[0], size_level0[1] / size[1])
    padded = _padded_factors(size_level0, size, _tile_of(handle.properties, level))
    return list(dict.fromkeys([*((factor, factor) for factor in padded), by_size]))


def _padded_factors(size_level0: Size, size: Size, tile_px: Size | None) -> Iterator[float]:
    """Powers of two by which level 0 would have this size after its edges were padded by less than a tile."""
    for factor in (2.0**power for power in range(1, max(size_level0).bit_length())):
        padding = [edge - whole / factor for whole, edge in zip(size_level0, size, strict=True)]
        if all(-1 < added < most + 1 for added, most in zip(padding, tile_px or size, strict=True)):
            yield factor


def _level_reader(handle: openslide.OpenSlide, level: int, file: "SlideFile") -> Reader:
    return partial(pixels_of, OpenSlideLevel(lambda: handle, level, file))


def _shows_level0(file: "SlideFile", page: _Page, size_level0: Size) -> bool:
    """Whether a page has the shape of level 0 and its picture; False also where that cannot be told."""
    if not _is_reduction(size_level0, page.size_px):
        return False
    try:
        with (
            tifffile.TiffFile(file.reading(), name=file.location.name) as tiff,
            openslide.OpenSlide(file.path) as handle,
        ):
            factor = (size_level0[0] / page.size_px[0], size_level0[1] / page.size_px[1])
            reader = _page_reader(tiff.pages.get(page.number), page)
            places = _telling_places(handle, file)
            level0, sizes = _level_reader(handle, 0, file), (size_level0, page.size_px)
            return _agree(level0, reader, sizes, places, factor=factor, tile_px=page.tile_px)
    except RemoteError:
        raise
    # Decoders of all kinds stand behind tifffile; a page that cannot be read is not known to be the same.
    except Exception:  # noqa: BLE001
        return False


def _page_reader(tiff_page: Any, page: _Page) -> Reader:
    """Reads boxes that lie within one tile."""
    if page.tile_px is None:
        whole = np.asarray(tiff_page.asarray())
        return lambda box_px: whole[box_px.slices()]
    width_px, height_px = page.tile_px

    def read(box_px: Box) -> NDArray[np.uint8]:
        col, row = box_px.x // width_px, box_px.y // height_px
        index = row * -(-page.size_px[0] // width_px) + col
        file = tiff_page.parent.filehandle
        file.seek(tiff_page.dataoffsets[index])
        data = file.read(tiff_page.databytecounts[index])
        tile = tiff_page.decode(data, index, jpegtables=tiff_page.jpegtables)[0]
        inside = box_px._replace(x=box_px.x - col * width_px, y=box_px.y - row * height_px)
        return np.asarray(tile[0][inside.slices()])

    return read


def _agree(
    level0: Reader,
    reader: Reader,
    sizes_px: tuple[Size, Size],
    places: Sequence[Place],
    *,
    factor: Factor,
    tile_px: Size | None = None,
) -> bool:
    """Whether what `reader` reads is level 0 made smaller.

    Args:
        level0: reads level 0.
        reader: of the other picture.
        sizes_px: of level 0 and of the other picture.
        places: where to look, in level-0 px.
        factor: level-0 px per pixel of the other picture.
        tile_px: no patch crosses the border of such a tile of the other picture.
    """
    patches = []
    for box_px in sorted({_patch_at(place, sizes_px[1], sizes_px[0], factor, tile_px) for place in places}):
        at = Box(
            round(box_px.x * factor[0]),
            round(box_px.y * factor[1]),
            max(1, round(box_px.width * factor[0])),
            max(1, round(box_px.height * factor[1])),
        )
        patches.append([_cells(reader(box_px)), _cells(level0(at))])
    pictures = np.array(patches, dtype=np.float32)
    return _show_the_same(pictures[:, 0], pictures[:, 1])


def _show_the_same(first: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two pictures are of one thing; False also where that cannot be told."""
    alike = correlation(first, other)
    return alike is not None and alike >= LEAST_CORRELATION


def correlation(first: NDArray[np.float32], other: NDArray[np.float32]) -> float | None:
    """How alike two pictures are, -1 to 1; None where both show nothing.

    Args:
        first: 0 to 255, any shape; reduced so far that sharpness makes no difference.
        other: likewise.
    """
    if max(first.std(), other.std()) < LEAST_CONTRAST:
        return None
    # One that shows nothing where the other shows something is not like it.
    if min(first.std(), other.std()) == 0:
        return 0.0
    return float(np.corrcoef(first.ravel(), other.ravel())[0, 1])


def _telling_places(handle: openslide.OpenSlide, file: "SlideFile") -> list[Place]:
    """Places in level-0 px that show more than those around them, some in each part of the slide."""
    level = min(range(handle.level_count), key=lambda each: math.prod(handle.level_dimensions[each]))
    size = handle.level_dimensions[level]
    if math.prod(size) > _MOST_LOOKED_AT_PX:
        width, height = handle.dimensions
        shares = [(part + 0.5) / _DENSE_PARTS for part in range(_DENSE_PARTS)]
        return [(int(x * width), int(y * height)) for y in shares for x in shares]
    level0, reader = _level_reader(handle, 0, file), _level_reader(handle, level, file)
    peaks = peaks_of_contrast(reader(Box(0, 0, *size)), parts=(_PARTS, _PARTS))
    by_factor = {
        factor: [(round(x * factor[0]), round(y * factor[1])) for x, y in peaks]
        for factor in _possible_factors(handle, level)
    }
    # The level that is looked at may be odd itself.
    sizes = (handle.dimensions, size)
    right = [each for each, places in by_factor.items() if _agree(level0, reader, sizes, places, factor=each)]
    return by_factor[right[0]] if right else next(iter(by_factor.values()))


def peaks_of_contrast(picture: NDArray[np.uint8], *, parts: tuple[int, int]) -> list[Place]:
    """The pixel (x, y) around which a picture varies most, in each of its parts: columns times rows."""
    green = picture[..., 1].astype(np.float32)
    mean = cv2.blur(green, (_LOOK_PX, _LOOK_PX))
    variance = cv2.blur(green * green, (_LOOK_PX, _LOOK_PX)) - mean * mean
    peaks = []
    for rows in np.array_split(np.arange(variance.shape[0]), parts[1]):
        for cols in np.array_split(np.arange(variance.shape[1]), parts[0]):
            if rows.size and cols.size:
                part = variance[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
                row, col = np.unravel_index(int(np.argmax(part)), part.shape)
                peaks.append((int(cols[0] + col), int(rows[0] + row)))
    return peaks


def _patch_at(place: Place, size_px: Size, size_level0: Size, factor: Factor, tile_px: Size | None) -> Box:
    """The patch around a place in level-0 px, in the pixels of a picture; what was padded lies beyond level 0."""
    starts, edges = [], []
    for at, length, whole, each, tile in zip(place, size_px, size_level0, factor, tile_px or size_px, strict=True):
        end = max(1, min(length, int(whole / each)))
        at_px = min(int(at / each), end - 1)
        low = at_px // tile * tile
        high = min(low + tile, end)
        edge = min(_PATCH_PX, max(1, int(_MOST_LEVEL0_PX / each)), high - low)
        starts.append(min(max(at_px - edge // 2, low), high - edge))
        edges.append(edge)
    return Box(*starts, *edges)


def _cells(patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A patch reduced to `_CELLS` x `_CELLS` pixels."""
    return np.asarray(cv2.resize(patch, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _page_of(page: tifffile.TiffPage, name: str) -> _Page:
    text = " ".join(str(part).lower() for part in (name, page.tags.valueof("PageName", "")))
    # An OME-TIFF's first description tells of all images.
    if "<" not in (page.description or ""):
        text += " " + (page.description or "").lower()
    subfile = int(page.subfiletype or 0)
    return _Page(
        number=page.index,
        size_px=(page.imagewidth, page.imagelength),
        tile_px=(page.tilewidth, page.tilelength) if page.is_tiled else None,
        is_reduced=bool(subfile & 1),
        calls_itself_associated=bool(subfile & _MACRO_FLAG) or any(each in text for each in _ASSOCIATED_NAMES),
        orientation=int(page.tags.valueof("Orientation", 1)),
        mpp=_mpp_of(page),
    )


def _mpp_of(page: tifffile.TiffPage) -> float | None:
    """Um per pixel by a page's own resolution, None without a unit."""
    um = {2: 25_400.0, 3: 10_000.0}.get(int(page.tags.valueof("ResolutionUnit", 0)))
    resolution = page.tags.valueof("XResolution", None)
    if um is None or resolution is None or not all(resolution):
        return None
    return um * float(resolution[1]) / float(resolution[0])
