"""A study or a cohort in Python: its slides, thresholds, sections, verdicts and heatmaps, read and not changed."""

import os
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bccdist.library.heatmap_file import HeatmapFile
from bccdist.library.section_table import with_boxes
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice, choices_of, choose_headline, read_selection
from bccdist.sections.chosen_heatmap import open_chosen
from bccdist.sections.section_rows import SectionRows, load_ledger
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.slides.manifest import Manifest
from bccdist.study import manifest_of_study


class Study:
    """A study's folder; made by `open_study`. What is not there yet is an error when it is asked for.

    Attributes:
        path: the folder.
        manifest: its slides and labelled sections.
    """

    def __init__(self, path: Path) -> None:
        """Open a folder.

        Raises:
            ConfigurationError: it is no study, or its manifest is nowhere to be found.
            ManifestError: the manifest has faults by now.
        """
        self.path = path
        self._paths = StudyPaths(path)
        self.manifest: Manifest = manifest_of_study(path)

    @property
    def slides(self) -> pd.DataFrame:
        """A row for each slide: slide_id, part, path, mpp (where the manifest sets it), patient_id, scanner."""
        columns = ["slide_id", "part", "path", "mpp", "patient_id", "scanner"]
        rows = [[getattr(slide, name) for name in columns] for slide in self.manifest.slides]
        return pd.DataFrame(rows, columns=columns).assign(part=[slide.part.value for slide in self.manifest.slides])

    @cached_property
    def selection(self) -> pd.DataFrame:
        """What was selected, a row for each setting: epoch, thresholds, figures (docs/parquet.md).

        Raises:
            LedgerError: nothing was selected yet.
        """
        return read_selection(self._paths)

    @property
    def choices(self) -> list[Choice]:
        """Epoch and thresholds that were selected for each setting.

        Raises:
            LedgerError: nothing was selected yet.
        """
        return choices_of(self.selection)

    @property
    def sections(self) -> pd.DataFrame:
        """The section ledger: a row for each section, setting, epoch and output, without the curves.

        Raises:
            LedgerError: no slide was inferred yet.
        """
        return with_boxes(SectionRows.from_table(self._ledger).frame)

    def verdicts(self, setting: str | None = None, *, psi: str | None = None) -> pd.DataFrame:
        """The verdict on each section at the thresholds that were selected for a setting.

        Args:
            setting: None is the one with the best F_beta on Validation I + II.
            psi: the output that decides; None is the setting's own.

        Raises:
            LedgerError: nothing was selected for the setting, or no slide was inferred with its epoch.
        """
        choice = choose_headline(self.selection, setting)
        wanted = pc.field("is_final") if psi is None else pc.field("psi") == psi
        rows = SectionRows.from_table(self._ledger.filter(wanted))
        return with_boxes(section_verdicts(rows, choice))

    def heatmap(self, slide_id: str, setting: str | None = None, *, epoch: int | None = None) -> HeatmapFile:
        """A slide's heatmaps.

        Args:
            slide_id: the slide.
            setting: None is the one with the best F_beta on Validation I + II.
            epoch: None is the one that was selected.

        Raises:
            ManifestError: the study has no such slide.
            LedgerError: nothing was selected, and an epoch or setting was not named.
            HeatmapError: there is no heatmap, or it is damaged or was made with other weights.
        """
        self.manifest.slide(slide_id)
        if setting is not None and epoch is not None:
            return HeatmapFile(self._paths.heatmap(setting, epoch, slide_id))
        choice = choose_headline(self.selection, setting)
        if epoch is not None:
            return HeatmapFile(self._paths.heatmap(choice.setting, epoch, slide_id))
        return HeatmapFile(open_chosen(self._paths, choice, slide_id).path)

    @cached_property
    def _ledger(self) -> pa.Table:
        return load_ledger(self._paths, self.manifest)

    def __repr__(self) -> str:
        """What it is, in a line."""
        warning = "; with drawn slides" if self.manifest.is_phantom else ""
        return f"<study {self.path.name}: {len(self.manifest.slides)} slides{warning}>"


def open_study(path: str | os.PathLike[str]) -> Study:
    """Open the folder of a study or a cohort.

    Raises:
        ConfigurationError: it is no study, or its manifest is nowhere to be found.
        ManifestError: the manifest has faults by now.
    """
    return Study(Path(path))
