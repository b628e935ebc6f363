"""The routes of the review viewer: what the page asks for, and what it sends (paper, section 3.2).

All files are read by a few threads, so a slow disk stops no other answer, and only so many tiles are in memory at
once. What belongs to a blind section that is not answered yet never leaves the server.
"""

import asyncio
import json
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_args

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from analysis.review.agreement import agreement_report
from analysis.review.corrections import checked_regions
from analysis.review.gate import Access, Gate
from analysis.review.journal import Answer, GivenAnswer, GivenRegions, Journal, now, read_journals
from analysis.review.overlays import (
    Feature,
    annotation_features,
    collection,
    heatmap_piece,
    region_features,
    without_hidden,
)
from analysis.review.tiles import OVERLAP_PX, TILE_PX, TileReader, error_tile
from analysis.review.worklist import Worklist, WorkSection
from bccdist.configuration import PHANTOM_WARNING, Psi, Setting, outputs_of
from bccdist.errors import AnnotationError, BccdistError, ConfigurationError, HeatmapError
from bccdist.heatmaps.store import Heatmap
from bccdist.sections.choices import Choice
from bccdist.slides.geometry import Box

STATIC = Path(__file__).parent / "static"
NUM_TILE_THREADS = 4
"""Two a core of a small machine: some wait for the disk while others decode."""
NUM_OTHER_THREADS = 2
"""For heatmaps, annotations and regions, which hold up neither tiles nor answers."""
LONGEST_COMMENT = 4000
"""Characters."""
LONGEST_SECONDS = 7 * 24 * 3600.0
MOST_HEATMAP_PX = 4096
"""Of the longer side of a piece."""
_MOST_HEATMAPS, _MOST_FEATURES = 6, 64
"""Kept in memory: open heatmaps, and answers with annotations or regions."""
_ERROR_HEADER_CHARACTERS = 300
_MOST_LEVEL = 40
_TILE_NAME = re.compile(r"([0-9]{1,7})_([0-9]{1,7})\.jpe?g")
_ANSWER_FIELDS = {"id", "answer", "comment", "seconds", "viewed"}
_VIEWED_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "setting": str,
    "psi": str,
    "t_p": (int, float),
    "heatmap": bool,
}
_T = TypeVar("_T")
_Handler = Callable[[Request], Awaitable[Response]]


class Newest:
    """The newest few of some things that are slow to make; threads may share it."""

    def __init__(self, most: int) -> None:
        """Without any yet."""
        self._most = most
        self._lock = threading.Lock()
        self._things: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """The thing under a key, made now if it is not there."""
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
                return cast("_T", self._things[key])
        made = make()
        with self._lock:
            self._things[key] = made
            while len(self._things) > self._most:
                self._things.popitem(last=False)
        return made


@dataclass(frozen=True, kw_only=True)
class ReviewServer:
    """One reviewer at work on a worklist."""

    worklist: Worklist
    journal: Journal
    reviewer: str
    tiles: TileReader = field(init=False)
    heatmaps: Newest = field(init=False, default_factory=lambda: Newest(_MOST_HEATMAPS))
    features: Newest = field(init=False, default_factory=lambda: Newest(_MOST_FEATURES))
    tile_pool: ThreadPoolExecutor = field(
        init=False, default_factory=lambda: ThreadPoolExecutor(NUM_TILE_THREADS, thread_name_prefix="tiles")
    )
    other_pool: ThreadPoolExecutor = field(
        init=False, default_factory=lambda: ThreadPoolExecutor(NUM_OTHER_THREADS, thread_name_prefix="review")
    )

    journal_pool: ThreadPoolExecutor = field(
        init=False, default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="journal")
    )

    def __post_init__(self) -> None:
        """Take the slides of the worklist; no other file is ever read."""
        records = {slide_id: self.worklist.manifest.slide(slide_id) for slide_id in self.worklist.by_slide}
        object.__setattr__(self, "tiles", TileReader(records))

    def close(self) -> None:
        """End the threads and close the slides."""
        for pool in (self.tile_pool, self.other_pool, self.journal_pool):
            pool.shutdown(cancel_futures=True)
        self.tiles.slides.close()

    # What the page shows

    def study(self) -> dict[str, Any]:
        """What the page has to know at its start."""
        worklist, plan = self.worklist, self.worklist.plan
        is_phantom = worklist.manifest.is_phantom or bool(worklist.rows.frame["phantom"].any())
        return {
            "name": worklist.paths.root.resolve().name,
            "phantom": is_phantom,
            "warning": PHANTOM_WARNING if is_phantom else None,
            "reviewer": self.reviewer,
            "order": plan.order,
            "blind_share": plan.blind_share,
            "settings": [_setting_json(choice) for choice in worklist.choices.values()],
            "headline": worklist.headline.setting,
            "answers": [answer.value for answer in Answer],
            "num_unplaced": worklist.num_unplaced,
        }

    def sections(self) -> dict[str, Any]:
        """All sections in the order of review."""
        latest = self.journal.said.latest
        return {"sections": [section_json(each, latest.get(each.key)) for each in self.worklist.sections]}

    def slide(self, slide_id: str) -> dict[str, Any]:
        """Size, scale and levels of a slide."""
        facts = self.tiles.facts(slide_id)
        return {
            "slide_id": slide_id,
            "width": facts.width,
            "height": facts.height,
            "mpp": facts.mpp or None,
            "tile_px": TILE_PX,
            "overlap": OVERLAP_PX,
            "min_level": facts.min_level,
            "max_level": facts.max_level,
            "file": self.worklist.manifest.slide(slide_id).path.name,
            "error": facts.error,
        }

    def hidden_boxes(self, slide_id: str) -> list[Box]:
        """The boxes of a slide's blind sections that this reviewer has not answered yet, in level-0 px."""
        latest = self.journal.said.latest
        return [
            section.box_level0_px
            for section in self.worklist.by_slide[slide_id]
            if not is_revealed(section, latest.get(section.key))
        ]

    def heatmap(
        self, setting: str, slide_id: str, psi: Psi, box_level0_px: Box | None, max_px: int
    ) -> tuple[bytes, str]:
        """A piece of a heatmap as PNG, and the box that it covers as the header says it.

        Raises:
            HeatmapError: there is none, or it is of other weights than the chosen ones.
        """
        choice = self.worklist.choices[setting]
        path = self.worklist.paths.heatmap(setting, choice.epoch, slide_id)
        heatmap = self.heatmaps.get(path, lambda: _open_heatmap(path, choice))
        box = box_level0_px or Box(0, 0, *heatmap.attributes.size_level0_px)
        piece = heatmap_piece(heatmap, psi, box, max_px=max_px, hidden=self.hidden_boxes(slide_id))
        return piece.png, ",".join(f"{side:.10g}" for side in piece.box_level0_px)

    def annotations(self, slide_id: str) -> Feature:
        """What is annotated on a slide."""
        record, kinds = self.worklist.manifest.slide(slide_id), self.worklist.manifest.kinds
        facts = self.tiles.facts(slide_id)
        if facts.error is not None:
            raise AnnotationError(facts.error)
        features = self.features.get(("annotations", slide_id), lambda: annotation_features(record, kinds, facts.mpp))
        return collection(without_hidden(features, self.hidden_boxes(slide_id)))

    def regions(self, setting: str, slide_id: str, t_p: float | None) -> Feature:
        """The predicted regions of a slide."""
        features = self.features.get(
            ("regions", setting, slide_id, t_p), lambda: region_features(self.worklist, setting, slide_id, t_p)
        )
        return collection(without_hidden(features, self.hidden_boxes(slide_id)))

    def drawn_regions(self, slide_id: str) -> Feature:
        """The regions of a slide that this reviewer drew last."""
        drawn = self.journal.said.latest_regions.get(slide_id)
        return collection(dict(each) for each in (drawn.features if drawn else ()))

    def progress(self) -> dict[str, Any]:
        """How many sections are answered, in all and by part."""
        answered = self.journal.said.latest.keys()
        by_part: dict[str, dict[str, int]] = {}
        for section in self.worklist.sections:
            counts = by_part.setdefault(section.part.value, {"total": 0, "answered": 0})
            counts["total"] += 1
            counts["answered"] += section.key in answered
        sums = {name: sum(counts[name] for counts in by_part.values()) for name in ("total", "answered")}
        return {**sums, "by_part": by_part}

    def agreement(self) -> dict[str, Any]:
        """Agreement between all reviewers of the study, and anchoring."""
        return agreement_report(read_journals(self.worklist.paths))

    # What the reviewer says

    def answer(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Keep an answer, and return its section, which is revealed then.

        Raises:
            HTTPException: it is not an answer as the page sends it.
        """
        section = self.worklist.by_key[content["id"]]
        headline, call = self.worklist.headline, section.calls.get(self.worklist.headline.setting)
        was_shown = is_revealed(section, self.journal.said.latest.get(section.key))
        given = GivenAnswer(
            at=now(),
            slide_id=section.slide_id,
            section_id=section.section_id,
            answer=Answer(content["answer"]),
            comment=content.get("comment", ""),
            seconds=float(content.get("seconds", 0.0)),
            is_blind=section.is_blind,
            was_shown=was_shown,
            prefilled=section.prefilled if was_shown else "",
            prediction="" if call is None else call.verdict,
            label_before=section.label,
            setting=headline.setting,
            epoch=headline.epoch,
            weights_digest=headline.weights_digest,
            viewed=content.get("viewed") or {},
        )
        self.journal.add_answer(given)
        return {"section": section_json(section, given)}

    def draw(self, slide_id: str, features: Any) -> dict[str, Any]:
        """Keep the regions that a reviewer drew or corrected.

        Raises:
            AnnotationError: they are no regions on this slide.
        """
        facts = self.tiles.facts(slide_id)
        if facts.error is not None:
            raise AnnotationError(facts.error)
        checked = checked_regions(features, size_level0_px=(facts.width, facts.height))
        self.journal.add_regions(GivenRegions(at=now(), slide_id=slide_id, features=checked))
        return {"num": len(checked)}


def is_revealed(section: WorkSection, latest: GivenAnswer | None) -> bool:
    """Whether predictions of a section may be seen."""
    return not section.is_blind or latest is not None


def section_json(section: WorkSection, latest: GivenAnswer | None) -> dict[str, Any]:
    """A section as the page knows it; what is hidden is not there at all."""
    revealed = is_revealed(section, latest)
    seen = {
        "id": section.key,
        "slide_id": section.slide_id,
        "section_id": section.section_id,
        "part": section.part.value,
        "box_level0_px": list(section.box_level0_px),
        "coverage": section.coverage,
        "blind": section.is_blind,
        "answer": latest and latest.answer.value,
        "answered_at": latest and latest.at,
        "comment": latest.comment if latest else "",
        "revealed": revealed,
    }
    if not revealed:
        return seen
    return {
        **seen,
        "label": section.label,
        "prefilled": section.prefilled,
        "verdicts": {setting: asdict(call) for setting, call in section.calls.items()},
    }


def _setting_json(choice: Choice) -> dict[str, Any]:
    psis = outputs_of(cast("Setting", choice.setting))
    return {
        "setting": choice.setting,
        "epoch": choice.epoch,
        "psis": list(psis),
        "final": psis[-1],
        "t_p": choice.t_p,
        "t_a_um2": choice.t_a_um2,
        "area_unit": choice.area_unit,
    }


def _open_heatmap(path: Path, choice: Choice) -> Heatmap:
    heatmap = Heatmap(path)
    if heatmap.attributes.weights_digest != choice.weights_digest:
        raise HeatmapError(
            f"{path.name}: made with the weights {heatmap.attributes.weights_digest}, but {choice.weights_digest} "
            "were chosen; run the inference stage again, or the selection"
        )
    return heatmap


class Routes:
    """The server's routes: they take requests apart, and leave the work to its threads."""

    def __init__(self, server: ReviewServer) -> None:
        """Of one server."""
        self._server = server

    @property
    def all(self) -> list[Route | Mount]:
        """In the order in which they are tried."""
        return [
            Route("/", self.page),
            Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
            Route("/api/study", self._plain(self._server.study)),
            Route("/api/sections", self._plain(self._server.sections)),
            Route("/api/progress", self._plain(self._server.progress)),
            Route("/api/agreement", self.agreement),
            Route("/api/slides/{slide_id}", self.slide),
            Route("/api/heatmap/{setting}/{slide_id}/{psi}", self.heatmap),
            Route("/api/annotations/{slide_id}", self.annotations),
            Route("/api/regions/{slide_id}", self.drawn_regions, methods=["GET"]),
            Route("/api/regions/{slide_id}", self.draw, methods=["POST"]),
            Route("/api/regions/{setting}/{slide_id}", self.regions),
            Route("/api/answers", self.answer, methods=["POST"]),
            Route("/tiles/{slide_id}/{level:int}/{name}", self.tile),
        ]

    @staticmethod
    def _plain(make: Callable[[], Mapping[str, Any]]) -> _Handler:
        async def handler(_: Request) -> Response:
            return JSONResponse(make())

        return handler

    async def page(self, _: Request) -> Response:
        """The page itself."""
        return FileResponse(STATIC / "index.html")

    async def agreement(self, _: Request) -> Response:
        """Kappa and anchoring."""
        return JSONResponse(await self._other(self._server.agreement))

    async def slide(self, request: Request) -> Response:
        """Facts of a slide."""
        slide_id = self._slide_id(request)
        return JSONResponse(await self._other(lambda: self._server.slide(slide_id)))

    async def tile(self, request: Request) -> Response:
        """A tile; one that cannot be read is grey and says why in a header."""
        slide_id, level = self._slide_id(request), request.path_params["level"]
        place = _TILE_NAME.fullmatch(request.path_params["name"])
        if place is None or level > _MOST_LEVEL:
            _refuse(404, "no such tile")
        col, row = map(int, place.groups())
        loop = asyncio.get_running_loop()
        try:
            content = await loop.run_in_executor(
                self._server.tile_pool, self._server.tiles.tile, slide_id, level, col, row
            )
        except Exception as error:  # noqa: BLE001 - whatever a slide is poisoned with, the page says so and goes on
            reason = f"{type(error).__name__}: {error}".encode("ascii", "replace").decode().replace("\n", " ")
            headers = {"X-Tile-Error": reason[:_ERROR_HEADER_CHARACTERS], "Cache-Control": "no-store"}
            return Response(error_tile(), media_type="image/jpeg", headers=headers)
        if content is None:
            _refuse(404, "no such tile")
        return Response(content, media_type="image/jpeg")

    async def heatmap(self, request: Request) -> Response:
        """A piece of a heatmap."""
        setting, slide_id, psi = self._setting(request), self._slide_id(request), request.path_params["psi"]
        if psi not in get_args(Psi):
            _refuse(404, f"no output {psi!r}")
        box = _box_of(request)
        max_px = min(max(1, round(_number(request, "max_px", 1024.0))), MOST_HEATMAP_PX)
        png, covered = await self._other(lambda: self._server.heatmap(setting, slide_id, psi, box, max_px))
        return Response(png, media_type="image/png", headers={"X-Box": covered})

    async def annotations(self, request: Request) -> Response:
        """The annotations of a slide."""
        slide_id = self._slide_id(request)
        return JSONResponse(await self._other(lambda: self._server.annotations(slide_id)))

    async def regions(self, request: Request) -> Response:
        """The predicted regions of a slide."""
        setting, slide_id = self._setting(request), self._slide_id(request)
        t_p = _number(request, "t_p", math.nan)
        if not math.isnan(t_p) and not 0 < t_p <= 1:
            _refuse(400, f"t_p is {t_p}, expected above 0 to 1")
        chosen = None if math.isnan(t_p) else t_p
        return JSONResponse(await self._other(lambda: self._server.regions(setting, slide_id, chosen)))

    async def drawn_regions(self, request: Request) -> Response:
        """The regions that the reviewer drew last."""
        return JSONResponse(self._server.drawn_regions(self._slide_id(request)))

    async def draw(self, request: Request) -> Response:
        """Keep the regions that the reviewer drew."""
        slide_id, content = self._slide_id(request), await _json_object(request)
        return JSONResponse(await self._other(lambda: self._server.draw(slide_id, content.get("features"))))

    async def answer(self, request: Request) -> Response:
        """Keep an answer."""
        content = await _json_object(request)
        fault = answer_fault(content, self._server.worklist)
        if fault:
            _refuse(404 if content.get("id") not in self._server.worklist.by_key else 400, fault)
        loop = asyncio.get_running_loop()
        return JSONResponse(await loop.run_in_executor(self._server.journal_pool, self._server.answer, content))

    async def _other(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._server.other_pool, work)

    def _slide_id(self, request: Request) -> str:
        slide_id: str = request.path_params["slide_id"]
        if slide_id not in self._server.worklist.by_slide:
            _refuse(404, f"no slide {slide_id!r} under review")
        return slide_id

    def _setting(self, request: Request) -> str:
        setting: str = request.path_params["setting"]
        if setting not in self._server.worklist.choices:
            _refuse(404, f"no setting {setting!r}; selected were {', '.join(self._server.worklist.choices)}")
        return setting


def answer_fault(content: Mapping[str, Any], worklist: Worklist) -> str:
    """What is wrong with an answer as the page sent it; nothing where it is right."""
    seconds, viewed, comment = content.get("seconds", 0.0), content.get("viewed") or {}, content.get("comment", "")
    faults = {
        f"unknown fields {sorted(content.keys() - _ANSWER_FIELDS)}": bool(content.keys() - _ANSWER_FIELDS),
        f"id is {content.get('id')!r}, which is no section under review": content.get("id") not in worklist.by_key,
        f"answer is {content.get('answer')!r}, expected one of {', '.join(Answer)}": content.get("answer")
        not in list(Answer),
        f"comment is no text of at most {LONGEST_COMMENT} characters": not isinstance(comment, str)
        or len(comment) > LONGEST_COMMENT,
        f"seconds is {seconds!r}, expected 0 to {LONGEST_SECONDS}": not _is_number(seconds)
        or not 0 <= seconds <= LONGEST_SECONDS,
        f"viewed is {viewed!r}, expected {', '.join(_VIEWED_TYPES)}": not _is_viewed(viewed),
    }
    return "; ".join(text for text, is_fault in faults.items() if is_fault)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_viewed(viewed: Any) -> bool:
    return isinstance(viewed, dict) and all(
        name in _VIEWED_TYPES and (value is None or isinstance(value, _VIEWED_TYPES[name])) and len(str(value)) < 100
        for name, value in viewed.items()
    )


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        content = json.loads(await request.body(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _refuse(400, f"not JSON: {error}")
    if not isinstance(content, dict):
        _refuse(400, f"expected a JSON object, got {type(content).__name__}")
    return content


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _number(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or abs(number) > 1e9:
        _refuse(400, f"{name} is {text!r}, expected a number")
    return number


def _box_of(request: Request) -> Box | None:
    """The box of a request, whole level-0 px outwards; None without one."""
    names = ("x", "y", "width", "height")
    given = [name for name in names if name in request.query_params]
    if not given:
        return None
    if len(given) < len(names):
        _refuse(400, f"a box needs {', '.join(names)}; got {', '.join(given)}")
    x, y, width, height = (_number(request, name, 0.0) for name in names)
    if width <= 0 or height <= 0:
        _refuse(400, f"the box is {width} x {height}, expected some area")
    left, top = math.floor(x), math.floor(y)
    return Box(left, top, math.ceil(x + width) - left, math.ceil(y + height) - top)


def _refuse(status: int, error: str) -> NoReturn:
    raise HTTPException(status, error)


async def _on_http_error(_: Request, error: Exception) -> Response:
    refusal = cast("HTTPException", error)
    return JSONResponse({"error": refusal.detail}, refusal.status_code, headers=refusal.headers)


async def _on_our_error(_: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, AnnotationError | ConfigurationError) else 500
    return JSONResponse({"error": str(error)}, status)


async def _on_disk_error(_: Request, error: Exception) -> Response:
    reason = cast("OSError", error).strerror or str(error)
    return JSONResponse({"error": f"the disk refused: {reason}; nothing was kept, try again"}, 507)


async def _on_fault(_: Request, error: Exception) -> Response:
    # Nobody foresaw it: the server's log has the traceback.
    return JSONResponse({"error": f"a fault of the server: {type(error).__name__}; see what it printed"}, 500)


def make_app(server: ReviewServer, access: Access) -> ASGIApp:
    """The server as an ASGI application; it closes what it opened when it ends."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        yield
        server.close()

    app = Starlette(
        routes=cast("Sequence[Any]", Routes(server).all),
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _on_http_error,
            BccdistError: _on_our_error,
            OSError: _on_disk_error,
            Exception: _on_fault,
        },
    )
    return Gate(app, access)
