"""The server of the review viewer: each route with the threads that answer it, and what is said of errors."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from analysis.review import routes
from analysis.review.asked import Asked, sent_object
from analysis.review.gate import Access, Gate, Keys
from analysis.review.session import Session
from bccdist.errors import AnnotationError, BccdistError, ConfigurationError

_Work = Callable[[Session, Asked], Mapping[str, Any] | Response]


def make_app(
    session: Session, access: Access, keys: Keys | None = None, when_revoked: Callable[[], None] = lambda: None
) -> ASGIApp:
    """The server as an ASGI application; it closes what it opened when it ends.

    Args:
        session: the reviewer at work.
        access: who may ask.
        keys: what opens the page; None lets everybody in who reaches the server.
        when_revoked: called once the keys are new ones.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        yield
        session.close()

    app = Starlette(
        routes=_routes(session),
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _on_http_error,
            BccdistError: partial(_on_our_error, session),
            OSError: partial(_on_disk_error, session),
            Exception: _on_fault,
        },
    )
    return Gate(app, access, keys, when_revoked)


def _routes(session: Session) -> list[Route | Mount]:
    """All routes, in the order in which they are tried; what reads no file is answered at once."""
    tiles, files, journal = session.tile_threads, session.file_threads, session.journal_thread

    def route(path: str, work: _Work, threads: Executor | None = None, *, method: str = "GET") -> Route:
        return Route(path, partial(_answer, session, work, threads), methods=[method])

    return [
        route("/", routes.page),
        Mount("/static", StaticFiles(directory=routes.STATIC, check_dir=False)),
        route("/api/study", routes.study),
        route("/api/sections", routes.sections),
        route("/api/progress", routes.progress),
        route("/api/agreement", routes.agreement, files),
        route("/api/readers", routes.readers, files),
        route("/api/slides/{slide_id}", routes.slide, files),
        route("/api/heatmap/{setting}/{slide_id}/{psi}", routes.heatmap, files),
        route("/api/annotations/{slide_id}", routes.annotations, files),
        route("/api/regions/{slide_id}", routes.drawn_regions),
        route("/api/regions/{slide_id}", routes.keep_regions, files, method="POST"),
        route("/api/regions/{setting}/{slide_id}", routes.regions, files),
        route("/api/answers", routes.keep_answer, journal, method="POST"),
        route("/api/withdrawals", routes.withdraw, journal, method="POST"),
        route("/api/undo", routes.undo, journal, method="POST"),
        route("/api/history", routes.history),
        route("/tiles/{slide_id}/{level:int}/{name}", routes.tile, tiles),
    ]


async def _answer(session: Session, work: _Work, threads: Executor | None, request: Request) -> Response:
    """What a route makes of a request, on threads of its own where it reads files."""
    content = await sent_object(request) if request.method == "POST" else {}
    asked = Asked(request=request, worklist=session.worklist, content=content)
    if threads is None:
        made = work(session, asked)
    else:
        made = await asyncio.get_running_loop().run_in_executor(threads, work, session, asked)
    return made if isinstance(made, Response) else JSONResponse(made)


async def _on_http_error(_: Request, error: Exception) -> Response:
    refusal = cast("HTTPException", error)
    return JSONResponse({"error": refusal.detail}, refusal.status_code, headers=refusal.headers)


async def _on_our_error(session: Session, _: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, AnnotationError | ConfigurationError) else 500
    # A page has no need to know the folders of this machine.
    return JSONResponse({"error": session.without_paths(str(error))}, status)


async def _on_disk_error(session: Session, request: Request, error: Exception) -> Response:
    reason = cast("OSError", error).strerror or type(error).__name__
    if request.method != "POST":
        return JSONResponse({"error": f"it cannot be read: {reason}"}, 500)
    num, name = len(session.journal.said.steps), session.journal.path.name
    kept = f"the {num} steps before it are, in {name}" if num else f"nothing was said before it in {name}"
    return JSONResponse(
        {"error": f"the disk refused: {reason}; this is not kept, {kept}; make room: the page sends it again"}, 507
    )


async def _on_fault(_: Request, error: Exception) -> Response:
    # Nobody foresaw it: the server's log has the traceback.
    return JSONResponse({"error": f"a fault of the server: {type(error).__name__}; see what it printed"}, 500)
