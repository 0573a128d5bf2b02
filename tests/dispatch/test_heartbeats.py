"""The heartbeat records gaps and jumps of the clock, which decide why ticks were missed."""

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

import asyncpg
import pytest

from app.control import Clock, Heartbeat
from app.store.db import Pool, open_pool

HOUR = timedelta(hours=1)


@dataclass
class JumpedPool:
    """A pool whose server's clock is ahead by `shift`, and which loses the next `lost` inserts.

    `seen`: what `clock` showed when an interval was begun.
    """

    pool: Pool
    clock: Clock
    shift: timedelta = timedelta(0)
    lost: int = 0
    seen: list[datetime] = field(default_factory=list[datetime])

    async def fetchval(self, statement: str, *values: Any) -> Any:
        found = await self.pool.fetchval(statement, *values)
        if "clock_timestamp" in statement:
            return found + self.shift
        self.seen.append(self.clock())
        return found

    async def execute(self, statement: str, *values: Any) -> str:
        return await self.pool.execute(statement, *values)


@dataclass
class LosingPool(JumpedPool):
    async def fetchval(self, statement: str, *values: Any) -> Any:
        if "INSERT" in statement and self.lost > 0:
            self.lost -= 1
            raise ConnectionResetError
        return await super().fetchval(statement, *values)


def beating(jumped: JumpedPool) -> Heartbeat:
    return Heartbeat(cast("Pool", jumped), jumped.clock, "w", timedelta(seconds=15))


async def intervals(pool: Pool) -> list[bool]:
    rows = await pool.fetch("SELECT jumped FROM worker_beats ORDER BY since")
    return [row["jumped"] for row in rows]


async def test_a_jump_of_the_clock_is_recorded_before_anything_is_decided_by_it(pool: Pool) -> None:
    jumped = JumpedPool(pool, Clock())
    heartbeat = beating(jumped)
    await heartbeat.beat()
    before = jumped.clock()
    jumped.shift = HOUR

    await heartbeat.beat()

    assert jumped.seen[-1] - before < HOUR / 2
    assert jumped.clock() - before > HOUR / 2
    assert await intervals(pool) == [False, True]


async def test_a_jump_that_could_not_be_recorded_is_recorded_by_the_next_heartbeat(
    pool: Pool,
) -> None:
    losing = LosingPool(pool, Clock())
    heartbeat = beating(losing)
    await heartbeat.beat()
    losing.shift, losing.lost = HOUR, 1

    with pytest.raises(ConnectionResetError):
        await heartbeat.beat()
    await heartbeat.beat()

    assert await intervals(pool) == [False, True]


async def test_a_gap_whose_end_could_not_be_recorded_stays_a_gap(pool: Pool) -> None:
    losing = LosingPool(pool, Clock())
    heartbeat = Heartbeat(cast("Pool", losing), losing.clock, "w", timedelta(seconds=0))
    await heartbeat.beat()
    losing.lost = 1

    with pytest.raises(ConnectionResetError):
        await heartbeat.beat()
    await heartbeat.beat()

    assert await intervals(pool) == [False, False]


async def test_a_time_in_which_heartbeats_are_refused_is_a_gap_and_proves_no_worker_dead(
    pool: Pool, dsn: str
) -> None:
    impatient = await open_pool(dsn, size=2, lock_wait=0.05)
    heartbeat = Heartbeat(impatient, Clock(), "w", timedelta(seconds=1))
    try:
        await heartbeat.beat()
        async with pool.acquire() as other, other.transaction():
            await other.execute("LOCK TABLE worker_beats IN EXCLUSIVE MODE")  # it can be read
            until = time.monotonic() + 1.2
            while time.monotonic() < until:
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await heartbeat.beat()
            assert not heartbeat.is_steady()
        await heartbeat.beat()
    finally:
        impatient.terminate()

    assert await intervals(pool) == [False, False]
    assert not heartbeat.is_steady()
