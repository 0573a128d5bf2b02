"""An organisation leaves: its data is exported, then deleted, and counts prove it."""

import asyncio
import zipfile
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, cast
from uuid import UUID

from arq.constants import default_queue_name
from redis.asyncio import Redis

from app.fetch import robots
from app.orgs import admin
from app.queue.org_queue import ORG_QUEUE
from app.runs import log
from app.store.db import Pool
from app.store.orgs import leaving as store
from app.store.orgs.orgs import Org

SCAN_COUNT = 1_000
# Sorted sets whose members name runs or organisations.
SHARED_BYTES = tuple(cache.shared_bytes for cache in (log.BOUNDS, robots.BOUNDS))
QUEUES = (
    *(f"{ORG_QUEUE}{suffix}" for suffix in ("", ":slow", ":later", ":admitted")),
    default_queue_name,
    *(index for cache in (log.BOUNDS, robots.BOUNDS) for index in cache.shared_indexes),
    *SHARED_BYTES,
)


@contextmanager
def new_file(path: Path) -> Generator[IO[bytes]]:
    """Create a file, and remove it if the block fails: a part of an export would pass for all.

    Raises FileExistsError.
    """
    with path.open("xb") as file:
        try:
            yield file
        except BaseException:
            path.unlink(missing_ok=True)
            raise


async def export(pool: Pool, found: Org, file: IO[bytes]) -> dict[str, int]:
    """Write all rows of the organisation to a zip file; returns their number by table.

    Each table is one file of JSON lines. Hashes of tokens and encrypted secrets are left out.
    """
    written: dict[str, int] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for table in await store.tables(pool):
            with archive.open(f"{table}.jsonl", "w", force_zip64=True) as entry:
                async for lines in store.json_rows(pool, found.id, table):
                    await asyncio.to_thread(entry.write, ("\n".join(lines) + "\n").encode())
                    written[table] = written.get(table, 0) + len(lines)
    return written


async def delete(
    pool: Pool, redis: Redis, found: Org, now: datetime
) -> tuple[dict[str, int], dict[str, int]]:
    """Disable and delete the organisation; returns what there was of it, and what there still is.

    Both by table, and for Redis as `redis`; the second is empty.
    """
    await admin.disable(pool, found, now)
    runs = await store.run_ids(pool, found.id)
    before = await _counts(pool, redis, found, runs)
    # Before its runs, which name its keys; and after them, for what a worker has written meanwhile.
    await _delete_keys(redis, found.id, runs)
    await store.delete(pool, found.id, runs)
    await _delete_keys(redis, found.id, runs)
    return before, await _counts(pool, redis, found, runs)


async def _delete_keys(redis: Redis, org_id: UUID, runs: Sequence[UUID]) -> None:
    keys = await _keys(redis, org_id, runs)
    if keys:
        await redis.delete(*keys)
    for queue, name in await _queued(redis, org_id, runs):
        size = await redis.zscore(queue, name)
        if await redis.zrem(queue, name) and queue in SHARED_BYTES:
            await redis.zincrby(queue, -(size or 0), "total")


async def _counts(pool: Pool, redis: Redis, found: Org, runs: Sequence[UUID]) -> dict[str, int]:
    rows = await store.counts(pool, found.id, runs)
    keys = len(await _keys(redis, found.id, runs)) + len(await _queued(redis, found.id, runs))
    return rows | ({"redis": keys} if keys else {})


async def _keys(redis: Redis, org_id: UUID, runs: Sequence[UUID]) -> list[str]:
    """The keys that name the organisation or one of its runs."""
    names = _names(org_id, runs)
    found: list[str] = []
    keys = cast("AsyncIterator[bytes]", redis.scan_iter(count=SCAN_COUNT))  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    async for key in keys:
        text = key.decode("utf-8", "replace")
        if names.intersection(text.replace("/", ":").split(":")):
            found.append(text)
    return found


async def _queued(redis: Redis, org_id: UUID, runs: Sequence[UUID]) -> list[tuple[str, str]]:
    """The entries of sorted sets that name the organisation or one of its runs, with their set."""
    wanted = _names(org_id, runs)
    found: list[tuple[str, str]] = []
    for queue in QUEUES:
        entries = cast("list[bytes]", await redis.zrange(queue, 0, -1))  # pyright: ignore[reportUnknownMemberType] - as above
        names = [entry.decode("utf-8", "replace") for entry in entries]
        found += [(queue, name) for name in names if wanted.intersection(name.split(":"))]
    return found


def _names(org_id: UUID, runs: Sequence[UUID]) -> set[str]:
    return {str(org_id), org_id.hex, *map(str, runs), *(run.hex for run in runs)}
