"""Which pixels of a slide's overview are stained tissue: colour alone, explained in light (paper, section 2.1).

What lies on the glass dims each colour by its optical density, here the natural logarithm of glass over pixel.
Haematoxylin and eosin both dim green more than red and blue: `pinkness` is the density of green less the mean of
the other two. Everything grey has none: dust, edges of the coverslip, padding, uneven light, black ink. Blue and
green ink dim red more than green does. Red ink alone is as pink as eosin, and is told apart by how deep it is.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LEAST_PINKNESS = 0.025
"""Tissue is pinker than the glass by more than this, ..."""
LEAST_PINKNESS_SHARE = 0.05
"""... and by this share of the density of green more: the less light is left, the more of its colour is noise."""
BLUR_UM = 24.0
"""The colour of tissue reaches this far over its edge, ..."""
BLUR_SHARE = 0.1
"""... with less than this share of its pinkness."""
DARKEST = 40
"""Tissue is nowhere darker than this in all channels (0 to 255); black ink and black padding are."""
GLASS_PINKNESS = (-0.2, 0.03)
"""A glass, yellowed or not, lies within; the brightest pixels of a slide full of tissue do not, ..."""
MOST_TEXTURE = 0.8
"""... and are not so flat: standard deviation of green (0 to 255) among neighbours in the overview."""
LEAST_FLAT_SHARE = 0.05
"""Of a slide's overview, where glass is known by its flatness, ..."""
LEAST_FLAT_OF_ALIKE = 0.7
"""... and of what is as bright as it."""
FAINT_FROM = 0.8
"""Share of the glass's green that faint tissue, or glass under less light, lets through."""
MOST_FLAT_SHARE = 0.25
"""Of the tissue, that is faint and flat: of very pale skin 19 % is."""
MOST_FLAT_OF_PIECE = 0.5
"""The same of one piece, which is glass by itself."""
DEEP_GREEN = 125
"""Where the brightest pixels let less green (0 to 255) through, they are stained and no glass."""
_MOST_FLAT_OF_ALL = 0.1
_FEW_PX = 300
"""Too few for a section."""
_ALIKE = 3
_WHITE_FROM = 253
_MOST_OF_RECTANGLE = 0.95
_WIDEST_PINKNESS = (-0.2, 0.12)
"""Of glass, tinted or lit in colour; what is beyond was decoded wrongly."""
_BRIGHT_FROM = 220
"""In one channel at least: glass that was decoded wrongly; flat pink that is darker is a drawing of tissue."""
_MOST_OF_SAMPLE_PX = 20_000
"""Of which the commonest colour is taken."""
_TEXTURE_PX = 7
RED_INK_DENSITY = 1.0
"""Red ink dims green at least this much where it is thick."""
RED_INK_FAINT_DENSITY = 0.25
"""The hue of what dims green less than this is uncertain."""
RED_INK_WIDTH_UM = 100.0
"""Narrower patches of deep red are blood."""
RED_INK_HALO_UM = 200.0
"""Red ink fades into pink over this much around where it is thick."""
LEAST_INK_PX = 24
"""Of such pieces together; a pen's thinnest line around a piece of tissue leaves more."""
BLUE_INK_DENSITY, BLUE_INK_DEEP_RATIO = 0.3, 1.25
"""A pixel is of blue or green ink where red is dimmed more than this, and so many times as much as green."""
BLUE_INK_RATIO = 1.03
"""Of the density of red to that of green in a piece of ink; haematoxylin alone has 0.93, with eosin it is less."""
BLUE_INK_BIT_RATIO, BLUE_INK_EDGE_RATIO = 0.85, 0.5
"""The same of a small bit of a thin line, and of bits that go with it."""
INK_BIT_PX = 60
"""A bit has so many pixels or fewer."""
RED_INK_RED, RED_INK_BLUE = 0.35, 0.75
"""Red ink dims red less, and blue more, than this share of green; eosin dims blue by half of green."""
RED_INK_BIT_BLUE = 0.6
"""The same of small bits that go with a line."""
WIDEST_RED_LINE_UM = 80.0
"""Of a thin line of red ink, which is nowhere deep enough to be known by that."""
_MEDIAN_PX = 5
BAND_ROWS = 64
_OFFSET = 8
"""Added to every value before the logarithm: noise in near-black pixels is no colour."""
_LOG = np.log(np.arange(256) + _OFFSET).astype(np.float32)
_NOT_STAINED, _STAINED, _PERHAPS_INK, _DEEP_RED = 0, 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Glass:
    """The bare glass of one slide, or what stands for it where none is seen."""

    light: NDArray[np.float32]
    """Logarithm of the light that passes: [3], red, green, blue."""
    is_certain: bool
    """Whether some part of the slide surely is glass, or surely none is."""

    @property
    def colour(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        red, green, blue = (round(float(np.exp(light))) - _OFFSET for light in self.light)
        return red, green, blue

    @property
    def is_strange(self) -> bool:
        """Whether glass of this colour means that the colours were decoded wrongly."""
        return self.is_certain and _is_strange(self.light)


def stained(overview: NDArray[np.uint8], *, mpp: float) -> NDArray[np.bool_]:
    """The pixels that are stained tissue.

    Ink on glass is not tissue; tissue under ink that still lets its colour through is. Green ink, the complement
    of pink, hides it first. Violet ink cannot be told from haematoxylin and counts as tissue. Within
    `RED_INK_HALO_UM` of red ink, or of a large clot of blood, orange-red and pale tissue is given up.

    Args:
        overview: uint8 RGB [h, w, 3]; padding is pure white or black.
        mpp: um per pixel of the overview.

    Returns:
        bool [h, w].
    """
    smooth = smoothed(overview)
    return stained_on(find_glass(smooth), smooth, mpp=mpp)


def smoothed(overview: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An overview without the noise of single pixels."""
    return np.asarray(cv2.medianBlur(overview, _MEDIAN_PX), dtype=np.uint8)


def density(glass: Glass, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much pixels [..., 3] dim each colour of the glass: optical density by the natural logarithm, float32."""
    return np.asarray(glass.light - _LOG[pixels], dtype=np.float32)


def density_table(glass: Glass) -> NDArray[np.float32]:
    """The same of every value of each colour: [3, 256]."""
    return np.asarray(glass.light[:, None] - _LOG, dtype=np.float32)


def stained_on(glass: Glass, smooth: NDArray[np.uint8], *, mpp: float) -> NDArray[np.bool_]:
    """The pixels of a smoothed overview that are stained tissue on `glass`: bool [h, w]."""
    # In bands: the densities of a whole slide would take many times the memory of its overview.
    bands = [_classes(smooth[row : row + BAND_ROWS], glass.light) for row in range(0, len(smooth), BAND_ROWS)]
    classes, pinkness = (np.concatenate(part) for part in zip(*bands, strict=True))
    classes[_is_blur(pinkness, mpp=mpp)] = _NOT_STAINED
    return _without_ink_pieces(_without_red_ink(classes, mpp=mpp), smooth, glass, mpp=mpp)


def find_glass(smooth: NDArray[np.uint8]) -> Glass:
    """The glass of a smoothed overview: uint8 RGB [h, w, 3].

    It is the middle colour of the brightest pixels that are not padding. Where that is pinker than glass commonly is,
    glass and pale tissue are told apart by their texture: glass is flat. Where nothing bright is flat, the slide is
    full of tissue, and the glass is taken to be grey and as bright as the brightest of its channels. Before
    all that: a commonest colour that is bright, flat and far from any glass's is glass that was decoded wrongly.
    """
    # A million pixels tell the colour of glass as well as all of them.
    planes = smooth.reshape(-1, 3)[:: 1 + smooth.size // 1_000_000].T.copy()
    planes = planes[:, ~is_padding(planes.T)]
    if not planes.size:
        return Glass(light=np.full(3, _LOG[255]), is_certain=True)
    wrong_light = _light_of_wrong_colours(smooth, planes)
    if wrong_light is not None:
        return Glass(light=wrong_light, is_certain=True)
    # By green, which stain dims most: pixels that are bright in it are the least stained.
    least_green = 0.9 * np.percentile(planes[1], 98)
    light = _light_of(planes[:, planes[1] >= least_green].T)
    if GLASS_PINKNESS[0] <= _pinkness(light) <= GLASS_PINKNESS[1]:
        return Glass(light=light, is_certain=True)
    flat_light = _light_of_flat(smooth, least_green=least_green)
    if flat_light is not None and not _is_strange(flat_light):
        return Glass(light=flat_light, is_certain=True)
    return Glass(light=np.full(3, light.max()), is_certain=_was_cut_out(smooth) or _is_all_tissue(smooth, least_green))


def _light_of_wrong_colours(smooth: NDArray[np.uint8], planes: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Logarithm of the slide's commonest colour, if it is that of glass which was decoded wrongly; else None.

    Such glass is bright in one channel only, so that it is not among the pixels that are bright in green.

    Args:
        smooth: the overview, [h, w, 3].
        planes: pixels of it that are no padding, [3, n].
    """
    sample = planes[:, :: 1 + planes.shape[1] // _MOST_OF_SAMPLE_PX]
    red, green, blue = (sample >> 4).astype(np.int32)
    codes = (red << 8) + (green << 4) + blue
    light = _light_of(sample[:, codes == np.bincount(codes).argmax()].T)
    colour = np.exp(light) - _OFFSET
    if not _is_strange(light) or colour.max() < _BRIGHT_FROM:
        return None
    is_alike = cv2.inRange(smooth, np.float64(colour - _ALIKE), np.float64(colour + _ALIKE)) > 0
    is_glass = is_alike.mean() >= LEAST_FLAT_SHARE and flat_pixels(smooth)[is_alike].mean() >= LEAST_FLAT_OF_ALIKE
    return light if is_glass else None


def _light_of_flat(smooth: NDArray[np.uint8], *, least_green: float) -> NDArray[np.float32] | None:
    """Logarithm of the middle colour of what is bright and flat; None where too little is."""
    is_bright = (smooth[..., 1] >= least_green) & ~is_padding(smooth)
    is_flat = is_bright & flat_pixels(smooth)
    if is_flat.mean() < LEAST_FLAT_SHARE:
        return None
    light = _light_of(smooth[is_flat])
    # Tissue has flat spots here and there, but glass is flat nearly everywhere but at its edges.
    colour = np.exp(light) - _OFFSET
    is_alike = is_bright & (np.abs(smooth[..., 1] - colour[1]) <= _ALIKE)
    return light if is_flat[is_alike].mean() >= LEAST_FLAT_OF_ALIKE else None


def flat_pixels(smooth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels of a smoothed overview have next to no texture around them: bool [h, w]."""
    size = (_TEXTURE_PX, _TEXTURE_PX)
    found = []
    # In bands with what lies beside them, as sums of squares need room.
    for row in range(0, len(smooth), BAND_ROWS):
        first = max(0, row - _TEXTURE_PX)
        green = smooth[first : row + BAND_ROWS + _TEXTURE_PX, :, 1].astype(np.float32)
        variance = cv2.blur(green * green, size) - cv2.blur(green, size) ** 2
        found.append(variance[row - first : row - first + BAND_ROWS] <= MOST_TEXTURE**2)
    return np.concatenate(found)


def is_told_from_glass(mask: NDArray[np.bool_], glass: Glass, smooth: NDArray[np.uint8]) -> bool:
    """Whether a mask is of tissue, as far as its texture says: glass that was taken for tissue is faint and flat.

    That happens where light or tint changes over the slide, and where white padding passes for its glass.
    """
    is_white = min(glass.colour) >= _WHITE_FROM
    least_green = 0 if is_white else FAINT_FROM * glass.colour[1]
    is_flat = mask & flat_pixels(smooth) & (smooth[..., 1] >= least_green)
    num_pieces, pieces = cv2.connectedComponents(mask.astype(np.uint8))
    num_flat = np.bincount(pieces[is_flat], minlength=num_pieces)
    num_px = np.bincount(pieces[mask], minlength=num_pieces)
    is_glass = (num_flat > _FEW_PX) & (num_flat > MOST_FLAT_OF_PIECE * num_px)
    return not is_glass.any() and bool(num_flat.sum() <= max(_FEW_PX, MOST_FLAT_SHARE * num_px.sum()))


def _is_all_tissue(smooth: NDArray[np.uint8], least_green: float) -> bool:
    """Whether even the brightest pixels are deeply stained, and nearly all have texture."""
    is_flat = flat_pixels(smooth) & ~is_padding(smooth)
    return least_green <= DEEP_GREEN and bool(is_flat.mean() <= _MOST_FLAT_OF_ALL)


def _was_cut_out(smooth: NDArray[np.uint8]) -> bool:
    """Whether white was put around pieces of tissue; white around a rectangle is padding, which shows no glass."""
    inside = (~is_padding(smooth)).astype(np.uint8)
    _, _, width, height = cv2.boundingRect(inside)
    return bool(inside.sum() < _MOST_OF_RECTANGLE * width * height) and bool((smooth.min(axis=-1) == 255).any())


def is_padding(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels [..., 3] were not scanned: pure white, or black but for the noise of JPEG."""
    return np.asarray((pixels.min(axis=-1) == 255) | (pixels.max(axis=-1) < DARKEST), dtype=bool)


def _light_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logarithm of the middle colour of pixels [n, 3]: float32 [3]."""
    return np.asarray(_LOG[np.median(pixels, axis=0).astype(np.uint8)], dtype=np.float32)


def _is_strange(light: NDArray[np.float32]) -> bool:
    """Whether no glass lets such light through."""
    return not _WIDEST_PINKNESS[0] <= _pinkness(light) <= _WIDEST_PINKNESS[1]


def _pinkness(light: NDArray[np.float32]) -> float:
    """How much pinker than grey a light is."""
    return float((light[0] + light[2]) / 2 - light[1])


def _classes(pixels: NDArray[np.uint8], glass: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tells of each pixel whether it is stained, perhaps red ink, or as deep as red ink; and how pink it is.

    Returns:
        uint8 [h, w], both; pinkness in steps of 1 / 250, from 0 on.
    """
    planes = cv2.split(pixels)
    red, green, blue = (light - cv2.LUT(plane, _LOG) for light, plane in zip(glass, planes, strict=True))
    is_dark = cv2.max(cv2.max(planes[0], planes[1]), planes[2]) < DARKEST
    pinkness = green - (red + blue) / 2
    is_stained = (pinkness > LEAST_PINKNESS + LEAST_PINKNESS_SHARE * green) & ~is_dark & ~_is_blue_ink(red, green)
    is_perhaps_ink = is_stained & _may_be_red_ink(red, green, blue)
    is_deep = is_perhaps_ink & (green > RED_INK_DENSITY)
    classes = is_stained.astype(np.uint8) + is_perhaps_ink + is_deep
    return classes, (250 * pinkness).clip(0, 255).astype(np.uint8)


def _is_blur(pinkness: NDArray[np.uint8], *, mpp: float) -> NDArray[np.bool_]:
    """The faint seam of colour that lenses and JPEG carry over the edge of strongly stained tissue: bool [h, w]."""
    strongest = cv2.dilate(pinkness, _square(BLUR_UM / mpp))
    least = np.asarray(cv2.convertScaleAbs(strongest, alpha=BLUR_SHARE), dtype=np.uint8)
    return pinkness < least


def _is_blue_ink(red: NDArray[np.float32], green: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The pixels in which red is dimmed clearly more than green, bool [h, w]; haematoxylin dims both alike."""
    return np.asarray((red > BLUE_INK_DENSITY) & (red > BLUE_INK_DEEP_RATIO * green), dtype=bool)


def _may_be_red_ink(
    red: NDArray[np.float32], green: NDArray[np.float32], blue: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """The pixels that dim blue nearly as much as green, and red hardly, or too little to say: bool [h, w]."""
    is_red = (red < RED_INK_RED * green) & (blue > RED_INK_BLUE * green)
    return np.asarray(is_red | (green < RED_INK_FAINT_DENSITY), dtype=bool)


def _without_red_ink(classes: NDArray[np.uint8], *, mpp: float) -> NDArray[np.bool_]:
    """The stained pixels, without wide patches of deep red and what may be their halo."""
    is_stained = classes >= _STAINED
    is_deep = (classes == _DEEP_RED).astype(np.uint8)
    thick = cv2.morphologyEx(is_deep, cv2.MORPH_OPEN, _square(RED_INK_WIDTH_UM / mpp / 2))
    if thick.any():
        near = cv2.dilate(thick, _square(RED_INK_HALO_UM / mpp)) > 0
        # Opened, because noise gives the hue of tissue to single pixels of the halo.
        surely = cv2.morphologyEx((classes == _STAINED).astype(np.uint8), cv2.MORPH_OPEN, _square(2)) > 0
        is_stained &= surely | ~near
    return np.asarray(is_stained, dtype=bool)


def _without_ink_pieces(
    mask: NDArray[np.bool_], smooth: NDArray[np.uint8], glass: Glass, *, mpp: float
) -> NDArray[np.bool_]:
    """The mask without pieces that a pen left: such as no tissue has on the whole, though single pixels may pass.

    Blue ink dims red more than green does, or nearly so in the bits of a thin line. Red ink dims blue as much as
    green; a piece of that hue which is narrow everywhere is a line, where a wide one may be blood in tissue.
    """
    num_pieces, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    own = pieces[mask]
    num_px = np.bincount(own, minlength=num_pieces)
    red, green, blue = (
        np.bincount(own, weights=light - _LOG[smooth[..., channel][mask]], minlength=num_pieces)
        for channel, light in enumerate(glass.light)
    )
    is_ink = (red > BLUE_INK_RATIO * green) | ((red > BLUE_INK_BIT_RATIO * green) & (num_px <= INK_BIT_PX))
    # A few specks of pale tissue have that hue by chance.
    if num_px[is_ink].sum() >= LEAST_INK_PX:
        # Where a pen was used, small bits that are bluer than eosin ever leaves them are of its edge.
        is_ink |= (red > BLUE_INK_EDGE_RATIO * green) & (num_px <= INK_BIT_PX)
    else:
        is_ink[:] = False
    is_red = (red < RED_INK_RED * green) & (blue > RED_INK_BLUE * green) & (num_px >= LEAST_INK_PX)
    if is_red.any():
        is_line = is_red & (2 * deepest_px(pieces, num_pieces) * mpp <= WIDEST_RED_LINE_UM)
        if is_line.any():
            is_ink |= is_line | ((blue > RED_INK_BIT_BLUE * green) & (num_px <= INK_BIT_PX))
    return np.asarray(mask & ~is_ink[pieces], dtype=bool)


def deepest_px(pieces: NDArray[Any], num_pieces: int) -> NDArray[np.float32]:
    """How far the innermost pixel of each piece is from what is outside of it: float32 [num_pieces], 0 for the ground.

    Args:
        pieces: the number of the piece at each pixel, int [h, w]; 0 is none.
        num_pieces: with the ground.
    """
    is_piece = pieces > 0
    # Padded, as a piece ends at the edge of the picture, and where there is no glass at all nothing has a depth.
    inside = np.pad(is_piece, 1).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_3)[1:-1, 1:-1]
    deepest = np.zeros(num_pieces, dtype=np.float32)
    np.maximum.at(deepest, pieces[is_piece], np.asarray(depth[is_piece], dtype=np.float32))
    return deepest


def grown(mask: NDArray[np.bool_], reach_px: float) -> NDArray[np.bool_]:
    """The pixels whose centre is no farther from that of a marked one than `reach_px`: bool [h, w]."""
    edge = int(reach_px)
    offsets = np.arange(-edge, edge + 1)
    disk = (np.hypot(offsets[:, None], offsets) <= reach_px).astype(np.uint8)
    # Of a disk so small this takes a tenth of the time of all distances.
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disk) > 0, dtype=bool)


def _square(radius_px: float) -> NDArray[np.uint8]:
    width_px = 2 * round(radius_px) + 1
    return np.ones((width_px, width_px), dtype=np.uint8)
