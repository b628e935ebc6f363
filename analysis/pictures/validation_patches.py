"""Patches of Validation I that figures show, and how well a setting meets what is annotated there (Figures 4 and 8).

The patches come from the shard set's index: nothing is read of slides whose patches are not chosen.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.pictures.colours import in_colours, outlined, probability_bar
from analysis.pictures.crops import Crop, Heat, read_annotated_crop, read_heat
from analysis.pictures.drawing import Panel, Row, write_figure
from analysis.study_evidence.confusion import Confusion, count_verdicts
from analysis.study_evidence.table import Table, rounded
from bccdist.configuration import PATCH_PX, Psi
from bccdist.errors import LedgerError, NothingToShowError
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_heatmap import open_chosen
from bccdist.shard_set.index import read_set
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest

BEST_TUMOR_SHARE = 0.3
"""Patches whose share of Tumornest is nearest to this are shown: nests and what is around them."""
_MOST_NAMED = 3
_INDEX_COLUMNS = ["key", "slide_id", "x_level0_px", "y_level0_px", "tumornest_fraction"]


@dataclass(frozen=True, kw_only=True)
class AnnotatedPatch:
    """A patch with what is annotated in it."""

    key: str
    """Its name in the shard set."""
    slide_id: str
    crop: Crop
    """512 x 512 px as the network sees them."""
    tumornest: NDArray[np.bool_]
    """Where tumor is annotated: [512, 512]."""

    @property
    def box_level0_px(self) -> Box:
        """Where it lies on the slide."""
        return self.crop.box_px.scaled(self.crop.downsample)

    def panels(self) -> tuple[Panel, Panel]:
        """The image and the ground truth, in the colours of probabilities 0 and 1."""
        truth = in_colours(self.tumornest.astype(np.float32))
        share = f"{self.tumornest.mean():.0%} tumor"
        return Panel(image=self.crop.tissue, um_per_px=self.crop.um_per_px), Panel(image=truth, caption=share)


def settings_with_heatmaps(paths: StudyPaths, manifest: Manifest, choices: Sequence[Choice]) -> list[Choice]:
    """The chosen models with heatmaps of Validation I; what is missing is printed.

    Raises:
        LedgerError: there is no heatmap of any of them.
    """
    slide_ids = [record.slide_id for record in manifest.slides_of([Part.VALIDATION_1])]
    found = []
    for choice in choices:
        missing = [name for name in slide_ids if not _is_there(paths, choice, name)]
        if len(missing) < len(slide_ids):
            found.append(choice)
        if missing:
            what = "it is left out" if len(missing) == len(slide_ids) else "they are left out"
            named = ", ".join(missing[:_MOST_NAMED]) + (" ..." if len(missing) > _MOST_NAMED else "")
            print(
                f"note: {choice.setting}, epoch {choice.epoch}: no heatmap of {len(missing)} of the {len(slide_ids)} "
                f"slides of {Part.VALIDATION_1.value} ({named}), so {what}"
            )
    if not found:
        names = ", ".join(f"{choice.setting} epoch {choice.epoch}" for choice in choices)
        raise NothingToShowError(
            f"{paths.root}: no heatmap of any slide of {Part.VALIDATION_1.value} by the chosen models ({names}); "
            f"run the inference stage for {Part.VALIDATION_1.value} with the chosen epochs"
        )
    return found


def _is_there(paths: StudyPaths, choice: Choice, slide_id: str) -> bool:
    return paths.heatmap(choice.setting, choice.epoch, slide_id).exists()


def choose_patches(paths: StudyPaths, choices: Sequence[Choice], num_patches: int) -> pd.DataFrame:
    """Patches with annotated tumor, of as many slides as there are, those nearest to `BEST_TUMOR_SHARE` first.

    Slides with heatmaps of all the settings come before the others.

    Args:
        paths: the study's.
        choices: the chosen models.
        num_patches: at most so many.

    Returns:
        Rows of the shard set's index, at least one.

    Raises:
        ShardError: there is no finished shard set, or it is damaged.
        LedgerError: no patch of a slide with heatmaps holds annotated tumor, or none is asked for.
    """
    if num_patches < 1:
        raise LedgerError(f"--patches {num_patches}: a figure shows at least one patch")
    read_set(paths.shards.root)
    wanted = [("part", "==", Part.VALIDATION_1.value), ("tumornest_fraction", ">", 0.0)]
    with_tumor = pd.read_parquet(paths.shards.index, columns=_INDEX_COLUMNS, filters=wanted)
    num_heatmaps = {
        name: sum(_is_there(paths, choice, name) for choice in choices) for name in with_tumor["slide_id"].unique()
    }
    ranked = with_tumor.assign(
        num_heatmaps=with_tumor["slide_id"].map(num_heatmaps),
        distance=(with_tumor["tumornest_fraction"] - BEST_TUMOR_SHARE).abs(),
    )
    ranked = ranked[ranked["num_heatmaps"] > 0].sort_values(["distance", "key"])
    if ranked.empty:
        raise NothingToShowError(
            f"{paths.shards.index}: no patch of {Part.VALIDATION_1.value} holds annotated tumor on a slide with "
            "heatmaps; look at the annotations with jobs/doctor.py, and run the inference stage"
        )
    ranked["turn"] = ranked.groupby("slide_id").cumcount()
    order = ["num_heatmaps", "turn", "distance", "key"]
    return ranked.sort_values(order, ascending=[False, True, True, True]).head(num_patches)


def read_patches(
    paths: StudyPaths, manifest: Manifest, choices: Sequence[Choice], num_patches: int
) -> list[AnnotatedPatch]:
    """The chosen patches, with pixels and Tumornest.

    Raises:
        ShardError, LedgerError: there is none; see `choose_patches`.
        SlideError, AnnotationError, HeatmapError: a slide, its annotations or its heatmap cannot be read.
    """
    return [
        _read_patch(paths, manifest, choices, row)
        for row in choose_patches(paths, choices, num_patches).to_dict("records")
    ]


def _read_patch(
    paths: StudyPaths, manifest: Manifest, choices: Sequence[Choice], row: Mapping[Hashable, Any]
) -> AnnotatedPatch:
    """A patch in the frame of its slide's heatmaps."""
    choice = next(choice for choice in choices if _is_there(paths, choice, row["slide_id"]))
    attributes = open_chosen(paths, choice, row["slide_id"]).attributes
    edge_level0_px = round(PATCH_PX * attributes.downsample)
    box_level0_px = Box(row["x_level0_px"], row["y_level0_px"], edge_level0_px, edge_level0_px)
    record = manifest.slide(row["slide_id"])
    crop, tumornest = read_annotated_crop(record, box_level0_px, mpp=attributes.mpp, kinds=manifest.kinds)
    return AnnotatedPatch(key=row["key"], slide_id=record.slide_id, crop=crop, tumornest=tumornest)


@dataclass(frozen=True, kw_only=True)
class ShownOutput:
    """An output of a setting on a patch."""

    patch: AnnotatedPatch
    choice: Choice
    psi: Psi
    heat: Heat
    phantom: bool

    @property
    def mask(self) -> NDArray[np.bool_]:
        """What the setting calls tumor at its t_p: bool [512, 512]."""
        return self.heat.mask_share >= 0.5

    @property
    def confusion(self) -> Confusion:
        """Right and wrong pixels of the patch, Tumor against all else."""
        called = self.mask.ravel()
        return count_verdicts(is_tumor=self.patch.tumornest.ravel(), called_tumor=called, called_normal=~called)

    def panel(self, *, with_outline: bool) -> Panel:
        """The probabilities in colours, with the outline of the mask where it is wanted."""
        image = in_colours(self.heat.probability)
        caption = f"IoU {float(self.confusion.iou):.2f}"
        return Panel(image=outlined(image, self.mask, bright=True) if with_outline else image, caption=caption)

    @property
    def row(self) -> dict[str, Any]:
        """The numbers, for the figure's table."""
        x, y, width, height = self.patch.box_level0_px
        return {
            "slide_id": self.patch.slide_id,
            "key": self.patch.key,
            "x_level0_px": x,
            "y_level0_px": y,
            "width_level0_px": width,
            "height_level0_px": height,
            "um_per_px": self.patch.crop.um_per_px,
            "setting": self.choice.setting,
            "epoch": self.choice.epoch,
            "psi": self.psi,
            "t_p": self.choice.t_p,
            "tumornest_share": float(self.patch.tumornest.mean()),
            "mask_share": float(self.mask.mean()),
            "iou": float(self.confusion.iou),
            "max_probability": float(self.heat.probability.max()),
            "mean_probability": float(self.heat.probability.mean()),
            "weights_digest": self.choice.weights_digest,
            "phantom": self.phantom,
            "phantom_weights": self.choice.phantom_weights,
        }


def outputs_on(
    paths: StudyPaths, patch: AnnotatedPatch, choice: Choice, psis: Sequence[Psi] | None = None
) -> list[ShownOutput]:
    """Outputs of a setting on a patch: those of `psis` that its heatmap holds, or its own where that is None.

    Without a heatmap of the patch's slide there are none.

    Raises:
        HeatmapError: the heatmap is damaged, or was made with other weights than the chosen ones.
        SlideError: it was made of another slide.
    """
    if not _is_there(paths, choice, patch.slide_id):
        return []
    heatmap = open_chosen(paths, choice, patch.slide_id)
    wanted = heatmap.outputs[-1:] if psis is None else [psi for psi in psis if psi in heatmap.outputs]
    return [
        ShownOutput(
            patch=patch,
            choice=choice,
            psi=psi,
            heat=read_heat(heatmap, psi, patch.crop, t_p=choice.t_p),
            phantom=heatmap.attributes.phantom,
        )
        for psi in wanted
    ]


class FigureRow(NamedTuple):
    """A row of a figure: a patch, and outputs on it."""

    heading: str
    patch: AnnotatedPatch
    outputs: Mapping[str, ShownOutput]
    """Each under the name of its column; a column without one stays empty."""

    def drawn(self, columns: Iterable[str], *, with_outline: bool) -> Row:
        """The patch, its ground truth, and its output in each column."""
        outputs = [self.outputs.get(name) for name in columns]
        panels = (None if output is None else output.panel(with_outline=with_outline) for output in outputs)
        return Row(heading=self.heading, panels=(*self.patch.panels(), *panels))


def write_patch_figure(
    paths: StudyPaths,
    name: str,
    rows: Sequence[FigureRow],
    *,
    title: str,
    subtitle: str,
    columns: Mapping[str, str],
    panel_px: tuple[int, int],
    with_outline: bool,
    notes: tuple[str, ...],
    state: str,
) -> Table:
    """Draw patches with their ground truth and outputs, and write the figure's table.

    Args:
        paths: the study's.
        name: stem of the figure's files.
        rows: what is shown.
        title, subtitle: of the figure.
        columns: the heading of each column of outputs, by its name in `FigureRow.outputs`.
        panel_px: the greatest width and height of a panel.
        with_outline: whether outputs have the outline of what reaches t_p.
        notes: below the table.
        state: of the chosen networks and thresholds (`picture_state`).
    """
    outputs = [output for row in rows for output in row.outputs.values()]
    return write_figure(
        paths,
        _patch_table(name, f"{title}.", outputs, notes),
        subtitle=subtitle,
        columns=("image", "ground truth", *columns.values()),
        rows=tuple(row.drawn(columns, with_outline=with_outline) for row in rows),
        panel_px=panel_px,
        bar=probability_bar(),
        state=state,
    )


def _patch_table(name: str, title: str, outputs: Sequence[ShownOutput], notes: tuple[str, ...]) -> Table:
    """What a figure shows of patches, a row an output."""
    frame = pd.DataFrame([output.row for output in outputs])
    printed = pd.DataFrame(
        {
            "patch": frame["key"],
            "setting": frame["setting"],
            "epoch": frame["epoch"].astype(str),
            "psi": frame["psi"],
            "t_p": rounded(frame["t_p"], 2),
            "tumor share": rounded(frame["tumornest_share"], 3),
            "mask share": rounded(frame["mask_share"], 3),
            "IoU": rounded(frame["iou"], 3),
        }
    )
    return Table(name=name, title=title, frame=frame, printed=printed, notes=notes)
