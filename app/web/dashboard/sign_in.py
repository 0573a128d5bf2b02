"""Sign-in and sign-out: with a token or a one-time login link, kept in a signed cookie."""

import contextlib
from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe

import asyncpg
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.core import log
from app.core.errors import Unauthorized
from app.orgs import one_time_login, tokens
from app.orgs.tokens import Principal
from app.store.db import UNAVAILABLE
from app.web.context import web_context
from app.web.dashboard import rendering
from app.web.dashboard.session import COOKIE, SESSION_LIFETIME, new_session
from app.web.dashboard.session_auth import (
    NO_STORE,
    check_origin,
    current_user,
    local_path,
    read_form,
)
from app.web.throttle import client_address

TOKEN_MARGIN = timedelta(minutes=1)
REFUSED = "Invalid token. It may be mistyped, expired or revoked."
USED_LINK = "This one-time login link was used already, or is older than ten minutes."
CANNOT_VERIFY = "Postgres does not answer, so sign-in is unavailable. Try again in a moment."

_log = log.logger(__name__)


async def login_page(request: Request) -> Response:
    """The sign-in form. With a one-time login link, or if signed in already, a redirect.

    HEAD does not use the link: programs that preview links send it.
    """
    onward = local_path(request.query_params.get("next", "/"))
    presented = request.query_params.get("once")
    if presented is not None and request.method != "HEAD":
        return await _once(request, presented, onward)
    if await current_user(request) is not None:
        return RedirectResponse(onward, 303, NO_STORE)
    return _form(onward, "", 200)


async def login(request: Request) -> Response:
    """Sign in with the token of the form. Raises HTTPException 400, 403 or 413."""
    check_origin(request)
    context = web_context(request)
    form = await read_form(request)
    onward = local_path(form.get("next", "/"))
    try:
        principal = await tokens.authenticate(
            context.pool, form.get("token", "").strip(), datetime.now(UTC)
        )
    except Unauthorized:
        return await _refused(request, onward, REFUSED)
    except UNAVAILABLE:
        return _form(onward, CANNOT_VERIFY, 503)
    return _sign_in(request, principal, onward)


async def _refused(request: Request, onward: str, reason: str) -> Response:
    """Count the failure: the form with `reason`, or with the time to wait over the limit."""
    context = web_context(request)
    address = client_address(request, context.config.trusted_proxies)
    wait = await context.sign_in_failures.count(address)
    if wait:
        _log.warning("sign_in.too_many", address=address)
        text = f"Too many attempts. Try again in {wait} seconds."
        return _form("/", text, 429, {"retry-after": str(wait)})
    _log.warning("sign_in.refused", address=address)
    return _form(onward, reason, 403)


async def logout(request: Request) -> Response:
    """Sign out: end a one-time login, delete the cookie. Raises HTTPException 403."""
    check_origin(request)
    user = await current_user(request)
    if user is not None and not user.unverified:
        context = web_context(request)
        with contextlib.suppress(*UNAVAILABLE):
            await one_time_login.revoke_login_token(
                context.pool, user.principal.token_id, datetime.now(UTC)
            )
        context.forget_token(user.principal.token_id)
    response = RedirectResponse("/login", 303, NO_STORE)
    response.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=_secure(request))
    return response


async def _once(request: Request, presented: str, onward: str) -> Response:
    context = web_context(request)
    try:
        principal = await one_time_login.redeem_login(
            context.redis,
            context.pool,
            presented,
            datetime.now(UTC),
            SESSION_LIFETIME + TOKEN_MARGIN,
        )
    except (*UNAVAILABLE, asyncpg.PostgresError, RedisError):
        return _form(onward, CANNOT_VERIFY, 503)
    if principal is None:
        return await _refused(request, onward, USED_LINK)
    return _sign_in(request, principal, onward)


def _sign_in(request: Request, principal: Principal, onward: str) -> Response:
    session = new_session(principal, datetime.now(UTC), token_urlsafe(12))
    response = RedirectResponse(onward, 303, NO_STORE)
    response.set_cookie(
        COOKIE,
        web_context(request).signer.sign(session),
        max_age=int(SESSION_LIFETIME.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=_secure(request),
    )
    _log.info("sign_in.done", who=principal.name, scope=principal.scope.value)
    return response


def _form(
    onward: str, fault: str, status: int, headers: dict[str, str] | None = None
) -> HTMLResponse:
    return HTMLResponse(
        rendering.page("login.html", onward=onward, fault=fault, user=None),
        status,
        NO_STORE | (headers or {}),
    )


def _secure(request: Request) -> bool:
    # A client that sends a false header only keeps itself from sending the cookie back.
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip()
    return "https" in {request.url.scheme, forwarded}
