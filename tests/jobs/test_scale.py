"""Arrays of 1,000 elements on a Slurm that only counts: few calls, short command lines, a status within seconds."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from counting_slurm import LONGEST_STRING_BYTES, MOST_BYTES, CountingSlurm
from places import REPOSITORY

from bccdist.parts import Part
from bccdist.paths import StudyPaths

ELEMENTS = 1000


def write_manifest(folder: Path, num_slides: int) -> Path:
    """Slides of all parts, which are empty files."""
    (folder / "slides").mkdir(parents=True)
    (folder / "a.png").touch()
    rows = ["slide_id,part,path,annotation"]
    for number in range(num_slides):
        name = f"slide-{number:06d}"
        (folder / "slides" / f"{name}.tif").touch()
        rows.append(f"{name},{[*Part][number % 4]},slides/{name}.tif,a.png")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n")
    return folder / "slides.csv"


def run(slurm: CountingSlurm, *words: str | Path, env: dict[str, str]) -> tuple[str, float]:
    """What a command says, and how long it took."""
    begin_s = time.monotonic()
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(
        command, env=env | slurm.variables, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout, time.monotonic() - begin_s


@pytest.mark.parametrize("num_slides", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_arrays_of_a_thousand_elements_are_submitted_watched_and_retried_with_few_calls(
    num_slides: int, tmp_path: Path
) -> None:
    slurm = CountingSlurm.at(tmp_path / "bin")
    manifest, paths = write_manifest(tmp_path / "data", num_slides), StudyPaths(tmp_path / "study")
    env = {"HOME": str(tmp_path)}
    width = f"--slides-per-element={num_slides // 2 // ELEMENTS}"
    launch = ["jobs/launch_shards.py", "--manifest", manifest, "--study", paths.root, "--cluster", "slurm", width]
    said, launch_s = run(slurm, *launch, env=env)
    assert f"shards         101  {ELEMENTS}" in said
    infer = ["jobs/launch_infer.py", "--study", paths.root, "--cluster", "slurm", width, "--epochs", "best"]
    run(slurm, *infer, "--setting", "unet", "--parts", "val1", "val2", env=env)
    paths.shards.rows("x").parent.mkdir(parents=True)
    for number in range(0, num_slides, 8):
        paths.shards.rows(f"slide-{number:06d}").touch()

    before = len(slurm.calls())
    said, status_s = run(slurm, "jobs/status.py", paths.root, "--json", env=env)
    shards = json.loads(said)["stages"][0]
    assert (shards["state"], shards["live_elements"]) == ("running", {"RUNNING": 400, "PENDING": 600})
    assert (shards["num_done"], shards["num_total"]) == (num_slides // 8, num_slides // 2)
    assert status_s < 10
    counts = Counter(call.command for call in slurm.calls()[before:])
    assert counts["squeue"] <= 2
    assert sum(counts.values()) <= 5

    said, _ = run(slurm, "jobs/status.py", paths.root, "--retry-failed", env=env)
    assert "nothing is launched" in said
    said, again_s = run(slurm, *launch, env=env)
    assert "queued by an earlier launch, not submitted again" in said
    assert [call.options["array"] for call in slurm.calls() if call.options and "array" in call.options] == [
        f"0-{ELEMENTS - 1}%32"
    ] * 2
    assert max(call.longest for call in slurm.calls()) < LONGEST_STRING_BYTES / 10
    assert max(call.total for call in slurm.calls()) < MOST_BYTES / 10
    assert max(call.script_bytes for call in slurm.calls()) < 64 * 1024
    print(f"{num_slides} slides: launch {launch_s:.1f} s, again {again_s:.1f} s, status {status_s:.1f} s")  # noqa: T201 - figures for docs/slurm.md
