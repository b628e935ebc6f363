"""How many files and functions three trips go through: `python tests/support/trips.py STUDY SLIDE_ID`.

STUDY is a finished phantom study (`make demo`); it is copied first. Counted is each function of the project that is
called at least once, in this process: a slide from manifest to verdict, a training of one step, a submission as a dry
run.
"""

import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("bccdist", "shards", "jobs", "analysis")
SETTING = "resnet34_ds"


@contextmanager
def counted(name: str) -> Iterator[None]:
    """Print how many files and functions of the project are gone through."""
    called: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            called.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    roots = tuple(f"{REPOSITORY / package}/" for package in PACKAGES)
    own = {(file, function) for file, function in called if file.startswith(roots) and "<module>" not in function}
    print(f"{name}: {len({file for file, _ in own})} files, {len(own)} functions")


def slide_trip(root: Path, slide_id: str) -> None:
    """Heatmap, ledger rows and verdicts of a Test slide with the chosen model."""
    from analysis.study_evidence.verdict_table import all_verdicts
    from bccdist.configuration import InferConfig
    from bccdist.parts import Part
    from bccdist.paths import StudyPaths
    from bccdist.sections.choices import read_choices
    from bccdist.sections.section_rows import load_ledger
    from bccdist.stages.epochs import infer_slides

    paths = StudyPaths(root)
    choices = read_choices(paths)
    paths.heatmap(SETTING, choices[0].epoch, slide_id).unlink()
    paths.ledger_rows(SETTING, choices[0].epoch, slide_id).unlink()
    manifest = root / "phantom" / "slides.csv"
    with counted("one slide from manifest to verdict"):
        infer_slides(manifest, [slide_id], root, SETTING, [choices[0].epoch], InferConfig(batch=4), num_workers=0)
        all_verdicts(load_ledger(paths), choices, [Part.TEST])


def training_trip(root: Path) -> None:
    """A training of one epoch of one step."""
    from bccdist.training.loop import train
    from jobs.demo import TRAIN

    shutil.rmtree(root / "runs")
    config = replace_fields(TRAIN, epochs=1, max_steps=1)
    with counted("one training step"):
        train(root, SETTING, config)


def submission_trip(root: Path) -> None:
    """The command line of a whole study, as a dry run."""
    import runpy

    script = REPOSITORY / "jobs" / "launch_study.py"
    manifest = root / "phantom" / "slides.csv"
    words = ["--manifest", str(manifest), "--study", str(root.parent / "new"), "--cluster", "slurm", "--dry-run"]
    sys.argv = [str(script), *words]
    with counted("one submission"):
        runpy.run_path(str(script), run_name="__main__")


def replace_fields(value: Any, **changes: Any) -> Any:
    """`dataclasses.replace`, called outside of what is counted."""
    from dataclasses import replace

    return replace(value, **changes)


def main(study: Path, slide_id: str) -> None:
    """Go all three trips on a copy of the study."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "study"
        shutil.copytree(study, root)
        trips: list[Callable[[], None]] = [
            lambda: slide_trip(root, slide_id),
            lambda: training_trip(root),
            lambda: submission_trip(root),
        ]
        for trip in trips:
            trip()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
