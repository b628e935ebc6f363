"""The verdicts on a slide's sections as a structured report: TID 1500, one measurement group a section.

A group has the section's box as its region, in the slide's coordinate system. Nobody but the device is named.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from analysis.dicom_files.placement import Placement, uid_of
from analysis.dicom_files.segmentation import MANUFACTURER, finish_identity, short_of
from bccdist import __version__
from bccdist.configuration import AreaUnit
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_output import SectionVerdict, section_box
from bccdist.sections.verdicts import Verdict
from bccdist.slides.geometry import Box

SCHEME = "99BCCDIST"
"""Of the codes that are this project's own; codes of SNOMED CT, DCM and UCUM are used where they say the same."""
_VERDICT = ("VERDICT", "Verdict on the section")
_VERDICTS = {
    Verdict.TUMOR: ("TUMOR", "Tumor"),
    Verdict.NORMAL: ("NORMAL", "Normal"),
    Verdict.REVIEW: ("REVIEW", "review: no tumor found, tissue not read whole or not assessable"),
}
_FLIP_SHIFT = ("FLIP-SHIFT", "Smallest shift of probability that flips it")
_NEVER = ("NEVER", "No shift of probability flips it")
_NOT_REAL = ("NOT-REAL", "What is not real")
_NO_UNIT = codes.UCUM.NoUnits
_AREA_UNITS: dict[AreaUnit, Any] = {
    "physical": codes.UCUM.SquareMicrometer,
    "nominal": sr.CodedConcept("{nominal_um2}", "UCUM", "um2 counted as if a pixel were 1 um wide"),
}
_FORMAT = 1
"""Raised where the same verdicts would become another file, which then has other identifiers."""


def make_report(
    sections: Sequence[SectionVerdict],
    choice: Choice,
    placement: Placement,
    segmentation: Dataset,
    *,
    model_digest: str,
    source: Dataset,
    warning: str,
    made_at: datetime,
) -> Dataset:
    """The report on a slide.

    Args:
        sections: the verdicts on them, in their order.
        choice: the model and the thresholds.
        placement: where the slide lies.
        segmentation: of the same slide.
        model_digest: of the model file; empty where the network came from no file.
        source: the slide's level-0 image.
        warning: what is not real; empty where all is.
        made_at: stands for when the verdicts were made.
    """
    algorithm = _algorithm(choice, model_digest)
    facts = [_facts(section) for section in sections]
    about = ("report", _FORMAT, str(segmentation.SOPInstanceUID), choice, model_digest, warning)
    content = sr.MeasurementReport(
        observation_context=_observer(choice),
        procedure_reported=codes.SCT.ImagingProcedure,
        title=codes.DCM.ImagingMeasurementReport,
        imaging_measurements=[_group(section, choice, placement, algorithm, warning) for section in sections],
    )
    made = sr.Comprehensive3DSR(
        evidence=[segmentation, *([source] if placement.is_dicom else [])],
        content=content,
        series_instance_uid=uid_of(*about, "series"),
        series_number=2,
        sop_instance_uid=uid_of(*about, facts),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
    )
    made.SeriesDescription = f"{short_of(warning)}verdicts on sections, research use only"
    finish_identity(made, placement, made_at)
    return made


def _facts(section: SectionVerdict) -> tuple[Any, ...]:
    names = ("section_id", "verdict", "area_um2", "coverage", "flip_shift")
    return (*(section[name] for name in names), tuple(section_box(section)))


def _code(pair: tuple[str, str]) -> sr.CodedConcept:
    value, meaning = pair
    return sr.CodedConcept(value, SCHEME, meaning)


def _observer(choice: Choice) -> sr.ObservationContext:
    attributes = sr.DeviceObserverIdentifyingAttributes(
        uid=uid_of("device", choice.weights_digest),
        name=MANUFACTURER,
        model_name=choice.setting,
        serial_number=choice.weights_digest,
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=attributes
        )
    )


def _group(
    section: SectionVerdict,
    choice: Choice,
    placement: Placement,
    algorithm: sr.AlgorithmIdentification,
    warning: str,
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """What is said about one section."""
    evaluations = [sr.QualitativeEvaluation(_code(_VERDICT), _code(_VERDICTS[Verdict(section["verdict"])]))]
    if math.isinf(section["flip_shift"]):
        evaluations.append(sr.QualitativeEvaluation(_code(_FLIP_SHIFT), _code(_NEVER)))
    if warning:
        kind, _, why = warning.partition(" - ")
        evaluations.append(sr.QualitativeEvaluation(_code(_NOT_REAL), _code((kind.replace(" ", "-"), why[:64]))))
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=uid_of("section", placement.frame_of_reference_uid, section["section_id"]),
            identifier=str(section["section_id"]),
        ),
        referenced_region=_region(section_box(section), placement),
        finding_type=codes.SCT.Tissue,
        algorithm_id=algorithm,
        measurements=list(_measurements(section, choice)),
        qualitative_evaluations=evaluations,
    )


def _algorithm(choice: Choice, model_digest: str) -> sr.AlgorithmIdentification:
    return sr.AlgorithmIdentification(
        name=MANUFACTURER,
        version=__version__,
        parameters=[
            f"setting: {choice.setting}",
            f"weights: {choice.weights_digest}",
            f"epoch: {choice.epoch}",
            f"areas: {choice.area_unit}",
            *([f"model: {model_digest}"] if model_digest else []),
        ],
    )


def _measurements(section: SectionVerdict, choice: Choice) -> list[sr.Measurement]:
    area = _AREA_UNITS[choice.area_unit]
    values = (
        (("AREA-LARGEST", "Area of the largest region of at least t_p"), section["area_um2"], area),
        (("COVERAGE", "Share of the tissue that was read"), section["coverage"], _NO_UNIT),
        (_FLIP_SHIFT, section["flip_shift"], _NO_UNIT),
        (("T-P", "t_p: probability from which a pixel counts"), choice.t_p, _NO_UNIT),
        (("T-A", "t_A: area from which a region counts"), choice.t_a_um2, area),
    )
    return [sr.Measurement(_code(name), float(value), unit) for name, value, unit in values if math.isfinite(value)]


def _region(box_level0_px: Box, placement: Placement) -> sr.ImageRegion3D:
    """A section's box, closed."""
    x, y, x_end, y_end = box_level0_px.x, box_level0_px.y, box_level0_px.x_end, box_level0_px.y_end
    corners = [placement.at(*corner) for corner in ((x, y), (x_end, y), (x_end, y_end), (x, y_end), (x, y))]
    return sr.ImageRegion3D("POLYGON", np.array(corners), placement.frame_of_reference_uid)
