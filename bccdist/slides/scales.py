"""Whether a slide's um/px fits those of its scanner's other slides, or is off by what mixed-up units leave behind.

Px per inch written as px per cm make 2.54, nanometres and millimetres powers of ten; the true value of half or twice
the magnification is 2. Nothing on one slide alone tells; among the slides of one scanner it does.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median_low

import openslide

from bccdist.errors import SlideError
from bccdist.slides.manifest import SlideRecord
from bccdist.slides.slide import read_scale

UNIT_FACTORS = (2.54, 10.0, 25.4, 100.0, 254.0, 1000.0)
"""What a wrong unit multiplies um/px by, or divides them by."""
MAGNIFICATION_FACTOR = 2.0
"""Between scans at 20x and 40x, which may stand in one set."""
TOLERANCE = 0.01
"""Relative deviation from a factor: scanners of one model differ by less; 0.5 and 0.1945 um/px, which two makers have,
are 2.57 times apart."""
_LEAST_SLIDES = 3
_OBJECTIVE_TOLERANCE = 0.15
"""Of um/px times magnification, which is constant for one scanner."""
_MODEL_PROPERTIES = (
    "aperio.ScanScope ID",
    "hamamatsu.Product",
    "leica.device-model",
    "philips.DICOM_MANUFACTURERS_MODEL_NAME",
    "ventana.ScannerModel",
    "dicom.ManufacturerModelName",
    "tiff.Model",
)


LEAST_PRODUCT_UM, LARGEST_PRODUCT_UM = 4.4, 17.0
"""Of um/px times magnification, which is 9 to 10 for most scanners (0.25 at 40x, 0.5 at 20x). Some name the objective
without the lens behind it, which makes half of it: so half is no sign of a mistake, twice as much is."""
_USUAL_PRODUCT_UM = 10.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How fine a slide was scanned, and by what."""

    slide_id: str
    scanner: str
    """By the manifest's column, else vendor and model as the file says; empty where neither says."""
    mpp_level0: float
    objective: float | None
    """Magnification as the file says."""

    @property
    def doubt(self) -> str:
        """Why um/px and objective do not fit together; empty where they do, or where no objective is known."""
        if self.objective is None or LEAST_PRODUCT_UM <= self.mpp_level0 * self.objective <= LARGEST_PRODUCT_UM:
            return ""
        expected = _USUAL_PRODUCT_UM / self.objective
        ratio = max(self.mpp_level0 / expected, expected / self.mpp_level0)
        return (
            f"it has {self.mpp_level0:.3g} um/px at level 0, and its file names an objective of {self.objective:g}x, "
            f"at which some {expected:.2g} are usual: {ratio:.2g} times off; measure a known length, "
            "and set the column mpp in slides.csv if um/px are wrong"
        )


@dataclass(frozen=True, kw_only=True)
class UnlikelyScale:
    """A um/px that a mixed-up unit, or half or twice the magnification, would explain."""

    scale: Scale
    usual_mpp: float
    """The scanner's median."""
    factor: float
    """One of those above."""

    @property
    def is_unit(self) -> bool:
        """Whether no other objective gives such a factor."""
        return self.factor != MAGNIFICATION_FACTOR

    @property
    def text(self) -> str:
        """What is wrong, and what to do; the slide's id stands elsewhere."""
        cause = (
            "its unit was mixed up" if self.is_unit else "another objective that the file does not name, or a mistake"
        )
        return (
            f"it has {self.scale.mpp_level0:.3g} um/px at level 0, where slides of {self.scale.scanner} usually have "
            f"{self.usual_mpp:.3g}: {self.factor:g} times off, {cause}; set the column mpp in slides.csv, or where it "
            "is right give the slide another name in the column scanner"
        )


def scale_of(slide_id: str, scanner: str, properties: Mapping[str, str], mpp_level0: float) -> Scale:
    """The scale of a slide from what the manifest and its file say.

    Args:
        slide_id: of the manifest.
        scanner: of the manifest; may be empty.
        properties: of the file, by OpenSlide's names.
        mpp_level0: um per level-0 pixel that is used.
    """
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "")
    model = next((properties[name] for name in _MODEL_PROPERTIES if properties.get(name)), "")
    try:
        objective = float(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER, ""))
    except ValueError:
        objective = None
    return Scale(
        slide_id=slide_id,
        scanner=scanner or " ".join(filter(None, (vendor, model))),
        mpp_level0=mpp_level0,
        objective=objective if objective and objective > 0 else None,
    )


def unlikely_scales(scales: Iterable[Scale]) -> Iterator[UnlikelyScale]:
    """Of each scanner with three slides or more, those whose um/px is off by a unit's factor or by 2."""
    by_scanner: defaultdict[str, list[Scale]] = defaultdict(list)
    for scale in scales:
        if scale.scanner:
            by_scanner[scale.scanner].append(scale)
    for group in by_scanner.values():
        if len(group) >= _LEAST_SLIDES:
            yield from _unlikely_in(group)


def _unlikely_in(group: list[Scale]) -> Iterator[UnlikelyScale]:
    # The lower of two middle values, so that the usual value is one that some slide has.
    usual_mpp = median_low(scale.mpp_level0 for scale in group)
    products = [scale.mpp_level0 * scale.objective for scale in group if scale.objective]
    usual_product = median_low(products) if products else None
    for scale in group:
        ratio = max(scale.mpp_level0 / usual_mpp, usual_mpp / scale.mpp_level0)
        factor = next(
            (each for each in (*UNIT_FACTORS, MAGNIFICATION_FACTOR) if abs(ratio / each - 1) <= TOLERANCE), None
        )
        if factor is not None and not _is_explained(scale, usual_product):
            yield UnlikelyScale(scale=scale, usual_mpp=usual_mpp, factor=factor)


def _is_explained(scale: Scale, usual_product: float | None) -> bool:
    """Whether the slide was taken with another objective, whose magnification fits its um/px."""
    if scale.objective is None or usual_product is None:
        return False
    return abs(scale.mpp_level0 * scale.objective / usual_product - 1) <= _OBJECTIVE_TOLERANCE


def mixed_up_units(records: Iterable[SlideRecord]) -> Iterator[str]:
    """A sentence for each slide whose um/px speak of a mixed-up unit; slides that cannot be opened are left out."""
    scales = []
    for record in records:
        try:
            mpp_level0, properties = read_scale(record.path, record.mpp)
        except SlideError:
            continue
        scales.append(scale_of(record.slide_id, record.scanner, properties, mpp_level0))
    for found in unlikely_scales(scales):
        if found.is_unit:
            yield f"{found.scale.slide_id}: {found.text}"
