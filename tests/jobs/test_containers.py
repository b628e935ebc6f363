"""A stage in a real container: what it makes is what it makes outside, and what is missing is said."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from containers import GREETING, Containers
from mini_cluster import wait_for
from places import REPOSITORY
from small_study import SmallStudy, write_study

pytestmark = [pytest.mark.slow, pytest.mark.container]


@pytest.fixture(scope="module")
def containers() -> Iterator[Containers]:
    """Podman with the image, in a folder whose path is short: podman takes no more than 50 characters."""
    with TemporaryDirectory(prefix="podman-", ignore_cleanup_errors=True) as folder:
        made = Containers(Path(folder))
        made.make_image()
        yield made
        made.ask("rmi", "--all", "--force")


@pytest.fixture
def study(tmp_path: Path) -> SmallStudy:
    """Nothing is built yet."""
    return write_study(tmp_path / "a study")


def launched(study: SmallStudy, container: str) -> list[str]:
    """The command of a launch of the shards, with a site that has this container."""
    site = study.data / "site.toml"
    site.write_text(f"cluster = 'local'\nmax_parallel = 1\ncontainer = '''{container}'''\n")
    places = ["--manifest", study.manifest, "--study", study.root, "--site", site]
    return [sys.executable, str(REPOSITORY / "jobs" / "launch_shards.py"), *map(str, places)]


def said_by(command: list[str], *, code: int) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_shards_made_in_a_container_are_those_made_outside(
    study: SmallStudy, tmp_path: Path, containers: Containers
) -> None:
    outside = study.copied_to(tmp_path / "outside")
    outside.build()
    outside.finish()
    said = said_by(launched(study, containers.before_python(study.data.parent)), code=0)
    assert GREETING in said
    assert study.contents() == outside.contents()
    assert not containers.ask("ps", "--all", "--quiet")


def test_an_image_that_is_missing_fails_the_launch_with_the_reason(study: SmallStudy, containers: Containers) -> None:
    missing = containers.before_python(study.data.parent, image="localhost/nowhere")
    said = said_by(launched(study, missing), code=1)
    assert "localhost/nowhere: image not known" in said
    assert "Traceback" not in said
    assert not study.contents()


def test_a_study_that_the_container_does_not_have_fails_the_launch_with_its_path(
    study: SmallStudy, containers: Containers
) -> None:
    said = said_by(launched(study, containers.before_python()), code=1)
    assert f"{study.root / 'code'}" in said
    assert "No such file" in said
    assert "Traceback" not in said


def test_a_container_that_keeps_the_jobs_variables_out_is_told_to_pass_them_on(
    study: SmallStudy, containers: Containers
) -> None:
    said = said_by(launched(study, containers.before_python(study.data.parent, env_host=False)), code=1)
    assert "the variables of the job did not reach this process" in said
    assert "Traceback" not in said
    assert not study.contents()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_launch_that_ends_leaves_no_container_behind(
    study: SmallStudy, containers: Containers, number: signal.Signals
) -> None:
    command = launched(study, containers.before_python(study.data.parent))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launcher:
        wait_for(lambda: containers.ask("ps", "--quiet"), within_s=60, what="a container")
        os.kill(launcher.pid, number)
        assert launcher.wait(60) != 0
    wait_for(lambda: not containers.ask("ps", "--all", "--quiet"), within_s=10, what="no container")
