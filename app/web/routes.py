"""Routes that exist from the start: health, metrics, static files; and the security headers."""

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web.context import web_context
from app.web.dashboard.rendering import STATIC
from app.web.health import details
from app.web.http_error import http_error

ALIVE = b'{"status":"alive"}'
SECURITY = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
}


class SecurityHeaders:
    """ASGI middleware that adds the security headers to every response, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_SECURITY_RAW]
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def internal_error(request: Request, error: Exception) -> Response:
    """The response to an unexpected exception, which no middleware sees, with its headers."""
    response = await http_error(request, error)
    response.headers.update(SECURITY)
    return response


_SECURITY_RAW = MutableHeaders(SECURITY).raw


async def livez(_: Request) -> Response:
    """Liveness: 200 while the process answers. Checks nothing else."""
    return _json(ALIVE)


async def readyz(request: Request) -> Response:
    """Readiness: 200 if Redis and Postgres answer, else 503."""
    ready = await web_context(request).ready.value()
    return _json(msgspec.json.encode(ready), well=ready.status == "ready")


async def health(request: Request) -> Response:
    """Health summary. 200 if no job is at fault and a worker is live, else 503."""
    snapshot = await web_context(request).snapshot.value()
    return _json(snapshot.summary, well=snapshot.summary_healthy)


async def health_scheduler(request: Request) -> Response:
    """The health of every job. 200 if none is at fault, else 503."""
    snapshot = await web_context(request).snapshot.value()
    return _json(snapshot.scheduler, well=snapshot.healthy)


def routes() -> list[BaseRoute]:
    """The routes of what monitors the installation, and of the files of pages."""
    return [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/health", health),
        Route("/health/scheduler", health_scheduler),
        *details.routes(),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


def _json(body: bytes, *, well: bool = True) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(body, 200 if well else 503, headers, "application/json")
