"""What would be submitted to Slurm: the text of sbatch, taken down by stand-ins for Slurm's commands."""

import stat
from pathlib import Path

import pytest

from bccdist.configuration import SelectConfig, TrainConfig
from bccdist.files import write_json
from jobs import stages
from jobs.cluster import ClusterConfig, Jobs
from jobs.stages import Launch, launch_selection, launch_training
from jobs.task import StageTask

SBATCH = """#!/bin/sh
cp "$1" "{folder}/submitted-$(ls {folder} | wc -l).sh"
echo "Submitted batch job 4711"
"""


@pytest.fixture
def sbatch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the submitted texts end up."""
    folder, commands = tmp_path / "submitted", tmp_path / "bin"
    folder.mkdir()
    commands.mkdir()
    for name, text in (("sbatch", SBATCH.format(folder=folder)), ("srun", "#!/bin/sh\n"), ("sacct", "#!/bin/sh\n")):
        (commands / name).write_text(text)
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    return folder


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """A study with an empty part, which is all that a launcher looks at."""
    (tmp_path / "slide.tif").touch()
    (tmp_path / "slides.csv").write_text("slide_id,part,path\na,Test,slide.tif\n")
    write_json(tmp_path / "study" / "study.json", {"manifest": str(tmp_path / "slides.csv"), "phantom": False})
    return Launch(study=tmp_path / "study", cluster=ClusterConfig(partition="gpu", account="lab", timeout_min=600))


def test_training_asks_for_four_gpus_and_one_task_each(sbatch_folder: Path, launch: Launch) -> None:
    jobs = launch_training(launch, "resnet34_ds", TrainConfig(), after=[])
    assert [job.job_id for job in jobs] == ["4711"]
    text = next(sbatch_folder.iterdir()).read_text()
    for option in (
        "--partition=gpu",
        "--account=lab",
        "--nodes=1",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--cpus-per-task=8",
        "--mem=128GB",
        "--time=600",
        "--job-name=train-resnet34_ds",
    ):
        assert f"#SBATCH {option}\n" in text


def test_a_job_finds_the_encoder_weights_from_any_folder(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[StageTask] = []

    def taken_down(task: StageTask, *_: object, after: Jobs) -> Jobs:
        submitted.append(task)
        return after

    monkeypatch.setattr(stages, "submit_training", taken_down)
    monkeypatch.setattr(stages, "hand_over", lambda _name, jobs, _cluster: jobs)
    (tmp_path / "resnet34.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    launch_training(launch, "resnet34", TrainConfig(encoder_weights=Path("resnet34.safetensors")), after=[])
    *_, config = submitted[0].arguments
    assert isinstance(config, TrainConfig)
    assert config.encoder_weights == tmp_path.resolve() / "resnet34.safetensors"


def test_a_later_stage_waits_for_the_earlier_one(sbatch_folder: Path, launch: Launch) -> None:
    trained = launch_training(launch, "unet", TrainConfig(), after=[])
    launch_selection(launch, SelectConfig(), after=trained)
    texts = [path.read_text() for path in sorted(sbatch_folder.iterdir())]
    assert "dependency" not in texts[0]
    assert "#SBATCH --dependency=afterany:4711\n" in texts[1]
    assert "#SBATCH --kill-on-invalid-dep=yes\n" in texts[1]
