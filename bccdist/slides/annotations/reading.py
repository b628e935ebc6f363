"""Reads annotation files into an annotation: which format each is, what its names mean, whether it fits the slide."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import shapely

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations.annotation import Annotation
from bccdist.slides.annotations.asap import read_asap
from bccdist.slides.annotations.geojson import foreign_format, read_geojson, read_json
from bccdist.slides.annotations.imagescope import read_imagescope
from bccdist.slides.annotations.mask_image import MASK_SUFFIXES, MaskImage, is_mask_image, read_mask_image
from bccdist.slides.annotations.names import refuse_unknown
from bccdist.slides.annotations.ndpa import read_ndpa
from bccdist.slides.annotations.shapes import Marking, valid_polygons
from bccdist.slides.annotations.xml_file import parse_xml
from bccdist.slides.manifest import Kinds
from bccdist.slides.slide import Slide

SUPPORTED_FORMATS = (
    "QuPath GeoJSON, Hamamatsu NDPA (.ndpa), Aperio ImageScope XML, ASAP XML, mask images (.png, .tif, .tiff)"
)
LARGEST_SHARE_OUTSIDE = 0.05
"""Share of a file's annotated area that may lie beyond the edge of the slide. So much is a generous hand and is cut;
more is a shift or a wrong scale, which would move every label."""
_MOST_FAULTS_LISTED = 10
_HEAD_BYTES = 512
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_FOREIGN_HEADS = (
    (b"ImageID\t", "a SlideScore table"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\xff\xd8\xff", "a JPEG, whose compression changes the values of a mask"),
    (b"\xac\xed", "a QuPath data file (.qpdata), from which QuPath exports GeoJSON"),
)

_Polygons = list[tuple[Kind, shapely.Polygon]]


def read_annotations(paths: Sequence[Path], slide: Slide, kinds: Kinds) -> Annotation:
    """The annotated areas of a slide, united over its files. What format a file has, its content says.

    Args:
        paths: GeoJSON, NDPA, ImageScope or ASAP XML, or mask images that cover the slide. Without any, nothing
            is annotated.
        slide: the slide that they belong to; it is not kept.
        kinds: what the files' names or values mean.

    Raises:
        UnknownNamesError: names or values of a file mean nothing; it lists them all.
        AnnotationError: a file cannot be read or does not fit the slide. Files after it are not read: to collect
            the errors of all, call this for each.
    """
    polygons: _Polygons = []
    mask_images: list[MaskImage] = []
    for path in paths:
        head = _head(path)
        if is_mask_image(head) or path.suffix.lower() in MASK_SUFFIXES:
            mask_images.append(read_mask_image(path, slide, kinds.mask_values))
        else:
            polygons += _read_polygons(path, head, slide, kinds)
    return Annotation(slide, polygons=polygons, mask_images=mask_images)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}; correct its path in slides.csv") from error
    if not head:
        raise AnnotationError(f"{path}: it is empty; export it again, or take it out of slides.csv")
    return head


def _read_polygons(path: Path, head: bytes, slide: Slide, kinds: Kinds) -> _Polygons:
    markings = _read_markings(path, head, slide)
    refuse_unknown(path, (marking.name for marking in markings), kinds.names, table="names")
    polygons = _polygons_of(path, markings, kinds.names)
    _refuse_outside(path, [polygon for _, polygon in polygons], slide)
    return polygons


def _read_markings(path: Path, head: bytes, slide: Slide) -> list[Marking]:
    """What a file of polygons marks, by the format that it begins like."""
    for start, name in _FOREIGN_HEADS:
        if head.startswith(start):
            raise _unsupported(path, f"it seems to be {name}")
    for mark in _BYTE_ORDER_MARKS:
        head = head.removeprefix(mark)
    first = head.replace(b"\0", b"").lstrip()[:1]
    if first == b"<":
        return _read_xml(path, slide)
    if first in (b"{", b"[") or path.suffix.lower() in (".json", ".geojson"):
        content = read_json(path, path.read_bytes())
        foreign = foreign_format(content)
        if foreign is not None:
            raise _unsupported(path, f"it seems to be {foreign}")
        return read_geojson(path, content)
    raise _unsupported(path, f"it begins with {head[:16]!r}")


def _read_xml(path: Path, slide: Slide) -> list[Marking]:
    root = parse_xml(path, path.read_bytes())
    # HALO has ImageScope's elements, but <V> for a vertex, and counts from elsewhere.
    if path.suffix.lower() == ".annotations" or root.find("Annotation/Regions/Region/Vertices/V") is not None:
        raise _unsupported(path, "it seems to be HALO annotations")
    if _is_list_of(root, "ASAP_Annotations", "Annotations"):
        return read_asap(path, root)
    if _is_list_of(root, "annotations", "ndpviewstate"):
        return read_ndpa(path, root, slide)
    if _is_list_of(root, "Annotations", "Annotation"):
        return read_imagescope(path, root, slide)
    raise _unsupported(path, f"it is XML with the root <{root.tag}> of {sorted({child.tag for child in root})[:10]}")


def _is_list_of(root: Element, tag: str, child_tag: str) -> bool:
    return root.tag == tag and (not len(root) or root.find(child_tag) is not None)


def _unsupported(path: Path, what: str) -> AnnotationError:
    return AnnotationError(
        f"{path}: unknown annotation format: {what}; supported are {SUPPORTED_FORMATS}: export one of these, "
        "or open the slide with its annotations in QuPath and export GeoJSON"
    )


def _polygons_of(path: Path, markings: list[Marking], names: Mapping[str, Kind | None]) -> _Polygons:
    polygons: _Polygons = []
    faults = []
    for marking in markings:
        kind = names[marking.name]
        if kind is not None:
            try:
                polygons += [(kind, polygon) for shape in marking.shapes() for polygon in valid_polygons(shape)]
            except AnnotationError as error:
                faults.append(str(error))
    if faults:
        more = len(faults) - _MOST_FAULTS_LISTED
        listed = faults[:_MOST_FAULTS_LISTED] + ([f"{path}: and {more} faults more"] if more > 0 else [])
        raise AnnotationError("\n".join(listed))
    return polygons


def _refuse_outside(path: Path, polygons: list[shapely.Polygon], slide: Slide) -> None:
    if not polygons:
        return
    size = f"the slide's {slide.level0_size[0]} x {slide.level0_size[1]} level-0 px"
    shares = shapely.area(shapely.intersection(polygons, shapely.box(0, 0, *slide.level0_size)))
    num_outside = int((shares == 0).sum())
    if num_outside:
        raise AnnotationError(
            f"{path}: {num_outside} of {len(polygons)} polygons lie outside {size}: it belongs to another slide, "
            "or is not in level-0 px"
        )
    share_outside = 1 - shares.sum() / shapely.area(polygons).sum()
    if share_outside > LARGEST_SHARE_OUTSIDE:
        raise AnnotationError(
            f"{path}: {share_outside:.0%} of the annotated area lies outside {size}, at most "
            f"{LARGEST_SHARE_OUTSIDE:.0%} may: it belongs to another slide, is not in level-0 px, or must be drawn "
            "within the slide"
        )
