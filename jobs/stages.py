"""Stages become submitted jobs: one way for all of them, whatever the table of stages holds.

Locally a stage is done when it was launched; on Slurm it is queued, and those that wait for it depend on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bccdist.configuration import Setting, StageConfig, TrainConfig
from bccdist.errors import ConfigurationError, StageFailedError
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.stages.stage import Stage
from bccdist.stages.table import stages_of
from jobs.slurm import queue
from jobs.slurm.chunks import balanced_chunks, expected_costs
from jobs.slurm.sites import ClusterConfig
from jobs.slurm.submission import Launch, Submitted, Submitter, Work, submitting
from jobs.slurm.task import StageTask


def launch_entries(
    launch: Launch,
    manifest: Manifest,
    entries: Mapping[Stage, StageConfig | None],
    settings: Sequence[Setting] = (),
) -> None:
    """Submit entries of the table of stages, each with its configuration, for some settings."""
    with submitting(launch) as submitter:
        launch_stages(submitter, manifest, [fit_for_jobs(each) for each in stages_of(entries, settings)])


def launch_stages(submitter: Submitter, manifest: Manifest, stages: Sequence[Stage]) -> None:
    """Submit stages in their order; each waits for those before it that its entry of the table names.

    Raises:
        ConfigurationError: a stage has no slide to work on.
        StageFailedError: something failed locally. Where the stages after it can do without its success, as tables
            can without some heatmaps, they went on first.
    """
    submitted: dict[Stage, list[Submitted]] = {}
    failed: list[StageFailedError] = []
    for stage in stages:
        before = [job for each, jobs in submitted.items() if stage.waits_for(each) for job in jobs]
        try:
            submitted[stage] = launch_stage(submitter, manifest, stage, after=before)
        except StageFailedError as error:
            failed.append(error)
            followers = [each for each in stages if each.waits_for(stage)]
            if not followers or any(each.needs_success for each in followers):
                break
    if failed:
        raise StageFailedError("\n".join(map(str, failed)))


def launch_stage(
    submitter: Submitter, manifest: Manifest, stage: Stage, *, after: Sequence[Submitted] = ()
) -> list[Submitted]:
    """Submit one stage; returns its jobs, or nothing where it is done by now."""
    launch = submitter.launch
    slides = manifest.slides_of(stage.parts)
    if stage.is_for_each_slide and not slides:
        raise ConfigurationError(f"{manifest.path}: no slide is in {' or '.join(stage.parts)}, for {stage.name}")
    # Behind a stage that is only queued nobody knows yet what will be missing.
    if launch.only_missing and not after:
        progress = stage.progress(launch.paths, manifest)
        if progress.is_whole:
            return []
        missing = set(progress.missing)
        slides = [slide for slide in slides if slide.slide_id in missing]
    chunks: list[list[str] | None] = [None]
    if stage.is_for_each_slide:
        chunks = [*_chunks(manifest, slides, launch.cluster)]
    tasks = [
        StageTask(
            name=stage.name,
            stage=stage.fields,
            function=stage.entry,
            values={
                "manifest_path": manifest.path,
                "study_root": launch.study,
                "slide_ids": chunk,
                "setting": stage.setting,
                "epochs": stage.epochs,
                "config": stage.config,
            },
            num_slides=None if chunk is None else len(chunk),
        )
        for chunk in chunks
    ]
    return submitter.submit(_work(stage, tasks, launch.cluster), after=after)


def fit_for_jobs(stage: Stage) -> Stage:
    """The same stage, its configuration fit for jobs, which run in other folders.

    Raises:
        ConfigurationError: ranks or encoder weights do not fit.
    """
    if not isinstance(stage.config, TrainConfig) or stage.config.encoder_weights is None:
        return stage
    if stage.setting == "unet":
        raise ConfigurationError("encoder_weights are for a ResNet34 encoder, unet has none: train it without them")
    path = stage.config.encoder_weights.resolve()
    if not path.is_file():
        raise ConfigurationError(f"encoder_weights: {path} is not there, expected a .safetensors or torch file")
    return replace(stage, config=replace(stage.config, encoder_weights=path))


def _work(stage: Stage, tasks: Sequence[StageTask], cluster: ClusterConfig) -> Work:
    """The tasks with what each gets of the machine."""
    if stage.needs == "ranks":
        if isinstance(stage.config, TrainConfig):
            stage.config.check_ranks(cluster.training_ranks_per_node * cluster.nodes)
        return Work(
            stage=stage,
            tasks=tuple(tasks),
            nodes=cluster.nodes,
            ranks_per_node=cluster.training_ranks_per_node,
            gpus_per_node=cluster.gpus_per_node,
        )
    return Work(
        stage=stage, tasks=tuple(tasks), gpus_per_node=min(1, cluster.gpus_per_node) if stage.needs == "gpu" else 0
    )


def _chunks(manifest: Manifest, slides: Sequence[SlideRecord], cluster: ClusterConfig) -> list[list[str]]:
    """The slides of each element, of nearly equal cost; as many elements as run at once, unless told otherwise."""
    num = cluster.array_width
    if cluster.resolved == "slurm":
        if cluster.slides_per_element is not None:
            num = -(-len(slides) // cluster.slides_per_element)
        num = min(num, queue.max_array_size())
    return balanced_chunks(expected_costs(manifest, slides), num=num)
