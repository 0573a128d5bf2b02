"""Who is at the door: every page is behind it, and every action behind a second one."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.access import Principal
from app.errors import Unauthorized
from app.store.db import AWAY
from app.web.desk import Desk
from app.web.session import COOKIE, Session
from app.words import Scope

MOST_BYTES = 16_384
MOST_FIELDS = 20
LONGEST_PATH = 2_000
NO_STORE = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who signed in. `cut_off`: Postgres is away, so nobody can say if they still may."""

    principal: Principal
    csrf: str
    session: Session
    cut_off: bool = False

    @property
    def may_operate(self) -> bool:
        """May they run, pause and resume?"""
        return self.principal.scope.allows(Scope.OPERATE)


Form = Mapping[str, str]
Endpoint = Callable[[Request], Awaitable[Response]]
Page = Callable[[Request, Visitor], Awaitable[Response]]
Action = Callable[[Request, Visitor, Form], Awaitable[Response]]


def signed_in(page: Page) -> Endpoint:
    """The page, for those who signed in; others are sent to the door and then back."""

    async def guarded(request: Request) -> Response:
        visitor = await recognise(request)
        return turned_away(request) if visitor is None else await page(request, visitor)

    return guarded


def acting(action: Action) -> Endpoint:
    """The action, for those whose scope allows it and whose form came from one of our pages."""

    async def guarded(request: Request) -> Response:
        own_origin(request)
        visitor = await recognise(request)
        if visitor is None:
            return turned_away(request)
        form = await read_form(request)
        if not desk_of(request).seal.agrees(visitor.session, form.get("csrf", "")):
            raise HTTPException(
                403, "This form is not from here, or is too old. Load the page again."
            )
        if visitor.cut_off:
            raise HTTPException(503, "Postgres does not answer, so nothing can be done.")
        if not visitor.may_operate:
            raise HTTPException(
                403, f"Your token may {visitor.principal.scope}; this takes operate."
            )
        return await action(request, visitor, form)

    return guarded


async def recognise(request: Request) -> Visitor | None:
    """Who visits, by their cookie; None if nobody who may."""
    desk = desk_of(request)
    session = desk.seal.open(request.cookies.get(COOKIE, ""), datetime.now(UTC))
    if session is None:
        return None
    csrf = desk.seal.csrf(session)
    try:
        return Visitor(await desk.still(session), csrf, session)
    except Unauthorized:
        return None
    except AWAY:
        # They were who they say when they signed in: enough to see what Redis knows.
        return Visitor(replace(session.principal, scope=Scope.READ), csrf, session, cut_off=True)


def turned_away(request: Request) -> Response:
    """To the door for those who look at a page; 401 for everything else."""
    if request.method not in {"GET", "HEAD"} or "text/event-stream" in request.headers.get(
        "accept", ""
    ):
        raise HTTPException(401, "Sign in first.")
    path = request.url.path
    wanted = f"{path}?{request.url.query}" if request.url.query else path
    onward = "" if wanted == "/" else f"?next={quote(wanted, safe='')}"
    return RedirectResponse(f"/login{onward}", 303, NO_STORE)


def local_path(wanted: str) -> str:
    """Where to go after signing in: a path of ours, whatever was asked for."""
    fine = wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted
    if not fine or not wanted.isprintable() or len(wanted) > LONGEST_PATH:
        return "/"
    parts = urlsplit(wanted)
    return "/" if parts.scheme or parts.netloc or parts.path in {"/login", "/logout"} else wanted


def own_origin(request: Request) -> None:
    """Refuse a form that a page of another site sent. Raises HTTPException 403."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or site not in {None, "same-origin", "none"}:
        raise HTTPException(403, "This form was sent by another site.")


async def read_form(request: Request) -> Form:
    """The fields of a form, the first of each name. Raises HTTPException 413 or 400."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, "That is too much for a form.")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise HTTPException(400, "That is no form.") from None
    return {name: values[0] for name, values in fields.items()}


def desk_of(request: Request) -> Desk:
    """What the pages work with."""
    desk: Desk = request.state.web.desk
    return desk
