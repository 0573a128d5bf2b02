"""What an operator asks of an organisation's collection waits in the organisations' line."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from arq.connections import ArqRedis
from typer.testing import Result

from app.context import WorkerContext
from app.core.errors import Conflict
from app.ledger import backfill
from app.queue import org_queue
from app.scheduling.schedule import Schedule
from tests.collections import harness
from tests.collections.harness import Client
from tests.commands.conftest import Rollcall, RollcallJson
from tests.wait import until

HOURLY = Schedule.cron("0 * * * *", name="hourly")
NEWEST = "SELECT * FROM runs WHERE org_id = $1 ORDER BY created_at DESC, queued_at DESC LIMIT 1"


async def members(redis: ArqRedis, name: str) -> set[str]:
    client: Any = redis
    return {one.decode() for one in await client.zrange(name, 0, -1)}


async def lined_up(redis: ArqRedis) -> set[str]:
    return await members(redis, org_queue.ORG_QUEUE)


async def in_queue(redis: ArqRedis) -> set[str]:
    return await members(redis, "arq:queue")


async def ended(acme: Client) -> UUID:
    run_id = await acme.queue()
    await acme.context.pool.execute(
        "UPDATE runs SET status = 'failure', completed_at = now() WHERE execution_id = $1", run_id
    )
    return run_id


async def test_a_collections_backfill_waits_in_the_line_and_is_the_organisations(
    context: WorkerContext, redis: ArqRedis, rollcall: Rollcall
) -> None:
    acme = await harness.client(context, schedule=HOURLY)
    now = context.clock().replace(minute=0, second=0, microsecond=0)
    words = ("--from", (now - timedelta(hours=1)).isoformat(), "--to", now.isoformat(), "--yes")

    async def lined() -> bool:
        await backfill.feed(context.pool, redis, context.clock())
        return await org_queue.length(redis) > 0

    async def typed() -> Result:
        return await rollcall("backfill", acme.key, *words)

    asked = asyncio.create_task(typed())
    await until(lined, 20, "the first run in line")
    waiting, queued = await lined_up(redis), await in_queue(redis)
    while not asked.done():
        await backfill.feed(context.pool, redis, context.clock())
        for row in await context.pool.fetch(
            "SELECT execution_id FROM runs WHERE status = 'queued'"
        ):
            await acme.run(row["execution_id"])
        await asyncio.sleep(0.05)
    result = await asked

    rows = await context.pool.fetch("SELECT * FROM runs ORDER BY scheduled_for")
    assert result.exit_code == 0, result.output
    assert waiting == {f"run:{rows[0]['execution_id']}:1"}
    assert not queued & waiting
    assert {(row["org_id"], row["trigger"], row["status"]) for row in rows} == {
        (acme.org_id, "backfill", "success")
    }
    assert len(await acme.items()) == 90


async def test_a_collections_run_is_asked_for_again_as_its_organisations(
    context: WorkerContext, redis: ArqRedis, rollcall_json: RollcallJson
) -> None:
    acme = await harness.client(context)
    old = await ended(acme)

    result = await rollcall_json("retry", str(old))

    row = await context.pool.fetchrow(NEWEST, acme.org_id)
    assert row is not None
    assert result == {
        "execution_id": str(row["execution_id"]),
        "job": acme.key,
        "task": "collection",
        "status": "queued",
    }
    assert (row["trigger"], row["schedule_id"]) == ("manual", acme.schedule_id)
    assert str(old) in row["requested_by"]
    assert await lined_up(redis) == {f"run:{row['execution_id']}:1"}
    assert await in_queue(redis) == set()


async def test_it_is_refused_with_the_run_that_is_open(
    context: WorkerContext, rollcall: Rollcall
) -> None:
    acme = await harness.client(context)
    old, open_ = await ended(acme), await acme.queue()

    result = await rollcall("retry", str(old))

    assert isinstance(result.exception, Conflict)
    assert str(open_) in str(result.exception)
    assert await context.pool.fetchval("SELECT count(*) FROM runs") == 2
