"""The report's first part: what was judged and how, what is missing, and with labels the headline's figures."""

from collections.abc import Iterator

from analysis.page.blocks import Section
from analysis.page.content import PageContent, spoken
from analysis.page.headline import choice_lines, headline_numbers, headline_row, reader_lines
from analysis.page.quality import why_not_assessable
from analysis.page.summary import by_reason, faults_of
from analysis.study_evidence.provenance import failures, site_text
from analysis.study_evidence.slide_states import SlideState
from analysis.study_evidence.table import Table
from analysis.study_evidence.verdict_table import FAST_NUMBERS
from analysis.tables.comparisons import NOT_RESOLVED, has_no_discordant, no_discordant_text
from bccdist.errors import ModelError, first_of
from bccdist.models.reference import quality_limits
from bccdist.parts import Label, Part
from bccdist.stages.outdated import REMEDY, Result, outdated_results
from bccdist.study import unread_files

_MOST_FAILURES = 10
FEW_SECTIONS = 20
"""Of either kind; with fewer, one section more or less is 5 % of a figure that chooses."""


def overview_section(study: PageContent) -> Section:
    """What was judged and how, what is missing, and with labels how right it is."""
    return Section(
        lines=[
            *choice_lines(study),
            *_reached_lines(study),
            *_label_lines(study),
            *reader_lines(study),
            *_resolution_lines(study),
        ],
        warnings=[
            *_fault_warnings(study),
            *_outdated_warnings(study),
            *_quality_warnings(study),
            *_choice_warnings(study),
            *_missing_warnings(study),
        ],
        numbers=[*headline_numbers(study)],
    )


def _reached_lines(study: PageContent) -> Iterator[str]:
    """How many verdicts a fast way reached, where some did."""
    reached = study.tables["reached"]
    if not isinstance(reached, Table):
        return
    frame = reached.frame
    mine = frame[(frame["part"] == Part.TEST.value) & (frame["setting"] == study.headline.setting)]
    certified, fast, total = (int(mine[name].sum()) for name in ("num_certified", "num_fast", "num_sections"))
    if certified:
        yield (
            f"{certified} of {total} verdicts are certified: a fast way reached them, and the exact one follows "
            f"(confidence {mine['confidence'].max():g} per slide). Their {FAST_NUMBERS}"
        )
    if fast:
        yield f"{fast} of {total} verdicts come from a fast way, and nobody claims that they are the exact ones."


def _label_lines(study: PageContent) -> Iterator[str]:
    """What labels say, or that there are none."""
    counts = study.counts()
    if counts is None:
        return
    total, labelled = counts["num_sections"], counts["num_labelled"]
    if not labelled:
        yield (
            f"No section of Test has a label (0 of {total}): what follows counts verdicts. With labels, now or later, "
            "the same commands add figures and intervals: `python analysis/make.py relabel STUDY sections.csv`."
        )
    elif row := headline_row(study, "table4"):
        which = "All" if labelled == total else f"{labelled} of {total}"
        yield (
            f"{which} sections of Test have a label: {row['tp']} TP, {row['fn']} FN, {row['fp']} FP, {row['tn']} TN, "
            f"{row['num_review']} for review."
        )


def _fault_warnings(study: PageContent) -> Iterator[str]:
    """What could not be made, and why: a ledger that is refused, for instance, leaves little more than this line."""
    for reason, names in by_reason(faults_of(study.tables)).items():
        yield f"Not made: {first_of([spoken(name) for name in names], _MOST_FAILURES)}: {reason}."


def _outdated_warnings(study: PageContent) -> Iterator[str]:
    """What this page rests on and is out of date; tables are of now, and a picture of before is left out by name."""
    if (manifest := study.evidence.known_manifest) is None:
        return
    found = outdated_results(study.paths, manifest)
    for result, what in ((Result.HEATMAPS, "The rows that all rests on"), (Result.SELECTION, "The thresholds")):
        if result in found:
            yield f"{what} are out of date ({found[result]}). To make them anew: {REMEDY[result]}."


def _quality_warnings(study: PageContent) -> Iterator[str]:
    """That a cohort's sections are not assessable, were not judged by their quality, or the model has no reference."""
    if not study.evidence.is_cohort:
        return
    if num := int(study.verdicts["not_assessable"].isna().sum()):
        yield (
            f"The quality of {num} of {len(study.verdicts)} sections was not measured, so that nothing tells whether "
            "the model may be believed on them: their heatmaps hold no quality; remove these, and launch again."
        )
    yield from why_not_assessable(study.verdicts)
    try:
        doubt = quality_limits(study.evidence.model).warning
    except ModelError:
        return  # the part on the model says so
    if doubt:
        yield f"{doubt[0].upper()}{doubt[1:]}."


def _choice_warnings(study: PageContent) -> Iterator[str]:
    """Why the choice of thresholds may mean little, or whose it is."""
    if study.evidence.is_cohort:
        if (site := study.evidence.site_choice) is not None:
            yield f"The thresholds are this site's and not the model's: {site_text(site)}."
        return
    selection = study.evidence.selection
    (chosen,) = selection[selection["setting"] == study.headline.setting].to_dict("records")
    if "specificity" not in chosen:
        yield "How the thresholds were chosen is not known here: they came from elsewhere."
        return
    for figure, kind in (("sensitivity", Label.TUMOR), ("specificity", Label.NORMAL)):
        if chosen[figure] == 0:
            yield f"The choice says nothing: its {figure} on Validation I + II is 0, no {kind.value} section is right."
    for kind, num in ((Label.TUMOR, chosen["tp"] + chosen["fn"]), (Label.NORMAL, chosen["fp"] + chosen["tn"])):
        if num < FEW_SECTIONS:
            yield f"The choice rests on {num} {kind.value} sections of Validation I + II, so that chance decides much."
    stability = study.tables["stability"]
    if isinstance(stability, Table):
        (row,) = stability.frame[stability.frame["setting"] == study.headline.setting].to_dict("records")
        if row["edges"]:
            yield (
                f"What is as good as the choice reaches the edge of the grid ({row['edges']}): beyond it nothing was "
                "tried."
            )


def _missing_warnings(study: PageContent) -> Iterator[str]:
    """The slides that are in no result, by name, and why."""
    if gone := study.evidence.lost_corrections:
        named = first_of([f"{each.slide_id}/{each.section_id}" for each in gone], _MOST_FAILURES)
        yield f"{len(gone)} correction(s) in labels.csv are of no section any more, and count nowhere: {named}."
    manifest = study.evidence.known_manifest
    if manifest is not None and (unread := unread_files(study.evidence.root, manifest)):
        listed = ", ".join(sorted({path.name for path in unread}))
        yield (
            f"{len(unread)} file(s) in the study's folder or beside its manifest look as if they counted, and are NOT "
            f"read: {listed}; `python jobs/status.py STUDY` says where they are and what to do."
        )
    failed = failures(study.evidence)
    if len(failed):
        yield f"Failed and not in the results: {len(failed)} (see Provenance)."
    if left_out := study.evidence.no_longer_named:
        yield (
            f"{len(left_out)} slide(s) are not named in slides.csv any more and left out: "
            f"{first_of(left_out, _MOST_FAILURES)}."
        )
    slides = study.slides()
    for state, text in (
        (SlideState.NOT_THERE, "not in the results, as nothing was made of them"),
        (SlideState.NO_SECTION, "without a section, so that they have no verdict"),
    ):
        names = slides[slides["state"] == state.value]["slide_id"].tolist()
        if names:
            yield f"{len(names)} slide(s) of Test {text}: {first_of(names, _MOST_FAILURES)}."
    failed_here = slides[slides["state"] == SlideState.FAILED.value]
    for slide in failed_here.head(_MOST_FAILURES).to_dict("records"):
        yield f"{slide['slide_id']} failed: {slide['reason']}"
    if len(failed_here) > _MOST_FAILURES:
        yield f"{len(failed_here) - _MOST_FAILURES} more slides of Test failed: see Slides."


def _resolution_lines(study: PageContent) -> Iterator[str]:
    """Which other settings Test tells apart from the headline's."""
    table = study.tables["comparisons"]
    if not isinstance(table, Table):
        return
    settings = {choice.setting for choice in study.evidence.choices}
    for row in table.frame.to_dict("records"):
        pair = {row["one"], row["other"]}
        if study.headline.setting in pair and pair <= settings:
            (other,) = pair - {study.headline.setting}
            sign = 1 if row["one"] == study.headline.setting else -1
            difference = (
                no_discordant_text(row)
                if has_no_discordant(row)
                else f"{sign * row['accuracy_difference']:+.3f} of accuracy"
            )
            yield f"Against {other}: {difference}, {'resolved' if row['is_resolved'] else NOT_RESOLVED}."
