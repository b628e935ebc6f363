"""Table 1, the parts of the data (paper, section 2.1): `python analysis/make.py table1 STUDY`."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table
from bccdist.parts import Part
from bccdist.slides.manifest import Manifest
from bccdist.slides.part_totals import totals_of

_COUNTS = {"Tumor sections": "num_tumor", "Normal sections": "num_normal", "without label": "num_unlabelled"}
_UNLABELLED = "unlabelled"
"""Where sections.csv has no section of a part: 0 would be read as none on its slides."""


def build_table1(manifest: Manifest) -> Table:
    """The table, one row a part that has slides."""
    frame = pd.DataFrame([_row(manifest, part) for part in Part if manifest.slides_of([part])])
    num_without = int(frame["num_slides_without_sections"].sum())
    notes = (f"Slides that sections.csv says nothing of: {num_without}; their sections are found, and have no label.",)
    return Table(
        name="table1",
        title="Table 1. Slides, annotations and section labels.",
        frame=frame,
        printed=pd.DataFrame(
            {
                "part": frame["part"],
                "slides": frame["num_slides"].map("{:,}".format),
                "with annotations": frame["num_annotated"].map("{:,}".format),
                **{
                    heading: [
                        f"{num:,}" if is_known else _UNLABELLED
                        for num, is_known in zip(frame[name], _has_sections(frame), strict=True)
                    ]
                    for heading, name in _COUNTS.items()
                },
            }
        ),
        notes=notes if num_without else (),
    )


def _has_sections(frame: pd.DataFrame) -> pd.Series:
    """Whether sections.csv says anything of a part's slides; where it does not, no count of labels is known."""
    return frame["num_slides_without_sections"] < frame["num_slides"]


def _row(manifest: Manifest, part: Part) -> dict[str, Any]:
    sections = [manifest.sections_of(slide.slide_id) for slide in manifest.slides_of([part])]
    return {
        **asdict(totals_of(manifest, part)),
        "part": part.value,
        "num_slides_without_sections": sum(not each for each in sections),
        "num_prefilled": sum(bool(section.prefilled) for each in sections for section in each),
        "phantom": manifest.is_phantom,
    }


def write_table1(study: Evidence) -> Table:
    """Write Table 1: slides, annotations and section labels of each part.

    Args:
        study: The study's folder.

    Raises:
        ConfigurationError: the folder is no study.
        ManifestError: its manifest, or the file of later labels, has faults.
    """
    return study.write(build_table1(study.labelled_manifest))
