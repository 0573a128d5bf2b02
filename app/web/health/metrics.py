"""The `/metrics` endpoint. Without Postgres its counters are those last stored in Redis."""

import hmac
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from app.health.metrics import read
from app.health.metrics.families import CONTENT_TYPE, Seen, exposition
from app.store.reports.metrics import Total, Waiting
from app.web.health.readiness import CHECK_SECONDS, POSTGRES_ERRORS, Pool
from app.web.health.snapshot import Snapshot
from app.web.ttl_cache import Fresh, within

if TYPE_CHECKING:
    from app.web.context import State


async def metrics(request: Request) -> Response:
    """All metrics in the Prometheus text format. 401 without the METRICS_TOKEN, if one is set."""
    state: State = request.state.web
    if not _authorized(request, state.metrics_token):
        return Response(b"unauthorized\n", 401, {"www-authenticate": "Bearer"}, "text/plain")
    body = await state.metrics.value()
    return Response(body, headers={"cache-control": "no-store", "content-type": CONTENT_TYPE})


async def scrape(redis: Redis, pool: Pool, snapshot: Fresh[Snapshot]) -> bytes:
    """Read all metrics and encode them. Never raises for Redis or Postgres."""
    health = await snapshot.value()
    counted = await _counted(pool)
    try:
        breakers, depth, kept = await within(CHECK_SECONDS, _from_redis(redis, counted))
        redis_up = True
    except (RedisError, OSError, TimeoutError):
        breakers, depth, kept, redis_up = [], {}, [], False
    data = Seen(
        now=health.taken_at,
        jobs={key: (job.facts, job.verdict) for key, job in health.jobs.items()},
        workers=len(health.workers),
        redis_up=redis_up,
        totals=counted and counted[0],
        kept=kept,
        waiting=counted and counted[1],
        collections=health.collections,
        house=health.house,
        resting=breakers,
        depth=depth,
    )
    return exposition(data)


async def _counted(pool: Pool) -> tuple[list[Total], Waiting] | None:
    try:
        return await within(CHECK_SECONDS, read.totals(pool))
    except POSTGRES_ERRORS:
        return None


async def _from_redis(
    redis: Redis, counted: tuple[list[Total], Waiting] | None
) -> tuple[list[str], dict[str, int], list[Total]]:
    if counted is not None:
        await read.keep(redis, counted[0])
    kept = [] if counted is not None else await read.kept(redis)
    return await read.resting(redis), await read.depth(redis), kept


def _authorized(request: Request, token: str | None) -> bool:
    if token is None:
        return True
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
