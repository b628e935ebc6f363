"""A picture of what augmentation makes of patches: before above, after below (paper, section 2.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from bccdist.canvas import new_canvas
from bccdist.configuration import AugmentConfig
from bccdist.files import atomic_path
from bccdist.shard_set.epoch_plan import EpochPlan
from bccdist.shard_set.index import PartPatches
from bccdist.shard_set.reader import PatchReader
from bccdist.training.augmentation import Augmentation, augment
from bccdist.training.samples import Draw, Patches

MOST_PATCHES = 8
_DPI = 100
_PATCH_PX, _GAP_PX, _CAPTION_PX, _LEFT_PX = 224, 10, 28, 34
_OUTLINES = (("#101010", 1.8), ("#ffe600", 1.0))
"""Colour and width: dark below, so that the bright line is seen on glass, too."""
_FRAME = "#b0b0b0"
_NUM_COLOURS = 256


class ShownPatch(NamedTuple):
    """One picture of the sheet."""

    image: NDArray[np.uint8]
    """RGB [h, w, 3]."""
    mask: NDArray[np.uint8]
    """[h, w], above 0 where Tumornest."""
    caption: str


def sheet_of_plan(
    reader: PatchReader, plan: EpochPlan, training: PartPatches, config: AugmentConfig, *, seed: int, epoch: int
) -> NDArray[np.uint8]:
    """The first draws of an epoch that show tumor, before and after augmentation.

    They are changed by the random numbers that training has for them. If fewer than eight show tumor, the first of the
    others fill the sheet.

    Args:
        reader: reads the patches.
        plan: what the epoch draws.
        training: the patches that the plan numbers.
        config: how patches are changed.
        seed, epoch: those that the plan was made with.

    Returns:
        uint8 RGB [h, w, 3].

    Raises:
        ShardError: a patch cannot be read.
    """
    patches = Patches(reader=reader, augment_config=config, augment_here=False, seed=seed, epoch=epoch)
    before, after = [], []
    for position in shown_positions(plan, training.members["tumor"]):
        image, mask, change = patches[Draw(position, int(training.rows[plan.draws[position]]))]
        before.append(ShownPatch(image, mask, f"draw {position}"))
        changed = (image, mask) if change is None else augment(image, mask, change)
        after.append(ShownPatch(*changed, _caption(change)))
    return contact_sheet(before, after)


def shown_positions(plan: EpochPlan, shows_tumor: NDArray[np.bool_]) -> list[int]:
    """The first positions of an epoch whose patch shows tumor, eight or fewer, in their order.

    Args:
        plan: what the epoch draws; only what its steps use counts.
        shows_tumor: which of the patches that the plan numbers show tumor, bool [num_patches].
    """
    drawn = shows_tumor[plan.draws[: plan.num_steps * plan.global_batch]]
    tumor_first = np.argsort(~drawn, kind="stable")[:MOST_PATCHES]
    return sorted(tumor_first.tolist())


def _caption(change: Augmentation | None) -> str:
    if change is None:
        return "as it is"
    return f"{np.rad2deg(change.angle_rad):.0f}°, {change.scale:.2f} x, blur {change.blur_sigma_px:.1f} px"


def contact_sheet(before: Sequence[ShownPatch], after: Sequence[ShownPatch]) -> NDArray[np.uint8]:
    """Patches side by side, `before` above `after`, with the outline of the tumor: uint8 RGB [h, w, 3].

    Args:
        before, after: one or more patches, as many above as below; each is drawn to fit 224 x 224 px.
    """
    rows = (("before", before), ("after", after))
    width = _LEFT_PX + len(before) * (_PATCH_PX + _GAP_PX)
    height = _GAP_PX + len(rows) * (_PATCH_PX + _CAPTION_PX)
    canvas = new_canvas(width / _DPI, height / _DPI, dpi=_DPI)
    figure = canvas.figure
    for row, (name, patches) in enumerate(rows):
        bottom = height - _GAP_PX - row * (_PATCH_PX + _CAPTION_PX) - _PATCH_PX
        middle = (_LEFT_PX / 2 / width, (bottom + _PATCH_PX / 2) / height)
        figure.text(*middle, name, rotation=90, ha="center", va="center", fontsize=13)
        for column, patch in enumerate(patches):
            left = _LEFT_PX + column * (_PATCH_PX + _GAP_PX)
            axes = figure.add_axes((left / width, bottom / height, _PATCH_PX / width, _PATCH_PX / height))
            _draw_patch(axes, patch)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()  # type: ignore[no-untyped-call]


def _draw_patch(axes: Axes, patch: ShownPatch) -> None:
    axes.imshow(patch.image, interpolation="antialiased")
    tumor = patch.mask > 0
    if tumor.any() and not tumor.all():
        for colour, line_width in _OUTLINES:
            axes.contour(tumor, levels=[0.5], colors=colour, linewidths=line_width)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_edgecolor(_FRAME)
    axes.text(0.5, -0.02, patch.caption, transform=axes.transAxes, ha="center", va="top", fontsize=11)


def write_contact_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write a contact sheet as PNG, atomically; 256 colours tell stained tissue apart in a third of the bytes."""
    with atomic_path(path) as partial:
        Image.fromarray(sheet).quantize(_NUM_COLOURS).save(partial, format="png")
