"""Session authentication and CSRF checks for the dashboard."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from urllib.parse import parse_qsl, quote, urlsplit
from uuid import UUID

from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.core.enums import Scope
from app.core.errors import BadSchedule, Unauthorized
from app.orgs.tokens import Principal
from app.scheduling.cron import check_zone
from app.store.db import UNAVAILABLE
from app.web.context import web_context
from app.web.dashboard import formatting
from app.web.dashboard.session import COOKIE, Session
from app.web.http_error import FORM, USER, InvalidField, OtherSession

MAX_FORM_BYTES = 16_384
MAX_FORM_FIELDS = 1_000  # most of which may be the runs or jobs of a page
MAX_PATH_LENGTH = 2_000
ZONE_COOKIE = "zone"  # written by live.js too, with the zone of the browser
ZONE_SECONDS = 365 * 24 * 3600
NO_STORE = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class SessionUser:
    """A signed-in user. `unverified`: Postgres does not answer, so the token was not verified.

    `zone`: the time zone that the user's browser named. `here`: the path of the page, to return to.
    """

    principal: Principal
    csrf: str
    session: Session
    unverified: bool = False
    zone: str = formatting.UTC_NAME
    here: str = "/"

    @property
    def org_id(self) -> UUID | None:
        """The organisation whose rows are shown; None is the operator, who sees all."""
        return self.principal.org_id

    @property
    def may_operate(self) -> bool:
        """Whether the token allows to run, pause and resume jobs."""
        return self.principal.scope.allows(Scope.OPERATE)


Form = ImmutableMultiDict[str, str]
RouteHandler = Callable[[Request], Awaitable[Response]]
PageView = Callable[[Request, SessionUser], Awaitable[Response]]
PageAction = Callable[[Request, SessionUser, Form], Awaitable[Response]]


def require_session(page: PageView, *, of_org: bool | None = None) -> RouteHandler:
    """An endpoint that requires a session and otherwise redirects to the sign-in page.

    `of_org`: whether it is for organisations' sessions only, or for the operator's; None is for
    all. It raises HTTPException 404 for the others.
    """

    async def guarded(request: Request) -> Response:
        user = request.scope[USER] = await current_user(request)
        if user is None:
            return login_redirect(request)
        _check_owner(user, of_org)
        return await page(request, user)

    return guarded


def _check_owner(user: SessionUser, of_org: bool | None) -> None:
    if of_org is not None and of_org is (user.org_id is None):
        raise HTTPException(404, "This page is for organisations." if of_org else "No such page.")


def require_operate(
    action: PageAction, max_bytes: int = MAX_FORM_BYTES, *, of_org: bool | None = None
) -> RouteHandler:
    """An endpoint that requires a session, a valid CSRF token and the scope `operate`.

    It raises HTTPException 401 or 403, 404 as `require_session` does, 429 after too many changes,
    and 503 if Postgres does not answer.
    """

    async def guarded(request: Request) -> Response:
        check_origin(request)
        user = request.scope[USER] = await current_user(request)
        form = await read_form(request, max_bytes)
        if "origin" in request.headers:  # a browser says that a page of this site sent it
            request.scope[FORM] = form
        if user is None:
            raise OtherSession(401, "Sign in first.")
        if not web_context(request).signer.csrf_matches(user.session, form.get("csrf", "")):
            raise OtherSession(403, "Invalid or expired form. Load the page again.")
        if user.unverified:
            raise HTTPException(503, "Postgres does not answer, so actions are unavailable.")
        if not user.may_operate:
            raise HTTPException(
                403,
                f"This action requires the scope operate; your token has {user.principal.scope}.",
            )
        if await web_context(request).changes.count(user.principal.org_id):
            raise HTTPException(429, "Your organisation has sent too many changes. Try later.")
        request.scope[FORM] = form
        _check_owner(user, of_org)
        return await action(request, user, form)

    return guarded


require_operator = partial(require_session, of_org=False)
require_operator_to_act = partial(require_operate, of_org=False)
require_org = partial(require_session, of_org=True)
require_org_to_act = partial(require_operate, of_org=True)


async def current_user(request: Request) -> SessionUser | None:
    """The user of the session cookie; None if there is no valid session."""
    context = web_context(request)
    session = context.signer.verify(request.cookies.get(COOKIE, ""), datetime.now(UTC))
    if session is None:
        return None
    user = SessionUser(
        session.principal,
        context.signer.csrf(session),
        session,
        zone=zone_of(request.cookies.get(ZONE_COOKIE, "")),
        here=local_path(_target(request)) if request.method == "GET" else "/",
    )
    try:
        return replace(user, principal=await context.authenticate(session))
    except Unauthorized:
        return None
    except UNAVAILABLE:
        # The cookie is signed, so the session was valid once: enough to show what Redis knows.
        reader = replace(session.principal, scope=Scope.READ)
        return replace(user, principal=reader, unverified=True)


def zone_of(name: str) -> str:
    """The time zone of that name; UTC if there is none."""
    try:
        check_zone(name)
    except BadSchedule:
        return formatting.UTC_NAME
    return name


async def choose_zone(request: Request) -> Response:
    """Show times in the zone of the form from now on, and return to the page it was sent from.

    No zone is UTC. Raises HTTPException 422 if there is none of that name.
    """
    check_origin(request)
    form = await read_form(request)
    wanted = form.get("zone", "").strip()
    zone = zone_of(wanted)
    if wanted and zone != wanted:
        request.scope[FORM], request.scope[USER] = form, await current_user(request)
        raise InvalidField("zone", f"There is no time zone {wanted!r}. One is Africa/Lagos.")
    response = RedirectResponse(local_path(form.get("back", "/")), 303, NO_STORE)
    response.set_cookie(ZONE_COOKIE, zone, ZONE_SECONDS, samesite="lax")
    return response


def login_redirect(request: Request) -> Response:
    """A redirect to the sign-in page for page views; other requests raise HTTPException 401."""
    if request.method not in {"GET", "HEAD"} or "text/event-stream" in request.headers.get(
        "accept", ""
    ):
        raise HTTPException(401, "Sign in first.")
    target = _target(request)
    onward = "" if target == "/" else f"?next={quote(target, safe='')}"
    return RedirectResponse(f"/login{onward}", 303, NO_STORE)


def _target(request: Request) -> str:
    """The path and query of the request."""
    path, query = request.url.path, request.url.query
    return f"{path}?{query}" if query else path


def local_path(wanted: str) -> str:
    """The path to redirect to after sign-in: `wanted` if it is a local path, else `/`."""
    local = wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted
    if not local or not wanted.isprintable() or len(wanted) > MAX_PATH_LENGTH:
        return "/"
    parts = urlsplit(wanted)
    return "/" if parts.scheme or parts.netloc or parts.path in {"/login", "/logout"} else wanted


def check_origin(request: Request) -> None:
    """Check that a form was sent by a page of this site. Raises HTTPException 403."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host")
    if foreign or site not in {None, "same-origin", "none"}:
        raise HTTPException(403, "This form was sent by another site.")


async def read_form(request: Request, max_bytes: int = MAX_FORM_BYTES) -> Form:
    """The fields of a form. Raises HTTPException 413 or 400."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise HTTPException(413, "The form is too large.")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        raise HTTPException(400, "Invalid form data.") from None
    return Form(fields)
