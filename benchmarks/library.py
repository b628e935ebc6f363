"""The library against the launchers' job (python benchmarks/library.py --model bcc.model --slide slide.svs).

Both take the same slide in turns, in this process, each with its network loaded and warm: what is compared is what a
notebook adds. Every heatmap is made anew. In front of it stands what a fresh Python takes from
`import bccdist` to the first slide.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import tyro

import bccdist
from bccdist.configuration import InferConfig
from bccdist.library.model import Model
from bccdist.models.cohort import unpack_model
from bccdist.models.model_file import read_model
from bccdist.slide_runner import SlideWork
from bccdist.stages.inference import open_inference

_FIRST = """
import sys, time
started_s = time.perf_counter()
import bccdist
model = bccdist.open_model(sys.argv[1])
opened_s = time.perf_counter()
found = model.predict(sys.argv[2], progress=False)
found.sections
ended_s = time.perf_counter()
print(f"fresh Python: import and open {opened_s - started_s:.2f} s, first slide {ended_s - opened_s:.2f} s, "
      f"of which {found.ledger['network_s'][0].as_py():.2f} s in the network; processor {time.process_time():.2f} s")
"""


def main(model: Path, slide: Path, repeats: int = 5) -> None:
    """Compare the library with the launchers' job.

    Args:
        model: a model file.
        slide: a slide.
        repeats: times that each takes the slide, after one time to warm up.
    """
    words = [sys.executable, "-c", _FIRST, str(model), str(slide)]
    sys.stdout.write(subprocess.check_output(words, text=True))
    slide_ids = [f"s{number}" for number in range(repeats + 1)]
    with tempfile.TemporaryDirectory() as folder, bccdist.open_model(model) as opened:
        cohort = Path(folder) / "cohort"
        infer = _launchers_job(model, slide, slide_ids, cohort)
        ours: list[tuple[float, float]] = []
        theirs: list[tuple[float, float]] = []
        for number, slide_id in enumerate(slide_ids):
            # In turns, and the first one changes, so that what else the machine does falls on both.
            order = [ours, theirs] if number % 2 else [theirs, ours]
            for times in order:
                times.append(_timed(opened if times is ours else infer, slide, slide_id))
    for name, place in (("wall", 0), ("processor", 1)):
        library_s, job_s = (median(each[place] for each in times[1:]) for times in (ours, theirs))
        print(f"{name:9}: library {library_s:.2f} s, job {job_s:.2f} s: {library_s / job_s:.3f} times")


def _launchers_job(model: Path, slide: Path, slide_ids: list[str], cohort: Path) -> SlideWork:
    """What a launcher's job does with a slide_id, in a new cohort of the model."""
    file = read_model(model)
    unpack_model(file, cohort)
    # The manifest forbids two ids of one file; links to it are told apart by their names alone.
    for slide_id in slide_ids:
        (cohort / f"{slide_id}{slide.suffix}").symlink_to(slide.resolve())
    rows = [f"{slide_id},test,{slide_id}{slide.suffix}" for slide_id in slide_ids]
    manifest = cohort / "slides.csv"
    manifest.write_text("\n".join(["slide_id,part,path", *rows]) + "\n", encoding="utf-8")
    network = file.description.network
    return open_inference(manifest, slide_ids, cohort, network.setting, [network.epoch], InferConfig())


def _timed(way: Model | SlideWork, slide: Path, slide_id: str) -> tuple[float, float]:
    """Wall and processor seconds of a slide."""
    started = perf_counter(), process_time()
    if isinstance(way, Model):
        _ = way.predict(slide, slide_id=slide_id, progress=False).sections
    else:
        way(slide_id)
    return perf_counter() - started[0], process_time() - started[1]


if __name__ == "__main__":
    tyro.cli(main)
