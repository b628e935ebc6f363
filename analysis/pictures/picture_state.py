"""What a picture says of labels and verdicts, kept within its file: one of before is told from one of today by it."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from PIL import Image

from bccdist.files import digest_of
from bccdist.sections.choices import Choice
from bccdist.slides.manifest import SectionRecord

STATE = "bccdist state"
"""The keyword of the text in the PNG."""
_OF_VERDICTS = ("slide_id", "section_id", "setting", "label", "verdict", "t_p", "t_a_um2", "weights_digest")


def state_of_verdicts(verdicts: pd.DataFrame) -> str:
    """Names labels, verdicts, thresholds and network of some sections, in whatever order they come."""
    columns = list(_OF_VERDICTS)
    rows = verdicts[columns].astype(object).where(verdicts[columns].notna(), None)
    return digest_of(sorted(rows.to_numpy().tolist(), key=str))


def state_of_labels(sections: Iterable[SectionRecord]) -> str:
    """Names the labels of some sections."""
    return digest_of(sorted([each.slide_id, each.section_id, each.label] for each in sections))


def state_of_choices(choices: Iterable[Choice]) -> str:
    """Names the chosen networks and thresholds."""
    return digest_of(sorted([each.setting, each.epoch, each.psi, each.t_p, each.weights_digest] for each in choices))


def is_of_today(path: Path, state: str, *, are_corrected: bool) -> bool:
    """Whether a picture shows `state`.

    Args:
        path: of the PNG.
        state: of today.
        are_corrected: whether labels were corrected since the inference: a picture of an older version does not say
            what it shows, and is of before then.
    """
    with Image.open(path) as image:
        drawn = image.info.get(STATE)
    return not are_corrected if drawn is None else drawn == state
