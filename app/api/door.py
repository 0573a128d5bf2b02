"""Who may come in: tokens, what they allow, and how often one may be wrong."""

from contextlib import suppress
from datetime import datetime
from http import HTTPStatus

from redis.exceptions import RedisError
from starlette.requests import Request

from app import access
from app.access import Principal
from app.api.desk import BYPASSED, Desk
from app.api.problems import RETRY_AFTER, Problem
from app.errors import Unauthorized
from app.words import Scope

WRONG_TOKENS = 30  # in a minute, from one address
A_MINUTE = 60
NOT_VALID = "a valid token is needed: Authorization: Bearer rc_…"


async def let_in(desk: Desk, request: Request, needed: Scope) -> tuple[Principal, datetime]:
    """Who asks, and when. Raises Problem: 401, 429, 503 or 403, in this order."""
    who, now = await _recognised(desk, request)
    if not await desk.keeps_apart():
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, BYPASSED, headers=RETRY_AFTER)
    if not who.scope.allows(needed):
        detail = f"this needs a token of scope {needed.value}; this one has {who.scope.value}"
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    return who, now


async def _recognised(desk: Desk, request: Request) -> tuple[Principal, datetime]:
    presented = _presented(request)
    if access.SHAPE.fullmatch(presented):  # else the database need not be asked
        now = await desk.now(desk.pool)
        with suppress(Unauthorized):
            return await access.authenticate(desk.pool, presented, now), now
    await _count(desk, request)
    raise Unauthorized(NOT_VALID)


def _presented(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _count(desk: Desk, request: Request) -> None:
    # Only wrong tokens are counted: a right one gets in, whoever else shares its address.
    address = request.client.host if request.client else "unknown"
    key = f"rollcall:api:refused:{address}"
    try:
        async with desk.redis.pipeline(transaction=True) as pipe:
            pipe.set(key, 0, ex=A_MINUTE, nx=True)
            pipe.incr(key)
            pipe.ttl(key)
            _, count, left = await pipe.execute()
    except (RedisError, OSError):
        return
    if count > WRONG_TOKENS:
        detail = f"more than {WRONG_TOKENS} requests without a valid token in a minute"
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"retry-after": str(max(left, 1))}
        )
