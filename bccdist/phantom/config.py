"""What a phantom data set holds: number and size of slides, sections, tumor share, seed."""

from dataclasses import asdict, dataclass

from bccdist.errors import ConfigurationError
from bccdist.files import digest_of
from bccdist.parts import Part

PAINTING_VERSION = 1
"""Raised whenever the same configuration would give other pixels; part of the digest."""

SIZE_STEP_LEVEL0_PX = 16
"""Slide sizes are multiples of this, so that every level's downsample is a whole number."""


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """The whole recipe of one phantom data set; equal recipes give equal bytes."""

    num_train: int = 6
    """Slides of part Training; they are annotated."""
    num_val1: int = 2
    """Slides of part Validation I; they are annotated."""
    num_val2: int = 3
    """Slides of part Validation II; section labels only."""
    num_test: int = 4
    """Slides of part Test; section labels only."""
    sections_per_slide: tuple[int, int] = (3, 4)
    """Fewest and most tissue sections on a slide, both included."""
    slide_width_level0_px: int = 6144
    """Slide width, a multiple of 16."""
    slide_height_level0_px: int = 3584
    """Slide height, a multiple of 16."""
    mpp: float = 0.46
    """Micrometres per level-0 pixel (20x); the level with downsample 2 is 10x."""
    tumor_share: float = 0.5
    """Share of sections that hold tumor, kept as nearly as whole sections allow on every slide."""
    annotated_share: float = 0.6
    """Chance of a follicle (or of a nest's stroma ring) to be annotated; nests always are."""
    jpeg_quality: int = 80
    """Quality of the JPEG tiles, 1 to 100."""
    tile_px: int = 256
    """Side of a compressed TIFF tile, a multiple of 16."""
    seed: int = 2021
    """Seed of everything random; slide i of part p draws from (seed, p, i) alone."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigurationError: fields are out of range; the message lists all of them.
        """
        faults = [fault for is_wrong, fault in self._checks() if is_wrong]
        if faults:
            raise ConfigurationError("phantom configuration: " + "; ".join(faults))

    def _checks(self) -> list[tuple[bool, str]]:
        size = (self.slide_width_level0_px, self.slide_height_level0_px)
        step = SIZE_STEP_LEVEL0_PX
        fewest, most = self.sections_per_slide
        return [
            (min(self.num_slides.values()) < 0, "a number of slides is below 0"),
            (not 1 <= fewest <= most, f"sections_per_slide is {self.sections_per_slide}, expected 1 <= min <= max"),
            (min(size) <= 0 or any(side % step for side in size), f"slide size {size} px: not multiples of {step}"),
            (self.mpp <= 0, f"mpp is {self.mpp}, expected more than 0"),
            (not 0 <= self.tumor_share <= 1, f"tumor_share is {self.tumor_share}, expected 0 to 1"),
            (not 0 <= self.annotated_share <= 1, f"annotated_share is {self.annotated_share}, expected 0 to 1"),
            (not 1 <= self.jpeg_quality <= 100, f"jpeg_quality is {self.jpeg_quality}, expected 1 to 100"),
            (self.tile_px <= 0 or self.tile_px % 16 != 0, f"tile_px is {self.tile_px}, expected a multiple of 16"),
            (self.seed < 0, f"seed is {self.seed}, expected 0 or more"),
        ]

    @property
    def num_slides(self) -> dict[Part, int]:
        """Number of slides of each part."""
        return {
            Part.TRAINING: self.num_train,
            Part.VALIDATION_1: self.num_val1,
            Part.VALIDATION_2: self.num_val2,
            Part.TEST: self.num_test,
        }

    def digest(self) -> str:
        """Twelve hex digits that name this recipe and the painting's version."""
        return digest_of({"painting_version": PAINTING_VERSION, **asdict(self)})
