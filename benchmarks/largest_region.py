"""The curve of largest regions against labelling the image at every step (python -m benchmarks.largest_region)."""

import statistics
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.heatmaps.store import Heatmap
from bccdist.sections.curve import CURVE_LENGTH, largest_region_curve


def labelled_curve(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The same curve in the plain way: OpenCV labels the image at every step."""
    curve = np.zeros(CURVE_LENGTH, dtype=np.uint32)
    curve[0] = pixels.size
    for step in range(1, CURVE_LENGTH):
        mask = (pixels >= step).astype(np.uint8)
        stats = np.asarray(cv2.connectedComponentsWithStats(mask, connectivity=8)[2])
        curve[step] = stats[1:, cv2.CC_STAT_AREA].max(initial=0)
    return curve


def images(size_px: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Square heatmaps of several kinds, uint8 [size_px, size_px].

    The first is nests with rough borders on calm tissue, as a trained network draws them: most pixels are almost
    sure. White noise is no heatmap: no image has more regions.
    """
    rng = np.random.default_rng(seed)

    def noise(sigma_px: float) -> NDArray[np.float32]:
        blurred = cv2.GaussianBlur(rng.standard_normal((size_px, size_px)).astype(np.float32), (0, 0), sigma_px)
        return np.asarray((blurred - blurred.mean()) / blurred.std(), dtype=np.float32)

    nests = noise(60)
    logits = 6 * nests + 2 * noise(6) + 0.7 * noise(1.5) - 5
    heatmap = np.rint(NUM_STEPS / (1 + np.exp(-logits))).astype(np.uint8)
    return {
        "nests, as a network draws them": heatmap,
        "the same, 0 but for the largest nests": np.where(nests > 2, heatmap, np.uint8(0)),
        "smooth noise": np.clip(128 + 50 * noise(12), 0, 255).astype(np.uint8),
        "white noise": rng.integers(0, CURVE_LENGTH, (size_px, size_px), dtype=np.uint8),
    }


def _seconds(pixels: NDArray[np.uint8], repeats: int) -> tuple[float, float]:
    """The median of the curve and of labelling, in turns; both must find the same."""
    ours, theirs = [], []
    for _ in range(repeats):
        started = perf_counter()
        curve = largest_region_curve(pixels)
        between = perf_counter()
        labelled = labelled_curve(pixels)
        ours.append(between - started)
        theirs.append(perf_counter() - between)
        np.testing.assert_array_equal(curve, labelled)
    return statistics.median(ours), statistics.median(theirs)


def main(size: int = 3000, repeats: int = 3, seed: int = 0, threads: int = 1, heatmaps: tuple[Path, ...] = ()) -> None:
    """Time both on drawn images, or on the final output of heatmaps of a study.

    Args:
        size: Edge of a drawn image in pixels.
        repeats: Turns, of which the medians are printed.
        seed: Of the drawn images.
        threads: That OpenCV may label with; the curve takes one.
        heatmaps: Files (.ozx) to take instead of drawn images.
    """
    cv2.setNumThreads(threads)
    opened = (Heatmap(path) for path in heatmaps)
    stored = {heatmap.path.stem: heatmap.read(heatmap.outputs[-1], heatmap.box_target_px) for heatmap in opened}
    print("| image | pixels | steps that differ | curve s | labelling s | times as fast |")
    print("|---|---|---|---|---|---|")
    for name, pixels in (stored or images(size, seed)).items():
        curve_s, labelling_s = _seconds(pixels, repeats)
        num_steps = len(np.unique(largest_region_curve(pixels)))
        size_text = f"{pixels.shape[1]} x {pixels.shape[0]}"
        ratio = labelling_s / curve_s
        print(f"| {name} | {size_text} | {num_steps} | {curve_s:.2f} | {labelling_s:.2f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
