"""Reads the values for a scrape from Postgres and Redis, and caches the counters in Redis."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from app.core.errors import BadSchedule
from app.fetch.limiter_scripts import MICRO, OPEN_BREAKERS_KEY, RETRIED_KEY, limit_key
from app.fetch.retry import allowed_retries
from app.health.facts import RetryBudget
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.reports import metrics
from app.store.reports.metrics import MetricTotal, QueueBacklog

TOTALS_KEY = "rollcall:metrics:totals"
TOTALS_TTL = 7 * 24 * 3600  # seconds
QUEUES = {"arq": "arq:queue", "collections": "rollcall:queue:collections"}
OVERDUE_SECONDS = 60.0  # for which a collection is due before its schedule is examined
MAX_OVERDUE = 200  # overdue collections that are examined at a scrape

Row = tuple[str, str, str, str, float]
_rows = msgspec.json.Decoder(list[Row])


async def read_totals(pool: Pool) -> tuple[list[MetricTotal], QueueBacklog]:
    """All counters, and the waiting runs. First folds the notes of the triggers into the totals."""
    await metrics.fold(pool)
    totals, backlog = await metrics.totals(pool), await metrics.queue_backlog(pool)
    if backlog.collections_lag > OVERDUE_SECONDS:
        overdue = await metrics.overdue_collections(pool, MAX_OVERDUE)
        held = [key for key, *row in overdue if not _is_readable(*row)]
        backlog = await metrics.queue_backlog(pool, held)
    return totals, backlog


def _is_readable(spec: Any, policies: Any) -> bool:
    try:
        Schedule.from_spec(spec)
        Policies.from_spec(policies)
    except BadSchedule:
        return False
    return True


async def store_totals(redis: Redis, known: Sequence[MetricTotal]) -> None:
    """Store the counters in Redis, for scrapes while Postgres is down."""
    rows = [(t.name, t.first, t.second, t.third, t.value) for t in known]
    await redis.set(TOTALS_KEY, msgspec.json.encode(rows), ex=TOTALS_TTL)


async def stored_totals(redis: Redis) -> list[MetricTotal]:
    """The counters last stored in Redis; empty if there are none."""
    text = cast("bytes | None", await redis.get(TOTALS_KEY))
    try:
        return [MetricTotal(*row) for row in _rows.decode(text or b"[]")]
    except msgspec.DecodeError:
        return []


async def open_breakers(redis: Redis) -> list[str]:
    """Hosts with an open breaker, sorted; at most fifty, those that stay open the longest."""
    now = time.time() * MICRO
    found = await redis.zrevrangebyscore(OPEN_BREAKERS_KEY, "+inf", now, 0, 50)  # pyright: ignore[reportUnknownMemberType]  # redis-py 5 has no types here
    hosts = cast("list[bytes]", found)
    return sorted(host.decode(errors="replace") for host in hosts)


async def retry_budgets(redis: Redis) -> list[RetryBudget]:
    """The hosts with a retry of the operator's in this hour, sorted; at most fifty."""
    client: Any = redis  # redis-py 5 has no types here
    found: list[bytes] = await client.zrevrange(RETRIED_KEY, 0, 49)
    hosts = sorted(host.decode(errors="replace") for host in found)
    seconds, _ = await client.time()
    rows: list[list[bytes | None]] = await asyncio.gather(
        *(client.hmget(limit_key(host), "hour", "asked", "again") for host in hosts)
    )
    return [
        RetryBudget(host, int(again or 0), allowed_retries(int(asked or 0)))
        for host, (hour, asked, again) in zip(hosts, rows, strict=True)
        if hour is not None and int(hour) == seconds // 3600
    ]


async def queue_depths(redis: Redis) -> dict[str, int]:
    """The number of entries of each queue, by its label."""
    counts = await asyncio.gather(*(redis.zcard(key) for key in QUEUES.values()))
    return dict(zip(QUEUES, counts, strict=True))
