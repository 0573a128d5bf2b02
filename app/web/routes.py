"""The addresses of the web, each a few lines, and the headers that all answers carry."""

import asyncio

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.routes import routes as api_routes
from app.web import pages, sidecar
from app.web.state import State

ALIVE = b'{"status":"alive"}'
SECURITY = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


class SecurityHeaders:
    """Adds the security headers to every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_SECURITY_RAW]
            await send(message)

        await self._app(scope, receive, send_with_headers)


_SECURITY_RAW = MutableHeaders(SECURITY).raw


async def livez(_: Request) -> Response:
    """The process answers. Says nothing of anything else."""
    return _json(ALIVE)


async def readyz(request: Request) -> Response:
    """Redis and Postgres both answer."""
    ready = await _state(request).ready.value()
    return _json(msgspec.json.encode(ready), well=ready.status == "ready")


async def health(request: Request) -> Response:
    """A summary: workers that beat, jobs by status."""
    snapshot = await _state(request).snapshot.value()
    return _json(snapshot.summary, well=snapshot.summary_well)


async def health_scheduler(request: Request) -> Response:
    """Every job, judged. 200 when none is at fault."""
    snapshot = await _state(request).snapshot.value()
    return _json(snapshot.scheduler, well=snapshot.well)


async def home(request: Request) -> Response:
    """The page for people."""
    state = _state(request)
    snapshot, runs = await asyncio.gather(state.snapshot.value(), state.runs.value())
    return HTMLResponse(pages.home(snapshot, runs), headers={"cache-control": "no-store"})


async def http_error(_: Request, error: Exception) -> Response:
    """What the router refused, as JSON."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    reason = error.detail if isinstance(error, HTTPException) else "Internal Server Error"
    body = msgspec.json.encode({"status": "error", "reason": reason.lower().replace(" ", "_")})
    return Response(body, status, headers, "application/json")


def routes() -> list[BaseRoute]:
    """Every address there is."""
    return [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/health", health),
        Route("/health/scheduler", health_scheduler),
        *sidecar.routes(),
        Route("/", home),
        Mount("/static", StaticFiles(directory=pages.STATIC)),
        *api_routes(),
    ]


def _state(request: Request) -> State:
    state: State = request.state.web
    return state


def _json(body: bytes, *, well: bool = True) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(body, 200 if well else 503, headers, "application/json")
