"""The addresses of the pages, each behind the door but for the door itself, and their faults."""

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from app.web import actions, collections, live, pages, sign_in, views
from app.web.visitors import NO_STORE, acting, signed_in

TITLES = {
    400: "That cannot be understood",
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible",
    409: "Not now",
    413: "Too much",
    422: "Something is missing",
    429: "Too many attempts",
    503: "Not now",
}


def page_routes() -> list[BaseRoute]:
    """Every page and action, and the door."""
    return [
        Route("/", signed_in(views.home)),
        Route("/jobs/{key}", signed_in(views.job)),
        Route("/jobs/{key}/ticks/{at}", signed_in(views.tick)),
        Route("/runs/{run_id:uuid}", signed_in(views.run)),
        Route("/collections", signed_in(collections.collection)),
        Route("/live", signed_in(live.live)),
        Route("/jobs/{key}/run", acting(actions.run_now), methods=["POST"]),
        Route("/jobs/{key}/pause", acting(actions.pause), methods=["POST"]),
        Route("/jobs/{key}/resume", acting(actions.resume), methods=["POST"]),
        Route("/login", sign_in.show, methods=["GET"]),
        Route("/login", sign_in.enter, methods=["POST"]),
        Route("/logout", sign_in.leave, methods=["POST"]),
    ]


async def http_error(request: Request, error: Exception) -> Response:
    """What was refused or broke: a page for browsers, JSON for the rest. Never a trace."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = NO_STORE | dict((error.headers if isinstance(error, HTTPException) else None) or {})
    reason = error.detail if isinstance(error, HTTPException) else "Internal Server Error"
    if "text/html" in request.headers.get("accept", ""):
        title = TITLES.get(status, "Something broke")
        detail = reason if isinstance(error, HTTPException) else "The log of the web says what."
        return HTMLResponse(pages.error(title, detail), status, headers)
    body = msgspec.json.encode({"status": "error", "reason": reason.lower().replace(" ", "_")})
    return Response(body, status, headers, "application/json")
