"""What only shows among all slides becomes a finding of the slide that it concerns."""

from pathlib import Path

import pytest

from bccdist.parts import Part
from bccdist.slides.checkup import Code, Severity, SlideCheckup
from bccdist.slides.manifest import Manifest
from bccdist.slides.scales import Scale
from bccdist.slides.set_checkup import check_leaks, check_set


def only(checkup: SlideCheckup, code: Code, severity: Severity) -> str:
    """The text of the checkup's one finding."""
    (finding,) = checkup.findings
    assert (finding.code, finding.severity) == (code, severity)
    return finding.text


def bare(slide_id: str, path: Path, mpp: float | None = None) -> SlideCheckup:
    return SlideCheckup(slide_id=slide_id, part=Part.TEST, path=str(path), mpp_level0=mpp)


@pytest.mark.parametrize(
    ("mpps", "outlying"),
    [((0.46, 0.46, 0.46, 0.046), [3]), ((0.46, 0.23, 0.46, 0.9), []), ((0.46, 0.046), []), ((0.5, 0.5, None, 5), [3])],
)
def test_a_scale_unlike_the_others_is_a_warning(
    tmp_path: Path, mpps: tuple[float | None, ...], outlying: list[int]
) -> None:
    checkups = [bare(f"s{number}", tmp_path / f"{number}", mpp) for number, mpp in enumerate(mpps)]
    added = check_set(checkups)
    assert list(added) == [f"s{number}" for number in outlying]
    assert [number for number, checkup in enumerate(checkups) if checkup.findings] == outlying
    for checkup in (checkups[number] for number in outlying):
        assert "the set's median" in only(checkup, Code.OUTLYING_MPP, Severity.WARNING)


def test_one_file_under_two_names_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"")
    (tmp_path / "b.tif").symlink_to("a.tif")
    checkups = [bare(name, tmp_path / f"{name}.tif") for name in ("a", "b", "gone", "away")]
    assert list(check_set(checkups)) == ["b"]
    assert "the same file as a;" in only(checkups[1], Code.SAME_FILE, Severity.ERROR)


def test_what_was_not_compared_is_a_warning(tmp_path: Path) -> None:
    checkups = [bare("a", tmp_path / "a.tif"), bare("b", tmp_path / "b.tif")]
    manifest = Manifest(path=tmp_path / "slides.csv", slides=(), sections=())
    assert list(check_leaks(checkups, manifest, {}, {"b": "its process was ended"})) == ["b"]
    assert "nobody knows whether it is there twice: its process" in only(
        checkups[1], Code.NOT_COMPARED, Severity.WARNING
    )


@pytest.mark.parametrize(("factor", "severity"), [(2.54, Severity.ERROR), (10, Severity.ERROR), (2, Severity.WARNING)])
def test_a_scale_off_by_a_units_factor_is_an_error_and_by_2_a_warning(
    tmp_path: Path, factor: float, severity: Severity
) -> None:
    checkups = [
        bare(f"s{number}", tmp_path / f"{number}", mpp) for number, mpp in enumerate([0.46] * 3 + [0.46 / factor])
    ]
    for checkup in checkups:
        assert checkup.mpp_level0
        checkup.scale = Scale(slide_id=checkup.slide_id, scanner="ours", mpp_level0=checkup.mpp_level0, objective=None)
    assert list(check_set(checkups)) == ["s3"]
    assert (Code.UNLIKELY_MPP, severity) in [(found.code, found.severity) for found in checkups[3].findings]


def test_a_scanner_of_which_all_slides_are_off_alike_is_told_by_its_objective(tmp_path: Path) -> None:
    checkups = [bare(f"s{number}", tmp_path / f"{number}") for number in range(4)]
    for checkup in checkups:
        checkup.scale = Scale(slide_id=checkup.slide_id, scanner="a", mpp_level0=0.25 * 2.54, objective=40)
    assert list(check_set(checkups)) == ["s0", "s1", "s2", "s3"]
    for checkup in checkups:
        assert "2.5 times off" in only(checkup, Code.UNLIKELY_MPP, Severity.WARNING)
