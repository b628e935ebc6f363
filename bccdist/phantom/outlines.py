"""Smooth closed outlines, each a radius as a function of the angle, and the pixel windows around them.

Coordinates are continuous pixels of the level painted (downsample 2, "10x"): the pixel in column 0 spans x 0 to 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

NUM_ANGLES = 360
ANGLES = np.arange(NUM_ANGLES) * (2 * np.pi / NUM_ANGLES)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A rectangle of whole pixels."""

    left_px: int
    top_px: int
    width_px: int
    height_px: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices into an [h, w] array."""
        return (slice(self.top_px, self.top_px + self.height_px), slice(self.left_px, self.left_px + self.width_px))

    def pixel_centers_px(self) -> tuple[Float, Float]:
        """X and y of every pixel's centre, both [h, w]."""
        x_px = np.arange(self.left_px, self.left_px + self.width_px, dtype=np.float32) + np.float32(0.5)
        y_px = np.arange(self.top_px, self.top_px + self.height_px, dtype=np.float32) + np.float32(0.5)
        grid_x, grid_y = np.meshgrid(x_px, y_px)
        return grid_x, grid_y


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A star-shaped curve: `radii_px` [NUM_ANGLES] around `center_px` (x, y)."""

    center_px: tuple[float, float]
    radii_px: NDArray[np.float64]

    @property
    def mean_radius_px(self) -> float:
        """Radius averaged over the angles."""
        return float(self.radii_px.mean())

    @property
    def reach_px(self) -> float:
        """Largest radius."""
        return float(self.radii_px.max())

    @property
    def length_px(self) -> float:
        """Length of the curve."""
        return float(_lengths_px(self._closed_points_px()).sum())

    def _closed_points_px(self) -> NDArray[np.float64]:
        points = self.points_px()
        return np.concatenate([points, points[:1]])

    def grown(self, by_px: float) -> "Outline":
        """The outline with every radius longer by `by_px`."""
        return Outline(center_px=self.center_px, radii_px=self.radii_px + by_px)

    def scaled(self, factor: float) -> "Outline":
        """The outline with every radius multiplied by `factor`."""
        return Outline(center_px=self.center_px, radii_px=self.radii_px * factor)

    def moved(self, x_px: float, y_px: float) -> "Outline":
        """The outline shifted by (x, y)."""
        center_px = (self.center_px[0] + x_px, self.center_px[1] + y_px)
        return Outline(center_px=center_px, radii_px=self.radii_px)

    def radius_at(self, angle: Float) -> Float:
        """The radius at each angle (radians, any range), interpolated round the circle."""
        steps = np.mod(angle, np.float32(2 * np.pi)) * np.float32(NUM_ANGLES / (2 * np.pi))
        lower = steps.astype(np.int32)
        share = steps - lower
        ring = np.append(self.radii_px, self.radii_px[:2]).astype(np.float32)
        radius = ring[lower] * (1 - share) + ring[lower + 1] * share
        return radius.astype(np.float32)

    def points_px(self) -> NDArray[np.float64]:
        """The outline's points [NUM_ANGLES, 2] as (x, y)."""
        directions = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
        points: NDArray[np.float64] = np.asarray(self.center_px) + self.radii_px[:, None] * directions
        return points

    def steps_along(self, spacing_px: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points [n, 2] about `spacing_px` apart along the curve and the tangent's angle at each [n]."""
        closed = self._closed_points_px()
        at = np.concatenate([[0.0], np.cumsum(_lengths_px(closed))])
        num_steps = max(3, round(at[-1] / spacing_px))
        wanted = np.arange(num_steps) * (at[-1] / num_steps)
        points = np.stack([np.interp(wanted, at, closed[:, axis]) for axis in (0, 1)], axis=1)
        ahead = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
        return points, np.arctan2(ahead[:, 1], ahead[:, 0])

    def window(self, margin_px: float, *, size_px: tuple[int, int]) -> Window:
        """The pixels within `margin_px` of the outline's box, cut to a picture of (width, height)."""
        low = np.floor(self.points_px().min(axis=0) - margin_px).astype(int).clip(min=0)
        high = np.minimum(np.ceil(self.points_px().max(axis=0) + margin_px).astype(int), size_px)
        return Window(
            left_px=int(low[0]), top_px=int(low[1]), width_px=int(high[0] - low[0]), height_px=int(high[1] - low[1])
        )

    def depth_px(self, window: Window) -> Float:
        """How far inside the outline each pixel of the window lies along its ray; negative outside, [h, w]."""
        radius_px, angle = self.polar(window)
        return self.radius_at(angle) - radius_px

    def polar(self, window: Window) -> tuple[Float, Float]:
        """Each pixel's distance from the centre and its angle, both [h, w]."""
        x_px, y_px = window.pixel_centers_px()
        x_px -= np.float32(self.center_px[0])
        y_px -= np.float32(self.center_px[1])
        return np.hypot(x_px, y_px), np.arctan2(y_px, x_px)


def _lengths_px(points: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = np.diff(points, axis=0)
    return np.hypot(steps[:, 0], steps[:, 1])


def draw_wobble(rng: np.random.Generator, *, roughness: float, harmonics: range) -> NDArray[np.float64]:
    """A smooth random factor round the circle, mean 1, [NUM_ANGLES]; amplitudes fall as 1 / harmonic."""
    factor = np.ones(NUM_ANGLES)
    for harmonic in harmonics:
        amplitude = rng.normal(0, roughness / harmonic)
        factor += amplitude * np.cos(harmonic * ANGLES + rng.uniform(0, 2 * np.pi))
    return factor.clip(0.5, 1.5)


def draw_island_outline(rng: np.random.Generator, *, radius_px: float, roughness: float) -> Outline:
    """A random outline around (0, 0) with the given mean radius; higher roughness has deeper lobes."""
    factor = draw_wobble(rng, roughness=roughness, harmonics=range(2, 7))
    return Outline(center_px=(0.0, 0.0), radii_px=radius_px * factor / factor.mean())


def draw_section_outline(rng: np.random.Generator, *, width_px: float, height_px: float) -> Outline:
    """A random rounded outline whose box is (0, 0) to (width, height)."""
    corner_power = rng.uniform(2.2, 3.0)
    span = (
        np.abs(2 * np.cos(ANGLES) / width_px) ** corner_power + np.abs(2 * np.sin(ANGLES) / height_px) ** corner_power
    )
    raw = span ** (-1 / corner_power) * draw_wobble(rng, roughness=0.12, harmonics=range(2, 9))
    directions = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    points = raw[:, None] * directions
    size = np.ptp(points, axis=0)
    return _from_points(
        (points - points.min(axis=0)) * (np.array([width_px, height_px]) / size),
        center_px=tuple(-points.min(axis=0) * (np.array([width_px, height_px]) / size)),
    )


def _from_points(points: NDArray[np.float64], *, center_px: tuple[float, float]) -> Outline:
    offset = points - np.asarray(center_px)
    angle = np.unwrap(np.arctan2(offset[:, 1], offset[:, 0]))
    radius = np.hypot(offset[:, 0], offset[:, 1])
    order = np.argsort(np.mod(angle, 2 * np.pi))
    radii_px = np.interp(ANGLES, np.mod(angle, 2 * np.pi)[order], radius[order], period=2 * np.pi)
    return Outline(center_px=(float(center_px[0]), float(center_px[1])), radii_px=radii_px)
