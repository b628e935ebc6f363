"""What a transfer is judged from: the cohort's sections, the model's reference, and the labels of today."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.site_transfer.labels import Drawn, SiteLabels, require_enough, site_labels
from analysis.site_transfer.next_labels import place_in_draw
from analysis.site_transfer.sections import MeasuredSections
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.relabel_match import match_sections
from bccdist.configuration import SelectConfig
from bccdist.errors import ConfigurationError, LedgerError, ModelError, NothingToShowError, first_of
from bccdist.files import digest_of
from bccdist.models.model_file import GRID, REFERENCE, ModelFile, read_model
from bccdist.models.reference import choice_of
from bccdist.models.reference import reference_of as reference_table
from bccdist.parts import Part
from bccdist.sections.choices import Choice
from bccdist.sections.labels import with_labels
from bccdist.slides.manifest import SectionRecord, read_sections

DRAWN = "drawn"
"""Column of a work list, and of a file of labels that was made from one: random, active or both."""
SEED = "seed"
"""Column of the draw's seed. Lists without it drew from what was not taken for what it tells: no random sample."""
_HOW = ("random", "active", "both")
_MOST_FAULTS = 5


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A model and a site's sections."""

    study: Evidence
    model: ModelFile
    config: SelectConfig
    """The grid that the model's thresholds were chosen from."""
    reference: MeasuredSections
    here: MeasuredSections
    labels: SiteLabels
    notes: tuple[str, ...] = ()
    """What of the given labels was not used."""


def read_transfer(study: Evidence, model: Path | None, labels: Path | None, drawn: Drawn | None) -> Transfer:
    """Read all of it.

    Args:
        study: the cohort.
        model: its model file; None is its own copy.
        labels: a sections.csv over the cohort's own labels; None is these alone.
        drawn: how all labelled sections were drawn, where somebody says so.

    Raises:
        ConfigurationError: the folder is no cohort, or of another model; or the model is of drawn slides and these
            are not, or the other way round.
        ModelError: the model file is damaged, or of a version without a reference.
        LedgerError: nothing was inferred, or labels are of unknown sections, of one kind alone or too few.
    """
    own = _model_of(study, model)
    choice = choice_of(own.description)
    reference = reference_of(own, choice)
    _refuse_phantom(study, own)
    table = study.ledger
    table = table.filter(pa.compute.equal(table["part"], Part.TEST.value))
    given, how, notes = _given(study, labels)
    here = MeasuredSections.of(with_labels(table, given), choice)
    if not here.num:
        raise NothingToShowError(f"{study.root}: none of its {here.num_unread} sections was read whole")
    if here.num and set(table["weights_digest"].to_pylist()) != {choice.weights_digest}:
        raise LedgerError(
            f"{study.root}: its rows come from other weights than the model's, {choice.weights_digest}; run "
            "`python jobs/launch_apply.py` again"
        )
    found = site_labels(here, drawn_by_lists(_work_lists(study), here, how), are=drawn, digest=_digest(here))
    if labels is not None:
        require_enough(found, str(labels))
    config = grid_of(own)
    return Transfer(study=study, model=own, config=config, reference=reference, here=here, labels=found, notes=notes)


def _model_of(study: Evidence, given: Path | None) -> ModelFile:
    if not study.is_cohort:
        raise ConfigurationError(
            f"{study.root}: no cohort, as no model lies in it; `python jobs/launch_apply.py --model M --slides FOLDER "
            "--out COHORT` makes one"
        )
    own = study.model
    if given is not None and (other := read_model(given)).digest != own.digest:
        raise ConfigurationError(
            f"{study.root} is a cohort of another model: its own has the digest {own.digest}, and {given} has "
            f"{other.digest}; give its own model, or the cohort of this one"
        )
    return own


def reference_of(model: ModelFile, choice: Choice) -> MeasuredSections:
    """The sections that a model was chosen on, without names.

    Raises:
        ModelError: the file has none, or too few to compare with.
    """
    if REFERENCE not in model.names():
        raise ModelError(
            f"{model.path}: no {REFERENCE} in it, so there is nothing to compare with; pack the model again with "
            "`python jobs/pack_model.py`"
        )
    return MeasuredSections.of(reference_table(model), choice, slide="slide")


def grid_of(model: ModelFile) -> SelectConfig:
    """The grid of thresholds that a model was chosen from."""
    grid, about = pq.read_table(io.BytesIO(model.read(GRID)), columns=["t_p", "t_a_um2"]), model.description.selection
    t_p, t_a_um2 = (sorted(set(grid[name].to_pylist())) for name in ("t_p", "t_a_um2"))
    return SelectConfig(
        beta=about.beta,
        probability_step=t_p[0],
        area_step_um2=t_a_um2[0],
        num_area_steps=len(t_a_um2),
        area_unit=about.area_unit,
    )


def _refuse_phantom(study: Evidence, model: ModelFile) -> None:
    drawn, of_drawn = study.manifest.is_phantom, model.description.trained_on.phantom
    if of_drawn and not drawn:
        raise ConfigurationError(
            f"{study.root}: its model was trained on drawn slides (a phantom), and these are not drawn: it says "
            "nothing of tissue; take a model that was trained on tissue"
        )


def _given(study: Evidence, labels: Path | None) -> tuple[list[SectionRecord], pd.Series, tuple[str, ...]]:
    """The labels of a file as the cohort's sections, how they were drawn where it says so, and what was left out."""
    if labels is None:
        return [], _how({}), ()
    rows = [row for row in read_sections(labels) if row.label is not None]
    there = study.sections_in_ledger
    found = match_sections(rows, there, {slide_id for slide_id, _ in there})
    foreign = found.unknown_slides
    # A file of a whole data set holds other slides, too; one that speaks of none of these is the wrong one.
    unknown = [f"slide {slide_id}" for slide_id in foreign] if len(foreign) == len(rows) else []
    if faults := [*found.faults, *unknown]:
        listed = "; ".join(faults[:_MOST_FAULTS])
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise LedgerError(
            f"{labels}: {len(faults)} of its {len(rows)} labelled sections are none of the cohort {study.root}: "
            f"{listed}{more}; give the sections.csv of this cohort's slides"
        )
    given = [
        replace(section, label=row.label, labelled_by=row.labelled_by, labelled_at=row.labelled_at)
        for row, section in found.pairs
    ]
    how = {
        (section.slide_id, section.section_id): drawn
        for row, section in found.pairs
        if (drawn := _how_drawn(row.extra)) is not None
    }
    slides = first_of(list(dict.fromkeys(foreign)), _MOST_FAULTS)
    note = f"{len(foreign)} of the {len(rows)} labels of {labels} name slides that are not in this cohort: {slides}."
    return given, _how(how), (note,) if foreign else ()


def _how(drawn: dict[tuple[str, str], str]) -> pd.Series:
    keys = (
        pd.MultiIndex.from_tuples(list(drawn), names=["slide_id", "section_id"])
        if drawn
        else pd.MultiIndex(levels=[[], []], codes=[[], []], names=["slide_id", "section_id"])
    )
    return pd.Series(list(drawn.values()), index=keys, dtype=object)


def _how_drawn(row: Mapping[Any, Any]) -> str | None:
    """How a row of a list was drawn; None where that is not known, as of lists that have no seed."""
    how = row.get(DRAWN)
    return how if how in _HOW and (str(row.get(SEED, "")).isdigit() or how == "active") else None


def drawn_by_lists(lists: Iterable[pd.DataFrame], here: MeasuredSections, given: pd.Series) -> pd.Series:
    """How sections were drawn: "random", "active" or "both" by (slide_id, section_id).

    Each list goes on along one random order of the whole cohort. A section that it passed over, as it had a label
    already, belongs to the random sample as far as the list's random ones have labels.

    Args:
        lists: the work lists that were given out, the first first.
        here: the cohort with the labels of today.
        given: the same as a file of labels says it.
    """
    drawn: dict[Any, str] = {key: str(how) for key, how in given.items()}
    labelled = set(here.frame.loc[here.is_labelled, ["slide_id", "section_id"]].itertuples(index=False, name=None))
    reached: dict[int, str] = {}
    for row in (row for listed in lists for row in listed.to_dict("records")):
        key, how = (row["slide_id"], row["section_id"]), _how_drawn(row)
        if how is None:
            continue
        drawn[key] = _joined(drawn.get(key), how)
        if how != "active" and key in labelled:
            seed = int(row[SEED])
            reached[seed] = max(reached.get(seed, ""), place_in_draw(seed, *key))
    for key in labelled:
        if any(place_in_draw(seed, *key) <= last for seed, last in reached.items()):
            drawn[key] = _joined(drawn.get(key, "active"), "random")
    return _how(drawn)


def _work_lists(study: Evidence) -> Iterator[pd.DataFrame]:
    for path in sorted(study.paths.transfer.glob("worklist-*.csv")):
        yield pd.read_csv(path, dtype=str, keep_default_na=False)


def _joined(one: str | None, other: str) -> str:
    """How a section was drawn of which two lists say something."""
    return other if one is None or one == other else "both"


def _digest(here: MeasuredSections) -> str:
    mine = here.frame[here.is_labelled]
    return digest_of(sorted(zip(mine["slide_id"], mine["section_id"], mine["label"], strict=True)))
