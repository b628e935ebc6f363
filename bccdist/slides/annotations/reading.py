"""The annotation files of a slide: which format each has, what it counts from, whether it fits the slide."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.addresses import Location
from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.remote.files import local_copy
from bccdist.slides.annotations.annotation import Annotation
from bccdist.slides.annotations.asap import read_asap
from bccdist.slides.annotations.contradictions import require_one_kind
from bccdist.slides.annotations.foreign import (
    foreign_head,
    foreign_json,
    foreign_text,
    foreign_xml,
    unknown,
    unsupported,
)
from bccdist.slides.annotations.geojson import is_geojson, read_geojson, stated_origin
from bccdist.slides.annotations.imagescope import read_imagescope
from bccdist.slides.annotations.mask_image import MASK_SUFFIXES, is_mask_image, read_mask_image
from bccdist.slides.annotations.names import refuse_unknown
from bccdist.slides.annotations.ndpa import read_ndpa
from bccdist.slides.annotations.placement import (
    require_marks,
    require_mask_of_level0,
    require_on_slide,
    require_on_tissue,
    require_right_corner,
)
from bccdist.slides.annotations.shapes import Marking, Shape, valid_polygons
from bccdist.slides.annotations.xml_file import parse_xml
from bccdist.slides.frames import DEFAULT_FRAMES, Frame
from bccdist.slides.manifest import Kinds
from bccdist.slides.slide import Slide

_MOST_FAULTS_LISTED = 10
_HEAD_BYTES = 4096
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

_Polygons = list[tuple[Kind, shapely.Polygon]]
_Origin = tuple[float, float]


class _Drawing(NamedTuple):
    """What a file of polygons marks."""

    markings: list[Marking]
    format: str | None
    """Its name in the table [frames] of kinds.toml; None where positions are those of level 0 by themselves."""
    stated_origin: _Origin | None = None
    """The level-0 pixel that the file itself says it counts from."""


def read_annotations(
    paths: Sequence[Location], slide: Slide, kinds: Kinds, *, tissue: NDArray[np.bool_] | None = None
) -> Annotation:
    """The annotated areas of a slide, united over its files. What format a file has, its content says.

    Args:
        paths: GeoJSON, NDPA, ImageScope or ASAP XML, or mask images that cover the slide. Without any, nothing
            is annotated.
        slide: the slide that they belong to; it is not kept.
        kinds: what the files' names or values mean, and what their positions count from.
        tissue: the slide's tissue mask, on which most of what each file marks has to lie; None leaves that out.

    Raises:
        UnknownNamesError: names or values of a file mean nothing; it lists them all.
        OffTissueError: what a file marks does not lie on tissue.
        AnnotationError: a file cannot be read, does not fit the slide, or marks no pixel of a kind that it draws.
            Files after it are not read: to collect the errors of all, call this for each. Or polygons are drawn as
            Tumornest and again as another kind.
        RemoteError: a remote file did not come.
    """
    with ExitStack() as stack:
        here = [stack.enter_context(local_copy(location)) for location in paths]
        try:
            return _read_here(here, slide, kinds, tissue)
        except AnnotationError as error:
            # What is said of a copy is meant of what it was copied from.
            for path, location in zip(here, paths, strict=True):
                error.args = tuple(str(each).replace(str(path), str(location)) for each in error.args)
            raise


def _read_here(paths: Sequence[Path], slide: Slide, kinds: Kinds, tissue: NDArray[np.bool_] | None) -> Annotation:
    files = []
    for path in paths:
        file = _read_file(path, slide, kinds, tissue)
        require_marks(path, file, slide, tissue)
        if tissue is not None:
            require_on_tissue(path, file, slide, tissue)
        files.append(file)
    annotation = Annotation.joined(slide, files)
    if paths:
        require_one_kind(paths[-1], annotation)
    return annotation


def _read_file(path: Path, slide: Slide, kinds: Kinds, tissue: NDArray[np.bool_] | None) -> Annotation:
    head = _head(path)
    if is_mask_image(head) or path.suffix.lower() in MASK_SUFFIXES:
        image = read_mask_image(path, slide, kinds.mask_values)
        is_open = tissue is not None and require_mask_of_level0(path, image, slide, tissue)
        note = f"{path.name} is taken to cover the whole of level 0, and not the scanned area alone"
        return Annotation(slide, polygons=[], mask_images=[image], notes=[note] if is_open else [])
    drawing = _read_drawing(path, head, slide)
    refuse_unknown(path, (marking.name for marking in drawing.markings), kinds.names, table="names")
    origin, other_origin = _origins_of(drawing, slide, kinds)
    polygons = _polygons_of(path, drawing.markings, kinds.names, origin)
    drawn = [polygon for _, polygon in polygons]
    require_on_slide(path, drawn, slide, tissue)
    if other_origin is None:
        return Annotation(slide, polygons=polygons, mask_images=[])
    shift_px = (other_origin[0] - origin[0], other_origin[1] - origin[1])
    if tissue is not None:
        require_right_corner(path, drawn, slide, tissue, shift_px=shift_px, setting=str(drawing.format))
    note = (
        f"{path.name} is taken to count from level-0 px {origin}, and not from {other_origin}: neither the file nor "
        f"{drawing.format} under [frames] in kinds.toml says so, and the slide's scanned area is a part of level 0"
    )
    return Annotation(slide, polygons=polygons, mask_images=[], notes=[note])


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}; correct its path in slides.csv") from error
    if not head:
        raise AnnotationError(f"{path}: it is empty; export it again, or take it out of slides.csv")
    return head


def _read_drawing(path: Path, head: bytes, slide: Slide) -> _Drawing:
    """What a file of polygons marks, by the format that it begins like."""
    foreign = foreign_head(head)
    if foreign is not None:
        raise unsupported(path, foreign)
    start = head
    for mark in _BYTE_ORDER_MARKS:
        start = start.removeprefix(mark)
    first = start.replace(b"\0", b"").lstrip()[:1]
    if first == b"<":
        return _read_xml(path, head, slide)
    if first in (b"{", b"[") or path.suffix.lower() in (".json", ".geojson"):
        return _read_json(path, head)
    foreign = foreign_text(head)
    if foreign is not None:
        raise unsupported(path, foreign)
    raise unknown(path, f"it begins with {start[:16]!r}", head)


def _read_json(path: Path, head: bytes) -> _Drawing:
    content = _parse_json(path)
    foreign = foreign_json(content)
    if foreign is not None:
        raise unsupported(path, foreign)
    if isinstance(content, dict) and not is_geojson(content):
        keys = sorted(map(str, content))[:10]
        raise unknown(path, f"expected GeoJSON, got a JSON object with the keys {keys}", head)
    return _Drawing(read_geojson(path, content), "geojson", stated_origin(path, content))


def _parse_json(path: Path) -> Any:
    """Any JSON in UTF-8, UTF-16 or UTF-32.

    Raises:
        AnnotationError: it is none.
    """
    try:
        return json.loads(path.read_bytes())
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: not valid JSON: it is not in UTF-8: {error}; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: not valid JSON: {error}; it may be cut off: export it again") from error


def _read_xml(path: Path, head: bytes, slide: Slide) -> _Drawing:
    root = parse_xml(path, path.read_bytes())
    foreign = foreign_xml(path, root)
    if foreign is not None:
        raise unsupported(path, foreign)
    if _is_list_of(root, "ASAP_Annotations", "Annotations"):
        return _Drawing(read_asap(path, root), "asap")
    if _is_list_of(root, "annotations", "ndpviewstate"):
        return _Drawing(read_ndpa(path, root, slide), None)
    if _is_list_of(root, "Annotations", "Annotation"):
        return _Drawing(read_imagescope(path, root, slide), "imagescope")
    what = f"it is XML with the root <{root.tag}> of {sorted({child.tag for child in root})[:10]}"
    raise unknown(path, what, head)


def _is_list_of(root: Element, tag: str, child_tag: str) -> bool:
    """Whether a root holds such children, and no other ones only."""
    return root.tag == tag and (not len(root) or root.find(child_tag) is not None)


def _origins_of(drawing: _Drawing, slide: Slide, kinds: Kinds) -> tuple[_Origin, _Origin | None]:
    """The level-0 pixel that a drawing counts from; and another one that it may count from, if nothing says so."""
    if drawing.format is None:
        return (0, 0), None
    if drawing.stated_origin is not None:
        return drawing.stated_origin, None
    frame = kinds.frames.get(drawing.format, DEFAULT_FRAMES[drawing.format])
    origins = {each: each.origin(slide.properties) for each in (frame, *Frame)}
    if drawing.format in kinds.frames or len(set(origins.values())) == 1:
        return origins[frame], None
    return origins[frame], next(origin for each, origin in origins.items() if each is not frame)


def _polygons_of(path: Path, markings: list[Marking], names: Mapping[str, Kind | None], origin: _Origin) -> _Polygons:
    polygons: _Polygons = []
    faults = []
    for marking in markings:
        kind = names[marking.name]
        if kind is not None:
            try:
                shapes = [_moved(shape, origin) for shape in marking.shapes()]
                polygons += [(kind, polygon) for shape in shapes for polygon in valid_polygons(shape)]
            except AnnotationError as error:
                faults.append(str(error))
    if faults:
        more = len(faults) - _MOST_FAULTS_LISTED
        listed = faults[:_MOST_FAULTS_LISTED] + ([f"{path}: and {more} faults more"] if more > 0 else [])
        raise AnnotationError("\n".join(listed))
    return polygons


def _moved(shape: Shape, origin: _Origin) -> Shape:
    if not any(origin):
        return shape
    return shape._replace(geometry=shapely.transform(shape.geometry, lambda xy: xy + np.array(origin)))
