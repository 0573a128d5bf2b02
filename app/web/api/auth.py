"""Authentication of API requests: bearer tokens, scopes, and a limit on invalid tokens."""

from contextlib import suppress
from datetime import datetime
from http import HTTPStatus

from redis.exceptions import RedisError
from starlette.requests import Request

from app.core.enums import Scope
from app.core.errors import Unauthorized
from app.orgs import tokens
from app.orgs.tokens import Principal
from app.web import fixed_window
from app.web.api.problems import RETRY_AFTER, Problem
from app.web.context import RLS_BYPASSED, WebContext

MAX_INVALID_TOKENS = 30  # requests without a valid token, per minute and client address
WINDOW_SECONDS = 60
AUTH_HINT = "a valid token is required: Authorization: Bearer rc_…"


async def authorize(
    context: WebContext, request: Request, needed: Scope
) -> tuple[Principal, datetime]:
    """Return the principal and the time of the request.

    Raises Unauthorized (401) or Problem: 429 for too many invalid tokens, 503 if row-level security
    does not bind our role, 403 if the token's scope does not allow `needed`.
    """
    principal, now = await _authenticated(context, request)
    if not await context.isolation_enforced():
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, RLS_BYPASSED, headers=RETRY_AFTER)
    if not principal.scope.allows(needed):
        detail = (
            f"this needs a token of scope {needed.value};"
            f" this one has scope {principal.scope.value}"
        )
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    return principal, now


async def _authenticated(context: WebContext, request: Request) -> tuple[Principal, datetime]:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    token = value.strip() if scheme.lower() == "bearer" else ""
    if tokens.TOKEN_PATTERN.fullmatch(token):  # a malformed token costs no query
        now = await context.now(context.pool)
        with suppress(Unauthorized):
            return await tokens.authenticate(context.pool, token, now), now
    await _count_invalid(context, request)
    raise Unauthorized(AUTH_HINT)


async def _count_invalid(context: WebContext, request: Request) -> None:
    # Only invalid tokens are counted: a valid one is accepted, even from an address over the limit.
    address = request.client.host if request.client else "unknown"
    key = f"rollcall:api:refused:{address}"
    try:
        count, expires_in = await fixed_window.count(context.redis, key, WINDOW_SECONDS)
    except (RedisError, OSError):
        return
    if count > MAX_INVALID_TOKENS:
        detail = f"more than {MAX_INVALID_TOKENS} requests without a valid token in a minute"
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"retry-after": str(expires_in)}
        )
