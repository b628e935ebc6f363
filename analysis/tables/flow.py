"""How slides of Test became figures, as a STARD flow diagram: `python analysis/make.py flow STUDY`.

STARD 2015 (item 19) asks for the flow of participants: who was left out where, how many results of the index test (the
verdict) were inconclusive, and how the rest falls out against the reference standard (the label).
"""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.slide_states import SlideState, slide_states
from analysis.study_evidence.table import Table, phantom_marks, warning_of
from analysis.study_evidence.verdict_table import count_sections, no_rows
from analysis.tables.chart import new_figure, write_chart
from bccdist.parts import Part
from bccdist.sections.verdicts import Verdict

STEPS = {
    "slides": "slides of Test in slides.csv",
    "slides_failed": "of these failed",
    "slides_not_there": "of these not worked on",
    "slides_without_section": "of these without a section",
    "sections": "sections of the other slides",
    "sections_unlabelled": "of these without a label",
    "sections_unsure": "of these, readers or who decided between them are unsure",
    "sections_conflict": "of these, readers differ and nobody has decided",
    "sections_labelled": "sections with a label",
    "sections_review": "of these for review: not read whole or not assessable, and no tumor found",
    "called_tumor": "labelled sections called Tumor",
    "called_normal": "labelled sections called Normal",
    "tp": "called Tumor, labelled Tumor",
    "fp": "called Tumor, labelled Normal",
    "fn": "called Normal, labelled Tumor",
    "tn": "called Normal, labelled Normal",
}
"""What is counted, in the order of the diagram."""
_LEFT, _MIDDLE, _RIGHT = 0.24, 0.5, 0.78


def build_flow(states: pd.DataFrame, verdicts: pd.DataFrame) -> Table:
    """One row per setting and step.

    Args:
        states: from `slide_states`, of Test.
        verdicts: from `all_verdicts`, of Test; a setting without a section has none.
    """
    rows = [
        {"setting": setting, "step": step, "number": number, **phantom_marks(mine)}
        for setting, mine in states.groupby("setting", sort=False)
        for step, number in _numbers(mine, verdicts[verdicts["setting"] == setting])
    ]
    frame = pd.DataFrame(rows)
    wide = frame.pivot_table(index="step", columns="setting", values="number", sort=False)
    printed = pd.DataFrame(
        {"step": [STEPS[step] for step in wide.index]}
        | {str(setting): [f"{int(number):,}" for number in wide[setting]] for setting in wide}
    )
    return Table(
        name="flow",
        title="Flow of slides and sections of Test (STARD).",
        frame=frame,
        printed=printed,
    )


def _numbers(slides: pd.DataFrame, verdicts: pd.DataFrame) -> Iterator[tuple[str, int]]:
    states = slides["state"].value_counts()
    labelled = verdicts[verdicts["label"].notna()]
    confusion = count_sections(verdicts).counts
    found = {
        "slides": len(slides),
        "slides_failed": int(states.get(SlideState.FAILED.value, 0)),
        "slides_not_there": int(states.get(SlideState.NOT_THERE.value, 0)),
        "slides_without_section": int(states.get(SlideState.NO_SECTION.value, 0)),
        "sections": len(verdicts),
        "sections_unlabelled": len(verdicts) - len(labelled),
        "sections_unsure": int(slides["num_unsure"].sum()),
        "sections_conflict": int(slides["num_conflict"].sum()),
        "sections_labelled": len(labelled),
        "sections_review": int((labelled["verdict"] == Verdict.REVIEW.value).sum()),
        "called_tumor": confusion["tp"] + confusion["fp"],
        "called_normal": confusion["fn"] + confusion["tn"],
        **confusion,
    }
    for step in STEPS:
        yield step, found[step]


def draw(frame: pd.DataFrame, setting: str) -> Figure:
    """The diagram of one setting."""
    mine = frame[frame["setting"] == setting]
    num = {str(step): f"{int(number):,}" for step, number in zip(mine["step"], mine["number"], strict=True)}
    figure = new_figure(8.0, 6.2, f"Flow of slides and sections of Test, {setting}", warning=warning_of(mine))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    lost = f"No verdict\nfailed {num['slides_failed']}, not worked on {num['slides_not_there']},\n"
    seen = {"unsure": num["sections_unsure"], "in conflict": num["sections_conflict"]}
    why = "".join(f", {name} {number}" for name, number in seen.items() if number != "0").replace(",", "\nof these", 1)
    _box(axes, _LEFT, 0.93, f"Slides\n{num['slides']}")
    _box(axes, _LEFT, 0.72, f"Sections with a verdict\n{num['sections']}")
    _box(axes, _LEFT, 0.51, f"Labelled sections\n{num['sections_labelled']}")
    _box(axes, _LEFT, 0.28, f"Called Tumor\n{num['called_tumor']}")
    _box(axes, _RIGHT, 0.28, f"Called Normal\n{num['called_normal']}")
    _box(axes, _LEFT, 0.08, f"Tumor {num['tp']} (TP)\nNormal {num['fp']} (FP)")
    _box(axes, _RIGHT, 0.08, f"Tumor {num['fn']} (FN)\nNormal {num['tn']} (TN)")
    for height, text in (
        (0.825, f"{lost}without a section {num['slides_without_section']}"),
        (0.615, f"No reference label\n{num['sections_unlabelled']}{why}"),
        (0.43, f"Inconclusive: review\n{num['sections_review']}"),
    ):
        _arrow(axes, (_LEFT, height), (_RIGHT, height), until=_box(axes, _RIGHT, height, text))
    for top, bottom in ((0.93, 0.72), (0.72, 0.51), (0.51, 0.28), (0.28, 0.08)):
        _arrow(axes, (_LEFT, top - 0.045), (_LEFT, bottom + 0.045))
    axes.plot([_LEFT, _RIGHT], [0.355, 0.355], color="#444444", linewidth=1)
    _arrow(axes, (_RIGHT, 0.355), (_RIGHT, 0.28 + 0.045))
    _arrow(axes, (_RIGHT, 0.28 - 0.045), (_RIGHT, 0.08 + 0.045))
    axes.text(_MIDDLE, 0.08, "by the label", ha="center", va="center", fontsize=9, color="#444444")
    return figure


def _box(axes: Axes, x: float, y: float, text: str) -> FancyBboxPatch | None:
    style = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "#444444"}
    return axes.text(x, y, text, ha="center", va="center", fontsize=10, bbox=style).get_bbox_patch()


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], *, until: FancyBboxPatch | None = None
) -> None:
    """An arrow between two points, or to the edge of the box that is around its end."""
    style = {"arrowstyle": "->", "color": "#444444", "shrinkA": 0, "shrinkB": 0, "patchB": until}
    axes.annotate("", end, start, arrowprops=style)


def write_flow(study: Evidence) -> Table:
    """Draw how slides of Test became figures, as STARD asks for, and write the numbers.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, or no slide of Test was worked on.
    """
    states = slide_states(study)
    mine = states[states["part"] == Part.TEST.value]
    if mine.empty:
        raise no_rows([Part.TEST], study.choices)
    table = build_flow(mine, study.verdicts(Part.TEST))
    for kind in ("png", "svg"):
        write_chart(study.paths.figure("flow").with_suffix(f".{kind}"), draw(table.frame, study.headline().setting))
    return study.write(table)
