"""A login that works once and for ten minutes: for whoever sees the terminal it is printed in."""

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

from app import access
from app.access import Principal, Wish
from app.errors import UnknownOrg
from app.store import orgs
from app.store.db import Pool
from app.words import Scope

SECONDS = 600
LOCAL = "local"  # the organisation of whoever keeps the house
BY = "one-time login"


async def mint(redis: Redis) -> str:
    """The path of a login that works once. Redis keeps its hash, for ten minutes."""
    secret = token_urlsafe(16)
    await redis.set(_name(secret), LOCAL, ex=SECONDS)
    return f"/login?once={secret}"


async def show(redis: Redis, argv: Sequence[str]) -> None:
    """Print such a login where the server was started, so that nobody is locked out at home."""
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        path = await mint(redis)
        sys.stderr.write(f"Sign in, once and within ten minutes: {base(argv)}{path}\n")
        sys.stderr.flush()


def base(argv: Sequence[str]) -> str:
    """Where this server answers, as far as its command line tells: uvicorn's --host and --port."""
    options = dict(pairwise(" ".join(argv).replace("=", " ").split()))
    host, port = options.get("--host", "127.0.0.1"), options.get("--port", "8000")
    anywhere = host in {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to
    return f"http://{'127.0.0.1' if anywhere else host}:{port}"


async def spend(
    redis: Redis, pool: Pool, presented: str, now: datetime, lasts: timedelta
) -> Principal | None:
    """Who it lets in: an administrator of the local organisation, for as long as `lasts`.

    None if there is no such login (any more).
    """
    if not await redis.getdel(_name(presented)):
        return None
    if await orgs.named(pool, LOCAL) is None:
        with contextlib.suppress(UnknownOrg):  # somebody else made it in this instant
            await access.create_org(pool, LOCAL, now)
    wish = Wish(LOCAL, f"once {now:%Y-%m-%d %H:%M}", Scope.ADMIN, now + lasts)
    token = await access.create_token(pool, wish, now, by=BY)
    return await access.authenticate(pool, token, now)


async def end(pool: Pool, token_id: UUID, now: datetime) -> None:
    """With its session, the token of a one-time login ends too: nobody has it."""
    token = await orgs.token(pool, token_id)
    if token is not None and token.org == LOCAL and token.label.startswith("once "):
        await orgs.revoke(pool, token_id, now)


def _name(secret: str) -> str:
    return f"rollcall:login:{sha256(secret.encode()).hexdigest()}"
