"""Which pixels of a slide's overview are stained tissue: colour alone, explained in light (paper, section 2.1).

What lies on the glass dims each colour by its optical density, here the natural logarithm of glass over pixel.
Haematoxylin and eosin both dim green more than red and blue: `pinkness` is the density of green less the mean of
the other two. Everything grey has none: dust, edges of the coverslip, padding, uneven light, black ink. Blue and
green ink dim red more than green does. Red ink alone is as pink as eosin, and is told apart by how deep it is.
"""

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
"""A glass, yellowed or not, lies within; the brightest pixels of a slide full of tissue do not."""
RED_INK_DENSITY = 1.0
"""Red ink dims green at least this much where it is thick."""
RED_INK_FAINT_DENSITY = 0.25
"""The hue of what dims green less than this is uncertain."""
RED_INK_WIDTH_UM = 100.0
"""Narrower patches of deep red are blood."""
RED_INK_HALO_UM = 200.0
"""Red ink fades into pink over this much around where it is thick."""
_MEDIAN_PX = 5
_BAND_ROWS = 64
_OFFSET = 8
"""Added to every value before the logarithm: noise in near-black pixels is no colour."""
_LOG = np.log(np.arange(256) + _OFFSET).astype(np.float32)
_NOT_STAINED, _STAINED, _PERHAPS_INK, _DEEP_RED = 0, 1, 2, 3


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
    smooth = np.asarray(cv2.medianBlur(overview, _MEDIAN_PX), dtype=np.uint8)
    glass = glass_light(smooth)
    # In bands: the densities of a whole slide would take many times the memory of its overview.
    bands = [_classes(smooth[row : row + _BAND_ROWS], glass) for row in range(0, len(smooth), _BAND_ROWS)]
    classes, pinkness = (np.concatenate(part) for part in zip(*bands, strict=True))
    classes[_is_blur(pinkness, mpp=mpp)] = _NOT_STAINED
    return _without_red_ink(classes, mpp=mpp)


def glass_light(overview: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logarithm of the light that passes bare glass: float32 [3], red, green, blue.

    It is the middle colour of the brightest pixels that are not padding. Where that is no colour of glass, the slide
    is full of tissue, and the glass is taken to be grey and as bright as the brightest of its channels.
    """
    # A million pixels tell the colour of glass as well as all of them.
    planes = overview.reshape(-1, 3)[:: 1 + overview.size // 1_000_000].T.copy()
    is_padding = (planes.min(axis=0) == 255) | (planes.max(axis=0) < DARKEST)
    planes = planes[:, ~is_padding]
    if not planes.size:
        return np.full(3, _LOG[255])
    # By green, which stain dims most: pixels that are bright in it are the least stained.
    is_bright = planes[1] >= 0.9 * np.percentile(planes[1], 98)
    light = _LOG[np.median(planes[:, is_bright], axis=1).astype(np.uint8)]
    pinkness = (light[0] + light[2]) / 2 - light[1]
    if not GLASS_PINKNESS[0] <= pinkness <= GLASS_PINKNESS[1]:
        light[:] = light.max()
    return np.asarray(light, dtype=np.float32)


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
    return np.asarray((red > 0.3) & (red > 1.25 * green), dtype=bool)


def _may_be_red_ink(
    red: NDArray[np.float32], green: NDArray[np.float32], blue: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """The pixels that dim blue nearly as much as green, and red hardly, or too little to say: bool [h, w]."""
    return np.asarray(((red < 0.35 * green) & (blue > 0.75 * green)) | (green < RED_INK_FAINT_DENSITY), dtype=bool)


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


def _square(radius_px: float) -> NDArray[np.uint8]:
    width_px = 2 * round(radius_px) + 1
    return np.ones((width_px, width_px), dtype=np.uint8)
