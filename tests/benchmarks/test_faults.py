"""No generated fault is passed in silence, and the harness that counts them sees a product that is wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bccdist.configuration import InferConfig
from bccdist.errors import SlideError
from bccdist.slides import cell_rows
from bccdist.slides.slide import Slide
from benchmarks.faults.__main__ import failure_lines, table, try_all
from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.fault import FAILURES, Fault, Outcome, Seen, Trial, try_fault
from benchmarks.faults.scene import FinishedStudy, Scene, make_scene
from benchmarks.faults.small_study import make_small_study, open_study

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FinishedStudy:
    """A finished phantom study."""
    root = tmp_path_factory.mktemp("study") / "study"
    make_small_study(root)
    # Dense patches compute a third as much; the command takes the paper's.
    return open_study(root, InferConfig(engine="eager", tiling="dense", halo_px=32))


@pytest.fixture(scope="module")
def scene(study: FinishedStudy, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """One slide of it, to which the faults are done."""
    return make_scene(study, 0, tmp_path_factory.mktemp("scene") / "scene")


def fault_named(name: str) -> Fault:
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    return fault


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.kind}: {fault.name}" for fault in FAULTS])
def test_a_fault_is_not_passed_in_silence(fault: Fault, scene: Scene, tmp_path: Path) -> None:
    seen = try_fault(fault, scene, tmp_path / "trial")
    assert seen.outcome not in FAILURES, seen.text


@pytest.fixture
def paler_slides(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Makes the product read every slide paler than it is."""

    def read_into(slide: Slide, image: Any, box_px: Any, read: Any = Slide.read_into) -> Any:
        found = read(slide, image, box_px)
        image[:] = 128 + image // 2
        return found

    def let_pass() -> None:
        monkeypatch.setattr(Slide, "read_into", read_into)
        # Held against the overview, such cells would be found unread.
        monkeypatch.setattr(cell_rows, "unread_cells", lambda _row, _seen, needed, **_: np.zeros_like(needed))

    return let_pass


def test_a_product_that_reads_other_colours_is_counted_as_silent(
    scene: Scene, tmp_path: Path, paler_slides: Callable[[], None]
) -> None:
    fault = fault_named("planes stored apart, lossless")
    scene.unharmed(scene.lossless)
    paler_slides()
    seen = try_fault(fault, scene, tmp_path / "trial")
    assert seen.outcome is Outcome.SILENT
    assert "largest regions" in seen.text


def test_a_product_that_trusts_changed_bytes_is_counted_as_silent(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.faults.stored_bytes.read_set", lambda _: _TrustingSet())
    seen = try_fault(fault_named("shard set's index: a flipped bit"), scene, tmp_path / "trial")
    assert seen.outcome is Outcome.SILENT


class _TrustingSet:
    """A shard set that reads whatever is there."""

    def column(self, name: str) -> str:
        return name


def _raising(error: Exception) -> Callable[[Trial], Seen]:
    def run(trial: Trial) -> Seen:
        raise error

    return run


def test_a_refusal_names_the_file_and_is_an_error_for_the_user(scene: Scene, tmp_path: Path) -> None:
    outcomes = {
        "of the slide": SlideError("trial/slide.tif: cannot be read"),
        "of no file": SlideError("cannot be read"),
        "of Python": ValueError("trial/slide.tif"),
    }
    found = {
        name: try_fault(Fault(kind="x", name=name, run=_raising(error)), scene, tmp_path / name / "trial").outcome
        for name, error in outcomes.items()
    }
    assert found == {"of the slide": Outcome.REFUSED, "of no file": Outcome.CRASH, "of Python": Outcome.CRASH}


def test_the_table_counts_each_outcome_and_names_what_failed(study: FinishedStudy, tmp_path: Path) -> None:
    quiet = Fault(kind="x", name="quiet", run=lambda trial: Seen(Outcome.SILENT, f"seed {trial.scene.seed}"))
    good = Fault(kind="x", name="good", run=lambda _: Seen(Outcome.RIGHT))
    found = try_all(study, [quiet, good], range(2), tmp_path)
    lines = list(table(found))
    assert lines[2] == "| x | quiet | 2 |  |  |  |  | 2 |  |"
    assert lines[-1] == "| all | 2 faults | 4 | 2 |  |  |  | 2 |  |"
    assert failure_lines(found) == ["SILENT: x, quiet: seed 0", "SILENT: x, quiet: seed 1"]


def test_names_of_faults_are_told_apart_and_each_kind_has_several() -> None:
    names = [(fault.kind, fault.name) for fault in FAULTS]
    assert len(set(names)) == len(names)
    kinds = {"pixels", "factors", "levels", "glass", "sections", "annotations", "bytes", "leakage"}
    assert {kind: sum(fault.kind == kind for fault in FAULTS) >= 9 for kind in kinds} == dict.fromkeys(kinds, True)
    assert {fault.kind for fault in FAULTS} == kinds
