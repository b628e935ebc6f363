"""A task's usage is measured, printed as one line however it ends, and found again in the logs."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from jobs.watching.usage import Outcome, Usage, measured, parse_usage, read_usages, usage_line

USAGE = Usage(
    stage="infer-unet-test",
    job_id="17_4",
    host="node-3",
    seconds=61.5,
    cpu_s=44.0,
    peak_gib=2.25,
    num_cpus=8,
    num_gpus=1,
    num_ranks=1,
    num_slides=20,
    outcome="done",
)


@pytest.fixture(autouse=True)
def _no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_GPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def printed(capsys: pytest.CaptureFixture[str]) -> Usage:
    usage = parse_usage(capsys.readouterr().out.splitlines()[-1])
    assert usage is not None
    return usage


def test_seconds_processor_time_and_memory_are_measured_with_those_of_children(
    capsys: pytest.CaptureFixture[str],
) -> None:
    busy = "import time\nblock = b'x' * (300 << 20)\nwhile time.process_time() < 0.4: pass"
    with measured("shards", num_slides=3):
        subprocess.run([sys.executable, "-c", busy], check=True)
        time.sleep(0.05)
    usage = printed(capsys)
    assert usage.seconds >= 0.45
    assert 0.4 <= usage.cpu_s < usage.seconds + 0.5
    assert 0.29 < usage.peak_gib < 64
    assert (usage.stage, usage.num_slides, usage.outcome) == ("shards", 3, "done")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("broken"), "failed"),
        (SystemExit(1), "failed"),
        (SystemExit("with a message"), "failed"),
        (SystemExit(0), "done"),
        (SystemExit(128 + signal.SIGTERM), "stopped"),
        (SystemExit(-1), "stopped"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_the_line_is_printed_and_the_error_goes_on_however_it_ends(
    error: BaseException, outcome: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)), measured("select"):
        raise error
    assert printed(capsys).outcome == outcome


def test_slurm_says_what_the_whole_job_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "8",
        "SLURM_CPUS_PER_TASK": "6",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_NNODES": "2",
        "CUDA_VISIBLE_DEVICES": "0",
        "SLURM_JOB_ID": "99",
        "SLURM_ARRAY_JOB_ID": "90",
        "SLURM_ARRAY_TASK_ID": "5",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with measured("train-unet"):
        pass
    usage = printed(capsys)
    assert (usage.num_ranks, usage.num_cpus, usage.num_gpus, usage.job_id) == (8, 48, 8, "90_5")


@pytest.mark.parametrize(("visible", "num_gpus"), [(None, 0), ("", 0), ("NoDevFiles", 0), ("0", 1), ("2,3", 2)])
def test_a_local_job_has_the_gpus_that_it_sees(
    visible: str | None, num_gpus: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with measured("train-unet"):
        pass
    assert printed(capsys).num_gpus == num_gpus


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SUBMITIT_LOCAL_GLOBALID"])
def test_only_the_first_rank_speaks(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "1")
    with measured("train-unet"):
        pass
    assert capsys.readouterr().out == ""


def test_a_line_is_read_back_as_it_was() -> None:
    line = usage_line(USAGE)
    assert line.startswith("usage {")
    assert "\n" not in line
    assert parse_usage(line) == USAGE
    assert json.loads(line.removeprefix("usage ")) == asdict(USAGE)


def test_all_starts_in_all_logs_are_found_and_other_files_are_not_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = replace(USAGE, seconds=5.0)
    other = replace(USAGE, stage="select", num_slides=None)
    array, single = tmp_path / "17" / "17_4_0_log.out", tmp_path / "deep" / "er" / "18_0_log.out"
    for path in (array, single):
        path.parent.mkdir(parents=True)
    array.write_text(
        f"slide 1/1 a: 3 s\n{usage_line(USAGE)}\nStarting\n it says {usage_line(USAGE)}\n{usage_line(again)}\n"
    )
    single.write_bytes(b"\xff\xfe no text\n" + usage_line(other).encode())
    (tmp_path / "17" / "17_4_submitted.pkl").write_text(usage_line(USAGE))
    assert read_usages(tmp_path) == [USAGE, again, other]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("line", ['usage {"stage": "shards", "job_', "usage {}", "usage 3", "usage of memory is high"])
def test_a_line_that_cannot_be_read_is_said_and_left_out(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1_0_log.out").write_text(f"{line}\n{usage_line(USAGE)}\n")
    assert read_usages(tmp_path) == [USAGE]
    assert "1_0_log.out: left out a line of usage" in capsys.readouterr().out


def test_a_study_without_logs_has_no_usage(tmp_path: Path) -> None:
    assert read_usages(tmp_path / "logs") == []
