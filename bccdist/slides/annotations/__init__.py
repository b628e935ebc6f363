"""Annotations of a slide, from the tools that a lab has, as masks in the target frame (paper, section 2.1).

One module per format; `reading` tells them apart and unites the files of a slide.
"""

from bccdist.slides.annotations.annotation import Annotation, KindMasks
from bccdist.slides.annotations.foreign import SUPPORTED_FORMATS
from bccdist.slides.annotations.names import UnknownNamesError
from bccdist.slides.annotations.placement import OffTissueError
from bccdist.slides.annotations.reading import read_annotations

__all__ = ["SUPPORTED_FORMATS", "Annotation", "KindMasks", "OffTissueError", "UnknownNamesError", "read_annotations"]
