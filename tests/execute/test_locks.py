"""A lock that another session holds delays the work, and neither heartbeats nor deciding."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from structlog.testing import capture_logs

from app.context import WorkerContext
from app.store.db import open_pool
from app.store.schedules import heartbeats
from tests import worker_harness
from tests.wait import until
from tests.worker_harness import perform, run_row
from workers.execute import execute
from workers.odds import scrape_all_platforms


@asynccontextmanager
async def locked(context: WorkerContext, statement: str) -> AsyncGenerator[None]:
    """Another session holds what the statement locks."""
    async with context.pool.acquire() as connection, connection.transaction():
        await connection.execute(statement)
        yield


async def test_leases_and_heartbeats_go_on_while_all_work_waits_for_a_lock(
    context: WorkerContext,
) -> None:
    await perform(context)
    leases = worker_harness.leases_of(context)
    ctx = worker_harness.ctx_of(context, leases=leases)
    async with locked(context, "LOCK TABLE run_sources IN ACCESS EXCLUSIVE MODE"):
        work = asyncio.create_task(execute(ctx, scrape_all_platforms))

        async def holds() -> bool:
            return bool(leases.held)

        await until(holds)
        blocked = [
            asyncio.create_task(context.pool.fetch("SELECT FROM run_sources")) for _ in range(20)
        ]
        async with asyncio.timeout(2):
            await leases.renew()
            await context.heartbeat.beat()
        assert leases.held
    await work
    await asyncio.gather(*blocked)

    assert (await run_row(context.pool, await perform(context)))["status"] == "success"


async def test_a_run_waits_for_a_lock_and_says_so(context: WorkerContext, dsn: str) -> None:
    await perform(context)
    impatient = await open_pool(dsn, size=4, lock_wait=0.1)
    own, context.pool = context.pool, impatient
    try:
        await context.pool.execute("TRUNCATE page_validators")
        await context.pool.execute("UPDATE odds_events SET fingerprint = NULL")
        async with own.acquire() as other, other.transaction():
            await other.execute("LOCK TABLE odds_events IN SHARE MODE")
            with capture_logs() as logs:
                work = asyncio.create_task(perform(context))

                async def said() -> bool:
                    return any(entry["event"] == "postgres.locked" for entry in logs)

                await until(said, 20)
        run_id = await work
    finally:
        context.pool = own
        impatient.terminate()

    assert (await run_row(context.pool, run_id))["status"] == "success"


async def test_a_run_whose_row_is_locked_is_not_lost_and_the_others_are_renewed(
    context: WorkerContext, dsn: str
) -> None:
    leases = worker_harness.leases_of(context)
    leases.pool = await open_pool(dsn, size=2, lock_wait=0.1)
    rows = await context.pool.fetch(
        "INSERT INTO runs (execution_id, job, trigger, params, status, attempt, losses,"
        " max_attempts, timeout_seconds, lease_epoch, lease_expires_at, queued_at, stats)"
        " SELECT gen_random_uuid(), 'j', 'manual', '{}', 'running', 1, 0, 3, 60, 1, now(), now(),"
        " '{}' FROM generate_series(1, 2) RETURNING execution_id"
    )
    first, second = [(row[0], 1) for row in rows]
    task = asyncio.create_task(asyncio.sleep(30))
    leases.held = {first: task, second: task}
    try:
        async with context.pool.acquire() as other, other.transaction():
            await other.execute("SELECT FROM runs WHERE execution_id = $1 FOR UPDATE", first[0])
            await leases.renew()
    finally:
        task.cancel()
        leases.pool.terminate()

    renewed = "SELECT execution_id FROM runs WHERE lease_expires_at > now() + interval '1 second'"
    assert [row[0] for row in await context.pool.fetch(renewed)] == [second[0]]
    assert not leases.lost


async def test_a_heartbeat_whose_interval_is_gone_begins_anew(context: WorkerContext) -> None:
    await context.heartbeat.beat()
    await context.pool.execute("DELETE FROM worker_beats")

    await context.heartbeat.beat()

    assert await context.pool.fetchval("SELECT count(*) FROM worker_beats") == 1
    assert not await heartbeats.extend_interval(context.pool, 10**9, context.clock())
