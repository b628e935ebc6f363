"""Files that the tools of other laboratories wrote: the same drawing in every format is the same mask."""

import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from annotated_slides import blank_slide, whole

from bccdist.errors import AnnotationError
from bccdist.files import read_json, write_json
from bccdist.parts import Kind
from bccdist.slides.annotations import Annotation, OffTissueError, read_annotations
from bccdist.slides.manifest import DEFAULT_KINDS, Kinds
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask

pytestmark = pytest.mark.shared_data

TARGET_MPP = 0.92
LAYERS = {
    Kind.TUMORNEST: ("glomerulus", "Layer 1", "Layer1"),
    Kind.STROMA: ("vessel", "Layer 2", "Layer2"),
    Kind.NORMAL: ("tubule", "Layer 3", "Layer3"),
}
KIDNEY_KINDS = Kinds(names={name: kind for kind, names in LAYERS.items() for name in names}, mask_values={})
IMAGESCOPE_AREAS_UM2 = {Kind.TUMORNEST: 213103.6, Kind.STROMA: 15094.6, Kind.NORMAL: 70662.4}
"""The sums of AreaMicrons, which ImageScope wrote beside the regions."""


def kidney(shared_data: Path, target_mpp: float) -> Slide:
    return Slide(shared_data / "fixtures" / "ndpi" / "pif_kidney.ndpi", target_mpp=target_mpp)


def kidney_annotations(shared_data: Path, slide: Slide) -> dict[str, Annotation]:
    fixtures = shared_data / "fixtures"
    files = {
        "ndpa": [fixtures / "ndpi" / "pif_kidney.ndpi.ndpa"],
        "imagescope": [fixtures / "pif_kidney" / "histology_annotations.xml"],
        "geojson": [fixtures / "pif_kidney" / f"histology_annotationsLayer{number}.geojson" for number in (1, 2, 3)],
    }
    return {name: read_annotations(paths, slide, KIDNEY_KINDS) for name, paths in files.items()}


@pytest.mark.parametrize("target_mpp", [TARGET_MPP, 0.4667], ids=["target frame", "level 0"])
def test_three_formats_of_one_drawing_are_the_same_mask(shared_data: Path, target_mpp: float) -> None:
    """Were NDPA's nanometres not rounded to hundredths of a pixel, 1354 pixels would differ in the target frame."""
    with kidney(shared_data, target_mpp) as slide:
        annotations = kidney_annotations(shared_data, slide)
        box = whole(slide)
    masks = {name: annotation.masks(box) for name, annotation in annotations.items()}
    for kind in Kind:
        assert masks["geojson"][kind].any()
        assert np.array_equal(masks["ndpa"][kind], masks["geojson"][kind])
        assert np.array_equal(masks["imagescope"][kind], masks["geojson"][kind])


def test_areas_are_those_that_imagescope_wrote(shared_data: Path) -> None:
    with kidney(shared_data, TARGET_MPP) as slide:
        annotations = kidney_annotations(shared_data, slide)
        mpp = slide.resolution.mpp
        box = whole(slide)
    for annotation in annotations.values():
        assert annotation.num_polygons == {Kind.TUMORNEST: 4, Kind.STROMA: 1, Kind.NORMAL: 6}
        assert annotation.areas_um2 == pytest.approx(IMAGESCOPE_AREAS_UM2, rel=1e-5)
    rasterised = {kind: mask.sum() * mpp**2 for kind, mask in annotations["ndpa"].masks(box).items()}
    assert rasterised == pytest.approx(IMAGESCOPE_AREAS_UM2, rel=2e-3)


def test_an_ndpa_on_another_scanners_slide_says_what_to_do(shared_data: Path) -> None:
    fixtures = shared_data / "fixtures"
    path = fixtures / "pif_kidney" / "histology_image.svs"
    with (
        Slide(path, target_mpp=TARGET_MPP, mpp=0.466667) as slide,
        pytest.raises(AnnotationError, match=r"histology_image\.svs does not say .*; name the \.ndpi file"),
    ):
        read_annotations([fixtures / "ndpi" / "pif_kidney.ndpi.ndpa"], slide, KIDNEY_KINDS)


def test_the_wrong_mpp_of_a_slide_is_told_by_its_imagescope_file(shared_data: Path) -> None:
    fixtures = shared_data / "fixtures" / "pif_kidney"
    with (
        Slide(fixtures / "histology_image.svs", target_mpp=TARGET_MPP, mpp=0.25) as slide,
        pytest.raises(AnnotationError, match=r"drawn at 0\.4667 um/px, but .* has 0\.25 um/px"),
    ):
        read_annotations([fixtures / "histology_annotations.xml"], slide, KIDNEY_KINDS)


class Foreign(NamedTuple):
    """A file without its slide: how many polygons it holds under given names, or why it is refused."""

    name: str
    num_polygons: int = 0
    names: tuple[str, ...] = ()
    says: str = ""


NO_CLASS = r"feature 0 has no properties\.classification\.name \(it is called '{}', which is no class\)"
FILES = [
    Foreign("asap/asap-polygon.xml", 1, ("None",)),
    Foreign("asap/asap-dot.xml", names=("None",), says="is a Dot, which has no area"),
    Foreign("asap/asap-pointset.xml", names=("None",), says="is a PointSet, which has no area"),
    Foreign("dlup/103S.json", says="it seems to be V7 Darwin JSON"),
    Foreign("dlup/raster.json", says="it seems to be V7 Darwin JSON"),
    Foreign("dlup/slidescore_annotation_test.json", says="it seems to be SlideScore JSON"),
    Foreign("dlup/slidescore_annotation_test.txt", says="it seems to be a SlideScore table"),
    Foreign("dlup/halo_holes.annotations", says="it seems to be HALO annotations"),
    Foreign("dlup/test_different_types_halo.annotations", says="it seems to be HALO annotations"),
    Foreign("dlup/qupath05.geojson", says=NO_CLASS.format("UT")),
    *[
        Foreign(f"qupath_geojson/qupath-{name}.json", says=NO_CLASS.format(name))
        for name in (
            "brush",
            "ellipse",
            "line",
            "multipoint",
            "point",
            "polygon",
            "polyline",
            "rectangle",
            "wand",
        )
    ],
]


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.name)
def test_a_file_of_another_laboratory_is_read_or_refused_with_the_reason(shared_data: Path, case: Foreign) -> None:
    path = shared_data / "fixtures" / "annotations" / case.name
    kinds = Kinds(names=dict.fromkeys(case.names, Kind.NORMAL), mask_values={})
    slide = blank_slide(width_px=32_000, height_px=32_000)
    if case.says:
        with pytest.raises(AnnotationError, match=case.says) as error:
            read_annotations([path], slide, kinds)
        assert str(error.value).startswith(str(path))
    else:
        assert read_annotations([path], slide, kinds).num_polygons[Kind.NORMAL] == case.num_polygons


def test_every_such_file_is_in_the_list_above(shared_data: Path) -> None:
    folder = shared_data / "fixtures" / "annotations"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {case.name for case in FILES}


class Classified(NamedTuple):
    """A QuPath file to which a class is given: its polygons and their area where it is known, or why it is refused."""

    name: str
    num_polygons: int = 0
    area_px2: float | None = None
    says: str = ""


CLASSIFIED = [
    Classified("dlup/qupath05.geojson", 3),
    Classified("qupath_geojson/qupath-rectangle.json", 1, 210 * 176),
    Classified("qupath_geojson/qupath-ellipse.json", 1, math.pi * 321 * 180 / 4),
    Classified("qupath_geojson/qupath-brush.json", 1),
    Classified("qupath_geojson/qupath-polygon.json", 1),
    Classified("qupath_geojson/qupath-wand.json", 1),
    Classified("qupath_geojson/qupath-line.json", says="is a LineString without area"),
    Classified("qupath_geojson/qupath-polyline.json", says="is a LineString without area"),
    Classified("qupath_geojson/qupath-point.json", says="is a Point without area"),
    Classified("qupath_geojson/qupath-multipoint.json", says="is a Point without area"),
]


@pytest.mark.parametrize("case", CLASSIFIED, ids=lambda case: case.name)
def test_with_a_class_every_drawn_area_of_qupath_is_read(shared_data: Path, tmp_path: Path, case: Classified) -> None:
    content = read_json(shared_data / "fixtures" / "annotations" / case.name)
    for feature in content.get("features", [content]):
        feature["properties"]["classification"] = {"name": "Normal"}
    path = tmp_path / "classified.geojson"
    write_json(path, content)
    slide = blank_slide(width_px=32_000, height_px=32_000, mpp_level0=1)
    if case.says:
        with pytest.raises(AnnotationError, match=case.says):
            read_annotations([path], slide, DEFAULT_KINDS)
        return
    annotation = read_annotations([path], slide, DEFAULT_KINDS)
    assert annotation.num_polygons[Kind.NORMAL] == case.num_polygons
    assert annotation.areas_um2[Kind.NORMAL] > 0
    if case.area_px2 is not None:
        assert annotation.areas_um2[Kind.NORMAL] == pytest.approx(case.area_px2, rel=1e-3)


@pytest.mark.parametrize("slide_id", ["train-000", "train-013", "val1-001"])
def test_masks_of_real_tissue_are_read_and_refused_when_mirrored_or_turned(
    shared_data: Path, tmp_path: Path, slide_id: str
) -> None:
    folder = shared_data / "ebhi-slides"
    values = cv2.imread(str(folder / f"{slide_id}.mask.png"), cv2.IMREAD_UNCHANGED)
    kinds = Kinds(names={}, mask_values={0: None, 1: Kind.NORMAL, 2: Kind.TUMORNEST, 3: Kind.STROMA})
    with Slide(folder / f"{slide_id}.tif", target_mpp=TARGET_MPP) as slide:
        tissue = tissue_mask(slide)
        assert not read_annotations([folder / f"{slide_id}.mask.png"], slide, kinds, tissue=tissue).notes
        for turned in (values[:, ::-1], values[::-1], values[::-1, ::-1]):
            cv2.imwrite(str(tmp_path / "turned.png"), np.ascontiguousarray(turned))
            with pytest.raises(OffTissueError):
                read_annotations([tmp_path / "turned.png"], slide, kinds, tissue=tissue)
