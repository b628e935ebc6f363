"""Table 1, the parts of the data (paper, section 2.1): `python analysis/make.py table1 STUDY`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro

from analysis.evidence.table import Table
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import Manifest
from bccdist.slides.part_totals import totals_of
from bccdist.study import open_study


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
                "Tumor sections": frame["num_tumor"].map("{:,}".format),
                "Normal sections": frame["num_normal"].map("{:,}".format),
                "without label": frame["num_unlabelled"].map("{:,}".format),
            }
        ),
        notes=notes if num_without else (),
    )


def _row(manifest: Manifest, part: Part) -> dict[str, Any]:
    sections = [manifest.sections_of(slide.slide_id) for slide in manifest.slides_of([part])]
    return {
        **asdict(totals_of(manifest, part)),
        "part": part.value,
        "num_slides_without_sections": sum(not each for each in sections),
        "num_prefilled": sum(bool(section.prefilled) for each in sections for section in each),
        "phantom": manifest.is_phantom,
    }


def write_table1(study_root: Path) -> Table:
    """Build and write Table 1.

    Raises:
        ConfigurationError: the folder is no study.
        ManifestError: its manifest has faults.
    """
    table = build_table1(open_study(study_root))
    table.write(StudyPaths(study_root).tables)
    return table


def main(study: Annotated[Path, tyro.conf.Positional]) -> None:
    """Print and write Table 1.

    Args:
        study: The study's folder.
    """
    print(write_table1(study).markdown)
