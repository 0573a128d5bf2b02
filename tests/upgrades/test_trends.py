"""Revision 0032 counts the runs of the last month that have ended already, and no run twice."""

import asyncio
from typing import Any

import asyncpg

from app import migrations
from app.store.db import OPERATOR_SESSION, open_pool
from app.store.reports import metrics
from tests.upgrades.databases import executed

ROWS = """
INSERT INTO runs (execution_id, job, trigger, params, status, queued_at, created_at, started_at,
                  completed_at, duration_seconds, stats, attempt, losses, max_attempts,
                  timeout_seconds, lease_epoch)
SELECT gen_random_uuid(), 'scrape', 'manual', '{}', status, at, at, at + interval '3 s', until, 5,
       '{}', 1, 0, 3, 240, 1
FROM (VALUES ('success', now() - interval '1 day', now() - interval '1 day'),
             ('failure', now() - interval '1 day', now() - interval '1 day'),
             ('success', now() - interval '90 days', now() - interval '90 days'),
             ('running', now(), NULL)) AS r (status, at, until);
INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed, pages,
                         records, inserted, changed, unchanged, rejected, requests, retries, bytes,
                         throttled_ms, duration_seconds, counts)
SELECT execution_id, 'bet9ja', status, 1, 0, 1, 30, 2, 5, 23, 0, 3, 0, 999, 0, 1.5,
       '{"prices": 90, "classes": {"2xx": 2}}' FROM runs;
INSERT INTO metric_totals (name, first, second, third, value)
VALUES ('throttled', 'bet9ja', '', '', 0);
"""
READ = """
SELECT kind, name, sum(runs)::int, sum(failed)::int, sum(records)::int, sum(prices)::int,
       sum(errors)::int, sum((took ->> '9')::int)::int, sum((waited ->> '6')::int)::int
FROM trends WHERE step = 86400 GROUP BY 1, 2
"""


async def stored(dsn: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn, server_settings=OPERATOR_SESSION)
    try:
        return {(row[0], row[1]): tuple(row)[2:] for row in await connection.fetch(READ)}
    finally:
        await connection.close()


async def fold(dsn: str) -> None:
    pool = await open_pool(dsn, size=2)
    await metrics.fold(pool)
    await pool.close()


def test_runs_that_have_ended_are_counted_once(empty: str) -> None:
    migrations.upgrade(empty, "0031")
    asyncio.run(executed(empty, ROWS))
    # This run's end is still to be counted when the schema changes.
    asyncio.run(
        executed(
            empty,
            "UPDATE runs SET status = 'failure', completed_at = now(), duration_seconds = 5,"
            " started_at = created_at + interval '3 s' WHERE status = 'running'",
        )
    )

    migrations.upgrade(empty)
    before = asyncio.run(stored(empty))
    asyncio.run(fold(empty))
    after = asyncio.run(stored(empty))

    assert before["job", "scrape"] == (2, 1, 60, 180, 2, 2, 2)
    assert after["job", "scrape"] == (3, 2, 90, 270, 3, 3, 3)
    assert after["source", "bet9ja"][:5] == (3, 2, 90, 270, 3)
