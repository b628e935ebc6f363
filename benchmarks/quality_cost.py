"""What measuring quality costs of a slide's time: `python -m benchmarks.quality_cost SLIDE`.

The slide goes through inference as in a study, up to the ledger's rows. Counted is the processor time of all that
quality alone needs (finding what lies on the tissue, measuring cells, the encoder's features, the ledger's columns)
against that of the whole slide: quality runs beside the network, and other work on the machine moves the wall. Torch
and OpenCV have one thread each, so that a thread's time is that of what it runs. Weights are random.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from time import process_time, thread_time
from typing import Any, get_args
from unittest.mock import patch

import cv2
import torch

from bccdist.configuration import InferConfig, Setting
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


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 16], help="of the network's stages")
    parser.add_argument("--engines", nargs="+", default=["auto"], help="as of launch_infer")
    parser.add_argument("--setting", default="resnet34_ds", choices=get_args(Setting))
    parser.add_argument("--target-mpp", type=float, default=0.92, help="um per pixel that the network sees")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    parts = list(dict.fromkeys(name for name, _, _ in TIMED))
    print(f"| width | engine | slide, CPU s (turns) | quality, CPU s | share, % (turns) | {' | '.join(parts)} |")
    print("|---" * (5 + len(parts)) + "|")
    for width in arguments.widths:
        torch.manual_seed(0)
        network = DeeplySupervisedUNet(arguments.setting, width=width).eval()
        for engine in arguments.engines:
            config = InferConfig(engine=engine)
            method = Method.of(config, torch.device("cpu"))
            with tempfile.TemporaryDirectory() as folder:
                at = Path(folder)
                predictor = make_predictor(network, method, device=torch.device("cpu"), int8_file=at.joinpath)
                order = HeatmapOrder(
                    path=at / "a.ozx", setting=arguments.setting, epoch=1, predictor=predictor, method=method
                )
                turns = []
                # The first turn compiles, and is not counted.
                for _ in range(arguments.repeats + 1):
                    turns.append(spend(arguments.slide, order, config, target_mpp=arguments.target_mpp))
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
    main()
