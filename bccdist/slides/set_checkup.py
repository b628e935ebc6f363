"""What only shows among all slides of a manifest: another scale than the others', one file or one tissue twice."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median_low

from bccdist.slides.checkup import Code, Finding, Severity, SlideCheckup
from bccdist.slides.fingerprints import Fingerprint
from bccdist.slides.leakage import Leak, likeness_leaks, pixel_leaks
from bccdist.slides.manifest import Manifest
from bccdist.slides.scales import unlikely_scales

OUTLYING_MPP = 3.0
"""A slide's um/px at level 0 over the set's median, or under it."""


Found = Iterable[tuple[SlideCheckup, Finding]]


def check_set(checkups: Sequence[SlideCheckup]) -> dict[str, list[Finding]]:
    """Add what only shows among all slides of a manifest: another scale than the others', one file twice.

    Returns:
        What was added, by slide_id.
    """
    return _added([*_unlikely_mpp(checkups), *_outlying_mpp(checkups), *_same_files(checkups)])


def check_leaks(
    checkups: Sequence[SlideCheckup],
    manifest: Manifest,
    fingerprints: Mapping[str, Fingerprint],
    reasons: Mapping[str, str],
) -> dict[str, list[Finding]]:
    """Add which slides have the pixels of another one, or look like one piece of tissue with it.

    Args:
        checkups: of the slides; they get the findings.
        manifest: of the slides.
        fingerprints: of those slides that are compared, by slide_id.
        reasons: why some of the others are not.

    Returns:
        What was added, by slide_id.
    """
    by_id = {checkup.slide_id: checkup for checkup in checkups}
    leaks = _leaks(manifest, fingerprints, reasons)
    return _added([(by_id[slide_id], finding) for slide_id, finding in leaks])


def _added(found: Found) -> dict[str, list[Finding]]:
    added: defaultdict[str, list[Finding]] = defaultdict(list)
    for checkup, finding in found:
        checkup.findings.append(finding)
        added[checkup.slide_id].append(finding)
    return dict(added)


def _leaks(
    manifest: Manifest, fingerprints: Mapping[str, Fingerprint], reasons: Mapping[str, str]
) -> Iterator[tuple[str, Finding]]:
    contents = {slide_id: fingerprint.content for slide_id, fingerprint in fingerprints.items()}
    for leak in (*pixel_leaks(manifest, contents), *likeness_leaks(manifest, fingerprints)):
        yield leak.slide_id, _finding_of(leak)
    for slide_id, reason in reasons.items():
        text = f"it was not compared with the other slides, so that nobody knows whether it is there twice: {reason}"
        yield slide_id, Finding(code=Code.NOT_COMPARED, severity=Severity.WARNING, text=text)


def _finding_of(leak: Leak) -> Finding:
    code = Code.SAME_PIXELS if leak.has_same_pixels else Code.LOOKS_ALIKE
    severity = Severity.ERROR if leak.has_same_pixels and leak.is_across_parts else Severity.WARNING
    return Finding(code=code, severity=severity, text=leak.text)


def _unlikely_mpp(checkups: Sequence[SlideCheckup]) -> Iterator[tuple[SlideCheckup, Finding]]:
    by_id = {checkup.slide_id: checkup for checkup in checkups}
    for found in unlikely_scales(checkup.scale for checkup in checkups if checkup.scale):
        severity = Severity.ERROR if found.is_unit else Severity.WARNING
        yield by_id.pop(found.scale.slide_id), Finding(code=Code.UNLIKELY_MPP, severity=severity, text=found.text)
    # Where all slides of a scanner are off alike, only the objective that their files name can tell.
    for checkup in by_id.values():
        if checkup.scale and checkup.scale.doubt:
            yield checkup, Finding(code=Code.UNLIKELY_MPP, severity=Severity.WARNING, text=checkup.scale.doubt)


def _outlying_mpp(checkups: Sequence[SlideCheckup]) -> Iterator[tuple[SlideCheckup, Finding]]:
    known = [(checkup, checkup.mpp_level0) for checkup in checkups if checkup.mpp_level0]
    if len(known) < 3:
        return
    # The lower of two middle values, so that the usual value is one that some slide has.
    usual = median_low(mpp for _, mpp in known)
    for checkup, mpp in known:
        if not 1 / OUTLYING_MPP < mpp / usual < OUTLYING_MPP:
            text = (
                f"it has {mpp:.3g} um/px at level 0, where the set's median is {usual:.3g}: another objective, or a "
                "wrong entry of the scanner; if it is wrong, set the column mpp in slides.csv"
            )
            yield checkup, Finding(code=Code.OUTLYING_MPP, severity=Severity.WARNING, text=text)


def _same_files(checkups: Sequence[SlideCheckup]) -> Iterator[tuple[SlideCheckup, Finding]]:
    """Slides whose paths are links to one file; two equal paths are a fault of the manifest already."""
    same: defaultdict[tuple[int, int], list[SlideCheckup]] = defaultdict(list)
    for checkup in checkups:
        path = Path(checkup.path)
        if path.exists():
            found = path.stat()
            same[found.st_dev, found.st_ino].append(checkup)
    for first, *others in same.values():
        for checkup in others:
            text = f"it is the same file as {first.slide_id}; take one of them out of slides.csv"
            yield checkup, Finding(code=Code.SAME_FILE, severity=Severity.ERROR, text=text)
