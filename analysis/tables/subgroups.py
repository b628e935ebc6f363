"""How good the verdicts are among kinds of slides and sections: `python analysis/make.py subgroups STUDY`.

By scanner, by those further columns of slides.csv that are known to name groups (`GROUP_COLUMNS`) or are asked for,
and by the tissue area of the section. Other columns may hold what names a patient, and are not shown unasked. Groups
are small and many: a figure that is low by chance is likely among them, so the table says how many groups it compares,
and gives adjusted p-values.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.resampling import (
    FIGURES,
    LEVEL,
    NUM_RESAMPLES,
    SEED,
    Interval,
    counts_by_slide,
    draw_slides,
    figures_of,
    holm,
    holm_note,
    intervals,
    p_of_difference,
    p_texts,
    resampled,
    smallest_p_of_groups,
    total,
)
from analysis.study_evidence.table import NOT_KNOWN, Table, phantom_marks
from analysis.study_evidence.verdict_table import needs_labels
from analysis.tables.intervals import interval_text
from bccdist.errors import ConfigurationError, NothingToShowError
from bccdist.parts import Part
from bccdist.sections.choices import Choice

GROUP_COLUMNS = ("site", "centre", "center", "lab", "stain", "sex", "age_group", "skin_type", "body_site", "subtype")
"""Columns of slides.csv that are taken unasked, in whatever case they are written."""
MOST_GROUPS = 12
"""A column with more values names things (a block, a date) rather than kinds of them."""
NOT_SAID = "not said"
_TISSUE_QUANTILES = (0.25, 0.5, 0.75)


def build_subgroups(verdicts: pd.DataFrame, of_slides: Mapping[str, pd.Series], choices: list[Choice]) -> Table:
    """One row per setting, column and group.

    Args:
        verdicts: from `all_verdicts`, of Test.
        of_slides: by the name of a column its value for each slide, by slide_id.
        choices: the chosen models.

    Raises:
        NothingToShowError: no section has a label.
    """
    labelled = verdicts[verdicts["label"].notna()]
    if labelled.empty:
        raise needs_labels(verdicts, [Part.TEST])
    beta = {choice.setting: choice.beta for choice in choices}
    grouped = labelled.assign(**{f"by {name}": _groups(labelled, values) for name, values in of_slides.items()})
    names = [name for name in of_slides if 1 < grouped[f"by {name}"].nunique() <= MOST_GROUPS]
    grouped["by tissue area"] = _quarters(grouped["tissue_um2"])
    rows = [
        row
        for setting, mine in grouped.groupby("setting", sort=False)
        for name in [*names, "tissue area"]
        for row in _rows(mine, name, beta[str(setting)])
    ]
    if not rows:
        raise NothingToShowError("no column of slides.csv tells the slides of Test apart, and all sections are alike")
    frame = pd.DataFrame(rows).assign(p_adjusted=lambda made: holm(made["p"]))
    return Table(
        name="subgroups",
        title=f"Verdicts on Test by kinds of slides and sections, with {LEVEL:.0%} intervals.",
        frame=frame,
        printed=_printed(frame),
        notes=(
            f"{NUM_RESAMPLES:,} resamples of whole slides, seed {SEED}; within a group, of its own slides.",
            (
                "p: whether the accuracy of the group is that of all others, by the resampled difference, "
                f"{holm_note(frame['p'])} {NOT_KNOWN}: too few slides to tell."
            ),
            *_left_out_notes([name for name in of_slides if name not in names]),
        ),
    )


def _left_out_notes(names: list[str]) -> Iterator[str]:
    if names:
        yield f"Not taken, as they have one value or more than {MOST_GROUPS}: {', '.join(names)}."


def _groups(verdicts: pd.DataFrame, values: pd.Series) -> pd.Series:
    found = values.reindex(verdicts["slide_id"]).fillna("").replace("", NOT_SAID)
    return pd.Series(found.to_numpy(), index=verdicts.index)


def _quarters(tissue_um2: pd.Series) -> pd.Series:
    """Each section's quarter by tissue area, from the least."""
    edges = sorted({float(tissue_um2.quantile(share)) for share in _TISSUE_QUANTILES})
    names = [f"up to {edge / 1e6:.3g} mm2" for edge in edges] + [f"above {edges[-1] / 1e6:.3g} mm2"]
    place = [sum(area > edge for edge in edges) for area in tissue_um2]
    groups = pd.Categorical([names[number] for number in place], categories=names, ordered=True)
    return pd.Series(groups, index=tissue_um2.index)


def _rows(verdicts: pd.DataFrame, name: str, beta: float) -> Iterator[dict[str, Any]]:
    column = f"by {name}"
    if verdicts[column].nunique() < 2:
        return
    for group, mine in verdicts.groupby(column, observed=True):
        slide_ids = pd.Index(sorted(set(mine["slide_id"])))
        by_slide = counts_by_slide(mine, slide_ids)
        found, sums = intervals(by_slide, draw_slides(len(slide_ids)), beta), total(by_slide)
        yield {
            "setting": verdicts["setting"].iloc[0],
            "column": name,
            "group": str(group),
            **sums.counts,
            "num_sections": len(mine),
            "num_slides": len(slide_ids),
            **{key: value for figure in FIGURES for key, value in found[figure].columns(figure).items()},
            "p": _p_against_others(verdicts, mine, beta),
            **phantom_marks(mine),
        }


def _p_against_others(verdicts: pd.DataFrame, mine: pd.DataFrame, beta: float) -> float:
    """Two-sided p-value that a group's accuracy is that of all other sections; NaN with a single slide on one side.

    Slides are drawn once for both, since a slide may have sections in each.
    """
    others = verdicts.drop(mine.index)
    if min(each["slide_id"].nunique() for each in (mine, others)) < 2:
        return math.nan
    slide_ids = pd.Index(sorted(set(verdicts["slide_id"])))
    draws = draw_slides(len(slide_ids))
    here, there = (
        figures_of(resampled(counts_by_slide(each, slide_ids), draws), beta)["accuracy"] for each in (mine, others)
    )
    num = [each["slide_id"].nunique() for each in (mine, others)]
    return p_of_difference(here - there, smallest_p_of_groups(*num))


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame.to_dict("records")
    return pd.DataFrame(
        {
            "setting": frame["setting"],
            "by": frame["column"],
            "group": frame["group"],
            "sections": frame["num_sections"].astype(str),
            "slides": frame["num_slides"].astype(str),
            **{
                name: [interval_text(Interval.from_columns(row, name)) for row in rows]
                for name in ("accuracy", "sensitivity", "specificity")
            },
            "p": p_texts(frame["p"]),
            "adjusted": p_texts(frame["p_adjusted"]),
        }
    )


def write_subgroups(study: Evidence, columns: tuple[str, ...] = ()) -> Table:
    """Write how good the verdicts on Test are by scanner, site and other groups, and by tissue area.

    Args:
        study: The study's folder.
        columns: Columns of slides.csv to group by, beside scanner and those that are known to name groups.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or it has no labels.
        ConfigurationError: no slide has such a column.
    """
    slides = study.manifest.slides_of([Part.TEST])
    there = sorted({name for slide in slides for name in slide.extra})
    if unknown := [name for name in columns if name not in there]:
        raise ConfigurationError(
            f"{study.manifest.path}: has no column {', '.join(unknown)} to group by; further columns there are: "
            f"{', '.join(there) or 'none'}"
        )
    wanted = [name for name in there if name in columns or name.lower() in GROUP_COLUMNS]
    of_slides = {"scanner": pd.Series({slide.slide_id: slide.scanner for slide in slides}, dtype=object)}
    for name in wanted:
        of_slides[name] = pd.Series({slide.slide_id: slide.extra.get(name, "") for slide in slides}, dtype=object)
    return study.write(build_subgroups(study.verdicts(Part.TEST), of_slides, study.choices))
