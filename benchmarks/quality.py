"""Are degraded slides told from clean ones? `python -m benchmarks.quality SLIDES...`.

Each slide is read once in the target frame, and degraded in memory in graded ways: blurred, restained, recompressed,
inked, folded and with air under the coverslip. Every measure is taken as inference takes it, a slide as one section.
For each way and strength stand the AUC of the measure that ought to tell it, and the share of the degraded slides that
are not assessable by limits from all other clean slides; and how many clean slides those limits refuse, with the exact
95 % interval. The network's features, which a model's reference has as well, are not in it.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, cast

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import tyro
from numpy.typing import NDArray

from bccdist.binomial import greatest_share
from bccdist.configuration import CELL_PX
from bccdist.sections.assessable import QualityLimits
from bccdist.slides.cell_rows import CellRow
from bccdist.slides.geometry import Box, cell_shape, tissue_cells
from bccdist.slides.quality import QualityMeter
from bccdist.slides.quality_measures import CELL_MEASURES, MEASURES, SHARES, SlideQuality
from bccdist.slides.slide import Slide
from bccdist.slides.stain import Glass, find_glass, smoothed, stained_on
from bccdist.slides.tissue import TISSUE_MPP

Picture = NDArray[np.uint8]
Degrade = Callable[[Picture, NDArray[np.bool_], np.random.Generator], Picture]
_LOG = np.log(np.arange(256) + 8).astype(np.float32)
_GLASS = float(np.log(245 + 8))


def blurred(sigma_px: float) -> Degrade:
    """Out of focus, as a Gaussian."""
    return lambda picture, _, __: np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), dtype=np.uint8)


def restained(factor: float, hue: float = 0.0) -> Degrade:
    """Stained so many times as strongly; red by a share more, and blue less."""

    def degrade(picture: Picture, _: NDArray[np.bool_], __: np.random.Generator) -> Picture:
        weights = factor * np.array([1 + hue, 1, 1 - hue], dtype=np.float32)
        table = _as_pixels(np.clip(_GLASS - _LOG, 0, None)[:, None] * weights)
        return np.asarray(cv2.LUT(picture, table[None]), dtype=np.uint8)

    return degrade


def recompressed(quality: int) -> Degrade:
    """Stored once more, as JPEG of this quality."""

    def degrade(picture: Picture, _: NDArray[np.bool_], __: np.random.Generator) -> Picture:
        coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        stored = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
        return np.ascontiguousarray(stored[..., ::-1])

    return degrade


def inked(colour: tuple[int, int, int], width_px: int, alpha: float) -> Degrade:
    """A pen line across the tissue."""

    def degrade(picture: Picture, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Picture:
        here, line = _line(picture.shape[:2], tissue, rng, width_px)
        mixed = picture[here] * (1 - alpha * line) + np.array(colour) * alpha * line
        return _with(picture, here, mixed.round())

    return degrade


def folded(width_px: int) -> Degrade:
    """A band across the tissue under which it lies two more times, as in a wrinkle."""

    def degrade(picture: Picture, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Picture:
        here, line = _line(picture.shape[:2], tissue, rng, width_px)
        densities = np.clip(_GLASS - _LOG[picture[here]], 0, None)
        shifts = ((width_px, -2 * width_px), (-width_px, width_px))
        lying = line * sum(np.roll(densities, shift, axis=(0, 1)) for shift in shifts)
        return _with(picture, here, _as_pixels(densities + lying))

    return degrade


def with_air(radius_px: int) -> Degrade:
    """A bubble on the tissue: a dark grey ring, and paler and blurred tissue in it."""

    def degrade(picture: Picture, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Picture:
        x, y = _place(picture.shape[:2], tissue, rng)
        here = _around(picture.shape[:2], x, y, radius_px + 24)
        inside = cv2.circle(np.zeros(picture.shape[:2], np.uint8), (x, y), radius_px, 1, cv2.FILLED)[here][..., None]
        pale = (0.5 * cv2.GaussianBlur(picture[here], (0, 0), 3) + 0.5 * 240).astype(np.uint8)
        made = _with(picture, here, np.where(inside > 0, pale, picture[here]))
        return np.asarray(cv2.circle(made, (x, y), radius_px, (70, 70, 70), 24), dtype=np.uint8)

    return degrade


WAYS: Mapping[str, tuple[str, int, Mapping[str, Degrade]]] = {
    "blur, sigma px": ("focus", -1, {f"{sigma}": blurred(sigma) for sigma in (0.4, 0.6, 0.8, 1, 1.5, 2)}),
    "JPEG, quality": ("compression", 1, {f"{quality}": recompressed(quality) for quality in (60, 40, 25, 20, 15)}),
    "fainter, factor": ("stain_density", -1, {f"{factor}": restained(factor) for factor in (0.9, 0.8, 0.7, 0.6)}),
    "stronger, factor": ("stain_density", 1, {f"{factor}": restained(factor) for factor in (1.1, 1.25, 1.4, 1.6)}),
    "redder, share": ("stain_hue", -1, {f"{-hue}": restained(1, hue) for hue in (-0.1, -0.15, -0.2, -0.3)}),
    "bluer, share": ("stain_hue", 1, {f"{hue}": restained(1, hue) for hue in (0.1, 0.15, 0.2, 0.3)}),
    "blue ink, um": ("ink_share", 1, {f"{um}": inked((40, 60, 150), um, 0.9) for um in (60, 100, 150, 300)}),
    "green ink, um": ("ink_share", 1, {f"{um}": inked((30, 120, 70), um, 0.9) for um in (100, 150, 300)}),
    "black ink, um": ("ink_share", 1, {f"{um}": inked((25, 25, 30), um, 0.95) for um in (60, 100, 150, 300)}),
    "red ink, um": ("ink_share", 1, {f"{um}": inked((200, 30, 45), um, 0.95) for um in (150, 200, 300)}),
    "fold, um": ("fold_share", 1, {f"{um}": folded(um) for um in (30, 50, 80, 120)}),
    "air, radius um": ("air_share", 1, {f"{um}": with_air(um) for um in (100, 200, 300, 500)}),
}
"""Each way: the measure that tells it, to which side, and its strengths, the weakest first."""
CLEAN = "clean"
LEAST_AUC = 0.95


def _as_pixels(densities: NDArray[np.float32]) -> Picture:
    return np.asarray(np.clip(np.exp(_GLASS - densities) - 8, 0, 255).round(), dtype=np.uint8)


def _place(shape: tuple[int, ...], tissue: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """A random pixel of tissue, as x and y of the picture."""
    rows, cols = np.nonzero(tissue)
    pick = rng.integers(len(rows))
    return int(cols[pick] * shape[1] / tissue.shape[1]), int(rows[pick] * shape[0] / tissue.shape[0])


def _around(shape: tuple[int, ...], x: int, y: int, reach_px: int) -> tuple[slice, slice]:
    """The rows and columns of a picture within so many pixels of a place."""
    row, col = (
        slice(max(0, middle - reach_px), min(end, middle + reach_px))
        for middle, end in zip((y, x), shape[:2], strict=True)
    )
    return row, col


def _with(picture: Picture, here: tuple[slice, slice], pixels: NDArray[Any]) -> Picture:
    """A copy of a picture with other pixels at a place."""
    made = picture.copy()
    made[here] = pixels.astype(np.uint8)
    return made


def _line(
    shape: tuple[int, ...], tissue: NDArray[np.bool_], rng: np.random.Generator, width_px: int
) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """A line through the tissue, 800 px long: where, and there 0 to 1 [h, w, 1], a little soft at its edges."""
    x, y = _place(shape, tissue, rng)
    here = _around(shape, x, y, 400 + 4 * width_px)
    angle = rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * 400
    start, end = ((int(x + side * reach[0]), int(y + side * reach[1])) for side in (-1, 1))
    line = np.asarray(cv2.line(np.zeros(shape, np.uint8), start, end, [1], width_px), dtype=np.float32)[here]
    return here, np.asarray(cv2.GaussianBlur(line, (0, 0), 2), dtype=np.float32)[..., None]


def read_picture(path: Path, *, target_mpp: float) -> Picture:
    """A slide in the target frame; small ones only."""
    with Slide(path, target_mpp=target_mpp) as slide:
        return slide.read(Box(0, 0, slide.width_px, slide.height_px))


def tissue_of(picture: Picture) -> tuple[tuple[NDArray[np.uint8], Glass], NDArray[np.bool_]]:
    """The smoothed overview of a picture of 1 um/px with its glass, and its tissue."""
    size = (round(picture.shape[1] / TISSUE_MPP), round(picture.shape[0] / TISSUE_MPP))
    overview = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    smooth = smoothed(overview)
    glass = find_glass(smooth)
    return (smooth, glass), stained_on(glass, smooth, mpp=TISSUE_MPP)


def measure(picture: Picture, *, num_cells: int) -> tuple[SlideQuality, NDArray[np.bool_]]:
    """What inference would measure on a picture of 1 um/px, on so many of its cells of tissue; and its tissue."""
    on_glass, tissue = tissue_of(picture)
    slide = SimpleNamespace(overview_on_glass=lambda _: on_glass, resolution=SimpleNamespace(mpp=1.0, resize=1.0))
    rows, cols = cell_shape(picture.shape[1], picture.shape[0], cell_px=CELL_PX)
    meter = QualityMeter(cast("Slide", slide), tissue, (rows, cols))
    padded = np.full((rows * CELL_PX, cols * CELL_PX, 3), 255, np.uint8)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    flags = tissue_cells(tissue, shape=(rows, cols), pixels_per_cell=CELL_PX / TISSUE_MPP)
    marked = np.flatnonzero(flags)
    flags.flat[np.setdiff1d(marked, marked[np.linspace(0, len(marked) - 1, num_cells).astype(int)])] = False
    for row in range(rows):
        meter.look_at(row, CellRow(padded[row * CELL_PX : (row + 1) * CELL_PX], ~flags[row]))
    return meter.result(), tissue


def of_slide(found: SlideQuality, tissue: NDArray[np.bool_]) -> dict[str, float]:
    """The measures of a slide as if it were one section."""
    medians = {
        name: float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan
        for name, values in zip(CELL_MEASURES, found.cells, strict=True)
    }
    area_px = max(1, int((tissue | (found.artefacts > 0)).sum()))
    return medians | {name: float((found.artefacts == each).sum()) / area_px for name, each in SHARES.items()}


def kept(numbered: tuple[int, Path], *, folder: Path, target_mpp: float, num_cells: int) -> pd.DataFrame:
    """The rows of a slide from the folder, measured where it has none."""
    number, path = numbered
    file = folder / f"{number:03d}-{path.stem}.parquet"
    if not file.exists():
        cv2.setNumThreads(1)
        rows = pd.DataFrame(degraded(number, path, target_mpp=target_mpp, num_cells=num_cells))
        rows.to_parquet(file.with_suffix(".partial"))
        file.with_suffix(".partial").replace(file)
    return pd.read_parquet(file)


def degraded(number: int, path: Path, *, target_mpp: float, num_cells: int) -> list[dict[str, Any]]:
    """A row for each way of one slide, the clean one first; its number seeds what is drawn on it."""
    picture = read_picture(path, target_mpp=target_mpp)
    _, tissue = tissue_of(picture)
    found = [{"slide": number, "way": CLEAN, "strength": "", **of_slide(*measure(picture, num_cells=num_cells))}]
    for way, (name, _, strengths) in WAYS.items():
        # What lies on the tissue is seen in the overview: no cell is needed.
        here = num_cells if name in CELL_MEASURES else 0
        for strength, degrade in strengths.items():
            made = degrade(picture, tissue, np.random.default_rng(number))
            measured = of_slide(*measure(made, num_cells=here))
            found.append({"slide": number, "way": way, "strength": strength, **measured})
    return found


def auc(clean: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The share of pairs in which the other one is greater; half of equal ones."""
    higher, equal = other[:, None] > clean, other[:, None] == clean
    return float((higher + 0.5 * equal).mean())


def is_refused(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows are beyond limits whose reference is the clean rows of all other slides: bool [n]."""
    clean = rows[rows["way"] == CLEAN]
    limits = {
        number: QualityLimits.of(
            pa.Table.from_pandas(
                clean[clean["slide"] != number].assign(is_final=True, features=None), preserve_index=False
            )
        )
        for number in clean["slide"]
    }
    return np.array([_is_beyond(limits[row["slide"]], row) for row in rows.to_dict("records")])


def _is_beyond(limits: QualityLimits, row: Mapping[Any, Any]) -> bool:
    """Whether a row's values are beyond limits; what was not measured is within."""
    values = [(row[name], limits.limits[name]) for name in MEASURES if name in limits.limits]
    return any(value < each.low or value > each.high for value, each in values)


def table_of(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each way: by strength the AUC and the share refused, and from which strength on the AUC is enough."""
    refused, clean, found = is_refused(rows), rows[rows["way"] == CLEAN], []
    for way, (name, side, strengths) in WAYS.items():
        by_strength = {}
        for strength in strengths:
            is_mine = ((rows["way"] == way) & (rows["strength"] == strength)).to_numpy()
            value = auc(side * clean[name].to_numpy(), side * rows[name].to_numpy()[is_mine])
            by_strength[strength] = (value, refused[is_mine].mean())
        # Strengths grow: what tells one must tell all that are stronger.
        short = [place for place, (value, _) in enumerate(by_strength.values()) if value < LEAST_AUC]
        enough = list(by_strength)[max(short) + 1 if short else 0 :]
        found.append(
            {
                "way": way,
                "measure": name,
                "strength: AUC, share refused": "; ".join(
                    f"{strength}: {value:.3f}, {share:.0%}" for strength, (value, share) in by_strength.items()
                ),
                f"AUC of {LEAST_AUC} from": enough[0] if enough else "none of these",
            }
        )
    return pd.DataFrame(found)


def false_alarms(rows: pd.DataFrame) -> str:
    """How many clean slides limits of the others refuse, with the exact 95 % interval."""
    refused = is_refused(rows)[(rows["way"] == CLEAN).to_numpy()]
    num, of = int(refused.sum()), len(refused)
    low, high = 1 - greatest_share(of - num, of, confidence=0.975), greatest_share(num, of, confidence=0.975)
    return f"{num} of {of} clean slides are refused ({num / of:.1%}, 95 % interval {low:.1%} to {high:.1%})"


def main(
    slides: Annotated[Sequence[Path], tyro.conf.Positional], out: Path, cells: int = 12, workers: int = 2
) -> None:
    """Measure, and print.

    Args:
        slides: Small ones, which fit into memory.
        out: Folder for what is measured of each slide; slides that it has are not measured again.
        cells: Cells of each slide that are measured.
        workers: Processes.
    """
    out.mkdir(parents=True, exist_ok=True)
    of_one = partial(kept, folder=out, target_mpp=1.0, num_cells=cells)
    with ProcessPoolExecutor(workers) as pool:
        rows = pd.concat(pool.map(of_one, enumerate(slides)), ignore_index=True)
    print(table_of(rows).to_markdown(index=False))
    print(false_alarms(rows))


if __name__ == "__main__":
    tyro.cli(main)
