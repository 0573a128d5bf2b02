"""One-time logins to the dashboard, printed in a terminal and valid for ten minutes."""

import contextlib
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from secrets import token_urlsafe
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core.enums import Scope
from app.orgs import tokens
from app.orgs.tokens import Principal, TokenRequest
from app.store.db import Pool
from app.store.orgs import orgs

_LIFETIME_SECONDS = 600
_CREATED_BY = "one-time login"
_LABEL_PREFIX = "once "
_VALID = "1"  # the value in Redis; the key is the hash


async def create_login(redis: Redis) -> str:
    """Create a one-time login; returns its path. Redis keeps its hash for ten minutes."""
    secret = token_urlsafe(16)
    await redis.set(_key(secret), _VALID, ex=_LIFETIME_SECONDS)
    return f"/login?once={secret}"


async def print_login(redis: Redis, argv: Sequence[str]) -> None:
    """Print a one-time login to stderr, so that a local installation needs no token.

    Prints nothing if Redis cannot be reached.
    """
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        path = await create_login(redis)
        sys.stderr.write(f"Sign in, once and within ten minutes: {server_base_url(argv)}{path}\n")
        sys.stderr.flush()


def server_base_url(argv: Sequence[str]) -> str:
    """Return the server's base URL, as far as uvicorn's --host and --port in `argv` state it."""
    options = dict(pairwise(" ".join(argv).replace("=", " ").split()))
    host, port = options.get("--host", "127.0.0.1"), options.get("--port", "8000")
    all_interfaces = host in {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to
    return f"http://{'127.0.0.1' if all_interfaces else host}:{port}"


async def redeem_login(
    redis: Redis, pool: Pool, secret: str, now: datetime, lifetime: timedelta
) -> Principal | None:
    """Redeem a one-time login; returns the operator with the scope admin.

    The token behind it expires after `lifetime`. Returns None if the login is unknown, used or
    expired.
    """
    if not await redis.getdel(_key(secret)):
        return None
    label = f"{_LABEL_PREFIX}{now:%Y-%m-%d %H:%M}"
    request = TokenRequest(None, label, Scope.ADMIN, now + lifetime)
    token = await tokens.create_token(pool, request, now, by=_CREATED_BY)
    return await tokens.authenticate(pool, token, now)


async def revoke_login_token(pool: Pool, token_id: UUID, now: datetime) -> None:
    """Revoke the token behind a one-time login when its session ends; other tokens are kept."""
    token = await orgs.token(pool, token_id)
    if token is not None and token.org_id is None and token.label.startswith(_LABEL_PREFIX):
        await orgs.revoke(pool, token_id, now)


def _key(secret: str) -> str:
    return f"rollcall:login:{sha256(secret.encode()).hexdigest()}"
