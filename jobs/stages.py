"""The stages of a study as submitted jobs; every launcher calls one or more of these.

Each takes the jobs that it has to wait for and returns its own. Locally a stage is done when its function
returns; on Slurm it is queued, and the next one depends on it.
"""

from collections.abc import Sequence
from dataclasses import replace

from bccdist.configuration import InferConfig, SelectConfig, Setting, ShardConfig, SpeedupsConfig, TrainConfig
from bccdist.errors import ConfigurationError
from bccdist.parts import Part
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.stages.epochs import Epochs, inference_stage
from jobs.slurm import queue
from jobs.slurm.chunks import balanced_chunks, expected_costs
from jobs.slurm.sites import ClusterConfig
from jobs.slurm.submission import Submitted, Submitter, Work
from jobs.slurm.task import StageTask
from jobs.watching.stage_progress import (
    calibration_progress,
    inference_progress,
    is_whole,
    selection_progress,
    shards_progress,
    tables_progress,
    training_progress,
)

Jobs = Sequence[Submitted]


def launch_shards(submitter: Submitter, manifest: Manifest, config: ShardConfig, *, after: Jobs) -> list[Submitted]:
    """Patches of all annotated slides: an array over slides, then one job that finishes the set."""
    study = submitter.launch.study
    slides = [slide for slide in manifest.slides if slide.part.is_annotated]
    if not slides:
        raise ConfigurationError(f"{manifest.path}: no slide is in Training or Validation I; there is nothing to cut")
    if submitter.launch.only_missing and not after:
        if submitter.launch.paths.shards.manifest.exists():
            return []
        missing = set(shards_progress(submitter.launch.paths, manifest).missing)
        slides = [slide for slide in slides if slide.slide_id in missing]
    tasks = [
        StageTask(
            name="shards",
            function="shards.build:build_slides",
            arguments=(manifest.path, chunk, study, config),
            num_slides=len(chunk),
        )
        for chunk in _chunks(manifest, slides, submitter.launch.cluster)
    ]
    built = submitter.submit(Work(tasks=tuple(tasks)), after=after) if tasks else []
    finish = StageTask(
        name="finish-shards", function="shards.finish:finish_set", arguments=(manifest.path, study, config)
    )
    # It refuses a set with slides missing, and says which.
    return submitter.submit(Work(tasks=(finish,), needs_success=False), after=built)


def launch_training(submitter: Submitter, setting: Setting, config: TrainConfig, *, after: Jobs) -> list[Submitted]:
    """One setting, over all ranks; of encoder weights it needs the absolute path."""
    launch, cluster = submitter.launch, submitter.launch.cluster
    config.check_ranks(cluster.training_ranks_per_node * cluster.nodes)
    if launch.only_missing and not after and is_whole(training_progress(launch.paths, setting)):
        return []
    task = StageTask(
        name=f"train-{setting}", function="bccdist.training.loop:train", arguments=(launch.study, setting, config)
    )
    work = Work(
        tasks=(task,),
        nodes=cluster.nodes,
        ranks_per_node=cluster.training_ranks_per_node,
        gpus_per_node=cluster.gpus_per_node,
    )
    return submitter.submit(work, after=after)


def with_encoder_weights(config: TrainConfig, settings: Sequence[Setting]) -> TrainConfig:
    """The configuration with the encoder's file as an absolute path, because jobs run in other folders.

    Raises:
        ConfigurationError: the file is not there, or a setting has no ResNet34 encoder.
    """
    if config.encoder_weights is None:
        return config
    if "unet" in settings:
        raise ConfigurationError("encoder_weights are for a ResNet34 encoder, unet has none: train it without them")
    path = config.encoder_weights.resolve()
    if not path.is_file():
        raise ConfigurationError(f"encoder_weights: {path} is not there, expected a .safetensors or torch file")
    return replace(config, encoder_weights=path)


def launch_inference(
    submitter: Submitter,
    manifest: Manifest,
    setting: Setting,
    parts: Sequence[Part],
    epochs: Epochs,
    config: InferConfig,
    *,
    after: Jobs,
) -> list[Submitted]:
    """Heatmaps and section ledger of some parts: an array over slides."""
    launch = submitter.launch
    slides = manifest.slides_of(parts)
    if not slides:
        raise ConfigurationError(f"{manifest.path}: no slide is in {', '.join(parts)}")
    if launch.only_missing and not after:
        progress = inference_progress(launch.paths, manifest, setting, parts, epochs)
        slides = [slide for slide in slides if slide.slide_id in set(progress.missing)]
    tasks = [
        StageTask(
            name=inference_stage(setting, parts, epochs),
            function="bccdist.stages.epochs:infer_slides",
            arguments=(manifest.path, chunk, launch.study, setting, epochs, config),
            num_slides=len(chunk),
        )
        for chunk in _chunks(manifest, slides, launch.cluster)
    ]
    if not tasks:
        return []
    work = Work(tasks=tuple(tasks), gpus_per_node=min(1, launch.cluster.gpus_per_node))
    return submitter.submit(work, after=after)


def launch_selection(submitter: Submitter, config: SelectConfig, *, after: Jobs) -> list[Submitted]:
    """Epoch and thresholds of every setting that has validation rows in the ledger."""
    launch = submitter.launch
    if launch.only_missing and not after and is_whole(selection_progress(launch.paths)):
        return []
    task = StageTask(
        name="select", function="analysis.tables.selection:select_thresholds", arguments=(launch.study, config)
    )
    # It works on the slides that are there, and refuses if that is not enough.
    return submitter.submit(Work(tasks=(task,), needs_success=False), after=after)


def launch_calibration(
    submitter: Submitter, manifest: Manifest, setting: Setting, config: SpeedupsConfig, *, after: Jobs
) -> list[Submitted]:
    """What faster ways of inference change on Validation I, with the chosen epoch of a setting."""
    launch = submitter.launch
    if launch.only_missing and not after and is_whole(calibration_progress(launch.paths, setting)):
        return []
    task = StageTask(
        name=f"calibrate-{setting}",
        function="bccdist.stages.speedups:measure_chosen",
        arguments=(manifest.path, launch.study, setting, config),
    )
    work = Work(tasks=(task,), gpus_per_node=min(1, launch.cluster.gpus_per_node))
    return submitter.submit(work, after=after)


def launch_tables(submitter: Submitter, manifest: Manifest, *, after: Jobs) -> list[Submitted]:
    """All tables, and an overlay picture of each slide that has heatmaps of the chosen epoch."""
    launch = submitter.launch
    if launch.only_missing and not after and is_whole(tables_progress(launch.paths)):
        return []
    task = StageTask(
        name="tables", function="analysis.page.stage:write_tables", arguments=(launch.study, manifest.path)
    )
    return submitter.submit(Work(tasks=(task,), needs_success=False), after=after)


def _chunks(manifest: Manifest, slides: Sequence[SlideRecord], cluster: ClusterConfig) -> list[list[str]]:
    """The slides of each element, of nearly equal cost; as many elements as run at once, unless told otherwise."""
    if not slides:
        return []
    num = cluster.array_width
    if cluster.resolved == "slurm":
        if cluster.slides_per_element is not None:
            num = -(-len(slides) // cluster.slides_per_element)
        num = min(num, queue.max_array_size())
    return balanced_chunks(expected_costs(manifest, slides), num=num)
