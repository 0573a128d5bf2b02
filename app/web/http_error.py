"""The response to an error outside the API; a form with a faulty field comes back as typed."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.web.dashboard import rendering

USER = "rollcall.user"  # in the scope of a request: who has signed in, once that is known
FORM = "rollcall.form"  # there too: the fields of the form that was sent, of a known user
PARAMETER = "param."  # begins the names of the fields for parameters of a run
_LABELS = {"note": "Reason", "until": "Until, UTC", "zone": "Time zone"}
_RESEND = {
    401: "Sign in in another tab, then send the form again.",
    403: "The form was loaded in another session: send it again, if it is still right.",
}
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


class InvalidField(HTTPException):
    """A field of a form is invalid; `field` is its name. The form is shown again with its input."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(422, detail)
        self.field = field


class OtherSession(HTTPException):
    """A form of a session that has ended. It is shown again, to be sent in the present one."""


@dataclass(frozen=True, slots=True)
class ReturnedField:
    """A field of a form that is shown again. Without a label it is hidden."""

    name: str
    value: str
    label: str
    faulty: bool


def _returned(request: Request, error: Exception) -> list[ReturnedField]:
    form: ImmutableMultiDict[str, str] | None = request.scope.get(FORM)
    if form is None or not isinstance(error, InvalidField | OtherSession):
        return []
    sent = form.multi_items()
    if isinstance(error, OtherSession):
        csrf = getattr(request.scope.get(USER), "csrf", "")
        return list(_fields([(n, csrf if n == "csrf" else value) for n, value in sent], ""))
    missing = [] if error.field in form or error.field == PARAMETER else [(error.field, "")]
    return list(_fields([*sent, *missing], error.field))


def _fields(sent: Iterable[tuple[str, str]], faulty: str) -> Iterable[ReturnedField]:
    for name, value in sent:
        parameter = name.removeprefix(PARAMETER) if name.startswith(PARAMETER) else ""
        label = _LABELS.get(name, parameter)
        yield ReturnedField(name, value, label, bool(label) and name == faulty)


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
        text = rendering.page(
            "error.html",
            title=title,
            detail=detail,
            user=user,
            section="",
            path=request.url.path,
            fields=_returned(request, error),
            sign_in=status == HTTPStatus.UNAUTHORIZED,
            resend=_RESEND.get(status, "Correct the form and send it again."),
        )
        return HTMLResponse(text, status, headers)
    body = msgspec.json.encode({"status": "error", "reason": reason.lower().replace(" ", "_")})
    return Response(body, status, headers, "application/json")
