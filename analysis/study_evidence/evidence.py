"""What a study's tables and pictures rest on; each piece is read once, when it is asked for first."""

import re
import shlex
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa

from analysis.study_evidence.table import Table
from analysis.study_evidence.verdict_table import all_verdicts
from analysis.study_evidence.without_paths import WithoutPaths
from bccdist.errors import NothingToShowError
from bccdist.models.model_file import ModelFile, read_model
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice, choices_of, choose_headline, read_selection
from bccdist.sections.labels import (
    SectionKey,
    lost_corrections,
    read_corrections,
    sections_in_ledger,
    sections_of_today,
)
from bccdist.sections.section_rows import SectionRows, load_ledger, rows_of
from bccdist.sections.site_choice import SiteChoice
from bccdist.slides.manifest import Manifest, SectionRecord, read_manifest
from bccdist.study import manifest_of_study


@dataclass(frozen=True)
class Evidence:
    """Manifest, ledger and selection of a study or cohort; what is not there is an error when it is asked for."""

    root: Path
    """The study's folder."""
    shown_in: Path | None = None
    """Folder for what is made of it; None is the study's own."""

    @property
    def paths(self) -> StudyPaths:
        """The places of the study's files."""
        return StudyPaths(self.root, shown_in=self.shown_in)

    @property
    def pasted(self) -> str:
        """The study's folder as a word of a command that can be pasted."""
        return shlex.quote(str(self.root))

    def pasteable(self, text: str) -> str:
        """A text for a terminal, in which the folder stands in place of STUDY; a page names no folder."""
        return re.sub(r"\bSTUDY\b", lambda _: self.pasted, text)

    @property
    def is_cohort(self) -> bool:
        """Whether network and thresholds came with a model, instead of from a training of its own."""
        return self.paths.model.exists()

    @cached_property
    def model(self) -> ModelFile:
        """The model of a cohort.

        Raises:
            ModelError: it is damaged, or of a newer version.
        """
        return read_model(self.paths.model)

    @cached_property
    def site_choice(self) -> SiteChoice | None:
        """The site's own thresholds for a cohort's model; None where the model's hold.

        Raises:
            ModelError: the file is damaged.
        """
        return SiteChoice.read(self.paths.site_choice) if self.paths.site_choice.exists() else None

    @cached_property
    def manifest(self) -> Manifest:
        """The study's slides and sections.

        Raises:
            ConfigurationError: the folder is no study.
            ManifestError: its manifest has faults.
        """
        return manifest_of_study(self.root)

    def manifest_at(self, path: Path | None) -> Manifest:
        """The manifest at `path`, or the study's own where none is named; files that are gone fail alone.

        Raises:
            ConfigurationError: none is named and the folder is no study.
            ManifestError: the manifest has faults.
        """
        return self.manifest if path is None else read_manifest(path, files_must_exist=False)

    @property
    def known_manifest(self) -> Manifest | None:
        """The manifest, or None where a ledger lies in a folder that is no study."""
        return self.manifest if self.paths.study.exists() else None

    @cached_property
    def named(self) -> frozenset[str]:
        """The slides of the manifest, by their ids."""
        return frozenset(slide.slide_id for slide in self.manifest.slides)

    @property
    def no_longer_named(self) -> list[str]:
        """Slides with ledger rows that the manifest does not name any more, so that no table has them."""
        made = {path.stem for path in self.paths.ledger.rglob("*.parquet")}
        return sorted(made - self.named)

    @cached_property
    def without_paths(self) -> WithoutPaths:
        """Takes names of files and folders out of a text that leaves the laboratory.

        Raises:
            ConfigurationError: the folder is no study.
            ManifestError: its manifest has faults.
        """
        return WithoutPaths(self.root, self.manifest.slides, self.manifest.path.parent)

    @cached_property
    def labelled_manifest(self) -> Manifest:
        """The manifest with all sections and their labels of today, which are those of the ledger, too.

        Sections that were found on slides of which the manifest names none are among them.

        Raises:
            ConfigurationError: the folder is no study.
            ManifestError: its manifest or the file of corrections has faults.
            LedgerError: there is a ledger, but it cannot be read.
        """
        named = {section.slide_id for section in self.manifest.sections}
        has_found = any(slide.slide_id not in named for slide in self.manifest.slides)
        found = self.sections_in_ledger.values() if has_found else ()
        return replace(self.manifest, sections=sections_of_today(self.manifest, self.corrections, found))

    @cached_property
    def corrections(self) -> list[SectionRecord]:
        """The sections whose labels were corrected since.

        Raises:
            ManifestError: labels.csv has faults.
        """
        return read_corrections(self.paths)

    @cached_property
    def lost_corrections(self) -> list[SectionRecord]:
        """Corrected sections that the ledger has not any more, though it has their slides: they count nowhere.

        Raises:
            ManifestError: labels.csv has faults.
            LedgerError: there is a ledger, but it cannot be read.
        """
        return lost_corrections(self.corrections, self.sections_in_ledger) if self.corrections else []

    @cached_property
    def ledger(self) -> pa.Table:
        """All rows of the section ledger, with the labels of today.

        Raises:
            LedgerError: there is none yet.
        """
        return load_ledger(self.paths, self.known_manifest)

    @cached_property
    def sections_in_ledger(self) -> dict[SectionKey, SectionRecord]:
        """The ledger's sections with their boxes and labels of today; none where nothing was inferred yet.

        Raises:
            LedgerError: there is a ledger, but it cannot be read.
        """
        try:
            return sections_in_ledger(self.ledger)
        except NothingToShowError:
            return {}

    @cached_property
    def selection(self) -> pd.DataFrame:
        """The rows of selection.parquet.

        Raises:
            LedgerError: nothing was selected yet.
        """
        return read_selection(self.paths)

    @property
    def choices(self) -> list[Choice]:
        """What was selected for each setting."""
        return choices_of(self.selection)

    def headline(self, setting: str | None = None) -> Choice:
        """The setting that comes first, as `choose_headline` says."""
        return choose_headline(self.selection, setting)

    def rows(self, *parts: Part) -> SectionRows:
        """The ledger's rows of some parts, of every output."""
        return rows_of(self.ledger, parts, final_only=False)

    def verdicts(self, *parts: Part, every_output: bool = False) -> pd.DataFrame:
        """The verdicts on some parts, of all settings' own outputs or of every output.

        Raises:
            LedgerError: nothing was selected, or no part was inferred.
        """
        # The selection first: without one nothing needs the ledger, which is large.
        choices = self.choices
        return all_verdicts(self.ledger, choices, list(parts), every_output=every_output)

    def slide_times(self) -> pd.DataFrame:
        """Seconds that reading and the network took, a row for each slide, setting and epoch of the ledger.

        Raises:
            LedgerError: there is no ledger yet.
        """
        times: pd.DataFrame = self.ledger.select(
            ["slide_id", "part", "setting", "epoch", "read_s", "network_s"]
        ).to_pandas()
        return times.drop_duplicates(["slide_id", "setting", "epoch"], ignore_index=True)

    def write(self, table: Table) -> Table:
        """Write a table to its folder of the study; returns it with its place."""
        return table.write(self.paths.shown() / table.folder)
