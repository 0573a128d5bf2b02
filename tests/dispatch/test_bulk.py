"""A thousand schedules decided at once come out as if each had been decided alone."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.enums import Coalesce, Overlap
from app.ledger import decide, proof
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool, open_pool
from app.store.schedules import heartbeats
from app.store.schedules.schedule_rows import DueQuery
from tests.clock import NOON
from tests.dispatch import orgs

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
CALM = Policies(misfire_grace=HOUR)
EACH_MINUTE = Schedule.cron("* * * * *")


async def decide_all(pool: Pool, due: DueQuery) -> decide.BatchResult:
    """Batch after batch until nothing is due, as dispatch does; all that was done."""
    sum_ = decide.BatchResult()
    while True:
        aside = (*due.excluded, *sum_.undecidable)
        batch = await decide.decide_due(pool, DueQuery(due.now, due.limit, due.jobs, aside))
        sum_.found += batch.found
        sum_.queued += batch.queued
        sum_.undecidable += batch.undecidable
        if not batch.found:
            return sum_


async def test_all_that_are_due_are_decided_and_nothing_else(pool: Pool) -> None:
    rare = Schedule.cron("0 0 1 1 *")
    await orgs.found(pool, NOON, [EACH_MINUTE] * 30 + [rare] * 10, CALM)

    done = await decide_all(pool, DueQuery(NOON + MINUTE, 7))

    books = await orgs.books(pool)
    assert (done.found, len(done.queued)) == (30, 30)
    assert len(books["ticks"]) == len(books["runs"]) == 30
    assert {row["org_id"] for row in books["runs"]} == {orgs.org(n) for n in range(30)}


async def test_two_workers_share_what_is_due_and_decide_nothing_twice(pool: Pool, dsn: str) -> None:
    await orgs.found(pool, NOON, [EACH_MINUTE] * 400, CALM)
    workers = [await open_pool(dsn, size=2) for _ in range(2)]

    one, other = await asyncio.gather(
        *(decide_all(worker, DueQuery(NOON + MINUTE, 20)) for worker in workers)
    )

    assert len(one.queued) + len(other.queued) == 400
    assert one.queued
    assert other.queued
    assert len((await orgs.books(pool))["runs"]) == 400
    await asyncio.gather(*(worker.close() for worker in workers))


async def test_what_another_decides_is_left_to_it(pool: Pool) -> None:
    await orgs.found(pool, NOON, [EACH_MINUTE] * 5, CALM)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM schedules WHERE key = $1 FOR UPDATE", orgs.key(0))

        batch = await asyncio.wait_for(decide.decide_due(pool, DueQuery(NOON + MINUTE, 10)), 5)

    assert batch.found == 4


async def test_one_that_cannot_be_read_does_not_stop_the_others(pool: Pool) -> None:
    await orgs.found(pool, NOON, [EACH_MINUTE] * 10, CALM)
    await pool.execute(
        """UPDATE schedules SET spec = '{"cron": "rubbish"}', due_at = due_at - interval '1 hour'
           WHERE key = $1""",
        orgs.key(3),
    )
    await pool.execute(
        'UPDATE schedules SET policies = \'{"overlap": "maybe"}\' WHERE key = $1', orgs.key(4)
    )

    done = await decide_all(pool, DueQuery(NOON + MINUTE, 1))

    assert done.undecidable == [f"{orgs.key(3)} 1", f"{orgs.key(4)} 1"]
    assert len(done.queued) == 8


async def test_one_that_cannot_be_written_does_not_stop_the_others(pool: Pool) -> None:
    await orgs.found(pool, NOON, [EACH_MINUTE] * 10, CALM)
    await pool.execute(  # a tick beyond the frontier: what nothing of ours ever writes
        """INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)
           SELECT id, $2, 1, 'skipped', 'paused', $2 FROM schedules WHERE key = $1""",
        orgs.key(3),
        NOON + MINUTE,
    )

    done = await decide_all(pool, DueQuery(NOON + MINUTE, 4))

    assert done.undecidable == [f"{orgs.key(3)} 1"]
    assert len(done.queued) == 9


async def test_skips_in_a_row_become_one_row_in_bulk_too(pool: Pool) -> None:
    await orgs.found(pool, NOON, [EACH_MINUTE] * 3, Policies())
    for minute in range(1, 121):
        await decide_all(pool, DueQuery(NOON + minute * MINUTE, 2))

    books = await orgs.books(pool)

    assert [row["count"] for row in books["gaps"]] == [119] * 3
    assert len(books["ticks"]) == 3
    for account in await proof.verify(pool, NOON + 121 * MINUTE):
        assert (account.unaccounted, account.duplicates, account.unexpected) == (0, 0, 0)


RULES = st.sampled_from(
    [
        Schedule.every(60, anchor=NOON),
        Schedule.every(47, anchor=NOON),
        Schedule.cron("*/5 * * * *"),
        Schedule.cron("7 * * * *", "Europe/Berlin"),
        Schedule.cron("30 14 * * *", "America/New_York"),
        Schedule.every(1, anchor=NOON),
    ]
)


def policies(grace: int, coalesce: Coalesce, overlap: Overlap, jitter: int) -> Policies:
    """Policies that do not contradict each other."""
    return Policies(
        misfire_grace=timedelta(seconds=grace),
        coalesce=coalesce,
        overlap=overlap if coalesce is not Coalesce.ALL else Overlap.QUEUE_ONE,
        jitter=timedelta(seconds=jitter),
    )


POLICIES = st.builds(
    policies,
    st.sampled_from([20, 300, 3600]),
    st.sampled_from(Coalesce),
    st.sampled_from(Overlap),
    st.sampled_from([0, 30]),
)
STEPS = st.lists(
    st.tuples(st.sampled_from([1, 40, 61, 300, 3000, 40_000]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=4,
)


@dataclass(frozen=True, slots=True)
class Life:
    """What befalls some schedules: seconds that pass, whether a worker beats, whether runs end."""

    rules: list[Schedule]
    policies: Policies
    steps: list[tuple[int, bool, bool]]
    paused: int
    disabled: int


LIVES = st.builds(
    Life,
    st.lists(RULES, min_size=1, max_size=5),
    POLICIES,
    STEPS,
    st.integers(0, 9),
    st.integers(0, 9),
)


@given(life=LIVES)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_in_bulk_as_one_by_one(pool: Pool, life: Life) -> None:
    alone = await lived(pool, life, one_by_one)
    together = await lived(pool, life, in_bulk)

    assert together == alone


async def in_bulk(pool: Pool, now: datetime, _: int) -> None:
    await decide_all(pool, DueQuery(now, 2))


async def one_by_one(pool: Pool, now: datetime, count: int) -> None:
    for number in range(count):
        await decide.decide_schedule(pool, orgs.key(number), now)


async def lived(
    pool: Pool, life: Life, step: Callable[[Pool, datetime, int], Awaitable[None]]
) -> object:
    """The books after these steps."""
    await pool.execute("TRUNCATE organizations, schedules, runs, worker_beats CASCADE")
    await orgs.found(pool, NOON, life.rules, life.policies)
    await pool.execute(TURN_OFF, NOON + MINUTE, orgs.key(life.paused), orgs.key(life.disabled))
    now = NOON
    for seconds, beating, ending in life.steps:
        since, now = now, now + timedelta(seconds=seconds)
        if beating:
            await heartbeats.extend_interval(
                pool, await heartbeats.start_interval(pool, "w", since, jumped=False), now
            )
        await step(pool, now, len(life.rules))
        if ending:
            await pool.execute(END_RUNS, now)
    return await orgs.books(pool)


TURN_OFF = """
UPDATE schedules SET paused_at = CASE WHEN key = $2 THEN $1::timestamptz END,
                     enabled = key <> $3
"""
END_RUNS = """
UPDATE runs SET status = 'success', completed_at = $1 WHERE status IN ('queued', 'running')
"""
