"""The door: a token or a one-time address opens it, and a signed cookie keeps it open."""

import contextlib
from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe

import asyncpg
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app import access, log, once
from app.access import Principal
from app.errors import Unauthorized
from app.store.db import AWAY
from app.web import pages
from app.web.session import COOKIE, LASTS, begin
from app.web.visitors import (
    NO_STORE,
    desk_of,
    local_path,
    own_origin,
    read_form,
    recognise,
)

A_LITTLE = timedelta(minutes=1)
WRONG = "This token is not valid. It may be mistyped, expired or revoked."
USED = "This one-time address was used already, or is older than ten minutes."
AWAY_NOW = "Postgres does not answer, so nobody can sign in. Try again in a moment."

_log = log.logger(__name__)


async def show(request: Request) -> Response:
    """The form; or in at once, with a one-time address."""
    onward = local_path(request.query_params.get("next", "/"))
    presented = request.query_params.get("once")
    if presented is not None:
        return await _once(request, presented, onward)
    if await recognise(request) is not None:
        return RedirectResponse(onward, 303, NO_STORE)
    return _form(onward, "", 200)


async def enter(request: Request) -> Response:
    """Sign in with the token of the form."""
    own_origin(request)
    desk, address = desk_of(request), address_of(request)
    wait = await desk.attempts.begin(address)
    if wait:
        _log.warning("sign_in.too_many", address=address)
        text = f"Too many attempts. Try again in {wait} seconds."
        return _form("/", text, 429, {"retry-after": str(wait)})
    form = await read_form(request)
    onward = local_path(form.get("next", "/"))
    try:
        principal = await access.authenticate(
            desk.pool, form.get("token", "").strip(), datetime.now(UTC)
        )
    except Unauthorized:
        _log.warning("sign_in.refused", address=address)
        return _form(onward, WRONG, 403)
    except AWAY:
        return _form(onward, AWAY_NOW, 503)
    await desk.attempts.succeeded(address)
    return _let_in(request, principal, onward)


async def leave(request: Request) -> Response:
    """Sign out."""
    own_origin(request)
    visitor = await recognise(request)
    if visitor is not None and not visitor.cut_off:
        desk = desk_of(request)
        with contextlib.suppress(*AWAY):
            await once.end(desk.pool, visitor.principal.token_id, datetime.now(UTC))
        desk.distrust(visitor.principal.token_id)
    answer = RedirectResponse("/login", 303, NO_STORE)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=_secure(request))
    return answer


async def _once(request: Request, presented: str, onward: str) -> Response:
    desk = desk_of(request)
    wait = await desk.attempts.begin(address_of(request))
    if wait:
        return _form("/", f"Too many attempts. Try again in {wait} seconds.", 429)
    try:
        principal = await once.spend(
            desk.redis, desk.pool, presented, datetime.now(UTC), LASTS + A_LITTLE
        )
    except (*AWAY, asyncpg.PostgresError, RedisError):
        return _form(onward, AWAY_NOW, 503)
    if principal is None:
        return _form(onward, USED, 403)
    await desk.attempts.succeeded(address_of(request))
    return _let_in(request, principal, onward)


def _let_in(request: Request, principal: Principal, onward: str) -> Response:
    session = begin(principal, datetime.now(UTC), token_urlsafe(12))
    answer = RedirectResponse(onward, 303, NO_STORE)
    answer.set_cookie(
        COOKIE,
        desk_of(request).seal.close(session),
        max_age=int(LASTS.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=_secure(request),
    )
    _log.info("sign_in.done", who=principal.name, scope=principal.scope.value)
    return answer


def _form(
    onward: str, fault: str, status: int, headers: dict[str, str] | None = None
) -> HTMLResponse:
    return HTMLResponse(pages.login(onward, fault), status, NO_STORE | (headers or {}))


def _secure(request: Request) -> bool:
    # Claiming https where there is none locks out only whoever claims it.
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip()
    return "https" in {request.url.scheme, forwarded}


def address_of(request: Request) -> str:
    """Who tries: the peer, and whom a router in front of us says it speaks for."""
    peer = request.client.host if request.client else "socket"
    forwarded = request.headers.get("x-forwarded-for", "").rsplit(",", 1)[-1].strip()
    return f"{peer} {forwarded}".strip()
