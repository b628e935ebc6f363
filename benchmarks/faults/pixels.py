"""Files whose tiles are missing, elsewhere, damaged or stored in another order: what OpenSlide mends or chooses."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile

from benchmarks.faults.fault import Fault, Outcome, Seen, Trial
from benchmarks.faults.results import EXACT, NEAR
from benchmarks.faults.slide_files import (
    MPP,
    Page,
    Picture,
    levels_of,
    pages_of,
    set_tiles,
    tile_place,
    tiles_across,
    write_ndpi,
    write_pyramid,
    write_svs,
    write_tiff,
)
from benchmarks.faults.slide_trials import Changed, new_findings, slide_fault

KIND = "pixels"
_SVS_LEVEL_1 = 2
"""The page of an SVS's second level, behind its thumbnail."""
_ALL = 10_000
_Make = Callable[[Trial], Changed]


def _tiles(trial: Trial, path: Path, page: int, *, downsample: int, num: int = 1) -> list[int]:
    """Some tiles of a page that show tissue."""
    places = trial.scene.tissue_tiles(downsample=downsample)
    across = tiles_across(path, page)
    return [places[each][0] * across + places[each][1] for each in trial.rng.permutation(len(places))[:num].tolist()]


def _empty(trial: Trial, path: Path, page: int, *, downsample: int, num: int = 1, has_offset: bool = False) -> None:
    """Give some tiles of tissue no bytes."""
    offset = tile_place(path, page, 0)[0] if has_offset else 0
    tiles = _tiles(trial, path, page, downsample=downsample, num=num)
    set_tiles(path, page, [(tile, offset, 0) for tile in tiles])


def _svs(trial: Trial) -> Path:
    return write_svs(trial.folder / "changed.svs", levels_of(trial.scene.picture))


def _tiff(trial: Trial) -> Path:
    return write_pyramid(trial.folder / "changed.tif", trial.scene.picture)


def _svs_emptied(*pages: tuple[int, int, int]) -> _Make:
    """An SVS with tiles of no bytes: (page, its downsample, number of tiles)."""

    def make(trial: Trial) -> Changed:
        path = _svs(trial)
        for page, downsample, num in pages:
            _empty(trial, path, page, downsample=downsample, num=num)
        return Changed(path=path, like=trial.scene.jpeg)

    return make


def _tiff_emptied(page: int, downsample: int, *, has_offset: bool = False) -> _Make:
    def make(trial: Trial) -> Changed:
        path = _tiff(trial)
        _empty(trial, path, page, downsample=downsample, num=int(trial.rng.integers(1, 3)), has_offset=has_offset)
        return Changed(path=path, like=trial.scene.jpeg)

    return make


def _coarse_svs_emptied(trial: Trial) -> Changed:
    """Scanned at the target's um/px, so that no finer level can fill what is missing."""
    path = write_svs(trial.folder / "changed.svs", levels_of(trial.scene.picture, (2, 4)), mpp=2 * MPP)
    _empty(trial, path, 0, downsample=2)
    return Changed(path=path, like=trial.scene.jpeg)


def _part_emptied(*, is_svs: bool, share: float | None = None, is_lost: bool = True) -> _Make:
    """A level 0 at the target's um/px, of which the left part is without bytes, or white."""

    def make(trial: Trial) -> Changed:
        levels = levels_of(trial.scene.picture, (2, 4))
        num_cols = -(-levels[0].shape[1] // 256)
        part = max(1, round(num_cols * (trial.rng.uniform(0.4, 0.95) if share is None else share)))
        if not is_lost:
            levels[0][:, : 256 * part] = 255
        path = trial.folder / "changed.tif"
        if is_svs:
            path = write_svs(path.with_suffix(".svs"), levels, mpp=2 * MPP)
        else:
            path = write_tiff(path, pages_of(levels, mpp=2 * MPP))
        if is_lost:
            rows = range(-(-levels[0].shape[0] // 256))
            set_tiles(path, 0, [(row * num_cols + col, 0, 0) for row in rows for col in range(part)])
        return Changed(path=path, like=trial.scene.jpeg)

    return make


def _place_emptied(*, is_svs: bool) -> _Make:
    """A place that cuts a section, without bytes on both levels that there are: nothing can fill it."""

    def make(trial: Trial) -> Changed:
        levels = levels_of(trial.scene.picture, (1, 2))
        path = trial.folder / "changed.tif"
        path = write_svs(path, levels) if is_svs else write_tiff(path, pages_of(levels))
        fine, coarse = (0, _SVS_LEVEL_1) if is_svs else (0, 1)
        (tile,) = _tiles(trial, path, coarse, downsample=2)
        row, col = divmod(tile, tiles_across(path, coarse))
        across = tiles_across(path, fine)
        set_tiles(path, fine, [((2 * row + y) * across + 2 * col + x, 0, 0) for y in (0, 1) for x in (0, 1)])
        set_tiles(path, coarse, [(tile, 0, 0)])
        return Changed(path=path, like=trial.scene.jpeg)

    return make


def _mixed_up_below(trial: Trial) -> Changed:
    """No level-0 tiles under a tile of the next level, and something else in that one's place."""
    path = _svs(trial)
    (tile,) = _tiles(trial, path, _SVS_LEVEL_1, downsample=2)
    row, col = divmod(tile, tiles_across(path, _SVS_LEVEL_1))
    across = tiles_across(path, 0)
    set_tiles(path, 0, [((2 * row + y) * across + 2 * col + x, 0, 0) for y in (0, 1) for x in (0, 1)])
    set_tiles(path, _SVS_LEVEL_1, [(tile, *tile_place(path, _SVS_LEVEL_1, 0))])
    return Changed(path=path, like=trial.scene.jpeg)


def _elsewhere(page: int, downsample: int, other_page: int) -> _Make:
    """A tile of tissue whose bytes are those of another tile, of this image or of another one."""

    def make(trial: Trial) -> Changed:
        path = _tiff(trial)
        (tile,) = _tiles(trial, path, page, downsample=downsample)
        with tifffile.TiffFile(path) as tiff:
            num_tiles = len(tiff.pages[other_page].dataoffsets)
        other = (tile + int(trial.rng.integers(1, num_tiles))) % num_tiles
        set_tiles(path, page, [(tile, *tile_place(path, other_page, other))])
        return Changed(path=path, like=None)

    return make


def _beyond_the_end(trial: Trial) -> Changed:
    path = _tiff(trial)
    (tile,) = _tiles(trial, path, 1, downsample=2)
    set_tiles(path, 1, [(tile, path.stat().st_size + 1000, tile_place(path, 1, tile)[1])])
    return Changed(path=path, like=trial.scene.jpeg)


def _shortened(trial: Trial) -> Changed:
    path = _tiff(trial)
    (tile,) = _tiles(trial, path, 1, downsample=2)
    offset, length = tile_place(path, 1, tile)
    set_tiles(path, 1, [(tile, offset, int(length * trial.rng.uniform(0.1, 0.8)))])
    return Changed(path=path, like=trial.scene.jpeg)


def _is_damaged(path: Path, tile: int) -> bool:
    """Whether a strict decoder sees that a tile of level 1 is damaged."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[1]
        offset, length, tables = page.dataoffsets[tile], page.databytecounts[tile], page.jpegtables
    tile_bytes = path.read_bytes()[offset : offset + length]
    try:
        simplejpeg.decode_jpeg(b"\xff\xd8" + (tables or b"\0\0\0\0")[2:-2] + tile_bytes[2:], "RGB")
    except ValueError:
        return True
    return False


def _corrupted(change: Callable[[bytearray, np.random.Generator], None], *, is_svs: bool = False) -> _Make:
    """Changed bytes in a tile of level 1, such that a decoder that is asked can see it."""

    def make(trial: Trial) -> Changed:
        path = _svs(trial) if is_svs else _tiff(trial)
        page = _SVS_LEVEL_1 if is_svs else 1
        (tile,) = _tiles(trial, path, page, downsample=2)
        offset, length = tile_place(path, page, tile)
        unharmed = path.read_bytes()
        for _ in range(100):
            body = bytearray(unharmed[offset : offset + length])
            change(body, trial.rng)
            path.write_bytes(unharmed[:offset] + bytes(body) + unharmed[offset + length :])
            if is_svs or _is_damaged(path, tile):
                break
        return Changed(path=path, like=trial.scene.jpeg)

    return make


def _flip(body: bytearray, rng: np.random.Generator) -> None:
    for place in rng.integers(len(body) // 4, len(body), 8).tolist():
        body[place] ^= 1 << int(rng.integers(8))


def _zeros(body: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(body) // 4, len(body) // 2))
    body[start:] = bytes(len(body) - start)


def _noise(body: bytearray, rng: np.random.Generator) -> None:
    body[:] = rng.bytes(len(body))


def _ended(body: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(body) // 4, len(body) // 2))
    body[start : start + 2] = b"\xff\xd9"


def _truncated(trial: Trial) -> Changed:
    path = _tiff(trial)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * trial.rng.uniform(0.3, 0.97))])
    return Changed(path=path, like=trial.scene.jpeg)


def _truncated_svs(trial: Trial) -> Changed:
    path = _svs(trial)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * trial.rng.uniform(0.3, 0.97))])
    return Changed(path=path, like=trial.scene.jpeg)


def _planar(compression: str) -> _Make:
    def make(trial: Trial) -> Changed:
        pages = pages_of(levels_of(trial.scene.picture), compression=compression)
        path = write_tiff(trial.folder / "changed.tif", [replace(page, is_planar=True) for page in pages])
        return Changed(path=path, like=trial.scene.lossless, tolerance=EXACT if compression == "deflate" else NEAR)

    return make


def _other_picture(trial: Trial, downsample: int) -> Picture:
    """The scene at a level's size, but for some places of tissue away from the diagonal, which show other tissue."""
    picture = trial.scene.picture.copy()
    height, width = picture.shape[:2]
    places = trial.scene.tissue_tiles(downsample=2)
    beside = [(row, col) for row, col in places if abs((row + 0.5) * 512 / height - (col + 0.5) * 512 / width) > 0.2]
    for row, col in beside or places:
        here = picture[row * 512 : (row + 1) * 512, col * 512 : (col + 1) * 512]
        here[:] = here[::-1, ::-1].copy()
    return levels_of(picture, (downsample,))[0]


def _white_tile(trial: Trial) -> Changed:
    """A tile of tissue whose bytes are those of a white one."""
    levels = levels_of(trial.scene.picture)
    row, col = trial.scene.tissue_tiles(downsample=2)[-1]
    levels[1][256 * row : 256 * (row + 1), 256 * col : 256 * (col + 1)] = 255
    path = write_tiff(trial.folder / "changed.tif", pages_of(levels))
    return Changed(path=path, like=trial.scene.jpeg)


def _second_of_its_size(level: int, place: int, *, is_reduced: bool, is_tiled: bool = True) -> _Make:
    """A page of a level's size that shows something else, at a place among the pages."""

    def make(trial: Trial) -> Changed:
        pages = pages_of(levels_of(trial.scene.picture))
        decoy = replace(
            pages[level],
            picture=_other_picture(trial, 2**level),
            is_reduced=is_reduced,
            is_tiled=is_tiled,
            compression="jpeg" if is_tiled else "deflate",
        )
        path = write_tiff(trial.folder / "changed.tif", [*pages[:place], decoy, *pages[place:]])
        return Changed(path=path, like=None)

    return make


def _svs_thumbnail_of_a_level(*, is_tiled: bool) -> _Make:
    """An SVS whose thumbnail has the size of its second level and is another picture."""

    def make(trial: Trial) -> Changed:
        decoy = Page(
            picture=_other_picture(trial, 2),
            is_tiled=is_tiled,
            compression="jpeg" if is_tiled else "deflate",
        )
        path = write_svs(trial.folder / "changed.svs", levels_of(trial.scene.picture), thumbnail=decoy)
        return Changed(path=path, like=None)

    return make


def _planes(order: Sequence[int]) -> _Make:
    """An NDPI with planes of focus, -1, 0 and 1 in an order at each level; others than 0 show something else."""

    def make(trial: Trial) -> Changed:
        shown = levels_of(trial.scene.picture)
        images = [
            (shown[level] if plane == 0 else _other_picture(trial, 2**level), 20 / 2**level, 4000 * plane)
            for level in range(len(shown))
            for plane in order
        ]
        return Changed(path=write_ndpi(trial.folder / "changed.ndpi", images), like=trial.scene.jpeg)

    return make


def _doctor_fault(name: str, make: _Make) -> Fault:
    """A fault that the doctor has to find, before any job."""

    def run(trial: Trial) -> Seen:
        codes = {"absent-tissue", "unreadable", "uncertain-tissue", "not-opened"} & set(
            new_findings(trial, make(trial))
        )
        return Seen(Outcome.FINDING, ", ".join(codes)) if codes else Seen(Outcome.SILENT, "the doctor says nothing")

    return Fault(kind=KIND, name=f"doctor: {name}", run=run)


_READ_FAULTS: tuple[Fault, ...] = tuple(
    slide_fault(KIND, name, make)
    for name, make in (
        ("svs: tiles of level 1 without bytes", _svs_emptied((_SVS_LEVEL_1, 2, 2))),
        ("svs: no tile of level 1 has bytes", _svs_emptied((_SVS_LEVEL_1, 2, _ALL))),
        ("svs: tiles of levels 0 and 1 without bytes", _svs_emptied((0, 1, 6), (_SVS_LEVEL_1, 2, 2))),
        ("svs: tiles of level 0 without bytes", _svs_emptied((0, 1, 3))),
        ("svs: tiles of level 2 without bytes", _svs_emptied((3, 4, 1))),
        ("svs: the only fine tile without bytes", _coarse_svs_emptied),
        ("svs: a piece of a section without bytes on all levels", _place_emptied(is_svs=True)),
        ("svs: no level-0 tile, another one below", _mixed_up_below),
        ("tiff: most of the level that is read without bytes", _part_emptied(is_svs=False)),
        ("tiff: all of the level that is read without bytes", _part_emptied(is_svs=False, share=1.0)),
        ("tiff: most of the level that is read white", _part_emptied(is_svs=False, is_lost=False)),
        ("tiff: all of the level that is read white", _part_emptied(is_svs=False, share=1.0, is_lost=False)),
        ("svs: most of the level that is read without bytes", _part_emptied(is_svs=True)),
        ("svs: most of the level that is read white", _part_emptied(is_svs=True, is_lost=False)),
        ("tiff: tiles of level 0 without bytes", _tiff_emptied(0, 1)),
        ("tiff: tiles of level 1 without bytes", _tiff_emptied(1, 2)),
        ("tiff: tiles of level 1 without bytes, with an offset", _tiff_emptied(1, 2, has_offset=True)),
        ("tiff: tiles of level 2 without bytes", _tiff_emptied(2, 4)),
        ("tiff: a piece of a section without bytes on all levels", _place_emptied(is_svs=False)),
        ("tile of another place of its image", _elsewhere(1, 2, 1)),
        ("tile of another image", _elsewhere(1, 2, 0)),
        ("tile of the overview from another image", _elsewhere(2, 4, 1)),
        ("tile beyond the file's end", _beyond_the_end),
        ("tile's length too short", _shortened),
        ("tile with flipped bits", _corrupted(_flip)),
        ("tile with zeros", _corrupted(_zeros)),
        ("tile with noise", _corrupted(_noise)),
        ("tile that ends early", _corrupted(_ended)),
        ("svs: tile with zeros", _corrupted(_zeros, is_svs=True)),
        ("svs: tile with noise", _corrupted(_noise, is_svs=True)),
        ("file cut off", _truncated),
        ("svs: file cut off", _truncated_svs),
        ("planes stored apart, jpeg", _planar("jpeg")),
        ("planes stored apart, lossless", _planar("deflate")),
        ("second image of level 0's size, in front", _second_of_its_size(0, 0, is_reduced=False)),
        ("second image of level 1's size, in front", _second_of_its_size(1, 1, is_reduced=True)),
        ("second image of level 1's size, behind", _second_of_its_size(1, 2, is_reduced=True)),
        ("second image of level 1's size, at the end", _second_of_its_size(1, 3, is_reduced=False)),
        ("picture in strips of level 1's size", _second_of_its_size(1, 1, is_reduced=True, is_tiled=False)),
        ("ndpi: one plane of focus", _planes((0,))),
        ("ndpi: planes of focus, the lowest first", _planes((-1, 0, 1))),
        ("ndpi: planes of focus, the shown one first", _planes((0, -1, 1))),
        ("ndpi: planes of focus, the shown one last", _planes((1, -1, 0))),
        ("svs: thumbnail of level 1's size", _svs_thumbnail_of_a_level(is_tiled=False)),
        ("svs: tiled thumbnail of level 1's size", _svs_thumbnail_of_a_level(is_tiled=True)),
    )
)
_FOUND_FAULTS: tuple[Fault, ...] = tuple(
    _doctor_fault(name, make)
    for name, make in (
        ("tiles of the level that is read without bytes", _tiff_emptied(1, 2)),
        ("most of the level that is read without bytes", _part_emptied(is_svs=False)),
        ("svs: most of the level that is read white", _part_emptied(is_svs=True, is_lost=False)),
        ("tile with noise", _corrupted(_noise)),
        ("tile beyond the file's end", _beyond_the_end),
        ("a white tile", _white_tile),
    )
)
FAULTS: tuple[Fault, ...] = (*_READ_FAULTS, *_FOUND_FAULTS)
