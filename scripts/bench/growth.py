"""Measures `verify` and the deletion of a day in tables that have grown for years.

The tables are filled with `generate_series`, as ticks every minute of many schedules would have
filled them; the runs of older ticks have been deleted. Printed: seconds to count all ticks, the
first time and when all are proven, with a minute of new ticks and without; seconds to drop the
oldest whole day. With `--day`, the tables get one day with that many ticks of schedules that are
due every minute: seconds to drop it, and to delete the ticks of 100 of its schedules in batches, as
is done with ticks that have no day of their own.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from app import embedded, migrations
from app.core import log
from app.ledger import edit, proof
from app.ledger.decide import decide_schedule
from app.ledger.edit import DeclaredSchedule
from app.maintenance import tick_retention
from app.scheduling.policies import Policies
from app.scheduling.schedule import EPOCH, Schedule
from app.store import db
from app.store.content import partitions
from app.store.db import Pool

MINUTE = timedelta(minutes=1)
MINUTES = 1440  # of a day
DAY = timedelta(days=1)
FRONTIERS = """
UPDATE schedules SET evaluated_through = $1::timestamptz, next_tick_at = $1 + interval '1 minute',
                     due_at = $1 + interval '1 minute'
"""
TICKS = """
INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, run_id, decided_at)
SELECT s.id, at, 1, 'ran', gen_random_uuid(), at
FROM schedules s
CROSS JOIN generate_series($1::timestamptz + interval '1 minute', $2, interval '1 minute') AS at
"""
RUNS = """
INSERT INTO runs (execution_id, job, schedule_id, scheduled_for, trigger, params, status, attempt,
                  losses, max_attempts, timeout_seconds, lease_epoch, queued_at, started_at,
                  completed_at, duration_seconds, created_at, stats)
SELECT t.run_id, 'grown', t.schedule_id, t.scheduled_for, 'scheduled', '{}', 'success', 1,
       0, 3, 60, 1, t.scheduled_for, t.scheduled_for, t.scheduled_for, 0, t.scheduled_for, '{}'
FROM ticks t WHERE t.scheduled_for > $1
"""


MORE_SCHEDULES = """
INSERT INTO schedules (key, job, spec, policies, params, version, effective_from, enabled,
                       evaluated_through)
SELECT key || '-' || n, job, spec, policies, params, version, effective_from, enabled,
       evaluated_through
FROM schedules, generate_series(1, $1::int) AS n
"""
HUNDRED = "SELECT id FROM schedules ORDER BY id LIMIT 100"
TICKS_OF_100 = TICKS.replace("FROM schedules s", f"FROM ({HUNDRED}) s")
MORE_VERSIONS = """
INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)
SELECT id, version, spec, policies, effective_from FROM schedules ON CONFLICT DO NOTHING
"""


async def measure(dsn: str, schedules: int, ticks: int, runs: int) -> dict[str, float]:
    """Fill the database, and return the figures."""
    pool = await db.open_pool(dsn, size=4, statement_limit=3600)
    try:
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        began = time.monotonic()
        keys = await _fill(pool, dsn, now, (schedules, ticks // schedules, runs // schedules))
        found = {"filled_in": time.monotonic() - began}
        found["verify_all"] = await _seconds(lambda: proof.verify(pool, now))
        found["verify_first"] = await _seconds(lambda: proof.verify_new(pool, now))
        found["verify_nothing_new"] = await _seconds(lambda: proof.verify_new(pool, now))
        for key in keys:
            await decide_schedule(pool, key, now + MINUTE)
        found["verify_a_new_minute"] = await _seconds(lambda: proof.verify_new(pool, now))
        oldest = partitions.day_start(now - MINUTE * (ticks // schedules) + DAY)
        await tick_retention.prune(pool, oldest)  # the part of a day with which they begin
        whole = oldest + DAY
        found["drop_a_day_of_ticks"] = await _seconds(lambda: tick_retention.prune(pool, whole))
        found["verify_after_that"] = await _seconds(lambda: proof.verify_new(pool, now))
        accounts = await proof.verify_new(pool, now)
        if not all(account.consistent for account in accounts):
            raise SystemExit("the ledger is not consistent")
        found["ticks"] = float(sum(account.expected for account in accounts))
        return {name: round(value, 2) for name, value in found.items()}
    finally:
        await pool.close()


async def measure_day(dsn: str, ticks: int) -> dict[str, float]:
    """Fill one day with so many ticks, drop it, and return the figures."""
    pool = await db.open_pool(dsn, size=4, statement_limit=3600)
    try:
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        day = partitions.day_start(now) - DAY
        await partitions.create_upcoming(pool, day - DAY, partitions.TICKS)
        await _declare(pool, 1, day - DAY - MINUTE)
        schedules = max(100, ticks // MINUTES)
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(MORE_SCHEDULES, schedules - 1)
            await connection.execute(MORE_VERSIONS)
        await _as_superuser(
            dsn,
            (TICKS_OF_100, day - DAY - MINUTE, day - MINUTE),
            (TICKS, day - MINUTE, day + DAY - MINUTE),
            (FRONTIERS, now),
        )
        found: dict[str, float] = {"schedules": schedules, "ticks": schedules * MINUTES}
        some = [row["id"] for row in await pool.fetch(HUNDRED)]
        found["delete_a_day_of_100"] = await _seconds(lambda: _delete(pool, some, day))
        await tick_retention.prune(pool, day)
        found["drop_the_day"] = await _seconds(lambda: tick_retention.prune(pool, day + DAY))
        found["left"] = await pool.fetchval("SELECT count(*) FROM ticks")
        return {name: round(value, 2) for name, value in found.items()}
    finally:
        await pool.close()


async def _declare(pool: Pool, count: int, since: datetime) -> list[str]:
    declared = [
        DeclaredSchedule(key, "grown", Schedule.every(60, anchor=EPOCH, name=key), Policies())
        for key in (f"grown-{number}" for number in range(count))
    ]
    await edit.register(pool, declared, since)
    return [one.key for one in declared]


async def _as_superuser(dsn: str, *statements: tuple[str, *tuple[object, ...]]) -> None:
    """Execute statements with neither triggers nor checks of foreign keys, which take most time."""
    connection = await asyncpg.connect(dsn.replace("//rollcall@", "//postgres@", 1))
    try:
        await connection.execute("SET session_replication_role = replica")
        for statement, *values in statements:
            await connection.execute(statement, *values)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def _fill(pool: Pool, dsn: str, now: datetime, each: tuple[int, int, int]) -> list[str]:
    schedules, ticks, runs = each
    since = now - MINUTE * ticks
    day = since
    while day <= now:
        await partitions.create_upcoming(pool, day, partitions.TICKS)
        day += DAY
    keys = await _declare(pool, schedules, since)
    await _as_superuser(dsn, (TICKS, since, now), (RUNS, now - MINUTE * runs), (FRONTIERS, now))
    return keys


async def _delete(pool: Pool, schedules: Sequence[int], before: datetime) -> None:
    for schedule_id in schedules:
        while await tick_retention.prune_ticks(pool, schedule_id, before):
            pass


async def _seconds(step: Callable[[], Awaitable[object]]) -> float:
    began = time.monotonic()
    await step()
    return time.monotonic() - began


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench/growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--ticks", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--day", type=int, metavar="TICKS")
    asked = parser.parse_args(argv)
    log.configure("console", "warning")
    with tempfile.TemporaryDirectory(prefix="growth") as folder:
        servers = embedded.start(Path(folder) / "s")
        try:
            migrations.upgrade(servers.database_url)
            measured = (
                measure(servers.database_url, asked.schedules, asked.ticks, asked.runs)
                if asked.day is None
                else measure_day(servers.database_url, asked.day)
            )
            found = asyncio.run(measured)
        finally:
            servers.close()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
