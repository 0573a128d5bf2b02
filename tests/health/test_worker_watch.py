"""What a worker does for health beside its jobs: each in its turn, and one worker for all."""

from arq.connections import ArqRedis

from app.context import WorkerContext
from app.core.enums import RunStatus
from app.health.keys import read_collections, read_system
from app.health.metrics import read
from app.store.runs import run_rows
from app.store.runs.run_rows import RunEnding
from tests.runs.harness import Desk
from tests.worker_harness import ctx_of
from workers.monitor import monitor


async def test_a_watch_counts_adds_up_proves_and_forgets(
    house: WorkerContext, redis: ArqRedis
) -> None:
    desk = Desk(house.pool, house.clock)  # pyright: ignore[reportArgumentType] - any clock will do
    await run_rows.finish(
        house.pool, await desk.begin(), RunEnding(RunStatus.SUCCESS, house.clock())
    )
    await house.pool.execute(
        "INSERT INTO notifications (channel, title, body, created_at, next_try_at, attempts,"
        " sent_at) VALUES ('c', 't', 'b', now(), now(), 1, now() - interval '31 days')"
    )

    await monitor(ctx_of(house))
    await monitor(ctx_of(house))

    kept = await read.stored_totals(redis)
    assert [total.value for total in kept if total.name == "runs"] == [1]
    assert (await read_system(redis)).unaccounted == 0
    assert await read_collections(redis) is not None
    assert await house.pool.fetchval("SELECT count(*) FROM notifications") == 0
