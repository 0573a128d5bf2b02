"""The dashboard's table, read at most once a second for all who look at it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from app.store import beats, overview
from app.store.db import AWAY, Pool
from app.web.health import Snapshot
from app.web.memory import Memory
from app.web.rows import Drawings, Lines, Row, from_redis, rows
from app.web.slots import SHOWN, Stretch, outages

LOOK_BACK = timedelta(days=60)
RECENT = 12
LATELY = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Read:
    """What Postgres told, or that it did not."""

    lines: Lines
    outages: Sequence[Stretch]
    recent: Sequence[Mapping[str, Any]]
    skew: float
    ever_beat: bool


@dataclass(frozen=True, slots=True)
class Board:
    """All that the page shows to everybody. Seconds; None is "not known"."""

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
    ill: Sequence[Row] = field(default=())

    @property
    def postgres(self) -> bool:
        """Did Postgres answer?"""
        return self.recent is not None

    @property
    def well(self) -> bool:
        """Is there nothing to look at?"""
        fine = self.redis and self.postgres and bool(self.workers) and bool(self.rows)
        return fine and not self.ill


async def read(pool: Pool, patience: timedelta, memory: Memory) -> Read | None:
    """Everything of Postgres, in a handful of statements; None if it does not answer."""
    try:
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            before = datetime.now(UTC)
            now = await beats.database_now(connection)
            skew = (now - before - (datetime.now(UTC) - before) / 2).total_seconds()
            schedules = await overview.built_in(connection)
            gaps = await overview.gaps(connection, [line.id for line in schedules], SHOWN)
            memory.forget(gaps)
            after = memory.unknown_after(schedules)
            ticks = memory.learn(schedules, after, await overview.ticks(connection, after, SHOWN))
            oldest = [known[-1].scheduled_for for known in ticks.values() if known]
            first = min([now - LATELY, *oldest])
            beaten = await overview.beats(connection, max(first, now - LOOK_BACK))
            recent = await overview.recent(
                connection, sorted({line.job for line in schedules}), RECENT
            )
    except AWAY:
        return None
    lines = Lines(now, schedules, ticks, gaps)
    return Read(lines, outages(beaten, now, patience), recent, skew, bool(beaten))


def board(snapshot: Snapshot, told: Read | None, drawn: Drawings) -> Board:
    """The page's content, of what Redis and Postgres told."""
    redis = snapshot.reason != "redis_unreachable"
    workers = len(snapshot.workers) if redis else None
    if told is None:
        made, now = from_redis(snapshot.jobs), snapshot.taken_at
        counted = snapshot.house.unaccounted
        return Board(now, made, workers, None, None, None, (), None, redis, counted, _ill(made))
    made = rows(told.lines, snapshot.jobs, told.outages, drawn)
    now = told.lines.now
    return Board(
        now=now,
        rows=made,
        workers=workers,
        lag=lag(told.lines),
        skew=told.skew,
        outage=next((outage for outage in told.outages if outage[1] == now), None),
        outages=told.outages,
        recent=told.recent,
        redis=redis,
        unaccounted=snapshot.house.unaccounted,
        ill=_ill(made),
    )


def lag(lines: Lines) -> float:
    """Seconds by which the most belated tick has been due and is not decided."""
    due = [line.due_at for line in lines.schedules if line.due_at is not None and line.enabled]
    return max(((lines.now - at).total_seconds() for at in due if at < lines.now), default=0.0)


def _ill(made: Sequence[Row]) -> list[Row]:
    return [row for row in made if row.ill]
