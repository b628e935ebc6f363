"""Stages become submitted jobs: one way for all of them, whatever the table of stages holds.

Locally a stage is done when it was launched; on Slurm it is queued, and those that wait for it depend on it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from bccdist.configuration import (
    InferConfig,
    Setting,
    ShardConfig,
    StageConfig,
    TrainConfig,
    encoder_against,
    read_claimed,
    refuse_another,
)
from bccdist.errors import BccdistError, CheckpointError, ConfigurationError, StageFailedError
from bccdist.files import as_given, is_read_only
from bccdist.installed import has_mnn, has_openvino, lack_for_compiling, lack_for_timm
from bccdist.log import LOG
from bccdist.networks.starting import read_start
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.stages.requirements import lacks_of_pixels, listed, mixed_up_scales
from bccdist.stages.stage import Stage
from bccdist.stages.table import SELECTION, stages_of
from bccdist.study import forget_manifest, keep_manifest
from jobs.slurm import queue
from jobs.slurm.chunks import balanced_chunks, expected_costs
from jobs.slurm.sites import ClusterConfig, num_local_gpus
from jobs.slurm.submission import Launch, Submitted, Submitter, Work, submitting
from jobs.slurm.task import StageTask


def launch_entries(
    launch: Launch,
    manifest: Manifest,
    entries: Mapping[Stage, StageConfig | None],
    settings: Sequence[Setting] = (),
    *,
    lacks: Sequence[str] = (),
    begin: Callable[[], object] = lambda: None,
) -> None:
    """Submit entries of the table of stages, each with its configuration, for some settings.

    Args:
        launch: where and how.
        manifest: of the study, which is made of it now, if it is not yet.
        entries: in their order.
        settings: for those of which a study has one for each setting.
        lacks: what is lacking, as far as it is known; what the stages lack comes to it.
        begin: called once nothing is lacking and no other launch is at work, before anything is written; not for a
            dry run.

    Raises:
        ConfigurationError: something is lacking; it names all of it, and nothing was done. Or the study is read-only
            and not finished.
    """
    stages = stages_of(entries, settings)
    if is_read_only(launch.study) and not launch.dry_run:
        _refuse_unfinished(launch, manifest, stages)
        return
    lacks = [*lacks, *(lack for stage in stages for lack in lacks_of_stage(stage, manifest, launch))]
    lacks += _lacks_of_torch_alone(stages, launch.paths)
    if any(stage.is_for_each_slide for stage in stages):
        lacks += mixed_up_scales(manifest)
        lacks += lacks_of_pixels(manifest, launch.paths)
    if lacks:
        raise ConfigurationError(f"this cannot go through, so nothing was launched:\n{listed(lacks)}")
    is_new = not launch.paths.study.exists()
    try:
        with submitting(launch, stages) as submitter:
            if not launch.dry_run:
                begin()
                keep_manifest(launch.study, manifest)
            launch_stages(submitter, manifest, [fit_for_jobs(stage) for stage in stages])
    except BccdistError:
        if is_new and not launch.paths.journal.exists():
            forget_manifest(launch.study)
        raise


def _refuse_unfinished(launch: Launch, manifest: Manifest, stages: Sequence[Stage]) -> None:
    """Of a study that is read-only all that can be said is whether its stages are done.

    Raises:
        ConfigurationError: some are not, or shards or a run were made with another configuration.
    """
    undone = []
    for stage in stages:
        is_done = stage.progress(launch.paths, manifest).is_whole
        undone += [] if is_done else [stage.name]
        if is_done and isinstance(stage.config, TrainConfig):
            refuse_another(stage.run(launch.paths).config, stage.config)
        elif is_done and isinstance(stage.config, ShardConfig):
            refuse_another(launch.paths.shards.config, stage.config)
    if undone:
        raise ConfigurationError(
            f"{launch.study} is read-only, and not all is done: {', '.join(undone)}; launch it where your user can "
            "write to it, or launch a copy of it"
        )
    LOG.info(
        f"{launch.study} is read-only, and all is done: {', '.join(stage.name for stage in stages)}. Nothing was "
        "launched, and how heatmaps, selection and tables were made was not compared with what is asked for"
    )


def lacks_of_stage(stage: Stage, manifest: Manifest, launch: Launch) -> Iterator[str]:
    """What a stage would fail of, a sentence each."""
    if stage.is_for_each_slide and not manifest.slides_of(stage.parts):
        yield f"{manifest.path}: no slide is in {' or '.join(stage.parts)}, for {stage.name}"
    config, cluster = stage.config, launch.cluster
    if isinstance(config, TrainConfig):
        try:
            config.check_ranks(cluster.training_ranks_per_node * cluster.nodes)
        except ConfigurationError as error:
            yield str(error)
        yield from _lacks_of_encoder(stage, config, launch.paths, in_container=bool(cluster.container))
        yield from _lacks_of_start(stage, config, launch.paths)
    if isinstance(config, InferConfig) and config.is_certified:
        yield from _lacks_of_certificate(stage)
    # With a container, the image's packages are those that count.
    if isinstance(config, InferConfig) and not cluster.container:
        yield from _lacks_of_engine(config, cluster, num_gpus=_num_gpus(stage, cluster))


def _lacks_of_encoder(stage: Stage, config: TrainConfig, paths: StudyPaths, *, in_container: bool) -> Iterator[str]:
    """A run that goes on does without the file."""
    if config.encoder and stage.setting == "unet":
        yield f"encoder {config.encoder} takes the place of ResNet34, unet has none: train it without"
    if config.encoder and not in_container and (lack := lack_for_timm()):
        yield f"encoder {config.encoder}: {lack}"
    if config.encoder_weights is None:
        return
    if stage.setting == "unet":
        yield "encoder_weights are for a ResNet34 encoder, unet has none: train it without them"
    if not (path := config.encoder_weights.resolve()).is_file() and not stage.run(paths).last.exists():
        yield f"encoder_weights: {path} is not there, expected a .safetensors or torch file"


def _lacks_of_start(stage: Stage, config: TrainConfig, paths: StudyPaths) -> Iterator[str]:
    """A run that goes on does without the file."""
    if config.start_from is None or (not config.start_from.exists() and stage.run(paths).last.exists()):
        return
    try:
        setting, path = stage.its_setting, config.start_from.resolve()
        read_start(path, setting=setting, width=config.width, encoder=config.encoder)
    except CheckpointError as error:
        yield str(error)


def _lacks_of_torch_alone(stages: Sequence[Stage], paths: StudyPaths) -> Iterator[str]:
    """Networks with an encoder of timm do not run everywhere; which one it is, the training says."""
    launched = {each.setting: each.config.encoder for each in stages if isinstance(each.config, TrainConfig)}
    for stage in stages:
        if not isinstance(stage.config, InferConfig) or stage.setting is None:
            continue
        ran = paths.run(stage.setting).config
        encoder = launched.get(stage.setting) or (read_claimed(ran).get("encoder", "") if ran.exists() else "")
        if reason := encoder_against(stage.config.precision, stage.config.engine, encoder):
            yield f"{stage.name}: {reason}"


def _lacks_of_certificate(stage: Stage) -> Iterator[str]:
    """Verdicts are certified at thresholds that are chosen, and the choice itself rests on exact ones."""
    feeding = [part.value for part in stage.parts if part in SELECTION.parts]
    if stage.epochs != "chosen" or feeding:
        what = f"parts {' and '.join(feeding)}" if feeding else f"epochs {stage.epochs}"
        yield (
            f"{stage.name}: inference is certified, which needs the selection's epoch and thresholds, and {what} "
            "feed the selection: ask for inference exact there, and for certified with --epochs chosen on Test"
        )


def _lacks_of_engine(config: InferConfig, cluster: ClusterConfig, *, num_gpus: int) -> Iterator[str]:
    # Compilers of other machines cannot be asked.
    is_here = config.engine == "compiled" and cluster.resolved == "local"
    if is_here and (lack := lack_for_compiling(for_gpu=num_gpus > 0)):
        yield f"engine compiled: {lack}; install it, or set engine to folded"
    engine = "openvino" if config.precision == "int8" else config.engine
    cpu_engines = {"openvino": ("openvino and nncf", has_openvino()), "mnn": ("mnn and onnx", has_mnn())}
    if engine not in cpu_engines:
        return
    asked = f"engine {config.engine} with precision {config.precision}"
    packages, is_there = cpu_engines[engine]
    if not is_there:
        yield (
            f"{asked} needs {packages}, which are not installed; install them with `pip install 'bccdist[{engine}]'`"
        )
    if num_gpus:
        yield f"{asked} runs on the CPU, but the jobs get a GPU: give --gpus-per-node 0, or another engine"


def launch_stages(submitter: Submitter, manifest: Manifest, stages: Sequence[Stage]) -> None:
    """Submit stages in their order; each waits for those before it that its entry of the table names.

    Raises:
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
            # On Slurm the scheduler decides so, by afterok and afterany; a local launch does the same.
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
                "fold": stage.fold,
                "config": stage.config,
                "asked_ranks": launch.cluster.training_ranks_per_node * launch.cluster.nodes,
            },
            num_slides=None if chunk is None else len(chunk),
            watts=launch.cluster.watts,
            variables=launch.cluster.variables,
        )
        for chunk in chunks
    ]
    return submitter.submit(_work(stage, tasks, launch.cluster), after=after)


def fit_for_jobs(stage: Stage) -> Stage:
    """The same stage with absolute paths in its configuration, because jobs run in other folders."""
    config = stage.config
    if not isinstance(config, TrainConfig):
        return stage
    weights, start = (path and as_given(path) for path in (config.encoder_weights, config.start_from))
    return replace(stage, config=replace(config, encoder_weights=weights, start_from=start))


def _work(stage: Stage, tasks: Sequence[StageTask], cluster: ClusterConfig) -> Work:
    """The tasks with what each gets of the machine."""
    is_ranks = stage.needs == "ranks"
    return Work(
        stage=stage,
        tasks=tuple(tasks),
        nodes=cluster.nodes if is_ranks else 1,
        ranks_per_node=cluster.training_ranks_per_node if is_ranks else 1,
        gpus_per_node=_num_gpus(stage, cluster),
    )


def _num_gpus(stage: Stage, cluster: ClusterConfig) -> int:
    """GPUs per node that a stage's jobs ask for; local jobs get those that are there."""
    most = cluster.gpus_per_node if cluster.resolved == "slurm" else num_local_gpus()
    return {"cores": 0, "gpu": min(1, most), "ranks": most}[stage.needs]


def _chunks(manifest: Manifest, slides: Sequence[SlideRecord], cluster: ClusterConfig) -> list[list[str]]:
    """The slides of each element, of nearly equal cost; as many elements as run at once, unless told otherwise."""
    num = cluster.array_width
    if cluster.resolved == "slurm":
        if cluster.slides_per_element is not None:
            num = -(-len(slides) // cluster.slides_per_element)
        num = min(num, queue.max_array_size())
    return balanced_chunks(expected_costs(manifest, slides), num=num)
