"""A slide's heatmap and verdicts as DICOM: `python analysis/dicom.py STUDY SLIDE_ID`.

Two files: a fractional segmentation, and a report of measurements. docs/dicom.md says what is in them and from where.
"""

from pathlib import Path

from analysis.study_evidence.evidence import Evidence
from bccdist.errors import ConfigurationError
from bccdist.installed import lack_for_dicom


def write_dicom(study: Evidence, slide_id: str, *, setting: str | None = None) -> list[Path]:
    """Write a slide's heatmap and verdicts as DICOM.

    Args:
        study: The study's folder.
        slide_id: A slide that the chosen model was applied to.
        setting: Which setting: default is the one with the best F_beta on Validation I + II.

    Returns:
        The paths of the segmentation and of the report.

    Raises:
        ConfigurationError: what writes DICOM is not installed.
        LedgerError: nothing was selected, or not for this setting, or the slide has no verdicts.
        ManifestError: there is no such slide.
        HeatmapError: the heatmap is missing or damaged, or of other weights.
        SlideError: the slide is missing, or another one, or where it lies as a DICOM image cannot be told.
    """
    if lack := lack_for_dicom():
        raise ConfigurationError(lack)
    from analysis.dicom_files.writing import write_files

    return write_files(study, slide_id, setting)
