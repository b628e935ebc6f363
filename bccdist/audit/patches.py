"""What patches show of what was found on their slide.

A patch is as wrong as the worst outline or region in it: a nest is a small share of a patch, and must not be
outweighed by the many pixels on which a network is a little wrong.
"""

from collections.abc import Sequence

import numpy as np
import shapely

from bccdist.audit.findings import Finding, Shown
from bccdist.slides.geometry import Box


def shown_in(boxes_level0_px: Sequence[Box], findings: Sequence[Finding]) -> list[Shown | None]:
    """For each patch what it shows most of: score times the share that lies in it; None where nothing does.

    An outline that was moved lies where it was drawn and where it is proposed. What was not compared is not looked at.
    """
    compared = [each for each in findings if np.isfinite(each.score)]
    shapes = np.array([_place_of(each) for each in compared], dtype=object)
    scores, areas = np.array([each.score for each in compared]), shapely.area(shapes)
    tree = shapely.STRtree(shapes)
    shown: list[Shown | None] = []
    for box in boxes_level0_px:
        window = shapely.box(box.x, box.y, box.x_end, box.y_end)
        near = np.sort(tree.query(window, predicate="intersects"))
        near = near[areas[near] > 0]
        shares = shapely.area(shapely.intersection(shapes[near], window)) / areas[near]
        best = int(np.argmax(scores[near] * shares)) if len(near) else -1
        is_shown = best >= 0 and shares[best] > 0
        shown.append(Shown(compared[near[best]], float(shares[best])) if is_shown else None)
    return shown


def _place_of(finding: Finding) -> shapely.Geometry:
    drawn = shapely.make_valid(finding.geometry)
    return drawn if finding.proposed is None else shapely.union(drawn, shapely.make_valid(finding.proposed))
