"""The final heatmap as a fractional segmentation, in tiles of which only those that hold something are there.

highdicom makes the attributes, from the first tile; the others are streamed beside them, so that memory holds one row
of tiles and a few attributes of each tile, whatever the slide's size. The values are the heatmap's own: value / 255 is
the probability of Tumor, and 0, as a tile that is not there, may also be a place that was not read.
"""

import hashlib
import struct
from collections.abc import Iterator
from datetime import datetime
from io import BufferedIOBase
from typing import IO, Any, NamedTuple, cast

import highdicom
import imagecodecs
import numpy as np
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import RLELossless, VLWholeSlideMicroscopyImageStorage
from pydicom.valuerep import DS

from analysis.dicom_files.placement import Placement, output_shape, output_spacing_mm, uid_of
from bccdist import __version__
from bccdist.configuration import Psi, pixel_px
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.heatmaps.store import CHUNK_PIXELS, Heatmap
from bccdist.sections.choices import Choice

TILE_PX = CHUNK_PIXELS
MANUFACTURER = "bccdist"
_ITEM = b"\xfe\xff\x00\xe0"
"""The tag before each part of compressed pixels."""
_RLE_HEADER = struct.pack("<16I", 1, 64, *[0] * 14)
"""One segment, which begins behind this header."""
_PIXEL_DATA = 0x7FE00010
_MEANING = (
    f"Value / {NUM_STEPS} is the probability of Tumor. 0, and a tile that is not there, may also be a place that was "
    "not read: the report's coverage says how much of a section was. Research use only."
)
_FORMAT = 1
"""Raised where the same heatmap would become another file, which then has other identifiers."""


class Frames(NamedTuple):
    """What was written of a heatmap's tiles."""

    corners: list[tuple[int, int]]
    """Row and column of each tile's upper left pixel."""
    digest: str
    """Of their places and values."""


def write_frames(file: IO[bytes], heatmap: Heatmap, psi: Psi) -> Frames:
    """Write the tiles of an output that hold something, run-length encoded, as DICOM encapsulates frames.

    A heatmap that is 0 all over gives its first tile, as a segmentation without a frame is none.
    """
    corners, digest = [], hashlib.sha256()
    file.write(_ITEM + struct.pack("<I", 0))
    for corner, tile in _tiles(heatmap, psi):
        if tile.any():
            corners.append(corner)
            digest.update(struct.pack("<2I", *corner) + tile.tobytes())
            file.write(_encapsulated(tile))
    if not corners:
        corners.append((0, 0))
        file.write(_encapsulated(np.zeros((TILE_PX, TILE_PX), dtype=np.uint8)))
    return Frames(corners, digest.hexdigest())


def _tiles(heatmap: Heatmap, psi: Psi) -> Iterator[tuple[tuple[int, int], NDArray[np.uint8]]]:
    """Whole tiles in reading order, each with its upper left (row, column); beyond the edge they are 0."""
    height, width = output_shape(heatmap, psi)
    for row in range(0, height, TILE_PX):
        rows = heatmap.read_rows(psi, 0, slice(row, min(row + TILE_PX, height)))
        whole = np.pad(rows, ((0, TILE_PX - len(rows)), (0, -width % TILE_PX)))
        for column in range(0, width, TILE_PX):
            yield (row, column), np.ascontiguousarray(whole[:, column : column + TILE_PX])


def _encapsulated(tile: NDArray[np.uint8]) -> bytes:
    # pydicom's own encoder takes 25 times as long; each row is encoded alone, as DICOM wants it.
    encoded = _RLE_HEADER + imagecodecs.packbits_encode(tile)
    encoded += b"\0" * (len(encoded) % 2)
    return _ITEM + struct.pack("<I", len(encoded)) + encoded


def make_segmentation(
    heatmap: Heatmap,
    psi: Psi,
    choice: Choice,
    placement: Placement,
    frames: Frames,
    *,
    warning: str,
    made_at: datetime,
) -> Dataset:
    """The segmentation without its pixels.

    Args:
        heatmap: the slide's.
        psi: which output.
        choice: the model that made it.
        placement: where the slide lies.
        frames: what was written of it.
        warning: what is not real; empty where all is.
        made_at: when the heatmap was made.
    """
    attributes = heatmap.attributes
    about = ("segmentation", _FORMAT, attributes.slide_fingerprint, choice.weights_digest, psi, placement, warning)
    spacing_mm = output_spacing_mm(placement, heatmap, psi)
    made = highdicom.seg.Segmentation(
        source_images=[placement.stand_in(attributes.size_level0_px)],
        pixel_array=np.ones((1, TILE_PX, TILE_PX), dtype=np.float32),
        segmentation_type=SegmentationTypeValues.FRACTIONAL,
        segment_descriptions=[_segment(choice, warning, uid_of(*about, "segment"))],
        series_instance_uid=uid_of(*about, "series"),
        series_number=1,
        sop_instance_uid=uid_of(*about, frames.digest),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=choice.setting,
        software_versions=__version__,
        device_serial_number=choice.weights_digest,
        max_fractional_value=NUM_STEPS,
        content_label="TUMOR",
        content_description=f"{short_of(warning)}Probability of Tumor by {choice.setting}",
        plane_positions=[_position(placement, heatmap, psi, frames.corners[0])],
        plane_orientation=highdicom.PlaneOrientationSequence("SLIDE", placement.orientation),
        pixel_measures=highdicom.PixelMeasuresSequence(pixel_spacing=spacing_mm, slice_thickness=placement.depth_mm),
        dimension_organization_type="TILED_SPARSE",
        omit_empty_frames=False,
    )
    dataset = Dataset()
    dataset.update(made)
    dataset.file_meta = made.file_meta
    _describe_all_frames(dataset, heatmap, psi, placement, frames)
    dataset.SeriesDescription = f"{short_of(warning)}probability of Tumor, research use only"
    finish_identity(dataset, placement, made_at, organization_uid=uid_of(*about, "dimensions"))
    return dataset


def attach_frames(dataset: Dataset, file: IO[bytes]) -> None:
    """Let a segmentation's pixels be read from what `write_frames` wrote while the segmentation is written."""
    file.seek(0)
    pixels = DataElement(_PIXEL_DATA, "OB", cast("BufferedIOBase", file))
    pixels.is_undefined_length = True
    dataset[_PIXEL_DATA] = pixels
    dataset.file_meta.TransferSyntaxUID = RLELossless


def short_of(warning: str) -> str:
    """The first words of a warning, to stand before a title; empty where there is none."""
    return f"{warning.partition(' - ')[0]}: " if warning else ""


def finish_identity(
    dataset: Dataset, placement: Placement, made_at: datetime, *, organization_uid: str | None = None
) -> None:
    """Take out what differs each time a file is made, and say that the patient's identity was left out.

    Args:
        dataset: what highdicom made.
        placement: of the slide.
        made_at: stands for every time in it.
        organization_uid: of the dimensions of its frames, if it has any.
    """
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        dataset.pop(name, None)
    # The library that made the file is named; what it takes for the scanner is not one.
    dataset.ContributingEquipmentSequence = [
        each for each in dataset.ContributingEquipmentSequence if _purpose(each) == codes.DCM.ProcessingEquipment
    ]
    for equipment in dataset.ContributingEquipmentSequence:
        equipment.pop("ContributionDateTime", None)
    dataset.ContentDate, dataset.ContentTime = made_at.strftime("%Y%m%d"), made_at.strftime("%H%M%S")
    dataset.TimezoneOffsetFromUTC = "+0000"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "no attribute of the patient is read or written"
    if organization_uid is not None:
        for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
            item.DimensionOrganizationUID = organization_uid
    if not placement.is_dicom:
        # No archive has an image of this slide.
        for name in ("ReferencedSeriesSequence", "SourceImageSequence"):
            dataset.pop(name, None)


def _purpose(equipment: Dataset) -> CodedConcept:
    return CodedConcept.from_dataset(equipment.PurposeOfReferenceCodeSequence[0])


def _segment(choice: Choice, warning: str, tracking_uid: str) -> SegmentDescription:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=MANUFACTURER,
        family=codes.DCM.ArtificialIntelligence,
        version=__version__,
        source=MANUFACTURER,
        parameters={"setting": choice.setting, "weights": choice.weights_digest, "epoch": str(choice.epoch)},
    )
    segment = SegmentDescription(
        segment_number=1,
        segment_label="Tumor",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid,
        tracking_id="Tumor",
    )
    segment.SegmentDescription = f"{warning}. {_MEANING}" if warning else _MEANING
    return segment


def _describe_all_frames(dataset: Dataset, heatmap: Heatmap, psi: Psi, placement: Placement, frames: Frames) -> None:
    """Extend what highdicom wrote of one frame to all of them."""
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = output_shape(heatmap, psi)
    [origin] = dataset.TotalPixelMatrixOriginSequence
    # A decimal string has 16 characters at most.
    x_mm, y_mm = (DS(value, auto_format=True) for value in placement.origin_mm)
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = x_mm, y_mm
    dataset.NumberOfFrames = len(frames.corners)
    dataset.SharedFunctionalGroupsSequence[0].DerivationImageSequence = [_derivation(placement)]
    # It may be empty: a slide has a coordinate system and no side of a patient.
    dataset.PatientOrientation = None
    ranks = [
        {place: rank for rank, place in enumerate(sorted(set(axis)), 1)} for axis in zip(*frames.corners, strict=True)
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(_position(placement, heatmap, psi, corner), [1, ranks[0][corner[0]], ranks[1][corner[1]]])
        for corner in frames.corners
    ]


def _frame(position: Any, indices: list[int]) -> Dataset:
    content, frame = Dataset(), Dataset()
    content.DimensionIndexValues = indices
    frame.FrameContentSequence = [content]
    frame.PlanePositionSlideSequence = position
    return frame


def _derivation(placement: Placement) -> Dataset:
    """What the frames were made from: all alike from the level-0 image, if others know it."""
    derivation = Dataset()
    derivation.DerivationCodeSequence = [CodedConcept.from_code(codes.DCM.Segmentation)]
    derivation.SourceImageSequence = []
    if placement.is_dicom:
        image = Dataset()
        image.ReferencedSOPClassUID = VLWholeSlideMicroscopyImageStorage
        image.ReferencedSOPInstanceUID = placement.image_uid
        image.PurposeOfReferenceCodeSequence = [
            CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
        ]
        derivation.SourceImageSequence = [image]
    return derivation


def _position(
    placement: Placement, heatmap: Heatmap, psi: Psi, corner: tuple[int, int]
) -> highdicom.PlanePositionSequence:
    """Of a tile, by the (row, column) of its upper left pixel."""
    row, column = corner
    edge_level0_px = pixel_px(psi) * heatmap.attributes.downsample
    return highdicom.PlanePositionSequence(
        "SLIDE",
        image_position=placement.at(column * edge_level0_px, row * edge_level0_px),
        pixel_matrix_position=(column + 1, row + 1),
    )
