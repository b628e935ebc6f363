"""What only shows among all slides of a manifest: another scale than the others', one file twice."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median_low

from bccdist.slides.checkup import Code, Finding, Severity, SlideCheckup

OUTLYING_MPP = 3.0
"""A slide's um/px at level 0 over the set's median, or under it."""


def check_set(checkups: Sequence[SlideCheckup]) -> dict[str, list[Finding]]:
    """Add what only shows among all slides of a manifest: another scale than the others', one file twice.

    Returns:
        What was added, by slide_id.
    """
    added: defaultdict[str, list[Finding]] = defaultdict(list)
    for checkup, finding in (*_outlying_mpp(checkups), *_same_files(checkups)):
        checkup.findings.append(finding)
        added[checkup.slide_id].append(finding)
    return dict(added)


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
