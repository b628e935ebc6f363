"""Where a study's results come from, and what they took: runs, weights, code, ledger, failures."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import rounded
from bccdist.configuration import read_claimed
from bccdist.errors import EventLogError, first_of
from bccdist.failures import read_reason
from bccdist.files import read_json
from bccdist.models.model_file import ModelFile
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.site_choice import SiteChoice
from bccdist.slides.manifest import SectionRecord
from bccdist.stages.costs import costs_of, heading_and_rows, notes_on
from bccdist.usage import read_records

_MOST_NAMED = 10


def facts(study: Evidence) -> pd.DataFrame:
    """What the study as a whole stands on: what, and its value."""
    paths, manifest = study.paths, study.manifest
    rows = [
        ("study", paths.root.resolve().name),
        ("manifest", f"{len(manifest.slides)} slides, digest {manifest.digest}"),
        ("labels", _source_of_labels(study)),
        ("labelled by", _labelled_by(study.labelled_manifest.sections)),
        ("code that jobs ran", ", ".join(sorted(path.stem for path in paths.code.glob("*.zip"))) or "not kept"),
    ]
    return pd.DataFrame(rows, columns=["what", "value"])


def _source_of_labels(study: Evidence) -> str:
    num = len(study.corrections)
    return f"the manifest's, then {num} correction(s) in {study.paths.labels.name}" if num else "the manifest's"


def _labelled_by(sections: Iterable[SectionRecord]) -> str:
    """Who labelled how many sections, when, and of how many a model had filled in a label before."""
    labelled = [section for section in sections if section.label is not None]
    if not labelled:
        return "nobody: no section has a label"
    names = Counter(section.labelled_by or "not named" for section in labelled).most_common()
    dates = sorted(section.labelled_at for section in labelled if section.labelled_at)
    named = first_of([f"{name} ({num})" for name, num in names], _MOST_NAMED)
    when = f"; from {dates[0]} to {dates[-1]}" if dates else "; when is not known"
    return f"{named}{when}; {sum(bool(section.prefilled) for section in labelled)} of them pre-filled by a model"


def model_facts(model: ModelFile, site: SiteChoice | None = None) -> pd.DataFrame:
    """What a cohort's slides were judged by: what, and its value.

    Args:
        model: which.
        site: the site's own thresholds, where it has chosen some.
    """
    about = model.description
    network, selection, trained = about.network, about.selection, about.trained_on
    slides = {part.value: trained.num_slides.get(part.value, 0) for part in Part}
    scanners = ", ".join(f"{name or 'not named'} ({num})" for name, num in sorted(trained.scanners.items()))
    counts = ", ".join(f"{selection.counts[name]} {name.upper()}" for name in ("tp", "fn", "fp", "tn"))
    of_sections = f"{selection.num_sections} sections of {selection.num_slides} slides"
    unit = "um2" if selection.area_unit == "physical" else "um2 as if 1 um per pixel"
    rows = [
        ("model", f"{model.path.name}, digest {model.digest}"),
        ("network", f"{network.kind}, epoch {network.epoch}, {selection.psi}"),
        ("weights", network.weights_digest),
        ("input", f"{network.target_mpp:g} um per pixel, within {network.mpp_tolerance:.0%}"),
        (
            "decision" if site is None else "decision of the model",
            f"t_p {selection.t_p:g}, t_A {selection.t_a_um2:g} {unit}",
        ),
        *([] if site is None else [("decision here", site_text(site))]),
        ("chosen on", f"Validation I + II of its study: {of_sections}: {counts}, which flatters it"),
        ("trained on", f"{slides[Part.TRAINING.value]} slides; scanners: {scanners or 'not named'}"),
        ("drawn slides", "PHANTOM: it was trained on drawn slides" if trained.phantom else "none: trained on tissue"),
        ("its study's manifest", trained.manifest_digest),
        ("licence", about.licence or "nobody named one"),
        ("packed by", f"bccdist {about.made_by}"),
    ]
    return pd.DataFrame(rows, columns=["what", "value"])


def site_text(site: SiteChoice) -> str:
    """What a site chose, and what it rests on."""
    return (
        f"{site.thresholds}: chosen by the site {site.site} on {site.num_sections} labelled sections of "
        f"{site.num_slides} slides (labels {site.labels_digest})"
    )


def runs(paths: StudyPaths, choices: list[Choice]) -> pd.DataFrame:
    """A row for each chosen model: weights, configuration and the software that trained it."""
    return pd.DataFrame([_run_row(paths, choice) for choice in choices])


def _run_row(paths: StudyPaths, choice: Choice) -> dict[str, str]:
    run = paths.run(choice.setting)
    config = read_claimed(run.config) if run.config.exists() else {}
    environment = read_json(run.environment) if run.environment.exists() else {}
    return {
        "setting": choice.setting,
        "epoch": str(choice.epoch),
        "weights": choice.weights_digest,
        "configuration": str(config.get("digest", "not there")),
        "started from": _start_text(config),
        **{name: _text(value) for name, value in environment.items() if not isinstance(value, dict)},
    }


def _start_text(config: dict[str, Any]) -> str:
    """What the network was before this run."""
    if "start" in config:
        return str(config["start"]["lineage"])
    encoder = config.get("encoder_weights_sha256")
    return f"chance, and an encoder of weights {encoder[:12]}" if encoder else "chance"


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def failures(study: Evidence) -> pd.DataFrame:
    """Slides of the manifest that a stage could not process: stage, slide, reason."""
    noted = [path for path in sorted(study.paths.failures.rglob("*.json")) if path.stem in study.named]
    rows = [(path.parent.name, path.stem, read_reason(path)) for path in noted]
    return pd.DataFrame(rows, columns=["stage", "slide", "reason"])


def costs(paths: StudyPaths) -> tuple[pd.DataFrame, list[str]]:
    """Core-hours, GPU-hours and energy of each stage, and what is to be known of them; Slurm is not asked.

    Where the records cannot be read there are no rows, and the note says why.
    """
    try:
        found = costs_of(read_records(paths))
    except (EventLogError, OSError) as error:
        return pd.DataFrame(), [f"What the stages took is not known: {error}"]
    heading, *rows = heading_and_rows(found)
    if not rows:
        return pd.DataFrame(), ["What the stages took is not known: there are no records of it."]
    status = "What Slurm's accounting measured stands in `python jobs/status.py`."
    return pd.DataFrame(rows, columns=list(heading)), [*notes_on(found.values()), status]


def slide_times(study: Evidence) -> pd.DataFrame:
    """Seconds a slide took, by the ledger: for each setting and part the median and the greatest of its slides."""
    groups = study.slide_times().groupby(["setting", "part"], sort=False)
    rows = [
        {
            "setting": setting,
            "part": part,
            "slides": str(mine["slide_id"].nunique()),
            "epochs": str(mine["epoch"].nunique()),
            **_times(mine, "read_s", "reading"),
            **_times(mine, "network_s", "network"),
        }
        for (setting, part), mine in groups
    ]
    return pd.DataFrame(rows)


def _times(slides: pd.DataFrame, column: str, name: str) -> dict[str, str]:
    median, most = rounded([slides[column].median(), slides[column].max()], 2)
    return {f"{name}, median s": median, f"{name}, most s": most}
