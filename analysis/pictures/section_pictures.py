"""One section as a small picture for reports: tissue on the left, tissue under its heatmap on the right (Figure 6)."""

import io

import numpy as np
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from analysis.outlines.chosen_regions import SectionVerdict
from analysis.pictures.crops import read_section
from analysis.pictures.overlay_drawing import round_length_um
from analysis.pictures.panel_drawing import heated, outlined
from bccdist.configuration import PHANTOM_WARNING
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.slides.manifest import PHANTOM_SCANNER, SlideRecord

_GAP_PX = 4
_LINE_PX = 15
"""Height of a line below the picture."""
_FONT_PX = 10
_JPEG_QUALITY = 80
_SCALE_BAR_SHARE = 0.35
_WARNING_COLOUR = "#7b3294"
_FONT = get_data_path() + "/fonts/ttf/DejaVuSans.ttf"
"""The one that all other pictures are lettered in."""


def section_picture(
    paths: StudyPaths, record: SlideRecord, choice: Choice, section: SectionVerdict, *, width_px: int = 420
) -> bytes:
    """One section with the heatmap that its verdict stands on, and the outline of what reaches t_p.

    Slide and heatmap are read at about the resolution of the picture, so memory stays bounded.

    Args:
        paths: the study's.
        record: the section's slide.
        choice: the model.
        section: its row of `verdict_table.section_verdicts`, by this model.
        width_px: of the whole picture; each half is at most as high as that.

    Returns:
        A JPEG of that width.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap is not there or damaged, or was made with other weights.
    """
    half_px = (width_px - _GAP_PX) // 2
    crop, heat = read_section(paths, record, choice, section, width_px=half_px, height_px=width_px)
    right = outlined(heated(crop.tissue, heat.probability, section["t_p"]), heat.mask_share >= 0.5)
    picture = np.full((crop.tissue.shape[0], width_px, 3), 255, dtype=np.uint8)
    for image, left_px in ((crop.tissue, 0), (right, width_px - half_px)):
        start_px = left_px + (half_px - image.shape[1]) // 2
        picture[:, start_px : start_px + image.shape[1]] = image
    return _as_jpeg(_with_foot(picture, crop.um_per_px, is_phantom=record.scanner == PHANTOM_SCANNER))


def _with_foot(picture: NDArray[np.uint8], um_per_px: float, *, is_phantom: bool) -> Image.Image:
    """The picture with a scale bar below it, and below that the warning where data are drawn."""
    height_px, width_px = picture.shape[:2]
    image = Image.new("RGB", (width_px, height_px + _LINE_PX * (1 + is_phantom)), "white")
    image.paste(Image.fromarray(picture))
    pen, font = ImageDraw.Draw(image), ImageFont.truetype(_FONT, _FONT_PX)
    length_um = round_length_um(width_px / 2 * um_per_px * _SCALE_BAR_SHARE)
    length_px, middle_px = round(length_um / um_per_px), height_px + _LINE_PX // 2
    pen.rectangle((0, middle_px - 1, length_px - 1, middle_px + 1), fill="black")
    pen.text((length_px + 5, middle_px), f"{length_um:g} µm", fill="black", font=font, anchor="lm")
    if is_phantom:
        pen.text((0, middle_px + _LINE_PX), PHANTOM_WARNING, fill=_WARNING_COLOUR, font=font, anchor="lm")
    return image


def _as_jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="jpeg", quality=_JPEG_QUALITY)
    return file.getvalue()
