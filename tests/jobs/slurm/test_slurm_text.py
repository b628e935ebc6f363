"""What sbatch would get: the text of a dry run, key by key."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from small_study import write_unbuilt_study

from bccdist.configuration import InferConfig, SelectConfig, Setting, SpeedupsConfig, TrainConfig
from bccdist.errors import ConfigurationError
from bccdist.files import write_json
from bccdist.slides.manifest import Manifest
from bccdist.stages.table import SELECTION, SPEEDUPS, TEST_HEATMAPS, TRAINING
from bccdist.study import manifest_of_study
from jobs import stages
from jobs.launch_study import StudyArguments, launch_study
from jobs.slurm import queue
from jobs.slurm.sites import ClusterConfig, CpuJobs
from jobs.slurm.submission import Launch, submitting
from jobs.stages import fit_for_jobs, launch_entries, launch_stage, launch_stages

SETTING: Setting = "resnet34_ds"
TEST = replace(TEST_HEATMAPS, setting="unet", config=InferConfig())
PARTS = [("val1-0", "val1"), ("val2-0", "val2"), ("test-0", "test")]
SECTIONS = ["val1-0,val1-0-s,Tumor,,,,", "val2-0,val2-0-s,Normal,,,,"]
CLUSTER = ClusterConfig(cluster="slurm", partition="gpu", account="lab", timeout_min=600, max_parallel=3)


@pytest.fixture(autouse=True)
def _no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run needs none."""
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Of a study of five Test slides, which is all that a launcher looks at."""
    lines = ["slide_id,part,path"]
    for number in range(5):
        (tmp_path / f"{number}.tif").write_bytes(b"x" * (1000 * number + 1))
        lines.append(f"slide-{number},Test,{number}.tif")
    (tmp_path / "slides.csv").write_text("\n".join(lines) + "\n")
    write_json(tmp_path / "study" / "study.json", {"manifest": str(tmp_path / "slides.csv"), "phantom": False})
    return manifest_of_study(tmp_path / "study")


def dry(manifest: Manifest, cluster: ClusterConfig = CLUSTER) -> Launch:
    return Launch(study=manifest.path.parent / "study", cluster=cluster, dry_run=True)


def training_text(manifest: Manifest, cluster: ClusterConfig, capsys: pytest.CaptureFixture[str]) -> str:
    launch_entries(dry(manifest, cluster), manifest, {TRAINING: TrainConfig()}, [SETTING])
    return capsys.readouterr().out


def test_training_asks_for_four_gpus_and_one_task_each(manifest: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    text = training_text(manifest, CLUSTER, capsys)
    for option in (
        "partition=gpu",
        "account=lab",
        "nodes=1",
        "ntasks-per-node=4",
        "gpus-per-node=4",
        "cpus-per-task=8",
        "mem=128G",
        "time=600",
        "job-name=train-resnet34_ds@study",
        "signal=B:USR2@120",
        "requeue",
        "open-mode=append",
    ):
        assert f"#SBATCH --{option}\n" in text
    assert "dependency" not in text
    archive = manifest.path.parent / "study" / "code" / "CODE.zip"
    assert re.search(rf"^srun .* -u {archive} SHA256 \S+/logs/\S+ &$", text, re.MULTILINE)


def test_every_key_of_a_site_reaches_the_text(manifest: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = replace(
        CLUSTER,
        qos="long",
        constraint="a100",
        gpu_request="per_task",
        gpu_type="a100",
        mem_gib_per_rank=0,
        setup=("module load cuda/12.4",),
        container="apptainer exec --nv image.sif",
        scratch="/local/$SLURM_JOB_ID",
        sbatch=("mail-type=FAIL", "exclusive"),
    )
    text = training_text(manifest, cluster, capsys)
    for line in (
        "#SBATCH --qos=long",
        "#SBATCH --constraint=a100",
        "#SBATCH --gpus-per-task=a100:1",
        "#SBATCH --mail-type=FAIL",
        "#SBATCH --exclusive",
        "module load cuda/12.4",
        'export TMPDIR="/local/$SLURM_JOB_ID"',
    ):
        assert f"{line}\n" in text
    assert "--mem" not in text
    assert "gpus-per-node" not in text
    assert "apptainer exec --nv image.sif python -u " in text
    assert text.index("module load") < text.index("srun")


@pytest.mark.parametrize(("least", "asked"), [(None, "4"), (1, "1-4"), (3, "3-4"), (4, "4")])
def test_training_may_begin_with_fewer_nodes_and_other_jobs_have_one(
    manifest: Manifest, capsys: pytest.CaptureFixture[str], least: int | None, asked: str
) -> None:
    cluster = replace(CLUSTER, nodes=4, min_nodes=least)
    assert f"#SBATCH --nodes={asked}\n" in training_text(manifest, cluster, capsys)
    launch_entries(replace(dry(manifest), cluster=cluster), manifest, {SPEEDUPS: SpeedupsConfig()}, [SETTING])
    assert "#SBATCH --nodes=1\n" in capsys.readouterr().out


def test_elements_are_one_array_and_jobs_without_a_gpu_go_where_the_site_says(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = replace(CLUSTER, cpu=CpuJobs(partition="short", timeout_min=60))
    with submitting(dry(manifest, cluster)) as submitter:
        tested = launch_stage(submitter, manifest, TEST)
        infer_text = capsys.readouterr().out
        launch_stage(submitter, manifest, replace(SELECTION, config=SelectConfig()), after=tested)
    select_text = capsys.readouterr().out
    for option in ("array=0-2%3", "gpus-per-node=1", "partition=gpu", "job-name=infer-unet-test@study"):
        assert f"#SBATCH --{option}\n" in infer_text
    for option in ("partition=short", "time=60", "dependency=afterany:JOB-infer-unet-test", "kill-on-invalid-dep=yes"):
        assert f"#SBATCH --{option}\n" in select_text
    assert "gpu" not in [line.partition("=")[0] for line in select_text.splitlines() if line.startswith("#SBATCH")]


def test_slides_per_element_decides_how_many_elements_there_are(
    manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    with submitting(dry(manifest, replace(CLUSTER, slides_per_element=1))) as submitter:
        launch_stages(submitter, manifest, [TEST])
    assert "#SBATCH --array=0-4%3\n" in capsys.readouterr().out


def test_an_array_is_never_larger_than_the_site_allows(
    manifest: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "max_array_size", lambda: 2)
    with submitting(dry(manifest, replace(CLUSTER, slides_per_element=1))) as submitter:
        launch_stages(submitter, manifest, [TEST])
    assert "#SBATCH --array=0-1%2\n" in capsys.readouterr().out


def test_a_dry_run_touches_nothing(manifest: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(manifest.path.parent.rglob("*"))
    training_text(manifest, CLUSTER, capsys)
    assert sorted(manifest.path.parent.rglob("*")) == before


def test_without_srun_a_launch_to_slurm_is_refused(manifest: Manifest) -> None:
    launch = replace(dry(manifest), dry_run=False)
    with pytest.raises(ConfigurationError, match="srun is not found"):
        launch_entries(launch, manifest, {TRAINING: TrainConfig()}, [SETTING])


def test_a_job_finds_the_weights_that_it_starts_from_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resnet34.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    stage = replace(TRAINING, setting="resnet34", config=TrainConfig(encoder_weights=Path("resnet34.safetensors")))
    tuned = replace(TRAINING, setting="unet", config=TrainConfig(start_from=Path("epoch-002.safetensors")))
    config, tuned_config = fit_for_jobs(stage).config, fit_for_jobs(tuned).config
    assert isinstance(config, TrainConfig)
    assert isinstance(tuned_config, TrainConfig)
    assert config.encoder_weights == tmp_path.resolve() / "resnet34.safetensors"
    assert tuned_config.start_from == tmp_path.resolve() / "epoch-002.safetensors"


def test_measuring_speed_ups_is_one_job_with_one_gpu(manifest: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    launch_entries(dry(manifest), manifest, {SPEEDUPS: SpeedupsConfig()}, [SETTING])
    text = capsys.readouterr().out
    for option in ("job-name=speedups-resnet34_ds@study", "gpus-per-node=1", "nodes=1", "time=600"):
        assert f"#SBATCH --{option}\n" in text
    assert "--array" not in text


@pytest.mark.parametrize(
    ("infer", "measures"),
    [(InferConfig(), False), (InferConfig(tiling="dense", halo_px=64), False), (InferConfig(precision="auto"), True)],
)
def test_a_study_measures_speed_ups_where_the_heatmaps_of_test_need_it(
    tmp_path: Path, infer: InferConfig, measures: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_unbuilt_study(tmp_path / "data", [("train-0", "train"), *PARTS], SECTIONS)
    launch_study(
        StudyArguments(
            study=whole.root,
            dry_run=True,
            cluster=CLUSTER,
            manifest=whole.manifest,
            settings=("resnet34_ds",),
            infer=infer,
        )
    )
    assert not whole.root.exists()
    names = re.findall(r"#SBATCH --job-name=(\S+)@study", capsys.readouterr().out)
    speedups = ["speedups-resnet34_ds"] if measures else []
    assert names[-4 - measures :] == [
        "infer-resnet34_ds-val1-val2",
        "select",
        *speedups,
        "infer-resnet34_ds-test",
        "tables",
    ]


def test_a_study_that_lacks_something_is_refused_with_all_of_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    lacking = write_unbuilt_study(tmp_path / "data", [("train-0", "train"), *PARTS[1:]])
    study = StudyArguments(
        study=lacking.root,
        cluster=replace(CLUSTER, cluster="local", ranks_per_node=9),
        manifest=lacking.manifest,
        settings=("unet", "resnet34_ds"),
        train=TrainConfig(global_batch=8, encoder_weights=Path("gone.safetensors")),
        infer=InferConfig(engine="openvino"),
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stages, "has_openvino", lambda: False)
        with pytest.raises(ConfigurationError, match="nothing was launched") as refused:
            launch_study(study)
    said = str(refused.value)
    for lack in (
        "no slide is in Validation I, so no epoch",
        "is labelled Tumor",
        "is labelled Normal",
        "global_batch is 8, expected at least 9",
        "unet has none",
        "gone.safetensors is not there",
        "openvino and nncf, which are not installed",
    ):
        assert said.count(lack) == 1, said
    assert not lacking.root.exists()


def test_a_launch_that_slurm_cannot_take_makes_no_study(tmp_path: Path) -> None:
    whole = write_unbuilt_study(tmp_path / "data", [("train-0", "train"), *PARTS], SECTIONS)
    study = StudyArguments(study=whole.root, cluster=CLUSTER, manifest=whole.manifest, settings=("unet",))
    with pytest.raises(ConfigurationError, match="srun is not found"):
        launch_study(study)
    assert not whole.root.exists()


def test_an_engine_for_the_cpu_is_refused_where_jobs_get_a_gpu(manifest: Manifest) -> None:
    config = InferConfig(precision="int8")
    with pytest.raises(ConfigurationError, match="engine auto with precision int8 runs on the CPU"):
        launch_entries(dry(manifest), manifest, {TEST_HEATMAPS: config}, ["unet"])


def test_an_engine_that_this_machine_cannot_compile_for_is_refused_where_its_jobs_run_here(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    launch, entries = dry(manifest), {TEST_HEATMAPS: InferConfig(engine="compiled")}
    with pytest.raises(ConfigurationError, match=r"engine compiled: the C.. compiler no-such-compiler was not found"):
        launch_entries(replace(launch, cluster=ClusterConfig(cluster="local")), manifest, entries, ["unet"])
    launch_entries(launch, manifest, entries, ["unet"])


@pytest.mark.parametrize("container", ["no-such-program exec image.sif", "'no such program' run image"])
def test_a_container_program_that_is_missing_refuses_a_local_launch_and_none_to_slurm(
    manifest: Manifest, container: str
) -> None:
    launch = replace(dry(manifest, replace(CLUSTER, container=container)), dry_run=False)
    local = replace(launch, cluster=ClusterConfig(cluster="local", container=container))
    with pytest.raises(ConfigurationError, match=r"no.such.program is not found on this machine"), submitting(local):
        pass
    assert not local.paths.journal.exists()
    with submitting(replace(launch, dry_run=True)):
        pass
