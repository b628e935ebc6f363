"""Tables of sections as a notebook wants them."""

import pandas as pd

from bccdist.sections.chosen_output import section_box

_SIDES = ["x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px"]


def with_boxes(sections: pd.DataFrame) -> pd.DataFrame:
    """Sections with their boxes in one column, `box_level0_px`, in place of four."""
    boxes = pd.Series([section_box(row) for row in sections[_SIDES].to_dict("records")], sections.index, dtype=object)
    place = sections.columns.get_loc(_SIDES[0])
    table = sections.drop(columns=_SIDES)
    table.insert(int(place), "box_level0_px", boxes)  # type: ignore[arg-type]
    return table
