"""The heatmap that a verdict of a chosen model stands on."""

from bccdist.errors import HeatmapError, SlideError
from bccdist.heatmaps.store import Heatmap
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice


def open_chosen(paths: StudyPaths, choice: Choice, slide_id: str) -> Heatmap:
    """The heatmap of a slide by the chosen weights of a setting.

    Raises:
        HeatmapError: it is not there or damaged, or it was made with other weights.
    """
    path = paths.heatmap(choice.setting, choice.epoch, slide_id)
    if not path.exists():
        others = sorted(each.stem for each in path.parent.glob(f"*{path.suffix}"))
        few = f"{', '.join(others[:3])}{', ...' if len(others) > 3 else ''}"
        raise HeatmapError(
            f"{path}: no heatmap there: epoch {choice.epoch}, chosen for {choice.setting}, has none of {slide_id}, "
            f"but {len(others)} of other slides ({few}); give one of these, or run the inference for it"
        )
    heatmap = Heatmap(path)
    if heatmap.attributes.weights_digest != choice.weights_digest:
        raise HeatmapError(
            f"{heatmap.path}: made with the weights {heatmap.attributes.weights_digest}, but {choice.weights_digest} "
            "were chosen; run the inference stage again, or the selection"
        )
    return heatmap


def require_same_slide(heatmap: Heatmap, size_level0_px: tuple[int, int]) -> None:
    """Refuse a slide that is not the one of the heatmap, by its width and height.

    Raises:
        SlideError: it is another one.
    """
    made_of = heatmap.attributes.size_level0_px
    if size_level0_px != made_of:
        raise SlideError(
            f"{heatmap.attributes.slide_id}: it has {size_level0_px} level-0 px, but the heatmap {heatmap.path} was "
            f"made of {made_of}; give the manifest that the study was made with"
        )
