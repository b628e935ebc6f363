"""Wrong command lines end with one message that says what, which, got against expected, and what to do."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tyro
from places import REPOSITORY

import jobs.plan
import jobs.review
import jobs.status
import jobs.verify_paper
from analysis.make import make
from bccdist.command import run_command
from bccdist.errors import BccdistError
from bccdist.parts import Part
from jobs.command_line import LauncherArguments, run_launcher
from jobs.demo import DemoArguments, demo
from jobs.pack_model import PackArguments, pack
from jobs.plan import PlanArguments
from jobs.review import ReviewArguments
from jobs.show_augmentation import ShowArguments, show_augmentation
from jobs.slurm.sites import ClusterConfig
from jobs.status import StatusArguments


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a launcher as a user would."""
    return subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )


@dataclass(frozen=True)
class Wrong:
    """A command line and what its message has to say."""

    words: tuple[str, ...]
    says: tuple[str, ...]


@pytest.mark.parametrize(
    "case",
    [
        Wrong(("jobs/launch_train.py", "--widht", "8"), ("--widht", "--width")),
        Wrong(("jobs/launch_train.py", "--setting", "vgg"), ("vgg", "resnet34_ds")),
        Wrong(("jobs/launch_train.py", "--width", "7"), ("width is 7", "multiple of 4")),
        Wrong(("jobs/launch_train.py", "--encoder-weights", "a.pth", "--width", "32"), ("width is 32, expected 64",)),
        Wrong(("jobs/launch_train.py", "--preset", "fast"), ("preset is 'fast'", "paper, quick")),
        Wrong(("jobs/launch_study.py", "--preset=fast"), ("preset is 'fast'", "paper, quick")),
        Wrong(("jobs/launch_train.py", "--site", "nowhere"), ("nowhere", "known sites", "gpu4")),
        Wrong(("jobs/launch_train.py", "--study", "no/such/study"), ("no/such/study is no study", "launch_study.py")),
        Wrong(("jobs/launch_shards.py",), ("--manifest", "required")),
        Wrong(("jobs/launch_shards.py", "--manifest", "no/slides.csv"), ("no/slides.csv is not there",)),
        Wrong(("jobs/launch_infer.py", "--parts", "val3"), ("val3", "Validation II", "val2")),
        Wrong(("jobs/make_ebhi_manifest.py", "no/folder", "data/x"), ("no/folder/slides.csv is not there",)),
    ],
    ids=lambda case: " ".join(case.words),
)
def test_a_wrong_command_line_ends_with_one_message(case: Wrong) -> None:
    done = launch(*case.words)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    for text in case.says:
        assert text in done.stderr + done.stdout


def test_a_preset_gives_the_defaults_and_a_flag_wins() -> None:
    help_text = launch("jobs/launch_train.py", "--preset", "quick", "--width", "32", "--help").stdout
    defaults = dict(re.findall(r"--(epochs|width|max-steps) .*?default: (\w+)\)", " ".join(help_text.split())))
    assert (defaults["epochs"], defaults["max-steps"]) == ("6", "30")


def test_a_manifest_with_faults_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("slide_id,part,path\na,Training,gone.tif\na,Nonsense,gone.tif\n")
    done = launch(
        "jobs/launch_shards.py", "--manifest", str(tmp_path / "slides.csv"), "--study", str(tmp_path / "study")
    )
    assert done.returncode == 1
    assert "line 2" in done.stderr
    assert "line 3" in done.stderr
    assert not (tmp_path / "study").exists()


def test_the_help_names_the_paper_and_the_defaults() -> None:
    done = launch("jobs/launch_train.py", "--help")
    assert done.returncode == 0
    for text in ("--partition", "--setting", "default: 64", "default: 0.0005", "default: 40"):
        assert text in " ".join(done.stdout.split())


OF_TRAINING = ("--nodes", "--min-nodes", "--ranks-per-node")


@pytest.mark.parametrize("launcher", ["launch_apply", "launch_tables", "launch_calibrate"])
def test_a_launcher_that_trains_nothing_shows_no_flag_of_training_and_takes_those_of_a_site(
    launcher: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags = set(re.findall(r"--[a-z-]+", launch(f"jobs/{launcher}.py", "--help").stdout))
    assert flags.isdisjoint(OF_TRAINING)
    assert {"--partition", "--gpus-per-node", "--timeout-min"} <= flags
    site = tmp_path / "lab.toml"
    site.write_text("nodes = 3\nmin_nodes = 2\npartition = 'cpu'\n", encoding="utf-8")
    words = ["launch", "--site", str(site), "--ranks-per-node", "2"]
    found: list[ClusterConfig] = []
    monkeypatch.setattr(sys, "argv", words)
    run_launcher(LauncherArguments, lambda arguments: found.append(arguments.cluster))
    assert found == [ClusterConfig(nodes=3, min_nodes=2, ranks_per_node=2, partition="cpu", site=str(site))]


@pytest.mark.parametrize("launcher", ["launch_train", "launch_study"])
def test_a_launcher_that_trains_shows_them(launcher: str) -> None:
    shown = launch(f"jobs/{launcher}.py", "--help").stdout
    assert set(re.findall(r"--[a-z-]+", shown)) >= {*OF_TRAINING}


@pytest.mark.parametrize(
    "words",
    [
        ("jobs/launch_infer.py",),
        ("jobs/review.py",),
        ("jobs/doctor.py",),
        ("analysis/make.py", "overlays"),
        ("analysis/make.py", "margins"),
    ],
    ids=" ".join,
)
def test_help_calls_the_parts_as_the_paper_does(words: tuple[str, ...]) -> None:
    shown = re.sub(r"[\s│]+", " ", launch(*words, "--help").stdout)
    for part in Part:
        assert part.value in shown
    assert not re.search(r"default: \(?'?(train|val1|val2|test)\b", shown)


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (jobs.status.main, StatusArguments(study=Path("s3://bucket/study"))),
        (jobs.plan.main, PlanArguments(study=Path("s3://bucket/study"))),
        (jobs.review.main, ReviewArguments(study=Path("s3://bucket/study"), reviewer="anna")),
        (jobs.review.main, ReviewArguments(study=Path("s3://bucket/study"), export=Path("out"))),
        (pack, PackArguments(study=Path("s3://bucket/study"))),
        (demo, DemoArguments(study=Path("s3://bucket/study"))),
        (jobs.verify_paper.main, Path("s3://bucket/study")),
        (show_augmentation, ShowArguments(study=Path("s3://bucket/study"))),
        (make, ["table3", "s3://bucket/study"]),
        (make, ["relabel", "s3://bucket/study", "--remove"]),
        (lambda given: given.launch, LauncherArguments(study=Path("s3://bucket/study"))),
    ],
)
def test_a_study_on_object_storage_is_the_same_one_line_everywhere(main: Callable[[Any], Any], words: Any) -> None:
    with pytest.raises(BccdistError, match=r"^the study begins with s3:/, and it has to be a folder of a POSIX"):
        main(words)


PATH_FLAGS = [
    ("jobs/pack_model.py", "studies/a", "--out"),
    ("jobs/find_sections.py", "slides.csv", "--out"),
    ("jobs/find_sections.py", "slides.csv", "--pictures"),
    ("jobs/make_manifest.py", "slides", "--out"),
    ("jobs/make_manifest.py", "slides", "--out", "data", "--table"),
    ("jobs/make_phantom.py",),
    ("jobs/make_ebhi_manifest.py", "slides"),
    ("jobs/doctor.py", "slides.csv", "--report"),
    ("jobs/plan.py", "studies/a", "--out"),
    ("jobs/plan.py", "studies/a", "--check"),
    ("jobs/show_augmentation.py", "studies/a", "--out"),
    ("jobs/export_model.py", "a.model", "--to", "onnx", "--out"),
    ("jobs/review.py", "studies/a", "--export"),
    ("jobs/review.py", "studies/a", "--export-hard"),
    ("jobs/review.py", "studies/a", "--worklist"),
    ("jobs/launch_apply.py", "--model", "m", "--slides", "s", "--out"),
    ("jobs/launch_apply.py", "--slides", "s", "--out", "o", "--model"),
    ("jobs/launch_apply.py", "--model", "m", "--slides", "s", "--out", "o", "--site-choice"),
    ("jobs/launch_train.py", "--encoder-weights"),
    ("jobs/launch_train.py", "--start-from"),
    ("jobs/launch_tables.py", "--study"),
    ("jobs/status.py",),
    ("jobs/demo.py", "--study"),
    ("jobs/verify_paper.py",),
    ("shards/check.py",),
    ("analysis/make.py", "table3", "studies/a", "--into"),
    ("analysis/make.py", "overlays", "studies/a"),
    ("analysis/make.py", "relabel", "studies/a"),
    ("analysis/make.py", "selection"),
    ("analysis/make.py", "evidence", "studies/a", "--out"),
    ("analysis/make.py", "heatmap_tiff", "studies/a", "slide", "--out"),
    ("analysis/make.py", "schemas"),
    ("analysis/evidence.py", "verify"),
    ("analysis/transfer.py", "studies/a", "--model"),
    ("analysis/transfer.py", "studies/a", "--labels"),
]
"""Words before a path of this machine."""


@pytest.mark.slow
@pytest.mark.parametrize("words", PATH_FLAGS, ids=" ".join)
def test_an_address_in_place_of_a_path_is_one_line_and_no_folder(words: tuple[str, ...], tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, REPOSITORY / words[0], *words[1:], "s3://u:Hidden1@bucket/a"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode != 0
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: s3://bucket/a is an address, and a path of this machine is expected in its place")
    assert not list(tmp_path.iterdir())


def test_words_become_paths_in_one_place_for_all_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    def main(one: Path, more: tuple[Path, ...] = (), other: Path | None = None) -> None:
        found.append([one, *more, other])

    found: list[list[Path | None]] = []
    for words in (["--one", "a", "--more", "b", "c", "--other", "d"], ["--one", "a:/b"]):
        monkeypatch.setattr(sys, "argv", ["any.py", *words])
        run_command(lambda: tyro.cli(main))
    assert found == [[Path("a"), Path("b"), Path("c"), Path("d")], [Path("a:/b"), None]]
    for flag in ("--one", "--more", "--other"):
        monkeypatch.setattr(sys, "argv", ["any.py", "--one", "a", flag, "https://host/b?sig=Hidden1"])
        with pytest.raises(SystemExit, match=r"^error: https://host/b is an address, and a path of this machine"):
            run_command(lambda: tyro.cli(main))
