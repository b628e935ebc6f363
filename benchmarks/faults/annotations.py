"""Annotation files in another frame, scale, encoding or format, or of another slide."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
import shapely
import shapely.affinity
import shapely.geometry
from numpy.typing import NDArray

from bccdist.addresses import on_this_machine
from bccdist.configuration import ShardConfig
from bccdist.files import csv_text, write_text
from bccdist.parts import Kind
from bccdist.slides.annotations import read_annotations
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import DEFAULT_KINDS, Kinds, SlideRecord, read_manifest
from bccdist.slides.slide import Slide
from benchmarks.faults.doctor_trials import diagnose
from benchmarks.faults.fault import Fault, Outcome, Seen, Trial
from benchmarks.faults.slide_files import MPP, levels_of, pages_of, write_scn, write_tiff
from shards.build import build_slides

KIND = "annotations"
_LEAST_OVERLAP = 0.9
_MOST_ON_TISSUE = 0.4
"""A moved annotation has at most this share on tissue, so that the mistake is one that can be seen."""
Drawn = list[tuple[str, shapely.Polygon]]
"""Kinds and their polygons, in level-0 px."""


@dataclass(frozen=True, kw_only=True)
class _Annotated:
    """A slide of the study that is annotated."""

    record: SlideRecord
    drawn: Drawn
    tissue: NDArray[np.bool_]
    """At half of level 0, with a border of 15 um."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of level 0."""
        return 2 * self.tissue.shape[1], 2 * self.tissue.shape[0]

    def share_on_tissue(self, drawn: Drawn) -> float:
        """The share of an annotation's area that lies on tissue."""
        mask = np.zeros(self.tissue.shape, dtype=np.uint8)
        for _, polygon in drawn:
            corners = np.asarray(polygon.exterior.coords) / 2
            cv2.fillPoly(mask, [corners.round().astype(np.int32)], 1)
        area = sum(polygon.area for _, polygon in drawn) / 4
        return float(mask[self.tissue].sum() / max(area, 1))


def _annotated(trial: Trial) -> _Annotated:
    manifest = trial.scene.study.manifest
    records = [record for record in manifest.slides if record.annotations]
    record = records[trial.scene.seed % len(records)]
    features = json.loads(on_this_machine(record.annotations[0]).read_text(encoding="utf-8"))["features"]
    drawn = [
        (feature["properties"]["classification"]["name"], shapely.geometry.shape(feature["geometry"]))
        for feature in features
    ]
    truth = cv2.imread(
        str(on_this_machine(record.path).parents[1] / "truth" / f"{record.slide_id}.mask.png"), cv2.IMREAD_UNCHANGED
    )
    # What is drawn at a section's edge is on tissue for a mask with coarser pixels.
    tissue = cv2.dilate((np.asarray(truth) > 0).astype(np.uint8), np.ones((33, 33), np.uint8)) > 0
    return _Annotated(record=record, drawn=drawn, tissue=np.asarray(tissue))


def _build(
    trial: Trial,
    files: Sequence[Path],
    *,
    slide: Path | None = None,
    mpp: float | None = None,
    expected: Drawn | None = None,
    offset_px: tuple[int, int] = (0, 0),
) -> Seen:
    """Let the shards stage read an annotation, and hold what it marks against what was drawn.

    Args:
        trial: whose folder holds the files.
        files: the slide's annotation.
        slide: another file of the slide.
        mpp: as the manifest says it.
        expected: what is right; the study's own annotation by default.
        offset_px: where the study's slide lies on the other file, in level-0 px.
    """
    annotated = _annotated(trial)
    path = slide or annotated.record.path
    row = {
        "slide_id": "slide",
        "part": "train",
        "path": str(path),
        "annotation": ";".join(file.name for file in files),
        "mpp": mpp or "",
    }
    write_text(trial.folder / "slides.csv", csv_text(list(row), [row]))
    manifest = read_manifest(trial.folder / "slides.csv")
    build_slides(manifest.path, ["slide"], trial.folder / "study", ShardConfig(), num_workers=0)
    right = trial.folder / "right.geojson"
    right.write_text(_geojson(annotated.drawn if expected is None else expected), encoding="utf-8")
    found = _masks(on_this_machine(path), files, manifest.kinds, mpp)
    drawn = _masks(on_this_machine(annotated.record.path), [right], DEFAULT_KINDS, None)
    x, y = offset_px[0] // 2, offset_px[1] // 2
    for kind in Kind:
        in_place = np.zeros_like(found[kind])
        in_place[y : y + drawn[kind].shape[0], x : x + drawn[kind].shape[1]] = drawn[kind]
        drawn[kind] = in_place
        both, either = (found[kind] & drawn[kind]).sum(), (found[kind] | drawn[kind]).sum()
        if both < _LEAST_OVERLAP * either:
            area = f"{found[kind].sum():,} px of {kind.value} for {drawn[kind].sum():,}, {both:,} in both"
            return Seen(Outcome.SILENT, area)
    return Seen(Outcome.RIGHT)


def _masks(path: Path, files: Sequence[Path], kinds: Kinds, mpp: float | None) -> dict[Kind, NDArray[np.bool_]]:
    with Slide(path, target_mpp=2 * MPP, mpp=mpp) as slide:
        whole = Box(0, 0, slide.width_px, slide.height_px)
        return read_annotations(files, slide, kinds).masks(whole)


def _geojson(drawn: Drawn) -> str:
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(polygon),
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }
        for name, polygon in drawn
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def _moved(move: Callable[[Trial, _Annotated, shapely.Polygon], shapely.Polygon]) -> Callable[[Trial], Seen]:
    """The polygons at other places."""

    def run(trial: Trial) -> Seen:
        annotated = _annotated(trial)
        moved = [(name, move(trial, annotated, polygon)) for name, polygon in annotated.drawn]
        # Chance brings some of them onto other tissue, where nobody can see that they are wrong.
        seen = [number for number, each in enumerate(moved) if annotated.share_on_tissue([each]) < _MOST_ON_TISSUE]
        if not seen:
            return _off_tissue(trial)
        path = _written(trial, "a.geojson", _geojson([moved[number] for number in seen]))
        return _build(trial, [path], expected=[annotated.drawn[number] for number in seen])

    return run


def _scaled(x: float, y: float | None = None) -> Callable[[Trial], Seen]:
    return _moved(lambda _, __, polygon: shapely.affinity.scale(polygon, x, x if y is None else y, origin=(0, 0)))


def _fractions(percent: float = 1.0) -> Callable[[Trial], Seen]:
    return _moved(
        lambda _, annotated, polygon: shapely.affinity.scale(
            polygon, percent / annotated.size[0], percent / annotated.size[1], origin=(0, 0)
        )
    )


def _off_tissue(trial: Trial) -> Seen:
    """Moved until most of it lies on glass, and all of it on the slide."""
    annotated = _annotated(trial)
    bounds = np.array([polygon.bounds for _, polygon in annotated.drawn])
    low, high = -bounds[:, :2].min(axis=0), np.array(annotated.size) - bounds[:, 2:].max(axis=0)
    best, drawn = 1.0, annotated.drawn
    for _ in range(300):
        x, y = trial.rng.uniform(low, high)
        moved = [(name, shapely.affinity.translate(polygon, x, y)) for name, polygon in annotated.drawn]
        if (share := annotated.share_on_tissue(moved)) < best:
            best, drawn = share, moved
        if best < _MOST_ON_TISSUE:
            break
    return _build(trial, [_written(trial, "a.geojson", _geojson(drawn))])


def _written(trial: Trial, name: str, content: str | bytes) -> Path:
    path = trial.folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _from_the_bounds(trial: Trial) -> Seen:
    """A scan in a larger canvas, drawn on in QuPath, which counts from the corner of `openslide.bounds`."""
    annotated = _annotated(trial)
    width, height = annotated.size
    offset_px = (int(trial.rng.integers(2, 8)) * 64, int(trial.rng.integers(2, 6)) * 64)
    canvas_px = (width + 1024, height + 512)
    slide = write_scn(trial.folder / "slide.scn", _picture(annotated), offset_px=offset_px, canvas_px=canvas_px)
    path = _written(trial, "a.geojson", _geojson(annotated.drawn))
    return _build(trial, [path], slide=slide, offset_px=offset_px)


def _text(name: str, content: Callable[[_Annotated], str | bytes]) -> Callable[[Trial], Seen]:
    """Another file in the annotation's place."""
    return lambda trial: _build(trial, [_written(trial, name, content(_annotated(trial)))])


def _or_found(run: Callable[[Trial], Seen]) -> Callable[[Trial], Seen]:
    """For files that are right for a slide without tumor: the doctor tells where sections are not labelled so."""

    def run_and_ask(trial: Trial) -> Seen:
        seen = run(trial)
        codes = {code for _, code in diagnose(trial.folder / "slides.csv")} & {"no-tumornest", "bad-annotation"}
        return Seen(Outcome.FINDING, ", ".join(codes)) if seen.outcome is Outcome.SILENT and codes else seen

    return run_and_ask


def _geojson_of_zeros(annotated: _Annotated) -> str:
    return _geojson([(name, shapely.Polygon([(0, 0)] * 4)) for name, _ in annotated.drawn])


def _geojson_of_lines(annotated: _Annotated) -> str:
    features = json.loads(_geojson(annotated.drawn))
    for feature in features["features"]:
        ring = feature["geometry"]["coordinates"][0]
        feature["geometry"] = {"type": "LineString", "coordinates": ring}
    return json.dumps(features)


def _swapped(_: Trial, __: _Annotated, polygon: shapely.Polygon) -> shapely.Polygon:
    return shapely.transform(polygon, lambda points: points[:, ::-1])


def _layers(drawn: Drawn) -> dict[str, list[NDArray[np.float64]]]:
    """Outer rings by kind; holes are left out, since kinds that overlap are told apart by their kind."""
    layers: dict[str, list[NDArray[np.float64]]] = {}
    for name, polygon in drawn:
        layers.setdefault(name, []).append(np.asarray(polygon.exterior.coords)[:-1])
        layers.setdefault(f"-{name}", []).extend(np.asarray(ring.coords)[:-1] for ring in polygon.interiors)
    return layers


def _imagescope(drawn: Drawn, *, mpp: float | None, encoding: str = "UTF-8", vertex: str = "Vertex") -> str:
    """ImageScope's XML; holes are negative regions of their layer."""
    layers, text = _layers(drawn), []
    for number, name in enumerate([name for name in layers if not name.startswith("-")], start=1):
        text.append(f'<Annotation Id="{number}" Name={quoteattr(name)}><Regions>')
        rings = [(ring, 0) for ring in layers[name]] + [(ring, 1) for ring in layers.get(f"-{name}", [])]
        for place, (ring, hole) in enumerate(rings, start=1):
            points = "".join(f'<{vertex} X="{x:.1f}" Y="{y:.1f}"/>' for x, y in ring)
            text.append(f'<Region Id="{place}" Type="0" NegativeROA="{hole}"><Vertices>{points}</Vertices></Region>')
        text.append("</Regions></Annotation>")
    scale = "" if mpp is None else f' MicronsPerPixel="{mpp}"'
    return f'<?xml version="1.0" encoding="{encoding}"?>\n<Annotations{scale}>{"".join(text)}</Annotations>'


def _xml(mpp: float | None, *, encoding: str = "UTF-8", said: str | None = None) -> Callable[[Trial], Seen]:
    """An ImageScope file of an encoding, that says a scale."""
    return _text(
        "a.xml",
        lambda annotated: _imagescope(annotated.drawn, mpp=mpp, encoding=said or encoding).encode(encoding),
    )


def _xml_with_chinese_names(trial: Trial) -> Seen:
    names = {"Tumornest": "肿瘤", "Stroma": "间质", "Normal": "正常"}
    write_text(
        trial.folder / "kinds.toml", "[names]\n" + "\n".join(f'"{new}" = "{old}"' for old, new in names.items())
    )
    drawn = [(names[name], polygon) for name, polygon in _annotated(trial).drawn]
    content = _imagescope(drawn, mpp=MPP, encoding="GB18030").encode("gb18030")
    return _build(trial, [_written(trial, "a.xml", content)])


def _scanner_was_wrong(said: float, *, corrected: float | None) -> Callable[[Trial], Seen]:
    """A slide whose scanner wrote a wrong um/px, which the XML repeats and the manifest corrects."""

    def run(trial: Trial) -> Seen:
        annotated = _annotated(trial)
        slide = write_tiff(trial.folder / "wrong.tif", pages_of(levels_of(_picture(annotated)), mpp=said))
        content = _imagescope(annotated.drawn, mpp=said)
        return _build(trial, [_written(trial, "a.xml", content)], slide=slide, mpp=corrected)

    return run


def _picture(annotated: _Annotated) -> NDArray[np.uint8]:
    with Slide(annotated.record.path, target_mpp=MPP) as slide:
        return slide.read(Box(0, 0, slide.width_px, slide.height_px))


def _cytomine(annotated: _Annotated) -> str:
    """Its origin lies below, and shapes are WKT."""
    height = annotated.size[1]
    rows = [
        {
            "id": number,
            "image": 42,
            "project": 7,
            "term": [name],
            "location": shapely.transform(polygon, lambda points: np.array([0, height]) + points * [1, -1]).wkt,
        }
        for number, (name, polygon) in enumerate(annotated.drawn)
    ]
    return json.dumps({"collection": rows, "size": len(rows), "totalPages": 1})


def _dicom(_: _Annotated) -> bytes:
    """The begin of a DICOM file, as which Sectra exports what was drawn."""
    return bytes(128) + b"DICM" + bytes(200)


def _darwin(annotated: _Annotated) -> str:
    rows = [
        {
            "id": str(number),
            "name": name,
            "polygon": {"paths": [[{"x": x, "y": y} for x, y in np.asarray(polygon.exterior.coords)]]},
            "slot_names": ["0"],
        }
        for number, (name, polygon) in enumerate(annotated.drawn)
    ]
    schema = "https://darwin-public.s3.eu-west-1.amazonaws.com/darwin_json/2.0/schema.json"
    return json.dumps(
        {"version": "2.0", "schema_ref": schema, "item": {"name": "slide.tif", "slots": []}, "annotations": rows}
    )


def _old_darwin(annotated: _Annotated) -> str:
    rows = [
        {"name": name, "polygon": {"path": [{"x": x, "y": y} for x, y in np.asarray(polygon.exterior.coords)]}}
        for name, polygon in annotated.drawn
    ]
    return json.dumps({"dataset": "x", "image": {"filename": "slide.tif"}, "annotations": rows})


def _cytomine_wkt(annotated: _Annotated) -> str:
    return "\n".join(polygon.wkt for _, polygon in annotated.drawn)


def _coco(annotated: _Annotated) -> str:
    rows = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "segmentation": [np.asarray(polygon.exterior.coords).ravel().tolist()],
        }
        for number, (_, polygon) in enumerate(annotated.drawn)
    ]
    names = [{"id": 1, "name": "Tumornest"}]
    return json.dumps({"images": [{"id": 1}], "categories": names, "annotations": rows})


def _without_names(annotated: _Annotated) -> str:
    content: dict[str, Any] = json.loads(_geojson(annotated.drawn))
    for feature in content["features"]:
        del feature["properties"]["classification"]
    return json.dumps(content)


def _fault(name: str, run: Callable[[Trial], Seen], *, names: str = "") -> Fault:
    return Fault(kind=KIND, name=name, run=run, names=names)


FAULTS: tuple[Fault, ...] = (
    _fault("coordinates as fractions of the slide", _fractions()),
    _fault("coordinates in percent of the slide", _fractions(100.0)),
    _fault("coordinates in um", _scaled(MPP)),
    _fault("coordinates in mm", _scaled(MPP / 1000)),
    _fault("coordinates of level 1", _scaled(0.5)),
    _fault("coordinates of level 2", _scaled(0.25)),
    _fault("coordinates of a picture 32 times smaller", _scaled(1 / 32)),
    _fault("coordinates twice as large", _scaled(2.0)),
    _fault("coordinates in nm", _scaled(1000 * MPP)),
    _fault("y before x", _moved(_swapped)),
    _fault("moved off the tissue", _off_tissue),
    _fault("drawn in QuPath on a scan with bounds", _from_the_bounds),
    _fault("no features", _or_found(_text("a.geojson", lambda _: _geojson([])))),
    _fault("an empty list", _or_found(_text("a.geojson", lambda _: "[]"))),
    _fault("an empty file", _text("a.geojson", lambda _: "")),
    _fault("polygons without area", _text("a.geojson", _geojson_of_zeros)),
    _fault("lines in place of polygons", _text("a.geojson", _geojson_of_lines)),
    _fault("features without a class", _text("a.geojson", _without_names)),
    _fault("geojson cut off", _text("a.geojson", lambda annotated: _geojson(annotated.drawn)[:-200])),
    _fault("geojson in UTF-16", _text("a.geojson", lambda annotated: _geojson(annotated.drawn).encode("utf-16"))),
    _fault("imagescope without a scale", _xml(None)),
    _fault("imagescope at another scale", _xml(MPP / 2)),
    _fault("imagescope in UTF-16", _xml(MPP, encoding="utf-16", said="UTF-16")),
    _fault("imagescope in GB18030", _xml(MPP, encoding="gb18030", said="GB18030")),
    _fault("imagescope in GB2312", _xml(MPP, encoding="gb2312", said="gb2312")),
    _fault("imagescope in GB18030 with chinese names", _xml_with_chinese_names),
    _fault("imagescope of a scanner that was wrong by 100", _scanner_was_wrong(46.0, corrected=MPP)),
    _fault("imagescope of a scanner that was wrong by 2.54", _scanner_was_wrong(MPP / 2.54, corrected=MPP)),
    _fault(
        "HALO",
        _text("a.annotations", lambda annotated: _imagescope(annotated.drawn, mpp=None, vertex="V")),
        names="HALO",
    ),
    _fault("HALO as xml", _text("a.xml", lambda each: _imagescope(each.drawn, mpp=None, vertex="V")), names="HALO"),
    _fault("Cytomine", _text("a.json", _cytomine), names="Cytomine"),
    _fault("Sectra", _text("a.dcm", _dicom), names="Sectra"),
    _fault("Darwin", _text("a.json", _darwin), names="Darwin"),
    _fault("Darwin, version 1", _text("a.json", _old_darwin), names="Darwin"),
    _fault("Cytomine's outlines", _text("a.wkt", _cytomine_wkt), names="Cytomine"),
    _fault("COCO", _text("a.json", _coco), names="COCO"),
)
