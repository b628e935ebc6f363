"""Tumor regions for QuPath, a file per slide and setting: `python analysis/make.py regions STUDY`.

What a verdict rests on (paper, section 2.4), to look at and to correct beside the slide: the regions of at least t_A
at the chosen t_p, and the boxes of the sections with what was said about them. A file is zipped GeoJSON; QuPath opens
it as it is. A region belongs to the section whose tissue it lies on, also where boxes overlap. Regions at another t_p
or of another output than the selected ones are not the study's, and lie in a folder whose name says what they are of.

Coordinates are level-0 px in QuPath's frame (bccdist/slides/frames.py). The file says which pixel they count from, so
that it may serve as an annotation again.

Margins, the measurements "margin um", are for research use only: distances to the edge of the tissue found on the
slide, which need not be a surgical margin.
"""

from functools import partial
from pathlib import Path
from typing import Annotated
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pandas as pd
import tyro

from analysis.outlines.chosen_regions import on_each_output, read_chosen_verdicts
from analysis.study_evidence.evidence import Evidence
from bccdist.configuration import Psi
from bccdist.errors import StageFailedError
from bccdist.files import atomic_path
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.chosen_output import ChosenOutput
from bccdist.sections.region_features import write_features


def write_regions(
    study: Evidence,
    manifest: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="SLIDES_CSV")] = None,
    parts: tuple[Part, ...] = (Part.TEST,),
    *,
    setting: str | None = None,
    psi: Psi | None = None,
    t_p: float | None = None,
    num_workers: int | None = None,
) -> list[Path]:
    """Write the regions of slides that the chosen models were applied to, as QuPath opens them.

    Args:
        study: The study's folder.
        manifest: A slides.csv that says where the slides are: default is the study's own.
        parts: Which parts of the data.
        setting: Which setting: default is every one that was selected.
        psi: Which output: default is each setting's own.
        t_p: Prediction threshold, 0 to 1: default is the chosen one.
        num_workers: Processes that take a slide each: default is one for each core, 0 is this process.

    Returns:
        The files' paths, by slide and setting.

    Raises:
        LedgerError: nothing was selected, or no slide of these parts was inferred, or an argument fits neither.
        StageFailedError: some slides or heatmaps cannot be read; all others are written.
    """
    slides = study.manifest_at(manifest)
    chosen = read_chosen_verdicts(study, parts, setting=setting, psi=psi, t_p=t_p)
    work = partial(_write_slide, study.paths, chosen.asked)
    written, failures = on_each_output(study.paths, slides, chosen, work, num_workers=num_workers)
    if failures:
        raise StageFailedError(
            f"the regions of {len(failures)} slide(s) were not written, of {len(written)} they were:\n"
            + "\n".join(failures)
        )
    return written


def _write_slide(paths: StudyPaths, asked: str, output: ChosenOutput, sections: pd.DataFrame) -> Path:
    """Write one slide's file.

    Args:
        paths: the study's.
        asked: the other output or threshold that was asked for; nothing for the study's own regions.
        output: the slide's.
        sections: their verdicts by this output.

    Raises:
        HeatmapError: the heatmap cannot be read, or is not the one that the ledger was made of.
    """
    slide_id = output.heatmap.attributes.slide_id
    path = paths.regions(output.choice.setting, slide_id, asked=asked)
    member = ZipInfo(f"{slide_id}.geojson")
    member.compress_type = ZIP_DEFLATED
    with atomic_path(path) as partial, ZipFile(partial, "x") as archive, archive.open(member, "w") as file:
        write_features(file, output, sections)
    return path
