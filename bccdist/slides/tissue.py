"""Finds tissue on a slide, by its stain (paper, section 2.1)."""

import numpy as np
from numpy.typing import NDArray

from bccdist.slides.slide import Slide
from bccdist.slides.stain import stained

TISSUE_MPP = 8.0
"""um per pixel of the tissue mask."""


def tissue_mask(slide: Slide) -> NDArray[np.bool_]:
    """Tissue at `TISSUE_MPP`: bool [h, w], from the stain's colour.

    It depends on the slide's pixels and its um/px alone, not on the target mpp.
    """
    return stained(slide.thumbnail(TISSUE_MPP), mpp=TISSUE_MPP)
