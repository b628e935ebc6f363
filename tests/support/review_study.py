"""A study under review, made without a network, for the tests of the review viewer."""

import atexit
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread
from typing import Any

import httpx
import uvicorn
from picture_study import PictureStudy, write_picture_study
from starlette.types import ASGIApp

from analysis.review.answers import Answer, GivenAnswer, GivenRegions, OutlineChange, Step
from analysis.review.connections import Connection
from analysis.review.gate import Access
from analysis.review.journal import Journal
from analysis.review.server import make_app
from analysis.review.serving import listen
from analysis.review.session import Session
from analysis.review.worklist import ReviewPlan, Worklist, read_worklist
from bccdist.parts import Part
from bccdist.paths import StudyPaths

SETTING = "resnet34_ds"
REVIEW_PARTS = [Part.VALIDATION_1, Part.TEST]
BLIND = "test-1/test-1-left"
"""The one blind section with `PLAN`."""
PLAN = ReviewPlan(order="distance", blind_share=0.2, seed=3)


@cache
def original() -> PictureStudy:
    """Made once for all tests of a process."""
    folder = Path(mkdtemp(prefix="review-study-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_picture_study(folder)


def copied_study(folder: Path) -> StudyPaths:
    """The results of the study in a folder of its own; the slides stay where they are."""
    shutil.copytree(original().root, folder / "study")
    return StudyPaths(folder / "study")


def worklist_of(paths: StudyPaths, plan: ReviewPlan = PLAN, parts: list[Part] | None = None) -> Worklist:
    return read_worklist(paths.root, parts or REVIEW_PARTS, plan, setting=SETTING)


@contextmanager
def listening(app: ASGIApp) -> Iterator[int]:
    """The port of 127.0.0.1 on which an application answers, in a thread of this process."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", http=Connection)
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive()


@contextmanager
def serving(paths: StudyPaths, reviewer: str = "anna", plan: ReviewPlan = PLAN) -> Iterator[httpx.Client]:
    """A client of the server of one reviewer, without a token."""
    access = Access(port=0, names=frozenset({"127.0.0.1"}))
    with Journal(paths, reviewer) as journal:
        session = Session(worklist_of(paths, plan), journal)
        with listening(make_app(session, access)) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield client


def given(key: str = "test-0/test-0-left", answer: str = "Tumor", **changes: Any) -> GivenAnswer:
    """An answer to a section that was not blind."""
    slide_id, section_id = key.split("/")
    values: dict[str, Any] = {
        "at": "2026-01-01T00:00:00.000+00:00",
        "slide_id": slide_id,
        "section_id": section_id,
        "answer": Answer(answer),
        "comment": "",
        "seconds": 2.0,
        "is_blind": False,
        "was_shown": True,
        "prefilled": "Tumor",
        "prediction": "Tumor",
        "label_before": None,
        "setting": SETTING,
        "epoch": 2,
        "weights_digest": "000000000001",
    }
    return GivenAnswer(**values | changes)


def drawn_square(x: float, y: float, edge: float, kind: str = "Tumornest") -> dict[str, Any]:
    """A GeoJSON feature in level-0 px."""
    ring = [[x, y], [x + edge, y], [x + edge, y + edge], [x, y + edge], [x, y]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "id": f"square {x} {y} {edge}", "geometry": geometry, "properties": {"kind": kind}}


def say(paths: StudyPaths, reviewer: str, *answers: Step, regions: GivenRegions | None = None) -> None:
    """Put answers, or other steps, and regions into a reviewer's journal."""
    with Journal(paths, reviewer) as journal:
        for answer in answers:
            journal.add(answer)
        if regions is not None:
            named = tuple({"id": f"{number}", **each} for number, each in enumerate(regions.features))
            journal.add(OutlineChange(at=regions.at, slide_id=regions.slide_id, added=named, replaces_all=True))
