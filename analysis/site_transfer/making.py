"""Whether a model holds on a cohort: `python analysis/transfer.py COHORT --model M [--labels sections.csv]`.

In COHORT/transfer lie the page, its tables, the work list of what to label next, and the site's own thresholds where
there are labels enough to choose them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from analysis.site_transfer.holding import Holding, holding, looks_swapped, named
from analysis.site_transfer.next_labels import next_labels
from analysis.site_transfer.reading import Transfer, read_transfer
from analysis.site_transfer.sections import MeasuredSections, lacks
from analysis.site_transfer.shift import (
    FEWEST_SLIDES,
    MOST_SLIDES,
    TOLERANCE,
    Shift,
    find_shift,
    power_of_refuting,
    slides_to_refute,
)
from analysis.site_transfer.shifted_triage import ShiftedTriage, shifted_triage
from analysis.site_transfer.thresholds import Goal, Judged, SiteThresholds, sections_needed, site_thresholds
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import write_frame
from bccdist import __version__
from bccdist.errors import ConfigurationError
from bccdist.files import write_text
from bccdist.parts import Label
from bccdist.sections.site_choice import SiteChoice

NUM_NEXT = 40
_CHOICE = "STUDY/transfer/site_choice.json"
_TAKE = (
    "`python jobs/launch_apply.py --model STUDY/model.bcc --slides STUDY/slides.csv --out STUDY --site-choice "
    f"{_CHOICE}`, with the flags of before"
)
DRIVES = 0.0005
"""Least share of the difference that a slide drives: less is printed as 0.0 %."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """All that was found, for page and tables."""

    transfer: Transfer
    goal: Goal
    shift: Shift
    by_label: dict[str, Shift]
    measured: SiteThresholds | None
    triage: ShiftedTriage
    holding: Holding
    power: float
    slides_needed: int | None
    """Slides from which on a site without any shift would mostly be called alike; None where no number is enough."""
    worklist: pd.DataFrame
    worklist_path: Path
    site_choice: Path | None
    """The site's thresholds; None where there are none to give."""
    notes: tuple[str, ...] = ()
    """What was done with files: labels that were not used, a site's choice that is kept or was removed."""
    next_steps: tuple[str, ...] = ()

    @property
    def takes_site(self) -> bool:
        """Whether the site's thresholds are what is recommended: the model's do not reach the goal, and these do."""
        return self.site_choice is not None and self.holding.is_mended and self.holding.state == "does not hold"

    @property
    def relied_on(self) -> Judged | None:
        """What the recommended thresholds do; None where nothing was measured."""
        if self.measured is None:
            return None
        return self.measured.after if self.takes_site else self.measured.before

    @property
    def is_out_of_reach(self) -> bool:
        """Whether a figure is no better than the goal at the model's thresholds, and one at the site's: no promise."""
        if self.measured is None:
            return False
        return all(
            any(
                judged.bounds[name].num and judged.bounds[name].value <= getattr(self.goal, name)
                for name in ("sensitivity", "specificity")
            )
            for judged in (self.measured.before, self.measured.after)
        )

    @property
    def needed(self) -> dict[str, int | None]:
        """Labelled sections of each kind that would bear the goal, if as many are right as were found."""
        if (judged := self.relied_on) is None:
            return {}
        bounds = judged.bounds
        return {
            name: sections_needed(bounds[name].value, getattr(self.goal, name), bounds[name].effect)
            for name in ("sensitivity", "specificity")
        }


def write_transfer(
    study: Evidence,
    model: Path | None = None,
    labels: Path | None = None,
    *,
    drawn: Literal["random", "active"] | None = None,
    goal_sensitivity: float = 0.9,
    goal_specificity: float = 0.8,
    tolerance: float = TOLERANCE,
    num_next: int = NUM_NEXT,
    seed: int = 0,
) -> str:
    """Say whether a model holds on a cohort, why, and what to do next.

    Args:
        study: The cohort's folder.
        model: The model file; default is the cohort's own copy of it.
        labels: A sections.csv over the labels that the cohort has; an export of the review, or a work list filled in.
        drawn: How the labelled sections were drawn, where no work list says so; default is that it is not known.
        goal_sensitivity: Share of Tumor sections to be found before verdicts are relied upon.
        goal_specificity: Share of Normal sections to be called so.
        tolerance: How far the share of pairs of slides may be from one half before both are not called alike.
        num_next: How many sections the next work list names.
        seed: Seed of the permutations and of the random draw.

    Raises:
        ConfigurationError: the folder is no cohort, or of another model; or a number cannot work.
        ModelError: the model file is damaged, or has no reference.
        LedgerError: nothing was inferred, or the labels are of unknown sections, of one kind alone or too few.
    """
    _require_numbers(goal_sensitivity=goal_sensitivity, goal_specificity=goal_specificity, tolerance=2 * tolerance)
    if num_next < 0:
        raise ConfigurationError(f"num_next is {num_next}, expected 0 or more")
    goal = Goal(sensitivity=goal_sensitivity, specificity=goal_specificity)
    transfer = read_transfer(study, model, labels, drawn)
    from analysis.site_transfer.page import write_page

    found = judge(transfer, goal, tolerance=tolerance, num_next=num_next, seed=seed)
    _write_tables(found)
    page = write_page(found)
    return study.pasteable("\n".join([found.holding.sentence, "", *_listed(found), "", str(page)]))


def _listed(found: Judgement) -> list[str]:
    return [
        *(f"why: {line}" for line in found.holding.why),
        *(f"note: {line}" for line in found.notes),
        *(f"next: {line}" for line in found.next_steps),
    ]


def _require_numbers(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 < share < 1:
            what, half = (name, 1.0) if name != "tolerance" else (name, 0.5)
            raise ConfigurationError(f"{what} is {share * half:g}, expected above 0 and below {half:g}")


def judge(transfer: Transfer, goal: Goal, *, tolerance: float, num_next: int, seed: int = 0) -> Judgement:
    """Find all that the page says; writes the work list and the site's choice."""
    reference, here, labels = transfer.reference, transfer.here, transfer.labels
    shift = find_shift(reference, here, tolerance=tolerance, seed=seed)
    by_label = shifts_by_label(reference, labels.random.sections, tolerance=tolerance, seed=seed)
    measured = None if labels.lack else site_thresholds(labels, transfer.config, goal=goal)
    measures = list(shift.frame["measure"])
    power = power_of_refuting(reference, measures, here.num_slides, tolerance=tolerance, seed=seed)
    verdict = holding(here, shift, by_label, labels, measured, power=power)
    # A label of too few slides counts for nothing, so that none is asked for.
    worklist = next_labels(reference, here, 0 if labels.more_slides else num_next, seed=seed)
    needed = (
        None if shift.is_found or here.num_slides == 1 else slides_to_refute(reference, measures, tolerance=tolerance)
    )
    site_choice, choice_note = _write_choice(transfer, measured)
    found = Judgement(
        transfer=transfer,
        goal=goal,
        shift=shift,
        by_label=by_label,
        measured=measured,
        triage=shifted_triage(reference, here, shift, labels),
        holding=verdict,
        power=power,
        slides_needed=needed,
        worklist=worklist,
        worklist_path=_write_worklist(transfer, worklist),
        site_choice=site_choice,
        notes=(*transfer.notes, *([choice_note] if choice_note else [])),
    )
    return Judgement(**{**vars(found), "next_steps": tuple(_next_steps(found))})


def shifts_by_label(
    reference: MeasuredSections, labelled: MeasuredSections, *, tolerance: float = TOLERANCE, seed: int = 0
) -> dict[str, Shift]:
    """The shift among Tumor and among Normal sections, where both sides have some of a few slides.

    Args:
        reference: what the model was chosen on.
        labelled: sections of the cohort that were labelled at random.
        tolerance: of equivalence.
        seed: of the permutations.
    """
    found = {}
    for kind in Label:
        there, mine = (
            each.where((each.frame["label"] == kind.value).to_numpy(dtype=bool)) for each in (reference, labelled)
        )
        if min(there.num_slides, mine.num_slides) >= FEWEST_SLIDES:
            found[kind.value] = find_shift(there, mine, tolerance=tolerance, seed=seed)
    return found


def _write_worklist(transfer: Transfer, worklist: pd.DataFrame) -> Path:
    """A sections.csv to be filled in, or to be given to the review; lists that were given out stay as they are."""
    folder = transfer.study.paths.transfer
    rows = worklist.assign(label="")[["slide_id", "section_id", "label", "drawn", "why", "seed"]]
    text = rows.to_csv(index=False, lineterminator="\n")
    number = 1
    while (path := folder / f"worklist-{number:03d}.csv").exists():
        if path.read_text(encoding="utf-8") == text:
            return path
        number += 1
    if len(rows):
        write_text(path, text)
    return path


def _write_choice(transfer: Transfer, measured: SiteThresholds | None) -> tuple[Path | None, str]:
    """The site's choice as a file, and what became of one of before; none where nothing mends or changes the model."""
    path = transfer.study.paths.transfer / "site_choice.json"
    there = path.exists()
    if measured is None:
        return (
            None,
            f"{_CHOICE} is of labels of an earlier run; without such labels it stays as it is." if there else "",
        )
    if measured.is_beyond_mending or measured.is_same:
        path.unlink(missing_ok=True)
        return (
            None,
            f"{_CHOICE} of an earlier run was removed, as these labels choose no other thresholds." if there else "",
        )
    sections = transfer.labels.sections
    SiteChoice(
        model_digest=transfer.model.digest,
        site=transfer.study.root.resolve().name,
        t_p=measured.site.t_p,
        t_a_um2=measured.site.t_a_um2,
        area_unit=measured.site.area_unit,
        labels_digest=transfer.labels.digest,
        num_sections=sections.num,
        num_slides=sections.num_slides,
        figures={
            name: {
                figure: [each.value, each.low, each.high]
                for figure, each in judged.figures.items()
                if figure in ("sensitivity", "specificity") and each.value == each.value
            }
            for name, judged in (("before", measured.before), ("after", measured.after))
        },
        made_by=__version__,
    ).write(path)
    return path, ""


def _next_steps(found: Judgement) -> list[str]:
    """What to do next, the first thing first."""
    if found.transfer.here.num_slides == 1 and found.transfer.labels.num_cohort:
        return [f"{_sentence(found.transfer.labels.more_slides)}."]
    steps = [*_label_steps(found), *_needed_steps(found), *_shift_steps(found)]
    if found.holding.state == "holds":
        steps.append("Ask again when scanner, stain or staff change, or every few hundred slides.")
    if found.measured is not None and found.site_choice is not None:
        steps.append(choice_line(found, found.measured))
    return steps


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _label_steps(found: Judgement) -> list[str]:
    """What the labels ask for, and which sections to label."""
    steps, measured, name = [], found.measured, found.worklist_path.name
    again = "`python analysis/transfer.py STUDY --labels EXPORT/sections.csv`"
    if measured is not None and looks_swapped(measured):
        steps.append(
            "Check the labels first, as all else here rests on them: look at some labelled sections with `python "
            "jobs/review.py STUDY --reviewer NAME`."
        )
    if measured is not None and measured.is_beyond_mending:
        steps.append(
            "Do not use this model's verdicts here. What differs has to be mended before the network (staining, "
            "scanning, focus), or the network trained on slides of this site."
        )
    if found.takes_site:
        steps.append(f"Take the site's thresholds: {_TAKE}.")
    is_beyond = measured is not None and measured.is_beyond_mending
    if found.holding.state == "holds" or found.holding.others_hold or is_beyond:
        return steps
    if not found.transfer.labels.num_cohort:
        steps.append(
            "Scan or prepare these slides anew, then apply the model to the new files in a new cohort: no label of a "
            "section that is not assessable counts."
        )
    elif more := found.transfer.labels.more_slides:
        steps.append(f"{_sentence(more)}. Label none before that.")
    elif found.is_out_of_reach:
        steps.append(
            "More labels do not lead to the goal while so few are right, at the model's thresholds as at this site's: "
            "look at the wrong verdicts, and mend what differs before the network, or train it on slides of this site."
        )
    elif len(found.worklist):
        steps.append(
            f"Label the {len(found.worklist)} sections of {name}: `python jobs/review.py STUDY --reviewer NAME "
            f"--worklist STUDY/transfer/{name}`, then `python jobs/review.py STUDY --export EXPORT` and {again}."
        )
    else:
        steps.append(
            "All assessable sections here are labelled: apply the model to more slides of this site and ask again."
        )
    return steps


def _needed_steps(found: Judgement) -> list[str]:
    """How many more labels would bear the goal; none where no label mends it."""
    judged, measured = found.relied_on, found.measured
    if judged is None or measured is None or measured.is_beyond_mending:
        return []
    whose, steps = "this site's" if found.takes_site else "the model's", []
    for figure, kind in (("sensitivity", "Tumor"), ("specificity", "Normal")):
        num, there = found.needed[figure], judged.bounds[figure].num
        if num and num > there and not found.is_out_of_reach:
            steps.append(
                f"A {figure} of {getattr(found.goal, figure):g} takes about {num} {kind} sections drawn at random, if "
                f"as large a share stays right at {whose} thresholds: {num - there} more than there are."
            )
        elif num is None and there:
            steps.append(
                f"A {figure} of {getattr(found.goal, figure):g} is not promised by any number of labels at {whose} "
                f"thresholds: {judged.bounds[figure].value:.1%} were right."
            )
    return steps


def _shift_steps(found: Judgement) -> list[str]:
    """What would tell more of a shift."""
    steps, shift = [], found.shift
    if not shift.is_found and not shift.is_refuted and not shift.not_measured and found.transfer.labels.num_cohort:
        needed = f"about {found.slides_needed}" if found.slides_needed else f"more than {MOST_SLIDES}"
        steps.append(
            f"To refute a shift without labels takes {needed} slides of this site beside the "
            f"{found.transfer.reference.num_slides} of the model's reference."
        )
    if shift.is_found:
        steps += _driving_slides(shift)
    if shift.not_measured:
        steps += _measuring(found)
    return steps


def choice_line(found: Judgement, measured: SiteThresholds) -> str:
    """What the written site_choice.json is, and whether to take it."""
    told = f"{_CHOICE} was written: the thresholds that these labels choose, {measured.site}, with its own digest"
    if found.takes_site:
        return f"{told}; the model file stays as it is."
    return (
        f"{told}. Nothing takes it by itself, and it is not recommended: while the answer is `{found.holding.state}` "
        f"the model's own thresholds stay. Who takes it all the same: {_TAKE}."
    )


def _measuring(found: Judgement) -> list[str]:
    """How what was not measured comes to be: heatmaps that are there are never remade by themselves."""
    choice, names = found.transfer.here.choice, found.shift.not_measured
    where = f"{choice.setting}/epoch-{choice.epoch:03d}"
    apply = "`python jobs/launch_apply.py --model {} --slides STUDY/slides.csv --out {}`, with the flags of before"
    if lacking := lacks(found.transfer.reference, names):
        step = (
            f"The model file lacks {named(lacking)}, as the heatmaps that it was packed from do. In the study that it "
            f"was trained in, S here, make them anew: `rm -r S/heatmaps/{where} S/ledger/{where}`, then `python "
            f"jobs/launch_infer.py --study S --setting {choice.setting} --parts val1 val2 test --epochs chosen`, then "
            "`python jobs/pack_model.py S --out NEW.model`. A cohort keeps its model, so make another one: "
            f"{apply.format('NEW.model', 'NEW_COHORT')}."
        )
    elif lacking := lacks(found.transfer.here, names):
        step = (
            f"The cohort lacks {named(lacking)}. Make its heatmaps anew: `rm -r STUDY/heatmaps/{where} "
            f"STUDY/ledger/{where}`, then {apply.format('STUDY/model.bcc', 'STUDY')}."
        )
    else:
        return []
    return [step]


def _driving_slides(shift: Shift) -> list[str]:
    """The step that names them; empty where none drives it."""
    influence = shift.influence.sort_values(ascending=False).head(3)
    worst = [str(slide_id) for slide_id, share in influence.items() if share >= DRIVES]
    return [f"Look at the slides that drive the difference: {', '.join(worst)}."] if worst else []


def _write_tables(found: Judgement) -> None:
    folder = found.transfer.study.paths.transfer
    for name, frame in tables_of(found).items():
        write_frame(folder / f"{name}.parquet", frame, name)
        write_text(folder / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))


def tables_of(found: Judgement) -> dict[str, pd.DataFrame]:
    """The tables by name, as they are written."""
    marks = {
        "phantom": found.transfer.study.manifest.is_phantom,
        "phantom_weights": found.transfer.here.choice.phantom_weights,
    }
    every = {"all": found.shift, **found.by_label}
    shifts = pd.concat([each.frame.assign(sections=name) for name, each in every.items()], ignore_index=True)
    return {
        "transfer_shift": shifts.assign(**marks),
        "transfer_slides": slides_frame(found).assign(**marks),
        "transfer_thresholds": thresholds_frame(found).assign(**marks),
        "transfer_triage": found.triage.frame.assign(**marks),
    }


def slides_frame(found: Judgement) -> pd.DataFrame:
    """A row for each slide of the cohort: how much it drives the difference, and what is most unusual about it."""
    reference, here = found.transfer.reference.slide_means(), found.transfer.here.slide_means()
    middle = reference.median()
    spread = (reference - middle).abs().median() * 1.4826
    apart = (here - middle) / spread.where(spread > 0)
    rows = []
    counts = found.transfer.here.frame["slide_id"].value_counts().to_dict()
    influence = found.shift.influence.to_dict()
    values_of = here.to_dict("index")
    for slide_id, deviations in apart.to_dict("index").items():
        known = {str(name): float(each) for name, each in deviations.items() if not pd.isna(each)}
        measure = max(known, key=lambda name: abs(known[name]), default="")
        rows.append(
            {
                "slide_id": str(slide_id),
                "num_sections": int(counts[slide_id]),
                "influence": float(influence[slide_id]),
                "measure": measure,
                "value": float(values_of[slide_id][measure]) if measure else float("nan"),
                "reference": float(middle[measure]) if measure else float("nan"),
                "deviations": known.get(measure, float("nan")),
            }
        )
    frame = pd.DataFrame(rows).assign(apart=lambda made: made["deviations"].abs())
    # Where nothing drives it, those that lie furthest come first.
    frame["influence"] = frame["influence"].where(frame["influence"].abs() >= DRIVES, 0.0)
    order = ["influence", "apart", "slide_id"]
    return frame.sort_values(order, ascending=[False, False, True], ignore_index=True).drop(columns="apart")


def thresholds_frame(found: Judgement) -> pd.DataFrame:
    """A row for before and after: thresholds, figures with intervals, and the bounds of the random sections."""
    columns = ["thresholds", "t_p", "t_a_um2", "num_sections", "num_slides", "num_random", "t_p_low", "t_p_high"]
    columns += ["t_a_low_um2", "t_a_high_um2", "agreement"]
    figures = ("accuracy", "sensitivity", "specificity", "f_beta")
    columns += [f"{name}{end}" for name in figures for end in ("", "_low", "_high")]
    columns += [f"{name}_{end}" for name in figures[1:3] for end in ("at_least", "at_most", "effect", "needed")]
    columns += ["best_sensitivity", "best_sensitivity_high", "is_beyond_mending"]
    if (measured := found.measured) is None:
        return pd.DataFrame(columns=columns)
    labels = found.transfer.labels
    rows = []
    for name, judged, thresholds in (
        ("model", measured.before, measured.model),
        ("site", measured.after, measured.site),
    ):
        of_site = name == "site"
        row: dict[str, Any] = {
            "thresholds": name,
            "t_p": thresholds.t_p,
            "t_a_um2": thresholds.t_a_um2,
            "num_sections": labels.sections.num,
            "num_slides": labels.sections.num_slides,
            "num_random": int(labels.is_random.sum()),
            "t_p_low": measured.t_p_range[0] if of_site else None,
            "t_p_high": measured.t_p_range[1] if of_site else None,
            "t_a_low_um2": measured.t_a_range_um2[0] if of_site else None,
            "t_a_high_um2": measured.t_a_range_um2[1] if of_site else None,
            "agreement": measured.agreement if of_site else None,
            **{key: value for each in figures for key, value in judged.figures[each].columns(each).items()},
            "best_sensitivity": measured.best_sensitivity.value,
            "best_sensitivity_high": measured.best_sensitivity.high,
            "is_beyond_mending": measured.is_beyond_mending,
        }
        for each in figures[1:3]:
            bound = judged.bounds[each]
            row |= {f"{each}_at_least": bound.low, f"{each}_at_most": bound.high, f"{each}_effect": bound.effect}
            row[f"{each}_needed"] = sections_needed(bound.value, getattr(found.goal, each), bound.effect)
        rows.append(row)
    return pd.DataFrame(rows, columns=columns)
