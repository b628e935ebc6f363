"""What a model found on one slide: sections with verdicts, heatmaps, regions (paper, section 2.4)."""

import io
import json
import shutil
import weakref
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
import pyarrow as pa

from bccdist.configuration import Psi, phantom_warning
from bccdist.errors import HeatmapError
from bccdist.heatmaps.store import Heatmap
from bccdist.library.heatmap_file import BoxLike, HeatmapArray, HeatmapFile
from bccdist.library.section_table import with_boxes
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_output import ChosenOutput, SlideTissue, boxes_by_slide
from bccdist.sections.margins import edge_distances_um
from bccdist.sections.marking import MarkedSlide
from bccdist.sections.region_features import write_features
from bccdist.sections.section_rows import SectionRows
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.sections.verdicts import Verdict

_COLUMNS = [
    *("slide_id", "section_id", "box_level0_px", "verdict", "flip_shift", "area_um2", "area_factor"),
    *("tissue_um2", "coverage", "not_assessable", "max_probability", "reached_by", "phantom", "phantom_weights"),
]


class Found:
    """What a model found on one slide.

    Attributes:
        slide: path of the slide's file.
        slide_id: what the slide is called.
        path: the file of its heatmaps. Without `out` it lies in a temporary folder, which goes with this object.
        ledger: the slide's rows of the section ledger, of every output, with their curves (docs/parquet.md).
        warning: what is not real, the slide or what the network learned from; else empty.
    """

    def __init__(
        self, marked: MarkedSlide, ledger: pa.Table, choice: Choice, psi: Psi, *, path: Path, temporary: Path | None
    ) -> None:
        """Keep what was found.

        Args:
            marked: the slide, as it was read.
            ledger: its rows.
            choice: the model's thresholds.
            psi: the output that decides.
            path: of its heatmaps.
            temporary: the folder to remove with this object; None where the heatmaps are to stay.
        """
        self.slide = marked.record.path
        self.slide_id = marked.record.slide_id
        self.path = path
        self.ledger = ledger
        self.warning = phantom_warning(slides=Heatmap(path).attributes.phantom, weights=choice.phantom_weights)
        self._marked, self._choice, self._psi = marked, choice, psi
        self._remove = None if temporary is None else weakref.finalize(self, shutil.rmtree, temporary, True)

    @property
    def sections(self) -> pd.DataFrame:
        """A row for each section, in reading order.

        Columns: slide_id, section_id, box_level0_px (x, y, width, height), verdict (Tumor, Normal or review),
        flip_shift (the smallest shift of probability that would change it; inf where none does), area_um2 (of the
        largest region of at least t_p), area_factor (that as a multiple of t_A), tissue_um2, coverage (share of the
        tissue that was read; below 1 means review where no tumor was seen), not_assessable (why the model is not to
        be believed on it, which means the same; empty where nothing speaks against it), max_probability, reached_by
        (how the verdict was: exact, certified, recomputed, checked, outside or fast), phantom, phantom_weights.
        """
        return with_boxes(self._verdicts)[_COLUMNS].copy()

    def heatmap(
        self, psi: str | None = None, *, box_level0_px: BoxLike | None = None, box_target_px: BoxLike | None = None
    ) -> HeatmapArray:
        """Pixels of an output, as `HeatmapFile.read` gives them: all, or those that touch a box.

        Raises:
            HeatmapError: the output is not stored, the box lies outside of the slide, or the heatmaps are gone.
        """
        return self.heatmaps.read(psi, box_level0_px=box_level0_px, box_target_px=box_target_px)

    @property
    def heatmaps(self) -> HeatmapFile:
        """The slide's heatmaps, with what they cover.

        Raises:
            HeatmapError: they are gone.
        """
        return HeatmapFile(self._present())

    def regions(self) -> dict[str, Any]:
        """The sections, each followed by its Tumor regions, as GeoJSON: a FeatureCollection, as QuPath opens it.

        It is that of `python analysis/make.py regions` for the same slide. Margins in it are for research use only.

        Raises:
            HeatmapError: the heatmaps are gone or damaged.
        """
        tissue = SlideTissue(
            properties=self._marked.properties,
            size_level0_px=self._marked.size_level0_px,
            tissue=self._marked.tissue,
            distances_um=edge_distances_um(self._marked.tissue),
        )
        output = ChosenOutput(
            heatmap=Heatmap(self._present()),
            psi=self._psi,
            choice=self._choice,
            slide=tissue,
            boxes_level0_px=boxes_by_slide(self._verdicts).get(self.slide_id, {}),
        )
        text = io.BytesIO()
        write_features(text, output, self._verdicts.sort_values("section_id"))
        return json.loads(text.getvalue())  # type: ignore[no-any-return]

    @cached_property
    def _verdicts(self) -> pd.DataFrame:
        """The verdicts by the output that decides."""
        rows = SectionRows.from_table(self.ledger)
        return section_verdicts(rows.where((rows.frame["psi"] == self._psi).to_numpy()), self._choice)

    def _present(self) -> Path:
        if self._remove is not None and not self._remove.alive:
            raise HeatmapError(
                f"{self.slide_id}: its heatmaps were temporary and went when this was closed; predict the slide with "
                "`out=FOLDER` to keep them"
            )
        return self.path

    def close(self) -> None:
        """Remove the heatmaps, unless `out` said where they are kept; sections and ledger stay."""
        if self._remove is not None:
            self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def summary(self) -> str:
        """What was found, in words: how many sections, and their verdicts."""
        verdicts = list(self._verdicts["verdict"])
        if not verdicts:
            return "NO SECTION: no tissue was found; look at the slide"
        counts = ", ".join(f"{num} {each.value}" for each in Verdict if (num := verdicts.count(each.value)))
        warning = f"; {self.warning}" if self.warning else ""
        return f"{len(verdicts)} section{'s' * (len(verdicts) > 1)}: {counts}{warning}"

    def __repr__(self) -> str:
        """What it is, in a line."""
        return f"<{self.slide_id}, {self.summary}>"
