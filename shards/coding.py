"""How the pixels and the mask of a patch are stored (chosen by benchmarks/image_coding.py)."""

from collections.abc import Mapping
from functools import cache

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from bccdist.configuration import PATCH_PX, ShardConfig

_IMAGE_EXTENSIONS = {"jpeg": "jpg", "png": "png"}


def member_extensions(image_coding: str) -> Mapping[str, str]:
    """The extension of each member of a sample, by the name that its columns of the index begin with.

    Args:
        image_coding: of the set, as in its configuration.
    """
    return {"image": _IMAGE_EXTENSIONS[image_coding], "mask": "mask.png", "json": "json"}


def encode_image(image: NDArray[np.uint8], config: ShardConfig) -> bytes:
    """The pixels of a patch as JPEG or PNG.

    Args:
        image: uint8 RGB [h, w, 3], contiguous.
        config: says which coding and quality.
    """
    if config.image_coding == "jpeg":
        return bytes(simplejpeg.encode_jpeg(image, quality=config.jpeg_quality, colorsubsampling=config.jpeg_chroma))
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """A bool mask [h, w] as a PNG of one bit a pixel."""
    options = [
        cv2.IMWRITE_PNG_BILEVEL,
        1,
        cv2.IMWRITE_PNG_COMPRESSION,
        1,
        cv2.IMWRITE_PNG_STRATEGY,
        cv2.IMWRITE_PNG_STRATEGY_RLE,
    ]
    _, encoded = cv2.imencode(".png", mask.view(np.uint8) * 255, options)
    return encoded.tobytes()


@cache
def encode_empty_mask() -> bytes:
    """The mask of a patch without Tumornest, as most are."""
    return encode_mask(np.zeros((PATCH_PX, PATCH_PX), dtype=bool))
