"""What a worker does for health beside its jobs: each in its turn, and one worker for all."""

from arq.connections import ArqRedis

from app.context import House
from app.core.enums import RunStatus
from app.health.keys import read_collections, read_house
from app.health.metrics import read
from app.store.runs import run_rows
from app.store.runs.run_rows import Ending
from tests.runs.harness import Desk
from tests.worker_harness import ctx_of
from workers.monitor import watch


async def test_a_watch_counts_adds_up_proves_and_forgets(house: House, redis: ArqRedis) -> None:
    desk = Desk(house.pool, house.clock)  # pyright: ignore[reportArgumentType] - any clock will do
    await run_rows.finish(house.pool, await desk.begin(), Ending(RunStatus.SUCCESS, house.clock()))
    await house.pool.execute(
        "INSERT INTO notifications (channel, title, body, created_at, next_try_at, attempts,"
        " sent_at) VALUES ('c', 't', 'b', now(), now(), 1, now() - interval '31 days')"
    )

    await watch(ctx_of(house))
    await watch(ctx_of(house))

    kept = await read.kept(redis)
    assert [total.value for total in kept if total.name == "runs"] == [1]
    assert (await read_house(redis)).unaccounted == 0
    assert await read_collections(redis) is not None
    assert await house.pool.fetchval("SELECT count(*) FROM notifications") == 0
