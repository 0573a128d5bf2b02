"""The response to an error outside the API."""

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.web.dashboard import rendering

USER = "rollcall.user"  # in the scope of a request: who has signed in, once that is known
TITLES = {
    400: "Bad request",
    401: "Sign in required",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Request too large",
    422: "Invalid input",
    429: "Too many attempts",
    503: "Service unavailable",
}


async def http_error(request: Request, error: Exception) -> Response:
    """The response to an error: HTML for browsers, JSON otherwise. Never contains a traceback."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    more = error.headers if isinstance(error, HTTPException) else None
    headers = {"cache-control": "no-store"} | dict(more or {})
    reason = error.detail if isinstance(error, HTTPException) else "Internal Server Error"
    if "text/html" in request.headers.get("accept", ""):
        title = TITLES.get(status, "Internal error")
        detail = reason if isinstance(error, HTTPException) else "See the log of the web process."
        user = request.scope.get(USER)  # whose navigation is shown
        text = rendering.page("error.html", title=title, detail=detail, user=user, section="")
        return HTMLResponse(text, status, headers)
    body = msgspec.json.encode({"status": "error", "reason": reason.lower().replace(" ", "_")})
    return Response(body, status, headers, "application/json")
