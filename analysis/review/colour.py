"""A scanner's colours as the screen's: the ICC profile that a slide carries, applied to tiles (display only).

Networks, thresholds and ledgers never see it: they are made of the file's own pixels.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from bccdist.addresses import Location
from bccdist.slides.slide_file import open_file

_RGB = "RGB"


@dataclass(frozen=True, kw_only=True)
class ColourProfile:
    """The ICC profile of a slide."""

    profile: Any
    """As ImageCms has it."""

    @property
    def name(self) -> str:
        """What the profile calls itself."""
        return ImageCms.getProfileDescription(self.profile).strip() or "without a name"

    @cached_property
    def _to_screen(self) -> Any:
        return ImageCms.buildTransform(self.profile, ImageCms.createProfile("sRGB"), _RGB, _RGB)

    def applied(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An RGB image [h, w, 3] in the colours of sRGB, which screens take pages to be in."""
        return np.asarray(ImageCms.applyTransform(Image.fromarray(image), self._to_screen), dtype=np.uint8)


def read_profile(path: Location) -> ColourProfile | str | None:
    """The colour profile of a slide; of one that cannot be used the reason, None where the file carries none.

    Raises:
        SlideError: the slide cannot be opened.
    """
    with open_file(path) as handle:
        try:
            profile = handle.color_profile
            if profile is None:
                return None
            found = ColourProfile(profile=profile)
            # Made now: a profile that is no RGB one is found when the slide is opened, not at every tile.
            found.applied(np.zeros((1, 1, 3), dtype=np.uint8))
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            return f"its colour profile cannot be used: {error}"
        return found
