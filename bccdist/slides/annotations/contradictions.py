"""Annotations that contradict themselves, or the labels of their sections.

Of two kinds that exclude each other Tumornest wins where patches are cut, whatever was meant; and what is not drawn as
Tumornest counts as Normal there, whatever the sections are labelled.
"""

from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.addresses import Location
from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations.annotation import Annotation
from bccdist.slides.annotations.samples import Samples
from bccdist.slides.slide import Slide

LEAST_LIKENESS_OF_ONE = 0.9
"""Common area over joint area from which two polygons are one that was drawn or exported under two kinds."""
LARGEST_SHARE_COMMON = 0.1
"""Share of the annotated Normal that may be Tumornest, too: outlines of neighbours that overlap at their borders."""
_LEAST_SHARE_WITHIN = 0.5
"""Of the smaller one of two polygons, from which it lies in the other."""


class TwoKindsError(AnnotationError):
    """One polygon is drawn under two kinds that exclude each other."""


class Contradiction(NamedTuple):
    """How much is annotated as Tumornest and as Normal."""

    num_polygons: int
    """Polygons of Normal that lie in one of Tumornest for the most part, or hold most of one."""
    share: float
    """Of the area of Normal, 0 to 1."""

    @property
    def is_large(self) -> bool:
        """Whether it is more than borders that overlap."""
        return self.num_polygons > 0 or self.share > LARGEST_SHARE_COMMON


class LabelDoubt(NamedTuple):
    """An annotation that says something else than the labels of its slide's sections."""

    is_error: bool
    """Whether patches cannot be cut from it: tumor would be learned as Normal."""
    text: str
    """What, and what to do; the slide is named elsewhere."""


def label_doubt(*, has_tumor: bool, num_tumor: int, all_normal: bool) -> LabelDoubt | None:
    """Hold the annotated tumor of a slide against what its sections are labelled.

    Args:
        has_tumor: whether anything is drawn as Tumornest.
        num_tumor: sections that are labelled Tumor.
        all_normal: whether there are sections, and all are labelled Normal.
    """
    if not has_tumor and num_tumor:
        return LabelDoubt(
            is_error=True,
            text=f"{num_tumor} of its sections are labelled Tumor, but its annotation has no Tumornest, so that every "
            "pixel counts as Normal; complete the annotation, or correct the labels",
        )
    if not has_tumor and not all_normal:
        return LabelDoubt(
            is_error=False,
            text="its annotation has no Tumornest, so that every pixel counts as Normal, but not all of its sections "
            "are labelled Normal; complete the annotation or the labels",
        )
    if has_tumor and all_normal:
        return LabelDoubt(
            is_error=False,
            text="all of its sections are labelled Normal, but its annotation has Tumornest, which counts as tumor; "
            "correct the labels, or the annotation",
        )
    return None


def require_one_kind(path: Location, annotation: Annotation) -> None:
    """Refuse polygons that are drawn as Tumornest and again as another kind.

    Args:
        path: the file, or the last one of several.
        annotation: what it holds.

    Raises:
        TwoKindsError: there are some.
    """
    for kind in (Kind.NORMAL, Kind.STROMA):
        nests, others, common_px2 = _overlaps(annotation, kind)
        are_one = common_px2 >= LEAST_LIKENESS_OF_ONE * (shapely.area(nests) + shapely.area(others) - common_px2)
        if are_one.any():
            x, y = shapely.get_coordinates(shapely.centroid(others[are_one][0]))[0]
            raise TwoKindsError(
                f"{path}: {int(are_one.sum())} polygon(s) are drawn as {Kind.TUMORNEST} and again as {kind}, the "
                f"first round level-0 px ({x:.0f}, {y:.0f}): it can be one of both only; take the wrong one out"
            )


def contradiction(annotation: Annotation, slide: Slide) -> Contradiction:
    """How much of an annotation's Normal is Tumornest, too."""
    nests, others, common_px2 = _overlaps(annotation, Kind.NORMAL)
    are_within = common_px2 >= _LEAST_SHARE_WITHIN * np.minimum(shapely.area(nests), shapely.area(others))
    normal = Samples.of(annotation, slide, [Kind.NORMAL])
    is_tumor = annotation.holds(Kind.TUMORNEST, normal.points_level0_px)
    share = float(normal.areas_px2[is_tumor].sum() / normal.area_px2) if normal.area_px2 else 0.0
    return Contradiction(num_polygons=len(set(others[are_within].tolist())), share=share)


def _overlaps(
    annotation: Annotation, kind: Kind
) -> tuple[NDArray[np.object_], NDArray[np.object_], NDArray[np.float64]]:
    """The pairs of polygons of Tumornest and of another kind that overlap, and their common area in level-0 px."""
    nests, others = (np.array(annotation.polygons_of(each), dtype=object) for each in (Kind.TUMORNEST, kind))
    of_others, of_nests = shapely.STRtree(nests).query(others, predicate="intersects")
    pairs = nests[of_nests], others[of_others]
    return *pairs, np.asarray(shapely.area(shapely.intersection(*pairs)))
