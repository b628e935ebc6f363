"""The stages of a study as submitted jobs; every launcher calls one or more of these.

Each takes the jobs that it has to wait for and returns its own. Locally a stage is done when its function
returns; on Slurm it is queued, and the next one depends on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bccdist.configuration import InferConfig, SelectConfig, Setting, ShardConfig, TrainConfig
from bccdist.errors import ConfigurationError
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.study import claim_study, open_study
from jobs.cluster import ClusterConfig, Jobs, submit_array, submit_single, submit_training
from jobs.epochs import Epochs
from jobs.follow import hand_over
from jobs.task import StageTask


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What all stages share."""

    study: Path
    """Absolute, because jobs run in other folders."""
    cluster: ClusterConfig

    @property
    def logs(self) -> Path:
        """The folder of submitit's files."""
        return StudyPaths(self.study).logs


def launch_shards(launch: Launch, manifest_path: Path, config: ShardConfig, *, after: Jobs) -> Jobs:
    """Patches of all annotated slides: an array over slides, then one job that finishes the set."""
    manifest = claim_study(launch.study, manifest_path)
    slide_ids = [slide.slide_id for slide in manifest.slides if slide.part.is_annotated]
    if not slide_ids:
        raise ConfigurationError(f"{manifest.path}: no slide is in Training or Validation I; there is nothing to cut")
    tasks = [
        StageTask(
            name="shards",
            function="shards.build:build_slides",
            arguments=(manifest.path, chunk, launch.study, config),
        )
        for chunk in chunks(slide_ids, launch.cluster.array_width)
    ]
    built = hand_over("shards", submit_array(tasks, launch.cluster, launch.logs, after=after), launch.cluster)
    finish = StageTask(
        name="finish-shards", function="shards.finish:finish_set", arguments=(manifest.path, launch.study, config)
    )
    return hand_over(finish.name, submit_single(finish, launch.cluster, launch.logs, after=built), launch.cluster)


def launch_training(launch: Launch, setting: Setting, config: TrainConfig, *, after: Jobs) -> Jobs:
    """One setting, over all ranks."""
    config = with_encoder_weights(config, [setting])
    open_study(launch.study)
    config.check_ranks(launch.cluster.training_ranks_per_node * launch.cluster.nodes)
    task = StageTask(
        name=f"train-{setting}", function="bccdist.training.loop:train", arguments=(launch.study, setting, config)
    )
    return hand_over(task.name, submit_training(task, launch.cluster, launch.logs, after=after), launch.cluster)


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
    launch: Launch, setting: Setting, parts: Sequence[Part], epochs: Epochs, config: InferConfig, *, after: Jobs
) -> Jobs:
    """Heatmaps and section ledger of some parts: an array over slides."""
    manifest = open_study(launch.study)
    slide_ids = [slide.slide_id for slide in manifest.slides_of(parts)]
    if not slide_ids:
        raise ConfigurationError(f"{manifest.path}: no slide is in {', '.join(parts)}")
    tasks = [
        StageTask(
            name=f"infer-{setting}",
            function="jobs.epochs:infer_slides",
            arguments=(manifest.path, chunk, launch.study, setting, epochs, config),
        )
        for chunk in chunks(slide_ids, launch.cluster.array_width)
    ]
    jobs = submit_array(tasks, launch.cluster, launch.logs, after=after, gpus=min(1, launch.cluster.gpus_per_node))
    return hand_over(tasks[0].name, jobs, launch.cluster)


def launch_selection(launch: Launch, config: SelectConfig, *, after: Jobs) -> Jobs:
    """Epoch and thresholds of every setting that has validation rows in the ledger."""
    open_study(launch.study)
    task = StageTask(name="select", function="analysis.selection:select_thresholds", arguments=(launch.study, config))
    return hand_over(task.name, submit_single(task, launch.cluster, launch.logs, after=after), launch.cluster)


def launch_tables(launch: Launch, *, after: Jobs) -> Jobs:
    """All tables, and an overlay picture of each slide that has heatmaps of the chosen epoch."""
    manifest = open_study(launch.study)
    task = StageTask(name="tables", function="jobs.tables:write_tables", arguments=(launch.study, manifest.path))
    return hand_over(task.name, submit_single(task, launch.cluster, launch.logs, after=after), launch.cluster)


def chunks(slide_ids: Sequence[str], num: int) -> list[list[str]]:
    """At most `num` lists of nearly equal length that hold every slide once."""
    num = min(num, len(slide_ids))
    return [list(slide_ids[start::num]) for start in range(num)]
