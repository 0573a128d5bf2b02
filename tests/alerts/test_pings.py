"""A dead man's switch outside hears of each run, and of nothing that it should not."""

import asyncio

from pydantic import SecretStr

from app.context import WorkerContext
from app.core.config import Config
from app.core.enums import RunStatus
from app.health.alerts.heartbeat_pings import HeartbeatPings
from app.runs.leases import Leases
from app.store.db import open_pool
from tests import worker_harness
from tests.alerts.receiver import Receiver
from tests.wait import until
from workers.execute import execute
from workers.run import Run


async def test_a_run_is_told_to_its_address_and_a_failed_one_to_fail_behind_it(
    receiver: Receiver,
) -> None:
    setting = f"poll={receiver.http}/poll, odds={receiver.http}/odds?x=1"
    pings = HeartbeatPings.from_config(
        Config(ping_urls=SecretStr(setting), ping_scheduler_url=SecretStr(f"{receiver.http}/s"))
    )

    async def heard(number: int) -> bool:
        return len(receiver.asked) >= number

    pings.run_ended("poll", RunStatus.SUCCESS)
    await until(lambda: heard(1))
    pings.run_ended("poll", RunStatus.TIMED_OUT)
    await until(lambda: heard(2))
    pings.run_ended("unknown", RunStatus.SUCCESS)
    pings.scheduler()
    await until(lambda: heard(3))
    pings.run_ended("odds", RunStatus.FAILURE)
    await until(lambda: heard(4))
    pings.run_ended("poll", RunStatus.CANCELLED)
    pings.run_ended("poll", RunStatus.PARTIAL_FAILURE)
    await until(lambda: heard(5))
    await pings.close()

    assert receiver.asked == ["/poll", "/poll/fail", "/s", "/odds/fail?x=1", "/poll/fail"]


async def test_a_run_whose_outcome_postgres_did_not_take_is_not_told(
    context: WorkerContext, dsn: str, receiver: Receiver
) -> None:
    pool = await open_pool(dsn, size=1)
    pings = HeartbeatPings({"poll": receiver.http}, None)
    leases = Leases(pool, context.clock, context.config.lease_seconds)

    begun = asyncio.Event()

    async def close_pool() -> None:
        await begun.wait()
        await pool.close()

    closing = asyncio.create_task(close_pool())  # a job itself may not

    async def body(run: Run) -> None:
        del run
        begun.set()
        await closing

    job = worker_harness.job_of(body, "poll")
    await execute(worker_harness.ctx_of(context, leases=leases) | {"pings": pings}, job)
    await pings.close()

    assert receiver.asked == []
    assert await context.pool.fetchval("SELECT status FROM runs") == "running"


async def test_a_ping_that_is_under_way_is_sent_before_its_process_ends(receiver: Receiver) -> None:
    pings = HeartbeatPings({"poll": f"{receiver.http}/poll"}, None)

    pings.run_ended("poll", RunStatus.SUCCESS)
    await pings.close()

    assert receiver.asked == ["/poll"]
