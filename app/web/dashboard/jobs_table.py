"""Data of the dashboard's front page: what Postgres and Redis know of every job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from app.store.db import AWAY, Pool
from app.store.reports import overview
from app.store.schedules import heartbeats as beats
from app.web.dashboard.job_rows import Drawings, Lines, Row, from_redis, rows
from app.web.dashboard.tick_cache import Memory
from app.web.dashboard.tick_slots import SHOWN, Stretch, outages
from app.web.health.snapshot import Snapshot

MAX_OUTAGE_AGE = timedelta(days=60)
RECENT_RUNS = 12
MIN_OUTAGE_AGE = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Read:
    """What was read from Postgres. `skew`: seconds by which the database clock is ahead."""

    lines: Lines
    outages: Sequence[Stretch]
    recent: Sequence[Mapping[str, Any]]
    skew: float
    ever_beat: bool


@dataclass(frozen=True, slots=True)
class Board:
    """The content of the front page. Durations in seconds; None is "not known"."""

    now: datetime
    rows: Sequence[Row]
    workers: int | None
    lag: float | None
    skew: float | None
    outage: Stretch | None
    outages: Sequence[Stretch]
    recent: Sequence[Mapping[str, Any]] | None
    redis: bool
    unaccounted: int | None = None
    unhealthy: Sequence[Row] = field(default=())

    @property
    def postgres(self) -> bool:
        """Whether Postgres answered."""
        return self.recent is not None

    @property
    def healthy(self) -> bool:
        """Whether both servers answer, a worker is live and no job needs attention."""
        available = self.redis and self.postgres and bool(self.workers) and bool(self.rows)
        return available and not self.unhealthy


async def read(pool: Pool, patience: timedelta, memory: Memory) -> Read | None:
    """Read schedules, ticks, heartbeats and recent runs; None if Postgres does not answer."""
    try:
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            started = datetime.now(UTC)
            now = await beats.database_now(connection)
            skew = (now - started - (datetime.now(UTC) - started) / 2).total_seconds()
            schedules = await overview.built_in(connection)
            gaps = await overview.gaps(connection, [line.id for line in schedules], SHOWN)
            memory.forget(gaps)
            after = memory.unknown_after(schedules)
            ticks = memory.learn(schedules, after, await overview.ticks(connection, after, SHOWN))
            oldest = [known[-1].scheduled_for for known in ticks.values() if known]
            since = min([now - MIN_OUTAGE_AGE, *oldest])
            heartbeats = await overview.beats(connection, max(since, now - MAX_OUTAGE_AGE))
            recent = await overview.recent(
                connection, sorted({line.job for line in schedules}), RECENT_RUNS
            )
    except AWAY:
        return None
    lines = Lines(now, schedules, ticks, gaps)
    return Read(lines, outages(heartbeats, now, patience), recent, skew, bool(heartbeats))


def board(snapshot: Snapshot, database: Read | None, drawn: Drawings) -> Board:
    """Combine what Redis (`snapshot`) and Postgres (`database`; None if it did not answer) know."""
    redis = snapshot.reason != "redis_unreachable"
    workers = len(snapshot.workers) if redis else None
    if database is None:
        entries, now = from_redis(snapshot.jobs), snapshot.taken_at
        counted = snapshot.house.unaccounted
        return Board(
            now, entries, workers, None, None, None, (), None, redis, counted, _unhealthy(entries)
        )
    entries = rows(database.lines, snapshot.jobs, database.outages, drawn)
    now = database.lines.now
    return Board(
        now=now,
        rows=entries,
        workers=workers,
        lag=lag(database.lines),
        skew=database.skew,
        outage=next((outage for outage in database.outages if outage[1] == now), None),
        outages=database.outages,
        recent=database.recent,
        redis=redis,
        unaccounted=snapshot.house.unaccounted,
        unhealthy=_unhealthy(entries),
    )


def lag(lines: Lines) -> float:
    """The frontier lag: seconds for which the oldest undecided tick has been due."""
    due = [line.due_at for line in lines.schedules if line.due_at is not None and line.enabled]
    return max(((lines.now - at).total_seconds() for at in due if at < lines.now), default=0.0)


def _unhealthy(entries: Sequence[Row]) -> list[Row]:
    return [row for row in entries if row.ill]
