"""The routes of the audit's page, and the server that answers them."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from analysis.review.answers import now
from analysis.review.asked import refuse, sent_object
from analysis.review.audit.crops import as_png, crop_box, marked, step_of
from analysis.review.audit.decisions import Decided, Decision, as_json, keep
from analysis.review.audit.session import AuditSession
from analysis.review.gate import Access, Gate, Keys
from bccdist.configuration import PHANTOM_WARNING
from bccdist.errors import BccdistError
from bccdist.parts import Kind

STATIC = Path(__file__).parents[1] / "static"
_SHOWN = (
    *("id", "slide_id", "unit", "rank", "score", "reason", "text", "kind", "mean_probability", "area_um2"),
    "proposed_kind",
)
_AWAY = "none"
"""How the page names a fix that takes an outline away."""
_Content = Mapping[str, Any]


def make_app(
    session: AuditSession, access: Access, keys: Keys | None = None, when_revoked: Callable[[], None] = lambda: None
) -> ASGIApp:
    """The server as an ASGI application; it closes what it opened when it ends."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        yield
        session.close()

    def route(path: str, work: Callable[..., Any], threads: Executor | None = None, *, method: str = "GET") -> Route:
        return Route(path, partial(_answer, session, work, threads), methods=[method])

    app = Starlette(
        routes=[
            route("/", page),
            Mount("/static", StaticFiles(directory=STATIC)),
            route("/api/audit", findings, session.file_threads),
            route("/api/audit/crops/{id:path}", crop, session.file_threads),
            route("/api/audit/decisions", decide, session.journal_thread, method="POST"),
        ],
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _on_http_error,
            BccdistError: _on_our_error,
            OSError: _on_disk_error,
        },
    )
    return Gate(app, access, keys, when_revoked)


async def _answer(
    session: AuditSession, work: Callable[..., Any], threads: Executor | None, request: Request
) -> Response:
    content = await sent_object(request) if request.method == "POST" else {}
    if threads is None:
        made = work(session, request, content)
    else:
        made = await asyncio.get_running_loop().run_in_executor(threads, work, session, request, content)
    return made if isinstance(made, Response) else JSONResponse(made)


def page(_: AuditSession, __: Request, ___: _Content) -> Response:
    """The page itself."""
    return FileResponse(STATIC / "audit.html")


def findings(session: AuditSession, _: Request, __: _Content) -> _Content:
    """What was found, most contradictory first, with this reviewer's decisions; not what others decided."""
    by_row, num_earlier = session.decisions()
    mine = {row: own.get(session.reviewer) for row, own in by_row.items()}
    return {
        "name": session.paths.root.resolve().name,
        "setting": session.setting,
        "reviewer": session.reviewer,
        "warning": PHANTOM_WARNING if session.rows and session.rows[0]["phantom"] else None,
        "num_first": session.num_first,
        "num_earlier": num_earlier,
        "kinds": [kind.value for kind in Kind],
        "findings": [
            {**{name: row[name] for name in _SHOWN}, "said": as_json(mine.get(row["id"]))} for row in session.rows
        ],
    }


def crop(session: AuditSession, request: Request, _: _Content) -> Response:
    """A finding as PNG: the tissue alone with `marked=no`."""
    row = _row(session, request.path_params["id"])
    slide_id = row["slide_id"]
    facts = session.tiles.facts(slide_id)
    if facts.error is not None:
        refuse(500, f"{slide_id}: {facts.error}")
    box = crop_box(row, mpp_level0=facts.mpp, size_level0_px=(facts.width, facts.height))
    if not box.area:
        refuse(404, f"{row['id']} lies outside of its slide")
    step = step_of(box)
    box_px = box.scaled(1 / step)
    record = session.manifest.slide(slide_id)
    with session.tiles.slides.using(record, facts.mpp, step=step, tolerance=1e-6) as slide:
        picture = slide.read(box_px)
    if facts.profile:
        picture = facts.profile.applied(picture)
    if request.query_params.get("marked") != "no":
        shown = box_px.scaled(step)
        picture = marked(
            picture, shown, step, row=row, others=session.by_slide[slide_id], found=session.map_of(slide_id)
        )
    return Response(as_png(picture), media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


def decide(session: AuditSession, _: Request, content: _Content) -> _Content:
    """Keep a decision."""
    if unknown := content.keys() - {"id", "decision", "kind"}:
        refuse(400, f"unknown fields {sorted(unknown)}")
    row = _row(session, content.get("id"))
    if content.get("decision") not in list(Decision):
        refuse(400, f"decision is {content.get('decision')!r}, expected one of {', '.join(Decision)}")
    decision, kind = Decision(content["decision"]), content.get("kind")
    if decision is Decision.FIX and kind not in (*Kind, _AWAY):
        refuse(400, f"kind is {kind!r}, expected one of {', '.join((*Kind, _AWAY))}")
    decided = Decided(
        reviewer=session.reviewer,
        at=now(),
        setting=session.setting,
        audit=session.digest,
        id=row["id"],
        decision=decision.value,
        kind=kind if decision is Decision.FIX and kind != _AWAY else None,
    )
    keep(session.paths, decided)
    return {"id": row["id"], "said": as_json(None if decision is Decision.SKIP else decided)}


def _row(session: AuditSession, row_id: Any) -> dict[str, Any]:
    if not isinstance(row_id, str) or row_id not in session.by_id:
        refuse(404, f"id is {row_id!r}, which is no finding of this audit")
    return session.by_id[row_id]


async def _on_http_error(_: Request, error: Exception) -> Response:
    refusal = cast("HTTPException", error)
    return JSONResponse({"error": refusal.detail}, refusal.status_code, headers=refusal.headers)


async def _on_our_error(_: Request, error: Exception) -> Response:
    # A page has no need to know the folders of this machine: what is wrong with a file is told in the terminal.
    print(error, flush=True)
    return JSONResponse({"error": f"{type(error).__name__}: see what the server printed"}, 500)


async def _on_disk_error(request: Request, error: Exception) -> Response:
    reason = cast("OSError", error).strerror or type(error).__name__
    kept = "; this is not kept: make room, and decide again" if request.method == "POST" else ""
    return JSONResponse({"error": f"the disk refused: {reason}{kept}"}, 507 if kept else 500)
