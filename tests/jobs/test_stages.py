"""Stages are launched in their order: what failed ends what needs it, and what can do without it goes on."""

import importlib.util
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import small_timm

from bccdist.configuration import InferConfig, StageConfig, TrainConfig, claim_config
from bccdist.errors import StageFailedError
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.stages.stage import Stage
from bccdist.stages.table import TABLE, TRAINING, VALIDATION_HEATMAPS, stages_of
from jobs.slurm.sites import Cluster, ClusterConfig
from jobs.slurm.submission import Launch, Submitted, Work
from jobs.stages import _lacks_of_torch_alone, lacks_of_stage, launch_stages

SLIDES = tuple(SlideRecord(slide_id=part.short, part=part, path=Path(f"{part.short}.tif")) for part in Part)
MANIFEST = Manifest(path=Path("slides.csv"), slides=SLIDES, sections=())
STAGES = stages_of(dict.fromkeys(TABLE), ["unet", "resnet34"])


@dataclass
class Recorder:
    """Takes work, and fails some stages as a local launch does."""

    launch: Launch
    failing: Collection[str] = ()
    taken: dict[str, list[str]] = field(default_factory=dict)
    """The jobs that each stage waits for."""

    def submit(self, work: Work, *, after: Sequence[Submitted]) -> list[Submitted]:
        name = work.stage.name
        self.taken[name] = [each.job_id for each in after]
        if name in self.failing:
            raise StageFailedError(f"{name} failed")
        if self.launch.cluster.resolved == "local":
            return []
        return [Submitted(stage=work.stage, job_id=name, num_elements=1, logs=Path(), after=())]


def recorder_at(root: Path, *, cluster: Cluster = "local", failing: Collection[str] = ()) -> Recorder:
    return Recorder(launch=Launch(study=root, cluster=ClusterConfig(cluster=cluster)), failing=failing)


def names(stages: Sequence[Stage]) -> list[str]:
    return [stage.name for stage in stages]


def test_each_job_waits_for_those_that_the_table_names(tmp_path: Path) -> None:
    recorder = recorder_at(tmp_path, cluster="slurm")
    launch_stages(recorder, MANIFEST, STAGES)
    taken = recorder.taken
    assert list(taken) == names(STAGES)
    assert taken["shards"] == []
    assert taken["train-unet"] == ["finish-shards"]
    assert taken["select"] == ["infer-unet-val1-val2", "infer-resnet34-val1-val2"]
    assert taken["infer-unet-test"] == ["select", "speedups-unet"]


def test_heatmaps_that_failed_do_not_keep_the_others_from_their_tables_but_are_told_at_the_end(tmp_path: Path) -> None:
    recorder = recorder_at(tmp_path, failing={"infer-unet-val1-val2", "infer-resnet34-test"})
    with pytest.raises(StageFailedError, match="infer-unet-val1-val2 failed\ninfer-resnet34-test failed"):
        launch_stages(recorder, MANIFEST, STAGES)
    assert list(recorder.taken) == names(STAGES)


@pytest.mark.parametrize("failing", ["finish-shards", "train-unet", "select", "speedups-unet"])
def test_what_needs_the_success_of_a_stage_is_not_begun_without_it(failing: str, tmp_path: Path) -> None:
    recorder = recorder_at(tmp_path, failing={failing})
    with pytest.raises(StageFailedError, match=f"{failing} failed"):
        launch_stages(recorder, MANIFEST, STAGES)
    assert list(recorder.taken)[-1] == failing


def test_a_launch_names_the_settings_that_a_network_is_not_a_start_for(tmp_path: Path) -> None:
    """Read from its header, without torch."""
    texts = {
        "setting": "unet",
        "width": "4",
        "epoch": "2",
        "target_mpp": "0.92",
        "phantom": "false",
        "config_digest": "a",
    }
    header = json.dumps({"__metadata__": texts}).encode()
    path = tmp_path / "epoch-002.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    launch = recorder_at(tmp_path / "study").launch
    config = TrainConfig(width=4, start_from=path)
    unet, resnet34 = stages_of({TRAINING: config}, ["unet", "resnet34"])
    assert list(lacks_of_stage(unet, MANIFEST, launch)) == []
    (lack,) = lacks_of_stage(resnet34, MANIFEST, launch)
    assert "is unet of width 4 with psi_4, expected resnet34 of width 4 with psi_4" in lack
    (lack,) = lacks_of_stage(replace(unet, config=replace(config, start_from=tmp_path / "gone")), MANIFEST, launch)
    assert "gone is not there, expected the weights of a kept epoch" in lack


@pytest.mark.parametrize("is_launched_now", [True, False])
@pytest.mark.parametrize(
    "config", [InferConfig(engine="mnn"), InferConfig(engine="openvino"), InferConfig(precision="int8")], ids=str
)
def test_a_launch_names_the_heatmaps_that_an_encoder_of_timm_cannot_make(
    config: InferConfig, is_launched_now: bool, tmp_path: Path
) -> None:
    """Whether the training is part of the launch, or was before."""
    paths, trained = StudyPaths(tmp_path), TrainConfig(encoder="convnext_tiny")
    entries: dict[Stage, StageConfig | None] = {VALIDATION_HEATMAPS: config}
    if is_launched_now:
        entries = {TRAINING: trained, **entries}
    else:
        claim_config(paths.run("resnet34").config, trained, setting="resnet34")
    stages = stages_of(entries, ["resnet34"])
    (lack,) = _lacks_of_torch_alone(stages, paths)
    assert lack == (
        "infer-resnet34-val1-val2: the encoder convnext_tiny of timm is run by torch alone, not by OpenVINO or MNN "
        "and not in int8; set precision to float32 and engine to auto, folded or eager"
    )
    fitting = stages_of({**entries, VALIDATION_HEATMAPS: InferConfig(engine="folded")}, ["resnet34"])
    others = stages_of({VALIDATION_HEATMAPS: config}, ["resnet34_ds"])
    assert list(_lacks_of_torch_alone([*fitting, *others], paths)) == []


def test_a_launch_names_the_setting_and_the_package_that_an_encoder_of_timm_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = recorder_at(tmp_path / "study").launch
    unet, resnet34 = stages_of({TRAINING: TrainConfig(encoder="convnext_tiny")}, ["unet", "resnet34"])
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda _name: None)
        of_unet = list(lacks_of_stage(unet, MANIFEST, launch))
        (of_both,) = lacks_of_stage(resnet34, MANIFEST, launch)
    assert of_both == (
        "encoder convnext_tiny: timm is not installed; install it with `pip install 'bccdist[timm]'`, or train "
        "without encoder"
    )
    assert of_unet == ["encoder convnext_tiny takes the place of ResNet34, unet has none: train it without", of_both]
    small_timm.install(monkeypatch)
    assert list(lacks_of_stage(resnet34, MANIFEST, launch)) == []
