"""Reads the values for a scrape from Postgres and Redis, and caches the counters in Redis."""

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from app.fetch.limiter_scripts import MICRO, RESTS
from app.store.db import Pool
from app.store.reports import metrics
from app.store.reports.metrics import Total, Waiting

KEPT = "rollcall:metrics:totals"
TOTALS_TTL = 7 * 24 * 3600  # seconds
QUEUES = {"arq": "arq:queue", "collections": "rollcall:queue:collections"}

Row = tuple[str, str, str, str, float]
_rows = msgspec.json.Decoder(list[Row])


async def totals(pool: Pool) -> tuple[list[Total], Waiting]:
    """All counters, and the waiting runs. First folds the notes of the triggers into the totals."""
    await metrics.fold(pool)
    return await metrics.totals(pool), await metrics.waiting(pool)


async def keep(redis: Redis, known: Sequence[Total]) -> None:
    """Store the counters in Redis, for scrapes while Postgres is down."""
    rows = [(t.name, t.first, t.second, t.third, t.value) for t in known]
    await redis.set(KEPT, msgspec.json.encode(rows), ex=TOTALS_TTL)


async def kept(redis: Redis) -> list[Total]:
    """The counters last stored in Redis; empty if there are none."""
    text = cast("bytes | None", await redis.get(KEPT))
    try:
        return [Total(*row) for row in _rows.decode(text or b"[]")]
    except msgspec.DecodeError:
        return []


async def resting(redis: Redis) -> list[str]:
    """Hosts with an open breaker, sorted; at most fifty, those that stay open the longest."""
    now = time.time() * MICRO
    found = await redis.zrevrangebyscore(RESTS, "+inf", now, 0, 50)  # pyright: ignore[reportUnknownMemberType]  # redis-py 5 has no types here
    hosts = cast("list[bytes]", found)
    return sorted(host.decode(errors="replace") for host in hosts)


async def depth(redis: Redis) -> dict[str, int]:
    """The number of entries of each queue, by its label."""
    counts = await asyncio.gather(*(redis.zcard(key) for key in QUEUES.values()))
    return dict(zip(QUEUES, counts, strict=True))
