"""A trained model on any slides: `python jobs/launch_apply.py --model bcc.model --slides FOLDER --out cohorts/lab2`.

Makes heatmaps, verdicts, pictures, regions and a report of all slides, in a folder that all commands take like a
study. Called again, it computes what is new.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from bccdist.addresses import Address, Location
from bccdist.configuration import PHANTOM_WEIGHTS_WARNING, InferConfig
from bccdist.errors import BccdistError, ManifestError
from bccdist.files import as_given
from bccdist.log import LOG
from bccdist.models.cohort import lacks_of_model, require_place_for, site_choice_of, unpack_model
from bccdist.models.cohort_slides import CohortSlides, Look, is_table, look_at, slides_of_cohort
from bccdist.models.model_file import SPEEDUPS, ModelFile, read_model
from bccdist.models.reference import quality_limits
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.processes import num_cores
from bccdist.slide_runner import advice_on_slides
from bccdist.speedups.machine import cpu_here, why_unsuited
from bccdist.speedups.record import MEASURE_HERE, machine_in
from bccdist.stages.table import TABLES, TEST_HEATMAPS
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.given_manifest import GivenManifest, for_this_run
from jobs.slurm.sites import ClusterConfig, num_local_gpus
from jobs.stages import launch_entries

_MOST_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class ApplyArguments(LauncherArguments):
    """Apply a trained model to slides: heatmaps, verdicts, pictures, regions and a report."""

    study: Annotated[Path, tyro.conf.arg(name="out", aliases=["--study"])] = tyro.MISSING
    """Folder of the cohort: the outputs; made at first, and taken up again later."""
    model: Path = tyro.MISSING
    """The model file, of `python jobs/pack_model.py`."""
    slides: GivenManifest = tyro.MISSING
    """A folder, searched with those below it; a slide; a .txt with a path in each line; or a slides.csv, which may lie
    on a server and name slides there."""
    site_choice: Path | None = None
    """The site's own thresholds for this model, of `python analysis/transfer.py`; kept in the cohort from then on."""
    config: Annotated[InferConfig, FLAT] = field(default_factory=InferConfig)


def launch_apply(arguments: ApplyArguments) -> None:
    """Submit heatmaps and tables of all slides of the cohort.

    Raises:
        ModelError: the model file is damaged, or of another version.
        ManifestError: there are no slides, or they have faults.
        ConfigurationError: something is lacking, or the folder is something else; then nothing was done.
        StageFailedError: some slides failed locally, after everything else is done.
    """
    launch = arguments.launch
    model = read_model(as_given(arguments.model))
    require_place_for(model, launch.study)
    site = as_given(arguments.site_choice) if arguments.site_choice else None
    _tell_site_choice(model, site, StudyPaths(launch.study).site_choice)
    found = slides_of_cohort(_on_this_machine(arguments.slides), launch.study)
    network = model.description.network
    look = look_at(found.new, replace(network, mpp_tolerance=arguments.config.mpp_tolerance))
    found = found.with_drawn(look.drawn)
    lacks = [
        *lacks_of_model(model),
        *_lacks_of_config(model, arguments.config, launch.cluster),
        *_lacks_of_slides(found, look, arguments.slides),
    ]
    if launch.only_missing and found.changed:
        # It asks for files alone: verdicts of other um/px or boxes would stand.
        lacks.append(
            f"{len(found.changed)} slide(s) have another um/px or other sections than at the newest launch, such as "
            f"{found.changed[0]}: leave --only-missing out, so that what was made of them is compared"
        )
    _tell(model, arguments.config, found, look)
    is_new = not launch.study.exists() or not any(launch.study.iterdir())

    def begin() -> None:
        unpack_model(model, launch.study, site_choice=site)
        found.write()

    try:
        entries = {TEST_HEATMAPS: arguments.config, TABLES: None}
        launch_entries(launch, found.manifest, entries, [network.setting], lacks=lacks, begin=begin)
    except BccdistError:
        # Nothing was made in it, so that the folder is free for another model.
        if is_new and not launch.dry_run and not launch.paths.journal.exists():
            shutil.rmtree(launch.study, ignore_errors=True)
        raise


def _on_this_machine(slides: Location) -> Path:
    """Where the slides are named: of a server a slides.csv alone, which is fetched.

    Raises:
        ManifestError: an address is something else, or the fetched one has faults.
        RemoteError: it did not come.
    """
    if isinstance(slides, Address) and slides.suffix.lower() != ".csv":
        raise ManifestError(
            f"--slides {slides} lies on a server, which is not searched for slides: give a slides.csv (columns "
            "slide_id and path), on this machine or there, with an address in each row"
        )
    return as_given(slides) if isinstance(slides, Path) else for_this_run(slides, all_in=Part.TEST)


def _tell_site_choice(model: ModelFile, given: Path | None, kept: Path) -> None:
    """Say which thresholds hold, where they are a site's.

    Raises:
        ModelError: the site's choice is damaged, or of another model.
    """
    path = given or (kept if kept.exists() else None)
    if path is None:
        return
    site, own = site_choice_of(model, path), model.description.selection
    LOG.info(
        f"verdicts at the thresholds of the site {site.site}, {site.thresholds}, from {site.num_sections} labelled "
        f"sections; the model's own are t_p {own.t_p:g}, t_A {own.t_a_um2:g} um2 ({path})"
    )


def _lacks_of_config(model: ModelFile, config: InferConfig, cluster: ClusterConfig) -> Iterator[str]:
    psi = model.description.selection.psi
    if config.exit not in (None, psi):
        yield f"exit is {config.exit}, and the thresholds are for {psi}, which would not be computed: leave --exit out"
    if config.needs_speedups:
        yield from _lacks_of_speedups(model, cluster)


def _lacks_of_speedups(model: ModelFile, cluster: ClusterConfig) -> Iterator[str]:
    """What is asked for rests on a speed-up record of the kind of machine that will work: here, or a node's own."""
    records = [name for name in model.names() if name.startswith(SPEEDUPS) and name.endswith(".json")]
    machines = [machine for name in records if (machine := machine_in(model.read(name)))]
    if not machines:
        version = ", but one of another version" if records else ""
        yield f"{model.path}: no speed-up record in it{version}, which what is asked for needs: {MEASURE_HERE}"
    elif cluster.resolved == "slurm" or num_local_gpus():
        measured = "; ".join(map(str, machines))
        LOG.info(f"the model's ways were measured on {measured}: a job on another kind of machine is refused")
    else:
        faults = [why_unsuited(machine, cpu_here(num_cores()), engine=None) for machine in machines]
        if all(faults):
            told = "; ".join(f"{machine.name}: {fault}" for machine, fault in zip(machines, faults, strict=True))
            yield f"{model.path}: no speed-up record in it suits this machine ({told}): {MEASURE_HERE}"


def _where_set(source: Location) -> str:
    """Which table takes what the files of slides lack; where nothing is launched a cohort keeps none of them."""
    if isinstance(source, Address) or is_table(source):
        return f"in {source}"
    return f"in a slides.csv, given as --slides: `python jobs/make_manifest.py {source} --out FOLDER` begins one"


def _lacks_of_slides(found: CohortSlides, look: Look, source: Location) -> Iterator[str]:
    """Slides fail one by one; only where none of the new ones can be used there is nothing to launch for."""
    if found.new and not look.num_usable and not look.num_unseen:
        yield from (f"slide {slide_id}: {reason}" for slide_id, reason in list(look.unusable.items())[:_MOST_NAMED])
        if len(look.unusable) > _MOST_NAMED:
            yield f"... and {len(look.unusable) - _MOST_NAMED} more: none of the new slides can be used"
        yield f"what the files do not say, such as mpp, is set {_where_set(source)}"


def _tell(model: ModelFile, config: InferConfig, found: CohortSlides, look: Look) -> None:
    if model.description.trained_on.phantom:
        LOG.warning(f"{model.path}: {PHANTOM_WEIGHTS_WARNING}")
    if doubt := quality_limits(model).warning:
        LOG.warning(f"{model.path}: {doubt}")
    if config.mpp_tolerance != (usual := model.description.network.mpp_tolerance):
        LOG.warning(
            f"mpp_tolerance is {config.mpp_tolerance:g}, the model was made with {usual:g}: verdicts may differ"
        )
    LOG.info(f"{len(found.manifest.slides)} slides, {len(found.new)} of them new")
    for note in found.notes:
        LOG.info(note)
    if look.num_usable:
        for slide_id, reason in list(look.unusable.items())[:_MOST_NAMED]:
            LOG.warning(f"slide {slide_id} will fail: {reason}")
        if len(look.unusable) > _MOST_NAMED:
            LOG.warning(f"{len(look.unusable) - _MOST_NAMED} more slides will fail, each with its reason")
        if look.unusable:
            LOG.warning(advice_on_slides(found.manifest.path, is_cohort=True))
    if look.num_unseen:
        LOG.warning(f"{look.num_unseen} slides could not be opened in time to say before whether they can be used")


if __name__ == "__main__":
    run_launcher(ApplyArguments, launch_apply)
