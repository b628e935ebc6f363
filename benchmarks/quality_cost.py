"""What measuring quality costs of a slide's time: `python -m benchmarks.quality_cost SLIDE`.

The slide goes through inference as in a study, up to the ledger's rows. Counted is the processor time of all that
quality alone needs (finding what lies on the tissue, measuring cells, the encoder's features, the ledger's columns)
against that of the whole slide: quality runs beside the network, and other work on the machine moves the wall. Torch
and OpenCV have one thread each, so that a thread's time is that of what it runs. Weights are random.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from time import process_time, thread_time
from typing import Annotated, Any, Literal
from unittest.mock import patch

import cv2
import torch
import tyro

from bccdist.configuration import Engine, InferConfig, Setting
from bccdist.heatmaps import store
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predictors import make_predictor
from bccdist.heatmaps.quality_pass import QualityPass
from bccdist.heatmaps.store import Heatmap
from bccdist.heatmaps.writing import HeatmapOrder
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.parts import Part
from bccdist.sections.marking import mark_slide
from bccdist.sections.quality_columns import QualityOfSections
from bccdist.slides.manifest import SlideRecord

TIMED: tuple[tuple[str, Any, str], ...] = (
    ("overview", QualityPass, "__init__"),
    ("cells", QualityPass, "look_at"),
    ("features", QualityPass, "catch_up"),
    ("kept, by section", QualityPass, "result"),
    ("kept, by section", store, "write_quality"),
    ("kept, by section", QualityOfSections, "__init__"),
    ("kept, by section", QualityOfSections, "columns"),
)
"""What only quality needs: what it is for, and the function of which class or module."""


@contextmanager
def counted(spent: dict[str, float]) -> Iterator[None]:
    """Count the processor time of what quality needs, by what it is for."""

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def measured(*arguments: Any, **named: Any) -> Any:
            started = thread_time()
            try:
                return function(*arguments, **named)
            finally:
                spent[name] = spent.get(name, 0.0) + thread_time() - started

        return measured

    with ExitStack() as stack:
        for name, owner, attribute in TIMED:
            stack.enter_context(patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        yield


def spend(
    slide: Path, order: HeatmapOrder, config: InferConfig, *, target_mpp: float
) -> tuple[float, dict[str, float]]:
    """The processor time of a slide from its file to ledger rows in seconds, and that of quality in it."""
    spent: dict[str, float] = {}
    record = SlideRecord(slide_id=slide.stem, part=Part.TEST, path=slide)
    with counted(spent):
        started = process_time()
        marked = mark_slide(
            record,
            [],
            [order],
            target_mpp=target_mpp,
            mpp_tolerance=config.mpp_tolerance,
            batch=config.batch,
            device=torch.device("cpu"),
        )
        list(marked.rows(Heatmap(order.path), phantom_weights=False))
        return process_time() - started, spent


def main(
    slide: Annotated[Path, tyro.conf.Positional],
    widths: tuple[int, ...] = (64, 16),
    engines: tuple[Literal["auto", Engine], ...] = ("auto",),
    setting: Setting = "resnet34_ds",
    target_mpp: float = 0.92,
    repeats: int = 5,
) -> None:
    """Measure, and print a table.

    Args:
        slide: Its file.
        widths: Of the network's first stage.
        engines: As of launch_infer.
        setting: Of the network.
        target_mpp: um per pixel that the network sees.
        repeats: Turns that are counted.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    parts = list(dict.fromkeys(name for name, _, _ in TIMED))
    print(f"| width | engine | slide, CPU s (turns) | quality, CPU s | share, % (turns) | {' | '.join(parts)} |")
    print("|---" * (5 + len(parts)) + "|")
    for width in widths:
        torch.manual_seed(0)
        network = DeeplySupervisedUNet(setting, width=width).eval()
        for engine in engines:
            config = InferConfig(engine=engine)
            method = Method.of(config, torch.device("cpu"))
            with tempfile.TemporaryDirectory() as folder:
                at = Path(folder)
                predictor = make_predictor(network, method, device=torch.device("cpu"), int8_file=at.joinpath)
                order = HeatmapOrder(path=at / "a.ozx", setting=setting, epoch=1, predictor=predictor, method=method)
                turns = []
                # The first turn compiles, and is not counted.
                for _ in range(repeats + 1):
                    turns.append(spend(slide, order, config, target_mpp=target_mpp))
                    order.path.unlink()
            totals, spent = zip(*turns[1:], strict=True)
            sums = [sum(each.values()) for each in spent]
            shares = [100 * own / total for own, total in zip(sums, totals, strict=True)]
            cells = [
                f"{width}",
                method.engine,
                f"{median(totals):.2f} ({', '.join(f'{each:.1f}' for each in totals)})",
                f"{median(sums):.3f}",
                f"{median(shares):.2f} ({', '.join(f'{each:.2f}' for each in shares)})",
                *(f"{median(each.get(name, 0.0) for each in spent):.3f}" for name in parts),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
