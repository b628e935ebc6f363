"""Where a slide lies, and by which identifiers DICOM knows it: a DICOM slide's own, else ones made of its bytes.

Only identifiers of the study, the series and the image, and geometry are read of a DICOM slide. Nothing of the
patient, the specimen, persons, places and dates is.
"""

import json
import uuid
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from bccdist.configuration import Psi, pixel_px
from bccdist.errors import SlideError
from bccdist.heatmaps.store import Heatmap, lattice_shape

_NAMESPACE = uuid.UUID("b8a2c4f0-52a5-5d0b-9d6e-6f1f0d6c9b11")
"""Of all identifiers that are made here."""
_UM_PER_MM = 1000
_MAGIC = slice(128, 132)
_READ = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("ImageType", "ConcatenationUID", "TotalPixelMatrixColumns", "TotalPixelMatrixRows"),
    *("TotalPixelMatrixOriginSequence", "ImageOrientationSlide", "SharedFunctionalGroupsSequence"),
)
"""All that is read of a DICOM slide."""


def uid_of(*facts: object) -> str:
    """An identifier that follows from the facts alone, whoever asks and whenever."""
    text = json.dumps(facts, default=_plain, sort_keys=True)
    return f"2.25.{uuid.uuid5(_NAMESPACE, text).int}"


def _plain(value: Any) -> Any:
    """A dataclass or a number of numpy as JSON has it, the same with every version of either."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value.item()


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A slide in DICOM's terms."""

    study_uid: str
    frame_of_reference_uid: str
    spacing_level0_mm: tuple[float, float]
    """Between the centres of level-0 pixels: from row to row, and from column to column."""
    origin_mm: tuple[float, float]
    """x and y of the upper left level-0 pixel in the slide's coordinate system."""
    orientation: tuple[float, ...]
    """Direction cosines along a row, then along a column: three each."""
    depth_mm: float = 0.001
    """Depth of field; where nobody says, that of a 20x objective, about."""
    image_uid: str = ""
    """The level-0 image; empty where the slide is not DICOM."""
    series_uid: str = ""
    """Of that image."""

    @property
    def is_dicom(self) -> bool:
        """Whether the slide is DICOM, so that others know its identifiers."""
        return bool(self.image_uid)

    def at(self, x_level0_px: float, y_level0_px: float) -> tuple[float, float, float]:
        """A position in mm in the slide's coordinate system, to the nanometre."""
        down, right = (
            y_level0_px * self.spacing_level0_mm[0],
            x_level0_px * self.spacing_level0_mm[1],
        )
        origin = (*self.origin_mm, 0.0)
        x, y, z = (
            round(origin[axis] + right * self.orientation[axis] + down * self.orientation[3 + axis], 6)
            for axis in range(3)
        )
        return x, y, z

    def stand_in(self, size_level0_px: tuple[int, int]) -> Dataset:
        """The level-0 image as far as the files about it need it: identifiers and geometry, and an empty patient."""
        image = Dataset()
        image.SOPClassUID = VLWholeSlideMicroscopyImageStorage
        image.SOPInstanceUID = self.image_uid or uid_of("no image", self.study_uid)
        image.StudyInstanceUID = self.study_uid
        image.SeriesInstanceUID = self.series_uid or uid_of("no series", self.study_uid)
        image.FrameOfReferenceUID = self.frame_of_reference_uid
        image.Modality = "SM"
        for name in ("PatientName", "PatientSex", "AccessionNumber", "StudyID", "ReferringPhysicianName"):
            setattr(image, name, "")
        for name in ("PatientBirthDate", "StudyDate", "StudyTime"):
            setattr(image, name, None)
        # Archives would take all slides without one for one patient's.
        image.PatientID = "" if self.is_dicom else f"bccdist-{self.study_uid[-12:]}"
        image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows = size_level0_px
        image.Columns, image.Rows, image.NumberOfFrames = (*size_level0_px, 1)
        image.TotalPixelMatrixFocalPlanes = 1
        image.DimensionOrganizationType = "TILED_FULL"
        image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        image.PositionReferenceIndicator = "SLIDE_CORNER"
        image.ImageOrientationSlide = list(self.orientation)
        origin = Dataset()
        origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = self.origin_mm
        image.TotalPixelMatrixOriginSequence = [origin]
        measures, shared = Dataset(), Dataset()
        measures.PixelSpacing, measures.SliceThickness = list(self.spacing_level0_mm), self.depth_mm
        shared.PixelMeasuresSequence = [measures]
        image.SharedFunctionalGroupsSequence = [shared]
        return image


def place_slide(path: Path, heatmap: Heatmap) -> Placement:
    """Where a slide lies.

    Args:
        path: the slide's file.
        heatmap: the slide's.

    Raises:
        SlideError: it is DICOM, and which image is meant or where it lies cannot be told.
    """
    if not _is_dicom(path):
        return _placed_by_content(heatmap)
    size_px = heatmap.attributes.size_level0_px
    image = _level0_image(path, size_px)
    measures = _first(_first(image, "SharedFunctionalGroupsSequence", path), "PixelMeasuresSequence", path)
    origin = _first(image, "TotalPixelMatrixOriginSequence", path)
    row_mm, column_mm = (float(value) for value in _value(measures, "PixelSpacing", path))
    return Placement(
        study_uid=str(_value(image, "StudyInstanceUID", path)),
        frame_of_reference_uid=str(_value(image, "FrameOfReferenceUID", path)),
        spacing_level0_mm=(row_mm, column_mm),
        origin_mm=(
            float(_value(origin, "XOffsetInSlideCoordinateSystem", path)),
            float(_value(origin, "YOffsetInSlideCoordinateSystem", path)),
        ),
        orientation=tuple(float(cosine) for cosine in _value(image, "ImageOrientationSlide", path)),
        depth_mm=float(measures.get("SliceThickness") or Placement.depth_mm),
        image_uid=str(_value(image, "SOPInstanceUID", path)),
        series_uid=str(_value(image, "SeriesInstanceUID", path)),
    )


def output_spacing_mm(placement: Placement, heatmap: Heatmap, psi: Psi) -> tuple[float, float]:
    """Between the pixels of an output: from row to row, and from column to column."""
    level0_px = pixel_px(psi) * heatmap.attributes.downsample
    row_mm, column_mm = placement.spacing_level0_mm
    return row_mm * level0_px, column_mm * level0_px


def output_shape(heatmap: Heatmap, psi: Psi) -> tuple[int, int]:
    """Height and width of an output in its pixels."""
    return lattice_shape(heatmap.attributes.size_target_px, psi)


def _placed_by_content(heatmap: Heatmap) -> Placement:
    """Identifiers that follow from the slide's bytes; its upper left corner is the origin."""
    attributes = heatmap.attributes
    level0_mm = attributes.mpp / attributes.downsample / _UM_PER_MM
    return Placement(
        study_uid=uid_of("study", attributes.slide_fingerprint),
        frame_of_reference_uid=uid_of("frame of reference", attributes.slide_fingerprint),
        spacing_level0_mm=(level0_mm, level0_mm),
        origin_mm=(0.0, 0.0),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    )


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC.stop)[_MAGIC] == b"DICM"
    except OSError as error:
        raise SlideError(
            f"{path}: {error.strerror}: whether the slide is DICOM, and where it lies then, its file says"
        ) from error


def _level0_image(path: Path, size_px: tuple[int, int]) -> Dataset:
    """The image in the series of `path` that has the size of level 0.

    Raises:
        SlideError: there is none, or there are several, or it is cut into several files.
    """
    series = _value(_headers(path), "SeriesInstanceUID", path)
    images = []
    for each in sorted(path.parent.iterdir()):
        if each.is_file() and _is_dicom(each) and (image := _headers(each)).get("SeriesInstanceUID") == series:
            size = (image.get("TotalPixelMatrixColumns"), image.get("TotalPixelMatrixRows"))
            if size == size_px and "VOLUME" in image.get("ImageType", ()):
                images.append((each, image))
    if parts := [each.name for each, image in images if "ConcatenationUID" in image]:
        raise SlideError(
            f"{path}: its level 0 is a concatenation, an image cut into files ({', '.join(parts[:3])}), which is not "
            "read: join them into one instance first"
        )
    if len(images) != 1:
        named = ", ".join(each.name for each, _ in images[:3]) or "none"
        raise SlideError(
            f"{path}: {len(images)} images of its series have level 0's {size_px[0]} x {size_px[1]} px ({named}), "
            "expected one, to which the heatmap belongs: leave one of them in the folder"
        )
    return images[0][1]


def _headers(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_READ))
    except (InvalidDicomError, OSError, ValueError, EOFError) as error:
        raise SlideError(f"{path}: its DICOM headers cannot be read: {type(error).__name__}: {error}") from error


def _first(dataset: Dataset, name: str, path: Path) -> Dataset:
    items: Any = _value(dataset, name, path)
    first: Dataset = items[0]
    return first


def _value(dataset: Dataset, name: str, path: Path) -> Any:
    value = dataset.get(name)
    if value is None or (hasattr(value, "__len__") and not len(value)):
        raise SlideError(f"{path}: the DICOM attribute {name} is missing, without which nobody knows where it lies")
    return value
