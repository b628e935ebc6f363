"""A um/px that is off by a mixed-up unit is told from another objective, among the slides of one scanner."""

from pathlib import Path

import pytest
from synthetic_slides import islands_picture, write_slide

from bccdist.parts import Part
from bccdist.slides.manifest import SlideRecord
from bccdist.slides.scales import Scale, mixed_up_units, scale_of, unlikely_scales

USUAL = 0.46


def scales(*odd: float, scanner: str = "a", objective: float | None = None, num_usual: int = 4) -> list[Scale]:
    """Some of the usual um/px, slightly different, and others."""
    usual = [USUAL * (1 + number / 1000) for number in range(num_usual)]
    return [
        Scale(slide_id=f"s{number}", scanner=scanner, mpp_level0=mpp, objective=objective if mpp in odd else None)
        for number, mpp in enumerate([*usual, *odd])
    ]


@pytest.mark.parametrize("factor", [2.54, 10, 100, 25.4])
@pytest.mark.parametrize("is_multiplied", [True, False])
def test_a_um_px_off_by_a_units_factor_is_found(factor: float, is_multiplied: bool) -> None:
    odd = USUAL * factor if is_multiplied else USUAL / factor
    (found,) = unlikely_scales(scales(odd))
    assert found.is_unit
    assert found.scale.slide_id == "s4"
    assert found.factor == factor
    assert f"{odd:.3g} um/px" in found.text
    assert "set the column mpp" in found.text


def test_half_or_twice_the_magnification_is_told_apart() -> None:
    (found,) = unlikely_scales(scales(USUAL / 2))
    assert not found.is_unit


@pytest.mark.parametrize("odd", [0.4, 0.5, 0.25, 1.0, 0.3, 0.1945, USUAL * 3])
def test_other_scales_are_no_mixed_up_units(odd: float) -> None:
    assert not [found for found in unlikely_scales(scales(odd)) if found.is_unit]


def test_an_objective_that_fits_explains_a_scale_and_one_that_does_not_does_not() -> None:
    usual = [Scale(slide_id=f"s{number}", scanner="a", mpp_level0=0.5, objective=20) for number in range(3)]
    fitting = Scale(slide_id="40x", scanner="a", mpp_level0=0.25, objective=40)
    assert not list(unlikely_scales([*usual, fitting]))
    lying = Scale(slide_id="40x", scanner="a", mpp_level0=0.25, objective=20)
    assert [found.scale.slide_id for found in unlikely_scales([*usual, lying])] == ["40x"]


def test_slides_of_other_scanners_and_of_none_are_not_held_against_each_other() -> None:
    others = [*scales(num_usual=2), *scales(USUAL * 2.54, scanner="b", num_usual=0)]
    assert not list(unlikely_scales([*others, *scales(USUAL * 2.54, scanner="")]))


def test_the_scanner_is_the_manifests_else_what_the_file_says() -> None:
    said = {"openslide.vendor": "leica", "leica.device-model": "SCN400", "openslide.objective-power": "20"}
    assert scale_of("s", "", said, USUAL) == Scale(
        slide_id="s", scanner="leica SCN400", mpp_level0=USUAL, objective=20
    )
    assert scale_of("s", "ours", said, USUAL).scanner == "ours"
    assert scale_of("s", "", {"openslide.objective-power": "?"}, USUAL).objective is None


def test_the_units_of_files_are_compared_and_the_manifests_mpp_counts(tmp_path: Path) -> None:
    picture = islands_picture(300, 200)

    def record(name: str, mpp_of_file: float, mpp: float | None = None) -> SlideRecord:
        path = write_slide(tmp_path / f"{name}.tif", picture, mpp=mpp_of_file)
        return SlideRecord(slide_id=name, part=Part.TEST, path=path, mpp=mpp)

    records = [record(f"s{number}", USUAL) for number in range(3)]
    gone = SlideRecord(slide_id="gone", part=Part.TEST, path=tmp_path / "gone.tif")
    (found,) = mixed_up_units([*records, record("inch", USUAL / 2.54), record("set", USUAL / 2.54, USUAL), gone])
    assert found.startswith("inch: it has 0.181 um/px")


@pytest.mark.shared_data
def test_the_case_of_px_per_inch_is_found(shared_data: Path) -> None:
    folder = shared_data / "cases" / "mpp-unit-mixup"
    records = [
        SlideRecord(slide_id=name, part=Part.TEST, path=folder / f"{name}.tif") for name in ("s1", "s2", "s3", "ppi")
    ]
    (found,) = mixed_up_units(records)
    assert found.startswith("ppi:")


@pytest.mark.parametrize("factor", [2.54, 10, 1 / 2.54, 0.1, 2])
@pytest.mark.parametrize(("mpp", "objective"), [(0.25, 40), (0.5, 20), (0.46, 20), (0.2265, 40)])
def test_um_px_that_do_not_fit_the_objective_are_doubted(factor: float, mpp: float, objective: float) -> None:
    scale = Scale(slide_id="a", scanner="", mpp_level0=mpp * factor, objective=objective)
    assert f"an objective of {objective:g}x" in scale.doubt


@pytest.mark.parametrize(
    ("mpp", "objective"),
    [(0.25, 40), (0.5, 20), (0.46, 20), (0.2265, 40), (0.2325, 20), (1.0, 10), (0.17, 60), (0.28, 40), (9.0, None)],
)
def test_um_px_of_scanners_fit_their_objectives(mpp: float, objective: float | None) -> None:
    assert Scale(slide_id="a", scanner="", mpp_level0=mpp, objective=objective).doubt == ""
