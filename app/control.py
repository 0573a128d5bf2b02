"""What deciding needs: connections to Postgres of its own, Redis, the clock and the heartbeat."""

import asyncio
import math
import os
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any, Protocol

from arq.connections import ArqRedis

from app.store import db
from app.store.db import Pool
from app.store.schedules import heartbeats

MAX_CLOCK_JUMP = timedelta(seconds=5)
MIN_CLOCK_CORRECTION = timedelta(milliseconds=1)
# A lease is renewed every third of it: after a gap of so much of it, one may have expired.
MAX_GAP = 2 / 3
CONTROL_LOCK_WAIT = 3.0  # seconds


@dataclass(slots=True)
class Clock:
    """The current instant (aware, UTC) by the database's clock, whatever the machine's clock says.

    `skew` is a simulated error of the machine's clock, for tests. `offset` is the measured
    difference between the database's clock and the machine's.
    """

    skew: timedelta = timedelta(0)
    offset: timedelta = timedelta(0)

    _started_wall: datetime = field(default_factory=lambda: datetime.now(UTC))
    _started_monotonic: float = field(default_factory=time.monotonic)

    def __call__(self) -> datetime:
        return self._machine_time(time.monotonic()) + self.offset

    def error(self) -> float:
        """Return the seconds by which the machine's clock is ahead of the database's."""
        return (datetime.now(UTC) + self.skew - self()).total_seconds()

    def _machine_time(self, monotonic: float) -> datetime:
        # Monotonic from the start: setting the machine's clock while we run changes nothing.
        passed = timedelta(seconds=monotonic - self._started_monotonic)
        return self._started_wall + self.skew + passed

    async def synchronise(self, pool: Pool) -> None:
        """Synchronise with the database's clock."""
        self.offset = await self.measure(pool)

    async def measure(self, pool: Pool) -> timedelta:
        """Return the offset to the database's clock, allowing half the round trip for transport."""
        started = time.monotonic()
        database_now = await heartbeats.database_now(pool)
        half_trip = timedelta(seconds=(time.monotonic() - started) / 2)
        offset = database_now - self._machine_time(started) - half_trip
        # A difference within half a round trip is measurement error.
        differs = abs(offset - self.offset) > half_trip + MIN_CLOCK_CORRECTION
        return offset if differs else self.offset


@dataclass(slots=True)
class Heartbeat:
    """This worker's heartbeat, recorded in the database as intervals without a gap.

    `longest_gap`: within an interval: a lease.
    """

    pool: Pool
    clock: Clock
    worker: str
    longest_gap: timedelta
    _beat_id: int | None = None
    _last_beat_at: datetime | None = None  # that was recorded
    _last_monotonic: float = 0.0
    _steady_from: float = -math.inf  # monotonic

    def is_steady(self) -> bool:
        """Whether an expired lease tells that its worker is dead.

        Not so for a lease after Postgres was away, this process was suspended or the clock jumped
        forward: those who live could not renew theirs.
        """
        now = time.monotonic()
        recent = now - self._last_monotonic <= self.longest_gap.total_seconds()
        return recent and now >= self._steady_from

    async def beat(self) -> None:
        """Extend the current interval, or begin a new one after a gap or a jump of the clock.

        A jump is recorded before anything is decided by the new time: it is why ticks were missed.
        """
        offset = await self.clock.measure(self.pool)
        now, monotonic = self.clock() - self.clock.offset + offset, time.monotonic()
        elapsed = timedelta(seconds=monotonic - self._last_monotonic)
        passed = timedelta(0) if self._last_beat_at is None else now - self._last_beat_at
        jumped = self._last_beat_at is not None and passed - elapsed > MAX_CLOCK_JUMP
        if not jumped:
            self.clock.offset = offset
        beat = None if jumped or passed > self.longest_gap else self._beat_id
        # After a failover to a replica that lacks the interval, a new one begins.
        if beat is None or not await heartbeats.extend_interval(self.pool, beat, now):
            self._beat_id = await heartbeats.start_interval(
                self.pool, self.worker, now, jumped=jumped
            )
        # Only now: a Postgres that answers and takes no writes, such as a replica, is away.
        self._last_beat_at, self._last_monotonic, self.clock.offset = now, monotonic, offset
        if passed > MAX_GAP * self.longest_gap:
            self._note_gap(monotonic)

    def _note_gap(self, monotonic: float) -> None:
        lease = self.longest_gap.total_seconds()
        if monotonic >= self._steady_from + lease:  # gaps without end must not keep dead runs
            self._steady_from = monotonic + lease


class DecidingContext(Protocol):
    """What the triggers, the dispatch and the sweep use. A WorkerContext has it too."""

    @property
    def control(self) -> Pool:
        """Connections that never wait for the work."""
        ...

    @property
    def redis(self) -> ArqRedis:
        """The client of arq's queue."""
        ...

    @property
    def clock(self) -> Clock:
        """The database's clock."""
        ...

    @property
    def heartbeat(self) -> Heartbeat:
        """Tells whether an expired lease is that of a dead worker."""
        ...


def deciding_context(ctx: dict[str, Any]) -> DecidingContext:
    """The context held by arq's untyped `ctx`."""
    context: DecidingContext = ctx["context"]
    return context


async def open_control_pool(database: str, *, size: int, lease_seconds: float) -> Pool:
    """Open a pool whose statements end within a lease; the caller closes it."""
    return await db.open_pool(
        database,
        size=size,
        idle_limit=lease_seconds,
        lock_wait=min(CONTROL_LOCK_WAIT, lease_seconds / 3),
        statement_limit=max(lease_seconds, 5.0),
        # The same few statements again and again: planning them took longer than executing them.
        plan_once=True,
    )


async def close_pool(pool: Pool) -> None:
    """Close the pool within two seconds, or end its connections."""
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except (TimeoutError, *db.UNAVAILABLE):
        pool.terminate()


def worker_name() -> str:
    """A name unique to this process: host, process id and a random suffix."""
    return f"{socket.gethostname()}:{os.getpid()}:{token_hex(3)}"
