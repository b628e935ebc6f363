"""What all tests share: which of them run, and where the real slides are."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import chromium
import containers
import dicom_tools
import firefox
import hypothesis
import pytest
from mini_cluster import MiniCluster, reason_against
from places import REPOSITORY, REQUIRE_ALL, SHARED_DATA, shared_data_folder
from xdist.scheduler import LoadFileScheduling

from bccdist.ranks import MARK

# An example's time tells how busy the machine is; tests of speed measure it themselves.
hypothesis.settings.register_profile("without-deadline", deadline=None)
hypothesis.settings.load_profile("without-deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --run-slow and --run-gpu."""
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow, too")
    parser.addoption("--run-gpu", action="store_true", help="run the tests marked gpu; an error without one")


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several processes one core, before torch or OpenCV are imported, and let Ctrl-C reach commands."""
    # A shell's job in the background ignores it, one under nohup HUP, and so would the commands that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if hasattr(config, "workerinput"):
        os.environ.update(OMP_NUM_THREADS="1", OPENCV_FOR_THREADS_NUM="1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests unless asked for or demanded, and those that need real slides where there are none."""
    leave_out_slow = pytest.mark.skip(reason="slow: give --run-slow")
    no_slurm = reason_against()
    no_browser = chromium.reason_against()
    no_container = containers.reason_against()
    no_dicom_tools = dicom_tools.reason_against()
    no_data = pytest.mark.skip(reason=f"needs real slides, and {shared_data_folder()} is not there; set {SHARED_DATA}")
    for item in items:
        if "slow" in item.keywords and not config.getoption("--run-slow") and REQUIRE_ALL not in os.environ:
            item.add_marker(leave_out_slow)
        if "shared_data" in item.keywords and not shared_data_folder().is_dir() and REQUIRE_ALL not in os.environ:
            item.add_marker(no_data)
        if "slurm" in item.keywords and REQUIRE_ALL not in os.environ:
            # They wait for jobs for minutes, in which no core has anything to do.
            if not config.getoption("--run-slow"):
                item.add_marker(pytest.mark.skip(reason="slow: `make test-slurm` runs them"))
            elif no_slurm is not None:
                item.add_marker(pytest.mark.skip(reason=no_slurm))
        if "browser" in item.keywords and no_browser is not None and REQUIRE_ALL not in os.environ:
            item.add_marker(pytest.mark.skip(reason=no_browser))
        if "container" in item.keywords and no_container is not None and REQUIRE_ALL not in os.environ:
            item.add_marker(pytest.mark.skip(reason=no_container))
        if "dicom_tools" in item.keywords and no_dicom_tools is not None and REQUIRE_ALL not in os.environ:
            item.add_marker(pytest.mark.skip(reason=no_dicom_tools))


@pytest.fixture(autouse=True)
def no_mark_of_a_launcher_is_left() -> Iterator[None]:
    """A task that a test ran within this process leaves its rank there, which the next test would take for its own."""
    yield
    os.environ.pop(MARK, None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out tests on a GPU unless asked for."""
    if "gpu" in item.keywords and not item.config.getoption("--run-gpu"):
        pytest.skip("needs a GPU: `make test-gpu` runs them")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Asked for tests on a GPU, fail where there is none: what was left out there must not look like what passed."""
    if session.config.getoption("--run-gpu"):
        import torch

        if not torch.cuda.is_available():
            reason = f"torch {torch.__version__} finds no GPU on this machine"
            pytest.exit(f"GPU ACCEPTANCE NOT RUN: {reason}; nothing was tested", returncode=3)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """A file stays in one process, which makes its studies once; all tests on Slurm share one cluster."""
    return _ByFile(config, log)


class _ByFile(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "slurm" if "pytest.mark.slurm" in _text_of(file) else file


@cache
def _text_of(file: str) -> str:
    return (REPOSITORY / file).read_text(encoding="utf-8")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say clearly what was left out."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    if num_without_slurm := sum("needs Slurm" in reason for reason in skipped):
        terminalreporter.write_line(
            f"NOTE: {num_without_slurm} test(s) on a Slurm cluster were left out: {reason_against()}", yellow=True
        )
    if num_without_gpu := sum("needs a GPU" in reason for reason in skipped):
        terminalreporter.write_line(
            f"NOTE: {num_without_gpu} test(s) on a GPU were left out: `make test-gpu` runs them", yellow=True
        )
    if num_without_firefox := sum("needs Firefox" in reason for reason in skipped):
        terminalreporter.write_line(
            f"NOTE: {num_without_firefox} test(s) in Firefox were left out: {firefox.reason_against()}", yellow=True
        )
    if num_without_browser := sum("needs a browser" in reason for reason in skipped):
        terminalreporter.write_line(
            f"NOTE: {num_without_browser} test(s) in a browser were left out: {chromium.reason_against()}", yellow=True
        )
    if num_without_container := sum("needs containers" in reason for reason in skipped):
        terminalreporter.write_line(
            f"NOTE: {num_without_container} test(s) in a container were left out: {containers.reason_against()}",
            yellow=True,
        )
    if num_without_tools := sum("needs DICOM tools" in reason for reason in skipped):
        terminalreporter.write_line(
            f"NOTE: {num_without_tools} test(s) of DICOM files were left out: {dicom_tools.reason_against()}",
            yellow=True,
        )
    num_without_data = sum("needs real slides" in reason for reason in skipped)
    if num_without_data:
        terminalreporter.write_line(
            f"NOTE: {num_without_data} test(s) on real slides were left out: {shared_data_folder()} is not there",
            yellow=True,
        )


@pytest.fixture(scope="session")
def mini_cluster() -> Iterator[MiniCluster]:
    """A real Slurm with two nodes, for the session; tests that use it carry the mark `slurm`."""
    cluster = MiniCluster.prepared()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.script("stop")
        shutil.rmtree(cluster.folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of a size such as "2m"."""
    if os.geteuid() and REQUIRE_ALL not in os.environ:
        pytest.skip("a small disk can only be mounted by root")
    disk = tmp_path / "disk"

    def mount(size: str) -> Path:
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
        return disk

    yield mount
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Mounts a folder once more, read-only; returns where."""
    if os.geteuid() and REQUIRE_ALL not in os.environ:
        pytest.skip("a folder can only be mounted by root")
    mounted: list[Path] = []

    def mount(folder: Path) -> Path:
        place = tmp_path / f"read-only-{len(mounted)}"
        place.mkdir()
        subprocess.run(["mount", "--bind", str(folder), str(place)], check=True)
        mounted.append(place)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that start processes give each one core."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENCV_FOR_THREADS_NUM", "1")


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """For networks so small that threads cost more than they bring, and for bits that depend on their number."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real slides and fixtures; tests that use it carry the mark `shared_data`."""
    folder = shared_data_folder()
    assert folder.is_dir(), f"{folder} is not there; set {SHARED_DATA}"
    return folder
