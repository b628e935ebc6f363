"""One reviewer at work on the findings of an audit: outlines and regions, most contradictory first."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from analysis.review.audit.decisions import Decided, latest, read_decisions
from analysis.review.tiles import TileReader
from bccdist.audit.findings import Unit
from bccdist.audit.probability_map import ProbabilityMap, read_map
from bccdist.audit.table import read_audit, read_slide
from bccdist.errors import LedgerError
from bccdist.parts import Part
from bccdist.paths import AuditPaths, StudyPaths
from bccdist.seals import name_of_content
from bccdist.slides.manifest import Manifest
from bccdist.study import manifest_of_study

FIRST_SHARE = 0.1
"""Of the outlines that are annotated: so many findings are worth looking at first."""


class AuditedStudy:
    """A study with an audit of its annotations."""

    def __init__(self, paths: StudyPaths, setting: str) -> None:
        """Read the audit's table.

        Raises:
            ConfigurationError: the folder is no study.
            LedgerError: there is no audit of this setting, or it is damaged.
        """
        self.paths = paths
        self.setting = setting
        self.manifest: Manifest = manifest_of_study(paths.root)
        self.audit: AuditPaths = paths.audit(setting)
        rows = read_audit(self.audit.table).to_pylist()
        self.digest = name_of_content(self.audit.table)[:12]
        self.rows: list[dict[str, Any]] = [row for row in rows if row["unit"] != Unit.PATCH]
        self.by_id = {row["id"]: row for row in self.rows}
        gone = {row["slide_id"] for row in self.rows} - {slide.slide_id for slide in self.manifest.slides}
        if gone:
            raise LedgerError(
                f"{self.audit.table}: slide {min(gone)} is not in the manifest any more: audit again, or put it back"
            )

    @property
    def num_first(self) -> int:
        """A tenth of the outlines that are annotated: so many rows are worth looking at first."""
        num_outlines = len([row for row in self.rows if row["unit"] == Unit.OUTLINE])
        return max(1, round(FIRST_SHARE * num_outlines))

    def decisions(self) -> tuple[dict[str, dict[str, Decided]], int]:
        """The last word of each reviewer on each row, and how many lines were about earlier audits."""
        said, num_earlier = read_decisions(self.paths, self.setting, self.digest)
        return latest(said), num_earlier

    def rows_of(self, slide_id: str) -> list[dict[str, Any]]:
        """The outlines and regions of a slide."""
        return [row for row in self.rows if row["slide_id"] == slide_id]


class AuditSession(AuditedStudy):
    """What the routes of the page share. No other files are read than those of Training's slides."""

    def __init__(self, paths: StudyPaths, setting: str, reviewer: str) -> None:
        """Open nothing yet but the table."""
        super().__init__(paths, setting)
        self.reviewer = reviewer
        self.tiles = TileReader({slide.slide_id: slide for slide in self.manifest.slides_of([Part.TRAINING])})
        self.file_threads = ThreadPoolExecutor(2, thread_name_prefix="files")
        self.journal_thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    def close(self) -> None:
        """End the threads and close the slides."""
        for threads in (self.file_threads, self.journal_thread):
            threads.shutdown(cancel_futures=True)
        self.tiles.slides.close()

    @cached_property
    def by_slide(self) -> Mapping[str, list[dict[str, Any]]]:
        """The outlines and regions of each slide."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            found.setdefault(row["slide_id"], []).append(row)
        return found

    def map_of(self, slide_id: str) -> ProbabilityMap:
        """What is predicted on a slide by the network that never saw its patient."""
        about = read_slide(self.audit.rows(slide_id))
        return read_map(self.audit.probability_map(slide_id), downsample=about.downsample, mpp=about.mpp)
