"""A lock that another session holds delays the work, and neither heartbeats nor deciding."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from structlog.testing import capture_logs

from app.context import WorkerContext
from app.jobs import Job, Run, job
from app.store.db import Pool, open_pool, outwait_locks
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
        async with asyncio.timeout(10):
            await leases.renew()
            await context.heartbeat.beat()
        assert leases.held
    await work
    await asyncio.gather(*blocked)

    assert (await run_row(context.pool, await perform(context)))["status"] == "success"


@asynccontextmanager
async def impatient(context: WorkerContext, dsn: str) -> AsyncGenerator[None]:
    """The runs of this context wait 0.1 s for a lock at a time."""
    own, context.pool = context.pool, await open_pool(dsn, size=4, lock_wait=0.1)
    try:
        yield
    finally:
        context.pool.terminate()
        context.pool = own


async def waiting_for(context: WorkerContext, table: str, own: Job) -> UUID:
    """A run that meets a lock of somebody else, who releases it once the run has said so."""
    with capture_logs() as logs:

        async def said() -> bool:
            return any(entry["event"] == "postgres.locked" for entry in logs)

        async with locked(context, f"LOCK TABLE {table} IN SHARE MODE"):
            work = asyncio.create_task(perform(context, job=own))
            await until(said, 20)
        return await work


async def test_a_run_waits_for_a_lock_and_says_so(context: WorkerContext, dsn: str) -> None:
    await perform(context)
    await context.pool.execute("TRUNCATE page_validators")
    await context.pool.execute("UPDATE odds_events SET fingerprint = NULL")
    async with impatient(context, dsn):
        run_id = await waiting_for(context, "odds_events", scrape_all_platforms)

    assert (await run_row(context.pool, run_id))["status"] == "success"


async def test_a_job_waits_for_a_lock_when_it_stores(context: WorkerContext, dsn: str) -> None:
    @job
    async def own(run: Run) -> None:
        await run.store("things", [{"id": 1}], key="id")

    async with impatient(context, dsn):
        run_id = await waiting_for(context, "items", own)

    row = await run_row(context.pool, run_id)
    assert (row["status"], row["stats"]["inserted"]) == ("success", 1)


async def test_a_job_waits_for_a_lock_when_it_tells_its_progress(
    context: WorkerContext, dsn: str
) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    @job
    async def own(run: Run) -> bool:
        started.set()
        await go.wait()
        await run.progress(1, 2)
        return await run.still_mine()

    async with impatient(context, dsn):
        work = asyncio.create_task(perform(context, job=own))
        await started.wait()
        with capture_logs() as logs:

            async def said() -> bool:
                return any(entry["event"] == "postgres.locked" for entry in logs)

            async with locked(context, "LOCK TABLE runs IN SHARE MODE"):
                go.set()
                await until(said, 20)
        run_id = await work

    assert (await run_row(context.pool, run_id))["status"] == "success"


async def test_a_transaction_that_is_the_victim_of_a_deadlock_is_repeated(pool: Pool) -> None:
    await pool.execute("CREATE TABLE pair (id int PRIMARY KEY, n int)")
    await pool.execute("INSERT INTO pair VALUES (1, 0), (2, 0)")
    change, waits = (
        "UPDATE pair SET n = n + 1 WHERE id = $1",
        "SELECT FROM pg_locks WHERE NOT granted",
    )

    async def step() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(change, 1)
            await connection.execute(change, 2)

    async def blocked() -> bool:
        return bool(await pool.fetch(waits))

    with capture_logs() as logs:
        async with pool.acquire() as other, other.transaction():
            await other.execute(change, 2)
            work = asyncio.create_task(outwait_locks(step))
            await until(blocked)
            await other.execute(change, 1)  # the one that has waited for longer is the victim
        await work

    assert [row[0] for row in await pool.fetch("SELECT n FROM pair")] == [2, 2]
    assert [entry["event"] for entry in logs] == ["postgres.locked"]


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
